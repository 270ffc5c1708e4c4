"""HTTP: aiohttp's side of a connection, answers, and the outermost middleware."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from html import escape
from math import ceil
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from netscand import protocol
from netscand.checkout import for_checkout
from netscand.core.model import Busy
from netscand.core.restore import Hangs, Unreadable
from netscand.serve import fair_turns
from netscand.serve.fair_turns import FairTurns
from netscand.serve.request_limits import MAX_FIELDS

# ---- answers -------------------------------------------------------------------------------------------------------
# JSON answers with the headers that all of them have; all refusals have the same form.

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "netscand",
    "X-Content-Type-Options": "nosniff",
}
"""Never Access-Control-*: no page of another origin can read an answer (FAULTS T5)."""

JSON = "application/json"
BINARY = "application/octet-stream"
"""Type of the backup. Generators of clients skip answers of types that they do not know, such as that of SQLite."""

ROLE_HINT = (
    "Open the page of netscand, at the address of its host without a path, and enter a token there. "
    "To create one, on that host: sudo netscanctl token add admin"
)


class Refused(Exception):
    """Refused request: a code of the wire contract, a message, and the status if it is not that of the code."""

    def __init__(
        self, code: str, message: str, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or protocol.ERROR_STATUS[code]
        self.headers = dict(headers or {})


def answer(body: msgspec.Struct, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=protocol.encode(body), status=status, content_type=JSON, headers=HEADERS)


def warn(request: web.Request, text: str) -> None:
    """Let the response to a request have a warning."""
    connection_of(request).warning = "".join(char for char in text if char.isprintable())


async def add_warning(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Give a response the warning of its request (`warn`), before it is sent."""
    connection: Connection | None = request.get_extra_info(CONNECTION)
    if connection is not None and (text := connection.warning):
        response.headers[protocol.WARNING_HEADER] = text.encode(errors="replace").decode()


def refusal(refused: Refused, request: web.BaseRequest | None = None) -> web.Response:
    """Return the answer to a refused request: JSON, or to a browser that would show it to its user, a page."""
    if request is not None and request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        response = web.Response(text=_page(refused), content_type="text/html", status=refused.status, headers=HEADERS)
    else:
        body = protocol.ErrorAnswer(error=protocol.Refusal(code=refused.code, message=refused.message))
        response = answer(body, refused.status)
    response.headers.update(refused.headers)
    return response


HINTS: Mapping[int, str] = {
    421: "Open netscand by the address of its host, such as http://192.168.1.2:8000/, or, from another host, by its "
    "host name, alone or with .local. To use another name, add it to allowed_hosts in the table [access] of "
    "netscand.toml, and run: sudo netscanctl reload",
    401: ROLE_HINT,
    403: ROLE_HINT,
    404: "The page of netscand is at the address of its host without a path.",
}
"""What a person can do about a status. Nothing about this host: the page of a rebound name could read it."""


def _page(refused: Refused) -> str:
    message = escape(f"{refused.message[:1].upper()}{refused.message[1:]}.")
    hint = escape(for_checkout(HINTS.get(refused.status, "The log of netscand may say more: journalctl -u netscand.")))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width"><title>netscand: request refused</title>'
        f"<h1>netscand refused this request</h1><p>{message}</p><p>{hint}</p></html>\n"
    )


CODES = {status: code for code, status in protocol.ERROR_STATUS.items()}


def from_aiohttp(error: web.HTTPException) -> Refused:
    """Return the refusal for an error of aiohttp itself."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    message = {404: "no such resource", 413: f"more than {protocol.MAX_MESSAGE} bytes"}.get(error.status)
    return Refused(CODES.get(error.status, "bad_request"), message or error.reason.lower(), error.status, headers)


# ---- http ----------------------------------------------------------------------------------------------------------
# aiohttp's protocol for a connection, and the transport that it sees.

if TYPE_CHECKING:
    from netscand.serve.connection import Connection

CONNECTION = "netscand"
"""Key of a transport's extra information: its connection."""

_TOO_MANY = f'{{"error":{{"code":"bad_request","message":"more than {MAX_FIELDS} header fields"}}}}'

TOO_MANY_FIELDS = "\r\n".join((
    "HTTP/1.1 431 Request Header Fields Too Large",
    *(f"{name}: {value}" for name, value in HEADERS.items()),
    f"Content-Type: {JSON}", f"Content-Length: {len(_TOO_MANY)}", "Connection: close", "", _TOO_MANY,
)).encode()  # fmt: skip
"""Answer to a head that is not passed to aiohttp (RFC 6585, section 5)."""

log = logging.getLogger(__name__)


def connection_of(request: web.BaseRequest) -> "Connection":
    """Return the connection of a request. Raises ConnectionResetError if it is lost."""
    connection: Connection | None = request.get_extra_info(CONNECTION)
    if connection is None:
        raise ConnectionResetError("connection lost")
    return connection


class Http(web.RequestHandler):
    """aiohttp's protocol, with error answers in our form."""

    __slots__ = ()

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, keep_alive: float) -> None:
        settings: dict[str, Any] = {  # as documented for AppRunner
            "keepalive_timeout": keep_alive,
            "access_log": None,
            "auto_decompress": False,  # no decompression bombs (FAULTS T14)
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
        """Answer what is not HTTP in our form, without a log entry."""
        connection = connection_of(request)
        connection.request_began()
        if isinstance(exc, ConnectionError) or (status >= 500 and connection.partly_answered):
            raise ConnectionResetError("connection lost, or answered in part")  # aiohttp closes the connection
        if isinstance(exc, UnicodeError):  # aiohttp repeats an Expect header that is not UTF-8, and fails
            status = 400
        if status >= 500:
            log.error("a request failed", exc_info=exc)
        answer = refusal(Refused(CODES.get(status, "bad_request"), "not a valid HTTP/1.1 request", status))
        answer.force_close()
        return answer


class TransportProxy:
    """Transport as aiohttp sees it: the connection itself decides when to read."""

    def __init__(self, connection: "Connection", transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else a transport has
        return getattr(self._transport, name)

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return the connection for CONNECTION, else the information of the transport."""
        return self._connection if name == CONNECTION else self._transport.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, and count it."""
        self._connection.written += 1
        self._connection.limiter.count(len(data))
        self._transport.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write several pieces, and count them."""
        pieces = tuple(list_of_data)
        self._connection.written += 1
        self._connection.limiter.count(sum(map(len, pieces)))
        self._transport.writelines(pieces)

    def pause_reading(self) -> None:
        """Stop passing bytes to aiohttp."""
        self._connection.set_full(True)

    def resume_reading(self) -> None:
        """Pass bytes to aiohttp again."""
        self._connection.set_full(False)


# ---- middleware ----------------------------------------------------------------------------------------------------
# The outermost middleware: it gives each request a fair turn and checks it; all errors get the same form.


def error_middleware(
    judge: Callable[[web.Request], Awaitable[None]], turns: FairTurns
) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Return the middleware; `judge` may refuse a request."""

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = connection_of(request)
        connection.begin(request)
        try:
            await turns.turn(connection.account)
            await judge(request)
            return await handler(request)
        except Refused as refused:
            return refusal(refused, request)
        except Busy as busy:  # it waited too long for its turn (serve/fair_turns.py)
            return refusal(Refused("busy", str(busy), headers={"Retry-After": f"{ceil(fair_turns.WAIT)}"}), request)
        except Unreadable as error:
            again = {"Retry-After": f"{ceil(fair_turns.WAIT)}"} if isinstance(error, Hangs) else None
            return refusal(Refused("busy", str(error), headers=again), request)
        except web.HTTPException as error:
            return refusal(from_aiohttp(error), request)
        except (ConnectionError, TimeoutError):
            connection.abort()  # close() would wait until the client reads
            raise ConnectionResetError("connection lost, or client too slow") from None
        except Exception:
            if connection.partly_answered:
                raise  # too late for another answer
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            return refusal(Refused("internal", "internal error: see the log of netscand", 500))
        finally:
            connection.end()

    return outermost
