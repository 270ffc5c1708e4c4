"""`network=`, `q=` and `status=`: which devices, events and scans a client asked for."""

from collections.abc import Collection
from dataclasses import dataclass

from netscand import protocol


@dataclass(frozen=True, slots=True)
class Filter:
    """All must fit. `text` is looked for, whatever its case, in MAC, addresses, names, label, notes and vendor."""

    network: str | None = None
    text: str | None = None
    status: str | None = None

    def __bool__(self) -> bool:
        return self.network is not None or bool(self.text) or self.status is not None

    def device(self, device: protocol.Device) -> bool:
        """Whether it has an address in the network, the text and the presence."""
        if self.status is not None and device.status != self.status:
            return False
        if self.network is not None and all(held.network != self.network for held in device.addresses):
            return False
        if not self.text:
            return True
        said = (device.mac, device.hostname, device.label, device.notes, device.vendor)
        wanted = self.text.casefold()
        return any(wanted in word.casefold() for word in said if word) or any(
            wanted in held.ip for held in device.addresses
        )

    def scan(self, networks: Collection[str]) -> bool:
        """Whether a scan of these networks, or an event of them, is wanted."""
        return self.network is None or self.network in networks

    def event(self, told: protocol.Event, before: protocol.Device | None) -> bool:
        """Whether the device fits, or did before the event: a client must hear what leaves its sight."""
        if told.device is None:
            return told.network is None or self.scan((told.network,))
        return self.device(told.device) or (before is not None and self.device(before))


EVERYTHING = Filter()
