"""Ranges of MACs that belong to no single machine: virtual routers and clusters."""

from netscand.core.model import Mac

ROUTERS = (
    b"\x00\x00\x5e\x00\x01", b"\x00\x00\x5e\x00\x02", b"\x00\x00\x0c\x07\xac", b"\x00\x00\x0c\x9f",
    b"\x00\x05\x73\xa0", b"\x00\x07\xb4\x00",
)  # fmt: skip
"""MAC prefixes of virtual routers: VRRP and CARP (RFC 9568, section 7.3); HSRP, HSRP version 2, HSRP for IPv6; GLBP."""

CLUSTER = b"\x02\xbf"
"""Prefix of the MAC that a Microsoft NLB cluster in unicast mode puts into ARP; its frames have another source."""

CLUSTER_GROUPS = (b"\x03\xbf", b"\x01\x00\x5e\x7f")
"""Prefixes of the group MAC that an NLB cluster in multicast or IGMP mode puts into ARP."""


def is_virtual(mac: Mac) -> bool:
    """Return whether a MAC belongs to no single machine: any station may rightly carry its frames."""
    return mac.startswith(ROUTERS) or mac.startswith(CLUSTER)


def is_virtual_router(mac: Mac) -> bool:
    """Return whether a MAC is that of a virtual router."""
    return mac.startswith(ROUTERS)


def is_cluster_group(mac: Mac) -> bool:
    """Return whether a group MAC is that of a cluster, whose members answer with it for their common address."""
    return mac.startswith(CLUSTER_GROUPS)
