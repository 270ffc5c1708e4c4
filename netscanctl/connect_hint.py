"""Hint for starting netscand on this host, by the state of its service."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from netscand.checkout import CHECKOUT

UNIT = "netscand.service"
UNIT_FOLDERS = tuple(map(Path, ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")))
"""Folders in which packages and packaging/install put the unit."""
CHECKOUT_SOCKET = Path(".netscand/netscand.sock")
"""Socket of `./dev run`, within its checkout."""
CHECKOUTS = (Path(), Path(__file__).parents[1])
"""Folders that may be a checkout: the current one, and the one of this file."""
EXAMPLES = tuple(map(Path, ("/usr/share/doc/netscand/examples", "/opt/netscand/share")))
"""Folders in which the package and packaging/install put the drop-ins."""
JOURNAL = "journalctl -u netscand -n 20"
EXIT_CODES = {
    "69": "a component failed",
    "75": "already running",
    "77": "a permission is missing",
    "78": "invalid configuration",
    "217": "the user netscan does not exist",
    "218": "this host or container does not permit CAP_NET_RAW",
    "226": "systemd cannot set up the sandbox here, as in a container that forbids mounts",
    "243": "a file of LoadCredential= cannot be read",
}
"""Exit codes of netscand, and of systemd if it cannot start it (systemd.exec(5), process exit codes)."""
FIRST_OF_SYSTEMD = 200
"""Exit codes from here on are systemd's: the program did not run."""


class ServiceState(NamedTuple):
    """State of netscand.service, as systemd has it."""

    active: str
    exit_code: str
    """Of the main process; "0": it has not ended."""

    @property
    def has_failed(self) -> bool:
        """Return whether it ended, and systemd does not start it again."""
        return self.active == "failed" and self.exit_code != "0"

    @property
    def cause(self) -> str:
        """Return the reason that the exit code gives, or ""."""
        if self.exit_code in EXIT_CODES:
            return EXIT_CODES[self.exit_code]
        code = int(self.exit_code) if self.exit_code.isdecimal() else 0
        return "systemd cannot start it: see man systemd.exec" if code >= FIRST_OF_SYSTEMD else ""

    def __str__(self) -> str:
        reason = f" (exit code {self.exit_code}: {self.cause})" if self.cause else ""
        return f"netscand.service is {self.active}{reason}"

    def fix(self, examples: Iterable[Path] = EXAMPLES) -> str:
        """Return what to do."""
        if self.exit_code == "226":
            folder = next((folder for folder in examples if (folder / "container.conf").exists()), EXAMPLES[0])
            return (
                "in an LXC container, set nesting=1 (Proxmox: pct set ID --features nesting=1), or copy "
                f"{folder}/container.conf to /etc/systemd/system/netscand.service.d/ and run systemctl daemon-reload; "
                "then systemctl restart netscand"
            )
        return f"systemctl restart netscand, then {JOURNAL}"


def service_state() -> ServiceState | None:
    """Return the state of the service; None for a checkout, without systemd or unit, or without an answer."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or CHECKOUT in os.environ or not Path("/run/systemd/system").is_dir():
        return None
    show = [systemctl, "show", UNIT, "--property=LoadState,ActiveState,ExecMainStatus"]
    try:
        output = subprocess.run(show, capture_output=True, text=True, timeout=5, check=False).stdout  # noqa: S603 - fixed
    except (OSError, subprocess.TimeoutExpired):
        return None
    properties = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if properties.get("LoadState") != "loaded":
        return None
    return ServiceState(properties.get("ActiveState", "unknown"), properties.get("ExecMainStatus", "0"))


def start_hint(unit_folders: Iterable[Path] = UNIT_FOLDERS, checkouts: Iterable[Path] = CHECKOUTS) -> str:
    """Return how to reach a daemon of `./dev run` if one is running, else how to start one on this host."""
    if CHECKOUT in os.environ:
        return "to start it: sudo ./dev run"
    for checkout in checkouts:
        if is_listening(checkout / CHECKOUT_SOCKET):
            return f"to use the netscand of ./dev run: ./dev ctl, or --socket {checkout / CHECKOUT_SOCKET}"
    if any((folder / UNIT).exists() for folder in unit_folders):
        state = service_state()
        if state is not None and state.has_failed:
            return f"{state}; {state.fix()}"
        return "to start it: systemctl start netscand"
    return (
        f"to start it in a checkout: sudo ./dev run (then use ./dev ctl; its socket is {CHECKOUT_SOCKET}); "
        "to install it as a service: apt install ./netscand_*.deb, or packaging/install"
    )


def is_listening(path: Path) -> bool:
    """Return whether we can connect to the socket at `path`."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        return client.connect_ex(str(path)) == 0
    return False
