"""The server sends requests to itself: before it is ready, and for the watchdog (ATTACKED M10)."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import web

from netscand.serve import connection, selftest
from netscand.serve.auth import UNAUTHENTICATED
from netscand.serve.http import Http
from netscand.serve.selftest import LibraryError
from tests.serve.house import house


@pytest.mark.slow
def test_a_working_server_passes_its_self_test(tmp_path: Path) -> None:
    """Also if all connections are in use: it needs none."""

    async def play() -> None:
        async with house(tmp_path, devices=2000, listen={"max_clients": 1, "max_per_peer": 1}) as lan, lan.ws():
            before = len(os.listdir("/proc/self/fd"))
            lan.server.self_test.answered_at = 0.0
            for _ in range(3):
                await lan.server.self_test.check_all()
                assert lan.server.clients == 1, "it is over when it returns"
            assert monotonic() - lan.server.self_test.answered_at < 30
            async with asyncio.timeout(30):
                while len(os.listdir("/proc/self/fd")) > before:
                    await asyncio.sleep(0.01)
            assert len(lan.server._limiter.connections) == 1

    asyncio.run(play())


def test_it_waits_for_one_piece_of_unauthenticated_clients(tmp_path: Path) -> None:
    """It waited for all that unauthenticated clients had sent: with hundreds, until the watchdog acts."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            done = 0

            def piece() -> bool:
                nonlocal done
                done += 1
                return True

            for _ in range(2000):
                lan.hub.turns.later(UNAUTHENTICATED, piece)
            await lan.server.self_test.check_health()
            assert done < 100

    asyncio.run(play())


def test_a_server_that_starts_or_stops_passes_too(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            lan.server.serving = False
            await lan.server.self_test.check_health()

    asyncio.run(play())


def swallow(self: Http, data: bytes) -> None:
    """As if a new aiohttp received its bytes elsewhere."""


def fail(self: Http, data: bytes) -> None:
    raise AttributeError("'Http' object has no attribute '_messages'")


async def never(self: web.WebSocketResponse) -> None:
    await asyncio.Event().wait()


async def refuse(self: web.WebSocketResponse, request: web.BaseRequest) -> None:
    raise TypeError("prepare() takes another argument")


@pytest.mark.parametrize(
    ("of", "name", "instead", "what"),
    [
        (Http, "data_received", swallow, "GET /healthz"),
        (Http, "data_received", fail, "GET /healthz"),
        (Http, "connection_made", lambda *_: None, "GET /healthz"),
        (web.WebSocketResponse, "prepare", refuse, "GET /ws"),
        (web.WebSocketResponse, "receive", never, "GET /ws"),
    ],
)
def test_a_server_that_does_not_answer_is_reported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    of: type,
    name: str,
    instead: Callable[..., object],
    what: str,
) -> None:
    """A daemon that raises it is never ready."""
    monkeypatch.setattr(selftest, "TIMEOUT", 0.5)
    monkeypatch.setattr(connection, "FIRST_REQUEST", 2.0)

    async def play() -> None:
        async with house(tmp_path) as lan:
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            before = lan.server.self_test.answered_at
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(of, name, instead)
                with pytest.raises(LibraryError, match="self-test of the server failed") as wrong:
                    await lan.server.self_test.check_all()
                assert what in str(wrong.value)
                assert "aiohttp>=" in str(wrong.value)
            assert (lan.server.self_test.answered_at == before) == (what == "GET /healthz")

    asyncio.run(play())


def test_it_repeats_and_bad_answers_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog acts on it; after the next answer all is well."""
    monkeypatch.setattr(selftest, "TIMEOUT", 0.3)

    async def play() -> None:
        async with house(tmp_path) as lan, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(lan.server.self_test.run(0.05))
            self_test = lan.server.self_test

            async def answers_anew() -> None:
                before = self_test.answered_at
                async with asyncio.timeout(30):
                    while self_test.answered_at == before:
                        await asyncio.sleep(0.01)

            await answers_anew()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Http, "data_received", swallow)
                await asyncio.sleep(0.5)
                before = self_test.answered_at
                await asyncio.sleep(0.5)
                assert self_test.answered_at == before
            await answers_anew()
            asking.cancel()

    asyncio.run(play())
