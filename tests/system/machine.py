"""A Debian booted for real: a tree of packaging/tree under systemd-nspawn, one cable to a lab, no other network.

What is written goes to memory above the tree, which stays as it is. Mounts live in a namespace of the machine alone, so
that nothing is left when it ends; it ends with the process that made it, whatever becomes of that.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.lab.lan import Lab
from tests.lab.spaces import ROOT, Argv, CommandFailed, command, temporary_folder

BOOT = 60.0
"""Seconds that a machine has to boot; it takes one on a quiet host."""

CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup"))

START = r"""
for hierarchy in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
    if [ -e "$hierarchy/cgroup.procs" ]; then
        mkdir -p "$hierarchy/$3"
        echo $$ >"$hierarchy/$3/cgroup.procs"
    fi
done
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
# Units hang their own groups below the machine's: systemd 257 wants the unified hierarchy, whatever the host has.
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --directory "$2/root" --private-network --register=no --keep-unit --console=pipe \
    --hostname machine --link-journal=no --resolv-conf=off --timezone=off --boot
"""


def tree(name: str) -> Path:
    """The tree of that name (packaging/tree says which there are), made if need be; without a network, skips."""
    try:
        return Path(command(ROOT / "packaging" / "tree", name).strip())
    except CommandFailed as why:
        pytest.skip(f"a Debian tree cannot be made here: {why}")


class Machine:
    """A booted machine. `host0`, its cable, is in the lab's switch with `address`; without a lab it has none."""

    def __init__(self, tree: Path, lab: Lab | None = None, address: str = "10.77.0.2") -> None:
        self.tree = tree
        self._lab = lab
        self._address = address
        self._group = f"netscand-{os.getpid()}-{time.monotonic_ns()}"

    def __enter__(self) -> Self:
        self.folder = temporary_folder("machine")
        # SIGTERM powers it off, so that is what it gets when we die.
        dies_with_us = ["setpriv", "--pdeathsig", "TERM", "--", "unshare", "--mount", "--propagation", "private"]
        self._nspawn = subprocess.Popen(
            [*dies_with_us, "sh", "-euc", START, "machine", self.tree, self.folder, self._group],
            stdin=subprocess.DEVNULL,
            stdout=(log := (self.folder.with_suffix(".log")).open("w")),
            stderr=log,
        )
        log.close()
        try:
            self._init = self._find_init()
            if self._lab is not None:
                self._plug_in(self._lab)
            self._wait_booted()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Pull the plug."""
        with contextlib.suppress(AttributeError, ProcessLookupError):
            os.kill(self._init, signal.SIGKILL)
        try:
            self._nspawn.wait(10)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        for hierarchy in CGROUPS:
            for folder, _, _ in os.walk(hierarchy / self._group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".log").unlink(missing_ok=True)

    # ---- in it ----------------------------------------------------------------------------------------------------

    def argv(self, argv: Argv, user: str | None = None, env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs `argv` in the machine, as root or as `user`."""
        inside = ["nsenter", "--target", str(self._init), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]
        path = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        clean = {"PATH": path, "HOME": f"/home/{user}" if user else "/root", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
        clean |= env or {}
        other = ["--reuid", user, "--regid", user, "--init-groups"] if user else []
        become = ["setpriv", "--pdeathsig", "KILL", *other, "--"]  # nsenter stays outside; what it started goes with it
        return [*inside, "env", "-i", *(f"{name}={value}" for name, value in clean.items()), *become, *map(str, argv)]

    def run(
        self,
        *argv: str | os.PathLike[str],
        user: str | None = None,
        check: bool = True,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` in the machine to its end. Raises CommandFailed where `check` and it does not exit 0."""
        options = {"stdin": subprocess.DEVNULL, "capture_output": True} | options
        done = subprocess.run(self.argv(argv, user, env), text=True, check=False, timeout=timeout, **options)
        if check and done.returncode:
            raise CommandFailed(f"{' '.join(map(str, argv))}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def popen(self, *argv: str, user: str | None = None, **options: Any) -> "subprocess.Popen[str]":  # noqa: ANN401
        """Start `argv` in the machine; it ends with the machine."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        return subprocess.Popen(self.argv(argv, user), text=True, **options)

    def out(self, *argv: str) -> str:
        """What `argv` prints, without the last newline."""
        return str(self.run(*argv).stdout).strip()

    def path(self, place: str) -> Path:
        """A file of the machine, as we can reach it from here."""
        return Path(f"/proc/{self._init}/root") / place.lstrip("/")

    def write(self, place: str, text: str, mode: int = 0o644) -> None:
        """Write a file in the machine."""
        path = self.path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def put(self, file: Path, folder: str) -> str:
        """Copy a file or folder into the machine; its path there."""
        target = self.path(folder) / file.name
        if file.is_dir():
            shutil.copytree(file, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(file, target)
        return f"{folder.rstrip('/')}/{file.name}"

    # ---- its units ------------------------------------------------------------------------------------------------

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        lines = self.out("systemctl", "show", unit, "--property", ",".join(properties)).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def main_pid(self, unit: str = "netscand") -> int:
        """The main process, as the machine numbers it; 0: none."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def journal(self, *words: str) -> list[dict[str, Any]]:
        """Entries of the journal that fit `words` (journalctl's)."""
        import json

        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--output=json", "--all", "--no-pager", *words, check=False).stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    # ---- booting --------------------------------------------------------------------------------------------------

    def _find_init(self) -> int:
        ends = time.monotonic() + BOOT
        while time.monotonic() < ends and self._nspawn.poll() is None:
            for process in Path("/proc").glob("[0-9]*/stat"):
                with contextlib.suppress(OSError):
                    # PID (NAME) STATE PARENT …, proc(5)
                    name, _, rest = process.read_text().partition("(")[2].rpartition(")")
                    if name == "systemd" and int(rest.split()[1]) == self._nspawn.pid:
                        return int(process.parent.name)
            time.sleep(0.02)
        raise CommandFailed(f"no machine of {self.tree}: {self._said()}")

    def _plug_in(self, lab: Lab) -> None:
        port, last = f"machine{self._init % 10_000}", int(self._address.rpartition(".")[2])
        lab.switch.ip(
            f"link add {port} type veth peer name host0 address 52:54:00:77:ff:{last:02x} netns {self._init}",
            f"link set {port} master br0 up",
        )
        command(
            "nsenter", "--target", str(self._init), "--net", "ip", "-batch", "-",
            text=f"link set host0 up\naddr add {self._address}/{lab.prefixlen} broadcast + dev host0\n",
        )  # fmt: skip

    def _wait_booted(self) -> None:
        ends = time.monotonic() + BOOT
        state = ""
        while time.monotonic() < ends and self._nspawn.poll() is None:
            state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.05)
        raise CommandFailed(f"{self.tree} did not boot ({state}): {self._said()}")

    def _said(self) -> str:
        return self.folder.with_suffix(".log").read_text(errors="replace")[-2000:]
