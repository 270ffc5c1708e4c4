"""The `changes` mode: filters, in any number and however slow, delay no other client."""

import asyncio

import pytest

from netscand.core.model import Cause, ScanFinished, ScanStarted, Status
from netscand.serve import changes_mode
from netscand.serve.query import Change, Filter
from tests.serve.house import LAN
from tests.serve.test_hub import Audience, cursors, heard, played

slow = pytest.fixture(lambda monkeypatch: monkeypatch.setattr(changes_mode, "HOLD", -1.0))
"""One filter a turn of the loop."""


def test_equal_filters_are_evaluated_once_for_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Filter] = []
    change = Filter.change

    def counted(self: Filter, changed: Change) -> bool:
        judged.append(self)
        return change(self, changed)

    monkeypatch.setattr(Filter, "change", counted)

    async def play(audience: Audience) -> None:
        pipes = [audience.client(Filter(LAN, text))[0] for text in ("A4:83", "a4:83") * 10]
        pipes += [audience.client(Filter(None, "printer"))[0]]
        audience.scanner.turn(0, Status.OFFLINE)
        await asyncio.sleep(0)
        assert len(judged) == 2
        assert [len(cursors(pipe)) for pipe in pipes] == [1] * 20 + [0]

    played(play)


@pytest.mark.usefixtures("slow")
def test_no_client_waits_for_the_filters_of_others() -> None:
    async def play(audience: Audience) -> None:
        plain, _ = audience.client()
        with_filter = [audience.client(Filter(None, f"0{number}"))[0] for number in range(6)]
        for _ in range(3):
            audience.scanner.turn(1, Status.OFFLINE)
        await asyncio.sleep(0)
        assert len(cursors(plain)) == 3
        assert sum(len(cursors(pipe)) for pipe in with_filter) <= 2
        for _ in range(30):
            await asyncio.sleep(0)
        assert [cursors(pipe) for pipe in with_filter[:2]] == [cursors(plain)] * 2

    played(play)


@pytest.mark.usefixtures("slow")
def test_events_and_scans_are_in_order_and_never_too_early() -> None:
    async def play(audience: Audience) -> None:
        first, _ = audience.client(Filter(None, "a4:83"))
        left = audience.client(Filter(None, "a4:8"))
        audience.client(Filter(None, "printer"))
        audience.hub.publish_scan(ScanStarted(1, (LAN,), Cause.CLIENT))
        audience.scanner.turn(0, Status.OFFLINE)
        audience.hub.publish_scan(ScanFinished(1, (LAN,), 0.0, 1.0, 2, 3, ()))
        late, _ = audience.client(Filter(None, "a4:83"))
        audience.hub.unsubscribe(left[1])
        for _ in range(20):
            await asyncio.sleep(0)
        assert [type(message).__name__ for message in heard(first)] == ["ScanStarted", "Event", "ScanUpdate"]
        assert not heard(late)
        assert len(heard(left[0])) <= 1

    played(play)


def test_a_filter_that_fails_stops_no_other_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(audience: Audience) -> None:
        pipe, _ = audience.client(Filter(None, "a4:83"))
        with monkeypatch.context() as patched:
            patched.setattr(Filter, "change", lambda *_: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                audience.scanner.turn(0, Status.OFFLINE)
        audience.scanner.turn(0, Status.ONLINE)
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(cursors(pipe)) == 1

    played(play)
