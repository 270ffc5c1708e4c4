"""The service: one connection to the server after another, each continuing where the log of this site ends."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

import msgspec
from nats.aio.msg import Msg

from netscanctl.client import Client, Failure, NoDaemon
from netscanctl.service_status import timestamp
from netscanctl.services.backoff import Backoff
from netscanctl.services.following import StateFollower, messages
from netscanctl.services.program import Context
from netscanctl.services.uplink.publications import Publications
from netscanctl.services.uplink.sender import Pace, Place, Sender, find_place
from netscanctl.services.uplink.server import Server, ServerError, connect
from netscanctl.services.uplink.settings import Uplink, faults
from netscanctl.stream import Received, decode, post
from netscand import __version__, protocol, sites
from netscand.config import ConfigError
from netscand.protocol import Event, ServerMessage
from netscand.service import cancellable

LONGEST = 300.0
"""Seconds between two attempts, at most: thousands of sites come back after an outage, and not all at once."""
PAGE = 500
"""Events in one request to the history."""
COMMANDS = 16
"""Commands that wait, at most."""

log = logging.getLogger(__name__)


class Page(msgspec.Struct):
    """`protocol.EventList`, with each event as the daemon sent it."""

    cursor: str
    events: list[msgspec.Raw]
    more: bool = False


class Resending(Exception):
    """The central view lacks events; publish them again from `place` on. The text says why."""

    def __init__(self, place: Place, why: str) -> None:
        super().__init__(why)
        self.place = place


class UplinkService:
    """The service, for the base (`program.Service`)."""

    wants_events = False  # the server has the cursor
    wants_state = False

    def __init__(self, table: Uplink, context: Context) -> None:
        self._table = table
        self._daemon = context.daemon
        self._report = context.report
        self._site = table.name
        self._instance = table.identity()
        self._seed = table.seed(context.credentials)
        self._tls = table.tls()
        self._pace = Pace(table.rate)
        self._backoff = Backoff(table.spread, max(LONGEST, table.spread))
        self._resend: Place | None = None
        self._commands: asyncio.Queue[Msg] = asyncio.Queue(COMMANDS)

    def submit(self, received: Received) -> "asyncio.Future[None]":
        """Take no event: see `wants_events`."""
        raise NotImplementedError

    def on_message(self, message: ServerMessage, events: Iterable[Event]) -> None:
        """Take nothing: see `wants_state`."""

    async def run(self, follower: StateFollower) -> None:
        """Connect again and again, until cancelled."""
        while True:
            try:
                async with connect(self._table, self._seed, self._tls) as server:
                    await cancellable(self._serve(server))
            except ServerError as error:
                self._report.problem("server", str(error))
                await self._backoff.sleep()
            except Resending as request:
                log.info("publishing again every event after %s: %s", request.place.since, request)
                self._resend = request.place

    async def _serve(self, server: Server) -> None:
        """Publish until the connection ends. Raises ServerError, Resending or Failure."""
        await claim(server, self._site, self._instance)
        place = await find_place(server, self._site)
        if self._resend is not None:
            place = self._resend._replace(snapshot=place.snapshot)
        sender = Sender(server, self._site, self._instance, place, self._pace, self._report)
        sender.on_progress = self._backoff.reset
        self._report.problem("server", None)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(sender, place.since))
                group.create_task(self._send_alive(server, sender))
                if self._table.commands:
                    await server.subscribe(sites.command_subject(self._site), self._queue_command)
                    group.create_task(self._obey(server))
                await server.watch()
        except ExceptionGroup as errors:
            if sender.lost is not None:
                raise Resending(sender.lost, str(errors.exceptions[0])) from None
            raise errors.exceptions[0] from None

    async def _follow(self, sender: Sender, since: str | None) -> None:
        made = Publications(self._site, words=self._table.words, since=since)
        stream = self._stream(sender, since)
        async with aclosing(stream):
            async for received in stream:
                for message in made.on_message(received):
                    await sender.send(message)
                    self._resend = None

    async def _stream(self, sender: Sender, since: str | None) -> AsyncGenerator[Received]:
        """Yield every message behind `since`: from the history page by page, then from the stream."""
        if since is not None:
            async with aclosing(self._history(sender, since)) as past:
                async for received in past:
                    if isinstance(received.message, Event):
                        since = received.message.cursor
                    yield received
        async with aclosing(messages(self._daemon, self._report, "daemon", since)) as stream:
            async for received in stream:
                yield received

    async def _history(self, sender: Sender, since: str) -> AsyncGenerator[Received]:
        """Yield the events after a cursor, at our own pace; none if it has expired or the daemon does not answer."""
        client = Client(self._daemon)
        try:
            while True:
                query = {"since": since, "limit": str(PAGE)}
                page = client.read(await asyncio.to_thread(client.get, "/api/events", query), Page)
                sender.backlog = len(page.events)
                for raw in page.events:
                    sender.backlog -= 1
                    yield decode(self._daemon, bytes(raw))
                since = page.cursor
                if not page.more:
                    return
        except Failure as failure:
            if isinstance(failure, NoDaemon):
                self._report.problem("daemon", str(failure))
        finally:
            sender.backlog = 0
            client.close()

    async def _send_alive(self, server: Server, sender: Sender) -> None:
        while True:
            alive = sites.Alive(
                cursor=sender.acknowledged, now=timestamp(), instance=self._instance, version=__version__,
                backlog=sender.behind, commands=self._table.commands,
            )  # fmt: skip
            await server.publish_alive(sites.alive_subject(self._site), protocol.encode(alive))
            await asyncio.sleep(sites.ALIVE_INTERVAL)
            await check_owner(server, self._site, self._instance)

    # ---- commands

    async def _queue_command(self, message: Msg) -> None:
        if not self._commands.full():
            self._commands.put_nowait(message)

    async def _obey(self, server: Server) -> None:
        """Carry out each command, and answer it."""
        while True:
            message = await self._commands.get()
            resend: sites.Resend | None = None
            try:
                command = msgspec.json.decode(message.data, type=sites.Command)
                if isinstance(command, sites.Resend):
                    resend = command
                elif isinstance(command, sites.Annotate):
                    await self._annotate(command)
                else:
                    body = protocol.encode(protocol.ScanRequest(targets=command.targets))
                    await post(self._daemon, "/api/scan", body)
                answer = protocol.encode(sites.Done())
            except msgspec.DecodeError as error:
                answer = _refusal("bad_request", f"invalid command: {error}; expected scan_now, resend or annotate")
            except Failure as failure:
                answer = _refusal("busy", str(failure))
            if message.reply:
                await server.publish_alive(message.reply, answer)
            if resend is not None:
                raise Resending(Place(resend.after, None), "requested")

    async def _annotate(self, command: sites.Annotate) -> None:
        """Set the annotations of a device. Raises Failure."""
        if not self._table.words:
            raise Failure("this site publishes no labels and notes ([uplink] words)")
        values = msgspec.structs.asdict(command)
        del values["mac"]
        client = Client(self._daemon)
        try:
            update = protocol.encode(protocol.DeviceUpdate(**values))
            await asyncio.to_thread(client.patch, f"/api/devices/{command.mac}", update)
        finally:
            client.close()


def _refusal(code: str, text: str) -> bytes:
    return protocol.encode(protocol.ErrorAnswer(error=protocol.Refusal(code=code, message=text)))


async def claim(server: Server, site: str, instance: str, *, take_over: bool = False) -> None:
    """Make this machine the owner of the site's name. Raises ServerError if another one is."""
    subject = sites.owner_subject(site)
    entry = protocol.encode(sites.Owner(instance=instance, host=socket.gethostname(), since=timestamp()))
    if take_over:
        await server.replace(subject, entry)
        return
    if await server.create(subject, entry):
        return
    found = await server.last(f"KV_{sites.OWNER}", subject)
    if found is not None and not found.data:  # of netscand-hub add-site: the name has no owner yet
        await server.create(subject, entry, after=found.headers[sites.SEQUENCE])
    await check_owner(server, site, instance)


async def check_owner(server: Server, site: str, instance: str) -> None:
    """Raise ServerError if the site's name belongs to another machine."""
    found = await server.last(f"KV_{sites.OWNER}", sites.owner_subject(site))
    if found is None or not found.data:
        return  # removed, or without an owner yet
    hint = "take it over with netscand-uplink --take-over"
    try:
        owner = msgspec.json.decode(found.data, type=sites.Owner)
    except msgspec.DecodeError:
        raise ServerError(f"the owner entry of site {site} is unreadable; {hint}") from None
    if owner.instance != instance:
        raise ServerError(
            f"site {site} belongs to {owner.host} (instance {owner.instance}, since {owner.since}): nothing is "
            f"published; give this site another name, or {hint}"
        )


def build(table: Uplink, context: Context) -> UplinkService:
    """Make the service. Raises ConfigError."""
    if wrong := list(faults(table, context.credentials)):
        raise ConfigError(*(f"[uplink] {fault}" for fault in wrong))
    return UplinkService(table, context)
