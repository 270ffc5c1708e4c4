"""`GET /api/openapi.json`: the API described for programs, generated from the structs and the table of routes.

One place says what each route takes and answers (`CALLS`); a test holds it to the router and to the table of rights,
and schemathesis holds the server to it. OpenAPI 3.1, whose schemas are JSON Schema 2020-12, as msgspec writes them.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
from aiohttp import web
from msgspec import Meta

from netscand import __version__, protocol
from netscand.serve.auth import RIGHTS, Role
from netscand.serve.http import HEADERS, JSON
from netscand.serve.query import LONGEST, parameters

MAC_PATTERN = "^(?:(?:[0-9A-Fa-f]{2}:){5}|(?:[0-9A-Fa-f]{2}-){5})[0-9A-Fa-f]{2}$"
MAC = Annotated[str, Meta(pattern=MAC_PATTERN, examples=["a4:83:e7:12:34:56"])]
NUMBER = Annotated[int, Meta(ge=1, le=999_999_999)]
EVENTS = Annotated[int, Meta(ge=1, le=5_000)]
SINCE = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
CURSOR = Annotated[str, Meta(pattern="^[A-Za-z0-9]{1,32}[-~][0-9]{1,18}$", examples=["k3f9-118"])]


class Query(NamedTuple):
    """One parameter of a query; a tuple of types is any of them, `several` values go with commas between them."""

    name: str
    type: Any
    said: str
    several: bool = False


class Call(NamedTuple):
    """What a route takes and answers. A status stands with a struct for JSON, with a media type, or with None."""

    answers: Mapping[int, Any]
    query: tuple[Query, ...] = ()
    body: type[msgspec.Struct] | None = None
    refusals: tuple[int, ...] = ()


NETWORK = Query("network", str, "the id of a network")
SEARCH = Query("q", Annotated[str, Meta(max_length=LONGEST)], "a text that name, label, address, MAC or vendor holds")
KIND = Query("kind", protocol.EventKind, "these kinds only", several=True)
AFTER = Query("since", (CURSOR, SINCE), "what happened after this cursor, or time")
LIMIT = Query("limit", EVENTS, "so many at most; 500 unless told")
LAST = Query("last", EVENTS, "the last so many, instead of `since` and `limit`")

PLAIN = "text/plain"
PRESENCE_DAYS = Annotated[int, Meta(ge=1, le=90)]

CALLS: Mapping[str, Call] = {
    "GET /healthz": Call({200: protocol.Health}, refusals=(503,)),
    "GET /metrics": Call({200: PLAIN}),
    "GET /ws": Call(
        {101: None},
        (
            Query("updates", Literal["full", "changes"], "the mode"),
            Query("since", CURSOR, "resume after this cursor (in `changes`)"),
            NETWORK,
            SEARCH,
        ),
        refusals=(503,),
    ),
    "GET /api/openapi.json": Call({200: JSON}),
    "GET /api/devices": Call(
        {200: protocol.DeviceList},
        (
            Query("status", protocol.Status, "this presence only"),
            NETWORK,
            SEARCH,
            Query("limit", NUMBER, "so many at most"),
            Query("after", MAC, "those after this MAC"),
        ),
    ),
    "GET /api/devices/{mac}": Call({200: protocol.Device}, refusals=(404,)),
    "PATCH /api/devices/{mac}": Call({200: protocol.Device}, body=protocol.DeviceUpdate, refusals=(404, 503)),
    "DELETE /api/devices/{mac}": Call({204: None}, refusals=(404,)),
    "GET /api/devices/{mac}/events": Call(
        {200: protocol.EventList}, (AFTER, KIND, LIMIT, LAST), refusals=(404, 410, 503)
    ),
    "GET /api/devices/{mac}/presence": Call(
        {200: protocol.PresenceDays}, (Query("days", PRESENCE_DAYS, "7 unless told"),), refusals=(404, 503)
    ),
    "GET /api/events": Call(
        {200: protocol.EventList},
        (AFTER, KIND, Query("mac", MAC, "of this device only"), LIMIT, LAST),
        refusals=(410, 503),
    ),
    "GET /api/networks": Call({200: protocol.NetworkList}),
    "GET /api/status": Call({200: protocol.DaemonStatus}),
    "POST /api/scan": Call(
        {202: protocol.ScanTicket, 200: protocol.ScanUpdate},
        (Query("wait", Literal["0", "1"], "1: answer when it ended, by 200"),),
        protocol.ScanRequest,
        refusals=(503,),
    ),
    "GET /api/backup": Call({200: "application/vnd.sqlite3"}, refusals=(503,)),
}
"""Every route but the page's files."""

MESSAGES = (*get_args(protocol.ServerMessage), *get_args(protocol.ClientMessage))
REFERENCE = "#/components/schemas/{name}"

ABOUT = """\
The REST side of netscand's wire contract. `GET /ws` opens the stream: a WebSocket of JSON text messages, each an object
with a `type`; their schemas stand among the components. Times are RFC 3339 in UTC. Receivers ignore fields, types and
kinds that they do not know. `x-role` is the least role that a call needs."""


class Description:
    """The document, written when somebody first asks for it."""

    def __init__(self, routes: Callable[[], Mapping[str, str]]) -> None:
        self._routes = routes
        """Of every route, as in CALLS, what its docstring says."""

    def routes(self) -> list[web.RouteDef]:
        """Every route; rights.RIGHTS says who may."""
        return [web.get("/api/openapi.json", self.respond)]

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """The API, described for programs."""
        parameters(request)
        return web.Response(body=self._text, content_type=JSON, headers=HEADERS)

    @cached_property
    def _text(self) -> bytes:
        return msgspec.json.encode(document(self._routes()))


def document(said: Mapping[str, str]) -> dict[str, Any]:
    """The description of these routes; `said` is what each does."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for name, summary in said.items():
        method, path = name.split(" ")
        if name in CALLS:
            paths.setdefault(path, {})[method.lower()] = _operation(name, CALLS[name], summary, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "netscand", "version": __version__, "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """JSON Schemas of every type, with the structs as components."""

    def __init__(self) -> None:
        bodies = [call.body for call in CALLS.values() if call.body is not None]
        answers = [found for call in CALLS.values() for found in call.answers.values() if isinstance(found, type)]
        _, self.components = msgspec.json.schema_components(
            (*answers, *bodies, *MESSAGES, protocol.ErrorAnswer), ref_template=REFERENCE
        )

    def of(self, kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a type, or a tuple of types
        """The schema of a type."""
        if isinstance(kind, tuple):
            return {"anyOf": [self.of(each) for each in kind]}
        found, _ = msgspec.json.schema_components((kind,), ref_template=REFERENCE)
        return found[0]

    def json(self, kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a type
        """What a body of it holds."""
        return {"content": {JSON: {"schema": self.of(kind)}}}


def _operation(name: str, call: Call, summary: str, schemas: _Schemas) -> dict[str, Any]:
    least = RIGHTS[name]
    named = [{"name": "mac", "in": "path", "required": True, "schema": schemas.of(MAC)}] if "{mac}" in name else []
    operation: dict[str, Any] = {
        "summary": summary,
        "operationId": name.lower().replace("/", "_").replace(" ", "").translate({ord(char): None for char in "{}."}),
        "parameters": [*named, *(_parameter(query, schemas) for query in call.query)],
        "responses": {str(status): _answer(status, found, schemas) for status, found in call.answers.items()},
        "x-role": least.on_wire,
    }
    refusals = {
        400,
        401,
        421,
        *call.refusals,
        *((403,) if least > Role.NONE else ()),
        *((413, 415) if call.body else ()),
    }
    for status in sorted(refusals):
        phrase = HTTPStatus(status).phrase
        operation["responses"][str(status)] = {"description": phrase, **schemas.json(protocol.ErrorAnswer)}
    if least > Role.NONE:
        operation["security"] = [{"token": []}, {}]  # {}: on a local socket, the peer may have the role without one
    if call.body is not None:
        operation["requestBody"] = {"required": name != "POST /api/scan", **schemas.json(call.body)}
    return operation


def _parameter(query: Query, schemas: _Schemas) -> dict[str, Any]:
    told: dict[str, Any] = {"name": query.name, "in": "query", "description": query.said}
    schema = schemas.of(query.type)
    if not query.several:
        return {**told, "schema": schema}
    return {**told, "style": "form", "explode": False, "schema": {"type": "array", "items": schema, "minItems": 1}}


def _answer(status: int, found: Any, schemas: _Schemas) -> dict[str, Any]:  # noqa: ANN401 - as in Call
    told: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(found, str):
        return {**told, "content": {found: {}}}
    return told if found is None else {**told, **schemas.json(found)}
