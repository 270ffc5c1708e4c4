"""DHCPv4 decoder: joining clients with their addresses, names, vendor classes and wanted options; and servers.

Sources: RFC 2131 (messages), RFC 2132 (options), RFC 3396 (long options), RFC 4702 (option 81).
"""

import struct
from collections.abc import Iterator

from netscand.core.model import Evidence, Ip, Lease, Mac, Observation
from netscand.lan.dns import MOST_LABELS
from netscand.lan.senders import NO_IP, Sender, is_host, is_station
from netscand.lan.text import clean_bytes, clean_labels, clean_text

DISCOVER, REQUEST, ACK, RELEASE = 1, 3, 5, 7
"""Option 53."""

SUBNET_MASK, ROUTER, HOST_NAME, REQUESTED, LEASE_TIME, OVERLOAD, MESSAGE_TYPE, SERVER_ID = 1, 3, 12, 50, 51, 52, 53, 54
PARAMETERS, VENDOR_CLASS, CLIENT_ID, FQDN = 55, 60, 61, 81
READ = frozenset([
    SUBNET_MASK, ROUTER, HOST_NAME, REQUESTED, LEASE_TIME, OVERLOAD, MESSAGE_TYPE, SERVER_ID, PARAMETERS, VENDOR_CLASS,
    CLIENT_ID, FQDN,
])  # fmt: skip
PAD, END = 0, 255
FILE, SNAME = slice(108, 236), slice(44, 108)
"""Fields that hold more options if the first, or the second, bit of OVERLOAD is set."""

FQDN_ENCODED = 0x04
"""E bit of option 81: the name is encoded in labels, as in DNS."""

_FIXED = struct.Struct("!BBBx8x4s4s4x4s6s10x192x4s")
"""op, htype, hlen; ciaddr, yiaddr, giaddr, chaddr; cookie."""

OPTIONS_AT = _FIXED.size
"""Where the options begin, after the cookie."""

DUID_FOLLOWS, DUID_AT = b"\xff", 5
"""Type of a client identifier with a DUID, and where that begins (RFC 4361, 6.1)."""

MOST_OF_ID = MOST_PARAMETERS = 64
"""Maximum bytes of a client identifier, and maximum requested options, that are kept."""

COOKIE = bytes([99, 130, 83, 99])
_ETHERNET = (1, 6)
_CLIENT, _SERVER = 1, 2
"""BOOTREQUEST, BOOTREPLY"""


def decode(message: bytes, sender: Sender) -> tuple[Observation, ...]:
    """Decode a DHCP message (the payload of UDP) into observations of its client, its server, or both."""
    if len(message) < _FIXED.size:
        return ()
    op, htype, hlen, ciaddr, yiaddr, giaddr, chaddr, cookie = _FIXED.unpack_from(message)
    if cookie != COOKIE:
        return ()
    client = Mac(chaddr) if (htype, hlen) == _ETHERNET and is_station(Mac(chaddr)) else None
    options = _options(message)
    kind = options[MESSAGE_TYPE][:1]
    server = options.get(SERVER_ID, b"")[:4]
    served_by = Ip(server) if len(server) == 4 and is_host(Ip(server)) else None
    if op == _SERVER:  # of any type: clients differ in what they accept
        return _of_server(kind, client, Ip(yiaddr), served_by, options.get(LEASE_TIME, b""), sender)
    if op != _CLIENT or client is None or giaddr != NO_IP:  # a relay forwards for a client on another link
        return ()
    return _of_client(kind, client, Ip(ciaddr), served_by, options, sender)


def _of_client(
    kind: bytes, client: Mac, ciaddr: Ip, served_by: Ip | None, options: dict[int, bytes], sender: Sender
) -> tuple[Observation, ...]:
    if kind[0] not in (DISCOVER, REQUEST, 4, RELEASE, 8):  # 4: DECLINE, 8: INFORM
        return ()
    # A requested address is not held yet: INIT-REBOOT and SELECTING leave ciaddr empty. RENEWING and REBINDING fill it
    # in; they are no joining, and name no server (RFC 2131, 4.3.2).
    joining = kind[0] in (DISCOVER, REQUEST) and ciaddr == NO_IP
    leaving = kind[0] == RELEASE
    evidence = Evidence.DHCP if client == sender.mac else Evidence.PROXIED
    name = _name(options)
    accepted = served_by if joining and kind[0] == REQUEST else None
    wanted = options.get(REQUESTED, b"")
    seen = Observation(
        sender.at, sender.interface, client, ciaddr if is_host(ciaddr) and not leaving else None, evidence, joining,
        leaving, name, "dhcp" if name else None, accepted,
        vendor_class=clean_text(options.get(VENDOR_CLASS, b"")), via=None if client == sender.mac else sender.mac,
        client_id=_client_id(options, client), parameters=options.get(PARAMETERS, b"")[:MOST_PARAMETERS] or None,
        lease=Lease(accepted, Ip(wanted) if len(wanted) == 4 else None, None, sender.at) if accepted else None,
    )  # fmt: skip
    return (seen,)


def _of_server(
    kind: bytes, client: Mac | None, yiaddr: Ip, served_by: Ip | None, seconds: bytes, sender: Sender
) -> tuple[Observation, ...]:
    ip = sender.ip if is_host(sender.ip) else None
    at, interface = sender.at, sender.interface
    seen = Observation(at, interface, sender.mac, ip, Evidence.DHCP, dhcp_server=served_by or ip)
    if kind[0] == ACK and is_host(yiaddr) and client is not None and client != sender.mac:
        # Evidence from the server, not from the client: a reason to probe the client.
        server = served_by or ip
        lease = Lease(server, yiaddr, int.from_bytes(seconds) if len(seconds) == 4 else None, at) if server else None
        return seen, Observation(
            at, interface, client, yiaddr, Evidence.PROXIED, joining=True, via=sender.mac, lease=lease
        )
    return (seen,)


def subnet(message: bytes) -> tuple[Ip, Ip, Ip | None] | None:
    """Return the address, the mask and the router that a server assigns; None for anything else. Never raises."""
    if len(message) < _FIXED.size:
        return None
    op, _, _, _, yiaddr, _, _, cookie = _FIXED.unpack_from(message)
    options = _options(message) if op == _SERVER and cookie == COOKIE and is_host(Ip(yiaddr)) else {}
    mask, router = options.get(SUBNET_MASK, b""), options.get(ROUTER, b"")[:4]
    return (Ip(yiaddr), Ip(mask), Ip(router) if len(router) == 4 else None) if len(mask) == 4 else None


def _client_id(options: dict[int, bytes], client: Mac) -> bytes | None:
    """Return the client identifier (RFC 2132, 9.14), unless it is made of the MAC, or too long; of a DUID, only that.

    Before the DUID is a number of the interface, which some clients make of the MAC (RFC 4361, 6.1).
    """
    found = options.get(CLIENT_ID, b"")
    found = found[DUID_AT:] if found[:1] == DUID_FOLLOWS else found
    return found if 2 <= len(found) <= MOST_OF_ID and bytes(client) not in found else None


def _options(message: bytes) -> dict[int, bytes]:
    """Return the options by number; repeated ones are concatenated (RFC 3396).

    All of them are read, as clients do: no server hides behind fillers, or in another field.
    """
    options: dict[int, bytes] = {}
    for number, start, end in spots(message):
        if start < end and number in READ:  # an empty option says nothing
            options[number] = options.get(number, b"") + message[start:end]
    if not options.get(MESSAGE_TYPE):
        options[MESSAGE_TYPE] = b"\0"
    return options


def spots(message: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each option of a message: its number, and where its value begins and ends. Never raises."""
    overload = b""
    for number, start, end in _spots(message, OPTIONS_AT, len(message)):
        if number == OVERLOAD:
            overload += message[start:end]
        yield number, start, end
    for bit, field in ((1, FILE), (2, SNAME)):
        if overload and overload[0] & bit:
            yield from _spots(message, field.start, field.stop)


def _spots(message: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    while position + 1 < end:
        number = message[position]
        if number == PAD:
            position += 1
            continue
        after = position + 2 + message[position + 1]
        if number == END or after > end:
            break
        yield number, position + 2, after
        position = after


def _name(options: dict[int, bytes]) -> str | None:
    """Return the name of option 12, else of option 81 (three bytes of flags, then the name)."""
    if name := clean_bytes(options.get(HOST_NAME, b"")):
        return name
    flags, fqdn = options.get(FQDN, b"")[:1], options.get(FQDN, b"")[3:]
    # Some clients set the flag and send plain text, or the reverse; a plain name begins with no control character.
    is_encoded = bool(flags and flags[0] & FQDN_ENCODED) or fqdn[:1] < b" "
    return (clean_labels(_labels(fqdn)) if is_encoded else None) or clean_bytes(fqdn)


def _labels(encoded: bytes) -> list[bytes]:
    """Return the labels of a name as DNS encodes it, up to the first one that does not fit. Compression is not allowed.

    Source: RFC 4702, section 2.3.1.
    """
    labels: list[bytes] = []
    position = 0
    while position < len(encoded) and 0 < encoded[position] < 64 and len(labels) < MOST_LABELS:
        after = position + 1 + encoded[position]
        if after > len(encoded):
            break
        labels.append(encoded[position + 1 : after])
        position = after
    return labels
