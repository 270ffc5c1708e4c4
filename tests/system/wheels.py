"""What packaging/install needs of pip, fetched beforehand: in a machine there is no network."""

import platform
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.lab.spaces import ROOT


def wheelhouse(folder: Path, python: str) -> Path:
    """The wheels of all dependencies for CPython `python` (`3.11`), in `folder`; made once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    stamp, recipe = folder / "wanted", "\n".join([python, platform.machine(), *wanted])
    if not stamp.exists() or stamp.read_text() != recipe:
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        # This one comes as source only, and is pure Python: whoever builds it, it is the same.
        source_only = [need for need in wanted if need.startswith("sdnotify")]
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, *source_only], check=True)
        tags = [f"manylinux{tag}_{platform.machine()}" for tag in ("2014", "_2_17", "_2_28", "_2_31", "_2_36")]
        platforms = [word for tag in tags for word in ("--platform", tag)]
        only = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms]
        subprocess.run([*pip, "download", *only, "--find-links", folder, "--dest", folder, *wanted], check=True)
        stamp.write_text(recipe)
    return folder
