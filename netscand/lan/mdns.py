"""mDNS: the decoder of devices and their names, and the query for names (RFC 6762).

lan/name_lookup.py sends the query, and reads its answers.
"""

import secrets
from collections.abc import Sequence
from itertools import islice

from netscand.core.model import Evidence, Ip, Observation, is_link_local
from netscand.lan import dns
from netscand.lan.senders import Sender, is_host
from netscand.lan.text import clean_labels

PORT = 5353
GROUPS = {4: Ip(b"\xe0\0\0\xfb"), 16: Ip(b"\xff\x02" + bytes(13) + b"\xfb")}
"""Bytes of an address → multicast group."""

LOCAL = b"local"
FEW = 8
"""Maximum records about the sender's own address whose names are read."""

QUERIES_PER_FRAME = {4: 8, 16: 3}
"""Bytes of an address → queries in one frame (about 300 bytes). Avahi allows 512 for the queries and its answer."""

UNICAST_RESPONSE = 0x8000
"""Flag in the class of a question that requests a unicast answer (RFC 6762, 5.4)."""


def decode(raw: bytes, sender: Sender, *, from_port: int) -> tuple[Observation, ...]:
    """Decode a message (the payload of UDP); the caller has checked that no router forwarded it.

    A name counts only if its record has the address that the message came from. Records about other hosts, such as a
    reflector repeats, are ignored.
    """
    message = dns.read(raw)
    if message is None or message.flags & (dns.OPCODE | dns.RCODE) or not is_host(sender.ip):
        return ()
    if len(sender.ip) == 16 and not is_link_local(sender.ip):
        return ()
    name, goodbye = None, False
    if message.flags & dns.RESPONSE:
        if from_port != PORT:  # RFC 6762, section 6
            return ()
        name, goodbye = own_name(message, sender.ip)
    seen = Observation(
        sender.at, sender.interface, sender.mac, sender.ip, Evidence.MDNS, goodbye=goodbye, name=name,
        name_source="mdns" if name else None,
    )  # fmt: skip
    return (seen,)


def own_name(message: dns.Message, ip: bytes) -> tuple[str | None, bool]:
    """Return the name under `local` whose address is `ip`, without `local`; and whether it is withdrawn (TTL 0)."""
    kind = dns.A if len(ip) == 4 else dns.AAAA
    own = (
        record
        for record in (*message.answers, *message.additionals)
        if record.kind == kind and record.content == ip and record.klass & dns.CLASS == 1
    )
    for record in islice(own, FEW):
        labels = dns.labels(message.raw, record.name_at)
        if labels and len(labels) > 1 and labels[-1].lower() == LOCAL:
            name = clean_labels(labels[:-1])
            return (None, True) if not record.ttl else (name, False)
    return None, False


def query(ips: Sequence[Ip]) -> bytes:
    """Encode a query for the names of addresses of one family, at most QUERIES_PER_FRAME."""
    return dns.questions(secrets.randbits(16), [dns.reverse(ip) for ip in ips], dns.PTR, 1 | UNICAST_RESPONSE)
