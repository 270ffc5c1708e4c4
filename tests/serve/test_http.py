"""All refusals have the same form."""

import msgspec
import pytest
from aiohttp import web

from netscand import protocol
from netscand.serve.http import HEADERS, Refused, from_aiohttp, refusal


@pytest.mark.parametrize("code", protocol.ERROR_STATUS)
def test_each_code_has_its_status(code: str) -> None:
    answer = refusal(Refused(code, "a sentence"))
    assert answer.status == protocol.ERROR_STATUS[code]
    assert isinstance(answer.body, bytes)
    assert msgspec.json.decode(answer.body) == {"error": {"code": code, "message": "a sentence"}}
    assert all(answer.headers[name] == value for name, value in HEADERS.items())


def test_refusals_of_aiohttp_have_our_messages() -> None:
    assert from_aiohttp(web.HTTPNotFound()).code == "not_found"
    assert from_aiohttp(web.HTTPRequestEntityTooLarge(1, 2)).code == "too_large"
    not_allowed = from_aiohttp(web.HTTPMethodNotAllowed("PUT", ["GET"]))
    assert (not_allowed.status, not_allowed.code, not_allowed.headers) == (405, "bad_request", {"Allow": "GET"})


def test_no_answer_can_be_read_by_other_origins() -> None:
    assert not [name for name in HEADERS if name.lower().startswith("access-control")]
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
