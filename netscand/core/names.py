"""Which name a device bears: the order of trust, and a bound on how often a hostile one may change it."""

from collections.abc import Iterable, Mapping

from netscand.core.budgets import RENAMES, Budgets
from netscand.core.model import Device, Event, EventKind, Observation
from netscand.core.strangers import may_change
from netscand.core.words import said_of

TRUST = ("dhcp", "mdns", "dns", "nbns")
"""Sources of host names, the most trusted first; the user's label is above them all, and kept beside."""


def urgency(device: Device | None) -> int:
    """Return how soon a device is asked for its name: 0 where a user described it, 1 where it answered us, else 2."""
    if device is None or not (device.confirmed or said_of(device)):
        return 2
    return 0 if said_of(device) else 1


class Naming:
    """Gives names, by `[names] sources`."""

    def __init__(self, budgets: Budgets, sources: Iterable[str] = TRUST) -> None:
        self.sources = frozenset(sources)
        self._budgets = budgets

    def lacks(self, device: Device) -> tuple[str, ...]:
        """The sources to ask for the device's name: those above the one it has, and DNS, which may know another now."""
        held = TRUST.index(device.hostname_source) if device.hostname_source in TRUST else len(TRUST)
        if device.hostname_source == "dns":
            held += 1
        return () if device.is_self else tuple(source for source in TRUST[:held] if source in self.sources)

    def hear(self, device: Device, seen: Observation, network: str) -> Event | None:
        """Take the name that a device gave itself; what changed."""
        if not seen.name or not seen.name_source:
            return None
        event = self.give(device, seen.name, seen.name_source, seen.at)
        return event and event._replace(
            network=network, address=seen.ip, evidence=seen.evidence, seen_at=seen.at,
        )  # fmt: skip

    def give(self, device: Device, name: str, source: str, at: float) -> Event | None:
        """Take a name; what changed. The same one from a better source is no change.

        One for which there is no room is taken when it is heard, or asked for, again.
        """
        if not self._fits(device, source):
            return None
        was = device.hostname
        if name != was and not may_change(self._budgets, RENAMES, device, at):
            return None
        previous: Mapping[str, object] = {"hostname": was, "hostname_source": device.hostname_source}
        device.hostname, device.hostname_source = name, source
        if name == was:
            return None
        return Event(EventKind.RENAMED, at, None, device, reason=f"named by {source}", previous=previous)

    def _fits(self, device: Device, source: str) -> bool:
        if source not in self.sources or device.is_self:
            return False
        held = device.hostname_source
        return held not in TRUST or TRUST.index(source) <= TRUST.index(held)
