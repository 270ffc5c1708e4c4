"""A newcomer's first minute: a minimal Debian, a checkout, `sudo ./dev run`. The network is for packages alone."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from netscand import __version__
from tests.lab.lan import Lab
from tests.lab.spaces import DEADLINE, ROOT, CommandFailed, command
from tests.lab.test_dev import Shown
from tests.system.conftest import OLD_PYTHON
from tests.system.fresh import Fresh, as_here, broken_release
from tests.system.machine import tree
from tests.system.wheels import wheelhouse

PATH = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin"}
PACKAGES = re.compile(r"^([\w.-]+)==", re.MULTILINE)


@pytest.fixture(scope="module", params=["bare13", pytest.param("bare12", marks=pytest.mark.long)])
def fresh(machines: None, request: pytest.FixtureRequest) -> Iterator[Fresh]:
    """Debian 13; Debian 12 with --long."""
    with Fresh(tree(request.param)) as made:
        yield made


def services(fresh: Fresh) -> set[str]:
    """Units that are enabled, and daemons that init scripts would start."""
    places = ("etc/systemd/system", "etc/init.d", "etc/rc2.d")
    return {str(path) for place in places for path in (fresh.root / place).rglob("*") if not path.is_dir()}


def test_setup_and_the_first_minute(fresh: Fresh, lab: Lab) -> None:
    """`setup` installs the locked versions though newer ones exist, and no service; `run` shows a device.

    Without a network it says so in a sentence; where everything is there, nothing is fetched.
    """
    done = fresh.run("./dev", "setup", network=False)
    lines = done.stdout.strip().splitlines()
    assert done.returncode == 1
    assert len(lines) <= 2
    assert re.fullmatch(
        r"dev: cannot install the Debian packages .*python3.* is there a network\? Install .*", lines[-1]
    )
    releases = fresh.root / "root/releases"
    releases.mkdir()
    sets = [(ROOT / "requirements" / f"{name}.txt").read_text() for name in ("build", "run")]
    for name in PACKAGES.findall("".join(sets)):
        broken_release(releases, name)
    before = services(fresh)
    done = fresh.run("./dev", "setup", env={"PIP_FIND_LINKS": "/root/releases"})
    assert done.returncode == 0, done.stdout
    assert "MB" in done.stdout
    assert services(fresh) == before
    there = set(fresh.run(".venv/bin/pip", "list", "--format=freeze").stdout.replace("_", "-").lower().split())
    locked = re.findall(r"^([\w.-]+==[\w.-]+) \\$", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    assert len(locked) > 10
    assert set(locked) <= there
    done = fresh.run("./dev", "setup", network=False)
    assert (done.returncode, done.stdout) == (0, "dev: ready; next: sudo ./dev run, or sudo ./dev demo\n")
    go_on_without_a_network(fresh)

    crowd = lab.crowd()
    crowd.populate(["10.77.0.50"])
    process = lab.watcher.popen(
        fresh.argv("env", "--default-signal=INT", "./dev", "run"), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    shown = Shown(process)
    shown.until("10.77.0.50")
    crowd.join("10.77.0.51")
    shown.until("10.77.0.51")
    assert "installing" not in shown.text()
    interrupt(lab)
    assert process.wait(DEADLINE) == 130
    assert "Traceback" not in shown.text()


def go_on_without_a_network(fresh: Fresh) -> None:
    """Do what `./dev setup --help` says: fetch here, and install there, with no network and nothing installed yet."""
    text = fresh.run("./dev", "setup", "--help").stdout
    fetch, install = re.findall(r"^  ((?:\.venv|sudo env)(?:.*\\\n)*.*)$", text, re.MULTILINE)
    done = fresh.run("sh", "-c", fetch)
    assert done.returncode == 0, done.stdout
    shutil.rmtree(fresh.root / "root/netscand/.venv")
    done = fresh.run("sh", "-c", install.removeprefix("sudo "), network=False)
    assert done.returncode == 0, done.stdout
    assert "installing requirements/run.txt" in done.stdout


@pytest.mark.usefixtures("machines")
def test_an_upgrade_that_fails_leaves_what_works() -> None:
    """packaging/install fetches before it changes anything; one that succeeds leaves nothing of the old one."""
    place = tree("bookworm")
    with Fresh(place) as fresh:
        shutil.copytree(wheelhouse(place.parent / "wheels", OLD_PYTHON), fresh.root / "root/wheels")
        from_wheels = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/root/wheels"}
        install = ("packaging/install",)
        done = fresh.run(*install, env=from_wheels, network=False)
        assert done.returncode == 0, done.stdout
        (fresh.root / "opt/netscand/of-the-old-one").touch()
        find = "find /opt /etc/systemd/system /usr/local -mindepth 1 -printf '%p %l %T@\\n' | sort"
        before = fresh.run("sh", "-c", find).stdout
        shutil.copytree(fresh.root / "root/wheels", some := fresh.root / "root/some")
        next(some.glob("aiohttp*")).unlink()
        for links in ("/root/none", "/root/some"):
            done = fresh.run(*install, env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": links}, network=False)
            assert done.returncode == 1
            assert f"netscanctl {__version__} " in fresh.run("netscanctl", "--version", env=PATH).stdout
            assert fresh.run("sh", "-c", find).stdout == before
            *_, last = lines = done.stdout.splitlines()
            assert "index cannot be reached" in last
            assert "nothing was changed" in last
            assert len(lines) == 2, done.stdout  # with the one that names the folder
        done = fresh.run(*install, env=from_wheels, network=False)
        assert done.returncode == 0, done.stdout
        assert sorted(path.name for path in (fresh.root / "opt").iterdir()) == ["netscand"]
        assert not (fresh.root / "opt/netscand/of-the-old-one").exists()
        assert f"netscanctl {__version__} " in fresh.run("netscanctl", "--version", env=PATH).stdout
        assert fresh.run("grep", "-rlI", "netscand.new", "/opt/netscand").stdout == ""
        for page in ("README.md", "docs/protocol.md", "docs/recipes/mail.py"):
            assert (fresh.root / "opt/netscand/share/doc" / page).exists()
        (code,) = re.findall(r"\]\((/opt\S+)\)", (fresh.root / "opt/netscand/share/doc/docs/protocol.md").read_text())
        assert (fresh.root / code[1:]).is_file()


@pytest.mark.usefixtures("machines")
def test_packaging_install_without_python_is_one_sentence() -> None:
    """And its help needs nothing."""
    with Fresh(tree("bare13")) as fresh:
        done = fresh.run("packaging/install", network=False)
        assert (done.returncode, done.stdout.count("\n")) == (1, 1), done.stdout
        assert "python3 is missing (apt install python3-venv)" in done.stdout
        done = fresh.run("packaging/install", "--help", network=False)
        assert done.returncode == 0
        for word in ("--remove", "--purge", "upgrade"):
            assert word in done.stdout


@pytest.mark.usefixtures("machines")
def test_a_tree_that_cannot_be_used_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a process nor a folder, whether the mount fails or what comes after it."""
    (good := tmp_path / "tree").mkdir()
    for place in ("proc", "sys", "dev", "run", "etc"):
        (good / place).mkdir()
    monkeypatch.setattr("tests.system.fresh.ROOT", tmp_path)  # no repository
    for each in (tmp_path / "none", good):
        fresh = Fresh(each)
        with pytest.raises((RuntimeError, CommandFailed)), fresh:
            pass
        assert not fresh.folder.exists()
        assert fresh._holder.poll() is not None


def test_a_tree_reaches_its_indexes_as_this_machine_does() -> None:
    """By proxies, and by pip's settings; the environment goes before a file, and local folders stay here."""
    listed = "global.index-url='https://a/'\ninstall.trusted-host='a\\nb'\nglobal.extra-index-url='file:///x'\n"
    here = {"HTTPS_PROXY": "http://p:1", "no_proxy": "x, y", "PIP_INDEX_URL": "https://b/"}
    assert as_here(here | {"HOME": "/"}, listed) == here | {"PIP_TRUSTED_HOST": "a b"}


def interrupt(lab: Lab) -> None:
    """Ctrl-C for what runs in the watcher's namespace below `./dev`."""
    for pid in map(int, command("ip", "netns", "pids", lab.watcher.space.name).split()):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"./dev" in words and b"run" in words and Path(f"/proc/{pid}/comm").read_text() != "ip\n":
                os.kill(pid, signal.SIGINT)
