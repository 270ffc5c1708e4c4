"""Query parameters."""

import pytest
from aiohttp.test_utils import make_mocked_request

from netscand.serve.http import Refused
from netscand.serve.query import check_query, mac_of, refuse_token


def test_macs_are_read_with_colons_or_dashes_in_any_case() -> None:
    assert mac_of("a4:83:e7:12:34:56") == mac_of("A4-83-E7-12-34-56") == b"\xa4\x83\xe7\x12\x34\x56"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a4:83:e7:12:34",
        "a4:83-e7:12:34:56",
        "a4:83:e7:12:34:5g",
        "a483e7123456",
        "../etc/passwd",
        "a4:83:e7:12:34:56\n",
    ],
)
def test_an_invalid_mac_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="expected a MAC"):
        mac_of(text)


def test_known_parameters_given_once_pass() -> None:
    check_query(make_mocked_request("GET", "/x?q=K%C3%BCche&network=a%20b").query, {"q", "network"})


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("x=1", "unknown query parameter 'x'; known: network, q"),
        ("q=1&q=2", "q: given twice"),
        ("q=1&Q=2", "unknown query parameter 'Q'; known: network, q"),
    ],
)
def test_unknown_and_repeated_ones_are_refused(query: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        check_query(make_mocked_request("GET", f"/x?{query}").query, {"q", "network"})
    assert (refused.value.status, refused.value.message) == (400, message)


@pytest.mark.parametrize("name", ["token", "Token", "access_token"])
def test_a_token_in_the_address_is_refused(name: str) -> None:
    """FAULTS T18."""
    with pytest.raises(Refused) as refused:
        refuse_token(make_mocked_request("GET", f"/x?{name}=secret").query)
    assert refused.value.status == 400
    assert "secret" not in refused.value.message
