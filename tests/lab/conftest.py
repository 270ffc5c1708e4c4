"""What the tests of the daemon's ears share: a neighbour on the watcher's LAN, and a way to speak as it."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.lab.lan import Host, Lab
from tests.lab.rooms import Send


@pytest.fixture
def neighbour(shared_lab: Lab) -> Iterator[Host]:
    """A host that is plugged in for one test; whatever it sends, IP or not, reaches the watcher."""
    with suppress(FileNotFoundError):  # where netfilter looks into bridges, it drops what is no good IP
        for table in ("iptables", "ip6tables"):
            shared_lab.switch.sysctl(f"bridge.bridge-nf-call-{table}", 0)
    host = shared_lab.host("10.77.0.50")
    yield host
    host.delete()


@pytest.fixture
def send(neighbour: Host) -> Iterator[Send]:
    """Puts frames on the LAN."""
    with neighbour.space.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((neighbour.interface, 0))
        yield sock.send
