"""Any device as it was at one cursor, for as long as the past is told from there."""

from collections.abc import Mapping

from netscand.core.model import Device, Event, EventKind, Mac
from netscand.core.recorded import copied
from netscand.serve.snapshot import PLACE


class Moment:
    """Holds on to a device only when an event changes it; a snapshot, which shows them all, would hold all."""

    def __init__(self, cursor: str, devices: Mapping[Mac, Device]) -> None:
        self.cursor = cursor
        self._devices = devices
        self._before: dict[Mac, Device | None] = {}

    def needs(self, mac: Mac) -> bool:
        """Whether this device is changed for the first time since."""
        return mac not in self._before

    def keep(self, mac: Mac, before: Device | None) -> None:
        """Remember how it was, None: not there; it may be shared, and is not changed any more."""
        self._before[mac] = before

    @property
    def held(self) -> int:
        """Bytes that it keeps, but for the devices themselves, which all moments share."""
        return PLACE * len(self._before)

    def device(self, mac: Mac) -> Device | None:
        """The device as it was then; what makes no event, as it is now."""
        return self._before[mac] if mac in self._before else self._devices.get(mac)


def as_before(event: Event) -> Device | None:
    """The device of an event as it was before it; None where it was not there."""
    device = event.device
    if device is None or event.kind is EventKind.DISCOVERED:
        return None
    was = copied(device)
    for name, value in (event.previous or {}).items():
        if name == "addresses":
            was.addresses = list(value)  # type: ignore[call-overload]  # what stands under this name
        elif name not in ("ip", "patience", "kinds") and hasattr(was, name):
            setattr(was, name, value)
    return was
