"""One connection to the NATS server; it does not reconnect: a new one begins with the server's last cursor."""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from netscanctl.services.uplink.settings import Uplink
from netscand import nats_settings, sites
from netscand.service import cancellable

CONNECT = 10.0
"""Seconds to connect."""
ANSWER = 10.0
"""Seconds for an answer, and for an acknowledgement."""
PING = 15
"""Seconds between two pings; after two without an answer the connection has ended."""
NO_RESPONDERS, NOT_FOUND = "503", "404"
WRONG_LAST_SEQUENCE, STREAM_EXISTS, NO_STORAGE = 10071, 10058, 10047
"""Error codes of JetStream: the subject has a message already; the stream has another configuration; the disk, or what
the server may use of it, is too small."""


class ServerError(Exception):
    """The server cannot be reached, refuses a message, or ended the connection."""


class Stored(NamedTuple):
    """A message in a stream."""

    headers: Mapping[str, str]
    data: bytes


class _Problem(msgspec.Struct):
    description: str = ""
    err_code: int = 0


class Acknowledgement(msgspec.Struct):
    """Answer of JetStream to a publication."""

    error: _Problem | None = None
    duplicate: bool = False
    """The id was known: the message is stored already."""
    seq: int = 0
    """Number of the message in its stream."""


class Server:
    """An open connection; `run` is its random name."""

    def __init__(self, site: str) -> None:
        self.run = secrets.token_hex(4)
        self.client = Client()
        self._inbox = f"{sites.inbox(site)}.{self.run}"
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._pending: dict[str, tuple[float, Callable[[Acknowledgement], None]]] = {}
        """Subject of the answer → until when it must come, and who takes it."""
        self._number = 0
        self.refusal = ""
        """Last error that the server reported."""

    async def open(self, table: Uplink, seed: str | None, tls: ssl.SSLContext | None) -> None:
        """Connect. Raises ServerError."""
        try:
            async with asyncio.timeout(CONNECT + 2):
                await cancellable(self.client.connect(
                    table.url, name=f"netscand-uplink {table.name}", allow_reconnect=False, max_reconnect_attempts=1,
                    reconnect_time_wait=0, connect_timeout=int(CONNECT), ping_interval=PING, max_outstanding_pings=2,
                    nkeys_seed_str=seed, tls=tls, inbox_prefix=sites.inbox(table.name), error_cb=self._on_error,
                    closed_cb=self._on_closed,
                ))  # fmt: skip
                await cancellable(self.client.subscribe(f"{self._inbox}.*", cb=self._on_answer))
        except (OSError, TimeoutError, nats.errors.Error) as error:
            reason = self.refusal or getattr(error, "strerror", None) or str(error) or "no answer"
            raise ServerError(f"cannot connect to {table.server}: {reason}") from None

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str], acknowledged: Callable[[Acknowledgement], None]
    ) -> None:
        """Publish; `acknowledged` gets the answer, which is an error only if the caller expects one."""
        self._number += 1
        reply = f"{self._inbox}.{self._number}"
        self._pending[reply] = self._loop.time() + ANSWER, acknowledged
        await self._do(self.client.publish(subject, payload, reply=reply, headers=headers))

    async def publish_alive(self, subject: str, payload: bytes) -> None:
        """Publish without an acknowledgement."""
        await self._do(self.client.publish(subject, payload))

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message of a subject in a stream. Raises ServerError."""
        try:
            request = self.client.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", timeout=ANSWER)
            message = await cancellable(request)
        except (nats.errors.Error, TimeoutError) as error:
            reason = self.refusal or str(error) or "no answer"
            raise ServerError(f"cannot read stream {stream}: {reason}") from None
        headers = {str(key): value for key, value in (message.headers or {}).items()}
        if headers.get("Status") == NOT_FOUND:
            return None
        if "Status" in headers:
            raise ServerError(f"cannot read stream {stream}: status {headers['Status']}")
        return Stored(headers, message.data)

    async def create(self, subject: str, payload: bytes, *, after: str = "0") -> bool:
        """Store a message if the last of its subject has this number, 0: if there is none; return whether it was.

        Raises ServerError.
        """
        return await self._put(subject, payload, {"Nats-Expected-Last-Subject-Sequence": after})

    async def replace(self, subject: str, payload: bytes) -> None:
        """Store a message, and wait until it is. Raises ServerError."""
        await self._put(subject, payload, {})

    async def make_stream(self, stream: dict[str, Any]) -> None:
        """Create a stream, or give it this configuration. Raises ServerError."""
        answer = Acknowledgement()
        for verb in ("CREATE", "UPDATE"):
            try:
                subject = f"$JS.API.STREAM.{verb}.{stream['name']}"
                message = await self.client.request(subject, msgspec.json.encode(stream), timeout=ANSWER)
            except (nats.errors.Error, TimeoutError) as error:
                reason = self.refusal or str(error) or "no answer"
                raise ServerError(f"cannot make stream {stream['name']}: {reason}") from None
            answer = msgspec.json.decode(message.data, type=Acknowledgement)
            if answer.error is None or answer.error.err_code != STREAM_EXISTS:
                break
        if answer.error is not None:
            hint = "; give it less: --size GIB" if answer.error.err_code == NO_STORAGE else ""
            raise ServerError(f"cannot make stream {stream['name']}: {answer.error.description}{hint}")

    async def _put(self, subject: str, payload: bytes, headers: dict[str, str]) -> bool:
        stored: asyncio.Future[bool] = self._loop.create_future()

        def settle(answer: Acknowledgement) -> None:
            if answer.error is None or answer.error.err_code == WRONG_LAST_SEQUENCE:
                stored.set_result(answer.error is None)
            else:
                self.end(f"the server refuses {subject}: {answer.error.description}")

        await self.publish(subject, payload, headers, settle)
        waits: list[asyncio.Future[Any]] = [stored, self._ended]
        await asyncio.wait(waits, timeout=ANSWER, return_when=asyncio.FIRST_COMPLETED)
        if not stored.done():
            raise ServerError(self._ended.result() if self._ended.done() else f"no answer in {ANSWER:g} s")
        return stored.result()

    async def subscribe(self, subject: str, take: Callable[[Msg], Awaitable[None]]) -> None:
        """Pass on every message of a subject."""
        await self._do(self.client.subscribe(subject, cb=take))

    async def watch(self) -> None:
        """Wait until the connection ends, or an answer is late. Raises ServerError."""
        while not self._ended.done():
            until = next(iter(self._pending.values()))[0] if self._pending else self._loop.time() + ANSWER
            await asyncio.wait([self._ended], timeout=max(0.05, min(1.0, until - self._loop.time())))
            if self._pending and next(iter(self._pending.values()))[0] < self._loop.time():
                self.end(f"no acknowledgement in {ANSWER:g} s")
        raise ServerError(self._ended.result())

    def end(self, reason: str) -> None:
        """End the connection with a reason, for `watch`."""
        if not self._ended.done():
            self._ended.set_result(reason)

    async def close(self) -> None:
        """Close the connection."""
        self.end("closed")
        await nats_settings.close(self.client)

    async def _do(self, work: Awaitable[object]) -> None:
        try:
            await cancellable(work)
        except nats.errors.Error as error:
            raise ServerError(f"the connection ended: {self.refusal or error}") from None

    async def _on_answer(self, message: Msg) -> None:
        pending = self._pending.pop(message.subject, None)
        if pending is None:
            return
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            self.end(
                "the server has no stream for this; its administrator restarts it if its disk was full, or else runs "
                "netscand-uplink streams"
            )
            return
        try:
            answer = msgspec.json.decode(message.data, type=Acknowledgement)
        except msgspec.DecodeError:
            self.end("the server's answer is not one of JetStream")
        else:
            pending[1](answer)

    async def _on_error(self, error: Exception) -> None:
        self.refusal = str(error).removeprefix("nats: ")
        if "permissions violation" in self.refusal.lower():
            self.end(f"the server refuses: {self.refusal}; the key is not that of this site")

    async def _on_closed(self) -> None:
        self.end(f"the connection ended: {self.refusal}" if self.refusal else "the connection ended")


@asynccontextmanager
async def connect(table: Uplink, seed: str | None, tls: ssl.SSLContext | None) -> AsyncIterator[Server]:
    """Connect, and close at the end. Raises ServerError."""
    server = Server(table.name)
    try:
        await server.open(table, seed, tls)
        yield server
    finally:
        await server.close()
