"""How to come to a netscand on this host, where none answers."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

UNIT = "netscand.service"
UNITS = tuple(map(Path, ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")))
"""Where packages and packaging/install put it."""
OF_A_CHECKOUT = Path(".netscand/netscand.sock")
"""Where `./dev run` listens, in its checkout."""
CHECKOUTS = (Path(), Path(__file__).parents[1])
"""Where one may be: here, or where we are of."""


def mend(units: Iterable[Path] = UNITS, checkouts: Iterable[Path] = CHECKOUTS) -> str:
    """What to do: use that of `./dev run`, where it runs; else start it, in the way that this host has."""
    for checkout in checkouts:
        if answers(checkout / OF_A_CHECKOUT):
            return f"./dev run has one that answers: --socket {checkout / OF_A_CHECKOUT}"
    if any((folder / UNIT).exists() for folder in units):
        return "start it with: systemctl start netscand"
    return (
        f"start it with: sudo ./dev run in a checkout (its socket: {OF_A_CHECKOUT} there); "
        "or install it as a service: apt install ./netscand_*.deb, or packaging/install"
    )


def answers(path: Path) -> bool:
    """Whether somebody listens on the socket at `path`, and we may use it."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as caller:
        return caller.connect_ex(str(path)) == 0
    return False
