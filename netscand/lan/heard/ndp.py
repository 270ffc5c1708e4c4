"""Neighbour discovery of IPv6 (RFC 4861), and who answers an echo that all nodes were asked for (RFC 4443)."""

from netscand.core.model import Evidence, Ip, Mac, Observation, is_link_local
from netscand.lan.heard.hosts import NO_IP6, Sender, is_host, is_station

ECHO_REPLY = 129
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT, REDIRECT = range(133, 138)
SOURCE_ADDRESS, TARGET_ADDRESS = 1, 2
"""Options: the sender's, or the target's, link-layer address."""

SOLICITED = 0x40
ECHO_ID = 0x6E73
"""The identifier of the echoes that we send (lan/solicit.py): the kernel gives us answers to these alone."""

MOST_OPTIONS = 32
"""Options of one message that are read; a router's advertisement has ten."""

UNPASSED = 255
"""The hop limit of what no router passed on."""

_OPTIONS_AT = {
    ROUTER_SOLICITATION: 8, ROUTER_ADVERTISEMENT: 16, NEIGHBOUR_SOLICITATION: 24, NEIGHBOUR_ADVERTISEMENT: 24,
    REDIRECT: 40,
}  # fmt: skip


def decode(message: bytes, sender: Sender, *, hop_limit: int, to: Ip) -> tuple[Observation, ...]:
    """What an ICMPv6 message says of its sender, `to` being whom it was sent to."""
    if len(message) < 8:
        return ()
    kind = message[0]
    if kind == ECHO_REPLY:
        ours = message[4:6] == ECHO_ID.to_bytes(2) and is_link_local(sender.ip)
        return _seen(sender, sender.mac, sender.ip, solicited=True) if ours else ()
    start = _OPTIONS_AT.get(kind)
    if start is None or hop_limit != UNPASSED or message[1] or len(message) < start:
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
        # Duplicate address detection asks whether anyone holds the target: it claims nothing yet (RFC 4862, 5.4.2).
        if kind == NEIGHBOUR_SOLICITATION and SOURCE_ADDRESS not in claimed and is_host(Ip(message[8:24])):
            return _seen(sender, sender.mac, None, joining=True)
        return _seen(sender, sender.mac, None) if kind == ROUTER_SOLICITATION else ()
    if not is_host(sender.ip) or (kind in (ROUTER_ADVERTISEMENT, REDIRECT) and not is_link_local(sender.ip)):
        return ()
    mac = sender.mac if kind == REDIRECT else claimed.get(SOURCE_ADDRESS, sender.mac)
    # A lifetime of 0 takes the word back (RFC 4861, 6.2.5), or only tells prefixes.
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


def _options(message: bytes, place: int) -> dict[int, Mac] | None:
    """Return the link-layer addresses in the options, by option; None where they are broken (RFC 4861, 4.6)."""
    found: dict[int, Mac] = {}
    for _ in range(MOST_OPTIONS):
        if place >= len(message):
            break
        if place + 2 > len(message):
            return None
        length = 8 * message[place + 1]
        if not length or place + length > len(message):
            return None
        if message[place] in (SOURCE_ADDRESS, TARGET_ADDRESS) and length == 8:
            found.setdefault(message[place], Mac(message[place + 2 : place + 8]))
        place += length
    return found
