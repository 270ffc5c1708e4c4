"""The command lines: Ctrl-C during the imports at start, and options."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from netscanctl.services.mqtt.__main__ import PROGRAM
from netscand import __main__ as daemon

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


def test_no_parser_accepts_a_part_of_an_option() -> None:
    """Otherwise `--onc` works until another option begins with it, and then breaks the script that has it."""
    folders = ("netscand", "netscanctl", "docs", "examples", "packaging", "tests")
    texts = [path.read_text() for name in folders for path in (ROOT / name).rglob("*.py")]
    nodes = [node for text in texts if "argparse" in text for node in ast.walk(ast.parse(text))]
    calls = [ast.unparse(node) for node in nodes if isinstance(node, ast.Call)]
    made = [call for call in calls if call.startswith("argparse.ArgumentParser(") or ".add_parser(" in call]
    assert len(made) > 4
    assert [call for call in made if "allow_abbrev=False" not in call] == []


def test_a_part_of_an_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for parser in (daemon.parser(), PROGRAM.parser()):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(["--conf", "x.toml"])
        assert ended.value.code == 2
        assert "error: unrecognized arguments: --conf x.toml" in capsys.readouterr().err
