"""aiohttp's side of a connection: its protocol, and what it takes for its transport."""

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from netscand.serve.answers import CODES, HEADERS, JSON, Refused, refusal
from netscand.serve.framing import MOST_FIELDS

if TYPE_CHECKING:
    from netscand.serve.connection import Connection

CONNECTION = "netscand"
"""Under this name a transport's extra information holds its connection."""

_TOO_MANY = f'{{"error":{{"code":"bad_request","message":"more than {MOST_FIELDS} header fields"}}}}'

TOO_MANY_FIELDS = "\r\n".join((
    "HTTP/1.1 431 Request Header Fields Too Large",
    *(f"{name}: {value}" for name, value in HEADERS.items()),
    f"Content-Type: {JSON}", f"Content-Length: {len(_TOO_MANY)}", "Connection: close", "", _TOO_MANY,
)).encode()  # fmt: skip
"""The answer to a head that aiohttp is not given (RFC 6585, section 5)."""

log = logging.getLogger(__name__)


def connection_of(request: web.BaseRequest) -> "Connection":
    """The connection of a request. Raises ConnectionResetError where it is lost."""
    connection: Connection | None = request.get_extra_info(CONNECTION)
    if connection is None:
        raise ConnectionResetError("gone already")
    return connection


class Http(web.RequestHandler):
    """aiohttp's protocol, with answers in our shape where aiohttp itself refuses."""

    __slots__ = ()

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, keep_alive: float) -> None:
        settings: dict[str, Any] = {  # as documented for AppRunner
            "keepalive_timeout": keep_alive,
            "access_log": None,
            "auto_decompress": False,  # no zip bombs (FAULTS T14)
            "lingering_time": 1.0,
        }
        super().__init__(server, loop=loop, **settings)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP in our shape, and keep it out of the log."""
        connection = connection_of(request)
        connection.spoke()
        if isinstance(exc, ConnectionError) or (status >= 500 and connection.half_answered):
            raise ConnectionResetError("gone, or half answered already")  # aiohttp closes it
        if isinstance(exc, UnicodeError):  # aiohttp repeats an Expect that is no UTF-8, and fails at that
            status = 400
        if status >= 500:
            log.error("a request failed", exc_info=exc)
        answer = refusal(Refused(CODES.get(status, "bad_request"), "not a request of HTTP/1.1", status))
        answer.force_close()
        return answer


class Gate:
    """What aiohttp takes for its transport: that of the connection, which decides itself when it reads."""

    def __init__(self, connection: "Connection", transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else a transport has
        return getattr(self._transport, name)

    def get_extra_info(self, name: str, default: object = None) -> object:
        """That of the transport, and the connection itself."""
        return self._connection if name == CONNECTION else self._transport.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, and note it."""
        self._connection.written += 1
        self._connection.lobby.count(len(data))
        self._transport.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """The same, in pieces."""
        pieces = tuple(list_of_data)
        self._connection.written += 1
        self._connection.lobby.count(sum(map(len, pieces)))
        self._transport.writelines(pieces)

    def pause_reading(self) -> None:
        """Want no more for the moment."""
        self._connection.flood(True)

    def resume_reading(self) -> None:
        """Want more again."""
        self._connection.flood(False)
