"""The container image, unpacked by umoci, and started by crun with the rights of packaging/compose.yaml, on a lab.

Between compose.yaml and crun is what Docker does with its keys: host networking is the network namespace of the lab's
watcher; capabilities of a user other than root are in the bounding set, and after execve nowhere else.
"""

import json
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netscand import __version__
from tests.lab.lan import Lab
from tests.lab.spaces import DEADLINE, ROOT, command, temporary_folder

COMPOSE = (ROOT / "packaging/compose.yaml").read_text()
PEOPLE = 30
NUMBER = 8000
"""The image's user."""


class Container:
    """A container of the image, in the network of the lab's watcher."""

    def __init__(self, rootfs: Path, spec: dict[str, Any], lab: Lab, *, allowed: list[str] | None = None) -> None:
        self.folder = temporary_folder("container")
        self.id = self.folder.name
        (self.folder / "history").mkdir()
        shutil.chown(self.folder / "history", NUMBER, NUMBER)
        allowed = re.findall(r"cap_add: \[(\w+)\]", COMPOSE) if allowed is None else allowed
        names = [f"CAP_{name}" for name in allowed]
        assert "cap_drop: [ALL]" in COMPOSE
        granted = {"bounding": names, "permitted": names, "effective": names, "inheritable": [], "ambient": []}
        process = spec["process"] | {"terminal": False, "capabilities": granted}
        process["noNewPrivileges"] = "no-new-privileges" in COMPOSE
        spaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
        spaces.append({"type": "network", "path": f"/run/netns/{lab.watcher.space.name}"})
        mounts = [mount for mount in spec["mounts"] if mount["type"] in ("proc", "tmpfs", "devpts")]
        for place, options in re.findall(r"^      - (/\w[\w/]*)(?::(\S+))?$", COMPOSE, re.MULTILINE):
            mounts.append({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options.split(",")})
        history = {"source": str(self.folder / "history"), "type": "bind", "options": ["bind", "rw"]}
        mounts.append({"destination": "/var/lib/netscand"} | history)
        root = {"path": str(rootfs), "readonly": "read_only: true" in COMPOSE}
        linux = spec["linux"] | {"namespaces": spaces, "resources": {}}
        whole = spec | {"process": process, "mounts": mounts, "root": root, "linux": linux}
        (self.folder / "config.json").write_text(json.dumps(whole))

    def crun(self, *words: str) -> list[str]:
        # crun refuses the hybrid hierarchy that some hosts have.
        unified = 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
        private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", unified, "sh"]
        return [*private, "crun", "--cgroup-manager=disabled", f"--root={self.folder}/state", *words]

    def start(self) -> None:
        """Start it; its log is a file."""
        with (self.folder / "log").open("a") as log:
            argv = ["setpriv", "--pdeathsig", "TERM", *self.crun("run", "--bundle", str(self.folder), self.id)]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def run(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in it, as its user."""
        return subprocess.run(self.crun("exec", self.id, *argv), capture_output=True, text=True, check=False)

    def ready(self) -> dict[str, Any]:
        """Wait until the daemon answers; return its status."""
        ends = time.monotonic() + DEADLINE
        while (done := self.run("netscanctl", "status", "--json")).returncode:
            assert time.monotonic() < ends and self.process.poll() is None, self.log() + done.stderr
            time.sleep(0.1)
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> int:
        """End it as `docker stop` does; return its exit code."""
        subprocess.run(self.crun("kill", self.id, "TERM"), check=True)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        """Remove all of it."""
        if hasattr(self, "process") and self.process.poll() is None:
            subprocess.run(self.crun("kill", self.id, "KILL"), check=False)
            self.process.wait(DEADLINE)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def image(deb: Path, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image, as `./dev image` builds it."""
    if not (shutil.which("umoci") and shutil.which("crun")):
        pytest.skip("not installed: umoci, crun; ./dev setup --test installs them")
    folder = tmp_path_factory.mktemp("image")
    return Path(command(sources / "packaging" / "image", "--deb", deb, folder).strip())


@pytest.fixture(scope="module")
def unpacked(image: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Its file system, and the configuration that umoci made of its own."""
    folder = temporary_folder("image")
    try:
        (folder / "layout").mkdir()
        command("tar", "--extract", "--file", image, "--directory", folder / "layout")
        command("umoci", "unpack", "--image", f"{folder}/layout:{__version__}", folder / "bundle")
        yield folder / "bundle/rootfs", json.loads((folder / "bundle/config.json").read_text())
    finally:
        shutil.rmtree(folder)


def test_the_image_is_small_and_names_no_machine(image: Path, unpacked: tuple[Path, dict[str, Any]]) -> None:
    """At most 60 MB to load; Docker's index beside OCI's; nothing of the machine that built it."""
    rootfs, spec = unpacked
    processor = spec["annotations"]["org.opencontainers.image.architecture"]
    assert image.name == f"netscand_{__version__}_{processor}.oci.tar"
    assert image.stat().st_size < 60e6
    with tarfile.open(image) as archive:
        names = set(archive.getnames())
        (docker,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert {docker["Config"], *docker["Layers"]} <= names
    assert docker["RepoTags"] == [f"netscand:{__version__}"] == re.findall(r"image: (\S+)", COMPOSE)
    assert spec["process"]["user"]["uid"] == NUMBER
    assert list((rootfs / "etc/apt/apt.conf.d").glob("*tests")) == []
    assert (rootfs / "etc/apt/sources.list").read_text() == "deb http://deb.debian.org/debian trixie main\n"
    for path in ("etc/resolv.conf", "etc/hostname", "etc/machine-id", "var/lib/apt/lists/lock", "netscand.deb"):
        assert not (rootfs / path).exists(), path


def test_a_container_sees_the_lan(unpacked: tuple[Path, dict[str, Any]]) -> None:
    """With NET_RAW alone, as an ordinary user, on a read-only system; stopped and started, it knows every device."""
    with Lab() as lab:
        people = lab.crowd().populate(lab.addresses(PEOPLE, start=10))
        container = Container(*unpacked, lab)
        try:
            container.start()
            container.ready()
            found = json.loads(container.run("netscanctl", "scan-now", "--json").stdout.splitlines()[-1])["devices"]
            assert {device["mac"] for device in found if device["status"] == "online"} >= set(people.values())
            told = container.run("cat", "/proc/1/status").stdout
            assert re.findall(r"(?m)^Uid:\t(.*)$", told) == ["\t".join([str(NUMBER)] * 4)]
            assert re.findall(r"(?m)^Cap(?:Prm|Eff|Bnd):\t(.*)$", told) == [f"{1 << 13:016x}"] * 3
            mac = next(iter(people.values()))
            assert container.run("netscanctl", "label", mac, "of the container").returncode == 0
            assert container.run("sh", "-c", "echo >/etc/x").returncode != 0
            assert container.stop() == 0
            container.start()
            container.ready()
            assert "of the container" in container.run("netscanctl", "devices").stdout
            assert container.stop() == 0
            assert "Traceback" not in container.log()
        finally:
            container.close()


def test_without_its_capability_it_says_so(unpacked: tuple[Path, dict[str, Any]]) -> None:
    """The message that docs/troubleshooting.md explains."""
    with Lab() as lab:
        container = Container(*unpacked, lab, allowed=[])
        try:
            container.start()
            assert container.process.wait(DEADLINE) not in (0, -signal.SIGTERM)
            assert "operation not permitted" in container.log().lower()
            assert "`operation not permitted`, in Docker" in (ROOT / "docs/troubleshooting.md").read_text()
        finally:
            container.close()


@pytest.mark.long
def test_the_image_is_reproducible(image: Path, deb: Path, sources: Path, tmp_path: Path) -> None:
    """The same tree and package give the same bytes (FAULTS T21)."""
    again = Path(command(sources / "packaging" / "image", "--deb", deb, tmp_path).strip())
    assert again.read_bytes() == image.read_bytes()
