"""HTTP answers: JSON, with the headers that every answer carries; every refusal in one shape."""

from collections.abc import Mapping

import msgspec
from aiohttp import web

from netscand import protocol

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
