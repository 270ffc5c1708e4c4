"""The values of the domain, as every room of the house passes them on.

Times are seconds of the monotonic clock (law 7); wall time is attached at the edge. MACs and addresses are the
bytes of the wire: hashed once, sorted in network order, and turned into text only where a client sees them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from math import inf
from typing import NamedTuple, NewType

from netscand.core.presence import Presence
from netscand.core.ranges import offsets

Mac = NewType("Mac", bytes)
"""Six bytes. The identity of a device."""

Ip = NewType("Ip", bytes)
"""Four bytes (IPv4) or sixteen (IPv6), network order."""


ALL_NODES = Ip(b"\xff\x02" + bytes(13) + b"\x01")
"""ff02::1, where everyone who speaks IPv6 listens: an ask for it is an echo."""


class Evidence(StrEnum):
    """How we know."""

    ARP_REQUEST = "arp_request"
    ARP_REPLY = "arp_reply"
    ARP_PROBE = "arp_probe"
    ARP_ANNOUNCEMENT = "arp_announcement"
    NDP = "ndp"
    DHCP = "dhcp"
    MDNS = "mdns"
    NBNS = "nbns"
    NEIGHBOUR = "neighbour"
    PROXIED = "proxied"


class Status(StrEnum):
    """Presence: `unknown` when we are not able to tell."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class EventKind(StrEnum):
    """A change worth telling."""

    DISCOVERED = "discovered"
    ONLINE = "online"
    OFFLINE = "offline"
    ADDRESS_ADDED = "address_added"
    ADDRESS_REMOVED = "address_removed"
    ADDRESS_MOVED = "address_moved"
    ADDRESS_CONFLICT = "address_conflict"
    RENAMED = "renamed"
    LABELLED = "labelled"
    FORGOTTEN = "forgotten"
    GATEWAY_CHANGED = "gateway_changed"
    DHCP_SERVER_SEEN = "dhcp_server_seen"
    NETWORK_UP = "network_up"
    NETWORK_DOWN = "network_down"
    NETWORK_SILENT = "network_silent"
    NETWORK_RECOVERED = "network_recovered"
    FLOOD = "flood"


class Cause(StrEnum):
    """Who asked for a scan."""

    TIMER = "timer"
    CLIENT = "client"
    INTERFACE = "interface"
    START = "start"


class NetworkState(StrEnum):
    """`excluded` is known but never scanned; `why` says so."""

    UP = "up"
    DOWN = "down"
    SILENT = "silent"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class Network:
    """One IPv4 prefix on one interface: what netlink and the configuration say of it. Made anew when either changes."""

    id: str
    """`192.168.1.0/24@eth0`"""
    cidr: IPv4Network
    interface: str
    index: int
    """The interface's number (ifindex)."""
    mac: Mac
    """Ours, on that interface."""
    own: Ip
    """Our address in it, the sender of everything we ask."""
    state: NetworkState
    why: str
    gateway: Ip | None = None
    interval: float = 30.0
    """Seconds between scans."""
    rate: float | None = None
    """Frames/s of its own, 0 unlimited; None: the budget shared by all."""
    background_rate: float | None = None
    """Broadcast frames/s of its own; None: the budget shared by all."""
    patience: tuple[float, float] | None = None
    """Least and most patience here, in seconds; None: `[presence] patience`."""
    own6: Ip | None = None
    """Our link-local IPv6 address on that interface, the sender of what we ask by IPv6; None: we cannot."""
    further: frozenset[Ip] = frozenset()
    """All other addresses of this host on that interface, of IPv4 and IPv6."""
    prefixes6: tuple[IPv6Network, ...] = ()
    """Of our further IPv6 addresses on that interface, ascending."""
    excluded: tuple[IPv4Network, ...] = ()
    """Parts of it, ascending and apart, in which nobody is asked: `[scan] exclude` has a prefix within."""

    @property
    def ours(self) -> frozenset[Ip]:
        """All addresses of this host on that interface."""
        return self.further | {self.own} if self.own6 is None else self.further | {self.own, self.own6}

    @property
    def offsets(self) -> Sequence[int]:
        """Of the addresses that may be asked."""
        return offsets(self.cidr, self.excluded)

    def excludes(self, ip: Ip) -> bool:
        """Whether an address is never asked."""
        number = int.from_bytes(ip)
        return len(ip) == 4 and any(number & int(part.netmask) == int(part.network_address) for part in self.excluded)

    def is_ours(self, ip: Ip) -> bool:
        """Whether an address lies in a prefix that this host has an address of, too: link-local ones do not count."""
        number = int.from_bytes(ip)
        prefixes = (self.cidr,) if len(ip) == 4 else self.prefixes6
        return any(number & int(each.netmask) == int(each.network_address) for each in prefixes)


class Observation(NamedTuple):
    """One frame, understood."""

    at: float
    """The kernel's stamp, turned to monotonic seconds."""
    interface: int
    """ifindex"""
    mac: Mac
    ip: Ip | None
    evidence: Evidence
    joining: bool = False
    """Said as it comes onto the link: DHCP, an ARP or DAD probe, an announcement."""
    goodbye: bool = False
    """It says that it leaves: a reason to ask, never a verdict."""
    name: str | None = None
    """A host name it claims, cleaned (FAULTS T8)."""
    name_source: str | None = None
    """`dhcp` `mdns` `dns` `nbns`"""
    dhcp_server: Ip | None = None
    """A DHCP server that this frame speaks for, or of."""
    solicited: bool = False
    """It answers somebody's ask."""
    router: bool | None = None
    """It says that it is a default router of IPv6, or no more."""
    vendor_class: str | None = None
    """What its DHCP client calls itself (option 60), cleaned."""
    via: Mac | None = None
    """Of `proxied`: the Ethernet source, which said so."""


@dataclass(slots=True)
class Address:
    """An address that a device was heard to hold."""

    ip: Ip
    network: str
    interface: str
    evidence: Evidence
    first_seen: float
    last_seen: float
    answered: float = -inf
    """When it last answered an ask of ours there: nobody can say that in its name without hearing what we ask."""
    probed_at: float = -inf
    """When presence last asked it there."""


@dataclass(slots=True)
class Device:
    """One MAC, with its addresses, names and presence. Changed by the inventory alone (law 1)."""

    mac: Mac
    first_seen: float
    last_seen: float
    presence: Presence
    status: Status = Status.ONLINE
    status_since: float = 0.0
    reason: str = ""
    addresses: list[Address] = field(default_factory=list)
    interface: int = 0
    """Where it was heard last (ifindex)."""
    confirmed: bool = False
    """It answered a request or probe of ours."""
    has_share: bool = False
    """It has changes of its own while it is a stranger (core/limits.py)."""
    rtt: float | None = None
    """Seconds from our last ask to its answer."""
    is_self: bool = False
    is_gateway: bool = False
    is_router: bool = False
    """It says that it is a default router of IPv6."""
    is_proxy: bool = False
    """It answers for more addresses than a host has (proxy ARP)."""
    hostname: str | None = None
    hostname_source: str | None = None
    dhcp_vendor_class: str | None = None
    """What its DHCP client called itself last: at most 63 bytes."""
    label: str | None = None
    known: bool = False
    notes: str | None = None
    next_check: float = inf
    """When the inventory looks at it next."""

    @property
    def ip(self) -> Ip | None:
        """The IPv4 last heard, else an IPv6, else None."""
        if len(self.addresses) == 1:
            return self.addresses[0].ip
        best = max(self.addresses, key=lambda each: (len(each.ip) == 4, each.last_seen), default=None)
        return best.ip if best else None


class Event(NamedTuple):
    """A change worth telling. `device` is the living one: whoever keeps an event translates it at once."""

    kind: EventKind
    at: float
    """When it became so."""
    network: str | None = None
    device: Device | None = None
    address: Ip | None = None
    other: Mac | None = None
    evidence: Evidence | None = None
    reason: str = ""
    previous: Mapping[str, object] | None = None
    """The device's fields that changed, as they were: wire names, domain values (monotonic times, `Address` lists)."""
    seen_at: float | None = None
    """Monotonic stamp of the frame that told us."""


class Probe(NamedTuple):
    """One frame to send: a request to broadcast (`mac` None) or a probe; for IPv6, a solicitation or an echo."""

    network: Network
    ip: Ip
    mac: Mac | None
    presence_of: Mac | None = None
    """Whose presence asks; None: a scan does."""
    additional: bool = False
    """At a further address of that device: it proves nothing of its absence."""


class ScanStarted(NamedTuple):
    """A scan began."""

    scan_id: int
    networks: tuple[str, ...]
    cause: Cause


class ScanProgress(NamedTuple):
    """How far a scan is; `done` and `total` count addresses."""

    scan_id: int
    done: int
    total: int
    found: int
    networks: tuple[str, ...]


class ScanFinished(NamedTuple):
    """A scan ended. `found` is who answered it."""

    scan_id: int
    networks: tuple[str, ...]
    started_at: float
    finished_at: float
    broadcast: int
    unicast: int
    found: tuple[Mac, ...]


class ScanFailed(NamedTuple):
    """A scan of one network could not be done; the next one runs all the same."""

    scan_id: int
    network: str
    message: str


ScanNews = ScanStarted | ScanProgress | ScanFinished | ScanFailed


class Coverage(NamedTuple):
    """What part of a network one scan asks, and the seconds until every address was asked once."""

    fraction: float
    seconds: float


class Load(NamedTuple):
    """Counters since the start, for `status` and metrics."""

    received: int
    dropped: int
    broadcast: int
    unicast: int
    send_errors: int
    rate: float
    background_rate: float
    used: float
    """Frames sent in the last whole second."""
    ignored: int
    """Frames heard, but too many to be looked at."""


def is_link_local(ip: Ip) -> bool:
    """Whether this IPv6 address is of fe80::/10, which no router passes on."""
    return len(ip) == 16 and ip[0] == 0xFE and ip[1] & 0xC0 == 0x80


class BadTarget(ValueError):
    """A target that is not within a scanned network; the text says which and what would do."""


class Busy(Exception):
    """A request that is refused for now; the text says why, and when to try again."""


class SendFailed(Exception):
    """An interface refused to send: nothing asked of this network counts."""

    def __init__(self, network: str, message: str) -> None:
        super().__init__(f"{network}: {message}")
        self.network = network
        self.message = message


# ---- words ---------------------------------------------------------------------------------------------------------
# What the user knows of a device: label, whether it is known, notes, and a patience of its own.


def annotate(device: Device, changes: Mapping[str, object], now: float) -> Event | None:
    """Take new words, by their names on the wire; None where nothing changes. `patience` None: the learned one."""
    presence = device.presence
    chosen = presence.chosen
    previous: dict[str, object] = {}
    for name in ("label", "known", "notes"):
        if name in changes and getattr(device, name) != changes[name]:
            previous[name] = getattr(device, name)
            setattr(device, name, changes[name])
    if "patience" in changes and changes["patience"] != chosen:
        previous["patience"] = presence.patience
        patience = changes["patience"]
        presence.chosen = float(patience) if isinstance(patience, int | float) else None
    if not previous:
        return None
    changed = ", ".join(previous)
    return Event(EventKind.LABELLED, now, None, device, reason=f"{changed} changed by a user", previous=previous)


def is_annotated(device: Device) -> bool:
    """Whether a user said a word of it: then it is not forgotten by itself."""
    return bool(device.label or device.known or device.notes) or device.presence.chosen is not None
