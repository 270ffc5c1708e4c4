"""Query parameters: known, given once, and of the kind expected."""

import re

import msgspec
from aiohttp import web

from netscand.core.model import Mac
from netscand.serve.answers import Refused

NOT_READABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)
"""What decoding raises for text that is not what it should be: too deep, too long a number, half a surrogate."""

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
