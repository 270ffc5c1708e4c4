"""A fresh minimal Debian with a checkout in it: what a newcomer has. It reaches package indexes as this machine does.

What is written goes to memory above the tree. All mounts are in a namespace of a process of ours: nothing is left when
that ends. There is no init: `./dev` needs none.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.spaces import ROOT, command

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


class Fresh:
    """The tree `tree` with the files of this checkout at /root/netscand."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="netscand-fresh-"))
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private",
             "sh", "-euc", MOUNT, "fresh", self._tree, self.folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise RuntimeError(f"{self._tree} cannot be mounted")
        self.root = Path(f"/proc/{self._holder.pid}/root{self.folder}/root")
        files = command("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
        for file in files:
            if (ROOT / file).is_file() and not (ROOT / file).is_symlink():
                target = self.root / "root/netscand" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, target)
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        self.environment |= self._pip_as_here()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holder.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _pip_as_here(self) -> dict[str, str]:
        """Return pip's settings on this machine, as environment; the certificates that they name are copied."""
        settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        for line in command(sys.executable, "-m", "pip", "config", "list").splitlines():
            key, _, value = line.partition("=")
            if key.startswith("global."):
                settings.setdefault(f"PIP_{key[7:].replace('-', '_').upper()}", value.strip("'\"").replace("\\n", " "))
        certificates = settings.get("PIP_CERT")
        if certificates and Path(certificates).exists():
            place = self.root / "etc/our-certificates.crt"
            shutil.copy(certificates, place)
            settings["PIP_CERT"] = "/etc/our-certificates.crt"
        return {
            name: settings[name] for name in settings if name in ("PIP_CERT", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
        }

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
