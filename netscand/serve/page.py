"""Page at `/`: a fixed list of files, read once. No parameter of a request reaches a file system (FAULTS T3)."""

from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from aiohttp import web

from netscand.checkout import for_checkout
from netscand.serve.http import HEADERS

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

FILES = (
    "index.html", "page.css", "icon.svg", "page.js", "stream.js", "rest.js", "lan.js", "order.js", "words.js",
    "kinds.js", "table.js", "events.js", "device.js", "presence.js", "networks.js", "settings.js", "export.js",
    "scan.js", "sites.js", "dialogs.js", "merge.js", "people.js", "tags.js", "addresses.js", "element.js", "notice.js",
    "address.js", "token.js",
)  # fmt: skip
"""All files in netscand/serve/web."""

PATHS = tuple("/" if name == "index.html" else f"/web/{name}" for name in FILES)
"""Their paths on the server. They need no role: they reveal nothing of the LAN."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content-Security-Policy: nothing from outside, nothing inline, and no text can become markup (FAULTS T7)."""


class Content(NamedTuple):
    """File, ready to send."""

    body: bytes
    headers: dict[str, str]


class Page:
    """Handler of the page's files."""

    def __init__(self) -> None:
        folder = files("netscand.serve") / "web"
        self._contents = {
            path: _content(name, for_checkout((folder / name).read_text()).encode())
            for path, name in zip(PATHS, FILES, strict=True)
        }

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Return the file of the route, or 304 if the browser has it."""
        route = request.match_info.route.resource
        assert route is not None
        content = self._contents[route.canonical]
        if request.headers.get("If-None-Match") == content.headers["ETag"]:
            return web.Response(status=304, headers=content.headers)
        return web.Response(body=content.body, headers=content.headers)


def _content(name: str, body: bytes) -> Content:
    return Content(
        body,
        {
            **HEADERS,
            "Cache-Control": "no-cache",  # validated each time: all files come from the same netscand
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",  # a page that opens ours gets no handle on it
            "Content-Type": TYPES[name.rpartition(".")[2]],
            "ETag": f'"{sha256(body).hexdigest()[:32]}"',
        },
    )
