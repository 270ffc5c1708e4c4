"""Names that netscand needs of aiohttp beyond its documented API, so that a release that lacks one is named at start.

Each of these is public by its name, but not promised by aiohttp's manual. `serve/selftest.py` tries the whole.
"""

import inspect
from collections.abc import Sequence
from importlib.metadata import version
from operator import attrgetter
from typing import NamedTuple

import aiohttp

SUPPORTED = "aiohttp>=3.11.16,<3.15"
"""As in pyproject.toml."""


class Unfit(Exception):
    """A library that netscand cannot work with; the text is one sentence that names it."""


class Need(NamedTuple):
    """Something by its path in aiohttp, called with these keywords."""

    path: str
    keywords: Sequence[str] | None = None
    """None: it need only be there."""


NEEDS = (
    Need("web.RequestHandler", ("loop", "keepalive_timeout", "access_log", "auto_decompress", "lingering_time")),
    Need("web.RequestHandler.connection_made", ("transport",)),
    Need("web.RequestHandler.connection_lost", ("exc",)),
    Need("web.RequestHandler.data_received", ("data",)),
    Need("web.RequestHandler.eof_received", ()),
    Need("web.RequestHandler.pause_writing", ()),
    Need("web.RequestHandler.resume_writing", ()),
    Need("web.RequestHandler.handle_error", ("request", "status", "exc", "message")),
    Need("web.AppRunner.server"),
    Need("web.BaseRequest.get_extra_info", ("name",)),
    Need("web.WebSocketResponse", ("protocols", "compress", "autoclose", "autoping", "max_msg_size", "timeout")),
)


def check() -> None:
    """Look for everything that is needed. Raises Unfit."""
    for need in NEEDS:
        if not _is_there(need):
            arguments = "" if need.keywords is None else f"({', '.join(need.keywords)})"
            raise Unfit(f"aiohttp {version('aiohttp')} has no {need.path}{arguments}: install {SUPPORTED}")


def _is_there(need: Need) -> bool:
    try:
        found = attrgetter(need.path)(aiohttp)
        if need.keywords is not None:
            inspect.signature(found).bind_partial(**dict.fromkeys(need.keywords))
    except (AttributeError, TypeError, ValueError):
        return False
    return True
