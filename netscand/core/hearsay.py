"""What an observation is worth, beside what is known: evidence that is no more than what a packet says of itself."""

from netscand.core.model import Device, Evidence, Network, Observation

NEEDS_A_LOOK = frozenset([Evidence.MDNS, Evidence.NBNS])
"""Evidence that binds no MAC to an address by a protocol made for it, as ARP, NDP and DHCP are."""


def believed(seen: Observation, network: Network, holder: Device | None) -> Observation | None:
    """What to believe of it; None: nothing. `holder` is who was last heard at its address.

    An IP packet from another LAN was passed on: its Ethernet source is a router. And where somebody else is known to
    hold the address, it was repeated by a station that puts its own MAC to what others said (some extenders of Wi-Fi
    do): the MAC is there, the address and the name are not its own. Nobody becomes the gateway by it.
    """
    if not seen.ip:
        return seen
    if len(seen.ip) == 4 and int.from_bytes(seen.ip) & int(network.cidr.netmask) != int(network.cidr.network_address):
        return None
    anothers = holder.mac != seen.mac if holder is not None else seen.ip == network.gateway
    if anothers:
        return seen._replace(ip=None, name=None, name_source=None, goodbye=False)
    return seen
