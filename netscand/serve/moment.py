"""Any device as it was at one cursor, for as long as the past is told from there."""

from collections.abc import Mapping

from netscand.core.model import Device, Event, EventKind, Mac
from netscand.core.recorded import copied


class Moment:
    """Holds on to a device only when an event changes it; a snapshot, which shows them all, would hold all."""

    def __init__(self, cursor: str, devices: Mapping[Mac, Device]) -> None:
        self.cursor = cursor
        self._devices = devices
        self._before: dict[Mac, Device | None] = {}

    def note(self, event: Event) -> None:
        """Take an event that happened since."""
        device = event.device
        if device is None or device.mac in self._before:
            return
        self._before[device.mac] = None if event.kind is EventKind.DISCOVERED else _before(device, event)

    def device(self, mac: Mac) -> Device | None:
        """The device as it was then; what makes no event, as it is now."""
        return self._before[mac] if mac in self._before else self._devices.get(mac)


def _before(device: Device, event: Event) -> Device:
    was = copied(device)
    for name, value in (event.previous or {}).items():
        if name == "addresses":
            was.addresses = list(value)  # type: ignore[call-overload]  # what stands under this name
        elif name not in ("ip", "patience", "kinds") and hasattr(was, name):
            setattr(was, name, value)
    return was
