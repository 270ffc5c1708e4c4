"""The table of routes: method, path, role, handler, and what each takes and answers.

The router, the check of roles and of query parameters, and the OpenAPI document are derived from it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from aiohttp import web
from msgspec import Meta

from netscand import protocol
from netscand.serve.auth import Checks, Role, require
from netscand.serve.capture_api import LONGEST as LONGEST_CAPTURE
from netscand.serve.capture_api import CaptureApi
from netscand.serve.history_api import HistoryApi
from netscand.serve.http import BINARY, JSON
from netscand.serve.metrics import Metrics
from netscand.serve.openapi import Description
from netscand.serve.page import PATHS, Page
from netscand.serve.people_api import PeopleApi
from netscand.serve.query import CURSOR_PATTERN, LONGEST, NETWORK_PATTERN, MacText
from netscand.serve.rest import DeviceChanges, Rest
from netscand.serve.settings import SettingsView
from netscand.serve.websocket import WebSocketEndpoint

Handler = Callable[[Any, web.Request], Awaitable[web.StreamResponse]]
"""A method of the class that serves the route."""


class Query(NamedTuple):
    """Query parameter; a tuple of types means any of them, `several` values are separated by commas."""

    name: str
    type: Any
    description: str
    several: bool = False


class Route(NamedTuple):
    """One route. `answers` maps a status to a struct (JSON), a media type, or None (no body)."""

    method: str
    path: str
    role: Role
    """Lowest role that may use it."""
    handler: Handler
    answers: Mapping[int, Any]
    query: tuple[Query, ...] | None = ()
    """None: any parameters."""
    body: type[msgspec.Struct] | None = None
    body_required: bool = True
    refusals: tuple[int, ...] = ()
    """Statuses above 399 beside those that every route has."""
    action: str = "reading"
    """For the message of a refusal: `forgetting a device requires role "admin"`."""
    operation: str = ""
    """Name of the method in generated clients."""
    tag: str = "daemon"
    """Group of the operation."""
    pages_by: str = ""
    """Parameter that continues a list that `limit` ended; then `more` is true in the answer."""
    allow_head: bool = True
    checks: Checks = Checks.ALL

    @property
    def name(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> frozenset[str] | None:
        """Names of the query parameters; None: any."""
        return None if self.query is None else frozenset(query.name for query in self.query)

    def require(self, role: Role, *, suggest_token: bool = False) -> None:
        """Refuse a lower role than that of the route."""
        require(self.action, self.role, role, suggest_token=suggest_token)


NUMBER = Annotated[int, Meta(ge=1, le=999_999_999)]
EVENTS = Annotated[int, Meta(ge=1, le=5_000)]
PRESENCE_DAYS = Annotated[int, Meta(ge=1, le=90)]
CURSOR = Annotated[str, Meta(pattern=CURSOR_PATTERN, examples=["k3f9-118"])]
CAPTURE_SECONDS = Annotated[int, Meta(ge=1, le=LONGEST_CAPTURE)]
BOOLEAN = Literal["true", "false"]
TEXT = Annotated[str, Meta(max_length=LONGEST)]
NETWORK_ID = Annotated[str, Meta(pattern=NETWORK_PATTERN, examples=["192.168.1.0/24@eth0", "192.168.1.0/24"])]
IPV4 = Annotated[str, Meta(extra_json_schema={"format": "ipv4"})]
IPV6 = Annotated[str, Meta(extra_json_schema={"format": "ipv6"})]

NETWORK = Query("network", NETWORK_ID, "id of a network, or its prefix on any interface")
SEARCH = Query("q", TEXT, "text in the name, label, notes, vendor, kind, tags, MAC (in any spelling) or an address")
KNOWN = Query("known", BOOLEAN, "devices that are marked as known, or that are not, without this host")
TAG = Query("tag", protocol.Tag, "devices with this tag")
SINCE = Query("since", (CURSOR, protocol.Time), "events after this cursor or time")
UNTIL = Query("until", (CURSOR, protocol.Time), "events up to this cursor or time")
KIND = Query("kind", protocol.EventKind, "events of these kinds", several=True)
LIMIT = Query("limit", EVENTS, "maximum number of events (default 500)")
LAST = Query("last", EVENTS, "number of latest events, instead of `since` and `limit`")

API = (
    Route(
        "GET", "/healthz", Role.NONE, Rest.health, {200: protocol.Health}, refusals=(503,), checks=Checks.NONE,
        operation="get_health",
    ),
    Route(
        "GET", "/metrics", Role.READ, Metrics.respond, {200: "text/plain"},
        operation="get_metrics",
    ),
    Route(
        "GET", "/ws", Role.READ, WebSocketEndpoint.connect, {101: None},
        query=(
            Query("updates", Literal["full", "changes"], "the mode"),
            Query("since", CURSOR, "resume after this cursor (mode `changes`)"), NETWORK, SEARCH, KNOWN, TAG,
        ),
        refusals=(503,), allow_head=False,
        operation="open_stream", tag="events",
    ),
    Route(
        "GET", "/api", Role.READ, Description.redirect, {307: None},
        operation="get_api",
    ),
    Route(
        "GET", "/api/openapi.json", Role.READ, Description.respond, {200: JSON},
        operation="get_openapi",
    ),
    Route(
        "GET", "/api/devices", Role.READ, Rest.devices, {200: protocol.DeviceList},
        query=(
            Query("status", protocol.Status, "devices with this status"), NETWORK, SEARCH, KNOWN, TAG,
            Query("ip", (IPV4, IPV6), "devices with this address"),
            Query("name", TEXT, "devices with this label or host name, with or without its domain or `.local`"),
            Query("limit", NUMBER, "maximum number of devices"), Query("after", MacText, "devices after this MAC"),
        ),
        operation="list_devices", tag="devices", pages_by="after",
    ),
    Route(
        "GET", "/api/devices/{mac}", Role.READ, Rest.device, {200: protocol.Device}, refusals=(404,),
        operation="get_device", tag="devices",
    ),
    Route(
        "PATCH", "/api/devices/{mac}", Role.ADMIN, DeviceChanges.label, {200: protocol.Device},
        body=protocol.DeviceUpdate, refusals=(404, 503), action="changing a device",
        operation="update_device", tag="devices",
    ),
    Route(
        "DELETE", "/api/devices/{mac}", Role.ADMIN, DeviceChanges.forget, {204: None, 200: protocol.Erased},
        query=(Query("history", BOOLEAN, "true: delete its events, too, and answer with their number (status 200)"),),
        refusals=(404, 503), action="forgetting a device",
        operation="forget_device", tag="devices",
    ),
    Route(
        "POST", "/api/devices/{mac}/wake", Role.ADMIN, DeviceChanges.wake, {202: protocol.WakeSent},
        refusals=(404, 503), action="waking a device", operation="wake_device", tag="devices",
    ),
    Route(
        "POST", "/api/devices/{mac}/merge", Role.ADMIN, DeviceChanges.merge, {200: protocol.Device},
        body=protocol.MergeRequest, refusals=(404, 503), action="merging devices",
        operation="merge_devices", tag="devices",
    ),
    Route(
        "DELETE", "/api/devices/{mac}/merge", Role.ADMIN, DeviceChanges.split, {200: protocol.Device},
        refusals=(404,), action="merging devices",
        operation="split_device", tag="devices",
    ),
    Route(
        "GET", "/api/suggestions", Role.READ, Rest.suggestions, {200: protocol.SuggestionList},
        operation="list_suggestions", tag="devices",
    ),
    Route(
        "GET", "/api/devices/{mac}/events", Role.READ, HistoryApi.events, {200: protocol.EventList},
        query=(SINCE, UNTIL, KIND, LIMIT, LAST), refusals=(404, 410, 503),
        operation="list_device_events", tag="events", pages_by="since",
    ),
    Route(
        "GET", "/api/devices/{mac}/presence", Role.READ, HistoryApi.presence, {200: protocol.PresenceDays},
        query=(
            Query("days", PRESENCE_DAYS, "number of days (default 7)"),
            Query("step", Literal["900", "1800", "3600"], "also each part of the days, of that many seconds"),
        ),
        refusals=(404, 503),
        operation="list_device_presence", tag="devices",
    ),
    Route(
        "GET", "/api/events", Role.READ, HistoryApi.events, {200: protocol.EventList},
        query=(
            SINCE, UNTIL, KIND, Query("mac", MacText, "events of this device"),
            Query("tag", protocol.Tag, "events of the devices that have this tag now"),
            Query("person", protocol.PersonName, "events about the person with this name, now or then"), LIMIT, LAST,
        ),
        refusals=(410, 503),
        operation="list_events", tag="events", pages_by="since",
    ),
    Route(
        "GET", "/api/people", Role.READ, PeopleApi.people, {200: protocol.PeopleList},
        operation="list_people", tag="people",
    ),
    Route(
        "PATCH", "/api/people/{name}", Role.ADMIN, PeopleApi.change_person, {200: protocol.Person},
        body=protocol.PersonUpdate, refusals=(404, 503), action="changing a person",
        operation="update_person", tag="people",
    ),
    Route(
        "DELETE", "/api/people/{name}", Role.ADMIN, PeopleApi.remove_person, {204: None},
        refusals=(404,), action="removing a person",
        operation="remove_person", tag="people",
    ),
    Route(
        "GET", "/api/networks", Role.READ, Rest.networks, {200: protocol.NetworkList},
        operation="list_networks", tag="networks",
    ),
    Route(
        "GET", "/api/settings", Role.ADMIN, SettingsView.respond, {200: protocol.Settings},
        action="reading the settings", operation="get_settings",
    ),
    Route(
        "GET", "/api/status", Role.READ, Rest.status, {200: protocol.DaemonStatus},
        operation="get_status",
    ),
    Route(
        "POST", "/api/scan", Role.SCAN, Rest.scan, {202: protocol.ScanTicket, 200: protocol.ScanUpdate},
        query=(Query("wait", Literal["0", "1"], "1: answer with 200 when the scan has ended, after an hour with 202"),),
        body=protocol.ScanRequest, body_required=False, refusals=(503,), action="scanning",
        operation="start_scan", tag="networks",
    ),
    Route(
        "POST", "/api/reload", Role.ADMIN, Rest.reload, {204: None},
        refusals=(503,), action="reloading the configuration",
        operation="reload_configuration",
    ),
    Route(
        "GET", "/api/capture", Role.ADMIN, CaptureApi.respond, {200: BINARY},
        query=(
            Query("seconds", CAPTURE_SECONDS, "length (default 60)"),
            Query("anonymise", BOOLEAN, "true: without names, and without the lower half of MACs"),
        ),
        refusals=(404, 503), action="capturing frames", allow_head=False,
        operation="get_capture", tag="networks",
    ),
    Route(
        "GET", "/api/backup", Role.ADMIN, HistoryApi.backup, {200: BINARY},
        refusals=(503,), action="saving a backup", allow_head=False,
        operation="get_backup",
    ),
)  # fmt: skip
"""All routes but those of the page."""
PAGE = tuple(
    Route(
        "GET", path, Role.NONE, Page.send, {200: None, 304: None}, query=None if path == "/" else (),
        checks=Checks.HOST,
    )
    for path in PATHS
)  # fmt: skip
"""Files that reveal nothing of the LAN; a link to the page may have any parameters."""

ROUTES = (*API, *PAGE)
BY_NAME: Mapping[str, Route] = {route.name: route for route in ROUTES}


def router(parts: Iterable[object], routes: Sequence[Route] = ROUTES) -> list[web.RouteDef]:
    """Return the routes whose handlers are methods of `parts`, or overridden by them, for aiohttp."""
    served = tuple(parts)
    found = []
    for route in routes:
        for part in served:
            if any(vars(kind).get(route.handler.__name__) is route.handler for kind in type(part).__mro__):
                handler = getattr(part, route.handler.__name__)
                options = {"allow_head": route.allow_head} if route.method == "GET" else {}
                found.append(web.route(route.method, route.path, handler, **options))
    return found


def route_of(request: web.Request, routes: Mapping[str, Route] = BY_NAME) -> Route | None:
    """Return the route of a request; None if no path, or no method of it, matches."""
    resource = request.match_info.route.resource
    if resource is None:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    return routes[f"{method} {resource.canonical}"]
