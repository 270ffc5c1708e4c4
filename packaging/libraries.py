"""Copy nats-py and nkeys, which Debian lacks, into the folder named on the command line, for the Debian package.

They are those installed for the Python that runs this, as ./dev setup installs them: each must have the version in
requirements/run.txt, whose hash pip has checked, and each file the hash that pip has noted (RECORD).
"""

import base64
import hashlib
import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

LOCKED = Path(__file__).resolve().parents[1] / "requirements" / "run.txt"
NAMES = ("nats-py", "nkeys")
SETUP = "run sudo ./dev setup, and this again"


def check(name: str) -> Distribution:
    """Return the installed distribution; exit if it is not the locked one."""
    found = re.search(rf"(?m)^{name}==(\S+)", LOCKED.read_text())
    assert found is not None
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        sys.exit(f"packaging/libraries.py: {name} is not installed for {sys.executable}: {SETUP}")
    if installed.version != found[1]:
        sys.exit(
            f"packaging/libraries.py: {name} is version {installed.version}, expected {found[1]} of {LOCKED}: {SETUP}"
        )
    return installed


def copy(installed: Distribution, folder: Path) -> None:
    """Copy its Python files; exit if one was changed since its installation."""
    for file in installed.files or ():
        if file.suffix != ".py":
            continue
        content = file.read_binary()
        noted = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        if file.hash is None or (file.hash.mode, file.hash.value) != ("sha256", noted):
            sys.exit(f"packaging/libraries.py: {file.locate()} was changed since its installation: {SETUP}")
        (target := folder / file).parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def main() -> None:
    """Check both, then copy both."""
    for installed in [check(name) for name in NAMES]:
        copy(installed, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
