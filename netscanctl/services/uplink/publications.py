"""Messages for the log, made from the messages of the daemon's stream. Pure."""

from typing import NamedTuple

import msgspec
from msgspec import UNSET

from netscanctl.stream import Received
from netscand import protocol, sites
from netscand.protocol import Device, Event

WORDS: dict[str, object] = {"label": None, "notes": None, "tags": []}
"""What users wrote about a device, and its value where they wrote nothing."""


class Publication(NamedTuple):
    """One message."""

    subject: str
    payload: bytes
    key: str
    """What makes it the same message when it is sent again."""
    cursor: str | None
    """Cursor of the site after it; None within a snapshot."""
    previous: str | None
    """Cursor before it; None: it continues nothing."""
    is_event: bool = True
    restarts: bool = False
    """A snapshot begins: nothing before it counts any more."""


class Publications:
    """Makes the messages of one connection to the server, in order."""

    def __init__(self, site: str, *, words: bool, since: str | None = None) -> None:
        self._site = site
        self._words = words
        self._previous = since
        self._snapshot: str | None = None
        """Cursor of the snapshot that is being received."""
        self._first: protocol.InitialState | None = None

    def on_message(self, received: Received) -> list[Publication]:
        """Return what to publish for a message of the stream."""
        match received.message:
            case protocol.InitialState() as first:
                began = sites.SnapshotBegan(cursor=first.cursor, version=first.version, networks=first.networks)
                self._snapshot, self._first = first.cursor, first
                start = self._about_site(began, "began", None, None, restarts=True)
                return [start, *self._devices(first.devices, more=first.more)]
            case protocol.Devices() as part if self._snapshot is not None:
                return self._devices(part.devices, more=part.more)
            case protocol.Resumed() as resumed:
                self._snapshot, self._previous = None, resumed.cursor
                up = sites.SiteUp(cursor=resumed.cursor, version=resumed.version, networks=resumed.networks)
                return [self._about_site(up, "up", resumed.cursor, resumed.cursor)]
            case Event() as event:
                return [self._event(event, received.raw)]
        return []

    def _event(self, event: Event, raw: bytes) -> Publication:
        payload = raw if self._words else without_words(event, raw)
        previous, self._previous = self._previous, event.cursor
        return Publication(sites.subject(self._site, event), payload, event.cursor, event.cursor, previous)

    def _devices(self, devices: list[Device], *, more: bool) -> list[Publication]:
        cursor = self._snapshot
        assert cursor is not None
        found = []
        for device in devices:
            event = Event(cursor=cursor, kind="snapshot", at=device.status_since, device=device)
            payload = protocol.encode(event)
            if not self._words:
                payload = without_words(event, payload)
            subject = sites.subject(self._site, event)
            found.append(Publication(subject, payload, f"{cursor}-{device.mac}", None, None, is_event=False))
        if not more:
            self._snapshot, self._previous = None, cursor
            first = self._first
            assert first is not None
            ended = sites.SnapshotEnded(cursor=cursor, version=first.version, networks=tuple(first.networks))
            found.append(self._about_site(ended, "ended", cursor, None))
        return found

    def _about_site(
        self, message: protocol.Message, key: str, cursor: str | None, previous: str | None, *, restarts: bool = False
    ) -> Publication:
        where = cursor or self._snapshot
        return Publication(
            sites.site_subject(self._site), protocol.encode(message), f"{where}-{key}", cursor, previous,
            is_event=False, restarts=restarts,
        )  # fmt: skip


def without_words(event: Event, raw: bytes) -> bytes:
    """Return the JSON of an event without users' annotations; if it has none, the bytes are unchanged."""
    device, previous = event.device, event.previous
    if device is not None and any(getattr(device, word) for word in WORDS):
        device = msgspec.structs.replace(device, **WORDS)
    if previous is not None and any(previous.get(word) for word in WORDS):
        previous = {key: WORDS.get(key, value) for key, value in previous.items()}
    if event.person:
        previous = {key: value for key, value in (previous or {}).items() if key != "name"}
    elif device is event.device and previous is event.previous:
        return raw
    return protocol.encode(msgspec.structs.replace(event, device=device, previous=previous, person=UNSET))
