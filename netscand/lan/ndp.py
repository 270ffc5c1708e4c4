"""IPv6 neighbour discovery (RFC 4861): decoder, solicitations and echo requests. Pure."""

import struct

from netscand.core.model import ALL_NODES, Evidence, Ip, Mac, Observation, is_link_local
from netscand.lan.senders import NO_IP6, Sender, is_host, is_station

# ---- decoder -------------------------------------------------------------------------------------------------------
# Neighbour discovery (RFC 4861), and echo replies (RFC 4443).

ECHO_REPLY = 129
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, REDIRECT = range(133, 138)
SOURCE_ADDRESS, TARGET_ADDRESS = 1, 2
"""Options: link-layer address of the sender, and of the target."""

SOLICITED = 0x40
ECHO_ID = 0x6E73
"""Identifier of our echo requests; the BPF program accepts only replies to these."""

LINK_HOP_LIMIT = 255
"""Hop limit of packets that no router forwarded."""

OPTIONS_AT = {
    ROUTER_SOLICITATION: 8, ROUTER_ADVERTISEMENT: 16, NEIGHBOUR_SOLICITATION: 24, NEIGHBOUR_ADVERTISEMENT: 24,
    REDIRECT: 40,
}  # fmt: skip


def decode(message: bytes, sender: Sender, *, hop_limit: int, to: Ip) -> tuple[Observation, ...]:
    """Decode an ICMPv6 message that was sent to `to`."""
    if len(message) < 8:
        return ()
    kind = message[0]
    if kind == ECHO_REPLY:
        ours = message[4:6] == ECHO_ID.to_bytes(2) and is_link_local(sender.ip)
        return _seen(sender, sender.mac, sender.ip, solicited=True) if ours else ()
    start = OPTIONS_AT.get(kind)
    if start is None or hop_limit != LINK_HOP_LIMIT or message[1] or len(message) < start:
        return ()
    claimed = _options(message, start)
    if claimed is None:
        return ()
    if kind == NEIGHBOUR_ADVERTISEMENT:
        target = Ip(message[8:24])
        if not is_host(target) or not is_host(sender.ip):
            return ()
        solicited = bool(message[4] & SOLICITED)
        mac = claimed.get(TARGET_ADDRESS, sender.mac)
        return _seen(sender, mac, target, solicited=solicited, joining=not solicited and to[0] == 0xFF)
    if sender.ip == NO_IP6:
        # Duplicate address detection asks whether any host holds the target; it claims nothing yet (RFC 4862, 5.4.2).
        if kind == NEIGHBOUR_SOLICITATION and SOURCE_ADDRESS not in claimed and is_host(Ip(message[8:24])):
            return _seen(sender, sender.mac, None, joining=True)
        return _seen(sender, sender.mac, None) if kind == ROUTER_SOLICITATION else ()
    if not is_host(sender.ip) or (kind in (ROUTER_ADVERTISEMENT, REDIRECT) and not is_link_local(sender.ip)):
        return ()
    mac = sender.mac if kind == REDIRECT else claimed.get(SOURCE_ADDRESS, sender.mac)
    # A lifetime of 0: no longer a default router (RFC 4861, 6.2.5), or an advertisement of prefixes only.
    router = message[6:8] != b"\0\0" if kind == ROUTER_ADVERTISEMENT else None
    return _seen(sender, mac, sender.ip, router=router)


def _seen(
    sender: Sender,
    mac: Mac,
    ip: Ip | None,
    *,
    solicited: bool = False,
    joining: bool = False,
    router: bool | None = None,
) -> tuple[Observation, ...]:
    at, interface = sender.at, sender.interface
    if mac != sender.mac:  # another station speaks for it
        return (Observation(at, interface, mac, ip, Evidence.PROXIED, via=sender.mac),) if is_station(mac) else ()
    return (Observation(at, interface, mac, ip, Evidence.NDP, joining=joining, solicited=solicited, router=router),)


def _options(message: bytes, position: int) -> dict[int, Mac] | None:
    """Return option → link-layer address; None if the options are malformed (RFC 4861, 4.6).

    All are read, as hosts do; of a frame that is larger than a slot of the ring, those in the slot.
    """
    found: dict[int, Mac] = {}
    while position + 2 <= len(message):
        length = 8 * message[position + 1]
        if not length:
            return None
        if message[position] in (SOURCE_ADDRESS, TARGET_ADDRESS) and length == 8 and position + 8 <= len(message):
            found.setdefault(message[position], Mac(message[position + 2 : position + 8]))
        position += length
    return found


# ---- encoder -------------------------------------------------------------------------------------------------------
# Neighbour solicitations (RFC 4861, 4.3), and an echo request to all nodes (RFC 4443, 4.1).

ECHO_REQUEST = 128
ALL_NODES_MAC = bytes.fromhex("3333 0000 0001")
GROUP = bytes.fromhex("ff02 0000 0000 0000 0000 0001 ff")
"""Prefix of the solicited-node groups; the last three bytes are those of the target (RFC 4291, 2.7.1)."""

_ICMPV6 = 58


def solicitation(mac: Mac, own: Ip, target: Ip, to: Mac | None) -> bytes:
    """Return a solicitation for `target` from our `mac` and link-local `own`, to the MAC `to` or (None) its group."""
    group = GROUP + target[13:]
    ethernet = to or b"\x33\x33" + group[12:]
    body = struct.pack("!BBxxxxxx16sBB6s", NEIGHBOUR_SOLICITATION, 0, target, SOURCE_ADDRESS, 1, mac)
    return _frame(ethernet, mac, own, target if to else group, body, LINK_HOP_LIMIT)


def echo(mac: Mac, own: Ip) -> bytes:
    """Return an echo request to all nodes."""
    return _frame(ALL_NODES_MAC, mac, own, ALL_NODES, struct.pack("!BBxxHH", ECHO_REQUEST, 0, ECHO_ID, 1), 1)


def _frame(ethernet: bytes, mac: Mac, own: Ip, to: bytes, body: bytes, hop_limit: int) -> bytes:
    head = ethernet + mac + struct.pack("!HIHBB", 0x86DD, 6 << 28, len(body), _ICMPV6, hop_limit) + own + to
    return head + body[:2] + checksum(own + to + struct.pack("!II", len(body), _ICMPV6) + body) + body[4:]


def checksum(summed: bytes) -> bytes:
    """Return the Internet checksum (RFC 1071).

    A number and the sum of its sixteen-bit words are congruent modulo 2 ** 16 - 1.
    """
    return (0xFFFF - (int.from_bytes(summed) % 0xFFFF or 0xFFFF)).to_bytes(2)
