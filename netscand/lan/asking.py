"""Asking devices for their names: by mDNS (all hear the question, those that are meant answer), and by NBNS (RFC 1002).

An answer is taken off the ring, with its Ethernet source, and never off a socket: only the station that was asked can
name itself. By IP alone any host could, with the other's address as its source; on Wi-Fi, where no access point lets
a station send from another's MAC, that is the difference between every guest and nobody. It also costs no more than
any other frame of the ring (one budget, one turn), and comes past a firewall that knows of no question by multicast.

Our port is held by a socket that takes nothing in: without one, the kernel would refuse each answer by ICMP. It is not
port 5353, which belongs to whichever responder runs on this host: unicast answers would go to one of the two.
"""

import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from netscand.core.model import Ip, Mac, Network
from netscand.lan import packet_socket
from netscand.lan.datagrams import datagram, group_mac
from netscand.lan.filters import NOTHING
from netscand.lan.heard import dns, mdns, nbns
from netscand.lan.heard.frames import Answer
from netscand.lan.resolver import pointed_to, reverse

WAIT = 1.0
"""Seconds after which a device that did not answer is asked in another way."""

ANSWERED_WITHIN = 5.0
"""Seconds in which an answer is taken: a phone that sleeps is given what waits for it every other second."""

MOST_ANSWERS = 4
"""Answers of one device to one question that are looked at."""

TOGETHER = {4: 8, 16: 3}
"""Questions in one frame, by the bytes of an address: some 300 bytes. Avahi has 512 for them and for its answer."""

GROUPS = {4: Ip(b"\xe0\0\0\xfb"), 16: Ip(b"\xff\x02" + bytes(13) + b"\xfb")}

UNICAST_RESPONSE = 0x8000
"""In the class of a question: answer us alone (RFC 6762, 5.4)."""

NODE_STATUS = (b"CK" + b"A" * 30,)
"""`*` and fifteen zeros, first-level encoded: any node (RFC 1002, 4.2.17)."""


@dataclass(slots=True)
class _Asked:
    """A device that may answer."""

    network: str
    interface: int
    number: int
    until: float
    left: int = MOST_ANSWERS


class Questions:
    """Questions to devices, and what becomes of them. `say` sends a frame on a network, and raises OSError."""

    def __init__(self, say: Callable[[Network, bytes], None]) -> None:
        self._say = say
        self._held: socket.socket | None = None
        self._open: dict[tuple[int, Mac, Ip], _Asked] = {}
        """By the port that answers, in the order in which they were asked."""

    def by_mdns(self, network: Network, whom: Sequence[tuple[Mac, Ip]]) -> None:
        """Ask devices at addresses of one family, at most TOGETHER, by one frame to all. Raises OSError."""
        length = len(whom[0][1])
        own = network.own if length == 4 else network.own6
        if own is None:
            return
        names = [reverse(ip) for _, ip in whom]
        content = dns.questions(secrets.randbits(16), names, dns.PTR, 1 | UNICAST_RESPONSE)
        self._ask(network, mdns.PORT, own, whom, content, group_mac(GROUPS[length]), GROUPS[length])

    def by_nbns(self, network: Network, mac: Mac, ip: Ip) -> None:
        """Ask one device at an IPv4 address by a frame to it alone. Raises OSError."""
        content = dns.questions(secrets.randbits(16), [NODE_STATUS], dns.NBSTAT)
        self._ask(network, nbns.PORT, network.own, [(mac, ip)], content, mac, ip)

    def _ask(
        self, network: Network, port: int, own: Ip, whom: Sequence[tuple[Mac, Ip]], content: bytes, to_mac: Mac, to: Ip
    ) -> None:
        self._say(network, datagram(network.mac, to_mac, own, to, (self._port(), port), content))
        now = monotonic()
        for over in [key for key, asked in self._open.items() if asked.until < now]:
            del self._open[over]
        number = int.from_bytes(content[:2])
        for mac, ip in whom:
            self._open[port, mac, ip] = _Asked(network.id, network.index, number, now + ANSWERED_WITHIN)

    def _port(self) -> int:
        if self._held is None:
            family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
            held = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                packet_socket.attach(held, NOTHING)
                if family == socket.AF_INET6:
                    held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                held.bind(("", 0))
            except OSError:
                held.close()
                raise
            self._held = held
        port: int = self._held.getsockname()[1]
        return port

    def name_in(self, answer: Answer) -> tuple[Mac, str, str, str] | None:
        """Return who is named in an answer, how, by which source, and on which network it was asked.

        None where nobody that was asked sent it.
        """
        sender = answer.sender
        key = answer.from_port, sender.mac, sender.ip
        asked = self._open.get(key)
        if (
            asked is None
            or (answer.port, sender.interface) != (self._port(), asked.interface)
            or sender.at > asked.until
        ):
            return None
        asked.left -= 1
        message = dns.read(answer.content)
        name = _name(message, answer.from_port, sender.ip, asked.number) if message is not None else None
        if name or not asked.left:
            del self._open[key]
        source = "mdns" if answer.from_port == mdns.PORT else "nbns"
        return (sender.mac, name, source, asked.network) if name else None

    def close(self) -> None:
        """Give the port back."""
        if self._held is not None:
            self._held.close()
            self._held = None


def _name(message: dns.Message, port: int, ip: Ip, number: int) -> str | None:
    """The name of the device at `ip` in its answer."""
    if not message.flags & dns.RESPONSE:
        return None
    if port == nbns.PORT:  # the number is repeated (RFC 1002, 4.2.1.1)
        return nbns.node_name(message) if message.id == number else None
    name = pointed_to(message, reverse(ip))  # under any number: some answer with 0, as if to everybody
    return name[: -len(".local")] if name and name.lower().endswith(".local") else None
