"""The Debian package: the same sources, the same bytes (FAULTS T21); and what lies in it for the reader."""

import os
import shutil
import time
from pathlib import Path

from tests.lab.spaces import command


def test_built_twice_it_is_the_same_bytes(deb: Path, sources: Path, tmp_path: Path) -> None:
    """From a copy elsewhere, whose files are of another time, order and mode."""
    checkout = tmp_path / "another checkout"
    shutil.copytree(sources, checkout, copy_function=shutil.copyfile)
    for path in checkout.rglob("*"):
        os.utime(path, (time.time() - 1e7, time.time() - 1e7))
        path.chmod(0o775 if path.is_dir() or os.access(sources / path.relative_to(checkout), os.X_OK) else 0o664)
    again = Path(command(checkout / "packaging" / "deb", tmp_path / "out").strip())
    assert again.name == deb.name
    assert again.read_bytes() == deb.read_bytes()


def test_the_recipes_lie_in_it_to_be_read_and_run(deb: Path, sources: Path, tmp_path: Path) -> None:
    """Every file of docs/recipes, unpacked, as it is here, scripts ready to run."""
    command("dpkg-deb", "--extract", deb, tmp_path)
    there = tmp_path / "usr/share/doc/netscand/examples/recipes"
    recipes = list((sources / "docs/recipes").iterdir())
    assert sorted(path.name for path in there.iterdir()) == sorted(path.name for path in recipes)
    for recipe in recipes:
        packed = there / recipe.name
        assert packed.read_bytes() == recipe.read_bytes()
        assert packed.stat().st_mode & 0o777 == (0o755 if os.access(recipe, os.X_OK) else 0o644)
