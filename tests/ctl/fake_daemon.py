"""A small real daemon: aiohttp on a Unix socket or TCP, on a thread of its own, controlled by a test."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.typedefs import Handler

from netscand import protocol
from netscand.protocol import Device, DeviceList, Message, Network, NetworkList, ScanTicket, encode
from netscand.serve.query import filter_of
from tests.ctl import messages

DEADLINE = 60.0
"""Seconds that a test waits for what must come; the machine may be busy."""


class FakeDaemon:
    """Answers with `devices`, `networks`, `status`; sends every watcher the messages of `send`."""

    def __init__(self, socket: Path | None = None) -> None:
        self.socket = socket
        self.port = 0
        self.devices: list[Device] = [messages.device(7), messages.device(8, "offline"), messages.device(20)]
        self.networks: list[Network] = [messages.network()]
        self.conflicts: list[protocol.Conflict] = []
        self.sites: list[protocol.Site] | None = None
        """Sites, of a hub."""
        self.status = messages.status()
        self.snapshot: list[Message] | None = None
        """First messages to a watcher; None: `initial_state` of `devices`, whole."""
        self.resumed: list[Message] | None = None
        """First messages to a watcher with `since=`; None: the snapshot."""
        self.answers: dict[str, tuple[int, bytes]] = {}
        """Path → answer that replaces the usual one."""
        self.bodies: list[bytes] = []
        """Bodies of the requests that `answers` has an answer to."""
        self.people: list[protocol.Person] = []
        """People of the snapshot."""
        self.accepts_unseen = False
        """Add a device when it is changed."""
        self.warnings: list[str] = []
        """Of every change."""
        self.events: list[protocol.Event] = []
        """The history."""
        self.days: list[protocol.PresenceDay] = []
        """Presence of every device."""
        self.breaks_off = False
        """Close the connection in the middle of the backup."""
        self.backup = b"SQLite format 3\x00" + bytes(100_000)
        self.scan: list[Message] = []
        """Messages to watchers during a scan."""
        self.ignores_pings = False
        """Do not answer pings, like a stopped process."""
        self.hold = False
        """Never answer a scan."""
        self.found: protocol.ScanUpdate | ScanTicket = messages.scanned(messages.device(7))
        """Result of a scan."""
        self.received: list[protocol.ClientMessage | protocol.ScanRequest | protocol.DeviceUpdate] = []
        """Messages and bodies from clients, decoded."""
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str]]] = []
        """Method, path, query and headers of every request."""
        self.greeted = 0
        """Watchers that received the snapshot, in total."""
        self._watchers: set[web.WebSocketResponse] = set()
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()

    # ---- life

    def start(self) -> None:
        """Listen."""
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live(ready)), name="fake daemon")
        self._thread.start()
        ready.result(DEADLINE)

    def stop(self) -> None:
        """Stop; clients see the connection close."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        self._thread = None

    async def _live(self, ready: "Future[None]") -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._note])
        for path, answer in {
            "/ws": self._stream, "/api/devices": self._list, "/api/devices/{mac}": self._one,
            "/api/devices/{mac}/events": self._past, "/api/devices/{mac}/presence": self._presence,
            "/api/events": self._past, "/api/backup": self._backup, "/api/networks": self._list_networks,
            "/api/status": self._get_status, "/api/sites": self._list_sites,
        }.items():  # fmt: skip
            app.router.add_get(path, answer)
        app.router.add_patch("/api/devices/{mac}", self._change)
        app.router.add_delete("/api/devices/{mac}", self._forget)
        app.router.add_post("/api/scan", self._scan)
        app.router.add_post("/api/reload", self._reload)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        if self.socket:
            await web.UnixSite(runner, str(self.socket)).start()
        else:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self.port = runner.addresses[0][1]
        ready.set_result(None)
        await self._stopping.wait()
        for watcher in tuple(self._watchers):
            await watcher.close(code=WSCloseCode.GOING_AWAY)
        await runner.cleanup()

    # ---- for tests

    def send(self, *messages: Message | bytes) -> None:
        """Send messages to every watcher."""
        self._run(self._send_all(messages))

    def cut(self, code: int = 1001) -> None:
        """Close every watcher's connection."""

        async def close() -> None:
            for watcher in tuple(self._watchers):
                await watcher.close(code=code)

        self._run(close())

    @property
    def url(self) -> str:
        """Its address on TCP."""
        return f"http://127.0.0.1:{self.port}"

    def refuse(self, code: int, word: str, message: str, *paths: str) -> None:
        """Answer requests for these paths with an error."""
        body = encode(protocol.ErrorAnswer(error=protocol.Refusal(code=word, message=message)))
        self.answers |= dict.fromkeys(paths, (code, body))

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true; it is checked whenever a client does something."""
        ends = time.monotonic() + DEADLINE
        with self._changed:
            while not condition():
                assert self._changed.wait(max(0.0, ends - time.monotonic())), "timeout"

    def until_watched(self, times: int = 1) -> None:
        """Wait until `times` watchers in total have received the snapshot."""
        self.until(lambda: self.greeted >= times)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # ---- handlers

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.query), dict(request.headers)))
        self._notify()
        if request.path in self.answers:
            self.bodies.append(await request.read())
            code, body = self.answers[request.path]
            return web.Response(status=code, body=body, content_type="application/json")
        return await handler(request)

    async def _list(self, request: web.Request) -> web.Response:
        fits = filter_of(request.query)
        found = [one for one in self.devices if fits.device(one)]
        return _json(DeviceList(cursor="k3f9-1", last_scan=messages.AT, devices=found, conflicts=self.conflicts))

    async def _list_networks(self, _request: web.Request) -> web.Response:
        return _json(NetworkList(networks=self.networks))

    async def _list_sites(self, request: web.Request) -> web.Response:
        if self.sites is None:
            error = protocol.Refusal(code="not_found", message="no /api/sites")
            return _json(protocol.ErrorAnswer(error=error), 404)
        found = [one for one in self.sites if request.query.get("site", one.site) == one.site]
        return _json(protocol.SiteList(cursor="k3f9-1", sites=found))

    async def _get_status(self, _request: web.Request) -> web.Response:
        return _json(self.status)

    async def _one(self, request: web.Request) -> web.Response:
        found = self._found(request)
        return found if isinstance(found, web.Response) else _json(found)

    def _found(self, request: web.Request) -> Device | web.Response:
        mac = request.match_info["mac"]
        fits = filter_of({key: value for key, value in request.query.items() if key == "site"})
        known = [one for one in self.devices if one.mac == mac and fits.device(one)]
        if len(known) > 1:
            at = ", ".join(str(one.site) for one in known)
            error = protocol.Refusal(
                code="ambiguous", message=f"{mac} is at several sites: {at}; choose one with site=NAME"
            )
            return _json(protocol.ErrorAnswer(error=error), 409)
        error = protocol.Refusal(code="not_found", message=f"no device {mac}")
        return known[0] if known else _json(protocol.ErrorAnswer(error=error), 404)

    async def _change(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        update = msgspec.json.decode(await request.read(), type=protocol.DeviceUpdate)
        self.received.append(update)
        found = self._found(request)
        if isinstance(found, web.Response) and self.accepts_unseen:
            mac = request.match_info["mac"]
            found = messages.device(0, "unknown", mac=mac, ip=None, hostname=None, addresses=[], kinds=["never_seen"])
            self.devices.append(found)
        if isinstance(found, web.Response):
            return found
        for name, value in msgspec.structs.asdict(update).items():
            if name.endswith("_tags") and value is not msgspec.UNSET:
                others = set(found.tags) | set(value) if name == "add_tags" else set(found.tags) - set(value)
                found.tags = sorted(others)
            elif value is not msgspec.UNSET and name != "take_from":
                setattr(found, name, 60.0 if name == "patience" and value is None else value)
        return _json(msgspec.structs.replace(found, warnings=self.warnings or msgspec.UNSET))

    async def _forget(self, request: web.Request) -> web.Response:
        found = self._found(request)
        of = request.match_info["mac"]
        kept = [one for one in self.events if one.device is None or one.device.mac != of]
        erase = request.query.get("history") == "true"
        if isinstance(found, web.Response) and not (erase and len(kept) < len(self.events)):
            return found
        if isinstance(found, Device):
            self.devices.remove(found)
        if not erase:
            return web.Response(status=204)
        erased, self.events = protocol.Erased(events=len(self.events) - len(kept)), kept
        return _json(erased)

    async def _past(self, request: web.Request) -> web.Response:
        """As DESIGN section 4 has it, by cursors alone."""
        query = dict(request.query)
        mac = request.match_info.get("mac", query.get("mac"))
        kinds = query["kind"].split(",") if "kind" in query else []
        fits = [
            one
            for one in self.events
            if mac in (None, one.device and one.device.mac) and (not kinds or one.kind in kinds)
        ]
        if "until" in query:
            fits = [one for one in fits if one.at <= query["until"]]
        if "last" in query:
            fits = fits[-int(query["last"]) :]
        elif "since" in query:
            since = query["since"].rpartition("-")[2]
            fits = [one for one in fits if not since.isdigit() or int(one.cursor.rpartition("-")[2]) > int(since)]
        limit = int(query.get("limit", 500))
        cursor = fits[limit - 1].cursor if len(fits) >= limit else "k3f9-9999"
        return _json(protocol.EventList(cursor=cursor, events=fits[:limit]))

    async def _presence(self, _request: web.Request) -> web.Response:
        return _json(protocol.PresenceDays(days=self.days))

    async def _backup(self, request: web.Request) -> web.StreamResponse:
        if self.breaks_off:
            response = web.StreamResponse(headers={"Content-Length": str(len(self.backup))})
            await response.prepare(request)
            await response.write(self.backup[: len(self.backup) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(body=self.backup, content_type="application/octet-stream")

    async def _reload(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _scan(self, request: web.Request) -> web.Response:
        self.received.append(msgspec.json.decode(await request.read(), type=protocol.ScanRequest))
        self._notify()
        if "wait" not in request.query:
            return _json(ScanTicket(scan_id=42), 202)
        await self._send_all(self.scan)
        if self.hold:
            await self._stopping.wait()
            assert request.transport is not None
            request.transport.abort()  # like a process that was killed
        return _json(self.found)

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, autoping=not self.ignores_pings)
        await socket.prepare(request)
        first = (
            self.snapshot
            if self.snapshot is not None
            else [messages.snapshot(*self.devices, networks=self.networks, people=self.people)]
        )
        if "since" in request.query and self.resumed is not None:
            first = self.resumed
        for message in first:
            await socket.send_str(encode(message).decode())
        self._watchers.add(socket)
        self.greeted += 1
        self._notify()
        try:
            async for frame in socket:
                if frame.type is WSMsgType.TEXT:
                    await self._answer(socket, protocol.decode_client(frame.data))
        finally:
            self._watchers.discard(socket)
        return socket

    async def _answer(self, socket: web.WebSocketResponse, request: protocol.ClientMessage) -> None:
        self.received.append(request)
        self._notify()
        if isinstance(request, protocol.SetInterval):
            seconds = request.seconds or 30
            answer: Message = protocol.Interval(request=request.request, seconds=seconds)
            if seconds > 30:
                answer = protocol.Error(
                    code="bad_request", message="seconds: expected 1 to 30", request=request.request
                )
            await socket.send_str(encode(answer).decode())

    async def _send_all(self, messages: Iterable[Message | bytes]) -> None:
        for message in messages:
            raw = message if isinstance(message, bytes) else encode(message)
            for watcher in tuple(self._watchers):
                with suppress(ConnectionResetError):  # a watcher that was killed
                    await watcher.send_str(raw.decode())


def _json(value: msgspec.Struct, status: int = 200) -> web.Response:
    return web.Response(status=status, body=encode(value), content_type="application/json")
