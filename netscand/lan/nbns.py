"""NBNS: the decoder of names registered, refreshed and released by broadcast, and the query (RFC 1002, section 4.2).

lan/name_lookup.py sends the query, and reads its answers.
"""

import secrets

from netscand.core.model import Evidence, Observation
from netscand.lan import dns
from netscand.lan.senders import Sender, is_host
from netscand.lan.text import clean_name
from netscand.lan.text import decode as decode_text

PORT = 137
REGISTRATION, RELEASE, REFRESH, REFRESH_TOO = 0x2800, 0x3000, 0x4000, 0x4800
"""Opcodes; RFC 1002 gives both numbers for a refresh, in different sections."""

OPCODE = 0x7800
GROUP = 0x80
"""Flag in the first byte of an NB record: the name of a group of hosts, such as a workgroup."""

MOST_NAMES = 32
"""Maximum names read of a node; Windows has three to ten."""

HOST_SUFFIXES = (0x00, 0x20)
"""The sixteenth byte of a host's own name: workstation, file server."""

NODE_STATUS = (b"CK" + b"A" * 30,)
"""`*` and fifteen zeros, first-level encoded: any node (RFC 1002, 4.2.17)."""


def decode(raw: bytes, sender: Sender) -> tuple[Observation, ...]:
    """Decode a message (the payload of UDP). A name counts only if its record has the sender's address."""
    message = dns.read(raw)
    if message is None or not is_host(sender.ip) or not (message.questions or message.answers):
        return ()
    name, goodbye = None, False
    opcode = message.flags & OPCODE
    if opcode in (REGISTRATION, RELEASE, REFRESH, REFRESH_TOO) and not message.flags & dns.RESPONSE:
        for record in message.additionals:
            if record.kind == dns.NB and record.content[2:6] == sender.ip and not record.content[0] & GROUP:
                labels = dns.labels(raw, record.name_at)
                name = host_name(plain(labels[0])) if labels else None
                break
        if opcode == RELEASE:
            name, goodbye = None, name is not None
    seen = Observation(
        sender.at, sender.interface, sender.mac, sender.ip, Evidence.NBNS, goodbye=goodbye, name=name,
        name_source="nbns" if name else None,
    )  # fmt: skip
    return (seen,)


def plain(label: bytes) -> bytes | None:
    """Decode a first-level encoded label into sixteen bytes (RFC 1001, 14.1); None if it is malformed."""
    if len(label) != 32 or not all(0x41 <= letter <= 0x50 for letter in label):
        return None
    return bytes((label[n] - 0x41) << 4 | label[n + 1] - 0x41 for n in range(0, 32, 2))


def host_name(name: bytes | None) -> str | None:
    """Return the host name in a NetBIOS name (fifteen characters and a suffix); None if it is not a host's."""
    if name is None or len(name) != 16 or name[15] not in HOST_SUFFIXES or name[0] in b"*\x01\x00 ":
        return None
    return clean_name(decode_text(name[:15].rstrip(b" \0"), oem=True))


def query() -> bytes:
    """Encode a query for the names of the node that receives it (RFC 1002, 4.2.17)."""
    return dns.questions(secrets.randbits(16), [NODE_STATUS], dns.NBSTAT)


def node_name(message: dns.Message) -> str | None:
    """Return the first host name in a node status response (RFC 1002, 4.2.18)."""
    content = next((record.content for record in message.answers if record.kind == dns.NBSTAT), b"")
    count = min(content[0], (len(content) - 1) // 18, MOST_NAMES) if content else 0
    names = (content[position : position + 18] for position in range(1, 1 + 18 * count, 18))
    own = (host_name(name[:16]) for name in names if not name[16] & GROUP)
    return next((name for name in own if name), None)
