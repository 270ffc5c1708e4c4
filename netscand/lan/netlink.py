"""rtnetlink: the kernel's links, addresses, default routes and neighbours, and notification of their changes."""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Network, IPv6Network
from itertools import chain
from socket import AF_INET6, inet_aton, inet_pton
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from netscand.core.model import Evidence, Ip, Mac, Observation
from netscand.lan import libraries, turns
from netscand.lan.networks import DefaultRoute, HostAddress, HostAddress6, Kernel, Link
from netscand.lan.senders import is_host, is_station
from netscand.lan.turns import Work

# ---- netlink -------------------------------------------------------------------------------------------------------
# Plain AF_NETLINK sockets, decoded by pyroute2 (its own sockets run an event loop of their own). State comes only from
# dumps; a notification just triggers one. The kernel does not notify every change (routes that vanish with a link or
# an address are not reported), and an overrun (ENOBUFS) needs no special case this way.
#
# A dump is cheap, because each message is reduced to the attributes that we read (most of a link's are counters), and
# decoded only if that differs from the last dump: 600 links cost 15 ms instead of 300. Source: rtnetlink(7),
# netlink(7).

NETLINK_ROUTE = 0
GROUPS = 0x1 | 0x10 | 0x40 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR"""

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH = 18, 22, 26, 30
_ROUTE_NEWS = (24, 25)
"""RTM_NEWROUTE, RTM_DELROUTE"""
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_EXT_MASK = 1, 3, 10, 18, 29
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE = 4, 5, 6, 9, 15
SKIP_STATISTICS = 8
IFLA_INFO_KIND = 1
NLA_TYPE_MASK = 0x3FFF
IFA_F_SECONDARY = 0x01
IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x08, 0x40
RT_TABLE_MAIN = 254
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RTN_UNICAST = 1

ANSWER_WITHIN = 2.0
"""Seconds in which the kernel must continue a dump."""

PIECE = 16
"""Messages of a dump decoded in one turn of the loop: 60 µs each, if they are new."""

DUMPS = 5
"""Attempts at a dump that changes interrupt."""

_HEAD = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port."""

_ATTRIBUTE = struct.Struct("=HH")
"""nlattr: length, type."""

_RECEIVE = 256 * 1024

Value = TypeVar("Value", Link, HostAddress, HostAddress6, DefaultRoute)
Known = dict[bytes, tuple[Value, ...]]
"""Message of the last dump → its decoded values."""


class NetlinkError(Exception):
    """The kernel's state cannot be read or followed; the text is a sentence."""


class Message(Protocol):
    """Message decoded by pyroute2."""

    def __getitem__(self, name: str) -> int:
        """Return a field of the fixed part."""

    def get_attr(self, name: str) -> Any:  # noqa: ANN401 a number, text or nested attributes
        """Return an attribute; None if it is missing."""


_Wanted = Mapping[int, "_Wanted"]
"""Attributes to read → nested attributes to read; empty: all."""


class _Table(NamedTuple, Generic[Value]):
    """Description of one kind of dump."""

    request: int
    selection: bytes
    """Fixed part and attributes of the request."""
    fixed: int
    """Bytes of the fixed part of the answers."""
    wanted: _Wanted
    translate: Callable[[Message], tuple[Value, ...]]


class Netlink:
    """Reader of the kernel's state, with notification of changes. All methods raise NetlinkError."""

    def __init__(self, receive_buffer: int = 1 << 20) -> None:
        self._parse: Callable[[bytes], Iterator[Message]] = libraries.rtnetlink()().parse
        self._sequence = 0
        self._links: Known[Link] = {}
        self._addresses: Known[HostAddress] = {}
        self._addresses6: Known[HostAddress6] = {}
        self._routes: Known[DefaultRoute] = {}
        self._routes_changed = True
        self.children: frozenset[tuple[int, Mac]] = frozenset()
        """Result of the last `read`."""
        with ExitStack() as undo, _as_netlink_error("cannot follow the interfaces"):
            self._notifications = undo.enter_context(_socket(GROUPS))
            self._notifications.setblocking(False)
            self._notifications.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self._requests = undo.enter_context(_socket(0))
            self._requests.settimeout(ANSWER_WITHIN)
            undo.pop_all()

    def fileno(self) -> int:
        """Return the file descriptor, which is readable after a change."""
        return self._notifications.fileno()

    def changed(self) -> bool:
        """Read at most 64 waiting notifications; return whether any may matter. An overrun does."""
        matters = False
        with _as_netlink_error("cannot follow the interfaces"):
            for datagram in turns.waiting(self._notifications, _RECEIVE, 64):
                if datagram is None:
                    matters = self._routes_changed = True
                    continue
                chunk, sender = datagram
                if sender[0]:
                    continue  # not from the kernel
                for kind, _, message in _messages(chunk):
                    if _matters(kind, message):
                        matters = True
                        self._routes_changed |= kind in _ROUTE_NEWS
        return matters

    def read(self) -> Work[Kernel]:
        """Return the current state, in pieces: a router may have a million routes."""
        with _as_netlink_error("cannot read the interfaces"):
            links = yield from self._dump(_LINKS, self._links)
            addresses = yield from self._dump(_ADDRESSES, self._addresses)
            self._addresses6 = yield from self._dump(_ADDRESSES6, self._addresses6)
            # Routes are dumped only if a default route may have changed. The kernel does not report routes that vanish
            # with their link or address.
            if self._routes_changed or links.keys() != self._links.keys() or addresses.keys() != self._addresses.keys():
                self._routes = yield from self._dump(_ROUTES, self._routes)
                self._routes_changed = False
            self._links, self._addresses = links, addresses
        self.children = yield from self.read_children()
        return Kernel(
            tuple(chain.from_iterable(links.values())),
            tuple(chain.from_iterable(addresses.values())),
            tuple(chain.from_iterable(self._routes.values())),
            tuple(chain.from_iterable(self._addresses6.values())),
            self.children,
        )

    def read_children(self) -> Work[frozenset[tuple[int, Mac]]]:
        """Return the macvlan and macvtap interfaces on interfaces with an IPv4 address: ifindex and MAC.

        They may be in other namespaces, where no dump of links shows them; but while one is up, its MAC is a unicast
        address of the lower interface (`bridge fdb show dev eth0`: self, permanent). Not supported: none.
        """
        found: set[tuple[int, Mac]] = set()
        for index in sorted({address.index for address in chain.from_iterable(self._addresses.values())}):
            selection = bytes([AF_BRIDGE]).ljust(4, b"\0") + struct.pack("=i", index).ljust(12, b"\0")  # ifinfomsg
            try:
                messages, _ = yield from self._request(
                    _Table(RTM_GETNEIGH, selection, _NEIGHBOUR.size, _LLADDR, _no_value)
                )
            except OSError:
                continue
            for message in messages:
                _, interface, state, flags, _ = _NEIGHBOUR.unpack_from(message, _HEAD.size)
                mac = message[_HEAD.size + _NEIGHBOUR.size + _ATTRIBUTE.size :][:6]
                if (interface, state, flags & NTF_SELF) == (index, NUD_PERMANENT, NTF_SELF) and is_station(Mac(mac)):
                    found.add((index, Mac(mac)))
        return frozenset(sorted(found)[:MOST_CHILDREN])

    def _dump(self, table: _Table[Value], known: Known[Value]) -> Work[Known[Value]]:
        """Return all values of a dump; unchanged messages are taken from `known`."""
        fresh: Known[Value] = {}
        messages = yield from self._whole(table)
        for count, message in enumerate(messages, 1):
            meaning = known.get(message)
            fresh[message] = table.translate(next(iter(self._parse(message)))) if meaning is None else meaning
            if not count % PIECE:
                yield
        return fresh

    def _whole(self, table: _Table[Value]) -> Work[list[bytes]]:
        """Return the messages of a dump, repeated while changes interrupt it."""
        for _ in range(DUMPS):
            messages, whole = yield from self._request(table)
            if whole:
                break
        return messages

    def _request(self, table: _Table[Value]) -> Work[tuple[list[bytes], bool]]:
        self._sequence += 1
        length = _HEAD.size + len(table.selection)
        head = _HEAD.pack(length, table.request, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0)
        self._requests.send(head + table.selection)
        found: list[bytes] = []
        whole = True
        while True:
            for kind, flags, message in _messages(self._requests.recv(_RECEIVE)):
                if _HEAD.unpack_from(message)[3] != self._sequence:
                    continue  # the rest of an earlier dump that timed out
                whole = whole and not flags & NLM_F_DUMP_INTR
                if kind == NLMSG_DONE:
                    return found, whole
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", message, _HEAD.size)[0]
                    raise OSError(number, os.strerror(number))
                if _matters(kind, message) and _is_requested(message, table):
                    found.append(_reduced(message, kind, table))
            yield

    def close(self) -> None:
        """Close both sockets."""
        self._notifications.close()
        self._requests.close()


@contextmanager
def _as_netlink_error(what: str) -> Iterator[None]:
    """Raise OSError as NetlinkError."""
    try:
        yield
    except OSError as wrong:
        raise NetlinkError(f"{what}: netlink: {wrong.strerror or wrong}") from wrong


def _socket(groups: int) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    made.bind((0, groups))
    return made


def _messages(chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, flags and bytes of each message in a datagram."""
    position = 0
    while position + _HEAD.size <= len(chunk):
        length, kind, flags, _, _ = _HEAD.unpack_from(chunk, position)
        if length < _HEAD.size:
            return
        yield kind, flags, chunk[position : position + length]
        position += (length + 3) & ~3


def _matters(kind: int, message: bytes) -> bool:
    """Return whether a notification matters: all do, except those of routes that are not default routes."""
    return kind not in _ROUTE_NEWS or message[_HEAD.size + 1] == 0


def _is_requested(message: bytes, table: _Table[Value]) -> bool:
    """Return whether a message of a dump is of the requested address family.

    A kernel without IPv6 answers a dump of AF_INET6 with the addresses of all other families (rtnetlink_rcv_msg falls
    back to PF_UNSPEC).
    """
    return table.selection[0] in (socket.AF_UNSPEC, message[_HEAD.size])


def _reduced(message: bytes, kind: int, table: _Table[Value]) -> bytes:
    """Return the message with only the attributes that we read, and without fields that differ in each dump."""
    fixed = _HEAD.size + table.fixed
    body = message[_HEAD.size : fixed] + _attributes(message[fixed:], table.wanted)
    return _HEAD.pack(_HEAD.size + len(body), kind, 0, 0, 0) + body


def _attributes(attributes: bytes, wanted: _Wanted) -> bytes:
    """Return the wanted attributes, and of nested ones the wanted parts."""
    kept = []
    position = 0
    while position + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, position)
        if length < _ATTRIBUTE.size:
            break
        following = position + ((length + 3) & ~3)
        if (kind & NLA_TYPE_MASK) in wanted:
            attribute = attributes[position:following]
            if inner := wanted[kind & NLA_TYPE_MASK]:
                nested = _attributes(attribute[_ATTRIBUTE.size : length], inner)
                attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(nested), kind) + nested
            kept.append(attribute)
        position = following
    return b"".join(kept)


def _link(message: Message) -> tuple[Link, ...]:
    mac = bytes.fromhex((message.get_attr("IFLA_ADDRESS") or "").replace(":", ""))
    described = message.get_attr("IFLA_LINKINFO")
    link = Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME") or "",
        flags=message["flags"],
        hardware=message["ifi_type"],
        mac=Mac(mac) if len(mac) == 6 else None,
        kind=(described.get_attr("IFLA_INFO_KIND") if described else None) or "",
        master=message.get_attr("IFLA_MASTER") or 0,
    )
    return (link,)


def _host_address(message: Message) -> tuple[HostAddress, ...]:
    prefix = message.get_attr("IFA_ADDRESS")
    own = message.get_attr("IFA_LOCAL") or prefix
    if not prefix:
        return ()
    cidr = IPv4Network((prefix, message["prefixlen"]), strict=False)
    secondary = bool(message["flags"] & IFA_F_SECONDARY)
    return (HostAddress(message["index"], Ip(inet_aton(own)), cidr, own != prefix, secondary),)


def _host_address6(message: Message) -> tuple[HostAddress6, ...]:
    """Return an IPv6 address in use; nothing for one that is tentative or failed duplicate detection."""
    address, scope = message.get_attr("IFA_ADDRESS"), message["scope"]
    own = message.get_attr("IFA_LOCAL") or address
    if not address or scope not in (RT_SCOPE_UNIVERSE, RT_SCOPE_LINK):
        return ()
    if message["flags"] & (IFA_F_TENTATIVE | IFA_F_DADFAILED):
        return ()
    cidr = IPv6Network((address, message["prefixlen"]), strict=False)
    return (HostAddress6(message["index"], Ip(inet_pton(AF_INET6, own)), cidr),)


def _default_routes(message: Message) -> tuple[DefaultRoute, ...]:
    """Return each next hop of the main table with an IPv4 gateway."""
    table = message.get_attr("RTA_TABLE") or message["table"]
    if table != RT_TABLE_MAIN or message["type"] != RTN_UNICAST:
        return ()
    metric = message.get_attr("RTA_PRIORITY") or 0
    hops = [(hop["oif"], hop.get_attr("RTA_GATEWAY")) for hop in message.get_attr("RTA_MULTIPATH") or ()]
    hops.append((message.get_attr("RTA_OIF"), message.get_attr("RTA_GATEWAY")))
    return tuple(DefaultRoute(index, Ip(inet_aton(gateway)), metric) for index, gateway in hops if index and gateway)


_LINKS = _Table(
    RTM_GETLINK,
    bytes([socket.AF_UNSPEC]).ljust(16, b"\0") + struct.pack("=HHI", 8, IFLA_EXT_MASK, SKIP_STATISTICS),  # ifinfomsg
    16,
    {IFLA_ADDRESS: {}, IFLA_IFNAME: {}, IFLA_MASTER: {}, IFLA_LINKINFO: {IFLA_INFO_KIND: {}}},
    _link,
)
_ADDRESSES = _Table(
    RTM_GETADDR,
    bytes([socket.AF_INET]).ljust(8, b"\0"),  # ifaddrmsg
    8,
    {IFA_ADDRESS: {}, IFA_LOCAL: {}},
    _host_address,
)
_ADDRESSES6 = _Table(
    RTM_GETADDR,
    bytes([socket.AF_INET6]).ljust(8, b"\0"),  # ifaddrmsg
    8,
    {IFA_ADDRESS: {}, IFA_LOCAL: {}},
    _host_address6,
)
_ROUTES = _Table(
    RTM_GETROUTE,
    bytes([socket.AF_INET]).ljust(12, b"\0"),  # rtmsg
    12,
    {RTA_OIF: {}, RTA_GATEWAY: {}, RTA_PRIORITY: {}, RTA_MULTIPATH: {}, RTA_TABLE: {}},
    _default_routes,
)


def _no_value(message: Message) -> tuple[Link, ...]:
    return ()


# ---- neighbours ----------------------------------------------------------------------------------------------------
# The kernel's neighbours when they become reachable: a reason to probe them, no evidence (core/addresses.py).
#
# The kernel uses more than ARP and NDP: progress of a TCP connection confirms a neighbour, too. Only the transition to
# reachable counts; stale entries prove nothing. Source: rtnetlink(7), include/uapi/linux/neighbour.h.

RTMGRP_NEIGH = 0x4
RTM_NEWNEIGH = 28
NUD_REACHABLE = 0x02
NUD_PERMANENT = 0x80
NTF_SELF, NTF_PROXY = 0x02, 0x08
NDA_DST, NDA_LLADDR = 1, 2
_LLADDR: _Wanted = {NDA_LLADDR: {}}
AF_BRIDGE = 7

MOST_CHILDREN = 1_024
"""Maximum macvlan and macvtap interfaces that are followed."""

MOST = 64
"""Maximum datagrams read in one turn of the loop."""

BACK_OFF = 5.0
"""Seconds before a failed socket is opened again."""

_MESSAGE = struct.Struct("=IHHII")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
"""ndmsg: family, ifindex, state, flags, type."""

_LENGTHS = {socket.AF_INET: 4, socket.AF_INET6: 16}

log = logging.getLogger(__name__)


class Neighbours:
    """Follower of the kernel's neighbours: `on_observations` gets those of any interface that become reachable."""

    def __init__(self, on_observations: Callable[[list[Observation]], None]) -> None:
        self._on_observations = on_observations

    async def run(self) -> None:
        """Follow until cancelled; errors of netlink are logged once. Exceptions of `on_observations` end this."""
        warned = False
        while True:
            broken = await self._follow()
            if not warned:
                log.warning("cannot follow the kernel's neighbours; trying again: %s", broken)
            warned = True
            await asyncio.sleep(BACK_OFF)

    async def _follow(self) -> OSError:
        """Follow until the socket fails; return the error."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[OSError] = loop.create_future()
        try:
            notifications = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            )
        except OSError as refused:
            return refused

        def read() -> None:
            try:
                observations = list(_observations(notifications))
            except OSError as broken:
                loop.remove_reader(notifications)
                ended.set_result(broken)
                return
            try:
                if observations:
                    self._on_observations(observations)
            except Exception as wrong:  # asyncio would only log it
                loop.remove_reader(notifications)
                ended.set_exception(wrong)

        with notifications:
            try:
                notifications.bind((0, RTMGRP_NEIGH))
            except OSError as refused:
                return refused
            loop.add_reader(notifications, read)
            try:
                return await ended
            finally:
                loop.remove_reader(notifications)


def _observations(notifications: socket.socket) -> Iterator[Observation]:
    for datagram in turns.waiting(
        notifications, 65_536, MOST
    ):  # a lost notification comes again at the next transition
        if datagram is not None and not datagram[1][0]:
            yield from decode(datagram[0], monotonic())


def decode(chunk: bytes, at: float) -> Iterator[Observation]:
    """Decode the neighbours in an rtnetlink datagram that became reachable. Never raises."""
    position = 0
    while position + _MESSAGE.size <= len(chunk):
        length, kind, *_ = _MESSAGE.unpack_from(chunk, position)
        if length < _MESSAGE.size:
            return
        message = chunk[position + _MESSAGE.size : position + length]
        position += (length + 3) & ~3
        if kind == RTM_NEWNEIGH and len(message) >= _NEIGHBOUR.size:
            family, interface, state, flags, _ = _NEIGHBOUR.unpack_from(message)
            if state != NUD_REACHABLE or flags & NTF_PROXY:
                continue
            attributes = dict(_all_attributes(message[_NEIGHBOUR.size :]))
            ip, mac = attributes.get(NDA_DST, b""), attributes.get(NDA_LLADDR, b"")
            if len(ip) == _LENGTHS.get(family) and len(mac) == 6 and is_station(Mac(mac)) and is_host(Ip(ip)):
                yield Observation(at, interface, Mac(mac), Ip(ip), Evidence.NEIGHBOUR)


def _all_attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ATTRIBUTE.size <= len(raw):
        length, kind = _ATTRIBUTE.unpack_from(raw, position)
        if length < _ATTRIBUTE.size:
            return
        yield kind, raw[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
