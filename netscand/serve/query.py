"""Query parameters: known, given once, and of the kind expected."""

import asyncio
import re

import msgspec
from aiohttp import web

from netscand.core.model import Mac
from netscand.protocol import MAX_MESSAGE
from netscand.serve.answers import JSON, Refused
from netscand.serve.http import connection_of

NOT_READABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)
"""What decoding raises for text that is not what it should be: too deep, too long a number, half a surrogate."""

SLOW = 30.0
"""Seconds within which a client must take a part, or send its body."""

OF_A_FORM = frozenset(("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"))
"""What a page of another site can send without asking us first, and without a body too (Fetch, "CORS-safelisted")."""

MAC = re.compile(r"[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}", re.IGNORECASE)


def parameters(request: web.Request, *known: str) -> dict[str, str]:
    """The query; refuses what is unknown, or given twice."""
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name == "token":
            raise Refused("bad_request", "token: not in the address; send Authorization: Bearer")
        if name not in known:
            expected = ", ".join(known) or "none"
            raise Refused("bad_request", f"unknown query parameter {name[:64]!r}; known here: {expected}")
        if name in given:
            raise Refused("bad_request", f"{name}: given twice")
        given[name] = value
    return given


def mac_of(text: str) -> Mac:
    """Six bytes of `aa:bb:cc:dd:ee:ff`, or with dashes; refuses anything else."""
    if not MAC.fullmatch(text):
        raise Refused("bad_request", f"{text[:64]!r}: expected a MAC such as aa:bb:cc:dd:ee:ff")
    return Mac(bytes.fromhex(text.replace(text[2], "")))


def number_of(given: dict[str, str], name: str, default: int = 0, most: int = 10**9) -> int:
    """A parameter that is a number from 1 to `most`; refuses anything else."""
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        expected = f"from 1 to {most:,}" if most < 10**9 else "above 0"
        raise Refused("bad_request", f"{name}={text[:64]}: expected a number {expected}")
    return int(text)


async def json_of(request: web.Request) -> bytes:
    """The body, which must be called JSON; empty where there is none."""
    connection_of(request).read_body()
    try:
        async with asyncio.timeout(SLOW):
            body = await request.read()
    except TimeoutError:
        raise Refused("bad_request", "the body did not come", 408, {"Connection": "close"}) from None
    if len(body) > MAX_MESSAGE:  # aiohttp's own limit is one byte off in some versions
        raise Refused("too_large", f"more than {MAX_MESSAGE} bytes")
    if request.content_type != JSON and (body or request.content_type in OF_A_FORM):
        raise Refused("unsupported_media_type", f"expected Content-Type: {JSON}")
    return body
