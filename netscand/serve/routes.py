"""The table of routes: method, path, role, handler, and what each takes and answers.

The router, the check of roles and of query parameters, and the OpenAPI document are derived from it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from aiohttp import web
from msgspec import Meta

from netscand import protocol
from netscand.serve.auth import Checks, Role, require
from netscand.serve.history_api import HistoryApi
from netscand.serve.http import JSON
from netscand.serve.metrics import Metrics
from netscand.serve.openapi import Description
from netscand.serve.page import PATHS, Page
from netscand.serve.query import LONGEST, MacText
from netscand.serve.rest import DeviceChanges, Rest
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
TIME = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
CURSOR = Annotated[str, Meta(pattern="^[A-Za-z0-9]{1,32}[-~][0-9]{1,18}$", examples=["k3f9-118"])]
TEXT = Annotated[str, Meta(max_length=LONGEST)]

NETWORK = Query("network", str, "id of a network")
SEARCH = Query("q", TEXT, "text in the name, label, notes, vendor, MAC or an address")
SINCE = Query("since", (CURSOR, TIME), "events after this cursor or time")
KIND = Query("kind", protocol.EventKind, "events of these kinds", several=True)
LIMIT = Query("limit", EVENTS, "maximum number of events (default 500)")
LAST = Query("last", EVENTS, "number of latest events, instead of `since` and `limit`")

API = (
    Route("GET", "/healthz", Role.NONE, Rest.health, {200: protocol.Health}, refusals=(503,), checks=Checks.NONE),
    Route("GET", "/metrics", Role.READ, Metrics.respond, {200: "text/plain"}),
    Route(
        "GET", "/ws", Role.READ, WebSocketEndpoint.connect, {101: None},
        query=(
            Query("updates", Literal["full", "changes"], "the mode"),
            Query("since", CURSOR, "resume after this cursor (mode `changes`)"), NETWORK, SEARCH,
        ),
        refusals=(503,), allow_head=False,
    ),
    Route("GET", "/api/openapi.json", Role.READ, Description.respond, {200: JSON}),
    Route(
        "GET", "/api/devices", Role.READ, Rest.devices, {200: protocol.DeviceList},
        query=(
            Query("status", protocol.Status, "devices with this status"), NETWORK, SEARCH,
            Query("limit", NUMBER, "maximum number of devices"), Query("after", MacText, "devices after this MAC"),
        ),
    ),
    Route("GET", "/api/devices/{mac}", Role.READ, Rest.device, {200: protocol.Device}, refusals=(404,)),
    Route(
        "PATCH", "/api/devices/{mac}", Role.ADMIN, DeviceChanges.label, {200: protocol.Device},
        body=protocol.DeviceUpdate, refusals=(404, 503), action="changing a device",
    ),
    Route(
        "DELETE", "/api/devices/{mac}", Role.ADMIN, DeviceChanges.forget, {204: None},
        refusals=(404,), action="forgetting a device",
    ),
    Route(
        "GET", "/api/devices/{mac}/events", Role.READ, HistoryApi.events, {200: protocol.EventList},
        query=(SINCE, KIND, LIMIT, LAST), refusals=(404, 410, 503),
    ),
    Route(
        "GET", "/api/devices/{mac}/presence", Role.READ, HistoryApi.presence, {200: protocol.PresenceDays},
        query=(Query("days", PRESENCE_DAYS, "number of days (default 7)"),), refusals=(404, 503),
    ),
    Route(
        "GET", "/api/events", Role.READ, HistoryApi.events, {200: protocol.EventList},
        query=(SINCE, KIND, Query("mac", MacText, "events of this device"), LIMIT, LAST), refusals=(410, 503),
    ),
    Route("GET", "/api/networks", Role.READ, Rest.networks, {200: protocol.NetworkList}),
    Route("GET", "/api/status", Role.READ, Rest.status, {200: protocol.DaemonStatus}),
    Route(
        "POST", "/api/scan", Role.SCAN, Rest.scan, {202: protocol.ScanTicket, 200: protocol.ScanUpdate},
        query=(Query("wait", Literal["0", "1"], "1: answer when the scan has ended, with status 200"),),
        body=protocol.ScanRequest, body_required=False, refusals=(503,), action="scanning",
    ),
    Route(
        "POST", "/api/reload", Role.ADMIN, Rest.reload, {204: None},
        refusals=(503,), action="reloading the configuration",
    ),
    Route(
        "GET", "/api/backup", Role.ADMIN, HistoryApi.backup, {200: "application/vnd.sqlite3"},
        refusals=(503,), action="saving a backup", allow_head=False,
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
BY_NAME = {route.name: route for route in ROUTES}


def router(parts: Iterable[object]) -> list[web.RouteDef]:
    """Return the routes whose handlers are methods of `parts`, for aiohttp."""
    served = tuple(parts)
    found = []
    for route in ROUTES:
        for part in served:
            if getattr(type(part), route.handler.__name__, None) is route.handler:
                handler = getattr(part, route.handler.__name__)
                options = {"allow_head": route.allow_head} if route.method == "GET" else {}
                found.append(web.route(route.method, route.path, handler, **options))
    return found


def route_of(request: web.Request) -> Route | None:
    """Return the route of a request; None if no path, or no method of it, matches."""
    resource = request.match_info.route.resource
    if resource is None:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    return BY_NAME[f"{method} {resource.canonical}"]
