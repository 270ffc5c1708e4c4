"""Related devices: what one was before under another MAC, those of its vendor or label; by a look at all devices."""

from collections.abc import Callable, Mapping
from heapq import heappush, heappushpop
from typing import NamedTuple

from netscand.core.model import Device, Mac, Status
from netscand.core.predecessor import (
    MOST_CANDIDATES,
    Groups,
    Predecessor,
    Suggestion,
    has_evidence,
    may_matter,
    predecessor,
)
from netscand.serve.fair_turns import Account, FairTurns

LOCAL = 0x02
"""Flag in the first byte of a MAC: locally administered (IEEE 802c)."""


class Related(NamedTuple):
    """What other devices show about one."""

    predecessor: Predecessor | None = None
    vendor: str | None = None
    """Probable vendor of a locally administered MAC."""


async def related(
    device: Device,
    devices: Mapping[Mac, Device],
    vendor: Callable[[Mac], str | None],
    turns: FairTurns,
    account: Account,
) -> Related:
    """Return what other devices show about one; in turns of `account`, because there may be 65,533.

    Access points, repeaters and their further radios use the vendor's prefix with the local bit set. So do 0.8 % of all
    random MACs by chance: a device of that prefix must be on the LAN.
    """
    mac = Mac(bytes([device.mac[0] & ~LOCAL]) + device.mac[1:])
    probable = vendor(mac) if mac != device.mac and not device.is_self else None
    has_name = has_evidence(device)
    found, pool = None, list[tuple[float, Mac, Device]]()
    if probable is not None or has_name:
        async for other in turns.over(account, tuple(devices.values())):
            if has_name and may_matter(device, other):
                candidate = other.last_seen, other.mac, other
                (heappush if len(pool) < MOST_CANDIDATES else heappushpop)(pool, candidate)
            if probable is not None and other.mac[:3] == mac[:3] and other.status is Status.ONLINE and other.confirmed:
                found = probable if vendor(other.mac) == probable else found
    return Related(predecessor(device, [other for _, _, other in pool]), found)


class Labels:
    """MACs of the devices with a label, in any case, as of one cursor.

    An import changes thousands of labels, one by one: it looks at all devices once, not for each of them.
    """

    def __init__(self) -> None:
        self._macs: dict[str, set[Mac]] = {}
        self._cursor = ""

    def moved(self, device: Device, old: str | None, before: str, cursor: str) -> None:
        """Note that a device has another label, `old` before; the cursors are those before and after the change."""
        if before == self._cursor:  # otherwise other changes are missing
            self._macs.get((old or "").casefold(), set()).discard(device.mac)
            self._add(device)
            self._cursor = cursor

    async def others(
        self, device: Device, devices: Mapping[Mac, Device], cursor: str, turns: FairTurns, account: Account
    ) -> list[Device]:
        """Return the other devices with the label of a device; if there were other events, in turns of `account`."""
        if cursor != self._cursor:
            self._macs, self._cursor = {}, cursor
            async for each in turns.over(account, tuple(devices.values())):
                self._add(each)
        macs = self._macs.get((device.label or "").casefold(), ())
        return [devices[mac] for mac in sorted(macs) if mac in devices and mac != device.mac]

    def _add(self, device: Device) -> None:
        if device.label:
            self._macs.setdefault(device.label.casefold(), set()).add(device.mac)


async def suggestions(devices: Mapping[Mac, Device], turns: FairTurns, account: Account) -> list[Suggestion]:
    """Return which devices are probably one, the best evidence first; in turns of `account`."""
    groups = Groups()
    async for device in turns.over(account, tuple(devices.values())):
        groups.add(device)
    return groups.suggestions()
