"""Ctrl-C during the imports at start."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INTERRUPTED_AT = """if True:
    import sys
    _, wanted, program, *_ = sys.argv
    class Hasty:
        def find_spec(self, name, path=None, target=None):
            if name == wanted:
                raise KeyboardInterrupt
    sys.meta_path.insert(0, Hasty())
    del sys.argv[:2]
    __import__(f"{program}.__main__")
    sys.modules[f"{program}.__main__"].main()
"""


@pytest.mark.parametrize(
    ("module", "argv"),
    [(module, ("netscand", "--once")) for module in ("netscand.config", "netscand.lan.wire", "netscand.once")]
    + [(module, ("netscanctl", "devices")) for module in ("netscanctl.cli", "netscanctl.commands.devices")],
)  # fmt: skip
def test_ctrl_c_while_it_is_imported_is_quiet(module: str, argv: tuple[str, ...], tmp_path: Path) -> None:
    """A netscand that is not interrupted finds no interface, and sends nothing."""
    (tmp_path / "nowhere.toml").write_text('[scan]\ninterfaces = ["nowhere"]\n')
    more = ["--config", f"{tmp_path}/nowhere.toml"] if argv[0] == "netscand" else []
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, module, *argv, *more],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")
