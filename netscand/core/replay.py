"""Events, told again: forward, they rebuild the devices after a restart; backward, each shows its device as it was.

Pure. An event keeps what it changed, as it was and as it became, so one rule serves every kind of event.
"""

from collections.abc import Callable, Mapping
from copy import copy

from netscand.core.model import Address, Device, Event, EventKind, Mac, Status
from netscand.core.presence import Presence, Rules
from netscand.core.recorded import Later, Memory, Recorded, Remembered, copied

VERDICTS: Mapping[EventKind, Status] = {
    EventKind.DISCOVERED: Status.ONLINE, EventKind.ONLINE: Status.ONLINE, EventKind.OFFLINE: Status.OFFLINE,
}  # fmt: skip
"""What a device is after them."""

STANDING = ("status", "status_since", "reason")

NOT_RUNNING = "netscand was not running"

UNTAUGHT = Presence(0.0, Rules()).learned()
"""Of a device that no row was written of yet: nothing was learned, but it has been known since it was first seen."""


# ---- forward ------------------------------------------------------------------------------------------------------


def rebuilt(memory: Memory) -> dict[Mac, Remembered]:
    """The devices as the last event left them."""
    devices = {device.mac: device for device in memory.devices}
    for recorded in memory.events:
        _apply(devices, recorded)
    return devices


def _apply(devices: dict[Mac, Remembered], recorded: Recorded) -> None:
    event, mac = recorded.event, recorded.mac
    if mac is None:
        return
    device = devices.get(mac)
    if event.kind is EventKind.FORGOTTEN:
        if device is not None and device.sequence < recorded.sequence:
            del devices[mac]
        return
    if device is None:
        device = devices[mac] = _first(recorded)
    elif device.sequence >= recorded.sequence:
        return
    device.sequence = recorded.sequence
    if event.kind in VERDICTS:
        device.status, device.status_since, device.reason = VERDICTS[event.kind], event.at, event.reason
    for name, value in recorded.after.items():
        if name not in ("ip", "patience", "kinds") and hasattr(device, name):
            setattr(device, name, value)
    if recorded.last_seen is not None:
        device.last_seen = max(device.last_seen, recorded.last_seen)


def _first(recorded: Recorded) -> Remembered:
    event = recorded.event
    held = _told_address(event) if "addresses" not in recorded.after else None
    return Remembered(
        recorded.mac or Mac(b""), event.at, recorded.last_seen or event.at, VERDICTS.get(event.kind, Status.UNKNOWN),
        event.at, event.reason, addresses=(held,) if held else (), confirmed=recorded.confirmed,
    )  # fmt: skip


def _told_address(event: Event) -> Address | None:
    if event.address is None or event.network is None or event.evidence is None:
        return None
    interface = event.network.rpartition("@")[2]
    return Address(event.address, event.network, interface, event.evidence, event.at, event.at)


def recalled(memory: Memory, rules: Rules, offset: float, now: float) -> list[Device]:
    """The devices for a start at `now`, in monotonic seconds: `offset` is unix time minus those.

    Who was online is `unknown`, since the daemon was last known to run. What lies in the future, after a clock that
    was wrong, lies at `now`. But where the clock is behind what the history knows of the time, as before NTP answers
    on a machine without a clock of its own, it is the history that is believed: or everybody would be new.
    """
    offset = max(offset, memory.known_time - now)
    alive = memory.alive_until
    devices = []
    for was in rebuilt(memory).values():
        learned, at = (was.learned, was.learned_at) if was.learned else (UNTAUGHT, was.first_seen)
        presence = Presence.recalled(now, rules, learned, max(0.0, now + offset - at))
        presence.chosen = was.chosen
        device = Device(
            was.mac, min(was.first_seen - offset, now), min(was.last_seen - offset, now), presence, was.status,
            min(was.status_since - offset, now), was.reason, confirmed=was.confirmed, hostname=was.hostname,
            hostname_source=was.hostname_source, label=was.label, known=was.known, notes=was.notes,
        )  # fmt: skip
        if was.status is Status.ONLINE:
            device.status, device.reason = Status.UNKNOWN, NOT_RUNNING
            device.status_since = min(max(alive, was.status_since) - offset, now)
        device.addresses = list(was.addresses)  # nobody else has them
        for held in device.addresses:
            held.first_seen = min(held.first_seen - offset, now)
            held.last_seen = min(held.last_seen - offset, now)
        devices.append(device)
    return devices


# ---- backward -----------------------------------------------------------------------------------------------------


def as_published(recorded: Recorded, later: Later, current: Callable[[Mac], Device | None]) -> Event:
    """An event with its device as it was then.

    `current` gives a device as it is now, in unix seconds. Of a device that is no longer there the events tell what
    they know. What no event keeps (round trip, kinds, learned patience) is as now.
    """
    mac = recorded.mac
    if mac is None:
        return recorded.event
    whole = recorded.whole or later.whole
    now = current(mac) if whole is None else None
    was = copied(now) if now is not None else _revived(whole or _first(recorded))
    if recorded.whole is None:
        for name, value in later.fields.items():
            if name == "addresses":
                was.addresses = [copy(held) for held in value]  # type: ignore[attr-defined]  # what is kept so
            elif name not in ("ip", "patience", "kinds", *STANDING) and hasattr(was, name):
                setattr(was, name, value)
    _stand(was, recorded)
    return recorded.event._replace(device=was)


def _revived(whole: Remembered) -> Device:
    presence = Presence(whole.last_seen, Rules())
    presence.chosen = whole.chosen
    addresses = [copy(held) for held in whole.addresses]
    device = Device(whole.mac, whole.first_seen, whole.last_seen, presence, addresses=addresses)
    device.status, device.status_since, device.reason = whole.status, whole.status_since, whole.reason
    device.confirmed, device.known, device.label, device.notes = whole.confirmed, whole.known, whole.label, whole.notes
    device.hostname, device.hostname_source = whole.hostname, whole.hostname_source
    return device


def _stand(was: Device, recorded: Recorded) -> None:
    """Its presence as this event left it; what else it changed is so already."""
    event = recorded.event
    if event.kind in VERDICTS:
        was.status, was.status_since, was.reason = VERDICTS[event.kind], event.at, event.reason
    elif recorded.standing is not None:
        was.status, was.status_since, was.reason = recorded.standing
    if event.kind is EventKind.DISCOVERED:
        was.first_seen = event.at
    if recorded.last_seen is not None:
        was.last_seen = recorded.last_seen
    for held in was.addresses:
        held.last_seen = min(held.last_seen, was.last_seen)
        if held.ip == event.address and held.network == event.network and event.seen_at is not None:
            held.last_seen, held.evidence = was.last_seen, event.evidence or held.evidence
