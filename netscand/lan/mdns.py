"""mDNS: the decoder of devices with their names and services, and the query for names (RFC 6762, 6763).

lan/name_lookup.py sends the query, and reads its answers.
"""

import secrets
from collections.abc import Sequence
from itertools import islice

from netscand.core.model import Evidence, Ip, Observation, Service, is_link_local
from netscand.lan import dns
from netscand.lan.senders import Sender, is_host
from netscand.lan.text import clean_labels, clean_text

PORT = 5353
GROUPS = {4: Ip(b"\xe0\0\0\xfb"), 16: Ip(b"\xff\x02" + bytes(13) + b"\xfb")}
"""Bytes of an address → multicast group."""

LOCAL = b"local"
FEW = 8
"""Maximum records about the sender's own address whose names are read."""

MOST_SERVICES = 12
"""Maximum SRV records, and maximum TXT records, read of one message."""

MOST_OF_NAME = 6
"""Maximum labels of the name of a service or its host: they have four and two."""

MOST_ENTRIES, MOST_VALUES, LONGEST_VALUE = 32, 12, 64
"""Maximum entries read of one TXT record; maximum values kept of one message, and the bytes read of each."""

KEPT = frozenset([
    b"am", b"app", b"ca", b"ci", b"devicetype", b"dt", b"manufacturer", b"md", b"model", b"product", b"rp", b"rpmd",
    b"ty", b"type", b"vendor",
])  # fmt: skip
"""Keys of TXT records that are kept, in lower case: they indicate a kind. No key of a secret or a person."""

DEVICE_INFO = b"_device-info"
"""Service of macOS and Samba that has a TXT record only."""

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
    found: tuple[Service, ...] = ()
    if message.flags & dns.RESPONSE:
        if from_port != PORT:  # RFC 6762, section 6
            return ()
        name, goodbye = own_name(message, sender.ip)
        found = own_services(message, sender.ip)
    seen = Observation(
        sender.at, sender.interface, sender.mac, sender.ip, Evidence.MDNS, goodbye=goodbye, name=name,
        name_source="mdns" if name else None, services=found,
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


def own_services(message: dns.Message, ip: bytes) -> tuple[Service, ...]:
    """Return the services that run on the host with an address, by the SRV records that name it.

    A reflector or a sleep proxy sends the records of other hosts: those name another one, and are ignored. A record
    without SRV counts only of DEVICE_INFO, and only in a message about no other host.
    """
    records = (*message.answers, *message.additionals)
    wanted = [record for record in records if record.kind in (dns.SRV, dns.TXT) and record.ttl]
    if not wanted:
        return ()
    addresses = [record for record in records if record.kind in (dns.A, dns.AAAA)]
    own = {_name(message.raw, record.name_at) for record in addresses[:FEW] if record.content == ip} - {None}
    if not own:
        return ()
    alone = len(addresses) <= FEW and all(_name(message.raw, record.name_at) in own for record in addresses)
    types: dict[tuple[bytes, ...], str] = {}
    for record in islice((each for each in wanted if each.kind == dns.SRV), MOST_SERVICES):
        name = _name(message.raw, record.name_at)
        if name and (kind := _type(name)) and _name(message.raw, record.content_at + 6) in own:
            types[name] = kind
        else:
            alone = False
    texts: dict[tuple[bytes, ...], tuple[str, ...]] = {}
    room = MOST_VALUES
    for record in islice((each for each in wanted if each.kind == dns.TXT), MOST_SERVICES):
        name = _name(message.raw, record.name_at)
        if name in types or (name and alone and len(name) > 3 and name[-3] == DEVICE_INFO):
            texts[name] = _entries(record.content, room)
            room -= len(texts[name])
            types.setdefault(name, _type(name))
    return tuple(dict.fromkeys(Service(kind, texts.get(name, ())) for name, kind in types.items() if kind))


def _name(raw: bytes, position: int) -> tuple[bytes, ...] | None:
    found = dns.labels(raw, position, MOST_OF_NAME)
    return tuple(label.lower() for label in found) if found else None


def _type(name: tuple[bytes, ...]) -> str:
    """Return the type of a service by the name of its instance (RFC 6763, 4.1); "": it is none."""
    if len(name) < 4 or name[-1] != LOCAL or name[-2] not in (b"_tcp", b"_udp"):
        return ""
    label = name[-3]
    if label[:1] != b"_" or len(label) > 17 or not label.replace(b"-", b"").replace(b"_", b"").isalnum():
        return ""  # RFC 6335, 5.1: 15 letters; HomeWizard and others have `_` in them, or one more
    return f"{label.decode('ascii', 'replace')}.{name[-2].decode()}"


def _entries(content: bytes, most: int) -> tuple[str, ...]:
    """Return the entries of a TXT record that are kept, at most so many, sanitised (RFC 6763, 6)."""
    found: list[str] = []
    position = count = 0
    while position < len(content) and len(found) < most and count < MOST_ENTRIES:
        count += 1
        after = position + 1 + content[position]
        key, _, value = content[position + 1 : after].partition(b"=")
        if key.lower() in KEPT and (text := clean_text(value[:LONGEST_VALUE])):
            found.append(f"{key.decode().lower()}={text}")
        position = after
    return tuple(found)


def query(ips: Sequence[Ip]) -> bytes:
    """Encode a query for the names of addresses of one family, at most QUERIES_PER_FRAME."""
    return dns.questions(secrets.randbits(16), [dns.reverse(ip) for ip in ips], dns.PTR, 1 | UNICAST_RESPONSE)
