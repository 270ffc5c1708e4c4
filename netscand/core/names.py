"""Which name a device bears: the order of trust, and a bound on how often a hostile one may change it."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from netscand.core.budgets import DAY, RENAMES, Budgets
from netscand.core.claims import APART
from netscand.core.model import Device, Event, EventKind, Ip, Mac, Observation
from netscand.core.strangers import is_resident, may_change
from netscand.core.words import said_of

TRUST = ("dhcp", "mdns", "dns", "nbns")
"""Sources of host names, the most trusted first; the user's label is above them all, and kept beside."""


DISPUTES = frozenset([EventKind.ADDRESS_CONFLICT, EventKind.ADDRESS_MOVED, EventKind.GATEWAY_CHANGED])
DISPUTED_FOR, DISPUTED_FOR_DNS = APART, DAY
"""Seconds for which an address is disputed after such an event. What a name server says of it may be meant for whoever
had it before, and a stranger that takes the address of a device that sleeps may have all night."""

MOST_DISPUTED = 16_384
"""Disputed addresses remembered."""


class Disputes:
    """Addresses that changed hands or are claimed by two, and who had them before."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, Ip], tuple[Mac | None, float]] = OrderedDict()

    def note(self, event: Event) -> None:
        """Take an event of an address."""
        if event.kind in DISPUTES and event.network is not None and event.address is not None:
            self.add(event.network, event.address, event.other, event.at)

    def add(self, network: str, ip: Ip, before: Mac | None, at: float) -> None:
        """Note that an address of `before`, where that is known, is another's, or claimed to be."""
        known, since = self._known.pop((network, ip), (before, at))
        self._known[network, ip] = known if at - since < DISPUTED_FOR_DNS else before, at
        if len(self._known) > MOST_DISPUTED:
            self._known.popitem(last=False)

    def allow(self, device: Device, network: str, ip: Ip, now: float, *, by_dns: bool) -> bool:
        """Return whether what is known of an address may name a device.

        While it is disputed, only the resident that had it before: nobody can say whose name it is else.
        """
        before, at = self._known.get((network, ip), (None, None))
        if at is None or now - at >= (DISPUTED_FOR_DNS if by_dns else DISPUTED_FOR):
            return True
        return device.mac == before and is_resident(device, now)


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
