"""rtnetlink: what the kernel knows of interfaces, addresses and default routes, and word of each change.

A plain AF_NETLINK socket, decoded by pyroute2: its own sockets run a loop of their own. State comes from dumps alone;
a notification only says that it is time for one. For the kernel tells not every change (the routes that go with a link
or an address go silently), and so an overrun (ENOBUFS) needs nothing special. A dump is cheap, because only messages
that differ from the last dump's are decoded. Source: rtnetlink(7), netlink(7).
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from socket import inet_aton
from typing import Any, Protocol, TypeVar

from netscand.core.model import Ip, Mac
from netscand.lan import lightly
from netscand.lan.networks import DefaultRoute, Holding, Kernel, Link

NETLINK_ROUTE = 0
GROUPS = 0x1 | 0x10 | 0x40
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE"""

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
IFLA_EXT_MASK, SKIP_STATISTICS = 29, 8
IFA_F_SECONDARY = 0x01
RT_TABLE_MAIN = 254
RTN_UNICAST = 1

ANSWER_WITHIN = 2.0
"""Seconds in which the kernel must go on with a dump."""

DUMPS = 5
"""Attempts at a dump while changes interrupt it."""

_HEAD = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port."""

_RECEIVE = 256 * 1024

Value = TypeVar("Value", Link, Holding, DefaultRoute)


class Message(Protocol):
    """What pyroute2 makes of one."""

    def __getitem__(self, name: str) -> int:
        """A field of the fixed part."""

    def get_attr(self, name: str) -> Any:  # noqa: ANN401 a number, text or nested attributes
        """An attribute; None where there is none."""


class Netlink:
    """Reads the kernel's state, and hears of its changes. Raises OSError."""

    def __init__(self, receive_buffer: int = 1 << 20) -> None:
        self._parse: Callable[[bytes], Iterator[Message]] = lightly.rtnetlink()().parse
        self._sequence = 0
        self._links: dict[bytes, Link | None] = {}
        self._holdings: dict[bytes, Holding | None] = {}
        self._routes: dict[bytes, DefaultRoute | None] = {}
        self._news = _socket(GROUPS)
        try:
            self._news.setblocking(False)
            self._news.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self._ask = _socket(0)
        except OSError:
            self._news.close()
            raise
        self._ask.settimeout(ANSWER_WITHIN)

    def fileno(self) -> int:
        """Readable when something changed."""
        return self._news.fileno()

    def changed(self) -> bool:
        """Take the news that waits; whether any of it may matter. An overrun does."""
        matters = False
        for _ in range(64):
            try:
                chunk, sender = self._news.recvfrom(_RECEIVE)
            except BlockingIOError:
                break
            except OSError as lost:
                if lost.errno != errno.ENOBUFS:
                    raise
                matters = True
                continue
            if sender[0] == 0:  # the kernel's own
                matters = matters or any(_matters(kind, message) for kind, _, message in _messages(chunk))
        return matters

    def read(self) -> Kernel:
        """The state of this moment."""
        links = bytes([socket.AF_UNSPEC]).ljust(16, b"\0") + struct.pack("=HHI", 8, IFLA_EXT_MASK, SKIP_STATISTICS)
        addresses = bytes([socket.AF_INET]).ljust(8, b"\0")
        routes = bytes([socket.AF_INET]).ljust(12, b"\0")
        self._links = self._decoded(self._links, RTM_GETLINK, links, _link)
        self._holdings = self._decoded(self._holdings, RTM_GETADDR, addresses, _holding)
        self._routes = self._decoded(self._routes, RTM_GETROUTE, routes, _default_route)
        return Kernel(
            tuple(filter(None, self._links.values())),
            tuple(filter(None, self._holdings.values())),
            tuple(filter(None, self._routes.values())),
        )

    def _decoded(
        self, known: dict[bytes, Value | None], kind: int, request: bytes, translate: Callable[[Message], Value | None]
    ) -> dict[bytes, Value | None]:
        """A dump, translated; what did not change is taken from `known`."""
        fresh: dict[bytes, Value | None] = {}
        for message in self._dump(kind, request):
            body = message[_HEAD.size :]
            fresh[body] = known[body] if body in known else translate(next(iter(self._parse(message))))
        return fresh

    def _dump(self, kind: int, request: bytes) -> list[bytes]:
        """The messages of a dump that no change interrupted, where that can be had."""
        messages: list[bytes] = []
        for _ in range(DUMPS):
            messages, whole = self._dump_once(kind, request)
            if whole:
                break
        return messages

    def _dump_once(self, kind: int, request: bytes) -> tuple[list[bytes], bool]:
        self._sequence += 1
        head = _HEAD.pack(_HEAD.size + len(request), kind, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0)
        self._ask.send(head + request)
        found: list[bytes] = []
        whole = True
        while True:
            for answer, flags, message in _messages(self._ask.recv(_RECEIVE)):
                if _HEAD.unpack_from(message)[3] != self._sequence:
                    continue  # the rest of a dump that timed out
                whole = whole and not flags & NLM_F_DUMP_INTR
                if answer == NLMSG_DONE:
                    return found, whole
                if answer == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", message, _HEAD.size)[0]
                    raise OSError(number, os.strerror(number))
                if _matters(answer, message):
                    found.append(message)

    def close(self) -> None:
        """Give both sockets back."""
        self._news.close()
        self._ask.close()


def _socket(groups: int) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    made.bind((0, groups))
    return made


def _messages(chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and bytes of each message in a datagram."""
    place = 0
    while place + _HEAD.size <= len(chunk):
        length, kind, flags, _, _ = _HEAD.unpack_from(chunk, place)
        if length < _HEAD.size:
            return
        yield kind, flags, chunk[place : place + length]
        place += (length + 3) & ~3


def _matters(kind: int, message: bytes) -> bool:
    """Everything, but of the routes (a router may have a million) only the default ones."""
    # rtmsg: family, destination's prefix length, …
    return kind not in (RTM_NEWROUTE, RTM_DELROUTE) or message[_HEAD.size + 1] == 0


def _link(message: Message) -> Link | None:
    mac = bytes.fromhex((message.get_attr("IFLA_ADDRESS") or "").replace(":", ""))
    described = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME") or "",
        flags=message["flags"],
        hardware=message["ifi_type"],
        mac=Mac(mac) if len(mac) == 6 else None,
        kind=(described.get_attr("IFLA_INFO_KIND") if described else None) or "",
        master=message.get_attr("IFLA_MASTER") or 0,
    )


def _holding(message: Message) -> Holding | None:
    prefix = message.get_attr("IFA_ADDRESS")
    own = message.get_attr("IFA_LOCAL") or prefix
    if not prefix:
        return None
    return Holding(
        index=message["index"],
        own=Ip(inet_aton(own)),
        cidr=IPv4Network((prefix, message["prefixlen"]), strict=False),
        peer=own != prefix,
        secondary=bool(message["flags"] & IFA_F_SECONDARY),
    )


def _default_route(message: Message) -> DefaultRoute | None:
    """One of the main table with a gateway on one interface; of several next hops, the first."""
    table = message.get_attr("RTA_TABLE") or message["table"]
    if table != RT_TABLE_MAIN or message["type"] != RTN_UNICAST:
        return None
    gateway, index = message.get_attr("RTA_GATEWAY"), message.get_attr("RTA_OIF")
    if not gateway or not index:
        return None
    return DefaultRoute(index, Ip(inet_aton(gateway)), message.get_attr("RTA_PRIORITY") or 0)
