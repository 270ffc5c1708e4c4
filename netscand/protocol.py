"""The wire contract: every message and response, as a typed struct. The only module that netscanctl imports.

Version history
    1   the first: `/ws` in the modes `full` and `changes`, REST under `/api`.

Times are RFC 3339 text in UTC: milliseconds, for `seen_at` and `sent_at` microseconds. Clients ignore fields,
types and kinds that they do not know; within one protocol number fields are only ever added. The daemon refuses fields
that it does not know, as it refuses query parameters: a misspelt one would be ignored in silence.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

PROTOCOL = 1
"""Raised only when an old client could misread a message."""

MAX_MESSAGE = 64 * 1024
"""Maximum bytes of one message or body from a client."""

SNAPSHOT_PART = 500
"""Devices in one message of a `changes` snapshot."""

MAC_PATTERN = "^(?:(?:[0-9A-Fa-f]{2}:){5}|(?:[0-9A-Fa-f]{2}-){5})[0-9A-Fa-f]{2}$"
"""MAC with colons or dashes."""

MacText = Annotated[str, Meta(pattern=MAC_PATTERN, max_length=17)]

MOST_TAGS, LONGEST_TAG = 16, 32
"""Maximum tags of a device, and characters of a tag."""

MOST_OTHERS = 16
"""Maximum devices of which a user said that one is not the same."""

TAG_PATTERN = r"^[^\W_][^\s,\x00-\x1f\x7f-\x9f\ufeff]*$"
"""Tag: begins with a letter or a digit, and has no spaces, commas or control characters. It is stored in lower case,
without invisible characters. (The spaces of Python and of JavaScript differ by some of these.)"""

NAME_PATTERN = r"[^\W_]"
"""Name of a person: it has a letter or a digit."""

LONGEST_NAME = 64
"""Maximum characters of a person's name."""

CLOSE_LAGGED = 4000
"""WebSocket close code: the client did not read fast enough."""

Status = Literal["online", "offline", "unknown"]
Role = Literal["none", "read", "scan", "admin"]
EventKind = Literal[
    "discovered", "online", "offline", "address_added", "address_removed", "address_moved", "address_conflict",
    "renamed", "labelled", "forgotten", "gateway_changed", "dhcp_server_seen", "network_up", "network_down",
    "network_silent", "network_recovered", "flood", "same_host", "unknown", "kind_changed", "merged", "split",
    "person_home", "person_away", "person_unknown", "person_changed", "person_removed",
    "snapshot", "site_snapshot", "site_up", "site_silent", "site_changed", "site_removed",
]  # fmt: skip
Kind = Literal[
    "router", "access_point", "switch", "computer", "laptop", "server", "nas", "virtual_machine", "container", "phone",
    "tablet", "watch", "voip_phone", "printer", "tv", "speaker", "console", "camera", "light", "plug", "sensor",
    "thermostat", "lock", "vacuum", "appliance", "energy", "hub", "other",
]  # fmt: skip
"""What a device is; more may be added."""
Cause = Literal["timer", "client", "interface", "start"]
Verdict = Literal["ok", "warning", "failed", "unknown"]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339 in UTC."""


class Address(Struct, kw_only=True):
    """Address at which a device was seen."""

    ip: str
    network: str
    interface: str
    evidence: str
    first_seen: Time
    last_seen: Time
    foreign: bool | UnsetType = UNSET
    """It belongs to no network of this host; not set: it does."""
    mac: str | UnsetType = UNSET
    """MAC that has it, if that was merged into the device; not set: the device's own."""
    hostname: str | UnsetType = UNSET
    """Name of the device that has it, behind one that puts its own MAC into frames (a Wi-Fi extender)."""


class Device(Struct, kw_only=True):
    """One MAC. `ip` is the IPv4 address seen last, else an IPv6 address, else null; `patience` is in seconds."""

    mac: str
    ip: str | None
    hostname: str | None
    hostname_source: str | None
    label: str | None
    known: bool
    notes: str | None
    vendor: str | None
    randomized_mac: bool
    """Its MAC is locally administered (IEEE 802c), but no QEMU, KVM or Docker one; it may be stable all the same."""
    kinds: list[str]
    status: str
    reason: str
    patience: float
    status_since: Time
    first_seen: Time
    last_seen: Time
    rtt_ms: float | None
    addresses: list[Address]
    kind: str | UnsetType | None = UNSET
    """What it is (`Kind`), by the user's word or by evidence; not set: unknown. Its `kinds` are marks, as `gateway`."""
    kind_reason: str | UnsetType | None = UNSET
    """Evidence for `kind`, or `chosen by a user`."""
    services: "list[Service] | UnsetType" = UNSET
    """Services that it announced by mDNS; only in the REST response about one device."""
    tags: list[str] = []
    """Tags that users gave it, in alphabetical order."""
    merged_macs: list[str] | UnsetType = UNSET
    """Further MACs of it, which users merged into it; not set: there are none."""
    not_same_as: list[str] | UnsetType = UNSET
    """Devices that users said it is not, though there is evidence: they are not suggested; not set: there are none."""
    dhcp_vendor_class: str | UnsetType | None = UNSET
    """Vendor class of its DHCP client (option 60); only in the REST response about one device, as the next three."""
    last_unsolicited: Time | UnsetType | None = UNSET
    """When it last sent a frame that answers no request; null: not since the start of the daemon."""
    vendor_hint: str | UnsetType | None = UNSET
    """Probable vendor of a locally administered MAC: that of a device on the LAN with its prefix without the bit."""
    probably_same_as: "SameDevice | UnsetType | None" = UNSET
    """Offline device that this one probably was before, under another MAC."""
    dhcp: "Dhcp | UnsetType | None" = UNSET
    """Its latest lease, as received; null: none since the start. Only about one device, as the next field."""
    address_origin: str | UnsetType | None = UNSET
    """`lease`: its `ip` is that of `dhcp`; null: not known. No frame proves that an address is static."""
    conflicts: "list[Conflict] | UnsetType" = UNSET
    """Addresses that another device uses, too; only in the REST response about one device."""
    warnings: list[str] | UnsetType = UNSET
    """What the user should know about a change; only in the response to one, if there is something."""
    site: str | UnsetType = UNSET
    """Its site; only from a hub of sites, as the next one. There, site and MAC identify a device."""
    status_at_site: str | UnsetType = UNSET
    """Status that the site reported last; only while the site is silent, and `status` is therefore `unknown`."""


def has_name(device: Device, name: str) -> bool:
    """Return whether a name is the label or host name of a device; with or without `.local`, or without its domain."""
    wanted = name.casefold()
    hostname = (device.hostname or "").casefold()
    names = {(device.label or "").casefold(), hostname, hostname.partition(".")[0]} - {""}
    return wanted in names or wanted.rstrip(".").removesuffix(".local") in names


class Service(Struct, kw_only=True):
    """Service that a device announced by mDNS, with the values of its TXT record that indicate a kind."""

    type: str
    txt: dict[str, str]


class PersonDevice(Struct, kw_only=True):
    """Device of a person; `counts`: the person is home while it is online."""

    mac: MacText
    counts: bool = True


class Person(Struct, kw_only=True):
    """A person: `home` while a device that counts is online, `away` if all are offline, `unknown` in doubt."""

    name: str
    status: str
    status_since: Time
    """Since when the person is home or away, through doubts; while `unknown`, since when that is."""
    reason: str
    last_status: str | None
    """`home` or `away`, as far as it was ever certain."""
    devices: list[PersonDevice]
    warnings: list[str] | UnsetType = UNSET
    """What the user should know about a change; only in the response to `PATCH`, if there is something."""


class Conflict(Struct, kw_only=True):
    """Address that two devices use: both are online and were seen there since `since`."""

    address: str
    network: str
    macs: list[str]
    """The device that had the address first, and the one that claims it."""
    since: Time


class Dhcp(Struct, kw_only=True):
    """Latest lease of a device: by its request, which has no length, or by the answer of the server."""

    server: str
    address: str | None
    lease_seconds: int | None
    """Null: the answer was not received. 4294967295: without end."""
    client_id: str | None
    """Hexadecimal identifier of its DHCP client (option 61), if it is not the MAC; of a DUID, only that."""
    received: Time


class SameDevice(Struct, kw_only=True):
    """A device that is probably the same, and why."""

    mac: str
    label: str | None
    reason: str
    annotated: bool = True
    """It has annotations that `take_from` moves."""


class Coverage(Struct, kw_only=True):
    """Part of a network that one scan covers, and the seconds until every address was scanned once."""

    fraction: float
    seconds: float


class Network(Struct, kw_only=True):
    """One IPv4 prefix on one interface; `why` says why it is scanned or not; `addresses` counts those to scan."""

    id: str
    cidr: str
    interface: str
    state: str
    why: str
    gateway: str | None
    interval: float
    addresses: int
    coverage: Coverage
    online: int
    last_scan: Time | None
    same_lan_as: str | None = None
    """Network on another interface that is the same LAN, and is scanned instead."""
    site: str | UnsetType = UNSET
    """Its site; only from a hub of sites."""


class Site(Struct, kw_only=True):
    """A site, as a hub sees it. `problems` are words for programs, `why` a sentence for each."""

    site: str
    state: str
    """`connected`, `silent`, or `unknown`: nothing was received from it since the hub started."""
    problems: list[str]
    """Any of `behind`, `wrong_clock`, `conflicting`, `other_version`, `gap`, `unreadable`, `snapshot`,
    `never_published`."""
    why: list[str]
    since: Time | None
    """When something was last received from it, if it is silent; else since when it is connected."""
    received_at: Time | None = None
    """When something was last received from it, since the hub started."""
    cursor: str | None
    """The site's own cursor after the last message of it that the hub has."""
    version: str | None
    instance: str | None
    backlog: int
    clock_offset: float | None
    """Seconds by which the site's clock is ahead of the hub's."""
    commands: bool
    """It takes commands, such as `scan_now`."""
    devices: "Counts"
    networks: int
    unreadable: int = 0
    """Messages of it that the hub could not read, since the hub started."""


# ---- server → client --------------------------------------------------------------------------------------------


class Message(Struct, kw_only=True, tag_field="type"):
    """Text message on `/ws`: a JSON object with a `type`."""


class InitialState(Message, tag="initial_state"):
    """The snapshot; in `changes` mode, more devices follow in `devices` messages while `more` is true."""

    protocol: int
    version: str
    cursor: str
    interval: float
    scanning: bool
    last_scan: Time | None
    role: str
    networks: list[Network]
    devices: list[Device]
    people: list[Person] = []
    more: bool = False
    sites: list[Site] | UnsetType = UNSET
    """Only from a hub of sites."""


class Devices(Message, tag="devices"):
    """Another part of the snapshot."""

    devices: list[Device]
    more: bool


class Resumed(Message, tag="resumed"):
    """Sent instead of the snapshot after `since=`: the client's own cursor; each missed event follows."""

    cursor: str
    version: str
    protocol: int
    interval: float
    scanning: bool
    role: str
    networks: list[Network]
    sites: list[Site] | UnsetType = UNSET
    """Only from a hub of sites."""


class Event(Message, tag="event"):
    """A change. `previous` holds the previous values of the device's fields that changed."""

    cursor: str
    kind: str
    at: Time
    network: str | None = None
    address: str | None = None
    other: str | None = None
    evidence: str | None = None
    reason: str = ""
    device: Device | None = None
    previous: dict[str, Any] | None = None
    person: Person | UnsetType = UNSET
    """Of an event about a person; `previous` has the previous values of its fields."""
    seen_at: Time | None = None
    sent_at: Time | None = None
    site: str | UnsetType = UNSET
    """Site of the event; only from a hub of sites."""
    state: Site | UnsetType = UNSET
    """The site as it is now; only with the kinds `site_up`, `site_silent`, `site_changed`, and `site_removed` if it was
    added again since."""


class ScanStarted(Message, tag="scan_started"):
    """A scan began."""

    scan_id: int
    networks: list[str]
    requested_by: str


class ScanProgress(Message, tag="scan_progress"):
    """Progress of a scan: `done` and `total` count addresses, `found` counts devices that answered."""

    scan_id: int
    done: int
    total: int
    found: int


class Frames(Struct, kw_only=True):
    """Frames that a scan sent."""

    broadcast: int
    unicast: int


class ScanUpdate(Message, tag="scan_update"):
    """A scan ended; in `full` mode also sent after a change between scans, with `scan_id` null."""

    scan_id: int | None
    cursor: str
    networks: list[str]
    started_at: Time | None
    finished_at: Time | None
    online: int
    frames: Frames | None
    devices: list[Device]


class ScanError(Message, tag="scan_error"):
    """A scan of one network failed; the next one still runs."""

    scan_id: int
    network: str
    message: str


class ScanAccepted(Message, tag="scan_accepted"):
    """Response to `scan_now`: the scan that serves the request."""

    request: str | None
    scan_id: int


class Interval(Message, tag="interval"):
    """Response to `set_interval`: the interval now in force, in seconds."""

    request: str | None
    seconds: float


class Lagged(Message, tag="lagged"):
    """Last message to a client that read too slowly: the cursor to resume from."""

    cursor: str


class Error(Message, tag="error"):
    """A refused request."""

    code: str
    message: str
    request: str | None = None


ServerMessage = (
    InitialState | Devices | Resumed | Event | ScanStarted | ScanProgress | ScanUpdate | ScanError | ScanAccepted
    | Interval | Lagged | Error
)  # fmt: skip


Request = Annotated[str, Meta(max_length=128)]
SiteName = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,32}$")]


class ScanNow(Message, tag="scan_now", forbid_unknown_fields=True):
    """A scan request; without targets, of every scanned network."""

    targets: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=1024)] = []
    request: Request | None = None
    site: SiteName | UnsetType = UNSET
    """Site to scan; only to a hub of sites."""


class SetInterval(Message, tag="set_interval", forbid_unknown_fields=True):
    """Lease of a faster interval; null, or the end of the connection, ends it."""

    seconds: float | None
    request: Request | None = None


ClientMessage = ScanNow | SetInterval


class DeviceList(Struct, kw_only=True):
    """`GET /api/devices`, by MAC."""

    cursor: str
    last_scan: Time | None
    devices: list[Device]
    conflicts: list[Conflict] = []
    """Conflicts that last, of all devices."""
    more: bool = False
    """There are more devices after the last one than `limit` allowed: continue with its MAC as `after`."""


class EventList(Struct, kw_only=True):
    """`GET /api/events`, oldest first; `cursor` is the next `since`.

    `more`: there are more events than `limit` allowed; not set for `last`.
    """

    cursor: str
    events: list[Event]
    more: bool = False


Tag = Annotated[str, Meta(max_length=LONGEST_TAG, extra_json_schema={"pattern": TAG_PATTERN})]
Tags = Annotated[list[Tag], Meta(max_length=MOST_TAGS)]


class DeviceUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of `PATCH /api/devices/MAC`: omitted fields stay; null clears a field, or returns `patience` to learned."""

    label: Annotated[str, Meta(max_length=128)] | UnsetType | None = UNSET
    known: bool | UnsetType = UNSET
    notes: Annotated[str, Meta(max_length=4096)] | UnsetType | None = UNSET
    patience: Annotated[float, Meta(ge=1, le=86_400)] | UnsetType | None = UNSET
    kind: Kind | UnsetType | None = UNSET
    """Null: by evidence again."""
    take_from: MacText | UnsetType = UNSET
    """MAC of a device whose annotations (all fields above, and tags) move to this one, before other fields are set."""
    tags: Tags | UnsetType = UNSET
    """All tags of the device from now on."""
    add_tags: Tags | UnsetType = UNSET
    remove_tags: Tags | UnsetType = UNSET
    not_same_as: Annotated[list[MacText], Meta(max_length=MOST_OTHERS)] | UnsetType = UNSET
    """All devices that this one is not, though there is evidence: they are no longer suggested."""


PersonName = Annotated[str, Meta(max_length=LONGEST_NAME, extra_json_schema={"pattern": NAME_PATTERN})]


class PersonUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of `PATCH /api/people/NAME`: adds the person, or devices, or says whether they count; removes devices."""

    add: Annotated[list[PersonDevice], Meta(max_length=32)] = []
    remove: Annotated[list[MacText], Meta(max_length=32)] = []
    name: PersonName | UnsetType = UNSET
    """New name."""


class PeopleList(Struct, kw_only=True):
    """`GET /api/people`, by name."""

    cursor: str
    people: list[Person]


class MergeRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /api/devices/MAC/merge`: the device that is merged into MAC."""

    mac: MacText


class Suggestion(Struct, kw_only=True):
    """Two devices that are probably one, and why; `mac` would be merged into `into`. It changes nothing."""

    mac: str
    into: str
    name: str
    """What they have in common, as the devices themselves say."""
    evidence: list[str]


class SuggestionList(Struct, kw_only=True):
    """`GET /api/suggestions`; `dismissed`: those of which a user said that the two are not the same device.

    `more`: there are more than a list has.
    """

    suggestions: list[Suggestion]
    dismissed: list[Suggestion] = []
    more: bool = False


WARNING_HEADER = "Netscand-Warning"
"""Header of a response, in UTF-8: a change may not survive a restart (NOT_STORED), or a tag or person of the query does
not exist."""

NOT_STORED = "not stored"
"""Begin of that warning, in the header and in `warnings`; the reason follows."""


class Erased(Struct, kw_only=True):
    """Response of `DELETE /api/devices/MAC?history=true`: the number of events that were deleted."""

    events: int


class WakeSent(Struct, kw_only=True):
    """202 response of `POST /api/devices/MAC/wake`: the networks on which magic packets were sent."""

    networks: list[str]


class PresenceDay(Struct, kw_only=True):
    """UTC day of one device: seconds online, and seconds with status unknown; with `step`, of each part of it, too."""

    date: Annotated[str, Meta(extra_json_schema={"format": "date"})]
    online_seconds: float
    unknown_seconds: float
    online_parts: list[float] | UnsetType = UNSET
    unknown_parts: list[float] | UnsetType = UNSET


class PresenceDays(Struct, kw_only=True):
    """`GET /api/devices/MAC/presence`, oldest day first."""

    days: list[PresenceDay]


class Setting(Struct, kw_only=True):
    """Key of the configuration: the value in force, and the default. Null: not set, or no default."""

    table: str
    key: str
    value: Any
    default: Any = None


class Settings(Struct, kw_only=True):
    """`GET /api/settings`: the configuration in force, in the order of docs/configuration.md."""

    settings: list[Setting]


class NetworkList(Struct, kw_only=True):
    """`GET /api/networks`."""

    networks: list[Network]


class ScanRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /api/scan`."""

    targets: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=1024)] = []
    site: SiteName | UnsetType = UNSET
    """Site to scan; only to a hub of sites."""


class SiteList(Struct, kw_only=True):
    """`GET /api/sites` of a hub, by name."""

    cursor: str
    sites: list[Site]


class ScanTicket(Struct, kw_only=True):
    """202 response of `POST /api/scan`."""

    scan_id: int


class Counts(Struct, kw_only=True):
    """Number of devices by status, without this host."""

    online: int
    offline: int
    unknown: int


class Traffic(Struct, kw_only=True):
    """Frames since the start: `dropped` by the kernel for lack of room; `ignored`: received, but beyond the budget."""

    received: int
    dropped: int
    broadcast: int
    unicast: int
    send_errors: int
    ignored: int = 0


class Budget(Struct, kw_only=True):
    """Frames per second: the limit (0: unlimited), the limit of broadcasts between scans, sent in the last second."""

    rate: float
    background_rate: float
    used: float


class Limit(Struct, kw_only=True):
    """Budget of what others may cause (docs/security.md): refusals since the start; `limiting`: in the last minute."""

    name: str
    refused: int
    limiting: bool


class Access(Struct, kw_only=True):
    """How clients reach netscand over TCP: listeners, TLS, names and addresses for URLs, and the number of tokens.

    `token_file`: where `netscanctl token` writes, "" if systemd passes the tokens as a credential; `uid` and `gid`:
    those of netscand, which reads it.
    """

    listening: list[str]
    tls: bool
    hosts: list[str]
    addresses: list[str]
    tokens: int
    token_file: str
    uid: int
    gid: int


class DaemonStatus(Struct, kw_only=True):
    """`GET /api/status`: version, health and reasons why it is `degraded`, load, coverage, refusals of budgets.

    `conflicts`: some of the `conflict_count` conflicts between devices that last; they degrade nothing.
    `needs_restart`: changed keys of the configuration that take effect at the next restart, such as `[listen] tls_key`.
    `config_changed`: the file of the configuration is not as netscand last read it; a reload reads it.
    """

    version: str
    protocol: int
    status: str
    problems: list[str]
    role: str
    started_at: Time
    now: Time
    cursor: str
    scanning: bool
    interval: float
    last_scan: Time | None
    devices: Counts
    networks: list[Network]
    clients: int
    frames: Traffic
    budget: Budget
    memory_mib: float
    limits: list[Limit] = []
    conflicts: list[Conflict] = []
    conflict_count: int = 0
    access: Access | None = None
    needs_restart: list[str] = []
    config_changed: bool = False


class Health(Struct, kw_only=True):
    """`GET /healthz`."""

    status: str


class Refusal(Struct, kw_only=True):
    """Error for programs (`code`) and for people (`message`)."""

    code: str
    message: str


class ErrorAnswer(Struct, kw_only=True):
    """Body of every response with a status above 399."""

    error: Refusal


class CheckResult(Struct, kw_only=True, rename={"hint": "mend"}):
    """Result of one check of `netscand --check` or `netscanctl doctor`: what was found, and what to do about it.

    `warning`: netscand works, with restrictions. `failed`: it cannot work. `unknown`: the check was not possible.
    """

    check: str
    verdict: Verdict
    found: str
    hint: str | None = None


class CheckReport(Struct, kw_only=True):
    """Output of `netscand --check` and of `netscanctl doctor --json`; `ok` unless a check failed."""

    ok: bool
    checks: list[CheckResult]


ERROR_STATUS = {
    "bad_request": 400, "unauthorized": 401, "forbidden": 403, "not_found": 404, "ambiguous": 409,
    "cursor_gone": 410,
    "too_large": 413, "unsupported_media_type": 415, "busy": 503,
}  # fmt: skip
"""Code → HTTP status."""


encode = msgspec.json.Encoder().encode
Encoded = bytes | bytearray | memoryview | str
# Explicit types: those that msgspec gives the decoder of a union differ from release to release.
decode_client: Callable[[Encoded], ClientMessage] = msgspec.json.Decoder(ClientMessage).decode
decode_server: Callable[[Encoded], ServerMessage] = msgspec.json.Decoder(ServerMessage).decode
