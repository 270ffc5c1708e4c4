"""Rules: which events become a message, when. Pure: the time is an argument, and events bring their own.

An event passes these stages, each of which may delay or end it:

1. match, and `for`: is it still true after a while? A newcomer waits until its name is known.
2. flapping and `cooldown`: was the same device reported a moment ago?
3. `quiet` and `digest`: when may the message go out, and with which others?
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from fnmatch import fnmatchcase
from math import log2

from netscanctl.services.notify.compose import Composer
from netscanctl.services.notify.quiet import parse_duration, quiet_until
from netscanctl.services.notify.settings import Rule
from netscanctl.services.notify.state import Batch, Entry, Message, Rules, RuleState, Slot
from netscanctl.services.patterns import is_device, is_name
from netscanctl.state import is_return_of_person
from netscand.protocol import Device, Event, Network

SETTLE = 10.0
"""Seconds that a newcomer without a name waits for one."""
GATHER = 1.0
"""Seconds in which messages of a rule are collected, so that many at once become one."""
FEW = 3
"""Maximum messages at once that are sent separately."""
FIRST_MINUTES = 120.0
"""Seconds after a network came up in which newcomers are collected: its first scan discovers them all."""
AFTER_SCAN = 60.0
"""Seconds after the first scan at the first start in which newcomers are not reported: some answer late."""
FIRST_SCAN = 900.0
"""Seconds after which the first scan at the first start no longer counts."""
OUTAGE_RETRY = 30.0
"""Seconds until the next attempt to report a status on a network that is down or silent."""
FLAPS = 5.0
"""Changes of a device within a half-life that count as flapping."""
STEADY = 1.0
"""Penalty below which flapping is over."""
WORST = 16.0
"""Maximum penalty: however much it flapped, a device is reported again after four half-lives."""
HALF_LIFE = 900.0
"""Seconds in which the penalty is halved."""
MOST_ENTRIES = 500
"""Maximum entries of one message."""
MOST_SLOTS = 5000
"""Maximum slots of one rule."""

PRESENT = {"discovered": True, "online": True, "offline": False, "network_up": True, "network_recovered": True,
           "network_down": False, "network_silent": False, "person_home": True, "person_away": False}  # fmt: skip
"""Kinds where a later event makes an earlier one untrue."""
STATUS = ("discovered", "online", "offline")
MOST_NAMED = 20
"""Names in a message about a value that fits nothing."""
BATCH = "\0"
"""Instead of a subject: the batch of a rule."""


class Engine:
    """The rules at work. `take` events in their order, then `advance` the time; both return the messages now due."""

    def __init__(
        self, rules: Mapping[str, Rule], channels: Iterable[str], compose: Composer, state: Rules,
        zone: tzinfo | None = None,
    ) -> None:  # fmt: skip
        self.state = state
        self._rules = rules
        self._channels = tuple(channels)
        self._compose = compose
        self._zone = zone
        self._agenda: list[tuple[float, str, str]] = []
        """Heap of what is due: time, rule, and subject or BATCH. Nothing else decides the order: a restart keeps it."""
        self._messages: list[tuple[str, Message]] = []
        state.rules = {name: state.rules.get(name, RuleState()) for name in rules}
        self._schedule_all()

    # ---- what the service calls

    @property
    def next_due(self) -> float | None:
        """Return when something is due; None: nothing waits."""
        return self._agenda[0][0] if self._agenda else None

    @property
    def waiting(self) -> int:
        """Return how many events wait in the rules."""
        return sum(rule.waiting for rule in self.state.rules.values())

    def start(self, networks: Iterable[Network], now: float) -> None:
        """Take the first snapshot: its devices, and those that first scans discover, are not new."""
        self.state.now = max(self.state.now, now)
        self.state.unscanned = {
            network.id: None for network in networks if network.last_scan is None and network.state != "excluded"
        }
        self.state.raised = dict.fromkeys(self.state.unscanned, now)
        self.state.doubtful = {network.id for network in networks if network.state in ("down", "silent")}

    def reconcile(self, devices: Iterable[Device]) -> None:
        """Drop what a snapshot after lost events shows to be no longer true."""
        for device in devices:
            if device.status in ("online", "offline"):
                for slot in self._slots(device.mac):
                    self._end_untrue(slot, device.status == "online")

    def scanned(self, networks: Iterable[str], now: float) -> None:
        """Note that a scan of these networks ended."""
        for network in networks:
            if self.state.unscanned.get(network, now) is None:
                self.state.unscanned[network] = now + AFTER_SCAN

    def take(self, event: Event, at: float) -> list[tuple[str, Message]]:
        """Take an event that happened at this time; return the messages that are due by then, each with its channel."""
        self._do_due(at)
        at = self.state.now = max(self.state.now, at)
        self._note_network(event, at)
        if event.device is not None:
            self._update(event.device)
        if not _is_return(event) and not self._is_ordinary(event, at):
            self._offer(event, at)
        return self._taken()

    def advance(self, now: float) -> list[tuple[str, Message]]:
        """Move the time on; return the messages that are due, each with its channel."""
        self._do_due(now)
        self.state.now = max(self.state.now, now)
        return self._taken()

    def shift(self, seconds: float) -> None:
        """Move all times: the clock was set."""
        state = self.state
        state.now += seconds
        state.raised = {name: at + seconds for name, at in state.raised.items()}
        state.unscanned = {name: at and at + seconds for name, at in state.unscanned.items()}
        for rule in state.rules.values():
            for slot in rule.slots.values():
                for key in ("ready_at", "release_at", "penalty_at", "used_at"):
                    setattr(slot, key, getattr(slot, key) + seconds)
                slot.sent_at = None if slot.sent_at is None else slot.sent_at + seconds
            if rule.batch:
                rule.batch.due += seconds
        self._schedule_all()

    # ---- networks and names

    def _note_network(self, event: Event, at: float) -> None:
        network = event.network
        if network is None or event.device is not None or event.kind not in PRESENT:
            return
        if PRESENT[event.kind]:
            self.state.doubtful.discard(network)
        else:
            self.state.doubtful.add(network)
        if event.kind == "network_up":
            self.state.raised[network] = at

    def _is_ordinary(self, event: Event, at: float) -> bool:
        """Return whether a newcomer was there before us: the first scan at the first start discovers it."""
        if event.kind != "discovered" or event.network not in self.state.unscanned:
            return False
        until = self.state.unscanned[event.network]
        until = self.state.raised.get(event.network, 0.0) + FIRST_SCAN if until is None else until
        if at >= until:
            del self.state.unscanned[event.network]
        return at < until

    def _slots(self, subject: str) -> Iterator[Slot]:
        return (rule.slots[subject] for rule in self.state.rules.values() if subject in rule.slots)

    def _update(self, device: Device) -> None:
        """Show what waits with the newest name and annotations."""
        entries = [
            entry
            for slot in self._slots(device.mac)
            for entry in (slot.waiting, slot.postponed, slot.newcomer)
            if entry is not None
        ]
        for state in self.state.rules.values():
            entries += state.batch.entries if state.batch else ()
        for entry in entries:
            if entry.event.device is not None and entry.event.device.mac == device.mac:
                entry.event.device = device
        for name, state in self.state.rules.items():
            slot = state.slots.get(device.mac)
            if slot and slot.waiting and slot.waiting.event.kind == "discovered" and _is_named(device):
                slot.ready_at = min(slot.ready_at, max(self.state.now, self._ready_at(name, slot.waiting)))
                self._schedule(slot.ready_at, name, device.mac)

    # ---- stage 1: match, and `for`

    def _offer(self, event: Event, at: float) -> None:
        """Give an event to the rules: each channel gets it by the first rule that matches."""
        subject, present = _subject(event), PRESENT.get(event.kind)
        left = list(self._channels)
        for name, rule in self._rules.items():
            slot = self.state.rules[name].slots.get(subject)
            if slot is not None and present is not None:
                self._end_untrue(slot, present)
            if slot is not None and event.kind == "online" and slot.newcomer is not None:
                entry = slot.newcomer
                slot.newcomer = None
                self._wait(name, slot, subject, Entry(event=entry.event, at=at, channels=entry.channels))
                left = [channel for channel in left if channel not in entry.channels]
                continue
            channels = tuple(channel for channel in left if not rule.channels or channel in rule.channels)
            if channels and matches(rule, event):
                left = [channel for channel in left if channel not in channels]
                slot = slot or self._new_slot(name, subject)
                self._wait(name, slot, subject, Entry(event=event, at=at, channels=channels))

    def _end_untrue(self, slot: Slot, present: bool) -> None:
        """Drop events that the current status contradicts."""
        if slot.waiting is not None and PRESENT.get(slot.waiting.event.kind) not in (None, present):
            if slot.waiting.event.kind == "discovered":
                slot.newcomer = slot.waiting
            slot.waiting = None
        if slot.postponed is not None and PRESENT.get(slot.postponed.event.kind) not in (None, present):
            slot.postponed = None

    def _wait(self, name: str, slot: Slot, subject: str, entry: Entry) -> None:
        slot.waiting, slot.ready_at, slot.used_at = entry, 0.0, self.state.now
        slot.ready_at = self._ready_at(name, entry)
        device = entry.event.device
        if entry.event.kind == "discovered" and device is not None and not _is_named(device):
            slot.ready_at = max(slot.ready_at, entry.at + SETTLE)
        self._schedule(slot.ready_at, name, subject)

    def _ready_at(self, name: str, entry: Entry) -> float:
        ready = entry.at + parse_duration(self._rules[name].hold)
        if entry.event.kind == "discovered":
            raised = self.state.raised.get(entry.event.network or "")
            if raised is not None and entry.at < raised + FIRST_MINUTES:
                ready = max(ready, raised + FIRST_MINUTES)
        return ready

    # ---- stage 2: flapping and `cooldown`

    def _release(self, name: str, subject: str, slot: Slot, entry: Entry, now: float) -> None:
        """Report an event that passed `for`, or hold it."""
        slot.used_at = now
        event = entry.event
        if event.kind in PRESENT:
            slot.penalty = min(WORST, slot.penalty * 0.5 ** ((now - slot.penalty_at) / HALF_LIFE) + 1)
            slot.penalty_at = now
            if not slot.flapping and slot.penalty > FLAPS:
                slot.flapping, slot.reported = True, None
                entry.note = "flapping: further changes are not reported until it is steady"
                self._report(name, slot, entry, now)
                slot.reported = None
                return
            if slot.flapping and slot.penalty >= STEADY + 1:
                self._hold(name, subject, slot, entry, now + HALF_LIFE * log2(slot.penalty / STEADY))
                return
            slot.flapping = False
        ends = (slot.sent_at or 0.0) + parse_duration(self._rules[name].cooldown)
        if slot.sent_at is not None and now < ends:
            self._hold(name, subject, slot, entry, ends)
            return
        self._report(name, slot, entry, now)

    def _hold(self, name: str, subject: str, slot: Slot, entry: Entry, until: float) -> None:
        slot.postponed, slot.release_at = entry, until
        self._schedule(until, name, subject)

    def _report_postponed(self, name: str, slot: Slot, entry: Entry, now: float) -> None:
        """Report what was postponed, unless it equals what was reported before."""
        present = PRESENT.get(entry.event.kind)
        if slot.flapping:
            slot.flapping, entry.note = False, "steady again"
        if present is None or slot.reported is None or present != slot.reported:
            self._report(name, slot, entry, now)

    # ---- stage 3: `quiet` and `digest`

    def _report(self, name: str, slot: Slot, entry: Entry, now: float) -> None:
        slot.sent_at, slot.reported = now, PRESENT.get(entry.event.kind)
        state, digest = self.state.rules[name], parse_duration(self._rules[name].digest)
        if state.batch is None:
            due, together = now + max(digest, GATHER), digest > 0
            quiet = quiet_until(self._rules[name].quiet, due, self._zone)
            state.batch = Batch(entries=[], due=quiet or due, together=together or quiet is not None)
            self._schedule(state.batch.due, name, BATCH)
        if len(state.batch.entries) < MOST_ENTRIES:
            state.batch.entries.append(entry)
        else:
            state.batch.more += 1

    def _send(self, name: str, batch: Batch) -> None:
        rule = self._rules[name]
        for channel in self._channels:
            entries = [entry for entry in batch.entries if channel in entry.channels]
            if len(entries) > 1 and (batch.together or len(entries) > FEW):
                self._messages.append((channel, self._compose.digest(rule, entries, batch.more)))
            else:
                self._messages += [(channel, self._compose.message(rule, entry)) for entry in entries]

    # ---- what is due

    def _schedule(self, due: float, name: str, subject: str) -> None:
        heapq.heappush(self._agenda, (due, name, subject))

    def _schedule_all(self) -> None:
        self._agenda = []
        for name, state in self.state.rules.items():
            for subject, slot in state.slots.items():
                if slot.waiting is not None:
                    self._schedule(slot.ready_at, name, subject)
                if slot.postponed is not None:
                    self._schedule(slot.release_at, name, subject)
            if state.batch is not None:
                self._schedule(state.batch.due, name, BATCH)

    def _do_due(self, now: float) -> None:
        """Do everything that is due by now, in its order. An agenda item that was overtaken finds nothing to do."""
        while self._agenda and self._agenda[0][0] <= now:
            due, name, subject = heapq.heappop(self._agenda)
            state = self.state.rules[name]
            self.state.now = max(self.state.now, due)
            if subject == BATCH:
                if state.batch is not None and state.batch.due <= due:
                    batch, state.batch = state.batch, None
                    self._send(name, batch)
            elif subject in state.slots:
                self._do_slot(name, subject, state.slots[subject], due)

    def _do_slot(self, name: str, subject: str, slot: Slot, due: float) -> None:
        if slot.waiting is not None and slot.ready_at <= due:
            entry = slot.waiting
            networks = networks_of(entry.event)
            if entry.event.kind in STATUS and networks and networks <= self.state.doubtful:
                slot.ready_at = due + OUTAGE_RETRY  # our own blindness is not their absence (law 8)
                self._schedule(slot.ready_at, name, subject)
            else:
                slot.waiting = None
                if matches(self._rules[name], entry.event):  # a user may have marked it as known
                    self._release(name, subject, slot, entry, due)
        if slot.postponed is not None and slot.release_at <= due:
            entry, slot.postponed = slot.postponed, None
            self._report_postponed(name, slot, entry, due)

    def _new_slot(self, name: str, subject: str) -> Slot:
        slots = self.state.rules[name].slots
        if len(slots) >= MOST_SLOTS:
            idle = [key for key, slot in slots.items() if slot.waiting is None and slot.postponed is None]
            for key in sorted(idle or slots, key=lambda key: slots[key].used_at)[: MOST_SLOTS // 10]:
                del slots[key]
        slots[subject] = Slot(used_at=self.state.now)
        return slots[subject]

    def _taken(self) -> list[tuple[str, Message]]:
        messages, self._messages = self._messages, []
        return messages


def matches(rule: Rule, event: Event) -> bool:
    """Return whether a rule is about an event."""
    device = event.device
    if event.kind not in rule.kinds or ((rule.devices or rule.tags or rule.known is not None) and device is None):
        return False
    if rule.people and not (event.person and any(is_name(event.person.name, one) for one in rule.people)):
        return False
    if rule.known is not None and device is not None and device.known != rule.known:
        return False
    if rule.tags and device is not None and not {tag.lower() for tag in rule.tags}.intersection(device.tags):
        return False
    if rule.networks and not any(
        _is_network(network, pattern) for network in networks_of(event) for pattern in rule.networks
    ):
        return False
    return not rule.devices or (device is not None and is_device(device, rule.devices))


def unmatched(
    rules: Mapping[str, Rule], devices: Iterable[Device], people: Iterable[str] | None, networks: Iterable[str]
) -> Iterator[str]:
    """Yield a line for each value of a rule that fits nothing that exists now: it may be mistyped, or come later.

    `people` None: not known, as at a hub.
    """
    present, names, ids = tuple(devices), sorted(people or ()), sorted(networks)
    tags = sorted({tag for device in present for tag in device.tags})
    list_them = "to list them: netscanctl devices"
    for name, rule in rules.items():
        lists = (
            ("tags", [tag for tag in rule.tags if tag.lower() not in tags], "no device has this tag", tags),
            ("people", [each for each in (rule.people if people is not None else ())
                        if not any(is_name(one, each) for one in names)],
             "there is no such person", names),
            ("networks", [each for each in rule.networks if not any(_is_network(one, each) for one in ids)],
             "there is no such network", ids),
            ("devices", [each for each in rule.devices if not any(is_device(one, [each]) for one in present)],
             "there is no such device", None),
        )  # fmt: skip
        for key, unknown, what, existing in lists:
            hint = list_them if existing is None else f"the {key} are: {_some(existing)}"
            yield from (f"[notify.rule.{name}] {key} {value!r}: {what} now; {hint}" for value in unknown)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "") if names else "none"


def networks_of(event: Event) -> set[str]:
    """Return the network of an event, else those of its device."""
    if event.network is not None or event.device is None:
        return {event.network} if event.network else set()
    return {address.network for address in event.device.addresses}


def _is_network(network: str, pattern: str) -> bool:
    return pattern in (network, *network.split("@")) or fnmatchcase(network, pattern)


def _is_named(device: Device) -> bool:
    return bool(device.label or device.hostname)


def _is_return(event: Event) -> bool:
    """Return whether a device or person is only certain again, as before a network became silent or went down."""
    return is_return_of_person(event) or (event.kind == "online" and (event.previous or {}).get("status") == "unknown")


def _subject(event: Event) -> str:
    """Return what later events of the same subject share."""
    if event.person:
        return f"person {event.site or ''} {event.person.name.casefold()}"
    if event.kind in PRESENT:
        return event.device.mac if event.device is not None else event.network or ""
    mac = event.device.mac if event.device is not None else ""
    return " ".join((event.kind, mac, event.network or "", event.address or "", event.other or ""))


def event_time(event: Event, now: float) -> float:
    """Return when an event happened, not later than now."""
    try:
        return min(datetime.fromisoformat(event.at).timestamp(), now)
    except ValueError:
        return now
