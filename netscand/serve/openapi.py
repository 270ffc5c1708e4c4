"""`GET /api/openapi.json`: the API described for programs, generated from the structs and the table of routes.

Schemathesis tests the server against it. OpenAPI 3.1, whose schemas are JSON Schema 2020-12, as msgspec generates them.
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, get_args

import msgspec
from aiohttp import web

from netscand import __version__, protocol
from netscand.off_loop import OffLoop
from netscand.serve.auth import Role
from netscand.serve.http import BINARY, HEADERS, JSON
from netscand.serve.query import SLOW, MacText

if TYPE_CHECKING:
    from netscand.serve.routes import Query, Route

TAGS = {
    "devices": "Devices, and a user's annotations of them.",
    "people": "People: sets of devices.",
    "events": "The history, and the stream.",
    "networks": "Networks, and scans of them.",
    "daemon": "The daemon itself.",
}

NAMED = {protocol.Status: "Status", protocol.EventKind: "EventKind"}
"""Types that are components beside the structs."""

IN_PATH = {"mac": MacText, "name": protocol.PersonName}
"""Parts of paths, and their types."""

MESSAGES = (*get_args(protocol.ServerMessage), *get_args(protocol.ClientMessage))
REFERENCE = "#/components/schemas/{name}"

ABOUT = """\
The REST side of netscand's wire contract. `GET /ws` opens the stream: a WebSocket of JSON text messages, each an object
with a `type`; their schemas are in `components`. Times are RFC 3339 in UTC. Receivers ignore fields, types and
kinds that they do not know. `x-role` is the lowest role that a call needs. A call with `x-paging` returns a list that
`limit` may cut: then `more` is true, and the parameter that `next` names continues the list."""


class Description:
    """Handler of the document, which is generated at the first request, on a thread: that takes 60 ms."""

    def __init__(self, routes: "Sequence[Route]") -> None:
        self._routes = routes
        self._text = b""
        self._generating = asyncio.Lock()

    async def redirect(self, request: web.Request) -> web.StreamResponse:
        """Redirect to the description."""
        target = "api/openapi.json"  # relative: a proxy may have put /api under a path
        return web.Response(status=307, headers={**HEADERS, "Location": target})

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Describe the API, for programs."""
        async with self._generating:
            if not self._text:
                self._text = await OffLoop(1).do(lambda: msgspec.json.encode(document(self._routes)), SLOW)
        return web.Response(body=self._text, content_type=JSON, headers=HEADERS)


def document(routes: "Sequence[Route]") -> dict[str, Any]:
    """Return the description of routes."""
    schemas = _Schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "netscand", "version": __version__, "description": ABOUT},
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """JSON Schemas of every type, with the structs as components."""

    def __init__(self, routes: "Sequence[Route]") -> None:
        bodies = [route.body for route in routes if route.body is not None]
        answers = [found for route in routes for found in route.answers.values() if isinstance(found, type)]
        _, self.components = msgspec.json.schema_components(
            (*answers, *bodies, *MESSAGES, protocol.ErrorAnswer), ref_template=REFERENCE
        )
        for schema in self.components.values():
            tag = schema.get("properties", {}).get("type", {})
            if "enum" in tag:  # generators make an enumeration, with a class, of each
                schema["properties"]["type"] = {"const": tag["enum"][0]}
        for kind, name in NAMED.items():
            self.components[name] = {"title": name, "type": "string", "enum": list(get_args(kind))}

    def of(self, kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a type, or a tuple of types
        """The schema of a type."""
        if name := NAMED.get(kind):
            return {"$ref": REFERENCE.format(name=name)}
        if isinstance(kind, tuple):
            return {"anyOf": [self.of(each) for each in kind]}
        found, _ = msgspec.json.schema_components((kind,), ref_template=REFERENCE)
        return found[0]

    def json(self, kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a type
        """What a body of it holds."""
        return {"content": {JSON: {"schema": self.of(kind)}}}


def _operation(route: "Route", schemas: _Schemas) -> dict[str, Any]:
    path = [
        {"name": name, "in": "path", "required": True, "schema": schemas.of(kind)}
        for name, kind in IN_PATH.items()
        if f"{{{name}}}" in route.path
    ]
    operation: dict[str, Any] = {
        "summary": (route.handler.__doc__ or "").partition("\n")[0],
        "operationId": route.operation,
        "tags": [route.tag],
        "parameters": [
            *path,
            *(_parameter(query, schemas) for query in route.query or ()),
        ],
        "responses": {str(status): _answer(status, found, schemas) for status, found in route.answers.items()},
        "x-role": route.role.on_wire,
    }
    if route.pages_by:
        operation["x-paging"] = {"limit": "limit", "more": "more", "next": route.pages_by}
    refusals = {400, 401, 421, *route.refusals}
    if route.role > Role.NONE:
        refusals.add(403)
        operation["security"] = [{"token": []}, {}]  # {}: on a local socket, the peer may have the role without one
    if route.body is not None:
        refusals |= {413, 415}
        operation["requestBody"] = {"required": route.body_required, **schemas.json(route.body)}
    for status in sorted(refusals):
        phrase = HTTPStatus(status).phrase
        operation["responses"][str(status)] = {"description": phrase, **schemas.json(protocol.ErrorAnswer)}
    return operation


def _parameter(query: "Query", schemas: _Schemas) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": query.name, "in": "query", "description": query.description}
    schema = schemas.of(query.type)
    if not query.several:
        return {**parameter, "schema": schema}
    items = {"type": "array", "items": schema, "minItems": 1}
    return {**parameter, "style": "form", "explode": False, "schema": items}


def _answer(status: int, found: Any, schemas: _Schemas) -> dict[str, Any]:  # noqa: ANN401 - as in Route
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(found, str):
        schema = {"schema": {"type": "string", "format": "binary"}} if found == BINARY else {}
        return {**answer, "content": {found: schema}}
    return answer if found is None else {**answer, **schemas.json(found)}
