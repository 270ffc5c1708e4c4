"""A device's presence changes: the one place where that is written, and told."""

from collections.abc import Callable, Iterable, Mapping
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
    may_stay: Callable[[Device], bool] = lambda device: True,
) -> list[Device]:
    """Set every device that is online on no other network to `unknown`; the network's event says so to clients.

    Return those that stay online because they were `heard_since`, as far as they `may_stay`: see `still_there`.

    All in one moment, for the event shows one; so what most have, a single address, is looked at first.
    """
    stay = []
    for device in devices:
        if device.status is not Status.ONLINE or device.is_self:
            continue
        held = device.addresses
        alone = len(held) == 1
        if held[0].network != network if alone else not is_on(device, network, interface):
            continue
        if device.last_seen >= heard_since and may_stay(device):
            stay.append(device)
        elif alone or not places.hears(device, now):
            device.status, device.status_since, device.reason = Status.UNKNOWN, now, reason
    return stay


def still_there(devices: Iterable[Device], network: str, reason: str, now: float) -> Callable[[Device], Event | None]:
    """Return what publishes of each device, once, that it is online, since when it was.

    The event of the network makes all of its devices `unknown` for clients (docs/protocol.md).
    """
    left = {device.mac: device for device in devices}
    doubted: Mapping[str, object] = {"status": Status.UNKNOWN, "status_since": now, "reason": reason}

    def publish(device: Device) -> Event | None:
        if left.pop(device.mac, None) is not device or device.status is not Status.ONLINE:
            return None
        return Event(EventKind.ONLINE, now, network, device, device.ip, reason=device.reason, previous=doubted)

    return publish
