"""HTTP answers: JSON, with the headers that every answer carries; every refusal in one shape."""

import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from netscand import protocol
from netscand.core.recorded import Unreadable

log = logging.getLogger(__name__)

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
    """A wish that is refused: a code of the wire contract, a sentence, and the status where the code's own is wrong."""

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


def in_our_shape(judge: Callable[[web.Request], Awaitable[None]]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Make the outermost middleware: `judge` may refuse a request; whatever goes wrong is told as JSON."""

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            await judge(request)
            return await handler(request)
        except Refused as refused:
            return refusal(refused)
        except Unreadable as wrong:
            return refusal(Refused("busy", str(wrong)))
        except web.HTTPException as wrong:
            return refusal(from_aiohttp(wrong))
        except (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()  # a mere close would wait for it to read
            raise ConnectionResetError("the client is gone, or too slow") from None
        except Exception:
            if request.writer.output_size > 0:
                raise  # too late for another answer
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            return refusal(Refused("internal", "netscand failed at this; its log says more", 500))

    return outermost
