"""The Debian package: the same sources, the same bytes (FAULTS T21); what is in it, and what it brings along."""

import os
import re
import shutil
import time
from pathlib import Path

from tests.core.test_documents import installed_documents
from tests.lab.spaces import command
from tests.system.conftest import build_deb
from tests.system.fresh import Fresh
from tests.system.machine import tree


def test_built_twice_it_is_the_same_bytes(deb: Path, sources: Path, tmp_path: Path) -> None:
    """From a copy elsewhere, whose files are of another time, order and mode."""
    checkout = tmp_path / "another checkout"
    shutil.copytree(sources, checkout, copy_function=shutil.copyfile)
    for path in checkout.rglob("*"):
        os.utime(path, (time.time() - 1e7, time.time() - 1e7))
        path.chmod(0o775 if path.is_dir() or os.access(sources / path.relative_to(checkout), os.X_OK) else 0o664)
    again = build_deb(checkout, tmp_path / "out")
    assert again.name == deb.name
    assert again.read_bytes() == deb.read_bytes()


def test_the_documentation_is_in_it(deb: Path, tmp_path: Path) -> None:
    """Every page, with links that lead somewhere; the recipes, ready to run by the commands on their pages."""
    command("dpkg-deb", "--extract", deb, root := tmp_path / "root")
    there, code = root / "usr/share/doc/netscand", Path("/usr/lib/python3/dist-packages")
    installed_documents(expected := tmp_path / "expected", code, Path("/usr/share/doc/netscand"))
    for path in (path for path in expected.rglob("*") if path.is_file()):
        packed = there / path.relative_to(expected)
        assert packed.read_bytes() == path.read_bytes()
        assert packed.stat().st_mode & 0o777 == (0o755 if os.access(path, os.X_OK) else 0o644)
    assert (there / "examples/recipes/mail.py").samefile(there / "docs/recipes/mail.py")
    assert (root / str(code)[1:] / "netscand/protocol.py").exists()
    vendors = (root / "usr/share/netscand/vendors.tsv").read_text()
    assert "\nA483E7\tApple, Inc.\n" in vendors
    assert vendors.count("\n") > 40_000


def test_apt_installs_little_with_it(deb: Path) -> None:
    """As by `apt install` with its default settings, which include recommendations: at most 40 packages and 60 MB.

    On the smallest Debian 13 that has systemd; others have some of these packages already.
    """
    with Fresh(tree("trixie")) as fresh:
        shutil.copy(deb, fresh.root / "root")
        (fresh.root / "etc/apt/apt.conf.d/10tests").unlink()
        assert 'Install-Recommends "1"' in fresh.run("apt-config", "dump").stdout
        done = fresh.run("apt-get", "install", "--assume-no", "--simulate", f"/root/{deb.name}", network=False)
        packages = set(re.findall(r"^Inst (\S+)", done.stdout, re.MULTILINE)) - {"netscand"}
        assert "python3-aiohttp" in packages
        assert len(packages) <= 40, sorted(packages)
        assert not packages & {"python3-scapy", "ieee-data", "gcc"}
        done = fresh.run("apt-get", "install", "--assume-no", f"/root/{deb.name}", network=False)
        (size,) = re.findall(r"After this operation, ([\d.]+) MB", done.stdout)
        assert 30 < float(size) <= 60
