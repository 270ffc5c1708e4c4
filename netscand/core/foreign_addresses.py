"""Foreign addresses: of IPv4, and of none of this host's networks on the interface.

Cameras and switches have a fixed one from the factory, and hosts without DHCP a link-local one (RFC 3927). Several
devices may have the same one.
"""

from functools import lru_cache
from ipaddress import IPv4Network

from netscand.core.model import Address, Device, Evidence, Ip, Network, Observation

MOST_FOREIGN, GIVEN_UP = 2, 600.0
"""Maximum foreign addresses of a device; a further one replaces one at which it was not seen for so many seconds, so
that a host that makes them up causes 12 events an hour."""


def may_have_foreign(device: Device, seen: Observation, network: Network) -> bool:
    """Return whether a device may get the foreign address at which it was seen."""
    if seen.ip is None or seen.evidence is Evidence.PROXIED or device.is_proxy or not network.is_foreign(seen.ip):
        return False
    return sum(address.foreign for address in device.addresses) < MOST_FOREIGN or bool(to_replace(device, seen.at))


def to_replace(device: Device, now: float) -> Address | None:
    """Return the foreign address that a further one replaces; None: there is room, or the device still uses all."""
    foreign = [address for address in device.addresses if address.foreign]
    oldest = min(foreign, key=lambda each: each.last_seen, default=None)
    if oldest is None or len(foreign) < MOST_FOREIGN or now - oldest.last_seen <= GIVEN_UP:
        return None
    return oldest


def is_known_foreign(device: Device | None, network: str, ip: Ip | None) -> bool:
    """Return whether a device has this foreign address."""
    address = device.address_at(network, ip) if device is not None and ip is not None else None
    return address is not None and address.foreign


def is_outside(network: str, ip: Ip) -> bool:
    """Return whether an IPv4 address is not one of the network with this id."""
    address, mask = _prefix_of(network)
    return len(ip) == 4 and int.from_bytes(ip) & mask != address


@lru_cache(maxsize=256)
def _prefix_of(network: str) -> tuple[int, int]:
    """Return the address and the mask of a network, from its id (`10.0.0.0/24@eth0`)."""
    prefix = IPv4Network(network.partition("@")[0])
    return int(prefix.network_address), int(prefix.netmask)
