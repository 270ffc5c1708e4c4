"""The Debian package: the same sources, the same bytes (FAULTS T21)."""

import os
import shutil
import time
from pathlib import Path

from tests.lab.spaces import ROOT, command

PARTS = ("netscand", "netscanctl", "packaging", "systemd", "pyproject.toml", "README.md", "LICENSE")


def test_built_twice_it_is_the_same_bytes(deb: Path, tmp_path: Path) -> None:
    """From a copy elsewhere, whose files are of another time, order and mode."""
    checkout = tmp_path / "another checkout"
    checkout.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part,
                checkout / part,
                copy_function=shutil.copyfile,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        elif (ROOT / part).exists():
            shutil.copyfile(ROOT / part, checkout / part)
    for path in checkout.rglob("*"):
        os.utime(path, (time.time() - 1e7, time.time() - 1e7))
        path.chmod(0o775 if path.is_dir() or os.access(ROOT / path.relative_to(checkout), os.X_OK) else 0o664)
    again = Path(command(checkout / "packaging" / "deb", tmp_path / "out").strip())
    assert again.name == deb.name
    assert again.read_bytes() == deb.read_bytes()
