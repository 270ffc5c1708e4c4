"""What an observation is worth, beside what is known: evidence that is no more than what a packet says of itself."""

from netscand.core.model import Device, Evidence, Network, Observation

NEEDS_A_LOOK = frozenset([Evidence.MDNS, Evidence.NBNS, Evidence.NEIGHBOUR])
"""Evidence that binds no MAC to an address by a protocol made for it, as ARP, NDP and DHCP are."""


def believed(seen: Observation, network: Network, holder: Device | None) -> Observation | None:
    """What to believe of it; None: nothing. `holder` is who was last heard at its address.

    An IP packet from another LAN was passed on: its Ethernet source is a router. And where somebody else is known to
    hold the address, it was repeated by a station that puts its own MAC to what others said (some extenders of Wi-Fi
    do): the MAC is there, the address and the name are not its own.
    """
    if not seen.ip:
        return seen
    held = next((held for held in holder.addresses if held.ip == seen.ip), None) if holder else None
    if seen.evidence is Evidence.NEIGHBOUR:
        # The kernel cannot tell who answered it; we can: a station that was heard for another keeps no presence.
        proxied = held is not None and held.evidence is Evidence.PROXIED
        return None if proxied else seen
    if len(seen.ip) == 4 and int.from_bytes(seen.ip) & int(network.cidr.netmask) != int(network.cidr.network_address):
        return None
    if holder is not None and holder.mac != seen.mac:
        return seen._replace(ip=None, name=None, name_source=None, goodbye=False)
    return seen
