"""A fresh minimal Debian with a checkout in it: what a newcomer has. It reaches package indexes as this machine does.

What is written goes to memory above the tree. All mounts are in a namespace of a process of ours: nothing is left when
that ends. There is no init: `./dev` needs none.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.spaces import ROOT, command, temporary_folder

MOUNT = r"""
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
mount -t proc proc "$2/root/proc"
mount --rbind /sys "$2/root/sys"
mount --rbind /dev "$2/root/dev"
mount -t tmpfs tmpfs "$2/root/run"
cp -L /etc/resolv.conf /etc/hosts "$2/root/etc/" 2>/dev/null || true
echo ready
exec cat
"""


PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
"""As curl, apt and pip read them, in small letters or large."""

PIP = ("cert", "default-timeout", "extra-index-url", "index-url", "proxy", "trusted-host")
"""Settings of pip that say how a package index is reached."""

CERTIFICATES = "/etc/our-certificates.crt"


def as_here(environment: Mapping[str, str], listed: str) -> dict[str, str]:
    """Return the environment by which apt and pip in a tree reach their indexes as those of this machine do.

    `listed` is the output of `pip config list`. What lies in files of this machine is left out.
    """
    found = {name: value for name, value in environment.items() if name.lower() in PROXIES}
    settings = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in ("global", "install"):
            settings[name] = value.strip("'\"").replace("\\n", " ")
    for name in PIP:
        variable = f"PIP_{name.replace('-', '_').upper()}"
        words = environment.get(variable, settings.get(name, "")).split()
        if words := [word for word in words if not word.startswith("file:")]:
            found[variable] = " ".join(words)
    return found


class Fresh:
    """The tree `tree` with the files of this checkout at /root/netscand."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.folder = temporary_folder("fresh")
            undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._holder = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private",
                 "sh", "-euc", MOUNT, "fresh", self._tree, self.folder],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            undo.callback(self._holder.communicate)
            assert self._holder.stdout is not None
            if self._holder.stdout.readline() != "ready\n":
                raise RuntimeError(f"{self._tree} cannot be mounted")
            self.root = Path(f"/proc/{self._holder.pid}/root{self.folder}/root")
            self._fill()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _fill(self) -> None:
        """Copy the checkout, and what says how to reach an index."""
        files = command("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
        for file in files:
            if (ROOT / file).is_file() and not (ROOT / file).is_symlink():
                target = self.root / "root/netscand" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, target)
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        self.environment |= as_here(os.environ, command(sys.executable, "-m", "pip", "config", "list"))
        if certificates := self.environment.pop("PIP_CERT", ""):
            shutil.copy(certificates, self.root / CERTIFICATES[1:])
            self.environment["PIP_CERT"] = CERTIFICATES

    def argv(self, *argv: str, env: Mapping[str, str] | None = None, network: bool = True) -> list[str]:
        """Return the command line that runs `argv` in the checkout there, as root."""
        words = [f"{name}={value}" for name, value in (self.environment | dict(env or {})).items()]
        alone = [] if network else ["unshare", "--net"]
        inside = ["sh", "-c", 'cd /root/netscand && exec "$@"', "sh", *argv]
        enter = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "chroot", f"{self.folder}/root"]
        return [*alone, *enter, "env", "-i", *words, "setpriv", "--pdeathsig", "KILL", *inside]

    def run(
        self, *argv: str, env: Mapping[str, str] | None = None, network: bool = True, timeout: float = 600
    ) -> "subprocess.CompletedProcess[str]":
        """Run `argv` there to its end; stderr goes where stdout does."""
        return subprocess.run(
            self.argv(*argv, env=env, network=network), text=True, check=False, timeout=timeout,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def broken_release(folder: Path, name: str) -> None:
    """Write version 9999 of a package into `folder`: pip prefers it to all others, and whatever imports it ends."""
    module = name.replace("-", "_")
    with zipfile.ZipFile(folder / f"{module}-9999-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", f"raise SystemExit('{name} 9999 came out this morning')\n")
        wheel.writestr(f"{module}-9999.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 9999\n")
        wheel.writestr(
            f"{module}-9999.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{module}-9999.dist-info/RECORD", "")
