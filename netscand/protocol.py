"""The wire contract: every message and answer, as a typed struct. The only module that netscanctl imports.

Version history
    1   the first: `/ws` in the modes `full` (the push document's contract) and `changes`, REST under `/api`.

Times are RFC 3339 text in UTC: milliseconds, but microseconds for `seen_at` and `sent_at`. Receivers ignore fields,
types and kinds that they do not know; within one protocol number fields are only ever added.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

PROTOCOL = 1
"""Raised only when an old client could misread what it is told."""

MAX_MESSAGE = 64 * 1024
"""Bytes a client may send in one message or body."""

SNAPSHOT_PART = 500
"""Devices in one message of a `changes` snapshot."""

CLOSE_LAGGED = 4000
"""WebSocket close code: this client did not read as fast as things happened."""

Status = Literal["online", "offline", "unknown"]
Role = Literal["none", "read", "scan", "admin"]
EventKind = Literal[
    "discovered", "online", "offline", "address_added", "address_removed", "address_moved", "address_conflict",
    "renamed", "labelled", "forgotten", "gateway_changed", "dhcp_server_seen", "network_up", "network_down",
    "network_silent", "network_recovered", "flood",
]  # fmt: skip
Cause = Literal["timer", "client", "interface", "start"]
Verdict = Literal["ok", "warning", "failed", "unknown"]


class Address(Struct, kw_only=True):
    """An address that a device was heard to hold."""

    ip: str
    network: str
    interface: str
    evidence: str
    first_seen: str
    last_seen: str


class Device(Struct, kw_only=True):
    """One MAC. `ip` is the IPv4 last heard, else an IPv6, else null; `patience` in seconds."""

    mac: str
    ip: str | None
    hostname: str | None
    hostname_source: str | None
    label: str | None
    known: bool
    notes: str | None
    vendor: str | None
    randomized_mac: bool
    kinds: list[str]
    status: str
    reason: str
    patience: float
    status_since: str
    first_seen: str
    last_seen: str
    rtt_ms: float | None
    addresses: list[Address]
    dhcp_vendor_class: str | UnsetType | None = UNSET
    """What its DHCP client calls itself (option 60); told in the REST answer about one device alone."""


class Coverage(Struct, kw_only=True):
    """The part of a network that one scan asks, and the seconds until every address was asked once."""

    fraction: float
    seconds: float


class Network(Struct, kw_only=True):
    """One IPv4 prefix on one interface; `why` says why it is scanned, or not; `addresses` are those to be asked."""

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
    last_scan: str | None


# ---- server → client --------------------------------------------------------------------------------------------


class Message(Struct, kw_only=True, tag_field="type"):
    """A text message on `/ws`: a JSON object with a `type`."""


class InitialState(Message, tag="initial_state"):
    """The snapshot; in `changes` mode the rest follows in `devices` messages while `more`."""

    protocol: int
    version: str
    cursor: str
    interval: float
    scanning: bool
    last_scan: str | None
    role: str
    networks: list[Network]
    devices: list[Device]
    more: bool = False


class Devices(Message, tag="devices"):
    """A further part of the snapshot."""

    devices: list[Device]
    more: bool


class Resumed(Message, tag="resumed"):
    """Instead of the snapshot, where `since=` could be met: the client's own cursor; each missed event follows."""

    cursor: str
    version: str
    protocol: int
    interval: float
    scanning: bool
    role: str
    networks: list[Network]


class Event(Message, tag="event"):
    """A change. `previous` holds the device's fields that changed, as they were."""

    cursor: str
    kind: str
    at: str
    network: str | None = None
    address: str | None = None
    other: str | None = None
    evidence: str | None = None
    reason: str = ""
    device: Device | None = None
    previous: dict[str, Any] | None = None
    seen_at: str | None = None
    sent_at: str | None = None


class ScanStarted(Message, tag="scan_started"):
    """A scan began."""

    scan_id: int
    networks: list[str]
    requested_by: str


class ScanProgress(Message, tag="scan_progress"):
    """`done` and `total` count addresses, `found` devices that answered."""

    scan_id: int
    done: int
    total: int
    found: int


class Frames(Struct, kw_only=True):
    """Frames that a scan sent."""

    broadcast: int
    unicast: int


class ScanUpdate(Message, tag="scan_update"):
    """A scan ended (in `full` mode also, with `scan_id` null, after a change between scans)."""

    scan_id: int | None
    cursor: str
    networks: list[str]
    started_at: str | None
    finished_at: str | None
    online: int
    frames: Frames | None
    devices: list[Device]


class ScanError(Message, tag="scan_error"):
    """A scan of one network could not be done; the next one runs all the same."""

    scan_id: int
    network: str
    message: str


class ScanAccepted(Message, tag="scan_accepted"):
    """The answer to `scan_now`: the scan that will serve it."""

    request: str | None
    scan_id: int


class Interval(Message, tag="interval"):
    """The answer to `set_interval`: what is in force now, in seconds."""

    request: str | None
    seconds: float


class Lagged(Message, tag="lagged"):
    """The last words to a client that did not keep up; its last good cursor."""

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


class ScanNow(Message, tag="scan_now"):
    """A scan request; no targets: every scanned network."""

    targets: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=1024)] = []
    request: Request | None = None


class SetInterval(Message, tag="set_interval"):
    """A lease on a faster interval, ended by null or with the connection."""

    seconds: float | None
    request: Request | None = None


ClientMessage = ScanNow | SetInterval


class DeviceList(Struct, kw_only=True):
    """`GET /api/devices`, by MAC."""

    cursor: str
    last_scan: str | None
    devices: list[Device]


class EventList(Struct, kw_only=True):
    """`GET /api/events`, oldest first; `cursor` is the next `since`."""

    cursor: str
    events: list[Event]


class DeviceWords(Struct, kw_only=True):
    """The body of `PATCH /api/devices/MAC`: what is left out stays; null returns to none, `patience` to the learned."""

    label: Annotated[str, Meta(max_length=128)] | UnsetType | None = UNSET
    known: bool | UnsetType = UNSET
    notes: Annotated[str, Meta(max_length=4096)] | UnsetType | None = UNSET
    patience: Annotated[float, Meta(ge=1, le=86_400)] | UnsetType | None = UNSET


class PresenceDay(Struct, kw_only=True):
    """A UTC day of one device: seconds online, and seconds in which netscand was not able to tell."""

    date: str
    online_seconds: float
    unknown_seconds: float


class PresenceDays(Struct, kw_only=True):
    """`GET /api/devices/MAC/presence`, the oldest day first."""

    days: list[PresenceDay]


class NetworkList(Struct, kw_only=True):
    """`GET /api/networks`."""

    networks: list[Network]


class ScanWish(Struct, kw_only=True):
    """The body of `POST /api/scan`."""

    targets: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=1024)] = []


class ScanTicket(Struct, kw_only=True):
    """The 202 answer of `POST /api/scan`."""

    scan_id: int


class Counts(Struct, kw_only=True):
    """Devices by presence, this host left out."""

    online: int
    offline: int
    unknown: int


class Traffic(Struct, kw_only=True):
    """Frames since the start: `dropped` the kernel had no room for, `ignored` were received, too many to look at."""

    received: int
    dropped: int
    broadcast: int
    unicast: int
    send_errors: int
    ignored: int = 0


class Budget(Struct, kw_only=True):
    """Frames per second: allowed (0: unlimited), broadcast allowed between scans, and sent in the last second."""

    rate: float
    background_rate: float
    used: float


class Limit(Struct, kw_only=True):
    """A budget of what others may cause (docs/security.md): refusals since the start, and any in the last minute."""

    name: str
    refused: int
    limiting: bool


class DaemonStatus(Struct, kw_only=True):
    """`GET /api/status`: health, load, coverage, drops, version; why it is `degraded`; which budgets refused any."""

    version: str
    protocol: int
    status: str
    problems: list[str]
    role: str
    started_at: str
    now: str
    cursor: str
    scanning: bool
    interval: float
    last_scan: str | None
    devices: Counts
    networks: list[Network]
    clients: int
    frames: Traffic
    budget: Budget
    memory_mib: float
    limits: list[Limit] = []


class Health(Struct, kw_only=True):
    """`GET /healthz`."""

    status: str


class Refusal(Struct, kw_only=True):
    """What was wrong, for a program (`code`) and a person."""

    code: str
    message: str


class ErrorAnswer(Struct, kw_only=True):
    """The body of every answer above 399."""

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
    "bad_request": 400, "unauthorized": 401, "forbidden": 403, "not_found": 404, "cursor_gone": 410,
    "too_large": 413, "unsupported_media_type": 415, "busy": 503,
}  # fmt: skip
"""Code → HTTP status."""


encode = msgspec.json.Encoder().encode
Encoded = bytes | bytearray | memoryview | str
# The types stand here: those that msgspec gives to the decoder of a union differ from release to release.
decode_client: Callable[[Encoded], ClientMessage] = msgspec.json.Decoder(ClientMessage).decode
decode_server: Callable[[Encoded], ServerMessage] = msgspec.json.Decoder(ServerMessage).decode
