"""`GET /api/capture` with a fake recorder; tests/lab/test_capture.py has the real one."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from netscand.core.model import Busy
from netscand.serve import capture_api
from tests.serve.house import TOKENS, House, house, token_file
from tests.serve.test_connection_unread import get, silent

BUSY = "a capture is being made; try again when it has ended"
PIECE = bytes(64 * 1024)


class FakeRecorder:
    """Recorder and its recording in one. `pieces` come at once, `endless` ones as fast as they are taken."""

    def __init__(self, pieces: int = 0, *, endless: bool = False) -> None:
        self._pieces, self._endless = pieces, endless
        self._left = 0
        self.taken = 0
        """Bytes taken in all."""
        self.started: list[bool] = []
        """`anonymise` of each recording."""
        self.is_running = False

    def start(self, *, anonymise: bool) -> "FakeRecorder":
        if self.is_running:
            raise Busy(BUSY)
        self.is_running, self._left = True, self._pieces
        self.started.append(anonymise)
        return self

    def stop(self) -> None:
        self.is_running = False

    @property
    def is_over(self) -> bool:
        return self._pieces > 0 and self._left == 0

    def take(self) -> bytes:
        if not self._left and not self._endless:
            return b""
        self._left -= bool(self._left)
        self.taken += len(PIECE)
        return PIECE

    async def wait(self, seconds: float) -> None:
        if not self._left and not self._endless and not self.is_over:
            await asyncio.sleep(seconds)

    def end(self) -> bytes:
        return b"the end"


def play(tmp_path: Path, recorder: FakeRecorder | None, act: Callable[[House], object], **how: object) -> None:
    async def run() -> None:
        async with house(tmp_path, recorder=recorder, **how) as lan:  # type: ignore[arg-type]
            await act(lan)  # type: ignore[misc]

    asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def read_all(sock: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    loop, content = asyncio.get_running_loop(), b""
    async with asyncio.timeout(30):
        while part := await loop.sock_recv(sock, 1 << 20):
            content += part
    sock.close()
    return content


def test_a_capture_has_all_that_was_recorded_and_its_end(tmp_path: Path) -> None:
    """And no more, once the recording has as many bytes as it may have."""
    recorder = FakeRecorder(pieces=3)

    async def act(lan: House) -> None:
        (sock,) = await silent(
            lan, get("/api/capture?anonymise=true").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 1
        )
        head, _, body = (await read_all(sock)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"Content-Type: application/octet-stream" in head
        assert body.count(b"\0") == 3 * len(PIECE)
        assert body.endswith(b"the end\r\n0\r\n\r\n")
        assert (recorder.started, recorder.is_running) == ([True], False)

    play(tmp_path, recorder, act)


def test_a_client_that_does_not_read_ends_its_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is bounded; it can see that the file is incomplete; and the next one may start."""
    monkeypatch.setattr(capture_api, "SLOW", 0.5)
    recorder = FakeRecorder(endless=True)

    async def act(lan: House) -> None:
        (sock,) = await silent(lan, get("/api/capture"), 1)
        await until(lambda: recorder.started)
        await until(lambda: not recorder.is_running)
        assert recorder.taken < 1 << 20
        content = await read_all(sock)
        assert content.startswith(b"HTTP/1.1 200")
        assert not content.endswith(b"0\r\n\r\n")
        (sock,) = await silent(lan, get("/api/capture"), 1)
        await until(lambda: len(recorder.started) == 2)
        sock.close()

    play(tmp_path, recorder, act)


@pytest.mark.parametrize("endless", [False, True])
def test_the_recording_ends_when_its_client_leaves(tmp_path: Path, endless: bool) -> None:
    """Also on a quiet LAN, where nothing is written."""
    recorder = FakeRecorder(endless=endless)

    async def act(lan: House) -> None:
        for _ in range(2):
            (sock,) = await silent(lan, get("/api/capture?seconds=3600"), 1)
            await until(lambda: recorder.is_running)
            sock.close()
            await until(lambda: not recorder.is_running)

    play(tmp_path, recorder, act)


def test_one_capture_at_a_time(tmp_path: Path) -> None:
    """The second one is refused in words, and leaves the first one alone."""
    recorder = FakeRecorder()

    async def act(lan: House) -> None:
        (sock,) = await silent(lan, get("/api/capture"), 1)
        await until(lambda: recorder.is_running)
        status, _, body = await lan.ask("GET", "/api/capture")
        assert (status, body["error"]) == (503, {"code": "busy", "message": BUSY})
        assert recorder.is_running
        sock.close()

    play(tmp_path, recorder, act)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("seconds=0", "seconds=0: expected a number from 1 to 3,600"),
        ("seconds=4000", "seconds=4000: expected a number from 1 to 3,600"),
        ("seconds=x", "seconds=x: expected a number from 1 to 3,600"),
        ("anonymise=perhaps", "anonymise=perhaps: expected true or false"),
        ("second=5", "second"),
    ],
)
def test_an_invalid_request_records_nothing(tmp_path: Path, query: str, said: str) -> None:
    recorder = FakeRecorder()

    async def act(lan: House) -> None:
        status, _, body = await lan.ask("GET", f"/api/capture?{query}")
        assert (status, body["error"]["code"]) == (400, "bad_request")
        assert said in body["error"]["message"]
        assert recorder.started == []

    play(tmp_path, recorder, act)


def test_only_an_admin_may_capture(tmp_path: Path) -> None:
    recorder = FakeRecorder()

    async def act(lan: House) -> None:
        for role in ("read", "scan"):
            status, _, body = await lan.ask("GET", "/api/capture", headers={"Authorization": f"Bearer {TOKENS[role]}"})
            assert (status, body["error"]["code"]) == (403, "forbidden")
            assert "capturing frames requires role" in body["error"]["message"]
        assert recorder.started == []

    play(tmp_path, recorder, act, access={"token_file": token_file(tmp_path)})


def test_a_hub_has_no_frames(tmp_path: Path) -> None:
    async def act(lan: House) -> None:
        status, _, body = await lan.ask("GET", "/api/capture")
        assert (status, body["error"]["code"]) == (404, "not_found")
        assert "capture at a site" in body["error"]["message"]

    play(tmp_path, None, act)
