"""Candidates for a probe: devices that something suggests are there, without evidence.

The kernel knows which neighbours are reachable, but not who answered it; a DHCP server names the client of a lease; a
new device was refused for lack of budget. Each is probed, and its own answer is the evidence.
"""

from collections import OrderedDict

from netscand.core.budgets import HINTS, Budgets
from netscand.core.model import Device, Mac, Network, Observation, Status

MOST = 64
"""Devices that wait for their probe."""


class ProbeCandidates:
    """Devices to probe once, until the probe has left."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._waiting: OrderedDict[Mac, None] = OrderedDict()

    def __contains__(self, mac: object) -> bool:
        """Return whether a device waits for its probe."""
        return mac in self._waiting

    def take(self, seen: Observation, network: Network, device: Device | None) -> bool:
        """Return whether to probe the device that `seen` suggests. Presence probes those that are online by itself."""
        ip = seen.ip
        if ip is None or seen.mac in self._waiting or (device is not None and device.status is Status.ONLINE):
            return False
        if ip in network.ours or network.spares(ip) or (len(ip) == 16 and network.own6 is None):
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
        """Take that the probe has left."""
        if mac is not None:
            self._waiting.pop(mac, None)
