"""All sites: their devices, networks and conditions, from the messages of the log. Pure: no clock, no I/O.

A message changes the view, and then is published (law 2: the log has stored it). Each event of the log is one event of
the hub, with the log's number as its cursor, so that every hub publishes the same. What the hub itself notices, that a
site is silent, has the cursor of the last message; who resumes gets the condition of every site.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType, structs

from netscand import protocol, sites
from netscand.core.model import Mac
from netscand.hub.connection import Message
from netscand.hub.published import (
    LastValue,
    Published,
    Unreadable,
    about_site,
    body_of,
    device_of,
    last_value,
    published,
    with_site,
)
from netscand.hub.site import ANSWER, PATIENCE, Site, SiteDevice, position_of
from netscand.serve.query import NOT_READABLE

CURSOR, PREVIOUS, ACKNOWLEDGED, SNAPSHOT, INSTANCE, PROTOCOL, SOURCE = (
    name.encode()
    for name in (
        sites.CURSOR_HEADER, sites.PREVIOUS, sites.ACKNOWLEDGED, sites.SNAPSHOT, sites.INSTANCE, sites.PROTOCOL,
        sites.SOURCE,
    )
)  # fmt: skip


MAC_BYTES = 6
SKIPPED = 100_000
"""Maximum numbers of messages that are remembered as skipped."""


class Change(NamedTuple):
    """What clients get of a message: as `serve/hub.py` takes it."""

    kind: str
    body: bytes
    device: SiteDevice | None = None
    previous: object = None
    seen_at: float | None = None


class Counts:
    """Numbers of what was read."""

    def __init__(self) -> None:
        self.read = 0
        self.repeated = 0
        self.unreadable = 0


def key_of(site: str, mac: bytes) -> Mac:
    """Return the key of a device."""
    return Mac(b"%b/%b" % (site.encode(), mac))


class View:
    """All sites. `time` returns a monotonic time as text; `on_unreadable` gets site and bytes of such a message."""

    def __init__(self, time: Callable[[float], str], on_unreadable: Callable[[str, Message, str], None]) -> None:
        self.devices: dict[Mac, SiteDevice] = {}
        self.sites: dict[str, Site] = {}
        self.counts = Counts()
        self.skipped: set[int] = set()
        """Numbers of messages of the log that were not the next ones of their sites."""
        self.lost: dict[str, bytes] = {}
        """Subjects of devices whose last message a start could not read → the snapshot of that message."""
        self.replaced: dict[str, int] = {}
        """Sites whose last values were read because events are missing → number of the log at that time."""
        self._time = time
        self._on_unreadable = on_unreadable

    def emptied(self) -> "View":
        """Return a view that has nothing but the condition of the sites: to read the log again, or another one."""
        fresh = View(self._time, self._on_unreadable)
        fresh.counts = self.counts
        for name, old in self.sites.items():
            site = fresh.site(name, old.known_since)
            for field in (
                "state", "received_at", "connected_since", "alive", "clock_offset", "instance", "version", "owner",
                "added_at",
            ):  # fmt: skip
                setattr(site, field, getattr(old, field))
        return fresh

    def become(self, fresh: "View") -> None:
        """Take everything from another view at once: no client sees a list that is read in part."""
        self.devices, self.sites, self.skipped, self.lost = fresh.devices, fresh.sites, fresh.skipped, fresh.lost
        self.replaced = fresh.replaced

    def site(self, name: str, now: float) -> Site:
        """Return a site, known from now on."""
        found = self.sites.get(name)
        if found is None:
            found = self.sites[name] = Site(name, now)
        return found

    # ---- what is missing

    def _replace_network(self, site: Site, found: Published) -> list[Change]:
        """Take the last event of a network, which sets devices to `unknown` without an event for each."""
        networks, name = site.networks, found.event.network or ""
        before = networks[name].state if name in networks else ""
        affected = tuple(site.on_network(found.event))
        for device in affected:
            self._set_status(device, found.event)
        changed = affected or (name in networks and networks[name].state != before)
        return [Change(found.event.kind, found.body)] if changed else []

    def overdue(self, now: float) -> list[Site]:
        """Return the sites whose events have been missing for too long."""
        return [
            site
            for site in self.sites.values()
            if site.missing_since is not None
            and now - (site.missing_since if site.requested_at is None else site.requested_at)
            > (PATIENCE if site.requested_at is None else ANSWER)
        ]

    def replace_last(self, message: Message, now: float) -> list[Change]:
        """Take the last message of a subject of a site whose events are missing; return what clients get."""
        _, _, name, what, *_ = message.subject.split(".")
        site, snapshot = self.sites.get(name), message.headers.get(SNAPSHOT, b"")
        if site is None or what == "site" or snapshot != site.snapshot:
            return []
        try:
            found = published(name, message.data)
            if what == "network":
                return self._replace_network(site, found)
            if found.event.device is None or found.event.kind == "forgotten":
                return self._take(site, found, snapshot)
            shown = structs.replace(found.event, kind="snapshot", previous=None)
            return self._take(site, found._replace(event=shown, body=body_of(name, shown)), snapshot)
        except Unreadable:
            return []

    # ---- the start: the last message of each subject, in the order of the log

    def restore(self, message: Message, now: float) -> None:
        """Take the last message of a subject. A start takes 100,000 of them, so nothing is made for clients."""
        _, _, name, what, *_ = message.subject.split(".")
        headers = message.headers
        site = self.sites.get(name) or self.site(name, now)
        self.counts.read += 1
        snapshot, cursor = headers.get(SNAPSHOT, b""), headers.get(CURSOR)
        if snapshot != site.snapshot:  # messages of earlier ones are before it
            site.snapshot, site.in_snapshot = snapshot, True
        if cursor is not None:
            site.in_snapshot = False
            if site.cursor is None or not is_before(cursor, site.cursor):
                site.cursor = cursor
            certain = headers.get(ACKNOWLEDGED)
            site.certain = None if certain == cursor or certain == headers.get(PREVIOUS) else certain
        site.newest = headers
        try:
            if what == "site":
                content = about_site(message.data)
                if isinstance(content, sites.SiteRemoved):
                    self._remove_site(site, message.stamp, now)
                else:
                    self._about_site(site, content)
                return
            last = last_value(message.data)
            if last.device is not None:
                self._restore_device(site, last, snapshot)
            elif what == "network":
                for device in tuple(site.on_network(last)):
                    self._set_status(device, last)
        except Unreadable:
            self._count_unreadable(site)
            if what == "device":
                self.lost[message.subject] = snapshot

    def restore_earlier(self, message: Message) -> None:
        """Take an earlier message of a device whose last one cannot be read: the last good one counts."""
        site = self.sites.get(message.subject.split(".")[2])
        with suppress(Unreadable):
            last = last_value(message.data)
            if last.device is not None and site is not None:
                self._restore_device(site, last, self.lost[message.subject])

    def _restore_device(self, site: Site, last: LastValue, snapshot: bytes) -> None:
        assert last.device is not None
        key = key_of(site.name, mac_of(last.device.mac))
        device = self.devices.get(key)
        if device is not None:
            site.count(device, -1)
        if last.kind == "forgotten":
            if device is not None:
                del self.devices[key], site.devices[key]
            return
        if device is None:
            device = self.devices[key] = site.devices[key] = SiteDevice(site, key, snapshot)
        device.snapshot = snapshot
        self._set(device, last.text, last.device)

    def restored(self) -> None:
        """Remove the devices that the last snapshot of their site does not have."""
        for site in self.sites.values():
            site.instance = site.newest.get(INSTANCE, b"").decode(errors="replace") or site.instance
            site.protocol = site.newest.get(PROTOCOL, b"1").decode(errors="replace")
            if not site.in_snapshot:
                list(self._removed(site))
            else:
                site.cursor = None

    # ---- the log

    def apply(self, message: Message, now: float) -> list[Change]:
        """Take the next message of the log; return what clients get."""
        _, _, name, what, *_ = message.subject.split(".")
        site, headers = self.site(name, now), message.headers
        self.counts.read += 1
        site.number = message.sequence
        cursor, snapshot = headers.get(CURSOR), headers.get(SNAPSHOT, b"")
        site.protocol = headers.get(PROTOCOL, b"1").decode(errors="replace")
        changes = self._receive(site, now, headers.get(INSTANCE, b"").decode(errors="replace") or None)
        try:
            if what == "site":
                return changes + self._on_site_message(site, message, now)
            if not site.continues(cursor, headers.get(PREVIOUS), now):
                self._skip(message)
                return changes
            return changes + self._take(site, published(name, message.data), snapshot or site.snapshot)
        except Unreadable as wrong:
            self._count_unreadable(site)
            self._on_unreadable(name, message, str(wrong))
            self._keep_last(site, message.subject, snapshot)
            return changes

    def _keep_last(self, site: Site, subject: str, snapshot: bytes) -> None:
        """Keep the last good state of a device, also at the end of a snapshot whose message of it cannot be read."""
        what, _, mac = subject.rpartition(".")
        with suppress(ValueError):
            device = self.devices.get(key_of(site.name, bytes.fromhex(mac))) if what.endswith(".device") else None
            if device is not None and snapshot:
                device.snapshot = snapshot

    def _skip(self, message: Message) -> None:
        self.counts.repeated += 1
        self.skipped.add(message.sequence)
        if len(self.skipped) > SKIPPED:
            self.skipped = {number for number in self.skipped if number > message.sequence - SKIPPED}

    def _on_site_message(self, site: Site, message: Message, now: float) -> list[Change]:
        headers = message.headers
        cursor = headers.get(CURSOR)
        content = about_site(message.data)
        if isinstance(content, protocol.Event):
            if not site.continues(cursor, headers.get(PREVIOUS), now):
                self._skip(message)
                return []
            return self._take(site, published(site.name, message.data), site.snapshot)
        if isinstance(content, sites.SiteRemoved):
            return self._remove_site(site, message.stamp, now)
        self._about_site(site, content)
        if isinstance(content, sites.SnapshotBegan):
            site.snapshot, site.in_snapshot = headers.get(SNAPSHOT, content.cursor.encode()), True
        elif isinstance(content, sites.SnapshotEnded):
            removed = list(self._removed(site)) if site.in_snapshot else []
            site.in_snapshot, site.gap = False, None
            site.move(content.cursor.encode())
            return [*removed, Change("site_snapshot", end_of_snapshot(site.name, message.stamp))]
        elif site.cursor is None and cursor is not None and not site.in_snapshot:
            site.move(cursor)
        else:
            site.compare(content.cursor, now)
        return []

    def _about_site(self, site: Site, content: protocol.Message) -> None:
        if isinstance(content, protocol.Event):
            return
        assert isinstance(content, sites.SnapshotBegan | sites.SnapshotEnded | sites.SiteUp)
        if content.version:
            site.version = content.version
            site.set_networks(content.networks)

    def _take(self, site: Site, found: Published, snapshot: bytes) -> list[Change]:
        """Apply an event."""
        event = found.event
        for affected in tuple(site.on_network(event)):
            self._set_status(affected, event)
        if event.device is None or found.device is None:
            return [Change(event.kind, found.body)]
        key = key_of(site.name, mac_of(event.device.mac))
        device = self.devices.get(key)
        if event.kind == "forgotten":
            if device is not None:
                self._remove(device)
            return [Change(event.kind, found.body, device or SiteDevice(site, key, snapshot))]
        if device is None:
            device = self.devices[key] = site.devices[key] = SiteDevice(site, key, snapshot)
            site.gone.pop(key, None)
        else:
            site.count(device, -1)
        is_same = event.kind == "snapshot" and device.text == found.device
        device.snapshot = snapshot
        self._set(device, found.device, event.device)
        # A snapshot repeats what clients have.
        return [] if is_same else [Change(event.kind, found.body, device, event.previous)]

    def _set(self, device: SiteDevice, text: bytes, content: protocol.Device) -> None:
        device.text, device.status = text, content.status
        device.is_self = "self" in content.kinds
        device.networks = tuple({address.network: None for address in content.addresses})
        device.site.count(device, 1)

    def _set_status(self, device: SiteDevice, event: protocol.Event | LastValue) -> None:
        content = device_of(device.text)
        content.status = "online" if device.is_self and event.kind == "network_up" else "unknown"
        content.status_since, content.reason = event.at, event.reason
        device.site.count(device, -1)
        self._set(device, protocol.encode(content), content)

    def _removed(self, site: Site) -> Iterator[Change]:
        """Remove the devices that are not of the site's last snapshot; yield the event of each."""
        for gone in [each for each in site.devices.values() if each.snapshot != site.snapshot]:
            change = self._forget(gone, "not in the snapshot of its site")
            site.gone[gone.key] = site.snapshot, change.body
            yield change

    def _remove_site(self, site: Site, stamp: int, now: float) -> list[Change]:
        """Remove a site, unless it was added again since; return the events of its devices, and its own."""
        del self.sites[site.name]
        gone = [self._forget(device, "its site was removed from the hub") for device in tuple(site.devices.values())]
        if site.added_at > stamp:
            fresh = self.site(site.name, now)
            fresh.owner, fresh.added_at = site.owner, site.added_at
        return [*gone, Change("site_removed", self.end_of_site(site.name, stamp, now))]

    def end_of_site(self, name: str, stamp: int, now: float) -> bytes:
        """Return the body of the event for a site that was removed; with the site, if it was added again since."""
        again = self.sites.get(name)
        return _at_site(
            name, stamp, "site_removed", "the site was removed from the hub",
            state=UNSET if again is None else again.shown_as(now, self._time),
        )  # fmt: skip

    def _forget(self, gone: SiteDevice, reason: str) -> Change:
        self._remove(gone)
        content = device_of(gone.text)
        event = protocol.Event(cursor="", kind="forgotten", at=content.last_seen, device=content, reason=reason)
        return Change("forgotten", body_of(gone.site.name, event), gone)

    def _remove(self, device: SiteDevice) -> None:
        del self.devices[device.key], device.site.devices[device.key]
        device.site.count(device, -1)

    def _count_unreadable(self, site: Site) -> None:
        site.unreadable += 1
        self.counts.unreadable += 1

    # ---- conditions of the sites

    def on_alive(self, name: str, data: bytes, now: float, unix: float) -> list[Change]:
        """Take a sign of life; `unix` is the time by the hub's clock."""
        try:
            alive = msgspec.json.decode(data, type=sites.Alive)
            offset = _unix(alive.now) - unix
        except NOT_READABLE:
            self._count_unreadable(self.site(name, now))
            return []
        site = self.site(name, now)
        site.alive, site.clock_offset, site.version = alive, round(offset, 1), alive.version
        changes = self._receive(site, now, alive.instance)
        if not alive.backlog:
            site.compare(alive.cursor, now)
        return changes + self._update(site, now)

    def on_owner(self, name: str, data: bytes, stamp: int, now: float) -> list[Change]:
        """Take the entry of a site's machine, empty if it has none yet: a site that published nothing is shown, too."""
        is_new, site = name not in self.sites, self.site(name, now)
        site.added_at = stamp
        with suppress(*NOT_READABLE):
            site.owner = msgspec.json.decode(data, type=sites.Owner) if data else None
            site.instance = site.instance or (site.owner.instance if site.owner else None)
        return self._update(site, now) if is_new else []

    def _receive(self, site: Site, now: float, instance: str | None) -> list[Change]:
        site.receive(now, instance)
        return self._update(site, now) if site.state != "connected" else []

    def check(self, now: float) -> list[Change]:
        """Return what has changed because time has passed."""
        return [change for site in self.sites.values() for change in self._update(site, now)]

    def _update(self, site: Site, now: float) -> list[Change]:
        kind = site.update_state(now)
        problems = site.problems(now)
        shown = (site.state, *problems)
        if shown == site.shown:
            return []
        site.shown = shown
        kind = kind or "site_changed"
        reason = {
            "site_silent": "no sign of life from the site; its devices are unknown",
            "site_up": "the site is connected",
        }.get(kind, "; ".join(problems.values()) or "nothing is wrong with the site")
        event = protocol.Event(
            cursor="", kind=kind, at=self._time(now), reason=reason, state=site.shown_as(now, self._time)
        )
        return [Change(kind, body_of(site.name, event))]


def end_of_snapshot(site: str, stamp: int) -> bytes:
    """Return the body of the event for a snapshot that is complete."""
    return _at_site(site, stamp, "site_snapshot", "the site has published all of its devices")


def _at_site(site: str, stamp: int, kind: str, reason: str, state: protocol.Site | UnsetType = UNSET) -> bytes:
    at = datetime.fromtimestamp(stamp / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return body_of(site, protocol.Event(cursor="", kind=kind, at=at, reason=reason, state=state))


def number_in_log(message: Message) -> int:
    """Return the number in the log of a message of the stream of last values; 0: it has none."""
    place = message.headers.get(SOURCE, b"").split(b" ", 2)
    return int(place[1]) if len(place) > 1 and place[1].isdigit() else 0


def mac_of(text: str) -> bytes:
    """Return the bytes of a MAC. Raises Unreadable."""
    try:
        mac = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        mac = b""
    if len(mac) != MAC_BYTES:
        raise Unreadable(f"device.mac {text[:64]!r}: expected a MAC")
    return mac


def is_before(one: bytes | None, other: bytes | None) -> bool:
    """Return whether a cursor is before another one of its epoch."""
    here, there = position_of(one), position_of(other)
    return here is not None and there is not None and here.epoch == there.epoch and here.number < there.number


def is_through(one: bytes | None, other: bytes | None) -> bool:
    """Return whether a cursor is another one, or after it in its epoch."""
    return one is not None and (one == other or is_before(other, one))


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def shown_text(device: SiteDevice) -> bytes:
    """Return the JSON of a device as clients see it."""
    text = with_site(device.site.name, device.text)
    if not device.site.is_silent or device.status == "unknown":
        return text
    before = b'"status":"%b"' % device.status.encode()
    if before in text:
        return text.replace(before, b'"status":"unknown","status_at_site":"%b"' % device.status.encode(), 1)
    content = device_of(text)
    return protocol.encode(structs.replace(content, status="unknown", status_at_site=device.status))
