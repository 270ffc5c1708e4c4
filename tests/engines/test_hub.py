"""netscand-hub with a real NATS server: clients see what the sites published, whatever is killed or restored."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest
from msgspec import structs
from nats.aio.client import Client

from netscanctl.services.uplink import service as uplink_service
from netscand import sites
from netscand.core.restore import CursorGone, EventQuery, Unreadable
from netscand.hub import connection as hub_connection
from netscand.hub import log as hub_log
from netscand.hub import settings as hub_settings
from netscand.hub import view as hub_view
from netscand.hub.connection import PAGE, Connection, Message, ServerError
from netscand.hub.history import Past
from netscand.hub.log import Log, copies_of_log, is_other_log
from netscand.hub.published import device_of
from netscand.hub.view import View
from netscand.protocol import Device, Event, encode
from tests.ctl.conftest import ROOT
from tests.ctl.messages import LATER, came, device
from tests.ctl.test_people import person
from tests.engines.hub_process import Follower, Hub, until
from tests.engines.nats_server import AILING, SMALL, NatsServer, publish_ailing
from tests.engines.simulated_site import SimulatedSite

NAMES = ("barn", "cabin", "home")
PHONE = "a4:83:e7:00:00:01"
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def server(folder: Path) -> Iterator[NatsServer]:
    made = NatsServer(folder, *NAMES)
    yield made
    made.kill()


class Scene:
    """A server, sites that publish to it, hubs, and their clients."""

    def __init__(self, folder: Path, server: NatsServer, group: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
        self.folder, self.server = folder, server
        self.sites: dict[str, SimulatedSite] = {}
        self.publishing: dict[str, asyncio.Task[None]] = {}
        """Site → its service."""
        self._group, self.stack = group, stack
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, work: Awaitable[None]) -> "asyncio.Task[None]":
        """Do something until the test ends."""
        task: asyncio.Task[None] = self._group.create_task(work)  # type: ignore[arg-type]
        self.tasks.append(task)
        return task

    def site(self, name: str, **keys: Any) -> SimulatedSite:  # noqa: ANN401
        """A site that publishes."""
        made = self.sites[name] = SimulatedSite(self.server.url, name, self.server.keys[name], self.folder, **keys)
        self.publishing[name] = self.start(made.run(None))  # type: ignore[arg-type]
        return made

    async def hub(self, name: str = "hub", **more: str) -> Hub:
        """A hub that serves."""
        made = Hub(self.folder, self.server, name, **more)
        self.stack.callback(made.close)
        made.start()
        await made.ready()
        return made

    async def shown(self, hub: Hub) -> bool:
        """Whether a hub shows exactly the devices of all sites."""
        found = {key: one["status"] for key, one in (await hub.devices()).items()}
        return found == {
            (name, mac): one.status for name, site in self.sites.items() for mac, one in site.devices.items()
        }

    async def until_shown(self, hub: Hub) -> None:
        """Wait until it does."""
        await until(lambda: self.shown(hub), f"all devices: {hub.log.read_text()[-2000:]}")

    async def restore(self, store: Path) -> None:
        """Kill the server, and give it an older disk."""
        self.server.kill()
        shutil.rmtree(self.server.store)
        shutil.copytree(store, self.server.store)
        await asyncio.to_thread(self.server.start)


@asynccontextmanager
async def scene(folder: Path, server: NatsServer, *names: str) -> AsyncIterator[Scene]:
    """A scene with these sites; everything ends with the block."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        made = Scene(folder, server, group, stack)
        for name in names:
            made.site(name)
        try:
            yield made
        finally:
            for task in made.tasks:
                task.cancel()


def happened(site: SimulatedSite) -> list[str]:
    """The events of a site, as `Follower.history` has them."""
    return [f"{each.device.mac[-2:]} {each.kind}" for each in site.events if each.device]


async def test_lists_have_the_site_and_are_limited_by_it(folder: Path, server: NatsServer) -> None:
    async with scene(folder, server, *NAMES) as here:
        hub = await here.hub()
        await here.until_shown(hub)
        assert len(await hub.devices("?site=barn")) == 3
        assert {each["site"] for each in (await hub.get("/api/networks"))["networks"]} == set(NAMES)
        assert (await hub.get("/api/status"))["devices"]["online"] == 9
        assert (await hub.get("/api/status?site=barn"))["devices"]["online"] == 3
        refused = await hub.get(f"/api/devices/{PHONE}", status=409)
        assert refused["error"]["code"] == "ambiguous"
        assert "barn, cabin, home" in refused["error"]["message"]
        assert (await hub.get(f"/api/devices/{PHONE}?site=cabin"))["site"] == "cabin"
        first = await hub.get("/api/devices?limit=4")
        last = first["devices"][-1]
        assert first["more"]
        rest = await hub.get(f"/api/devices?after={last['site']}/{last['mac']}")
        assert len(rest["devices"]) == 5
        assert [each["site"] for each in (await hub.get("/api/sites"))["sites"]] == sorted(NAMES)
        metrics = await hub.get("/metrics")
        assert 'netscand_devices{site="home",status="online"} 3.0' in metrics
        page = (ROOT / "docs/hub.md").read_text() + (ROOT / "docs/metrics.md").read_text()
        for name in re.findall(r"# TYPE (\w+)", metrics):
            assert f"`{name}" in page, name


async def test_a_client_gets_every_event_and_resumes_at_another_hub(folder: Path, server: NatsServer) -> None:
    """Without a gap and without a duplicate, also at a hub that started meanwhile; the bytes are those of the site."""
    async with scene(folder, server, *NAMES) as here:
        one, barn = await here.hub("one"), here.sites["barn"]
        await here.until_shown(one)
        client = Follower()
        following = here.start(client.follow(one))
        await until(lambda: client.devices)
        await barn.happen(7)
        await until(lambda: len(client.history("barn")) == 7)
        following.cancel()
        await barn.happen(5)
        await here.sites["home"].happen(2)
        other = await here.hub("other")
        await here.until_shown(other)
        following = here.start(client.follow(other))
        await until(lambda: len(client.history("barn")) == 12)
        await until(lambda: len(client.history("home")) == 2)
        await barn.happen(3)
        await until(lambda: len(client.history("barn")) == 15)
        assert client.history("barn") == happened(barn)
        assert client.snapshots == 1
        found = (await one.get("/api/events?site=barn&limit=5000"))["events"]
        shown = [
            f"{each['device']['mac'][-2:]} {each['kind']}" for each in found if each["kind"] in ("online", "offline")
        ]
        assert shown == happened(barn)
        limited = await other.get(f"/api/events?since={client.events[3].cursor}&site=home")
        assert [each["site"] for each in limited["events"]] == ["home", "home"]
        last = await one.get("/api/events?last=4")
        of_log = [each.cursor for each in client.events if not each.state]
        assert [each["cursor"] for each in last["events"]] == of_log[-4:]


async def test_a_client_resumes_while_the_server_is_away(folder: Path, server: NatsServer) -> None:
    """Without a snapshot: at once if it missed nothing, else when the server is back."""
    async with scene(folder, server, "barn") as here:
        hub, barn = await here.hub(), here.sites["barn"]
        await here.until_shown(hub)
        newest, late = Follower(), Follower()
        following = [here.start(each.follow(hub)) for each in (newest, late)]
        await until(lambda: newest.devices and late.devices)
        following[1].cancel()
        await barn.happen(3)
        await until(partial(newest.has, "barn", 3))
        following[0].cancel()
        server.kill()

        async def is_lost() -> bool:
            return bool((await hub.get("/api/status"))["problems"])

        await until(is_lost)
        newest.sites.clear()
        for each in (newest, late):
            here.start(each.follow(hub))
        await until(lambda: newest.sites)
        await asyncio.to_thread(server.start)
        await until(partial(late.has, "barn", 3))
        assert (newest.snapshots, late.snapshots) == (1, 1)


@pytest.mark.parametrize("kept", [0, 3], ids=["purged", "limited"])
async def test_the_log_loses_what_a_client_missed(folder: Path, server: NatsServer, kept: int) -> None:
    """While the hub runs: it remembers the message of the client's cursor, and the client must get a snapshot."""
    async with scene(folder, server, "barn") as here:
        hub, barn = await here.hub(), here.sites["barn"]
        await here.until_shown(hub)
        client = Follower()
        following = here.start(client.follow(hub))
        await until(lambda: client.devices)
        following.cancel()
        cursor = client.cursor
        await barn.happen(8)
        await until(partial(has_cursor, hub, barn))
        subject = f"$JS.API.STREAM.PURGE.{sites.LOG}"
        assert (await asyncio.to_thread(server.request, subject, {"keep": kept} if kept else None))["success"]
        await barn.happen(1)
        await here.until_shown(hub)
        await hub.get(f"/api/events?since={cursor}", status=410)
        here.start(client.follow(hub))
        await until(lambda: client.snapshots == 2 or client.history("barn"))
        assert shows(client, barn)
        assert (client.snapshots, client.history("barn")) == (2, [])


async def test_people_of_two_sites_are_apart(folder: Path, server: NatsServer) -> None:
    """Their events have the site, and the person only if the site publishes labels; a hub lists and filters none."""
    async with scene(folder, server) as here:
        barn, cabin = here.site("barn", words=True), here.site("cabin")
        hub = await here.hub()
        await here.until_shown(hub)
        client = Follower()
        here.start(client.follow(hub))
        await until(lambda: client.devices)
        for site, status in ((barn, "home"), (cabin, "away")):
            await site.add(f"person_{status}", person=person(status=status), previous={"status": "unknown"})
        await until(lambda: len([each for each in client.events if each.kind.startswith("person_")]) == 2)
        found = {each.site: each for each in client.events if each.kind.startswith("person_")}
        assert found["barn"].person == person(status="home")
        assert not found["cabin"].person
        assert b"Jane" not in encode(found["cabin"])
        listed = (await hub.get("/api/events?kind=person_home,person_away"))["events"]
        assert {each["site"]: each["kind"] for each in listed} == {"barn": "person_home", "cabin": "person_away"}
        for name in ("person", "tag"):
            refused = await hub.get(f"/api/events?{name}=Jane", status=400)
            assert refused["error"]["message"].startswith(f"{name}: a hub lists the events of one device or of all")
        await hub.get("/api/people", status=404)


async def test_more_than_two_pages_of_the_log_were_missed(folder: Path, server: NatsServer) -> None:
    """A client that resumes, and one that asks for events, get all of them."""
    async with scene(folder, server, "barn") as here:
        hub, barn = await here.hub(), here.sites["barn"]
        await here.until_shown(hub)
        client = Follower()
        following = here.start(client.follow(hub))
        await until(lambda: client.devices)
        following.cancel()
        await barn.happen(2 * PAGE + 10)

        async def has_all() -> bool:
            (found,) = (await hub.get("/api/sites"))["sites"]
            return bool(found["cursor"] == barn.cursor)

        await until(has_all)
        here.start(client.follow(hub))
        await until(partial(client.has, "barn", 2 * PAGE + 10))
        assert client.history("barn") == happened(barn)
        assert client.snapshots == 1
        found = (await hub.get("/api/events?limit=5000"))["events"]
        assert [each["kind"] for each in found if each["device"]][-2 * PAGE - 10 :] == [one.kind for one in barn.events]


async def test_a_reading_that_the_server_ends_is_not_complete(folder: Path, server: NatsServer) -> None:
    """As when the one of a cluster that has the consumer is killed: a client would miss events."""
    table = hub_settings.Hub(server=server.url)
    async with scene(folder, server, "barn") as here, hub_connection.connect(table, server.hub_key) as opened:

        async def has(number: int) -> bool:
            return (await opened.stream_state(sites.LOG)).last > number

        await until(partial(has, 0))
        await here.sites["barn"].happen(PAGE + 10)
        await until(partial(has, PAGE))
        pages = opened.read(sites.LOG, {"deliver_policy": "all"})
        assert len(await anext(pages)) == PAGE
        found = await asyncio.to_thread(server.request, f"$JS.API.CONSUMER.NAMES.{sites.LOG}")
        for name in found["consumers"]:
            await asyncio.to_thread(server.request, f"$JS.API.CONSUMER.DELETE.{sites.LOG}.{name}")
        with pytest.raises(ServerError, match="cannot read NETSCAN: status 503"):
            await anext(pages)


@pytest.mark.parametrize("stored", [2, 3], ids=["a hole", "no hole"])
async def test_what_a_site_repeats_before_the_start_of_a_hub(folder: Path, server: NatsServer, stored: int) -> None:
    """The site does not know what JetStream stored of its last events; a client gets each once, and in order."""
    async with scene(folder, server, "barn") as here:
        one, barn = await here.hub("one"), here.sites["barn"]
        await here.until_shown(one)
        client = Follower()
        following = here.start(client.follow(one))
        await until(lambda: client.devices)
        await barn.happen(2)
        await until(partial(client.has, "barn", 2))
        following.cancel()
        here.publishing["barn"].cancel()
        before = (await asyncio.to_thread(server.entries))[-1].headers
        await barn.happen(3)
        for late in barn.events[-stored:]:
            await publish_as(before[sites.RUN], server, late, before, before[sites.CURSOR_HEADER])
        here.start(barn.run(None))  # type: ignore[arg-type]
        await barn.happen(1)
        await until(partial(has_cursor, one, barn))
        assert one.log.read_text().count("are missing") == 0
        other = await here.hub("other")
        await until(partial(has_cursor, other, barn))
        here.start(client.follow(other))
        await until(partial(client.has, "barn", 6))
        assert client.history("barn") == happened(barn)
        assert client.snapshots == 1


async def publish_as(run: str, server: NatsServer, event: Event, before: dict[str, str], acknowledged: str) -> None:
    """Publish an event as a connection of the site would that knows this as acknowledged."""
    subject = sites.subject("barn", event)
    headers = {
        sites.MESSAGE_ID: f"barn-{event.cursor}-{run}", sites.CURSOR_HEADER: event.cursor, sites.RUN: run,
        sites.PREVIOUS: f"k3f9-{int(event.cursor[5:]) - 1}", sites.ACKNOWLEDGED: acknowledged,
        sites.SUBJECT: subject, sites.SNAPSHOT: before[sites.SNAPSHOT], sites.INSTANCE: "of-barn",
    }  # fmt: skip
    await asyncio.to_thread(server.ask, partial(_publish, subject, encode(event), headers))


async def test_what_a_site_repeats_although_it_was_acknowledged(folder: Path, server: NatsServer) -> None:
    """The stream of cursors was behind when the site connected: what it continues after is not the end of the log."""
    async with scene(folder, server, "barn") as here:
        one, barn = await here.hub("one"), here.sites["barn"]
        await here.until_shown(one)
        client = Follower()
        following = here.start(client.follow(one))
        await until(lambda: client.devices)
        await barn.happen(3)
        await until(partial(client.has, "barn", 3))
        following.cancel()
        here.publishing["barn"].cancel()
        before = (await asyncio.to_thread(server.entries))[-1].headers
        for late in barn.events[-2:]:
            await publish_as("another", server, late, before, f"k3f9-{int(late.cursor[5:]) - 1}")
        here.start(barn.run(None))  # type: ignore[arg-type]
        await barn.happen(1)
        await until(partial(has_cursor, one, barn))
        other = await here.hub("other")
        await until(partial(has_cursor, other, barn))
        here.start(client.follow(other))
        await until(partial(client.has, "barn", 4))
        assert client.history("barn") == happened(barn)
        assert client.snapshots == 1
        for each in sorted(barn.devices):
            own = [event.reason for event in barn.events if event.device and event.device.mac == each]
            for path in (f"/api/devices/{each}/events?limit=500", f"/api/events?mac={each}&last=500"):
                listed = (await other.get(path))["events"]
                assert [one["device"]["reason"] for one in listed if one["kind"] != "snapshot"] == own


async def test_kills_of_the_server_lose_and_repeat_nothing(folder: Path, server: NatsServer) -> None:
    async with scene(folder, server, *NAMES) as here:
        hub = await here.hub()
        await here.until_shown(hub)
        client = Follower()
        here.start(client.follow(hub))
        await until(lambda: client.devices)
        for count in (3, 9, 5):
            for site in here.sites.values():
                await site.happen(count)
            server.kill()
            await here.sites["barn"].happen(2)
            await asyncio.to_thread(server.start)
        await here.until_shown(hub)
        for name, site in here.sites.items():
            await until(partial(client.has, name, len(happened(site))))
            assert client.history(name) == happened(site)


async def test_after_a_restore_of_the_disk_clients_get_a_snapshot(folder: Path, server: NatsServer) -> None:
    """Also if the log has grown beyond the cursor again; and at a hub that started later."""
    async with scene(folder, server, *NAMES) as here:
        hub = await here.hub()
        await here.until_shown(hub)
        server.kill()
        shutil.copytree(server.store, old := folder / "old")
        await asyncio.to_thread(server.start)
        client = Follower()
        following = here.start(client.follow(hub))
        await until(lambda: client.devices)
        for site in here.sites.values():
            await site.happen(4)
        await here.until_shown(hub)
        await until(lambda: len(client.history("home")) == 4)
        await here.restore(old)
        for site in here.sites.values():
            await site.happen(3)
        await here.until_shown(hub)
        await until(following.done)
        await until(lambda: here.shown(hub))
        other = await here.hub("other")
        here.start(client.follow(other))
        await until(lambda: client.snapshots == 2)
        assert await here.shown(other)
        statuses = {key: one.status for key, one in client.devices.items()}
        assert statuses == {key: one["status"] for key, one in (await hub.devices()).items()}


async def test_streams_that_were_restored_differently(folder: Path, server: NatsServer) -> None:
    """The stream of last values does not match the log: the hub reads the log, and says so."""
    async with scene(folder, server, *NAMES) as here:
        hub = await here.hub()
        await here.until_shown(hub)
        for task in here.publishing.values():
            task.cancel()
        server.kill()
        shutil.copytree(server.store, old := folder / "old")
        await asyncio.to_thread(server.start)
        gone = here.site("barn")
        await gone.happen(5)
        await until(lambda: here.shown(hub))

        async def derived() -> bool:
            numbers = [
                (await asyncio.to_thread(server.request, f"$JS.API.STREAM.INFO.{stream}"))["state"]["last_seq"]
                for stream in (sites.LOG, sites.STATE)
            ]
            return bool(numbers[0] == numbers[1])

        await until(derived)
        here.publishing["barn"].cancel()
        server.kill()
        (log,) = server.store.rglob(sites.LOG)
        shutil.rmtree(log)
        shutil.copytree(next(old.rglob(sites.LOG)), log)
        await asyncio.to_thread(server.start)
        other = await here.hub("other")
        assert "does not match the log" in "".join((await other.get("/api/status"))["problems"])
        assert {one["status"] for one in (await other.devices("?site=barn")).values()} == {"online"}
        here.site("barn")
        here.sites["barn"].devices, here.sites["barn"].events, here.sites["barn"].number = (
            gone.devices, gone.events, gone.number
        )  # fmt: skip
        await here.until_shown(other)


async def test_what_the_last_values_lack_is_read_from_the_log(
    folder: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restore of the log alone the server may never copy a message: the end of the log does not show that.

    The hub reports it until the stream was made again.
    """
    async with scene(folder, server, "barn", "home") as here:
        hub = await here.hub()
        await here.until_shown(hub)
        token = f".barn.device.{PHONE.replace(':', '')}"
        entries = await asyncio.to_thread(server.entries, sites.STATE)
        (lost,) = (one.sequence for one in entries if one.subject.endswith(token))
        subject = f"$JS.API.STREAM.MSG.DELETE.{sites.STATE}"
        assert (await asyncio.to_thread(server.request, subject, {"seq": lost}))["success"]
        other = await here.hub("other")

        async def reported() -> bool:
            return "does not match the log" in "".join((await other.get("/api/status"))["problems"])

        await until(reported)
        await here.until_shown(other)
        monkeypatch.setattr(hub_log, "CHECK", 0.05)
        monkeypatch.setattr(hub_log, "LOOK", 0.1)
        async with reading(here) as log:
            await until(lambda: log.derived_ahead)
            await asyncio.to_thread(server.request, f"$JS.API.STREAM.DELETE.{sites.STATE}")
            await asyncio.to_thread(server.ask, partial(_make_again, sites.STATE))
            await until(lambda: not log.derived_ahead)


async def test_no_client_comes_before_the_last_values_are_those_of_the_log(folder: Path, server: NatsServer) -> None:
    """The log alone was restored, and has grown beyond the last values, before a hub reads it.

    A client that came before the hub knows that would get events again.
    """
    async with scene(folder, server, "barn") as here:
        hub, barn = await here.hub(), here.sites["barn"]
        await here.until_shown(hub)
        server.kill()
        shutil.copytree(server.store, old := folder / "old")
        await asyncio.to_thread(server.start)

        async def is_published() -> bool:
            entries = await asyncio.to_thread(server.entries, sites.LOG)
            return any(one.content.get("cursor") == barn.cursor for one in entries)

        await barn.happen(12)
        await until(is_published)
        async with hub_connection.connect(hub_settings.Hub(server=server.url), server.hub_key) as opened:
            await until(partial(_is_copied, opened, barn))
        hub.end()
        server.kill()
        (log_store,) = server.store.rglob(sites.LOG)
        shutil.rmtree(log_store)
        shutil.copytree(next(old.rglob(sites.LOG)), log_store)
        await asyncio.to_thread(server.start)
        await barn.happen()
        await until(is_published)
        again: list[str] = []
        async with reading(here) as log:
            log.on_new_log = again.append
            assert log.derived_ahead
            await barn.happen()
            await until(lambda: log.view.sites["barn"].cursor == barn.cursor.encode())
            shown = {key[-6:].hex(): device.status for key, device in log.view.devices.items()}
            assert shown == {mac.replace(":", ""): one.status for mac, one in barn.devices.items()}
        assert again == []


async def test_a_list_by_time_reads_only_that_part_of_the_log(
    folder: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of 90 days may have millions of messages. Times are those of the log."""
    monkeypatch.setattr(hub_connection, "PAGE", 20)
    pages: list[int] = []
    read = Connection.read

    async def counted(*given: Any) -> AsyncIterator[list[Message]]:  # noqa: ANN401
        async with aclosing(read(*given)) as found:
            async for page in found:
                pages.append(len(page))
                yield page

    async with scene(folder, server, "barn") as here:
        barn = here.sites["barn"]
        async with reading(here) as log:
            await until(lambda: log.view.devices)
            await barn.happen(70)
            await until(lambda: log.view.sites["barn"].cursor == barn.cursor.encode())
            times, past = [time.time()], Past(log)
            await asyncio.sleep(0.02)
            for count in (3, 70):
                await barn.happen(count)
                await until(lambda: log.view.sites["barn"].cursor == barn.cursor.encode())
                await asyncio.sleep(0.02)
                times.append(time.time())
            monkeypatch.setattr(Connection, "read", counted)
            through = log.sequence_of(log.cursor)
            question = EventQuery(through, gaps=True, limit=100, after=times[0], before=times[1])
            page = await past.events(question)
            reasons = [each.reason for each in barn.events[-73:-70]]
            assert [json.loads(body)["reason"] for _, body in page.events] == reasons
            assert (page.through, sum(pages) <= 40) == (through, True), pages
            begin = await past.begin_of_last(replace(question, after=None, limit=2))
            found = await past.events(replace(question, since=begin, after=None, limit=2))
            assert [number for number, _ in found.events] == [number for number, _ in page.events[-2:]]
            for far in (-1e11, 1e11, 253_402_300_799.9):
                await past.events(replace(question, after=far, before=None))
                await past.begin_of_last(replace(question, after=None, before=far))
            assert (await past.events(replace(question, after=times[2], before=None))).events == []


async def test_a_list_of_another_log_does_not_go_on(folder: Path, server: NatsServer) -> None:
    """A client that got some of the missed events before a restore would lack those of the restored log."""
    async with scene(folder, server, "barn") as here:
        barn = here.sites["barn"]
        async with reading(here) as log:
            await until(lambda: log.view.devices)
            server.kill()
            shutil.copytree(server.store, old := folder / "old")
            await asyncio.to_thread(server.start)
            before = log.sequence
            await barn.happen(5)
            await until(lambda: log.view.sites["barn"].cursor == barn.cursor.encode())
            past = Past(log)
            question = EventQuery(log.sequence_of(log.cursor), since=log.sequence_of(log.cursor_of(before)), limit=2)
            page = await past.events(question, whole=True)
            assert len(page.events) == 2
            of = log.readings
            await here.restore(old)
            await barn.happen(5)
            await until(lambda: log.readings > of and log.view.sites["barn"].cursor == barn.cursor.encode())
            with pytest.raises((CursorGone, Unreadable)):
                await past.events(replace(question, since=page.through), whole=True)


async def _make_again(name: str, client: Client) -> None:
    (stream,) = (each for each in sites.streams(size=SMALL) if each["name"] == name)
    await client.request(f"$JS.API.STREAM.CREATE.{name}", json.dumps(stream).encode())


async def test_a_client_of_an_unchecked_start_gets_a_snapshot(
    folder: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that were copied before the log had what it has at their numbers are those of another log."""
    async with scene(folder, server, "barn") as here:
        hub = await here.hub()
        await here.until_shown(hub)
        async with hub_connection.connect(hub_settings.Hub(server=server.url), server.hub_key) as opened:
            await until(partial(_is_copied, opened, here.sites["barn"]))
            copies = await copies_of_log(opened)
            last = max(copy.number for copy in copies.values())
            early = {subject: copy._replace(stamp=0) for subject, copy in copies.items()}
            for through in (last, 0):  # also if each subject has a later message by now
                assert not await is_other_log(opened, copies, through)
                assert await is_other_log(opened, early, through)
        monkeypatch.setattr(hub_log, "FEW", -1)
        monkeypatch.setattr(hub_log, "CHECK", 60.0)
        client = Follower()
        async with reading(here) as log:
            client.cursor = log.cursor
        here.start(client.follow(hub))
        await until(lambda: client.snapshots == 1)


async def _is_copied(opened: Connection, site: SimulatedSite) -> bool:
    numbers = [copy.number for copy in (await copies_of_log(opened)).values()]
    return len(numbers) == len(site.devices) + 1 and max(numbers) == (await opened.stream_state(sites.LOG)).last


async def test_a_new_history_of_a_site_removes_what_it_no_longer_has(folder: Path, server: NatsServer) -> None:
    """For clients at once, for those that resume, and for a hub that starts later."""
    async with scene(folder, server, "barn", "home") as here:
        hub = await here.hub()
        await here.until_shown(hub)
        client, later = Follower(), Follower()
        here.start(client.follow(hub))
        following = here.start(later.follow(hub))
        await until(lambda: client.devices and later.devices)
        following.cancel()
        here.publishing["barn"].cancel()
        fresh = here.site("barn")
        fresh.devices.pop(PHONE)
        fresh.lose_history("zzzz")
        await here.until_shown(hub)
        await until(lambda: ("barn", PHONE) not in client.devices)
        assert [each.kind for each in client.events if each.site == "barn" and each.device] == ["forgotten"]
        await fresh.happen(3)
        here.start(later.follow(hub))
        await until(lambda: ("barn", PHONE) not in later.devices)
        await until(lambda: len(later.history("barn")) == 3)
        assert later.snapshots == 1
        other = await here.hub("other")
        assert await here.shown(other)


async def test_lists_with_a_limit_have_each_event_once(folder: Path, server: NatsServer) -> None:
    """Also where one message of the log is several events: the end of a snapshot, and the devices that it removed."""
    async with scene(folder, server) as here:
        barn = here.site("barn", devices=6)
        hub = await here.hub()
        await here.until_shown(hub)
        here.publishing["barn"].cancel()
        fresh = here.site("barn", devices=6)
        for mac in sorted(fresh.devices)[2:]:
            fresh.devices.pop(mac)
        fresh.lose_history("zzzz")
        await here.until_shown(hub)
        await fresh.happen(2)
        await until(partial(has_cursor, hub, fresh))
        for one in (hub, await here.hub("other")):
            whole = (await one.get("/api/events?limit=500"))["events"]
            assert [each["kind"] for each in whole].count("forgotten") == len(barn.devices) - 2
            shown = [_without_cursor(each) for each in whole]
            for limit in (1, 2, 3, 7):
                found: list[dict[str, Any]] = []
                page = await one.get(f"/api/events?limit={limit}")
                while page["more"] and len(found) < 100:
                    found += page["events"]
                    page = await one.get(f"/api/events?limit={limit}&since={page['cursor']}")
                found += page["events"]
                assert [_without_cursor(each) for each in found] == shown, limit
            for count in range(1, len(whole) + 1):
                last = (await one.get(f"/api/events?last={count}"))["events"]
                assert [_without_cursor(each) for each in last] == shown[-len(last) :], count
                assert len(last) == count or (len(last) > count and last[0]["kind"] == "forgotten")


def _without_cursor(event: dict[str, Any]) -> tuple[str, str]:
    return event["kind"], (event["device"] or {}).get("mac", "")


def snapshot_of(server: NatsServer) -> str:
    """The last snapshot of the site at home."""
    entries = reversed(server.entries(sites.STATE))
    found: str = next(one.headers[sites.SNAPSHOT] for one in entries if ".home." in one.subject)
    return found


async def _publish(subject: str, payload: bytes, headers: dict[str, str], client: Client) -> None:
    await client.request(subject, payload, headers=headers)


async def test_a_message_that_cannot_be_read_stops_nothing(folder: Path, server: NatsServer) -> None:
    async with scene(folder, server, "home") as here:
        hub, home = await here.hub(), here.sites["home"]
        await here.until_shown(hub)
        snapshot = await asyncio.to_thread(snapshot_of, server)
        subject = f"{sites.PREFIX}.barn.device.a483e7000001"
        for at, payload in enumerate((b"\xff", b"{}", b'{"type":"event"}', b"[" * 5_000)):
            headers = {sites.CURSOR_HEADER: f"k3f9-{at + 2}", sites.PREVIOUS: f"k3f9-{at + 1}"}
            await asyncio.to_thread(server.ask, partial(_publish, subject, payload, headers))
        await home.happen(2)
        await here.until_shown(hub)
        barn = (await hub.get("/api/sites?site=barn"))["sites"][0]
        assert barn["unreadable"] == 4
        assert "unreadable" in barn["problems"]
        assert 'netscand_log_messages_total{result="unreadable"} 4.0' in await hub.get("/metrics")
        here.publishing["home"].cancel()
        broken = {
            sites.CURSOR_HEADER: f"k3f9-{home.number + 1}", sites.PREVIOUS: home.cursor,
            sites.SNAPSHOT: snapshot,
        }  # fmt: skip
        last = f"{sites.PREFIX}.home.device.a483e7000001"
        await asyncio.to_thread(server.ask, partial(_publish, last, b"{", broken))
        other = await here.hub("other")
        await until(lambda: here.shown(other))


async def test_a_token_shows_only_its_sites(folder: Path, server: NatsServer) -> None:
    """Lists, counts, events, pushes and sites; what is of all sites is refused."""
    async with scene(folder, server, *NAMES) as here:
        hub = await here.hub(tokens=f"read {TOKEN} sites=barn\n")
        await here.until_shown(hub)
        async with hub.client(TOKEN) as client:
            assert (await client.get("/api/devices")).status == 200
        assert {each["site"] for each in (await hub.get("/api/devices", TOKEN))["devices"]} == {"barn"}
        assert {each["site"] for each in (await hub.get("/api/networks", TOKEN))["networks"]} == {"barn"}
        assert [each["site"] for each in (await hub.get("/api/sites", TOKEN))["sites"]] == ["barn"]
        assert (await hub.get("/api/status", TOKEN))["devices"]["online"] == 3
        assert (await hub.get(f"/api/devices/{PHONE}", TOKEN))["site"] == "barn"
        await hub.get(f"/api/devices/{PHONE}?site=home", TOKEN, status=404)
        await hub.get("/api/devices?site=home", TOKEN, status=404)
        await hub.get("/metrics", TOKEN, status=403)
        limited, everything, full = Follower(), Follower(), []

        async def whole_lists() -> None:
            async with hub.client(TOKEN) as session, session.ws_connect("/ws") as socket:
                async for message in socket:
                    full.append(json.loads(message.data))  # noqa: PERF401 - it is read meanwhile

        here.start(limited.follow(hub, token=TOKEN))
        here.start(everything.follow(hub))
        here.start(whole_lists())
        await until(lambda: limited.devices and everything.devices and full)
        for site in here.sites.values():
            await site.happen(2)
        await until(lambda: len(everything.history("home")) == 2 and len(everything.history("cabin")) == 2)
        await until(lambda: len(limited.history("barn")) == 2)
        await until(lambda: full[-1]["type"] == "scan_update" and full[-1]["online"] == 1)
        assert {each.site for each in limited.events} == {"barn"}
        assert set(limited.sites) == {"barn"}
        assert {each["site"] for part in full for each in part["devices"]} == {"barn"}
        found = await hub.get("/api/events", TOKEN)
        assert {each["site"] for each in found["events"]} == {"barn"}


async def test_commands_go_to_the_site_where_it_takes_them(
    folder: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the error says so, and where to do it instead."""
    monkeypatch.setattr(sites, "ALIVE_INTERVAL", 0.1)
    async with scene(folder, server) as here:
        obeying, deaf = here.site("barn", commands=True), here.site("cabin")
        hub = await here.hub()
        await here.until_shown(hub)

        async def connected() -> bool:
            return {each["state"] for each in (await hub.get("/api/sites"))["sites"]} == {"connected"}

        await until(connected)
        requests: list[bytes] = []

        async def obey(daemon: object, path: str, body: bytes) -> bytes:
            requests.append(body)
            return b"{}"

        monkeypatch.setattr("netscanctl.services.uplink.service.post", obey)
        async with hub.client() as client:
            for body, status, words in (
                ({"site": "barn", "targets": ["192.168.1.7"]}, 202, "scan_id"),
                ({"site": "cabin"}, 503, "cabin accepts no commands"),
                ({"site": "nowhere"}, 400, "no site nowhere"),
                ({}, 400, "name the site"),
            ):
                answer = await client.post("/api/scan", json=body)
                assert (answer.status, words in await answer.text()) == (status, True), await answer.text()
            path = f"/api/devices/{PHONE}"
            answer = await client.patch(f"{path}?site=cabin", json={"label": "x"})
            assert (answer.status, "set it at site cabin" in await answer.text()) == (403, True)
            answer = await client.patch(f"{path}?site=barn", json={"label": "x"})
            assert (answer.status, "publishes no labels" in await answer.text()) == (503, True)
            assert (await client.delete(f"{path}?site=barn")).status == 403
        await until(lambda: requests)
        assert json.loads(requests[0])["targets"] == ["192.168.1.7"]
        assert obeying.name != deaf.name


def _longer(found: list[str], than: int) -> bool:
    return len(found) > than


async def test_the_key_of_a_hub_reads_and_publishes_only_commands(folder: Path, server: NatsServer) -> None:
    """It publishes into no site's subjects, and removes nothing."""
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        server.url, nkeys_seed_str=server.hub_key, allow_reconnect=False, error_cb=note, inbox_prefix="_HUB.x"
    )
    for subject in (
        f"{sites.PREFIX}.home.device.a483e7000001", f"{sites.PREFIX}.home.site", f"$JS.API.STREAM.PURGE.{sites.LOG}",
        f"$JS.API.STREAM.DELETE.{sites.LOG}", f"$JS.API.STREAM.UPDATE.{sites.LOG}", sites.owner_subject("home"),
    ):  # fmt: skip
        before = len(refused)
        await client.publish(subject, b"{}")
        await client.flush()
        await until(partial(_longer, refused, before), subject)
    await client.close()
    assert await asyncio.to_thread(server.entries) == []


async def found_site(hub: Hub, name: str) -> dict[str, Any]:
    """A site as the hub lists it."""
    (found,) = (await hub.get(f"/api/sites?site={name}"))["sites"]
    assert isinstance(found, dict)
    return found


async def test_two_machines_with_one_site_name(folder: Path, server: NatsServer) -> None:
    """The second one publishes nothing; if the owner entry is lost, and both publish, the hub reports a conflict."""
    async with scene(folder, server, "home") as here:
        hub, home = await here.hub(), here.sites["home"]
        await here.until_shown(hub)
        twin = SimulatedSite(server.url, "home", server.keys["home"], folder, instance="another")
        here.start(twin.run(None))  # type: ignore[arg-type]
        await until(lambda: "site home belongs to" in "".join(twin._report.status.problems))
        await home.happen(3)
        await until(partial(has_cursor, hub, home))
        assert "conflicting" not in (await found_site(hub, "home"))["problems"]
        log = await asyncio.to_thread(server.entries)
        assert {one.headers[sites.INSTANCE] for one in log} == {"of-home"}
        lost = {"filter": sites.owner_subject("home")}
        await asyncio.to_thread(server.request, f"$JS.API.STREAM.PURGE.KV_{sites.OWNER}", lost)
        await until(lambda: not twin._report.status.problems)

        async def conflicts() -> bool:
            await home.happen(1)
            found = await found_site(hub, "home")
            return "two machines publish as site home" in "".join(found["why"]) and "conflicting" in found["problems"]

        await until(conflicts)


async def has_cursor(hub: Hub, site: SimulatedSite) -> bool:
    """Whether a hub has every event of a site."""
    return bool((await found_site(hub, site.name))["cursor"] == site.cursor)


async def test_a_site_falls_silent_and_comes_back(
    folder: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its devices are unknown and never offline, for clients and for lists; afterwards they are what they were."""
    monkeypatch.setattr(sites, "ALIVE_INTERVAL", 0.3)
    monkeypatch.setattr(Hub, "program", ("tests.engines.hasty", "0.3", "netscand.hub"))
    async with scene(folder, server, "barn", "home") as here:
        hub, home, client = await here.hub(), here.sites["home"], Follower()
        await home.happen(1)
        await here.until_shown(hub)
        here.start(client.follow(hub))
        await until(lambda: len(client.devices) == 6)
        here.publishing["home"].cancel()
        await until(lambda: client.sites["home"].state == "silent")
        found = (await hub.devices("?site=home")).values()
        assert {one["status"] for one in found} == {"unknown"}
        assert sorted(one["status_at_site"] for one in found) == ["offline", "online", "online"]
        assert {one.status for (site, _), one in client.devices.items() if site == "home"} == {"unknown"}
        await until(lambda: client.sites["barn"].state == "connected")
        assert {one.status for (site, _), one in client.devices.items() if site == "barn"} == {"online"}
        here.start(home.run(None))  # type: ignore[arg-type]
        await until(lambda: client.sites["home"].state == "connected")
        await here.until_shown(hub)
        assert {mac: one.status for (site, mac), one in client.devices.items() if site == "home"} == {
            mac: one.status for mac, one in home.devices.items()
        }
        assert not [one for one in client.events if one.kind == "offline"]


async def test_the_clock_of_a_site_is_wrong(folder: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub reports by how much, and its end; the order of events is that of the log."""
    monkeypatch.setattr(sites, "ALIVE_INTERVAL", 0.1)
    ahead = [3600.0]
    monkeypatch.setattr(
        uplink_service, "timestamp", lambda: (datetime.now(UTC) + timedelta(seconds=ahead[0])).isoformat()
    )
    async with scene(folder, server, "home") as here:
        hub, home, client = await here.hub(), here.sites["home"], Follower()
        await here.until_shown(hub)
        here.start(client.follow(hub))
        await until(lambda: client.devices)
        await until(partial(has_problem, hub, "the site's clock is 3600 s ahead"))
        assert round((await found_site(hub, "home"))["clock_offset"]) == 3600
        await home.happen(5)
        ahead[0] = 0.0
        await home.happen(5)
        await until(partial(client.has, "home", 10))
        assert client.history("home") == happened(home)
        await until(partial(has_problem, hub, ""))
        await until(lambda: client.sites["home"].problems == [])


async def test_what_is_wrong_with_a_site_is_listed(folder: Path, server: NatsServer) -> None:
    """By the API, netscanctl and the metrics: also of a site of which nothing came since the hub started."""
    what = came(device(1), cursor="k3f9-2")
    headers = {sites.CURSOR_HEADER: "k3f9-2", sites.PREVIOUS: "k3f9-1"}
    publish = partial(_publish, sites.subject("cabin", what), encode(what), headers)
    await asyncio.to_thread(server.ask, publish)
    async with scene(folder, server, "barn") as here:
        hub = await here.hub()
        await asyncio.to_thread(server.ask, partial(publish_ailing, site="home"))

        async def is_listed() -> bool:
            found = {each["site"]: each for each in (await hub.get("/api/sites"))["sites"]}
            await here.sites["barn"].happen(1)
            states = [each["state"] for each in found.values()]
            return states == ["connected", "unknown", "connected"] and set(found["home"]["problems"]) == set(AILING)

        await until(is_listed)
        argv = [sys.executable, "-m", "netscanctl", "--socket", str(hub.socket), "sites"]
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=True, cwd=ROOT)
        lines = {line.split()[1]: line for line in done.stdout.splitlines()}
        assert {name: line.split()[0] for name, line in lines.items() if name in NAMES} == {
            "barn": "connected", "cabin": "unknown", "home": "connected",
        }  # fmt: skip
        assert [words for words in AILING.values() if words not in lines["home"]] == []
        metrics = await hub.get("/metrics")
        for problem in AILING:
            assert f'netscand_sites_with_problem{{problem="{problem}"}} 1.0' in metrics


async def has_problem(hub: Hub, sentence: str) -> bool:
    """Whether this is what the hub reports of the site at home; empty: nothing."""
    return "; ".join((await found_site(hub, "home"))["why"]) == sentence


@asynccontextmanager
async def reading(here: Scene) -> AsyncIterator[Log]:
    """The log, read in this process."""
    view = View(lambda at: LATER, lambda site, message, why: None)
    log = Log(hub_settings.Hub(server=here.server.url), here.server.hub_key, view, lambda cursor, change: None)
    task = here.start(log.run())
    await log.ready.wait()
    yield log
    task.cancel()


async def test_the_mark_of_the_last_message_is_kept(
    folder: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a client lists many older events: else each cursor has expired, and a reconnect reads everything."""
    monkeypatch.setattr(hub_log, "MARKS", 5)
    async with scene(folder, server, "barn") as here:
        barn = here.sites["barn"]
        async with reading(here) as log:
            await until(lambda: log.view.devices)
            await barn.happen(12)
            await until(lambda: log.view.sites["barn"].cursor == barn.cursor.encode())
            before = log.cursor
            await Past(log).events(EventQuery(log.sequence_of(before), gaps=True, limit=10))
            assert log.cursor == before
            for number in range(1, 13):
                with suppress(CursorGone):
                    await log.verify(log._with_mark(number, "000000"))
            assert log.cursor == before
            assert len(log._marks) <= 5
            of, lost = log.readings, log.reconnects
            server.kill()
            await asyncio.to_thread(server.start)
            await until(lambda: log.reconnects > lost and log.problem is None)
            assert log.readings == of


@pytest.mark.parametrize("commands", [True, False])
async def test_missing_events_are_requested_again_or_the_last_values_read(
    folder: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch, commands: bool
) -> None:
    """As after the stream of last values was restored differently: it is behind, and nothing shows that at a start."""
    monkeypatch.setattr(sites, "ALIVE_INTERVAL", 0.1)
    monkeypatch.setattr(hub_view, "PATIENCE", 0.3)
    monkeypatch.setattr(hub_view, "ANSWER", 5.0)
    monkeypatch.setattr(hub_log, "CHECK", 0.05)
    async with scene(folder, server) as here:
        home = here.site("home", commands=commands)
        async with reading(here) as log:
            await home.happen(7)
            found = log.view.site("home", 0.0)
            await until(lambda: found.cursor == b"k3f9-8" and found.alive is not None)
            for device in found.devices.values():  # as they were before the events
                if device.key.endswith(b"\x03"):
                    log.view._set(device, encode(here_before(home)), here_before(home))
            found.cursor = b"k3f9-3"
            await home.happen(1)
            await until(lambda: found.cursor is None or found.cursor == b"k3f9-9")
            await until(lambda: {each.status for each in found.devices.values()} == {"online", "offline"})
            await home.happen(1)
            await until(lambda: found.cursor == b"k3f9-10")
            statuses = {device_of(each.text).mac: each.status for each in found.devices.values()}
            assert statuses == {mac: each.status for mac, each in home.devices.items()}
            assert ("gap" in found.problems(0.0)) is not commands


async def test_a_client_resumes_over_events_that_are_missing(
    folder: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has what the hub shows afterwards; and a hub that starts later lists what the site published since."""
    monkeypatch.setattr(sites, "ALIVE_INTERVAL", 0.1)
    monkeypatch.setattr(Hub, "program", ("tests.engines.hasty", "1", "netscand.hub"))
    async with scene(folder, server) as here:
        barn = here.site("barn")
        hub = await here.hub()
        await here.until_shown(hub)
        clients = [Follower() for _ in range(3)]
        following = [here.start(client.follow(hub)) for client in clients]
        await until(lambda: all(client.devices for client in clients))
        for task in following[1:]:
            task.cancel()
        here.publishing["barn"].cancel()
        before = (await asyncio.to_thread(server.entries))[-1].headers
        await barn.happen(4)
        for late in barn.events[2:]:  # the log has lost two of them, although it acknowledged them
            await publish_as("another", server, late, before, f"k3f9-{int(late.cursor[5:]) - 1}")
        await until(lambda: "gap" in clients[0].sites["barn"].problems)
        here.start(barn.run(None))  # type: ignore[arg-type]
        for _ in range(2):
            await barn.change(sorted(barn.devices)[2])
        await here.until_shown(hub)
        other = await here.hub("other")
        await here.until_shown(other)
        for client, resumed_at in zip(clients[1:], (hub, other), strict=True):
            here.start(client.follow(resumed_at))
            await until(partial(shows, client, barn))
        listed = (await other.get("/api/events?limit=500"))["events"]
        assert [each["device"]["reason"] for each in listed if each["kind"] in ("online", "offline")][-2:] == [
            each.reason for each in barn.events[-2:]
        ]


def shows(client: Follower, site: SimulatedSite) -> bool:
    """Whether a client has exactly the devices of a site."""
    found = {mac: one.status for (name, mac), one in client.devices.items() if name == site.name}
    return found == {mac: one.status for mac, one in site.devices.items()}


def here_before(site: SimulatedSite) -> Device:
    """A device as it was never published."""
    return structs.replace(site.devices["a4:83:e7:00:00:03"], status="unknown")
