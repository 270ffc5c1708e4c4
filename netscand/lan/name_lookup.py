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
from netscand.lan.text import clean_labels

# ---- datagrams -----------------------------------------------------------------------------------------------------
# UDP datagrams as complete frames for a raw socket: the MAC of the receiver is known, so no ARP request is needed.
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
    """Return the frame from our `mac` and `own` to `to_mac` and `to`; `ports` are source and destination."""
    length = 8 + len(content)
    head = struct.pack("!HHH", *ports, length)
    padded = own + to + struct.pack("!HH", UDP, length) + head + b"\0\0" + content + b"\0" * (length & 1)
    udp = (
        head + (checksum(padded) if checksum(padded) != b"\0\0" else b"\xff\xff") + content
    )  # 0 would mean: no checksum
    if len(own) == 16:
        return to_mac + mac + struct.pack("!HIHBB", 0x86DD, 6 << 28, length, UDP, hops) + own + to + udp
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 0, 0x4000, hops, UDP)  # 0x4000: never in fragments
    return to_mac + mac + b"\x08\x00" + start + checksum(start + b"\0\0" + own + to) + own + to + udp


# ---- resolver ------------------------------------------------------------------------------------------------------
# Reverse DNS with the name servers of this host, over UDP on the loop, without threads.
#
# Sources: RFC 1035, resolv.conf(5).

RESOLV_CONF = Path("/etc/resolv.conf")
MOST_SERVERS = 3
"""Maximum name servers, as in the C library."""

PORT = 53
MOST_ANSWERS = 16
"""Maximum datagrams read for one query. A forger who knows our port can try so many of the 65,536 query ids."""

LOOKED_AT = 8
"""Maximum records of an answer examined for the name."""

RECURSION_DESIRED = 0x0100
NO_ERROR, NO_SUCH_NAME = 0, 3


class Effort(NamedTuple):
    """Effort of a query."""

    wait: float
    """Seconds to wait for a server."""
    tries: int
    """Queries to each server."""


class Unanswered(Exception):
    """No name server answered; the text says why."""


class Resolver:
    """Client of the name servers in a resolv.conf, which is read again when it has changed."""

    def __init__(self, path: Path = RESOLV_CONF, port: int = PORT) -> None:
        self._path = path
        self._port = port
        self._stamp: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    async def name_of(self, ip: Ip, effort: Effort) -> str | None:
        """Return the sanitised name of an address; None if it has none. Raises Unanswered if no server answers."""
        reverse_name = dns.reverse(ip)
        question = dns.questions(secrets.randbits(16), [reverse_name], dns.PTR, flags=RECURSION_DESIRED)
        why = f"no server in {self._path}"
        refused = False
        for server in self.servers() * effort.tries:
            try:
                answer = await _query_server(server, self._port, question, effort.wait)
            except (OSError, TimeoutError) as wrong:
                why = f"{server}: {wrong.strerror or 'no answer'}"
                continue
            if answer is not None:
                return pointed_to(answer, reverse_name)
            refused = True  # or failed: another server may answer
        if refused:
            return None
        raise Unanswered(why)

    def servers(self) -> tuple[str, ...]:
        """Return the addresses of the name servers in the file."""
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


def pointed_to(message: dns.Message, reverse_name: tuple[bytes, ...]) -> str | None:
    """Return the first name that `reverse_name` (lower case) points to, following aliases (RFC 2317).

    None if that is a reverse name itself, or a service name. Only the first records are read.
    """
    for record in message.answers[:LOOKED_AT]:
        if record.kind not in (dns.PTR, dns.CNAME) or record.klass & dns.CLASS != 1:
            continue
        owner, labels = (dns.labels(message.raw, position) for position in (record.name_at, record.content_at))
        if not owner or not labels or tuple(map(bytes.lower, owner)) != reverse_name:
            continue
        if record.kind == dns.CNAME:
            reverse_name = tuple(map(bytes.lower, labels))
        elif labels[-1].lower() != b"arpa" and not labels[0].startswith(b"_"):
            return clean_labels(labels)
    return None


async def _query_server(server: str, port: int, question: bytes, wait: float) -> dns.Message | None:
    """Return the answer of one server; None if it refuses or fails. Raises OSError, TimeoutError."""
    family, address = _socket_address(server, port)
    # A socket for each query: a forged answer must match its port as well as the query id.
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
    """Return family and address for a socket. Raises OSError if `server` is no address."""
    if ":" not in server:
        socket.inet_aton(server)
        return socket.AF_INET, (server, port)
    host, _, scope = server.partition("%")
    socket.inet_pton(socket.AF_INET6, host)
    index = 0 if not scope else int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    return socket.AF_INET6, (host, port, 0, index)


# ---- LAN queries ---------------------------------------------------------------------------------------------------
# Queries to devices for their names: by mDNS (multicast, lan/mdns.py), and by NBNS (unicast, lan/nbns.py).
#
# Answers are read from the ring, with their Ethernet source, never from a socket: only the queried station can name
# itself. With the IP address alone, any host could forge an answer; on Wi-Fi, access points do not let a station send
# from another station's MAC. Answers also share the ring's budget, and pass a firewall that drops replies to multicast.
#
# A socket that receives nothing reserves our port: without it, the kernel would reject each answer by ICMP. It is not
# port 5353, which a responder on this host may use: unicast answers would reach only one of the two.

LAN_WAIT = 1.0
"""Seconds after which a device that did not answer by mDNS is queried by NBNS."""

ANSWERED_WITHIN = 5.0
"""Seconds in which an answer is accepted: a sleeping phone receives waiting frames only every other second."""

ANSWERS_A_DEVICE = 4
"""Maximum answers of one device to one query that are examined."""


@dataclass(slots=True)
class _OpenQuery:
    """A query that may still be answered."""

    network: str
    interface: int
    number: int
    until: float
    left: int = ANSWERS_A_DEVICE


class Queries:
    """Queries to devices, and their answers. `send` sends a frame on a network, and raises OSError."""

    def __init__(self, send: Callable[[Network, bytes], None]) -> None:
        self._send = send
        self._port_socket: socket.socket | None = None
        self._open: dict[tuple[int, Mac, Ip], _OpenQuery] = {}
        """By port, MAC and address of the expected answer, oldest first."""

    def by_mdns(self, network: Network, targets: Sequence[tuple[Mac, Ip]]) -> None:
        """Query devices at addresses of one family, at most mdns.QUERIES_PER_FRAME, by multicast. Raises OSError."""
        length = len(targets[0][1])
        own = network.own if length == 4 else network.own6
        if own is None:
            return
        content, group = mdns.query([ip for _, ip in targets]), mdns.GROUPS[length]
        self._query(network, mdns.PORT, own, targets, content, group_mac(group), group)

    def by_nbns(self, network: Network, mac: Mac, ip: Ip) -> None:
        """Query one device at an IPv4 address by unicast. Raises OSError."""
        self._query(network, nbns.PORT, network.own, [(mac, ip)], nbns.query(), mac, ip)

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
        for expired in [key for key, query in self._open.items() if query.until < now]:
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
        """Return MAC, name, source and network of an answer.

        None if it answers no open query, or has no name.
        """
        sender = answer.sender
        key = answer.from_port, sender.mac, sender.ip
        query = self._open.get(key)
        if (
            query is None
            or (answer.port, sender.interface) != (self._port(), query.interface)
            or sender.at > query.until
        ):
            return None
        query.left -= 1
        name = answered_name(answer, query.number)
        if name or not query.left:
            del self._open[key]
        source = "mdns" if answer.from_port == mdns.PORT else "nbns"
        return (sender.mac, name, source, query.network) if name else None

    def close(self) -> None:
        """Close the socket."""
        if self._port_socket is not None:
            self._port_socket.close()
            self._port_socket = None


def answered_name(answer: Answer, number: int | None = None) -> str | None:
    """Return the name of a device in its answer to the query `number`, or (None) to any."""
    message = dns.read(answer.content)
    if message is None or not message.flags & dns.RESPONSE:
        return None
    if answer.from_port == nbns.PORT:  # the id is repeated (RFC 1002, 4.2.1.1)
        return nbns.node_name(message) if number in (None, message.id) else None
    name = pointed_to(message, dns.reverse(answer.sender.ip))  # any id: some responders use 0, as for multicast
    return name[: -len(".local")] if name and name.lower().endswith(".local") else None
