"""Hint for starting netscand on this host."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

UNIT = "netscand.service"
UNIT_FOLDERS = tuple(map(Path, ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")))
"""Folders in which packages and packaging/install put the unit."""
CHECKOUT_SOCKET = Path(".netscand/netscand.sock")
"""Socket of `./dev run`, within its checkout."""
CHECKOUTS = (Path(), Path(__file__).parents[1])
"""Folders that may be a checkout: the current one, and the one of this file."""


def start_hint(unit_folders: Iterable[Path] = UNIT_FOLDERS, checkouts: Iterable[Path] = CHECKOUTS) -> str:
    """Return how to reach a daemon of `./dev run` if one is running, else how to start one on this host."""
    for checkout in checkouts:
        if is_listening(checkout / CHECKOUT_SOCKET):
            return f"to use the netscand of ./dev run: --socket {checkout / CHECKOUT_SOCKET}"
    if any((folder / UNIT).exists() for folder in unit_folders):
        return "to start it: systemctl start netscand"
    return (
        f"to start it in a checkout: sudo ./dev run (its socket is {CHECKOUT_SOCKET}); "
        "to install it as a service: apt install ./netscand_*.deb, or packaging/install"
    )


def is_listening(path: Path) -> bool:
    """Return whether we can connect to the socket at `path`."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        return client.connect_ex(str(path)) == 0
    return False
