"""Events as the hub serves them: the bytes that the site published, with the site in them."""

import re
from typing import Literal, NamedTuple

import msgspec
from msgspec import structs

from netscand import protocol, sites
from netscand.serve.encode import BEFORE

FRONT = b'{"type":"event","cursor":"'
SENT = re.compile(rb',"sent_at":(?:null|"[^"]{0,40}")\}')

_event = msgspec.json.Decoder(protocol.Event).decode
_about_site = msgspec.json.Decoder(sites.SnapshotBegan | sites.SnapshotEnded | sites.SiteUp | protocol.Event).decode
_device = msgspec.json.Decoder(protocol.Device).decode


class _Last(msgspec.Struct):
    """The parts of an event that a start needs."""

    type: Literal["event"]
    kind: str
    at: str
    network: str | None = None
    reason: str = ""
    device: msgspec.Raw = msgspec.Raw()


class LastValue(NamedTuple):
    """The last event of a subject: its device, decoded and as bytes, or its network."""

    kind: str
    at: str
    network: str | None
    reason: str
    device: protocol.Device | None
    text: bytes


class _Parts(msgspec.Struct):
    device: msgspec.Raw = msgspec.Raw()


_parts = msgspec.json.Decoder(_Parts).decode
_last = msgspec.json.Decoder(_Last).decode


class Unreadable(Exception):
    """A message that is not what its subject says; the text says why."""


class Published(NamedTuple):
    """An event, decoded; its body for clients, as of serve/encode.py; and the bytes of its device."""

    event: protocol.Event
    body: bytes
    device: bytes | None


def about_site(data: bytes) -> "sites.SnapshotBegan | sites.SnapshotEnded | sites.SiteUp | protocol.Event":
    """Return a message about the site itself. Raises Unreadable."""
    try:
        found: sites.SnapshotBegan | sites.SnapshotEnded | sites.SiteUp | protocol.Event = _about_site(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as wrong:
        raise Unreadable(str(wrong)) from None
    return found


def published(site: str, data: bytes) -> Published:
    """Return an event of a site. Raises Unreadable."""
    try:
        event = _event(data)
        device = _parts(data).device if event.device is not None else None
    except (msgspec.MsgspecError, ValueError, RecursionError) as wrong:
        raise Unreadable(str(wrong)) from None
    raw = bytes(device) if device is not None else None
    return Published(event, _spliced(site, data, raw) or body_of(site, event), raw)


def last_value(data: bytes) -> LastValue:
    """Return the last event of a subject. Raises Unreadable."""
    try:
        last = _last(data)
        text = bytes(last.device)
        device = _device(text) if text and text != b"null" else None
    except (msgspec.MsgspecError, ValueError, RecursionError) as wrong:
        raise Unreadable(str(wrong)) from None
    return LastValue(last.kind, last.at, last.network, last.reason, device, text)


def device_of(data: bytes) -> protocol.Device:
    """Return a device of its JSON. Raises Unreadable."""
    try:
        return _device(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as wrong:
        raise Unreadable(str(wrong)) from None


def _spliced(site: str, data: bytes, device: bytes | None) -> bytes | None:
    """Return the body with the site in it, all else unchanged; None if the JSON is not written as ours is."""
    end = data.find(b'",', len(FRONT))
    sent = SENT.search(data, max(0, len(data) - 64))
    if not data.startswith(FRONT) or end < 0 or sent is None or sent.end() != len(data):
        return None
    inner = data[end + 2 : sent.start()]
    if device is not None:
        key = b'"device":'
        if key + device not in inner:
            return None
        inner = inner.replace(key + device, key + with_site(site, device), 1)
    return b'{"site":"%b",%b}' % (site.encode(), inner)


def with_site(site: str, device: bytes) -> bytes:
    """Return the JSON of a device with its site."""
    return b'{"site":"%b",%b' % (site.encode(), device[1:].lstrip())


def body_of(site: str, event: protocol.Event) -> bytes:
    """Return the body of an event of a site, encoded again."""
    device = event.device if event.device is None else structs.replace(event.device, site=site)
    text = protocol.encode(structs.replace(event, cursor="", device=device, sent_at=None, site=msgspec.UNSET))
    return b'{"site":"%b",%b' % (site.encode(), text[BEFORE:].replace(b',"sent_at":null', b"", 1))
