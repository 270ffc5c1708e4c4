"""Asking on the lab's LAN, by arp-scan and by hand: how the tests of the lab find out who is there."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.lab.capture import Arp, Capture
from tests.lab.lan import Host, Lab
from tests.lab.ring import Sender


def answering(lab: Lab, *how: str) -> dict[str, str]:
    """IP → MAC of all that arp-scan finds."""
    argv = ["arp-scan", "-I", "eth0", "-q", "-x", "-r", "4", "-b", "1", "-t", "500", *how, str(lab.network)]
    found = lab.watcher.run(argv).stdout
    return dict(re.findall(r"^(\S+)\t(\S+)$", found, re.MULTILINE))


def ask(lab: Lab, ip: str, *how: str, seconds: float = 20.0) -> str | None:
    """The MAC that answers one request for `ip`, as soon as it does."""
    argv = ["arp-scan", "-I", "eth0", "-q", "-x", "-r", "1", "-t", f"{seconds * 1000:.0f}", *how, ip]
    found = lab.watcher.run(argv).stdout
    return found.split()[1] if found.strip() else None


def silent(lab: Lab, ip: str, *how: str) -> bool:
    """Whether there is no answer to one request for `ip`, within half a second."""
    return ask(lab, ip, *how, seconds=0.5) is None


def soon(what: Callable[[], object], seconds: float = 30.0) -> bool:
    """Whether it becomes true in time."""
    ends = time.monotonic() + seconds
    while not what():
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True


def received(capture: Capture) -> list[Arp]:
    """What others said since the last look."""
    return capture.arp(outgoing=False)


def request(host: Host, ip: str) -> bytes:
    """A broadcast request by `host` for `ip`, made here by hand (RFC 826)."""
    mac = bytes.fromhex(host.mac.replace(":", ""))
    own, target = socket.inet_aton(host.ip), socket.inet_aton(ip)
    return (
        b"\xff" * 6
        + mac
        + bytes.fromhex("0806000108000604 0001".replace(" ", ""))
        + mac
        + own
        + bytes(6)
        + target
        + bytes(18)
    )


@contextmanager
def sender(lab: Lab) -> Iterator[Callable[[list[bytes]], None]]:
    """Sends frames out of the watcher's interface."""
    with lab.watcher.space.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        yield Sender(raw, "eth0").send
