"""Events of the past by REST: which ones a request asks the history for."""

import asyncio
import io
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from netscand.core.restore import EventQuery, Page
from netscand.serve import history_api
from tests.serve.house import EmptyHistory, FakeScanner, house

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC).timestamp()


class Recording(EmptyHistory):
    """History that keeps the questions, and is asked for events of any age."""

    def __init__(self) -> None:
        self.questions: list[EventQuery] = []

    async def events(self, question: EventQuery, *, whole: bool = False, most: int | None = None) -> Page:
        self.questions.append(question)
        return Page((), question.through)

    async def begin_of_last(self, question: EventQuery) -> int:
        self.questions.append(question)
        return 0


@pytest.mark.parametrize(
    ("query", "since", "through", "after", "before"),
    [("until=k3f9-3", None, 3, None, None), ("until=k3f9-3&since=k3f9-1", 1, 3, None, None),
     ("until=2026-11-23T12:00:00Z", None, 5, None, NOON),
     ("until=2026-11-23T12:00:00Z&last=10", 0, 5, None, NOON),
     ("until=k3f9-3&last=10", 0, 3, None, None), ("until=k3f9-999", None, 5, None, None),
     ("until=2026-11-23T12:00:00Z&since=2026-11-23T11:00:00Z", None, 5, NOON - 3600, NOON)],
)  # fmt: skip
def test_events_end_with_until(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, since: int | None, through: int,
    after: float | None, before: float | None,
) -> None:  # fmt: skip
    """A cursor or a time, with `since`, `limit` or `last`; never later than now."""

    async def play() -> None:
        history = Recording()
        async with house(tmp_path, archive=history) as lan:
            monkeypatch.setattr(FakeScanner, "cursor", "k3f9-5")
            assert (await lan.ask("GET", f"/api/events?{query}"))[0] == 200
        found = history.questions[-1]
        assert (found.since, found.through, found.after, found.before) == (since, through, after, before)

    asyncio.run(play())


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [("until=soon", 400, "until=soon: expected a cursor, or a time"), ("since=soon", 400, "since=soon: expected"),
     ("until=abcd-1", 410, "until=abcd-1: it is of another history"),
     ("until=k3f9-1&until=k3f9-2", 400, "until: given twice")],
)  # fmt: skip
def test_a_bad_until_is_named(tmp_path: Path, query: str, code: int, message: str) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            status, _, body = await lan.ask("GET", f"/api/events?{query}")
            assert status == code
            assert body["error"]["message"].startswith(message)

    asyncio.run(play())


def test_no_backup_waits_for_a_copy_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F33: its client is cut off; nothing else waits meanwhile, and the copy goes when the disk answers."""
    monkeypatch.setattr(history_api, "SLOW", 0.2)
    thaw, closed = threading.Event(), threading.Event()
    guard = threading.Lock()  # as a BufferedReader has one

    class Copy(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            with guard:
                thaw.wait(60)
            return super().read(size)

        def close(self) -> None:
            with guard:
                super().close()
            closed.set()

    class Kept(EmptyHistory):
        async def backup(self) -> BinaryIO:
            return cast(BinaryIO, Copy(bytes(100_000)))

    async def play() -> None:
        async with house(tmp_path, archive=Kept()) as lan, asyncio.timeout(30):
            for _ in range(3):
                said = await lan.raw(b"GET /api/backup HTTP/1.1\r\nHost: x\r\n\r\n", tcp=False)
                assert said.endswith(b"\r\n\r\n"), "the answer ends with its head"
                assert not closed.is_set()
                assert (await lan.ask("GET", "/healthz"))[0] == 200
            thaw.set()
            assert await asyncio.to_thread(closed.wait, 30)

    try:
        asyncio.run(play())
    finally:
        thaw.set()
