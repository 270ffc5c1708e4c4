"""One connection of a hub to the NATS server; it does not reconnect: a new one begins by comparing the log.

The library parses headers and makes a task for each message; for streams of a hub's length that takes half of the
start. So a `RawClient` passes on the bytes of those as they come.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from netscand import nats_settings, protocol, sites
from netscand.hub.settings import Hub
from netscand.protocol import ErrorAnswer
from netscand.serve.query import NOT_READABLE
from netscand.service import cancellable

CONNECT = 10.0
"""Seconds to connect."""
NO_MORE = (b"404", b"408")
"""Statuses of a consumer that has no more messages."""
FIRST_ANSWER, ANSWER = 1.0, 10.0
"""Seconds until a request to JetStream is repeated for the first time, and for an answer."""
PING = 15
"""Seconds between two pings; after two without an answer the connection has ended."""
HEARTBEAT = 5.0
"""Seconds between two signs of life of a consumer; after three without one it has ended."""
LAG, AGAIN = 5.0, 0.05
"""Seconds that a replica may lag behind its leader, and between two requests."""
ONE_SHOT = 30.0
"""Seconds after which the server removes a consumer that no process reads."""
PAGE = 500
"""Messages that are read from the log at a time."""


class ServerError(Exception):
    """The server cannot be reached, refuses a request, or ended the connection."""


class NoAnswer(ServerError):
    """The server does not answer a request in time."""


class Message(NamedTuple):
    """A message of a stream."""

    sequence: int
    """Its number in the stream that was read."""
    stamp: int
    """When the server stored it, in nanoseconds of unix time."""
    pending: int
    """Messages after it in the stream when it was sent."""
    subject: str
    headers: Mapping[bytes, bytes]
    data: bytes


class StreamState(NamedTuple):
    """A stream at some moment."""

    created: str
    first: int
    last: int
    messages: int
    has_replicas: bool


Take = Callable[[bytes, bytes, bytes, bytes | None], str | None]
"""Takes subject, reply, data and headers of a message; returns the subject to which an answer without content goes."""


class RawClient(Client):
    """Client with subscriptions whose messages are passed on as they come; held by tests/core/test_libraries.py."""

    def __init__(self) -> None:
        super().__init__()
        self.takers: dict[int, Take] = {}
        """Subscription → receiver of its messages."""
        self.on_failure: Callable[[Exception], None] = lambda error: None

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:  # noqa: ANN401 - as in the library
        take = self.takers.get(sid)
        if take is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        try:
            answer = take(subject, reply, data, headers)
        except Exception as error:  # the library would only log it
            self.on_failure(error)
        else:
            if answer:
                await self.publish(answer, b"")


def parsed(headers: bytes | None) -> dict[bytes, bytes]:
    """Return the headers of a message; a status as `Status`."""
    if not headers:
        return {}
    first, *lines = headers.split(b"\r\n")
    try:
        found = dict([line.split(b": ", 1) for line in lines if line])
    except ValueError:  # written in another way
        found = {name: value.lstrip() for name, _, value in (line.partition(b":") for line in lines) if name}
    if len(first) > len(b"NATS/1.0"):
        found[b"Status"] = first[9:12]
    return found


def _place(reply: bytes) -> list[bytes] | None:
    """Return the parts of the subject at which a message of a stream could be acknowledged; None: it is none."""
    if not reply.startswith(b"$JS.ACK."):
        return None
    place = reply.split(b".")
    return [*place[:2], *place[4:]] if len(place) > 9 else place  # with domain and account


def _message(place: list[bytes], subject: bytes, data: bytes, headers: bytes | None) -> Message:
    return Message(int(place[5]), int(place[7]), int(place[8]), subject.decode(errors="replace"), parsed(headers), data)


class Connection:
    """An open connection."""

    def __init__(self) -> None:
        self.client = RawClient()
        self._inbox = f"{sites.HUB_INBOX}.{secrets.token_hex(6)}"
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self.client.on_failure = self.fail
        self._numbers = 0
        self.refusal = ""
        """Last error that the server reported."""

    async def open(self, table: Hub, seed: str | None) -> None:
        """Connect. Raises ServerError, ConfigError."""
        tls = nats_settings.tls("[hub]", table.server, table.ca_file)
        try:
            async with asyncio.timeout(CONNECT + 2):
                await cancellable(self.client.connect(
                    nats_settings.with_port(table.server), name="netscand-hub", allow_reconnect=False,
                    max_reconnect_attempts=1, reconnect_time_wait=0, connect_timeout=int(CONNECT), ping_interval=PING,
                    max_outstanding_pings=2, nkeys_seed_str=seed, tls=tls, inbox_prefix=self._inbox.encode(),
                    error_cb=self._on_error, closed_cb=self._on_closed,
                ))  # fmt: skip
        except (OSError, TimeoutError, nats.errors.Error) as error:
            reason = self.refusal or getattr(error, "strerror", None) or str(error) or "no answer"
            raise ServerError(f"cannot connect to {table.server}: {reason}") from None

    # ---- requests

    async def request(self, subject: str, content: object = None, *, within: float = ANSWER) -> Msg:
        """Return the answer to a request. Raises ServerError."""
        payload = b"" if content is None else msgspec.json.encode(content)
        try:
            return await cancellable(self.client.request(subject, payload, timeout=within))
        except nats.errors.NoRespondersError:
            raise ServerError(f"{subject}: no process answers") from None
        except TimeoutError:
            raise NoAnswer(f"{subject}: {self.refusal or 'no answer'}") from None
        except nats.errors.Error as error:
            raise ServerError(f"{subject}: {self.refusal or str(error) or 'no answer'}") from None

    async def api(self, subject: str, content: object = None) -> dict[str, Any]:
        """Return the answer of JetStream's API. Raises ServerError.

        A cluster without a leader does not answer, also not when it has one. So the request, which may be any that can
        be repeated, is.
        """
        within, until = FIRST_ANSWER, self._loop.time() + ANSWER
        while True:
            try:
                found = await self.request(f"$JS.API.{subject}", content, within=within)
                break
            except NoAnswer:
                within *= 2
                if self._ended.done() or self._loop.time() > until:
                    raise
        answer: dict[str, Any] = msgspec.json.decode(found.data)
        if "error" in answer:
            raise ServerError(f"{subject}: {answer['error'].get('description', 'refused')}")
        return answer

    async def stream_state(self, stream: str) -> StreamState:
        """Return the state of a stream. Raises ServerError."""
        found = await self.api(f"STREAM.INFO.{stream}")
        state, replicas = found["state"], found.get("cluster", {}).get("replicas")
        return StreamState(found["created"], state["first_seq"], state["last_seq"], state["messages"], bool(replicas))

    async def stamp_of(self, stream: str, sequence: int) -> str | None:
        """Return when the server stored a message, as RFC 3339; None: it has no such message. Raises ServerError.

        Any replica answers that, also one that lags behind; how far the stream reaches, only the leader answers.
        """
        until = self._loop.time() + LAG
        while True:
            answer = await self.request(f"$JS.API.DIRECT.GET.{stream}", {"seq": int(sequence)})
            stamp: str | None = (answer.headers or {}).get("Nats-Time-Stamp")
            if stamp is not None or self._loop.time() > until:
                return stamp
            state = await self.stream_state(stream)
            if not state.has_replicas or not state.first <= sequence <= state.last:
                return None
            await asyncio.sleep(AGAIN)

    async def until_current(self, stream: str) -> bool:
        """Wait, at most LAG, until no replica lags behind; return whether there are any. Raises ServerError."""
        until = self._loop.time() + LAG
        while True:
            replicas = (await self.api(f"STREAM.INFO.{stream}")).get("cluster", {}).get("replicas") or ()
            lags = [one for one in replicas if not one.get("offline") and (not one.get("current") or one.get("lag"))]
            if not lags or self._loop.time() > until:
                return bool(replicas)
            await asyncio.sleep(AGAIN)

    async def publish(self, subject: str, payload: bytes) -> None:
        """Publish without an acknowledgement. Raises ServerError."""
        try:
            await cancellable(self.client.publish(subject, payload))
        except nats.errors.Error as error:
            raise ServerError(f"the connection ended: {self.refusal or error}") from None

    async def command(self, site: str, command: sites.Command) -> None:
        """Send a command to a site. Raises ServerError with the reason why it was not carried out."""
        try:
            request = self.client.request(sites.command_subject(site), protocol.encode(command), timeout=ANSWER)
            answer = await cancellable(request)
        except nats.errors.NoRespondersError:
            raise ServerError(f"site {site} accepts no commands, or is not connected") from None
        except (nats.errors.Error, TimeoutError) as error:
            raise ServerError(f"site {site} does not answer: {error or 'no answer'}") from None
        with suppress(*NOT_READABLE):
            raise ServerError(f"site {site}: {msgspec.json.decode(answer.data, type=ErrorAnswer).error.message}")

    # ---- streams

    async def subscribe(self, subject: str, take: Take) -> Subscription:
        """Pass on every message of a subject. Raises ServerError."""
        try:
            subscription = await cancellable(self.client.subscribe(subject))
        except nats.errors.Error as error:
            raise ServerError(f"the connection ended: {self.refusal or error}") from None
        self.client.takers[subscription._id] = take
        return subscription

    async def follow(
        self,
        stream: str,
        start: Mapping[str, object],
        take: Callable[[Message], None],
        until_idle: bool = False,
        catch_up: bool = False,
    ) -> None:
        """Pass on every message of a stream from `start`, in order; a gap ends the connection. Raises ServerError.

        `until_idle`: return when the stream has no more; else follow it until the connection ends. `catch_up`: return
        when it has no more for the first time.
        """
        self._numbers += 1
        inbox, expected, received_at = f"{self._inbox}.{self._numbers}", 1, self._loop.time()
        idle: asyncio.Future[None] = self._loop.create_future()
        """Done when everything was passed on: by the count of what is behind a message, or a sign of life after it."""

        def on_message(subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> str | None:
            nonlocal expected, received_at
            received_at = self._loop.time()
            place = _place(reply)
            if place is None:
                found = parsed(headers)
                if (last := found.get(b"Nats-Last-Consumer")) is not None and int(last) >= expected:
                    self.end(f"messages of {stream} are missing")
                stalled = found.get(b"Nats-Consumer-Stalled", b"")  # the server waits for this answer, and has more
                if last is not None and not stalled and not idle.done():
                    idle.set_result(None)
                return (reply or stalled).decode()  # flow control
            if int(place[6]) != expected:
                self.end(f"messages of {stream} are missing")
            elif not self._ended.done():
                expected += 1
                if not (until_idle and idle.done()):
                    take(_message(place, subject, data, headers))
                if place[8] == b"0" and not idle.done():
                    idle.set_result(None)
            return None

        def watch() -> None:
            if not self._ended.done() and subscription._id in self.client.takers:
                if self._loop.time() > received_at + 3 * HEARTBEAT:
                    self.end(f"the server sends nothing more of {stream}")
                else:
                    self._loop.call_later(HEARTBEAT, watch)

        subscription = await self.subscribe(inbox, on_message)
        name = await self._consume(
            stream, {**start, "deliver_subject": inbox, "flow_control": True, "idle_heartbeat": int(HEARTBEAT * 1e9)}
        )
        watch()
        if until_idle or catch_up:
            await self.until(idle)
        if until_idle:
            await self._end_consumer(stream, name, subscription)

    async def read(self, stream: str, start: Mapping[str, object]) -> AsyncGenerator[list[Message]]:
        """Yield the messages of a stream from `start` up to its end, some at a time. Raises ServerError."""
        name = await self._consume(stream, start)
        self._numbers += 1
        inbox = f"{self._inbox}.{self._numbers}"
        answers: asyncio.Queue[Message | None] = asyncio.Queue()
        expected, fault = 1, ""

        def on_message(subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
            nonlocal expected, fault
            place = _place(reply)
            if place is None:
                status = parsed(headers).get(b"Status", b"")
                if status not in NO_MORE:  # as when the server with the consumer, one of a cluster, has ended
                    fault = f"status {status.decode(errors='replace')}"
                answers.put_nowait(None)
            else:
                if int(place[6]) != expected:
                    fault = "messages are missing"
                expected += 1
                answers.put_nowait(_message(place, subject, data, headers))

        subscription = await self.subscribe(inbox, on_message)
        left = 0
        try:
            while True:
                request = msgspec.json.encode({"batch": PAGE, "no_wait": True})
                subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
                await cancellable(self.client.publish(subject, request, reply=inbox))
                page: list[Message] = []
                async with asyncio.timeout(ANSWER):
                    while len(page) < PAGE and (message := await answers.get()) is not None:
                        page.append(message)
                        if not message.pending:
                            break
                if fault or (left and not page):
                    raise ServerError(f"cannot read {stream}: {fault or 'it ended too early'}")
                left = page[-1].pending if page else 0
                if page:
                    yield page  # whose list it is from now on
                if not left:
                    return
        except TimeoutError:
            raise ServerError(f"cannot read {stream}: no answer") from None
        except nats.errors.Error as error:
            raise ServerError(f"the connection ended: {self.refusal or error}") from None
        finally:
            await self._end_consumer(stream, name, subscription)

    async def _end_consumer(self, stream: str, name: str, subscription: Subscription) -> None:
        self.client.takers.pop(subscription._id, None)
        with suppress(nats.errors.Error):
            await subscription.unsubscribe()
            await self.client.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{name}", b"")

    async def _consume(self, stream: str, start: Mapping[str, object]) -> str:
        """Make a consumer without acknowledgements; return its name. Raises ServerError."""
        name = f"hub-{secrets.token_hex(6)}"
        config = {
            "name": name, "ack_policy": "none", "replay_policy": "instant", "mem_storage": True, "num_replicas": 1,
            "inactive_threshold": int(ONE_SHOT * 1e9), **start,
        }  # fmt: skip
        await self.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})
        return name

    # ---- end

    async def watch(self) -> None:
        """Wait until the connection ends. Raises ServerError."""
        await self.until(self._loop.create_future())

    async def until(self, done: "asyncio.Future[None]") -> None:
        """Wait for something that comes by the connection. Raises ServerError if that ends before."""
        waits: list[asyncio.Future[Any]] = [done, self._ended]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            raise ServerError(self._ended.result())

    def end(self, reason: str) -> None:
        """End the connection with a reason, for `watch`."""
        if not self._ended.done():
            self._ended.set_result(reason)

    def fail(self, error: Exception) -> None:
        """End the connection with an error of ours, for `watch`."""
        if not self._ended.done():
            self._ended.set_exception(error)

    async def close(self) -> None:
        """Close the connection."""
        self.end("closed")
        await nats_settings.close(self.client)

    async def _on_error(self, error: Exception) -> None:
        self.refusal = str(error).removeprefix("nats: ")
        if "permissions violation" in self.refusal.lower():
            self.end(f"the server refuses: {self.refusal}; the key is not that of a hub")

    async def _on_closed(self) -> None:
        self.end(f"the connection ended: {self.refusal}" if self.refusal else "the connection ended")


@asynccontextmanager
async def connect(table: Hub, seed: str | None) -> AsyncIterator[Connection]:
    """Connect, and close at the end. Raises ServerError, ConfigError."""
    connection = Connection()
    try:
        await connection.open(table, seed)
        yield connection
    finally:
        await connection.close()
