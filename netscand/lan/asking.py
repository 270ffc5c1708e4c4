"""Asking a device for its name: by mDNS (all hear the question, one answers), and by NBNS (RFC 6762, RFC 1002)."""

import asyncio
import secrets
import socket
import struct
from collections.abc import Callable
from typing import Any

from netscand.core.model import Ip, Network
from netscand.lan.heard import dns, mdns, nbns
from netscand.lan.heard.hosts import is_link_local
from netscand.lan.resolver import pointed_to, reverse

WAIT = 1.0
"""Seconds that a device has to answer."""

UNICAST_RESPONSE = 0x8000
"""In the class of a question: answer us alone (RFC 6762, 5.4)."""

NODE_STATUS = (b"CK" + b"A" * 30,)
"""`*` and fifteen zeros, first-level encoded: whoever you are (RFC 1002, 4.2.17)."""


async def by_mdns(network: Network, ip: Ip) -> str | None:
    """The name that the device at `ip` has under `local`, without the `local`; None where it does not say.

    Sends one multicast frame. Raises OSError where the interface refuses.
    """
    if len(ip) == 16 and (network.own6 is None or not is_link_local(ip)):
        return None
    asked = reverse(ip)
    question = dns.question(secrets.randbits(16), asked, dns.PTR, 1 | UNICAST_RESPONSE)
    index = network.index
    if len(ip) == 4:
        asking = _socket(network, socket.AF_INET, (socket.inet_ntoa(network.own), 0))
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=8xi", index))
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        to: Any = ("224.0.0.251", mdns.PORT)
    else:
        assert network.own6 is not None
        asking = _socket(network, socket.AF_INET6, (socket.inet_ntop(socket.AF_INET6, network.own6), 0, 0, index))
        asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        to = ("ff02::fb", mdns.PORT, 0, index)

    def understood(message: dns.Message) -> str | None:  # of any number: some answer with 0, as if to everybody
        name = pointed_to(message, asked)
        return name[: -len(".local")] if name and name.lower().endswith(".local") else None

    with asking:
        return await _answer(asking, question, to, ip, mdns.PORT, understood)


async def by_nbns(network: Network, ip: Ip) -> str | None:
    """The name that the device at `ip` has in NetBIOS; None where it does not say. Raises OSError."""
    if len(ip) != 4:
        return None
    number = secrets.randbits(16)
    question = dns.question(number, NODE_STATUS, dns.NBSTAT)
    asking = _socket(network, socket.AF_INET, (socket.inet_ntoa(network.own), 0))

    def understood(message: dns.Message) -> str | None:  # the number is repeated (RFC 1002, 4.2.1.1)
        return nbns.node_name(message) if message.id == number else None

    with asking:
        return await _answer(asking, question, (socket.inet_ntoa(ip), nbns.PORT), ip, nbns.PORT, understood)


def _socket(network: Network, family: int, own: Any) -> socket.socket:  # noqa: ANN401 an address
    """One that speaks on that interface alone, from our address there."""
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, network.interface.encode())
        made.bind(own)
    except OSError:
        made.close()
        raise
    return made


async def _answer(
    asking: socket.socket,
    question: bytes,
    to: Any,  # noqa: ANN401 an address
    ip: Ip,
    port: int,
    understood: Callable[[dns.Message], str | None],
) -> str | None:
    """What is understood of the first answer that comes from that address and port."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(asking, question, to)
    try:
        async with asyncio.timeout(WAIT):
            while True:
                raw, sender = await loop.sock_recvfrom(asking, 9000)
                host = sender[0].partition("%")[0]
                if socket.inet_pton(asking.family, host) != ip or sender[1] != port:
                    continue
                message = dns.read(raw)
                if message is not None and message.flags & dns.RESPONSE and (name := understood(message)):
                    return name
    except TimeoutError:
        return None
