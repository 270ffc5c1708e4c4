"""HTTP: aiohttp's side of a connection, the answers, and the outermost middleware."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from netscand import protocol
from netscand.core.restore import Unreadable
from netscand.serve.fair_turns import FairTurns
from netscand.serve.framing import MAX_FIELDS

# ---- answers -------------------------------------------------------------------------------------------------------
# HTTP answers: JSON, with the headers that every answer carries; every refusal in one shape.

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "netscand",
    "X-Content-Type-Options": "nosniff",
}
"""Never Access-Control-*: no page of another origin reads an answer (FAULTS T5)."""

JSON = "application/json"


class Refused(Exception):
    """A refused request: a code of the wire contract, a sentence, and the status where the code's own is wrong."""

    def __init__(
        self, code: str, message: str, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or protocol.ERROR_STATUS[code]
        self.headers = dict(headers or {})


def answer(body: msgspec.Struct, status: int = 200) -> web.Response:
    """A short answer."""
    return web.Response(body=protocol.encode(body), status=status, content_type=JSON, headers=HEADERS)


def refusal(refused: Refused) -> web.Response:
    """The answer to what is refused."""
    body = protocol.ErrorAnswer(error=protocol.Refusal(code=refused.code, message=refused.message))
    response = answer(body, refused.status)
    response.headers.update(refused.headers)
    return response


CODES = {status: code for code, status in protocol.ERROR_STATUS.items()}


def from_aiohttp(wrong: web.HTTPException) -> Refused:
    """What aiohttp itself refuses, in our shape."""
    headers = {"Allow": wrong.headers["Allow"]} if "Allow" in wrong.headers else None
    said = {404: "no such resource", 413: f"more than {protocol.MAX_MESSAGE} bytes"}.get(wrong.status)
    return Refused(CODES.get(wrong.status, "bad_request"), said or wrong.reason.lower(), wrong.status, headers)


# ---- http ----------------------------------------------------------------------------------------------------------
# aiohttp's side of a connection: its protocol, and what it takes for its transport.

if TYPE_CHECKING:
    from netscand.serve.connection import Connection

CONNECTION = "netscand"
"""Under this name a transport's extra information holds its connection."""

_TOO_MANY = f'{{"error":{{"code":"bad_request","message":"more than {MAX_FIELDS} header fields"}}}}'

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
        connection.request_began()
        if isinstance(exc, ConnectionError) or (status >= 500 and connection.partly_answered):
            raise ConnectionResetError("gone, or half answered already")  # aiohttp closes it
        if isinstance(exc, UnicodeError):  # aiohttp repeats an Expect that is no UTF-8, and fails at that
            status = 400
        if status >= 500:
            log.error("a request failed", exc_info=exc)
        answer = refusal(Refused(CODES.get(status, "bad_request"), "not a request of HTTP/1.1", status))
        answer.force_close()
        return answer


class TransportProxy:
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
        self._connection.limiter.count(len(data))
        self._transport.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """The same, in pieces."""
        pieces = tuple(list_of_data)
        self._connection.written += 1
        self._connection.limiter.count(sum(map(len, pieces)))
        self._transport.writelines(pieces)

    def pause_reading(self) -> None:
        """Want no more for the moment."""
        self._connection.set_full(True)

    def resume_reading(self) -> None:
        """Want more again."""
        self._connection.set_full(False)


# ---- middleware ----------------------------------------------------------------------------------------------------
# The outermost middleware: each request in a fair turn, judged, and whatever goes wrong told in one shape.


def error_middleware(
    judge: Callable[[web.Request], Awaitable[None]], turns: FairTurns
) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Make it: `judge` may refuse a request."""

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = connection_of(request)
        connection.begin(request)
        try:
            await turns.turn(connection.account)
            await judge(request)
            return await handler(request)
        except Refused as refused:
            return refusal(refused)
        except Unreadable as wrong:
            return refusal(Refused("busy", str(wrong)))
        except web.HTTPException as wrong:
            return refusal(from_aiohttp(wrong))
        except (ConnectionError, TimeoutError):
            connection.abort()  # a mere close would wait for it to read
            raise ConnectionResetError("the client is gone, or too slow") from None
        except Exception:
            if connection.partly_answered:
                raise  # too late for another answer
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            return refusal(Refused("internal", "netscand failed at this; its log says more", 500))
        finally:
            connection.end()

    return outermost
