"""What only hints at a device: a reason to ask, and no evidence.

The kernel says who is reachable, but not who answered it; a DHCP server says whom it gave an address; a newcomer that
there was no room for says that it is there. Each is asked by a probe, and its own answer is the evidence.
"""

from collections import OrderedDict

from netscand.core.budgets import HINTS, Budgets
from netscand.core.model import Device, Mac, Network, Observation, Status

MOST = 64
"""Devices that wait to be asked."""


class Hints:
    """Whom to ask because of a hint, until that ask has left."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._waiting: OrderedDict[Mac, None] = OrderedDict()

    def __contains__(self, mac: object) -> bool:
        """Return whether a device waits to be asked because of a hint."""
        return mac in self._waiting

    def take(self, seen: Observation, network: Network, device: Device | None) -> bool:
        """Return whether to ask what `seen` hints at. Presence asks who is online by itself."""
        ip = seen.ip
        if ip is None or seen.mac in self._waiting or (device is not None and device.status is Status.ONLINE):
            return False
        if ip in (network.own, network.own6) or network.spares(ip) or (len(ip) == 16 and network.own6 is None):
            return False
        if len(ip) == 4 and int.from_bytes(ip) & int(network.cidr.netmask) != int(network.cidr.network_address):
            return False
        if not self._budgets.take(HINTS, seen.interface, seen.at):
            return False
        self._waiting[seen.mac] = None
        if len(self._waiting) > MOST:
            self._waiting.popitem(last=False)
        return True

    def asked(self, mac: Mac | None) -> None:
        """Take that the ask has left."""
        if mac is not None:
            self._waiting.pop(mac, None)
