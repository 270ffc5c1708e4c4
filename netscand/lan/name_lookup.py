"""Name lookup: queries by reverse DNS, mDNS and NBNS."""

import asyncio
import secrets
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from netscand.core.model import Ip, Mac, Network
from netscand.lan import bpf, dns, mdns, nbns, turns
from netscand.lan.bpf import NOTHING
from netscand.lan.decode import Answer
from netscand.lan.ndp import checksum
from netscand.lan.text import clean_name

# ---- datagrams -----------------------------------------------------------------------------------------------------
# Pure: UDP datagrams as whole frames, for a raw socket: to a station whose MAC is known, so that none is asked for it.
#
# Sources: RFC 768 (UDP), RFC 791 (IPv4), RFC 8200 (IPv6), RFC 1112 and RFC 2464 (groups over Ethernet).

UDP = 17


def group_mac(group: Ip) -> Mac:
    """Return the Ethernet address of a multicast group."""
    if len(group) == 16:
        return Mac(b"\x33\x33" + group[12:])
    return Mac(b"\x01\x00\x5e" + bytes([group[1] & 0x7F]) + group[2:])


def datagram(
    mac: Mac, to_mac: Mac, own: Ip, to: Ip, ports: tuple[int, int], content: bytes, hops: int = 255
) -> bytes:  # fmt: skip
    """Return the frame from our `mac` and `own`, from the first of `ports` to the second."""
    length = 8 + len(content)
    head = struct.pack("!HHH", *ports, length)
    padded = own + to + struct.pack("!HH", UDP, length) + head + b"\0\0" + content + b"\0" * (length & 1)
    udp = head + (checksum(padded) if checksum(padded) != b"\0\0" else b"\xff\xff") + content  # 0: it has none
    if len(own) == 16:
        return to_mac + mac + struct.pack("!HIHBB", 0x86DD, 6 << 28, length, UDP, hops) + own + to + udp
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 0, 0x4000, hops, UDP)  # 0x4000: never in fragments
    return to_mac + mac + b"\x08\x00" + start + checksum(start + b"\0\0" + own + to) + own + to + udp


# ---- resolver ------------------------------------------------------------------------------------------------------
# Reverse DNS: which name does the resolver of this host know for an address? By UDP on the loop, no thread waits.
#
# Sources: RFC 1035, RFC 3596 (ip6.arpa), resolv.conf(5).

RESOLV_CONF = Path("/etc/resolv.conf")
MOST_SERVERS = 3
"""As many as the C library reads."""

PORT = 53
MOST_ANSWERS = 16
"""Datagrams taken for one question. Who sends another server's address and guesses the number of the question has that
many tries, of 65,536, if it knows the port that is asked from."""

LOOKED_AT = 8
"""Records of an answer that are looked at for the name."""

RECURSION_DESIRED = 0x0100
NO_ERROR, NO_SUCH_NAME = 0, 3


class Effort(NamedTuple):
    """How hard a question is tried."""

    wait: float
    """Seconds that a server has."""
    tries: int
    """Questions to each server."""


class Unanswered(Exception):
    """No resolver answers; the text says why."""


class Resolver:
    """Asks the servers in a resolv.conf, which it reads again whenever it has changed."""

    def __init__(self, path: Path = RESOLV_CONF, port: int = PORT) -> None:
        self._path = path
        self._port = port
        self._stamp: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    async def name_of(self, ip: Ip, effort: Effort) -> str | None:
        """The name, cleaned; None where nobody knows one. Raises Unanswered where nobody is there to know."""
        asked = reverse(ip)
        question = dns.questions(secrets.randbits(16), [asked], dns.PTR, flags=RECURSION_DESIRED)
        why = f"no server in {self._path}"
        refused = False
        for server in self.servers() * effort.tries:
            try:
                answer = await _query_server(server, self._port, question, effort.wait)
            except (OSError, TimeoutError) as wrong:
                why = f"{server}: {str(wrong) or 'no answer'}"
                continue
            if answer is not None:
                return pointed_to(answer, asked)
            refused = True  # or failed: another one may know
        if refused:
            return None
        raise Unanswered(why)

    def servers(self) -> tuple[str, ...]:
        """The addresses of the servers, as the file has them now."""
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_ino
            if stamp != self._stamp:
                lines = self._path.read_text(errors="replace").splitlines()
                words = [line.split() for line in lines]
                found = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
                self._servers = tuple(found[:MOST_SERVERS])
                self._stamp = stamp
        except OSError:
            self._servers, self._stamp = (), None
        return self._servers


def reverse(ip: Ip) -> tuple[bytes, ...]:
    """The labels of the name that stands for an address."""
    if len(ip) == 4:
        return (*(str(byte).encode() for byte in reversed(ip)), b"in-addr", b"arpa")
    return (*(digit.encode() for digit in reversed(ip.hex())), b"ip6", b"arpa")


def pointed_to(message: dns.Message, asked: tuple[bytes, ...]) -> str | None:
    """Return the first name that `asked` (in small letters) points to, aliases on the way followed (RFC 2317).

    None where that only repeats an address, or stands for a role. The first records alone are read.
    """
    for record in message.answers[:LOOKED_AT]:
        if record.kind not in (dns.PTR, dns.CNAME) or record.klass & dns.CLASS != 1:
            continue
        owner, labels = (dns.labels(message.raw, position) for position in (record.name_at, record.content_at))
        if not owner or not labels or tuple(map(bytes.lower, owner)) != asked:
            continue
        if record.kind == dns.CNAME:
            asked = tuple(map(bytes.lower, labels))
        elif labels[-1].lower() != b"arpa" and not labels[0].startswith(b"_"):
            return clean_name(".".join(label.decode("utf-8", "replace") for label in labels))
    return None


async def _query_server(server: str, port: int, question: bytes, wait: float) -> dns.Message | None:
    """The answer of one server; None where it has none to give. Raises OSError, TimeoutError."""
    family, address = _socket_address(server, port)
    # A socket for each question: an answer has to guess its port as well as the message's number.
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as client:
        client.connect(address)
        await asyncio.get_running_loop().sock_sendall(client, question)
        async with asyncio.timeout(wait):
            for _ in range(MOST_ANSWERS):
                raw = await turns.receive(client, 4096)
                if raw[:2] != question[:2] or raw[12 : len(question)].lower() != question[12:]:
                    continue
                answer = dns.read(raw)
                if answer is not None and answer.flags & dns.RESPONSE:
                    return answer if answer.flags & dns.RCODE in (NO_ERROR, NO_SUCH_NAME) else None
    return None


def _socket_address(server: str, port: int) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    """The socket's family and address. Raises OSError for what is no address."""
    if ":" not in server:
        socket.inet_aton(server)
        return socket.AF_INET, (server, port)
    host, _, scope = server.partition("%")
    socket.inet_pton(socket.AF_INET6, host)
    index = 0 if not scope else int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    return socket.AF_INET6, (host, port, 0, index)


# ---- asking --------------------------------------------------------------------------------------------------------
# Asking devices for their names: by mDNS (all hear the question, those that are meant answer), and by NBNS (RFC 1002).
#
# An answer is taken off the ring, with its Ethernet source, and never off a socket: only the station that was asked can
# name itself. By IP alone any host could, with the other's address as its source; on Wi-Fi, where no access point lets
# a station send from another's MAC, that is the difference between every guest and nobody. It also costs no more than
# any other frame of the ring (one budget, one turn), and comes past a firewall that knows of no question by multicast.
#
# Our port is held by a socket that takes nothing in: without one, the kernel would refuse each answer by ICMP. It is
# not port 5353, which belongs to whichever responder runs on this host: unicast answers would go to one of the two.

LAN_WAIT = 1.0
"""Seconds after which a device that did not answer is asked in another way."""

ANSWERED_WITHIN = 5.0
"""Seconds in which an answer is taken: a phone that sleeps is given what waits for it every other second."""

ANSWERS_A_DEVICE = 4
"""Answers of one device to one question that are looked at."""

QUERIES_PER_FRAME = {4: 8, 16: 3}
"""Questions in one frame, by the bytes of an address: some 300 bytes. Avahi has 512 for them and for its answer."""

GROUPS = {4: Ip(b"\xe0\0\0\xfb"), 16: Ip(b"\xff\x02" + bytes(13) + b"\xfb")}

UNICAST_RESPONSE = 0x8000
"""In the class of a question: answer us alone (RFC 6762, 5.4)."""

NODE_STATUS = (b"CK" + b"A" * 30,)
"""`*` and fifteen zeros, first-level encoded: any node (RFC 1002, 4.2.17)."""


@dataclass(slots=True)
class _OpenQuery:
    """A device that may answer."""

    network: str
    interface: int
    number: int
    until: float
    left: int = ANSWERS_A_DEVICE


class Queries:
    """Questions to devices, and what becomes of them. `say` sends a frame on a network, and raises OSError."""

    def __init__(self, send: Callable[[Network, bytes], None]) -> None:
        self._send = send
        self._port_socket: socket.socket | None = None
        self._open: dict[tuple[int, Mac, Ip], _OpenQuery] = {}
        """By the port that answers, in the order in which they were asked."""

    def by_mdns(self, network: Network, targets: Sequence[tuple[Mac, Ip]]) -> None:
        """Ask devices at addresses of one family, at most TOGETHER, by one frame to all. Raises OSError."""
        length = len(targets[0][1])
        own = network.own if length == 4 else network.own6
        if own is None:
            return
        names = [reverse(ip) for _, ip in targets]
        content = dns.questions(secrets.randbits(16), names, dns.PTR, 1 | UNICAST_RESPONSE)
        self._query(network, mdns.PORT, own, targets, content, group_mac(GROUPS[length]), GROUPS[length])

    def by_nbns(self, network: Network, mac: Mac, ip: Ip) -> None:
        """Ask one device at an IPv4 address by a frame to it alone. Raises OSError."""
        content = dns.questions(secrets.randbits(16), [NODE_STATUS], dns.NBSTAT)
        self._query(network, nbns.PORT, network.own, [(mac, ip)], content, mac, ip)

    def _query(
        self,
        network: Network,
        port: int,
        own: Ip,
        targets: Sequence[tuple[Mac, Ip]],
        content: bytes,
        to_mac: Mac,
        to: Ip,
    ) -> None:
        self._send(network, datagram(network.mac, to_mac, own, to, (self._port(), port), content))
        now = monotonic()
        for expired in [key for key, asked in self._open.items() if asked.until < now]:
            del self._open[expired]
        number = int.from_bytes(content[:2])
        for mac, ip in targets:
            self._open[port, mac, ip] = _OpenQuery(network.id, network.index, number, now + ANSWERED_WITHIN)

    def _port(self) -> int:
        if self._port_socket is None:
            family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
            port_socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                bpf.attach(port_socket, NOTHING)
                if family == socket.AF_INET6:
                    port_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                port_socket.bind(("", 0))
            except OSError:
                port_socket.close()
                raise
            self._port_socket = port_socket
        port: int = self._port_socket.getsockname()[1]
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
        if self._port_socket is not None:
            self._port_socket.close()
            self._port_socket = None


def _name(message: dns.Message, port: int, ip: Ip, number: int) -> str | None:
    """The name of the device at `ip` in its answer."""
    if not message.flags & dns.RESPONSE:
        return None
    if port == nbns.PORT:  # the number is repeated (RFC 1002, 4.2.1.1)
        return nbns.node_name(message) if message.id == number else None
    name = pointed_to(message, reverse(ip))  # under any number: some answer with 0, as if to everybody
    return name[: -len(".local")] if name and name.lower().endswith(".local") else None
