"""All refusals have the same form."""

import asyncio
import socket
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from netscand import protocol
from netscand.serve.http import HEADERS, JSON, Refused, from_aiohttp, refusal
from tests.serve.house import house


@pytest.mark.parametrize("code", protocol.ERROR_STATUS)
def test_each_code_has_its_status(code: str) -> None:
    answer = refusal(Refused(code, "a sentence"))
    assert answer.status == protocol.ERROR_STATUS[code]
    assert isinstance(answer.body, bytes)
    assert msgspec.json.decode(answer.body) == {"error": {"code": code, "message": "a sentence"}}
    assert all(answer.headers[name] == value for name, value in HEADERS.items())


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("status", "remedy"), [(421, "allowed_hosts"), (401, "netscanctl token add"), (400, "journalctl")]
)
def test_a_browser_gets_a_page_that_says_what_to_do(status: int, remedy: str) -> None:
    """T7: what was sent is text there. Programs get JSON, as before; so does a request that changes something."""
    refused = Refused("bad_request", "<script>alert(1)</script>", status)
    shown = refusal(refused, make_mocked_request("GET", "/", headers={"Accept": BROWSER}))
    assert (shown.status, shown.content_type) == (status, "text/html")
    assert shown.text is not None
    assert remedy in shown.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;." in shown.text
    assert "<script" not in shown.text
    assert all(shown.headers[name] == value for name, value in HEADERS.items())
    for method, accept in (("GET", "*/*"), ("GET", "application/json"), ("POST", BROWSER)):
        assert refusal(refused, make_mocked_request(method, "/", headers={"Accept": accept})).content_type == JSON


def test_a_foreign_name_is_refused_in_a_browser_with_a_page(tmp_path: Path) -> None:
    """On the wire: the name that was used, and none of ours (the page of a rebound name could read it, T6)."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            head = f"GET / HTTP/1.1\r\nHost: scan.evil:{lan.port}\r\nAccept: {BROWSER}\r\nConnection: close\r\n\r\n"
            answer = (await lan.raw(head.encode())).decode()
            assert answer.startswith("HTTP/1.1 421 ")
            assert f"&#x27;scan.evil:{lan.port}&#x27;" in answer
            assert socket.gethostname() not in answer

    asyncio.run(play())


def test_refusals_of_aiohttp_have_our_messages() -> None:
    assert from_aiohttp(web.HTTPNotFound()).code == "not_found"
    assert from_aiohttp(web.HTTPRequestEntityTooLarge(1, 2)).code == "too_large"
    not_allowed = from_aiohttp(web.HTTPMethodNotAllowed("PUT", ["GET"]))
    assert (not_allowed.status, not_allowed.code, not_allowed.headers) == (405, "bad_request", {"Allow": "GET"})


def test_no_answer_can_be_read_by_other_origins() -> None:
    assert not [name for name in HEADERS if name.lower().startswith("access-control")]
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
