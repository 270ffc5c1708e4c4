"""The service: keeps the broker's retained messages as the daemon's state, and passes every event on."""

import asyncio
import logging
import os
import random
import re
import ssl
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec

from netscanctl.atomic_file import write_atomically
from netscanctl.client import Client, Failure, device_path
from netscanctl.services.backoff import Backoff
from netscanctl.services.following import StateFollower
from netscanctl.services.mqtt.connection import LOST, BrokerError, Connection, Credentials, connect
from netscanctl.services.mqtt.documents import Documents
from netscanctl.services.mqtt.outbox import Outbox, Publication
from netscanctl.services.mqtt.settings import Mqtt, faults
from netscanctl.services.mqtt.topics import Topics
from netscanctl.services.program import Context
from netscanctl.stream import Received, post
from netscand import protocol
from netscand.config import ConfigError
from netscand.protocol import DaemonStatus, Device, Event, Person, ScanProgress, ScanStarted, ServerMessage
from netscand.service import cancellable

LIST_TIMEOUT = 10.0
"""Seconds for the broker to send our retained messages; a broker whose rules forbid it never does."""
BIRTH_DELAY = 10.0
"""Seconds until the state is published again after Home Assistant started, at most: not all do so at once."""
GRACE = 60.0
"""Seconds without the daemon until the devices are unavailable; an upgrade takes less."""
STATUS_DELAY = 0.5
"""Seconds from a change to the counts of the site."""
STATUS_EVERY = 60.0
"""Seconds between two requests for the daemon's problems."""
LEASE_DELAY = 1.0
"""Seconds from a change of a device to the request for its lease: the server answers after the first frame."""
LEASES_AT_ONCE = 20
"""Maximum requests for leases in a second."""
LEASES_EVERY = 3600.0
"""Seconds after which leases are requested again: a renewal causes no event."""
SETTLE = 1.0
"""Seconds that Home Assistant has for each step of a migration."""
STEADY = 5.0
"""Seconds of a connection after which the next one is made soon."""
IDS = re.compile(r"[0-9a-f]{12,16}")
GOODBYE = 2.0
"""Seconds to report `offline` at the end."""
MIGRATE = b'{"migrate_discovery":true}'
NOT_NAMED = {"network_up", "network_down", "network_silent", "network_recovered"}
"""Events that change more devices than they name."""
PROBLEMS = {"dhcp_server_seen", "gateway_changed"}
"""Events of devices that may be a problem of the daemon, too."""

log = logging.getLogger(__name__)


class MqttService:
    """The service, for the base (`program.Service`)."""

    wants_events = True
    wants_state = True

    def __init__(
        self, table: Mqtt, context: Context, own: Credentials, settle: float = SETTLE, memory: Path | None = None
    ) -> None:
        self._table = table
        self._context = context
        self._own = own
        self._settle_time = settle
        self._documents = Documents(table)
        self._topics = self._documents.topics
        self._memory = memory
        """File with the topics of the last run."""
        self._former = self._read_former()
        """Topics of the last run, if others: what is retained there is removed."""
        self._outbox = Outbox(self._topics.event, last=self._topics.bridge)
        self._follower: StateFollower | None = None
        self._connection: Connection | None = None
        self._flight: dict[asyncio.Future[str | None], Publication] = {}
        self._published: dict[str, tuple[object, ...]] = {}
        """MAC → what is published of the device: most changes, such as `last_seen`, are not."""
        self._people: dict[str, Person] = {}
        """Name, in lower case → person as published."""
        self._complete = asyncio.Event()
        self._drained = asyncio.Event()
        self._scan_wanted = asyncio.Event()
        self._problems_wanted = asyncio.Event()
        self._leases_wanted: dict[str, float] = {}
        """MAC → when to request the lease of the device: the stream does not have it."""
        self._problems: list[str] = []
        self._listed: dict[str, bytes] | None = None
        """Retained messages of the broker while they arrive."""
        self._list_ended = asyncio.Event()
        self._is_pumping = False
        self._away_since: float | None = None
        self._refused: dict[str, str] = {}
        """Topic that the broker refuses, with `*` instead of ids → its reason."""
        self._status_timer: asyncio.TimerHandle | None = None
        self._birth_timer: asyncio.TimerHandle | None = None

    # ---- from the daemon

    def submit(self, received: Received) -> "asyncio.Future[None]":
        """Take an event; it is accepted when the broker acknowledged it."""
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outbox.add_event(received.raw, accepted)
        self._pump_soon()
        return accepted

    def on_message(self, message: ServerMessage, events: Iterable[Event]) -> None:
        """Publish what a message of the stream changed."""
        assert self._follower is not None
        state = self._follower.state
        if not state.complete or isinstance(message, ScanStarted | ScanProgress):
            return
        self._publish_people()
        if isinstance(message, Event) and message.device is not None and message.kind not in NOT_NAMED:
            self._refresh(message.device.mac)
        else:
            self._refresh_all()
        if isinstance(message, Event) and (message.device is None or message.kind in PROBLEMS):
            self._problems_wanted.set()
        if not self._complete.is_set():
            for line in self._documents.unmatched(state.devices.values()):
                log.warning("%s", line)
        self._complete.set()

    def _refresh_all(self) -> None:
        assert self._follower is not None
        devices = self._follower.state.devices
        for topic, payload in self._documents.hub().items():
            self._outbox.set(topic, payload)
        for device in devices.values():
            self._publish(device)
        for mac in self._published.keys() - devices.keys():
            self._delete(mac)
        self._status_soon()
        self._pump_soon()

    def _refresh(self, mac: str) -> None:
        assert self._follower is not None
        device = self._follower.state.devices.get(mac)
        if device is not None:
            self._publish(device)
        else:
            self._delete(mac)
        self._status_soon()
        self._pump_soon()

    def _publish(self, device: Device) -> None:
        """Publish a device if anything that is shown has changed, or delete it."""
        if not self._documents.includes(device):
            self._delete(device.mac)
            return
        shown = (
            device.status, device.ip, device.hostname, device.label, device.vendor, device.reason, device.status_since,
            device.tags, device.kind,
        )  # fmt: skip
        if self._published.get(device.mac) != shown:
            self._published[device.mac] = shown
            self._leases_wanted[device.mac] = asyncio.get_running_loop().time() + LEASE_DELAY
            self._set(device)

    def _set(self, device: Device) -> None:
        for topic, payload in self._documents.device(device).items():
            self._outbox.set(topic, payload)

    def _publish_people(self) -> None:
        """Publish the people that changed, and delete those that were removed or renamed."""
        assert self._follower is not None
        people = self._follower.state.people
        for name, person in people.items():
            if self._people.get(name) != person:
                for topic, payload in self._documents.person(person).items():
                    self._outbox.set(topic, payload)
        for name in self._people.keys() - people.keys():
            if self._topics.prefix:
                self._outbox.set(self._topics.person_config(name), b"")
            self._delete_later([self._topics.person(name)])
        self._people = dict(people)

    def _delete(self, mac: str) -> None:
        if self._published.pop(mac, None) is not None:
            self._outbox.set(self._topics.config(mac), b"")
            self._delete_later([self._topics.device(mac), self._topics.location(mac)])
            self._documents.forget(mac)

    def _delete_later(self, states: list[str]) -> None:
        """Delete states once Home Assistant has removed the entity, and so does not read the empty payload."""
        asyncio.get_running_loop().call_later(self._settle_time, self._delete_states, states)

    def _delete_states(self, states: list[str]) -> None:
        for topic in states:
            mac = self._topics.mac(topic)
            gone = topic not in (self._topics.person(name) for name in self._people) if mac is None else (
                mac not in self._published
            )  # fmt: skip
            if gone or topic not in self._outbox.wanted:
                self._outbox.set(topic, b"")
        self._pump_soon()

    def _status_soon(self) -> None:
        if self._status_timer is None:
            self._status_timer = asyncio.get_running_loop().call_later(STATUS_DELAY, self._publish_status)

    def _publish_status(self) -> None:
        self._status_timer = None
        if self._follower is not None and self._follower.state.complete:
            devices = self._follower.state.devices.values()
            for topic, payload in self._documents.status(devices, self._problems).items():
                self._outbox.set(topic, payload)
            self._pump_soon()

    # ---- to the broker

    def _pump_soon(self) -> None:
        if not self._is_pumping and self._connection is not None:
            self._is_pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Publish as much as the broker takes at once."""
        self._is_pumping = False
        while self._connection is not None and self._connection.free > 0:
            one = self._outbox.next()
            if one is None:
                break
            acknowledged = self._connection.publish(one.topic, one.payload, retain=one.accepted is None)
            self._flight[acknowledged] = one
            acknowledged.add_done_callback(self._settle)
        if self._outbox.is_empty and not any(one.accepted is None for one in self._flight.values()):
            self._drained.set()

    def _settle(self, acknowledged: "asyncio.Future[str | None]") -> None:
        """Take the broker's acknowledgement of one message, or the end of the connection."""
        refusal = acknowledged.result()
        if refusal is LOST:
            return  # _stay_connected gives it back to the outbox
        one = self._flight.pop(acknowledged)
        if refusal or self._refused:
            self._note_access(IDS.sub("*", one.topic), refusal)
        if one.accepted is not None:
            if refusal:
                self._context.report.put_aside()
            one.accepted.set_result(None)
        self._pump()

    def _note_access(self, topic: str, refusal: str | None) -> None:
        """Report which topics the broker refuses, until it accepts them."""
        if refusal:
            self._refused[topic] = refusal
        else:
            self._refused.pop(topic, None)
        reasons = ", ".join(dict.fromkeys(self._refused.values()))
        sentence = f"the broker refuses {', '.join(self._refused)}: {reasons}; check its access rules"
        self._context.report.problem("access", sentence if self._refused else None)

    async def _publish_all(self) -> None:
        """Wait until the broker has everything that is retained."""
        self._drained.clear()
        self._pump_soon()
        await self._drained.wait()

    # ---- from the broker

    def _on_broker(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.end_of_list:
            self._list_ended.set()
        elif self._listed is not None and retained and self._is_listed(topic):
            self._listed[topic] = payload
        elif topic == self._topics.birth and payload == b"online" and self._birth_timer is None:
            delay = random.uniform(0, BIRTH_DELAY)  # noqa: S311 - no secret
            self._birth_timer = asyncio.get_running_loop().call_later(delay, self._republish)
        elif topic == self._topics.command and self._table.commands and not retained:
            if payload == b"scan_now":
                self._scan_wanted.set()
            else:
                log.warning("unknown command on %s; the only command is scan_now", topic)

    def _is_listed(self, topic: str) -> bool:
        """Return whether a retained message is of this site, of its former topics, or of the former recipe."""
        former = self._former is not None and (self._former.is_ours(topic) or topic == self._former.bridge)
        return former or self._topics.is_ours(topic) or self._topics.old_mac(topic) is not None

    def _republish(self) -> None:
        self._birth_timer = None
        self._outbox.republish()
        self._pump_soon()

    # ---- tasks

    async def run(self, follower: StateFollower) -> None:
        """Work until cancelled."""
        self._follower = follower
        async with asyncio.TaskGroup() as group:
            group.create_task(self._scan_on_command())
            group.create_task(self._poll_problems())
            group.create_task(self._poll_leases())
            group.create_task(self._watch_daemon())
            group.create_task(self._stay_connected())

    async def _stay_connected(self) -> None:
        backoff, now = Backoff(), asyncio.get_running_loop().time
        while True:
            began: float | None = None
            try:
                async with connect(self._table, self._own, self._topics.bridge, self._on_broker) as connection:
                    began = now()
                    await cancellable(self._use(connection))
            except BrokerError as error:
                is_short = began is not None and now() - began < STEADY
                hint = (
                    f"; if another client has the client_id {self._own.client_id}, give each its own"
                    if is_short
                    else ""
                )
                self._context.report.problem("broker", f"{error}{hint}")
            finally:
                self._connection = None
                self._outbox.give_back(list(self._flight.values()))
                self._flight.clear()
            if began is not None and now() - began >= STEADY:
                backoff.reset()
            await backoff.sleep()

    async def _use(self, connection: Connection) -> None:
        """Use a connection until it ends. Raises BrokerError."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(connection.keep())
                there = await self._list(connection)
                self._context.report.problem("broker", None)
                await self._complete.wait()
                await self._reconcile(connection, there)
                await asyncio.Event().wait()
        except ExceptionGroup as errors:
            ended, others = errors.split(BrokerError)
            if ended is None or others is not None:
                raise
            raise ended.exceptions[0] from None
        except asyncio.CancelledError:
            await self._report_offline(connection)
            raise

    async def _list(self, connection: Connection) -> dict[str, bytes]:
        """Return the retained messages of this site, and of the former recipe, that the broker has."""
        self._listed = found = dict[str, bytes]()
        self._list_ended.clear()
        filters = [*self._topics.retained_filters, self._topics.end_of_list]
        if self._former:
            filters = list(dict.fromkeys([*filters, *self._former.retained_filters, self._former.bridge]))
        connection.subscribe(filters, quality=0)
        # The broker sends what it has retained before what is published later.
        await connection.publish(self._topics.end_of_list, b"end", retain=False)
        try:
            async with asyncio.timeout(LIST_TIMEOUT):
                await self._list_ended.wait()
        except TimeoutError:
            trees = ", ".join(f"{one}/#" for one in (self._topics.base, self._topics.prefix) if one)
            self._context.report.error(
                "the broker does not send our retained messages: old ones cannot be removed; its access rules must let "
                f"the service read and write {trees}"
            )
        self._listed = None
        connection.unsubscribe(filters)
        more = [self._topics.birth] if self._topics.prefix else []
        if self._table.commands:
            more.append(self._topics.command)
        if more:
            connection.subscribe(more)
        return found

    async def _reconcile(self, connection: Connection, there: dict[str, bytes]) -> None:
        """Make the broker's retained messages those of the daemon's state, and take over the recipe's entities."""
        assert self._follower is not None
        devices = self._follower.state.devices
        for topic, payload in there.items():
            if mac := self._topics.mac(topic):
                self._documents.remember(mac, payload)
        self._outbox.drop_deletions()
        self._outbox.connect(there)
        self._published.clear()
        self._refresh_all()
        self._publish_status()
        left = [topic for topic in there if self._topics.is_ours(topic) and topic not in self._outbox.wanted]
        for topic in left:
            if self._topics.mac(topic) is None:
                self._outbox.set(topic, b"")
        self._delete_later([topic for topic in left if self._topics.mac(topic)])
        self._publish_availability()
        self._outbox.connect(there)  # availability last
        left = self._left_by_former(there)
        for topic in left:
            if topic.endswith("/config"):
                self._outbox.set(topic, b"")
        old = [topic for topic in there if (mac := self._topics.old_mac(topic)) and mac in devices]
        await self._release(connection, old)
        self._connection = connection
        if old:
            await self._publish_all()
            await asyncio.sleep(self._settle_time)
            for topic in old:
                self._outbox.set(topic, b"")
        self._pump_soon()
        if left:
            await self._publish_all()
            await asyncio.sleep(self._settle_time)
            for topic in left:
                self._outbox.set(topic, b"")
            await self._publish_all()
        self._remember_topics()

    def _left_by_former(self, there: dict[str, bytes]) -> list[str]:
        """Return what is retained under the topics of the last run, unless another netscand has them now."""
        former = self._former
        if former is None or there.get(former.bridge) == b"online":
            return []
        return [topic for topic in there if topic != self._topics.bridge and not self._topics.is_ours(topic)
                and (former.is_ours(topic) or topic == former.bridge)]  # fmt: skip

    def _read_former(self) -> Topics | None:
        try:
            found = msgspec.json.decode(self._memory.read_bytes(), type=Topics) if self._memory else None
        except (OSError, msgspec.MsgspecError):
            return None  # the first run, or nothing that can be used: then nothing is removed
        return found if found != self._topics else None

    def _remember_topics(self) -> None:
        """Keep our topics for the next run, once those of the last one are removed."""
        self._former = None
        if self._memory is None:
            return
        content = msgspec.json.encode(self._topics)
        try:
            write_atomically(self._memory, lambda out: out.write(content))
        except OSError as error:
            self._context.report.error(f"{self._memory}: cannot be written: {error.strerror}")

    async def _release(self, connection: Connection, old: list[str]) -> None:
        """Have Home Assistant release the former recipe's trackers before the new discovery, and give it time.

        It keeps those that the new discovery takes over, and removes others: a tracker cannot become a sensor.
        """
        assert self._follower is not None
        steps: dict[str, bytes] = {}
        for topic in old:
            device = self._follower.state.devices[self._topics.old_mac(topic) or ""]
            if topic == self._topics.old_config(device.mac):
                is_kept = self._documents.includes(device) and not self._documents.is_connectivity(device)
                steps[topic] = MIGRATE if is_kept else b""
        for topic, payload in steps.items():
            await connection.publish(topic, payload, retain=True)
        if steps:
            await asyncio.sleep(self._settle_time)

    async def _report_offline(self, connection: Connection) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await connection.publish(self._topics.bridge, b"offline", retain=True)

    def _publish_availability(self) -> None:
        """Publish `offline` when the daemon has not answered for GRACE seconds: nothing is certain then."""
        loop, is_away = asyncio.get_running_loop(), self._context.report.has_problem("daemon")
        self._away_since = (self._away_since or loop.time()) if is_away else None
        is_blind = self._away_since is not None and loop.time() - self._away_since >= GRACE
        if self._complete.is_set():
            self._outbox.set(self._topics.bridge, b"offline" if is_blind else b"online")
            self._pump_soon()

    async def _watch_daemon(self) -> None:
        while True:
            self._publish_availability()
            await asyncio.sleep(1.0)

    async def _poll_problems(self) -> None:
        """Keep the daemon's own problems up to date."""
        while True:
            self._problems_wanted.clear()
            problems = await asyncio.to_thread(self._query_problems)
            if problems != self._problems:
                self._problems = problems
                self._status_soon()
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_EVERY):
                    await self._problems_wanted.wait()

    def _query_problems(self) -> list[str]:
        try:
            client = Client(self._context.daemon)
            try:
                return client.read(client.get("/api/status"), DaemonStatus).problems
            finally:
                client.close()
        except Failure as failure:
            return [str(failure)]

    async def _poll_leases(self) -> None:
        """Keep the leases of the published devices up to date."""
        wanted, now = self._leases_wanted, asyncio.get_running_loop().time
        again = now() + LEASES_EVERY
        while True:
            await asyncio.sleep(1.0)
            if now() >= again:
                again = now() + LEASES_EVERY
                for mac in self._published:
                    wanted.setdefault(mac, now())
            macs = list(islice((mac for mac, at in wanted.items() if at <= now()), LEASES_AT_ONCE))
            for mac in macs:
                del wanted[mac]
            for mac, device in (await asyncio.to_thread(self._query_leases, macs)).items() if macs else ():
                known = self._follower.state.devices.get(mac) if self._follower else None
                if device is None:
                    wanted.setdefault(mac, now() + STATUS_EVERY)
                elif mac in self._published and known is not None and self._documents.set_lease(device):
                    self._set(known)
                    self._pump_soon()

    def _query_leases(self, macs: Iterable[str]) -> dict[str, Device | None]:
        """Return the answers about single devices; None: there was no answer. What the daemon refuses is left out."""
        client, found = Client(self._context.daemon), dict[str, Device | None](dict.fromkeys(macs))
        try:
            for mac in macs:
                try:
                    found[mac] = client.read(client.get(device_path(mac)), Device)
                except Failure as failure:
                    if not failure.status:
                        break  # the stream reports why
                    del found[mac]
        finally:
            client.close()
        return found

    async def _scan_on_command(self) -> None:
        """Request a scan for each command; several that arrive at once are one."""
        body = protocol.encode(protocol.ScanRequest())
        while True:
            await self._scan_wanted.wait()
            self._scan_wanted.clear()
            try:
                await post(self._context.daemon, "/api/scan", body)
            except Failure as failure:
                self._context.report.error(f"cannot scan on command: {failure}")


def build(table: Mqtt, context: Context) -> MqttService:
    """Make the service. Raises ConfigError."""
    for fault in faults(table, context.credentials):
        raise ConfigError(f"[mqtt] {fault}")
    tls = None
    if table.uses_tls:
        try:
            tls = ssl.create_default_context(cafile=table.ca_file)
            if table.certificate is not None:
                tls.load_cert_chain(table.certificate, table.key)
        except (OSError, ValueError) as error:
            files = ", ".join(name for name in (table.ca_file, table.certificate, table.key) if name)
            raise ConfigError(f"[mqtt] {files}: cannot be used for TLS: {error}") from None
    own = Credentials(table.client_id or f"netscand-{table.site}", table.password(context.credentials), tls)
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return MqttService(table, context, own, memory=Path(folder, "topics.json") if folder else None)
