"""Names of devices behind a station that puts its own MAC into their frames (Wi-Fi extenders), by DHCP.

The client's request has the true MAC and the name, and the server's answer the address. The name belongs to that
address of the station, if the station sent the request: it can name only addresses that it has itself.
"""

from collections import OrderedDict

from netscand.core.model import Device, Ip, Mac, Network, Observation

MOST, WITHIN = 256, 60.0
"""Maximum clients and addresses remembered; seconds between the request and the server's answer."""


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
        for address in device.addresses:
            if address.ip == ip and address.network == network.id:
                address.hostname = name
                del self._leases[network.id, ip]
                return

    def __bool__(self) -> bool:
        return bool(self._leases)
