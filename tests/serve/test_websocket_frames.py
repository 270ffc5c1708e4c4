"""Frames, checked by the parser of another library."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from netscand.serve import websocket_frames
from netscand.serve.websocket_frames import FRAGMENT, LongText


def parsed(raw: bytes) -> list[Frame]:
    client = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None)
    client.receive_data(raw)
    if client.parser_exc:
        raise client.parser_exc
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, FRAGMENT, FRAGMENT + 1, 3 * FRAGMENT, 3 * FRAGMENT + 7])
def test_a_text_of_any_size_arrives_as_it_was(size: int) -> None:
    payload = (b"0123456789" * (size // 10 + 1))[:size]
    frames = parsed(websocket_frames.whole(payload))
    assert b"".join(frame.data for frame in frames) == payload
    assert [frame.opcode for frame in frames] == [Opcode.TEXT] + [Opcode.CONT] * (len(frames) - 1)
    assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]


@given(st.lists(st.binary(max_size=FRAGMENT), max_size=5))
def test_a_long_text_is_complete_in_frames_of_bounded_size(parts: list[bytes]) -> None:
    long = LongText()
    frames = [frame for part in parts for frame in long.add(part)] + [long.end()]
    assert all(len(frame) <= FRAGMENT + 10 for frame in frames)
    assert b"".join(frame.data for frame in parsed(b"".join(frames))) == b"".join(parts)


def test_pings_and_closes_fit_between_two_fragments() -> None:
    first, *rest = websocket_frames.text(b"x" * (2 * FRAGMENT))
    frames = parsed(first + websocket_frames.ping() + b"".join(rest) + websocket_frames.close(4000, "lagged"))
    assert [frame.opcode for frame in frames] == [Opcode.TEXT, Opcode.PING, Opcode.CONT, Opcode.CLOSE]
    assert frames[-1].data == b"\x0f\xa0lagged"
