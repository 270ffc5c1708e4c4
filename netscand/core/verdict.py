"""A device's presence changes: the one place where that is written, and told."""

from collections.abc import Iterable, Iterator, Mapping
from math import inf

from netscand.core.model import Device, Event, EventKind, Observation, Status
from netscand.core.places import Places, is_on


def set_status(
    device: Device, status: Status, at: float, reason: str, network: str | None, seen: Observation | None = None
) -> Event:
    """Set it online or offline; the event. `seen`: the observation that told us."""
    previous: Mapping[str, object] = {
        "status": device.status, "status_since": device.status_since, "reason": device.reason,
    }  # fmt: skip
    device.status, device.status_since, device.reason = status, at, reason
    kind = EventKind.ONLINE if status is Status.ONLINE else EventKind.OFFLINE
    return Event(
        kind, at, network, device, seen.ip if seen else device.ip, None, seen.evidence if seen else None,
        reason, previous, seen.at if seen else None,
    )  # fmt: skip


def lose_sight(
    devices: Iterable[Device],
    network: str,
    interface: int | None,
    places: Places,
    reason: str,
    now: float,
    heard_since: float = inf,
) -> None:
    """Set every device that is online on no other network to `unknown`; the network's event tells it.

    Nobody that was `heard_since`: see `still_there`.

    All in one moment, for the event shows one; so what most have, a single address, is looked at first.
    """
    for device in devices:
        if device.status is not Status.ONLINE or device.is_self or device.last_seen >= heard_since:
            continue
        held = device.addresses
        if len(held) == 1:
            if held[0].network != network:
                continue
        elif not is_on(device, network, interface) or places.hears(device, now):
            continue
        device.status, device.status_since, device.reason = Status.UNKNOWN, now, reason


def still_there(
    devices: Iterable[Device], network: str, reason: str, now: float, heard_since: float
) -> Iterator[Event]:
    """Publish of each device that answered while its network fell silent that it is online, since when it was.

    The event of the network makes all of its devices `unknown` for clients (docs/protocol.md).
    """
    doubted: Mapping[str, object] = {"status": Status.UNKNOWN, "status_since": now, "reason": reason}
    for device in {device.mac: device for device in devices}.values():
        if device.status is Status.ONLINE and not device.is_self and device.last_seen >= heard_since:
            yield Event(EventKind.ONLINE, now, network, device, device.ip, reason=device.reason, previous=doubted)
