"""Which name a device bears: the order of trust, and a bound on how often a hostile one may change it."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from math import inf

from netscand.core.model import Device, Event, EventKind, Mac, Observation
from netscand.core.tokens import Tokens
from netscand.core.words import said_of

TRUST = ("dhcp", "mdns", "dns", "nbns")
"""Sources of host names, the most trusted first; the user's label is above them all, and kept beside."""

CHANGES_APART = 60.0
"""Seconds between two changes of name that a device itself asks for."""

CHANGES_AT_ONCE, CHANGES_A_SECOND = 256.0, 4.0
"""How many names all devices together may give themselves. One that is not taken is taken when it is heard again."""

MOST = 4_096
"""Devices whose last change is remembered."""


def urgency(device: Device | None) -> int:
    """Return how soon a device is asked for its name: 0 where a user described it, 1 where it answered us, else 2."""
    if device is None or not (device.confirmed or said_of(device)):
        return 2
    return 0 if said_of(device) else 1


class Naming:
    """Gives names, by `[names] sources`."""

    def __init__(self, sources: Iterable[str] = TRUST) -> None:
        self.sources = frozenset(sources)
        self._changed: OrderedDict[Mac, float] = OrderedDict()
        self._tokens = Tokens(CHANGES_AT_ONCE, CHANGES_A_SECOND)

    def lacks(self, device: Device) -> tuple[str, ...]:
        """The sources to ask for the device's name: those above the one it has, and DNS, which may know another now."""
        held = TRUST.index(device.hostname_source) if device.hostname_source in TRUST else len(TRUST)
        if device.hostname_source == "dns":
            held += 1
        return () if device.is_self else tuple(source for source in TRUST[:held] if source in self.sources)

    def hear(self, device: Device, seen: Observation, network: str) -> Event | None:
        """Take the name that a device gave itself; what changed."""
        if not seen.name or not seen.name_source or not self._fits(device, seen.name, seen.name_source):
            return None
        if seen.name != device.hostname and not self._may_change(device, seen.at):
            return None
        event = self.give(device, seen.name, seen.name_source, seen.at)
        return event and event._replace(
            network=network, address=seen.ip, evidence=seen.evidence, seen_at=seen.at,
        )  # fmt: skip

    def give(self, device: Device, name: str, source: str, at: float) -> Event | None:
        """Take a name that we asked for; what changed. The same name from a better source is no change."""
        if not self._fits(device, name, source):
            return None
        previous: Mapping[str, object] = {
            "hostname": device.hostname, "hostname_source": device.hostname_source,
        }  # fmt: skip
        device.hostname, device.hostname_source = name, source
        if previous["hostname"] == name:
            return None
        return Event(EventKind.RENAMED, at, None, device, reason=f"named by {source}", previous=previous)

    def _fits(self, device: Device, name: str, source: str) -> bool:
        if source not in self.sources or device.is_self:
            return False
        held = device.hostname_source
        return held not in TRUST or TRUST.index(source) <= TRUST.index(held)

    def _may_change(self, device: Device, at: float) -> bool:
        if device.hostname is not None and at < self._changed.get(device.mac, -inf) + CHANGES_APART:
            return False
        if not self._tokens.take(at):
            return False
        self._changed.pop(device.mac, None)
        if len(self._changed) >= MOST:
            self._changed.popitem(last=False)
        self._changed[device.mac] = at
        return True
