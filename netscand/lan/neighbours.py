"""The kernel's own neighbours, as it finds them reachable: a reason to probe them, no evidence (core/candidates.py).

It knows by more than ARP and NDP: a TCP connection that goes forward proves its neighbour alive. Only the moment in
which one becomes reachable counts; what is stale proves nothing. Source: rtnetlink(7), include/uapi/linux/neighbour.h.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from time import monotonic

from netscand.core.model import Evidence, Ip, Mac, Observation
from netscand.lan import turns
from netscand.lan.heard.hosts import is_host, is_station

RTMGRP_NEIGH = 0x4
RTM_NEWNEIGH = 28
NUD_REACHABLE = 0x02
NTF_PROXY = 0x08
NDA_DST, NDA_LLADDR = 1, 2

MOST = 64
"""Datagrams read in one turn of the loop."""

AGAIN_AFTER = 5.0
"""Seconds before a socket that broke is made anew."""

_MESSAGE = struct.Struct("=IHHII")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
"""ndmsg: family, ifindex, state, flags, type."""

_ATTRIBUTE = struct.Struct("=HH")
_LENGTHS = {socket.AF_INET: 4, socket.AF_INET6: 16}

log = logging.getLogger(__name__)


class Neighbours:
    """Tells `hear` of each neighbour, of any interface, that becomes reachable."""

    def __init__(self, hear: Callable[[list[Observation]], None]) -> None:
        self._hear = hear

    async def run(self) -> None:
        """Follow until cancelled. Without the kernel's word we hear less, and go on; what `hear` raises ends this."""
        told = False
        while True:
            broken = await self._follow()
            if not told:
                log.warning("cannot follow the kernel's neighbours, trying again: %s", broken)
            told = True
            await asyncio.sleep(AGAIN_AFTER)

    async def _follow(self) -> OSError:
        """Until the socket breaks; why."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[OSError] = loop.create_future()
        try:
            news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        except OSError as refused:
            return refused

        def read() -> None:
            try:
                heard = list(_heard(news))
            except OSError as broken:
                loop.remove_reader(news)
                ended.set_result(broken)
                return
            try:
                if heard:
                    self._hear(heard)
            except Exception as wrong:  # from here it would only be logged
                loop.remove_reader(news)
                ended.set_exception(wrong)

        with news:
            try:
                news.bind((0, RTMGRP_NEIGH))
            except OSError as refused:
                return refused
            loop.add_reader(news, read)
            try:
                return await ended
            finally:
                loop.remove_reader(news)


def _heard(news: socket.socket) -> Iterator[Observation]:
    for datagram in turns.waiting(news, 65_536, MOST):  # what was lost is said again when it next becomes reachable
        if datagram is not None and not datagram[1][0]:
            yield from decode(datagram[0], monotonic())


def decode(chunk: bytes, at: float) -> Iterator[Observation]:
    """Decode the neighbours of a rtnetlink datagram that became reachable: total over all bytes."""
    place = 0
    while place + _MESSAGE.size <= len(chunk):
        length, kind, *_ = _MESSAGE.unpack_from(chunk, place)
        if length < _MESSAGE.size:
            return
        message = chunk[place + _MESSAGE.size : place + length]
        place += (length + 3) & ~3
        if kind == RTM_NEWNEIGH and len(message) >= _NEIGHBOUR.size:
            family, interface, state, flags, _ = _NEIGHBOUR.unpack_from(message)
            if state != NUD_REACHABLE or flags & NTF_PROXY:
                continue
            attributes = dict(_attributes(message[_NEIGHBOUR.size :]))
            ip, mac = attributes.get(NDA_DST, b""), attributes.get(NDA_LLADDR, b"")
            if len(ip) == _LENGTHS.get(family) and len(mac) == 6 and is_station(Mac(mac)) and is_host(Ip(ip)):
                yield Observation(at, interface, Mac(mac), Ip(ip), Evidence.NEIGHBOUR)


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + _ATTRIBUTE.size <= len(raw):
        length, kind = _ATTRIBUTE.unpack_from(raw, place)
        if length < _ATTRIBUTE.size:
            return
        yield kind, raw[place + _ATTRIBUTE.size : place + length]
        place += (length + 3) & ~3
