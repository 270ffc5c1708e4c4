"""The locked packages that packaging/install needs, fetched beforehand: in a machine there is no network."""

import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.spaces import ROOT


def wheelhouse(
    folder: Path, python: str, sets: Sequence[str] = ("build", "run"), from_test: Sequence[str] = ()
) -> Path:
    """Fetch the `sets` of requirements/ for CPython `python` (`3.11`) into `folder`, once; return `folder`.

    `from_test`: packages of test.txt, too.
    """
    texts = {name: (ROOT / "requirements" / f"{name}.txt").read_text() for name in {*sets, "test"}}
    entries = re.findall(r"(?m)^\S.*\n(?:    .*\n)+", texts["test"])
    chosen = [entry for entry in entries if entry.split("==")[0] in from_test]
    locked = "".join([*(texts[name] for name in sets), *chosen])
    # pip judges markers by the Python that runs it, which may be another one: fetch whatever a marker may ask for.
    wanted = re.sub(r" ; python_full_version .*? \\", r" \\", locked)
    stamp, recipe = folder / "wanted", "\n".join([python, platform.machine(), wanted])
    if not stamp.exists() or stamp.read_text() != recipe:
        folder.mkdir(parents=True, exist_ok=True)
        (requirements := folder / "requirements.txt").write_text(wanted)
        tags = [f"manylinux{tag}_{platform.machine()}" for tag in ("2014", "_2_17", "_2_28", "_2_31", "_2_36")]
        platforms = [word for tag in tags for word in ("--platform", tag)]
        argv = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
        source = ["--no-deps", "--no-build-isolation", "--require-hashes", "--python-version", python]
        subprocess.run([*argv, *source, *platforms, "--dest", folder, "-r", requirements], check=True)
        stamp.write_text(recipe)
    return folder
