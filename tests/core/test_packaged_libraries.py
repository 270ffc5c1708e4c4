"""packaging/libraries.py: what the Debian package has of nats-py and nkeys."""

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from netscand import nats_settings
from tests.lab.spaces import ROOT


def copy(folder: Path, root: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run the program of a checkout."""
    argv = [sys.executable, str(root / "packaging/libraries.py"), str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_they_are_the_installed_ones_and_both_programs_find_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python files only, unchanged; found behind everything else."""
    assert copy(tmp_path / "made").returncode == 0
    files = {
        str(path.relative_to(tmp_path / "made")): path for path in (tmp_path / "made").rglob("*") if path.is_file()
    }
    assert {"nats/__init__.py", "nats/aio/client.py", "nkeys/__init__.py"} < files.keys()
    assert all(name.endswith(".py") for name in files)
    for name in ("nats-py", "nkeys"):
        for file in importlib.metadata.files(name) or ():
            if file.suffix == ".py":
                expected = hashlib.sha256(Path(str(file.locate())).read_bytes()).digest()
                assert hashlib.sha256(files[str(file)].read_bytes()).digest() == expected
    monkeypatch.setattr(nats_settings, "LIBRARIES", (str(tmp_path / "made"),))
    monkeypatch.setattr(sys, "path", ["/first"])
    for _ in range(2):
        nats_settings.find_library()
        assert sys.path == ["/first", str(tmp_path / "made")]


def test_another_version_than_the_locked_one_is_refused(tmp_path: Path) -> None:
    """It says which, and what to do; nothing is made."""
    root = tmp_path / "checkout"
    for folder, name in (("packaging", "libraries.py"), ("requirements", "run.txt")):
        (root / folder).mkdir(parents=True)
        shutil.copy(ROOT / folder / name, root / folder)
    lock = root / "requirements/run.txt"
    lock.write_text(lock.read_text().replace("nkeys==", "nkeys==9."))
    done = copy(tmp_path / "made", root)
    assert done.returncode == 1
    assert f"nkeys is version {importlib.metadata.version('nkeys')}, expected 9." in done.stderr
    assert done.stderr.endswith("run sudo ./dev setup, and this again\n")
    assert not (tmp_path / "made").exists()
