"""Events as the hub serves them: the bytes that the site published, with the site in them."""

from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, structs

from netscand import protocol, sites
from netscand.serve.encode import BEFORE
from netscand.serve.query import NOT_READABLE

FRONT = b'{"type":"event","cursor":"'

_event = msgspec.json.Decoder(protocol.Event).decode
AboutSite = sites.SnapshotBegan | sites.SnapshotEnded | sites.SiteUp | sites.SiteRemoved | protocol.Event
"""A message about the site itself."""

_about_site = msgspec.json.Decoder(AboutSite).decode
_device = msgspec.json.Decoder(protocol.Device).decode


class _Last(msgspec.Struct):
    """The parts of an event that a start needs."""

    type: Literal["event"]
    kind: str
    at: str
    network: str | None = None
    reason: str = ""
    device: protocol.Device | None = None


class LastValue(NamedTuple):
    """The last event of a subject: its device, decoded and as bytes, or its network."""

    kind: str
    at: str
    network: str | None
    reason: str
    device: protocol.Device | None
    text: bytes


_fields = msgspec.structs.fields(protocol.Device)
_Previous = msgspec.defstruct("_Previous", [(field.name, field.type | None, None) for field in _fields], kw_only=True)
"""Earlier values of fields of a device, each of the type that it has there: filters read them."""
_Parts = msgspec.defstruct("_Parts", [("previous", _Previous | None, None)])
_parts = msgspec.json.Decoder(_Parts).decode
_last = msgspec.json.Decoder(_Last).decode


class Unreadable(Exception):
    """A message whose content does not match its subject; the text says why."""


class Published(NamedTuple):
    """An event, decoded; its body for clients, as of serve/encode.py; and the bytes of its device."""

    event: protocol.Event
    body: bytes
    device: bytes | None


def about_site(data: bytes) -> AboutSite:
    """Return a message about the site itself. Raises Unreadable."""
    try:
        found: AboutSite = _about_site(data)
    except NOT_READABLE as wrong:
        raise Unreadable(str(wrong)) from None
    return found


def published(site: str, data: bytes) -> Published:
    """Return an event of a site. Raises Unreadable.

    Its bytes are passed on unchanged only if they are as we write them; otherwise a site could add a second `site` or
    `cursor`.
    """
    try:
        event = _event(data)
        _parts(data)
    except NOT_READABLE as wrong:
        raise Unreadable(str(wrong)) from None
    if event.site is not UNSET or event.state is not UNSET:
        raise Unreadable("site: a site publishes only its own devices")
    device = _encoded(event.device) if event.device is not None else None
    body = _spliced(site, data, device) if protocol.encode(event) == data else body_of(site, event)
    return Published(event, body, device)


def _encoded(device: protocol.Device) -> bytes:
    if device.site is not UNSET or device.status_at_site is not UNSET:
        raise Unreadable("device.site: a site publishes only its own devices")
    return protocol.encode(device)


def last_value(data: bytes) -> LastValue:
    """Return the last event of a subject. Raises Unreadable."""
    try:
        last = _last(data)
        _parts(data)
    except NOT_READABLE as wrong:
        raise Unreadable(str(wrong)) from None
    text = b"" if last.device is None else _encoded(last.device)
    return LastValue(last.kind, last.at, last.network, last.reason, last.device, text)


def device_of(data: bytes) -> protocol.Device:
    """Return a device of its JSON. Raises Unreadable."""
    try:
        return _device(data)
    except NOT_READABLE as wrong:
        raise Unreadable(str(wrong)) from None


def _spliced(site: str, data: bytes, device: bytes | None) -> bytes:
    """Return the body of an event that is written as ours are, with the site in it."""
    inner = data[data.index(b'",', len(FRONT)) + 2 : data.rindex(b',"sent_at":')]
    if device is not None:
        inner = inner.replace(b'"device":' + device, b'"device":' + with_site(site, device), 1)
    return b'{"site":"%b",%b}' % (site.encode(), inner)


def with_site(site: str, device: bytes) -> bytes:
    """Return the JSON of a device with its site."""
    return b'{"site":"%b",%b' % (site.encode(), device[1:].lstrip())


def body_of(site: str, event: protocol.Event) -> bytes:
    """Return the body of an event of a site, encoded again."""
    device = event.device if event.device is None else structs.replace(event.device, site=site)
    text = protocol.encode(structs.replace(event, cursor="", device=device, sent_at=None, site=UNSET))
    return b'{"site":"%b",%b' % (site.encode(), text[BEFORE:].replace(b',"sent_at":null', b"", 1))
