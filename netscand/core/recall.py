"""Taking back, after a restart, who was known before it."""

from collections.abc import Iterable, Iterator, Mapping

from netscand.core.addresses import MOST_ADDRESSES, Addresses
from netscand.core.census import Census
from netscand.core.model import Device, Mac, Status


def take_back(
    devices: Iterable[Device], addresses: Addresses, census: Census, interfaces: Mapping[str, int], now: float
) -> Iterator[Device]:
    """Enter devices into the books; those that still find room. `interfaces`: name → ifindex, as they are now."""
    evicted: set[Mac] = set()
    kept = []
    for device in sorted(devices, key=lambda each: each.last_seen):  # the last who held an address holds it
        held, device.addresses = device.addresses, []
        for address in held:
            addresses.put(device, address)
        device.is_proxy = len(held) >= MOST_ADDRESSES
        newest = max(held, key=lambda each: each.last_seen, default=None)
        device.interface = interfaces.get(newest.interface, 0) if newest else 0
        if device.status is Status.OFFLINE:
            device.presence.lost(now)
        if device.confirmed:
            census.confirm(device, now)
        elif gone := census.add(device, now):
            evicted.add(gone)
        kept.append(device)
    for device in kept:
        if device.mac not in evicted:
            yield device
        else:
            for address in tuple(device.addresses):
                addresses.drop(device, address)
