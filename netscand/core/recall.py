"""Taking back, after a restart, who was known before it."""

from collections.abc import Iterable, Mapping

from netscand.core.addresses import Addresses
from netscand.core.census import NO_ROOM, Census
from netscand.core.model import Device, Event, EventKind, Mac, Status


def take_back(
    devices: Iterable[Device], addresses: Addresses, census: Census, interfaces: Mapping[str, int], now: float
) -> tuple[dict[Mac, Device], tuple[Event, ...]]:
    """Enter devices into the books; those that find room, and what to tell of the rest.

    `interfaces`: name → ifindex, as they are now.
    """
    # In the order in which they were made: to go through memory at random takes twice as long.
    known = list(devices)
    for device in known:
        held, device.addresses = device.addresses, []
        for address in held:
            addresses.put_back(device, address)
        newest = max(held, key=lambda each: each.last_seen, default=None)
        device.interface = interfaces.get(newest.interface, 0) if newest else 0
        if device.status is Status.OFFLINE:
            device.presence.lost(now)
        if device.confirmed:
            census.confirm(device)
    oldest_first = sorted((each for each in known if not each.confirmed), key=lambda each: each.last_seen)
    evicted = {gone for device in oldest_first if (gone := census.add(device))}
    left_out = []
    for device in known:
        if device.mac in evicted:
            holds = tuple(device.addresses)
            for address in holds:
                addresses.drop(device, address)
            device.addresses = list(holds)  # told with it
            left_out.append(Event(EventKind.FORGOTTEN, now, None, device, reason=NO_ROOM))
    return {device.mac: device for device in known if device.mac not in evicted}, tuple(left_out)
