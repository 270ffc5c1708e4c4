"""What is due for each device: probes into its silence, its change of status, and the detection of an outage."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import Enum, auto
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import NamedTuple

from netscand.core.addresses import Addresses, ProbeCandidates, has_answered
from netscand.core.batches import DeferredBatches
from netscand.core.limits import could_change, is_resident, may_change
from netscand.core.model import (
    Address,
    Device,
    Event,
    EventKind,
    Evidence,
    Mac,
    Network,
    NetworkState,
    Observation,
    Probe,
    Status,
)
from netscand.core.networks import SCANNED, NetworkTable, Place, is_on, note_asked
from netscand.core.outage import OutageDetector, Verdict
from netscand.core.presence import ANSWER_WAIT, Presence, Rules, Step
from netscand.core.ratelimit import ABSENCES, RETURNS, Budgets

# ---- verdict -------------------------------------------------------------------------------------------------------
# A device's presence changes: the one place where that is written, and told.


def set_status(
    device: Device, status: Status, at: float, reason: str, network: str | None, seen: Observation | None = None
) -> Event:
    """Set it online or offline; the event. `seen`: the observation that told us."""
    previous: Mapping[str, object] = {
        "status": device.status, "status_since": device.status_since, "reason": device.reason,
    }  # fmt: skip
    device.status, device.status_since, device.reason = status, at, reason
    kind = EventKind.ONLINE if status is Status.ONLINE else EventKind.OFFLINE
    return Event(
        kind, at, network, device, seen.ip if seen else device.ip, None, seen.evidence if seen else None,
        reason, previous, seen.at if seen else None,
    )  # fmt: skip


def mark_unknown(
    devices: Iterable[Device],
    network: str,
    interface: int | None,
    places: NetworkTable,
    reason: str,
    now: float,
    heard_since: float = inf,
    may_stay: Callable[[Device], bool] = lambda device: True,
) -> list[Device]:
    """Set every device that is online on no other network to `unknown`; the network's event says so to clients.

    Return those that stay online because they were `heard_since`, as far as they `may_stay`: see `still_there`.

    All in one moment, for the event shows one; so what most have, a single address, is looked at first.
    """
    stay = []
    for device in devices:
        if device.status is not Status.ONLINE or device.is_self:
            continue
        held = device.addresses
        alone = len(held) == 1
        if held[0].network != network if alone else not is_on(device, network, interface):
            continue
        if device.last_seen >= heard_since and may_stay(device):
            stay.append(device)
        elif alone or not places.hears(device, now):
            device.status, device.status_since, device.reason = Status.UNKNOWN, now, reason
    return stay


def still_there(devices: Iterable[Device], network: str, reason: str, now: float) -> Callable[[Device], Event | None]:
    """Return what publishes of each device, once, that it is online, since when it was.

    The event of the network makes all of its devices `unknown` for clients (docs/protocol.md).
    """
    left = {device.mac: device for device in devices}
    doubted: Mapping[str, object] = {"status": Status.UNKNOWN, "status_since": now, "reason": reason}

    def publish(device: Device) -> Event | None:
        if left.pop(device.mac, None) is not device or device.status is not Status.ONLINE:
            return None
        return Event(EventKind.ONLINE, now, network, device, device.ip, reason=device.reason, previous=doubted)

    return publish


# ---- ourselves -----------------------------------------------------------------------------------------------------
# Ourselves: this host is a device of its own kind, online while its interface is up, and never asked.


def mark(
    devices: dict[Mac, Device], networks: Iterable[Network], addresses: Addresses, rules: Rules, now: float
) -> None:
    """Let `devices` hold this host, at its own addresses, as the networks that are up have it now."""
    ours: dict[Mac, list[Network]] = {}
    for network in networks:
        if network.state in SCANNED:
            ours.setdefault(network.mac, []).append(network)
    for device in devices.values():
        if device.is_self and device.mac not in ours and device.status is Status.ONLINE:
            device.status, device.status_since, device.reason = Status.UNKNOWN, now, "the interface is down"
    for mac, held_in in ours.items():
        device = devices.get(mac) or devices.setdefault(mac, Device(mac, now, now, Presence(now, rules)))
        if device.status is not Status.ONLINE or not device.is_self:
            device.status, device.status_since, device.reason = Status.ONLINE, now, "this host"
        device.is_self, device.interface, device.last_seen, device.agenda = True, held_in[0].index, now, inf
        held = {(address.network, address.ip): address for address in device.addresses}
        for address in tuple(device.addresses):
            addresses.drop(device, address)
        for network in held_in:
            kept = held.get((network.id, network.own))
            new = Address(network.own, network.id, network.interface, Evidence.NEIGHBOUR, now, now)
            addresses.put(device, kept or new)


# ---- watch ---------------------------------------------------------------------------------------------------------
# What is due for each device: asks into its silence, and the verdict; and what to make of a network that is silent.
#
# The half of the inventory that time moves; core/inventory.py is the half that frames, users and netlink move.

UNASKABLE = 300.0
"""Seconds after which a device that has no address to be asked at counts as gone, if its patience is not longer."""

ABSENT_TOO_OFTEN = 60.0
"""Seconds that an `offline` waits for which there is no room in the budget."""


class Whose(Enum):
    """For whom presence asks."""

    WITNESS = auto()
    """Asked for the sake of another's verdict."""
    RESIDENT = auto()
    """Known for long, the gateway among them."""
    STRANGER = auto()


class Lane(NamedTuple):
    """A queue of asks. It waits for no other: broadcasts hold no probes up, nor do strangers residents."""

    network: str
    whose: Whose
    broadcast: bool


class DueChecks:
    """The devices, and when each is to be looked at."""

    def __init__(self, rng: Random) -> None:
        self._interfaces: dict[str, int] = {}
        """By network."""
        self.devices: dict[Mac, Device] = {}
        self.networks: dict[str, Network] = {}
        """Scanned or not, by id."""
        self.probe_queue: dict[Lane, deque[Probe]] = {}
        """Probes and requests that presence wants, for the planner to send under its budget."""
        self.budgets = Budgets()
        """Of all that others may cause; the engine's and the server's, too."""
        self.addresses = Addresses(self.networks, self.budgets)
        self.place = NetworkTable(self.networks)
        self.outage = OutageDetector(rng, self.budgets)
        self._candidates = ProbeCandidates(self.budgets)
        self._agenda: list[tuple[float, Mac]] = []
        self._chores = DeferredBatches()

    @property
    def next_at(self) -> float:
        """When `tick` next wants to be called."""
        if self._chores:
            return 0.0
        return min(self._agenda[0][0] if self._agenda else inf, self.addresses.disputes.next_at)

    def tick(self, now: float, limit: int = 128) -> tuple[Event, ...]:
        """Do what is due, at most `limit` at a time: return verdicts; queue probes into silences."""
        if self._chores:  # nobody is judged before
            return tuple(self._chores.run_some())
        events: list[Event] = self._settle_disputes(now) if self.addresses.disputes.open else []
        agenda = self._agenda
        for _ in range(limit):
            if not agenda or agenda[0][0] > now:
                break
            due, mac = heappop(agenda)
            device = self.devices.get(mac)
            if device is None or device.agenda != due:
                continue  # forgotten, or scheduled anew since
            device.agenda = inf
            where = self.place.where(device)
            step = device.presence.step(now)
            if where is None:
                silence = now - device.presence.since
                if silence < max(UNASKABLE, device.presence.patience) or not self.place.can_observe(device):
                    self._schedule(device)
                elif self._may_report_offline(device, now):
                    events.append(
                        self._report_offline(device, now, f"silent for {silence:.0f} s, and no address to ask")
                    )
            elif step is Step.OFFLINE:
                events += self._judge(device, (self.place.answered(device) or where)[0], now)
            elif step is Step.NOTHING:
                events += self._drop_stale(device, now)
                self._schedule(device)
            else:  # off the agenda until the planner has sent it, or found it no longer wanted
                self._ask(device, where, step, now)
        return tuple(events)

    def _ask(self, device: Device, where: Place, step: Step, now: float) -> None:
        """Ask into a silence where a device was heard last, and, beside each ask, where it last answered us.

        Anybody may have said in its name that it is elsewhere, on another network or by IPv6. So with the last asks
        it is asked wherever it answered within a day.
        """
        mac = device.mac if step is Step.PROBE else None
        answered = self.place.answered(device) or where
        if step is Step.REQUEST:
            self._probe_witnesses(device, answered[0], now)
        self._queue_probe(Probe(where[0], where[1].ip, mac, device.mac))
        if answered[1] is not where[1]:
            self._queue_probe(Probe(answered[0], answered[1].ip, mac, device.mac, beside=True))
        if device.presence.is_last(step):
            others = (
                each
                for each in self.place.further(device, now)
                if each[1] is not where[1] and each[1] is not answered[1]
            )
            self._ask_beside(device, others)

    def _ask_beside(self, device: Device, places: Iterable[Place]) -> None:
        mac = None if device.presence.broadcast_only else device.mac
        for network, address in places:
            self._queue_probe(Probe(network, address.ip, mac, device.mac, beside=True))

    def _judge(self, device: Device, network: Network, now: float) -> tuple[Event, ...]:
        if not self._may_report_offline(device, now):
            return ()
        since = device.presence.since
        if unasked := [each for each in self.place.further(device, now) if each[1].asked < since]:
            self._ask_beside(device, unasked)
            self._push(device, now + ANSWER_WAIT)
            return ()
        verdict, at, reason = self.outage.verdict(network.id, device, now)
        if verdict is Verdict.GONE:
            over = self.outage.silent(network.id) and any(
                each.status is Status.ONLINE and not each.is_self for each in self.addresses.devices(network.id)
            )
            recovered = self._recover(network, now) if over else ()
            return (*recovered, self._report_offline(device, now, device.presence.why(now), network.id))
        if verdict is Verdict.NETWORK_SILENT:
            self.place.change(replace(network, state=NetworkState.SILENT))
            stay = self._suspect_outage(network.id, reason, now, heard_since=at)
            self._schedule(device)
            there = self._chores.add(stay, still_there(stay, network.id, reason, now))
            return (Event(EventKind.NETWORK_SILENT, now, network.id, reason=reason), *there)
        if at <= now:
            self._probe_witnesses(device, network, now)
            at = now + 0.1
        self._push(device, at)
        return ()

    def _settle_disputes(self, now: float) -> list[Event]:
        asks, over = self.addresses.disputes.due(now)
        for ask in asks:
            self._queue_probe(ask, Whose.RESIDENT)
        events: list[Event] = []
        for question in over:
            ip = question.claim.ip
            deaf_at = self.outage.overflow_at[ip is not None and len(ip) == 16]
            events += self.addresses.settle(question, now, there=deaf_at >= question.claim.at)
            self._schedule(question.claimant)
            self._schedule(question.holder)
        return events

    def _drop_stale(self, device: Device, now: float) -> tuple[Event, ...]:
        """Drop the addresses that a device gave up; who answered there is asked there first."""
        dropped, to_ask = self.addresses.drop_stale(device, now, self.place.asks)
        self._ask_beside(device, [(network, held) for held in to_ask if (network := self.place.asks(held))])
        return tuple(dropped)

    def _may_report_offline(self, device: Device, now: float) -> bool:
        """Return whether an `offline` of that device may be published now; if not, it waits."""
        if could_change(self.budgets, ABSENCES, device, now):
            return True
        may_change(self.budgets, ABSENCES, device, now)  # counts the refusal
        self._push(device, now + ABSENT_TOO_OFTEN)
        return False

    def _report_offline(self, device: Device, now: float, reason: str, network: str | None = None) -> Event:
        may_change(self.budgets, ABSENCES, device, now)
        device.agenda = inf
        device.presence.lost(now)
        if device.is_gateway:  # another may hold that address by now
            self.addresses.mark_gateways((device,))
        return set_status(device, Status.OFFLINE, now, reason, network)

    def _probe_witnesses(self, device: Device, network: Network, now: float) -> None:
        holders, gateway = self.addresses.devices(network.id), self.addresses.holder(network.id, network.gateway)
        witnesses = self.outage.suspect(network.id, device, holders, gateway, now)
        if witnesses:  # those of the last inquiry that were not asked yet need not be any more
            self.probe_queue.pop(Lane(network.id, Whose.WITNESS, False), None)
        for witness in witnesses:
            where = self.place.answered(witness, network.id)
            if where is None and self.place.answered(witness) is None:
                where = self.place.where(witness)
            if where is not None and where[0].id == network.id:
                self._queue_probe(Probe(where[0], where[1].ip, witness.mac, witness.mac), Whose.WITNESS)
            else:  # what it says or does not say elsewhere says nothing of this network
                self.outage.not_asked(network.id, witness.mac)

    def _probe(self, seen: Observation, network: Network) -> None:
        if seen.joining and seen.evidence is Evidence.PROXIED:
            self.addresses.disputes.leased(seen, network)
        if self._candidates.add(seen, network, self.devices.get(seen.mac)):
            assert seen.ip is not None
            self._queue_probe(Probe(network, seen.ip, seen.mac))
            heappush(self._agenda, (seen.at, seen.mac))  # so that the queue is looked at

    def _queue_probe(self, ask: Probe, whose: Whose | None = None) -> None:
        if whose is None:
            device = self.devices.get(ask.of or ask.mac or Mac(b""))
            known = device is not None and (device.is_gateway or is_resident(device, device.last_seen))
            whose = Whose.RESIDENT if known else Whose.STRANGER
        self.probe_queue.setdefault(Lane(ask.network.id, whose, ask.mac is None), deque()).append(ask)

    def _end_inquiry(self, network: Network, seen: Observation) -> tuple[Event, ...]:
        """The first answer ends the doubt; each device stays `unknown` until its own verdict."""
        if not self.outage.silent(network.id) or not self.outage.ends_by(network.id, seen.mac, seen.at):
            return ()
        return self._recover(network, seen.at)

    def _recover(self, network: Network, now: float) -> tuple[Event, ...]:
        self.outage.end(network.id, now)
        up = replace(network, state=NetworkState.UP)
        self.place.change(up)
        self._believe(up, now)
        return (Event(EventKind.NETWORK_RECOVERED, now, network.id, reason="heard again"),)

    def wanted(self, ask: Probe, now: float) -> bool:
        """Return whether a probe is still due when its turn has come; one that is not is scheduled again."""
        if ask.of is None and ask.mac in self._candidates:
            return True
        device = self._target_of(ask)
        if device is None:
            return False
        if ask.beside:
            return device.status is not Status.OFFLINE
        if device.presence.step(now) in (Step.PROBE, Step.REQUEST):
            return True
        if self.outage.asks(ask.network.id, device.mac):
            return True
        if device.agenda == inf:
            self._schedule(device)
        return False

    def record_sent(self, ask: Probe, now: float) -> None:
        """Note that an ask really left."""
        self._candidates.record_sent(ask.mac)
        device = self._target_of(ask)
        if device is not None and ask.of is not None:
            note_asked(device, ask, now)
        if ask.beside:
            return
        scanned = ask.mac is None and ask.of is None
        if device is not None and scanned and not has_answered(device, ask.network.id, ask.ip):
            return  # a scan looks who else is there: its silence at an address that it may have given up says nothing
        if device is not None and not device.is_self:
            self.outage.asked(ask.network.id, device.mac, now)
            device.presence.record_sent(now, broadcast=ask.mac is None)
            self._schedule(device)

    def give_up_all(self, network: str, now: float) -> None:
        """Note that a network takes no asks: none of those that wait for it will leave."""
        lanes = [lane for lane in self.probe_queue if lane.network == network]
        self.drop_probes([ask for lane in lanes for ask in self.probe_queue.pop(lane)], now)

    def drop_probes(self, asks: Iterable[Probe], now: float) -> None:
        """Note that an interface refused asks, thousands perhaps: try again in a second, and count nothing."""

        def try_again(device: Device) -> None:
            if device.status is not Status.OFFLINE and not device.is_self:
                self._push(device, now + 1.0)

        asks = tuple(asks)
        for ask in asks:
            self._candidates.record_sent(ask.mac)  # it may be probed later
        self._chores.add((device for ask in asks if (device := self._target_of(ask)) is not None), try_again)

    def _target_of(self, ask: Probe) -> Device | None:
        """Whom an ask is about: not who holds the address by now, but who was asked."""
        mac = ask.of or ask.mac
        return self.devices.get(mac) if mac else self.addresses.holder(ask.network.id, ask.ip)

    def _schedule(self, device: Device) -> None:
        due = inf
        if device.is_self or device.status is Status.OFFLINE:
            pass
        elif self.place.where(device) is not None:
            due = device.presence.next_at
        elif self.place.can_observe(device):
            due = device.presence.since + max(UNASKABLE, device.presence.patience)
        if due == inf:
            device.agenda = inf
        elif due != device.agenda:
            self._push(device, due)

    def _push(self, device: Device, at: float) -> None:
        device.agenda = at
        heappush(self._agenda, (at, device.mac))

    # ---- what we doubt -------------------------------------------------------------------------------------------

    def _excuse(self, device: Device, now: float) -> None:
        silent = device.presence.since < now  # or it was heard since
        if silent and device.status is not Status.OFFLINE and not device.is_self:
            device.presence.excuse(now)
            self._schedule(device)

    def _suspect_outage(self, network: str, reason: str, now: float, heard_since: float = inf) -> list[Device]:
        interface = self._interfaces.get(network)

        def may_stay(device: Device) -> bool:
            return self._may_return(device, now)

        return mark_unknown(self.devices.values(), network, interface, self.place, reason, now, heard_since, may_stay)

    def _may_return(self, device: Device, now: float) -> bool:
        """Return whether it may be published now that a device is online whose network fell silent.

        If not, a stranger is `unknown` until it is heard again: its own kind can bring about that silence.
        """
        return is_resident(device, now) or self.budgets.take(RETURNS, device.interface, now)

    def _believe(self, network: Network, now: float) -> None:
        """We hear this network again: each device gets its own verdict, its silence counted from now."""
        self.outage.heard_again = now

        def excuse(device: Device) -> None:
            if is_on(device, network.id, network.index):
                self._excuse(device, now)

        self._chores.add(list(self.devices.values()), excuse)
