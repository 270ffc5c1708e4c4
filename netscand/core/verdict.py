"""A device's presence changes: the one place where that is written, and told."""

from collections.abc import Mapping

from netscand.core.model import Device, Event, EventKind, Observation, Status


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
