"""Devices behind a station that puts its own MAC into their frames (Wi-Fi extenders): their names, by DHCP.

The client's request has the true MAC and the name, and the server's answer the address. The name belongs to that
address of the station, if the station sent the request: it can name only addresses that it has itself.
"""

from collections import OrderedDict
from math import inf

from netscand.core.model import Address, Device, Ip, Mac, Network, Observation

MANY, REFRESH = 4, 60.0
"""IPv4 addresses of a device from which on each is probed, and seconds between two probes of one: an extender answers
there as long as the device behind it is there."""

MOST, WITHIN = 256, 60.0
"""Maximum clients and addresses remembered; seconds between the request and the server's answer."""


def to_refresh(device: Device, now: float) -> list[Address]:
    """Return the addresses to probe of a device that has many: each may be one of a device behind it."""
    ipv4 = [address for address in device.addresses if len(address.ip) == 4 and not address.foreign]
    if len(ipv4) < MANY or device.is_self:
        return []
    return [each for each in ipv4 if each.answered > -inf and now - max(each.last_seen, each.probed_at) >= REFRESH]


class RelayedNames:
    """Names that wait for the server's answer, and then for the address to be seen."""

    def __init__(self) -> None:
        self._requests: OrderedDict[Mac, tuple[Mac, str, float]] = OrderedDict()
        """Client → the station that sent its request, its name, and when."""
        self._leases: OrderedDict[tuple[str, Ip], tuple[Mac, str]] = OrderedDict()
        """Network and address → the station, and the name."""

    def note(self, seen: Observation, network: Network) -> None:
        """Note a frame about a DHCP client that another station sent: its request, or the server's answer."""
        if seen.ip is None and seen.name and seen.via is not None:
            self._requests[seen.mac] = seen.via, seen.name, seen.at
            self._requests.move_to_end(seen.mac)
            if len(self._requests) > MOST:
                self._requests.popitem(last=False)
        elif seen.ip is not None and seen.joining and seen.mac in self._requests:
            station, name, at = self._requests.pop(seen.mac)
            if seen.at - at <= WITHIN:
                self._leases[network.id, seen.ip] = station, name
                if len(self._leases) > MOST:
                    self._leases.popitem(last=False)

    def apply(self, device: Device, network: Network, ip: Ip) -> None:
        """Name an address at which a device was seen."""
        station, name = self._leases.get((network.id, ip), (None, ""))
        if station != device.mac:
            return
        if address := device.address_at(network.id, ip):
            address.hostname = name
            del self._leases[network.id, ip]

    def __bool__(self) -> bool:
        return bool(self._leases)
