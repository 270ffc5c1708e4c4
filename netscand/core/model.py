"""The values of the domain, which all components exchange.

Times are seconds of the monotonic clock (law 7); wall time is attached at the edge. MACs and addresses are the
bytes of the wire: cheap to hash, sorted in network order, and turned into text only for clients.
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
"""Six bytes; the identity of a device."""

Ip = NewType("Ip", bytes)
"""Four bytes (IPv4) or sixteen (IPv6), network order."""


NO_ROUTE = 1 << 32
"""Instead of the metric of a default route, for an interface without one: more than any."""

NO_NAMES: Mapping[str, str] = {}

ALL_NODES = Ip(b"\xff\x02" + bytes(13) + b"\x01")
"""ff02::1, the group of all IPv6 nodes: a probe of it is an echo request."""


class StoredTime(float):
    """Monotonic time of an earlier run, with the unix time that was stored, which clients get whatever the clock shows.

    As a number, it is as accurate as the clock was at the start.
    """

    __slots__ = ("unix",)
    unix: float


class Evidence(StrEnum):
    """Kind of frame that shows a device."""

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


EVIDENCE_TEXT = {
    Evidence.ARP_REQUEST: "sent an ARP request",
    Evidence.ARP_REPLY: "answered an ARP request",
    Evidence.ARP_PROBE: "probed for an address",
    Evidence.ARP_ANNOUNCEMENT: "announced its address",
    Evidence.NDP: "sent a neighbour discovery message",
    Evidence.DHCP: "sent a DHCP message",
    Evidence.MDNS: "sent an mDNS message",
    Evidence.NBNS: "sent an NBNS message",
    Evidence.NEIGHBOUR: "is a reachable neighbour of this host",
    Evidence.PROXIED: "another station answered for it",
}
"""Evidence → the `reason` of an event."""


class Status(StrEnum):
    """Presence of a device; `unknown` while netscand cannot decide."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class EventKind(StrEnum):
    """Kind of a published change."""

    DISCOVERED = "discovered"
    ONLINE = "online"
    OFFLINE = "offline"
    ADDRESS_ADDED = "address_added"
    ADDRESS_REMOVED = "address_removed"
    ADDRESS_MOVED = "address_moved"
    ADDRESS_CONFLICT = "address_conflict"
    RENAMED = "renamed"
    LABELLED = "labelled"
    KIND_CHANGED = "kind_changed"
    FORGOTTEN = "forgotten"
    SAME_HOST = "same_host"
    GATEWAY_CHANGED = "gateway_changed"
    DHCP_SERVER_SEEN = "dhcp_server_seen"
    NETWORK_UP = "network_up"
    NETWORK_DOWN = "network_down"
    NETWORK_SILENT = "network_silent"
    NETWORK_RECOVERED = "network_recovered"
    FLOOD = "flood"
    UNKNOWN = "unknown"
    MERGED = "merged"
    SPLIT = "split"
    PERSON_HOME = "person_home"
    PERSON_AWAY = "person_away"
    PERSON_UNKNOWN = "person_unknown"
    PERSON_CHANGED = "person_changed"
    PERSON_REMOVED = "person_removed"


class PersonStatus(StrEnum):
    """Presence of a person; `unknown` while their devices leave it in doubt."""

    HOME = "home"
    AWAY = "away"
    UNKNOWN = "unknown"


class Cause(StrEnum):
    """What started a scan."""

    TIMER = "timer"
    CLIENT = "client"
    INTERFACE = "interface"
    START = "start"


class NetworkState(StrEnum):
    """State of a network; an `excluded` one is known but never scanned, and `why` gives the reason."""

    UP = "up"
    DOWN = "down"
    SILENT = "silent"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class Network:
    """One IPv4 prefix on one interface, from netlink and the configuration; replaced when either changes."""

    id: str
    """`192.168.1.0/24@eth0`"""
    cidr: IPv4Network
    interface: str
    index: int
    """Number of the interface (ifindex)."""
    mac: Mac
    """This host's MAC on the interface."""
    own: Ip
    """This host's address in the network, the sender of all requests."""
    state: NetworkState
    why: str
    gateway: Ip | None = None
    interval: float = 30.0
    """Seconds between scans."""
    rate: float | None = None
    """Frames/s of this network, 0 unlimited; None: shares the limit of all networks."""
    background_rate: float | None = None
    """Broadcast frames/s of this network; None: shares the limit of all networks."""
    patience: tuple[float, float] | None = None
    """Minimum and maximum patience here, in seconds; None: `[presence] patience`."""
    own6: Ip | None = None
    """This host's link-local IPv6 address on the interface, the sender of IPv6 probes; None: IPv6 is not probed."""
    own_ips: frozenset[Ip] = frozenset()
    """All addresses of this host on that interface, of IPv4 and IPv6: one object for all its networks, which may be
    thousands."""
    prefixes6: tuple[IPv6Network, ...] = ()
    """Prefixes of this host's other IPv6 addresses on that interface, ascending."""
    excluded: tuple[IPv4Network, ...] = ()
    """Parts that are never scanned (prefixes in `[scan] exclude`), ascending, not overlapping."""
    not_foreign: tuple[IPv4Network, ...] = ()
    """Prefixes without foreign addresses: all of this host on the interface, and those in `[scan] exclude`."""
    rank: tuple[int, bool] = (NO_ROUTE, False)
    """Order among networks on one LAN, the first is scanned: metric of the default route, and whether it is Wi-Fi."""
    same_lan_as: str | None = None
    """Network on another interface that is the same LAN, and is scanned instead."""
    children: frozenset[Mac] = frozenset()
    """MACs of macvlan and macvtap interfaces on this one, in containers and virtual machines of this host: they receive
    nothing that this host sends."""
    swept: bool = True
    """All addresses are scanned; else only those where a device was seen, as in a prefix larger than a /16."""
    expected_dhcp: frozenset[bytes] = frozenset()
    """Addresses and MACs of the only DHCP servers that the user expects; empty: any."""
    expected_gateway: frozenset[bytes] = frozenset()
    """The same for gateways."""
    probed: bool = True
    """Devices can be probed; False in a replay of a capture by a program that did not probe them."""
    prefix: int = field(init=False, repr=False, compare=False)
    """Network address of `cidr`."""
    mask: int = field(init=False, repr=False, compare=False)
    """Netmask of `cidr`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", int(self.cidr.network_address))
        object.__setattr__(self, "mask", int(self.cidr.netmask))

    @property
    def ours(self) -> frozenset[Ip]:
        """All addresses of this host on that interface, `own` and `own6` always among them."""
        if self.own in self.own_ips and (self.own6 is None or self.own6 in self.own_ips):
            return self.own_ips
        return self.own_ips | {self.own} if self.own6 is None else self.own_ips | {self.own, self.own6}

    @property
    def offsets(self) -> Sequence[int]:
        """Offsets of the addresses that may be scanned."""
        if self.excluded:
            return offsets(self.cidr, self.excluded)
        size = 2**32 - self.mask  # asked for thousands of networks at once
        return range(1, size - 1) if size > 2 else range(size)

    def excludes(self, ip: Ip) -> bool:
        """Return whether an address is excluded from scans and probes."""
        number = int.from_bytes(ip)
        return len(ip) == 4 and any(number & int(part.netmask) == int(part.network_address) for part in self.excluded)

    def is_foreign(self, ip: Ip) -> bool:
        """Return whether an address is one of IPv4 that belongs to no network of this host on the interface."""
        if not self.is_outside(ip):
            return False
        number = int.from_bytes(ip)
        return all(number & int(each.netmask) != int(each.network_address) for each in self.not_foreign)

    def is_outside(self, ip: Ip) -> bool:
        """Return whether an address is one of IPv4 and not in `cidr`."""
        return len(ip) == 4 and int.from_bytes(ip) & self.mask != self.prefix

    def is_ours(self, ip: Ip) -> bool:
        """Return whether an address lies in a prefix of this host's own addresses; link-local ones do not count."""
        number = int.from_bytes(ip)
        prefixes = (self.cidr,) if len(ip) == 4 else self.prefixes6
        return any(number & int(each.netmask) == int(each.network_address) for each in prefixes)


class Lease(NamedTuple):
    """Assignment of an address by DHCP, as received: by the request of a client, or the acknowledgement of a server."""

    server: Ip
    ip: Ip | None
    seconds: int | None
    """Length, 4,294,967,295 without end; None: the acknowledgement was not received."""
    at: float


class Service(NamedTuple):
    """A service that a device announces by mDNS (DNS-SD, RFC 6763)."""

    type: str
    """`_ipp._tcp`"""
    txt: tuple[str, ...]
    """`key=value`, of the keys that lan/mdns.py keeps."""


class Kind(NamedTuple):
    """What a device is, one of core/kind_rules.py; and why."""

    name: str
    reason: str


CHOSEN_KIND = "chosen by a user"
"""Reason of a kind that a user chose. It is stored: never change it."""


class Observation(NamedTuple):
    """One decoded frame."""

    at: float
    """Timestamp of the kernel, in monotonic seconds."""
    interface: int
    """ifindex"""
    mac: Mac
    ip: Ip | None
    evidence: Evidence
    joining: bool = False
    """The device joins the link: DHCP, an ARP or DAD probe, an announcement."""
    goodbye: bool = False
    """The device announces that it leaves: a reason to probe it, never proof of absence."""
    name: str | None = None
    """Host name that it claims, sanitised (FAULTS T8)."""
    name_source: str | None = None
    """`dhcp` `mdns` `dns` `nbns`"""
    dhcp_server: Ip | None = None
    """Address of a DHCP server that sent this frame, or that this frame names."""
    solicited: bool = False
    """The frame answers a request, of any station; for `proxied`: a reply by unicast."""
    router: bool | None = None
    """The device advertises itself as an IPv6 default router (True), or ends that (False)."""
    vendor_class: str | None = None
    """Vendor class of its DHCP client (option 60), sanitised."""
    via: Mac | None = None
    """For `proxied`: the Ethernet source, which speaks for the device. Else: the group MAC of its cluster."""
    target: Ip | None = None
    """Address of 127.0.0.0/8 that an ARP request asks for (core/shared_lan.py)."""
    client_id: bytes | None = None
    """Identifier of its DHCP client (option 61), if it is not the MAC."""
    lease: Lease | None = None
    """Address that it requests from a DHCP server, or that a server assigns to it."""
    parameters: bytes | None = None
    """Options that its DHCP client requests (option 55), in its order."""
    services: tuple[Service, ...] = ()
    """Services that it announces by mDNS."""
    merged_mac: Mac | None = None
    """MAC in the frame, if a user merged it into `mac` (core/merged.py)."""


THIS_HOST = "this host"
"""Reason of a device that is this host."""

NEVER_SEEN = "annotated by a user, and not seen yet"
"""Reason of the status of a device that was annotated by its MAC before it was seen. It is stored: never change it."""


@dataclass(slots=True)
class Address:
    """Address at which a device was seen."""

    ip: Ip
    network: str
    interface: str
    evidence: Evidence
    first_seen: float
    last_seen: float
    answered: float = -inf
    """When it last answered a request there; another station can fake this only if it receives the requests."""
    probed_at: float = -inf
    """When presence last probed it there."""
    hostname: str | None = None
    """Name of the device behind this one that has it (core/relayed_names.py)."""
    foreign: bool = False
    """It belongs to no network of this host on that interface; it is used only to probe the device."""
    mac: Mac | None = None
    """MAC that has it, if that was merged into the device (core/merged.py)."""
    main_since: float = -inf
    """When it became the `ip` of its device; -inf: never. The latest one is."""


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
    lost: Address | None = None
    """Address that another device holds now; this device is probed there while it has no other."""
    interface: int = 0
    """Interface on which it was last seen (ifindex)."""
    confirmed: bool = False
    """It answered a request or probe of ours."""
    has_share: bool = False
    """It has a budget of its own for changes while it is a stranger (core/limits.py)."""
    rtt: float | None = None
    """Round trip of its latest answer, in seconds."""
    is_self: bool = False
    is_gateway: bool = False
    is_router: bool = False
    """It advertises itself as an IPv6 default router."""
    is_proxy: bool = False
    """It answers for more addresses than a host has (proxy ARP)."""
    hostname: str | None = None
    hostname_source: str | None = None
    other_names: Mapping[str, str] = field(default_factory=lambda: NO_NAMES)
    """Source → latest name from it, of the sources other than `hostname_source`, if it answered us."""
    dhcp_vendor_class: str | None = None
    """Latest vendor class of its DHCP client: at most 63 bytes."""
    dhcp_client_id: bytes | None = None
    """Latest identifier of its DHCP client, if it is not the MAC: at most 64 bytes."""
    lease: Lease | None = None
    """Latest lease by DHCP since the start."""
    dhcp_parameters: bytes | None = None
    """Latest options that its DHCP client requests: at most 64 bytes."""
    services: tuple[Service, ...] = ()
    """Services that it announced by mDNS, latest last (core/kinds.py)."""
    kind: Kind | None = None
    """What it is, if a user or evidence says so."""
    unstored: bool = False
    """Its evidence changed without an event: its row is to be written."""
    last_unsolicited: float | None = None
    """When it last sent a frame that answers no request; None: not since the start."""
    label: str | None = None
    known: bool = False
    notes: str | None = None
    tags: tuple[str, ...] = ()
    """In alphabetical order."""
    merged: tuple[Mac, ...] = ()
    """Further MACs of it, which users merged into it."""
    not_same_as: tuple[Mac, ...] = ()
    """Devices that a user said it is not, though there is evidence (core/predecessor.py)."""
    has_person: bool = False
    """It belongs to a person (core/people.py)."""
    next_check: float = inf
    """When the inventory checks it next."""
    counted: tuple[str, ...] | None = None
    """Networks that it is counted in (core/status.py); None: it is not counted."""

    @property
    def key(self) -> Mac:
        """Return what identifies the device among all that are served; on a hub, the key contains the site."""
        return self.mac

    @property
    def never_seen(self) -> bool:
        """Return whether it was annotated, and not seen yet: it is `unknown`; its times are of the annotation."""
        return self.status is Status.UNKNOWN and self.reason == NEVER_SEEN

    @property
    def ip(self) -> Ip | None:
        """Return the address that it is known by: an IPv4 address, else an IPv6 address, else None.

        It is no other one while the device answers there, unless the device announces a new one.
        """
        if len(self.addresses) == 1:
            return self.addresses[0].ip
        best = self.main_address
        return best.ip if best else None

    def address_at(self, network: str, ip: Ip) -> Address | None:
        """Return the entry of an address on a network; None: the device does not have it."""
        for address in self.addresses:
            if address.ip == ip and address.network == network:
                return address
        return None

    def mac_of(self, network: str, ip: Ip) -> Mac:
        """Return the MAC of the device that has an address, or would answer for it."""
        address = self.address_at(network, ip) if self.merged else None
        return self.mac if address is None else self.mac_at(address)

    def mac_at(self, address: Address) -> Mac:
        """Return the MAC that has an address of the device."""
        return address.mac or self.mac

    @property
    def main_address(self) -> Address | None:
        """Return the entry of `ip`."""
        return max(
            self.addresses,
            key=lambda each: (len(each.ip) == 4, not each.foreign, each.main_since, each.last_seen),
            default=None,
        )


@dataclass(slots=True)
class Person:
    """A person, who has devices. Changed by the inventory alone (law 1)."""

    name: str
    devices: Mapping[Mac, bool] = field(default_factory=dict)
    """MAC → whether it counts."""
    status: PersonStatus = PersonStatus.UNKNOWN
    status_since: float = 0.0
    """Since when the person is home or away, through doubts; while `unknown`, since when that is."""
    reason: str = ""
    last_status: PersonStatus | None = None
    """Home or away, as far as it was ever certain."""
    last_since: float = 0.0
    """Since when that is so."""


class Event(NamedTuple):
    """A change. `device` is the live object: encode an event before the device changes again."""

    kind: EventKind
    at: float
    """When the change took place."""
    network: str | None = None
    device: Device | None = None
    address: Ip | None = None
    other: Mac | None = None
    evidence: Evidence | None = None
    reason: str = ""
    previous: Mapping[str, object] | None = None
    """Previous values of the device's fields that changed: wire names, domain values (monotonic times, addresses)."""
    seen_at: float | None = None
    """Monotonic timestamp of the frame that showed the change."""
    person: Person | None = None
    """The live object, as `device`."""


class Filled(bytes):
    """Text of an event that differs from those of others only in `values`, as of a device that answers a large scan."""

    common: bytes
    """The text with a byte in place of each value: 1 for the first, and so on. JSON never contains these bytes."""
    values: tuple[bytes, ...]


class Probe(NamedTuple):
    """One frame to send: an ARP request by broadcast (`mac` None) or by unicast; IPv6: a solicitation or an echo."""

    network: Network
    ip: Ip
    mac: Mac | None
    presence_of: Mac | None = None
    """Device whose presence is checked; None: the probe belongs to a scan."""
    additional: bool = False
    """Sent to another address of that device: silence there does not prove its absence."""
    as_request: bool = False
    """Sent by unicast in place of a request: only the device itself may answer for a foreign address."""


class ScanStarted(NamedTuple):
    """A scan began."""

    scan_id: int
    networks: tuple[str, ...]
    cause: Cause


class ScanProgress(NamedTuple):
    """Progress of a scan; `done` and `total` count addresses."""

    scan_id: int
    done: int
    total: int
    found: int
    networks: tuple[str, ...]


class ScanFinished(NamedTuple):
    """A scan ended; `found` are the devices that answered."""

    scan_id: int
    networks: tuple[str, ...]
    started_at: float
    finished_at: float
    broadcast: int
    unicast: int
    found: tuple[Mac, ...]


class ScanFailed(NamedTuple):
    """A scan of one network failed; the next one still runs."""

    scan_id: int
    network: str
    message: str


ScanNews = ScanStarted | ScanProgress | ScanFinished | ScanFailed


class Coverage(NamedTuple):
    """Part of a network that one scan covers, and the seconds until every address was scanned once."""

    fraction: float
    seconds: float


class Load(NamedTuple):
    """Counters of frames since the start, for `status` and metrics."""

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
    """Frames received but not decoded, because they exceeded the budget."""


def is_link_local(ip: Ip) -> bool:
    """Return whether this is an IPv6 address of fe80::/10, which no router forwards."""
    return len(ip) == 16 and ip[0] == 0xFE and ip[1] & 0xC0 == 0x80


class BadTarget(ValueError):
    """A target outside all scanned networks; the text names it, and says what is accepted."""


class Busy(Exception):
    """A request refused for now; the text says why, and when to try again."""


class SendFailed(Exception):
    """An interface that refuses to send; probes of this network do not count as sent."""

    def __init__(self, network: str, message: str) -> None:
        super().__init__(f"{network}: {message}")
        self.network = network
        self.message = message


def chosen_kind(device: Device) -> str | None:
    """Return the kind that a user chose."""
    return device.kind.name if device.kind is not None and device.kind.reason == CHOSEN_KIND else None
