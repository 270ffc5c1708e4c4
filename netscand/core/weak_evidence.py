"""Evidence that proves little: a filter for it, and devices to probe because of it."""

from collections import OrderedDict

from netscand.core.model import Device, Evidence, Mac, Network, Observation, Status
from netscand.core.ratelimit import HINTS, Budgets

# ---- weak evidence -------------------------------------------------------------------------------------------------
# IP packets whose source addresses prove little: checked against what ARP, NDP and DHCP have shown.

WEAK_EVIDENCE = frozenset([Evidence.MDNS, Evidence.NBNS])
"""Evidence from protocols that do not bind MACs to addresses, as ARP, NDP and DHCP do."""


def filter_weak_evidence(seen: Observation, network: Network, holder: Device | None) -> Observation | None:
    """Return the credible part of weak evidence; None: nothing. `holder` was last seen at its address.

    An IP packet from another LAN was forwarded: its Ethernet source is a router. If another device holds the address,
    the packet was repeated by a station that inserts its own MAC (some Wi-Fi extenders do): the MAC is present, the
    address and the name are not its own. Weak evidence makes no device the gateway.
    """
    if not seen.ip:
        return seen
    if network.is_outside(seen.ip):
        return None
    is_foreign = holder.mac != seen.mac if holder is not None else seen.ip == network.gateway
    if is_foreign:
        return seen._replace(ip=None, name=None, name_source=None, goodbye=False)
    return seen


# ---- candidates ----------------------------------------------------------------------------------------------------
# Candidates for a probe: devices that are probably present, without evidence.
#
# The kernel lists a neighbour as reachable; a DHCP server names the client of a lease; a new device was refused for
# lack of budget. Each is probed, and its own answer is the evidence.

MOST_HINTS = 64
"""Maximum devices waiting for their probe."""


class ProbeCandidates:
    """Devices to probe once, until the probe has left."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._waiting: OrderedDict[Mac, None] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether any device waits for its probe."""
        return bool(self._waiting)

    def __contains__(self, mac: object) -> bool:
        """Return whether a device waits for its probe."""
        return mac in self._waiting

    def add(self, seen: Observation, network: Network, device: Device | None) -> bool:
        """Add a candidate; return whether to probe it. Devices that are online are probed by presence anyway."""
        ip = seen.ip
        if ip is None or seen.mac in self._waiting or (device is not None and device.status is Status.ONLINE):
            return False
        if ip in network.ours or network.excludes(ip) or network.is_outside(ip):
            return False
        if len(ip) == 16 and network.own6 is None:
            return False
        if not self._budgets.take(HINTS, seen.interface, seen.at):
            return False
        self._waiting[seen.mac] = None
        if len(self._waiting) > MOST_HINTS:
            self._waiting.popitem(last=False)
        return True

    def record_sent(self, mac: Mac | None) -> None:
        """Note that the probe was sent."""
        if mac is not None:
            self._waiting.pop(mac, None)
