"""Due checks of each device: probes of silent devices, changes of status, detection of a network outage."""

from collections import deque
from collections.abc import Container, Iterable
from dataclasses import replace
from enum import Enum, auto
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import NamedTuple

from netscand.core.addresses import Addresses
from netscand.core.batches import DeferredBatches
from netscand.core.limits import could_change, is_resident, may_change
from netscand.core.merged import MergedMacs
from netscand.core.model import (
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
from netscand.core.networks import SCANNED, NetworkTable, ProbeTarget, has_answered, is_on, record_probe
from netscand.core.outage import OutageDetector, Verdict
from netscand.core.presence import ANSWER_WAIT, Step
from netscand.core.ratelimit import ABSENCES, RETURNS, Budgets
from netscand.core.relayed_names import to_refresh
from netscand.core.shared_lan import SharedLans, rehome
from netscand.core.status import StatusCounts, report_still_online
from netscand.core.weak_evidence import ProbeCandidates

# ---- checks --------------------------------------------------------------------------------------------------------
# The part of the inventory that time drives; core/inventory.py is the part that frames, users and netlink drive.

UNPROBEABLE_PATIENCE = 300.0
"""Minimum seconds of silence after which a device without an address to probe is offline."""

OFFLINE_RETRY = 60.0
"""Seconds until an `offline` event that exceeded the budget is tried again."""


class ProbeClass(Enum):
    """Class of a probe that presence sends; classes do not delay one another."""

    WITNESS = auto()
    """Probe of a device that may prove that the network works."""
    RESIDENT = auto()
    """Probe of a resident (core/limits.py) or of the gateway."""
    STRANGER = auto()


class Lane(NamedTuple):
    """Key of a queue of probes: broadcasts do not delay unicast, nor strangers residents."""

    network: str
    probe_class: ProbeClass
    broadcast: bool


class DueQueue:
    """Times and the devices that are due then, soonest first.

    Most times come in order: answers are due 1 s after a probe, the next probe 10 s after a frame. Each such sequence
    has a queue, and the rest is in a heap: with 65,533 devices, taking an entry from a heap takes 20 µs.
    """

    def __init__(self) -> None:
        self._queues: tuple[deque[tuple[float, Mac]], ...] = (deque(), deque(), deque())
        self._heap: list[tuple[float, Mac]] = []

    def push(self, at: float, mac: Mac) -> None:
        """Add an entry; earlier entries of the device stay."""
        for queue in self._queues:
            if not queue or queue[-1][0] <= at:
                queue.append((at, mac))
                return
        heappush(self._heap, (at, mac))

    @property
    def next_at(self) -> float:
        """Return the time of the first entry; inf: there is none."""
        at = self._heap[0][0] if self._heap else inf
        for queue in self._queues:
            if queue and queue[0][0] < at:
                at = queue[0][0]
        return at

    def pop(self, now: float) -> tuple[float, Mac] | None:
        """Take the first entry that is due; None: none is."""
        first, at = None, self._heap[0][0] if self._heap else inf
        for queue in self._queues:
            if queue and queue[0][0] < at:
                first, at = queue, queue[0][0]
        if at > now or at == inf:
            return None
        return heappop(self._heap) if first is None else first.popleft()


class DueChecks:
    """The devices, and the time of the next check of each."""

    def __init__(self, rng: Random) -> None:
        self._interfaces: dict[str, int] = {}
        """Network → ifindex."""
        self.devices: dict[Mac, Device] = {}
        self.networks: dict[str, Network] = {}
        """All networks by id, excluded ones too."""
        self.probe_queue: dict[Lane, deque[Probe]] = {}
        """Probes to send for presence; the planner sends them under its budget."""
        self.budgets = Budgets()
        """Budgets of everything that others may cause, shared with the engine and the server."""
        self.counts = StatusCounts()
        self.addresses = Addresses(self.networks, self.budgets, self.counts)
        self.network_table = NetworkTable(self.networks)
        self.outage = OutageDetector(rng, self.budgets)
        self.merged = MergedMacs()
        self._candidates = ProbeCandidates(self.budgets)
        self.shared_lans = SharedLans(rng)
        self._due = DueQueue()
        self._batches = DeferredBatches()

    @property
    def next_at(self) -> float:
        """When to call `tick` next."""
        if self._batches:
            return 0.0
        return min(self._due.next_at, self.addresses.disputes.next_at, self.shared_lans.next_at)

    def tick(self, now: float, limit: int = 128) -> tuple[Event, ...]:
        """Run the checks that are due, at most `limit`: return the events, and queue probes of silent devices."""
        if self._batches:  # no check runs before these are applied
            return tuple(self._batches.run_some())
        events: list[Event] = self._settle_disputes(now) if self.addresses.disputes.open else []
        if self.shared_lans:
            self._check_shared_lans(now)
        for _ in range(limit):
            entry = self._due.pop(now)
            if entry is None:
                break
            device = self.devices.get(entry[1])
            if device is None or device.next_check != entry[0]:
                continue  # forgotten, or scheduled again since
            device.next_check = inf
            where = self.network_table.probe_target(device)
            step, again_at = device.presence.next_step(now)
            if where is None:
                events += self._check_unprobeable(device, now)
            elif step is Step.OFFLINE:
                events += self._check_offline(device, (self.network_table.last_answered(device) or where)[0], now)
            elif step is not Step.NOTHING:  # not scheduled until the planner has sent the probe or dropped it
                self._probe_silence(device, where, step, now)
            elif len(device.addresses) == 1 and not (again_at == inf or device.is_proxy or self.addresses.conflicts):
                self._push(device, again_at)
            else:
                events += self._drop_stale(device, now)
                self._schedule(device)
        return tuple(events)

    def _check_unprobeable(self, device: Device, now: float) -> tuple[Event, ...]:
        silence = now - device.presence.since
        patience = max(UNPROBEABLE_PATIENCE, device.presence.patience)
        if silence < patience or not self.network_table.can_observe(device):
            self._schedule(device)
            return ()
        if not self._may_report_offline(device, now):
            return ()
        if why := self.network_table.why_unprobeable(device):
            return (self._report_unknown(device, now, f"silent for {silence:.0f} s; {why}"),)
        return self._report_offline(device, now, f"silent for {silence:.0f} s, and no address to probe")

    def _probe_silence(self, device: Device, where: ProbeTarget, step: Step, now: float) -> None:
        """Probe a silent device at the address where it was seen last, and at the one where it last answered.

        Another station may have claimed in its name that it is elsewhere, on another network or over IPv6. So the last
        probes before `offline` also go to every address where it answered within a day.
        """
        mac = device.mac if step is Step.PROBE else None
        answered = self.network_table.last_answered(device) or where
        if step is Step.REQUEST:
            self._probe_witnesses(device, answered[0], now)
        self._probe_at(device, where, mac)
        if answered[1] is not where[1]:
            self._probe_at(device, answered, mac, additional=True)
        if device.presence.is_last(step):
            others = (
                each
                for each in self.network_table.further_targets(device, now)
                if each[1] is not where[1] and each[1] is not answered[1]
            )
            self._probe_additional(device, others)

    def _probe_additional(self, device: Device, table: Iterable[ProbeTarget]) -> None:
        mac = None if device.presence.broadcast_only else device.mac
        for where in table:
            self._probe_at(device, where, mac, additional=True)

    def _probe_at(self, device: Device, where: ProbeTarget, mac: Mac | None, *, additional: bool = False) -> None:
        """Probe a device by unicast, or by broadcast; at a foreign address, which others may have, never by that."""
        network, address = where
        own = device.mac_at(address)
        to, as_request = (own, mac is None) if address.foreign else (mac and own, False)
        self._queue_probe(Probe(network, address.ip, to, device.mac, additional, as_request))

    def _check_offline(self, device: Device, network: Network, now: float) -> tuple[Event, ...]:
        if not self._may_report_offline(device, now):
            return ()
        since = device.presence.since
        if unasked := [each for each in self.network_table.further_targets(device, now) if each[1].probed_at < since]:
            self._probe_additional(device, unasked)
            self._push(device, now + ANSWER_WAIT)
            return ()
        verdict, at, reason = self.outage.verdict(network.id, device, now)
        if verdict is Verdict.GONE:
            over = self.outage.silent(network.id) and any(
                each.status is Status.ONLINE and not each.is_self for each in self.addresses.devices(network.id)
            )
            recovered = self._recover(network, now) if over else ()
            return (*recovered, *self._report_offline(device, now, device.presence.offline_reason(now), network.id))
        if verdict is Verdict.NETWORK_SILENT:
            self.network_table.change(replace(network, state=NetworkState.SILENT))
            stay = self._suspect_outage(network.id, reason, now, seen_since=at)
            self._schedule(device)
            there = self._batches.add(stay, report_still_online(stay, network.id, reason, now))
            return (Event(EventKind.NETWORK_SILENT, now, network.id, reason=reason), *there)
        if at <= now:
            self._probe_witnesses(device, network, now)
            at = now + 0.1
        self._push(device, at)
        return ()

    def _settle_disputes(self, now: float) -> list[Event]:
        probes, over = self.addresses.disputes.due(now)
        for probe in probes:
            self._queue_probe(probe, ProbeClass.RESIDENT)
        events: list[Event] = []
        for question in over:
            overflow_at = self.outage.overflow_at[len(question.ip) == 16]
            lost = overflow_at >= question.claim.at
            events += self.addresses.settle(question, self.devices, now, lost=lost)
            waited = (self.devices[mac] for mac in question.waiting if mac in self.devices)
            for device in (question.claimant, question.holder, *waited):
                self._schedule(device)
        return events

    def _drop_stale(self, device: Device, now: float) -> tuple[Event, ...]:
        """Drop the addresses that a device has given up, after a probe where it had answered."""
        dropped, to_probe = self.addresses.drop_stale(device, now, self.network_table.probe_network)
        more = (*to_refresh(device, now), *self.addresses.conflicts.to_probe(device))
        to_probe += [each for each in more if each not in to_probe]
        self._probe_additional(
            device,
            [(network, bindings) for bindings in to_probe if (network := self.network_table.probe_network(bindings))],
        )
        return tuple(dropped)

    def _may_report_offline(self, device: Device, now: float) -> bool:
        """Return whether the budget allows an `offline` event of this device now; if not, try again later."""
        if could_change(self.budgets, ABSENCES, device, now):
            return True
        may_change(self.budgets, ABSENCES, device, now)  # counts the refusal
        self._push(device, now + OFFLINE_RETRY)
        return False

    def _report_offline(self, device: Device, now: float, reason: str, network: str | None = None) -> tuple[Event, ...]:
        may_change(self.budgets, ABSENCES, device, now)
        device.next_check = inf
        device.presence.set_offline(now)
        if device.is_gateway:  # another device may hold that address now
            self.addresses.mark_gateways((device,))
        event = self.counts.publish_change(device, Status.OFFLINE, now, reason, network)
        return (event, *self.addresses.release(device, now))

    def _report_unknown(self, device: Device, now: float, reason: str) -> Event:
        """Set a silent device that cannot be probed to `unknown`: its silence proves no absence."""
        may_change(self.budgets, ABSENCES, device, now)
        network = device.main_address.network if device.main_address else None
        return self.counts.publish_change(device, Status.UNKNOWN, now, reason, network)

    def _probe_witnesses(self, device: Device, network: Network, now: float) -> None:
        holders, gateway = self.addresses.devices(network.id), self.addresses.holder(network.id, network.gateway)
        witnesses = self.outage.start_inquiry(network.id, device, holders, gateway, now)
        if witnesses:  # unsent probes of the last inquiry are no longer needed
            self.probe_queue.pop(Lane(network.id, ProbeClass.WITNESS, False), None)
        for witness in witnesses:
            where = self.network_table.last_answered(witness, network.id)
            if where is None and self.network_table.last_answered(witness) is None:
                where = self.network_table.probe_target(witness)
            if where is not None and where[0].id == network.id:
                self._queue_probe(
                    Probe(where[0], where[1].ip, witness.mac_at(where[1]), witness.mac), ProbeClass.WITNESS
                )
            else:  # its answers elsewhere prove nothing about this network
                self.outage.exclude_witness(network.id, witness.mac)

    def _probe(self, seen: Observation, network: Network) -> None:
        if seen.joining and seen.evidence is Evidence.PROXIED:
            self.addresses.disputes.record_lease(seen, network)
        if self._candidates.add(seen, network, self.devices.get(seen.mac)):
            assert seen.ip is not None
            self._queue_probe(Probe(network, seen.ip, seen.merged_mac or seen.mac))
            self._due.push(seen.at, seen.mac)  # so that the queue is looked at

    def _queue_probe(self, probe: Probe, probe_class: ProbeClass | None = None) -> None:
        if probe_class is None:
            device = self.devices.get(probe.presence_of or self._primary(probe.mac) or Mac(b""))
            known = device is not None and (device.is_gateway or is_resident(device, device.last_seen))
            probe_class = ProbeClass.RESIDENT if known else ProbeClass.STRANGER
        self.probe_queue.setdefault(Lane(probe.network.id, probe_class, probe.mac is None), deque()).append(probe)

    def _end_outage(self, network: Network, seen: Observation) -> tuple[Event, ...]:
        """End an outage at the first answer; each device stays `unknown` until it is seen or found offline."""
        if not self.outage.silent(network.id) or not self.outage.ends_with(network.id, seen.mac, seen.at):
            return ()
        return self._recover(network, seen.at)

    def _recover(self, network: Network, now: float) -> tuple[Event, ...]:
        self.outage.end(network.id, now)
        up = replace(network, state=NetworkState.UP)
        self.network_table.change(up)
        self._restart_silences(up, now)
        return (Event(EventKind.NETWORK_RECOVERED, now, network.id, reason="devices answer again"),)

    def is_due(self, probe: Probe, now: float) -> bool:
        """Return whether a queued probe is still due; if not, schedule the device again."""
        if probe.presence_of is None and (
            self._primary(probe.mac) in self._candidates or self.shared_lans.is_due(probe)
        ):
            return True
        device = self._target_of(probe)
        if device is None:
            return False
        if probe.additional:
            return device.status is not Status.OFFLINE
        if device.presence.step(now) in (Step.PROBE, Step.REQUEST):
            return True
        if self.outage.awaits_answer(probe.network.id, device.mac):
            return True
        if device.next_check == inf:
            self._schedule(device)
        return False

    def record_sent(self, probe: Probe, now: float) -> None:
        """Note that a probe was really sent."""
        if self._candidates:
            self._candidates.record_sent(self._primary(probe.mac))
        if self.shared_lans:
            self.shared_lans.record_sent(probe, now)
        device = self._target_of(probe)
        if device is None:
            return
        if probe.presence_of is not None:
            record_probe(device, probe, now)
        if probe.additional:
            return
        scanned = probe.mac is None and probe.presence_of is None
        if scanned and not has_answered(device, probe.network.id, probe.ip):
            return  # a scan looks for any device: silence at an address that this one may have left proves nothing
        if not device.is_self:
            self.outage.record_probe_sent(probe.network.id, device.mac, now)
            device.presence.record_sent(now, broadcast=probe.mac is None or probe.as_request)
            self._schedule(device)

    def drop_all_probes(self, networks: Container[str], now: float) -> None:
        """Drop all queued probes of networks that cannot be probed."""
        lanes = [lane for lane in self.probe_queue if lane.network in networks]
        self.drop_probes([probe for lane in lanes for probe in self.probe_queue.pop(lane)], now)

    def drop_probes(self, probes: Iterable[Probe], now: float) -> None:
        """Drop probes that an interface refused, perhaps thousands: try again in a second, and do not count them."""

        def try_again(device: Device) -> None:
            if device.status is not Status.OFFLINE and not device.is_self:
                self._push(device, now + 1.0)

        probes = tuple(probes)
        for probe in probes:
            self._candidates.record_sent(self._primary(probe.mac))  # it may be probed later
        self._batches.add((device for probe in probes if (device := self._target_of(probe)) is not None), try_again)

    def _target_of(self, probe: Probe) -> Device | None:
        """Return the device that a probe was sent to, even if another one holds the address by now."""
        mac = probe.presence_of or self._primary(probe.mac)
        return self.devices.get(mac) if mac else self.addresses.holder(probe.network.id, probe.ip)

    def _primary(self, mac: Mac | None) -> Mac | None:
        return self.merged.primary(mac) if mac and self.merged else mac

    def _schedule(self, device: Device) -> None:
        due = inf
        if device.is_self or device.status is Status.OFFLINE:
            pass
        elif self.network_table.probe_target(device) is not None:
            due = device.presence.next_at
        elif self.network_table.can_observe(device):
            due = device.presence.since + max(UNPROBEABLE_PATIENCE, device.presence.patience)
        if due == inf:
            device.next_check = inf
        elif due != device.next_check:
            self._push(device, due)

    def _push(self, device: Device, at: float) -> None:
        device.next_check = at
        self._due.push(at, device.mac)

    # ---- shared LANs ---------------------------------------------------------------------------------------------

    def _check_shared_lans(self, now: float) -> None:
        probes, parted = self.shared_lans.due(now)
        for probe in probes:
            self._queue_probe(probe, ProbeClass.RESIDENT)
        for other in parted:
            self._mark_shared_lan(other)

    def _mark_shared_lan(self, other: str) -> None:
        """Apply that a network is, or no longer is, the same LAN as the one that is scanned instead."""
        for network in self.shared_lans.marked(other, self.networks):
            self.network_table.change(network)
        self.addresses.open(network for network in self.networks.values() if network.state in SCANNED)

    def _join_lans(self, other: str | None) -> list[Event]:
        """Apply the proof that a network is one LAN with another: its devices are probed from there."""
        main = self.shared_lans.main_of(other) if other is not None else None
        if other is None or main is None:
            return []
        self._mark_shared_lan(other)
        target = self.networks[main]

        def move(device: Device) -> None:
            if rehome(device, self.addresses, other, target):
                self._schedule(device)

        return self._batches.add(list(self.devices.values()), move)

    def _hand_over(self, gone: str, to: str, reason: str, now: float, *, settled: bool) -> list[Event]:
        """Probe the devices of a network that went down from another one on the same LAN; return events.

        For clients, the event of the network makes its devices `unknown`. `settled`: the network has not gone down
        often.
        """
        target, stay = self.networks[to], []
        for device in self.devices.values():
            if device.is_self or not rehome(device, self.addresses, gone, target):
                continue
            if device.status is Status.ONLINE and settled and self._may_return(device, now):
                stay.append(device)
            elif device.status is Status.ONLINE:
                self.counts.change(device, Status.UNKNOWN, now, reason)
            self._restart_silence(device, now)
        return self._batches.add(stay, report_still_online(stay, to, reason, now))

    # ---- outages -------------------------------------------------------------------------------------------------

    def _restart_silence(self, device: Device, now: float) -> None:
        silent = device.presence.since < now  # not seen since
        if silent and device.status is not Status.OFFLINE and not device.is_self:
            device.presence.restart_silence(now)
            self._schedule(device)

    def _suspect_outage(self, network: str, reason: str, now: float, seen_since: float = inf) -> list[Device]:
        interface = self._interfaces.get(network)

        def may_stay(device: Device) -> bool:
            return self._may_return(device, now)

        return self.counts.mark_unknown(
            self.devices.values(), network, interface, self.network_table, reason, now, seen_since, may_stay
        )

    def _may_return(self, device: Device, now: float) -> bool:
        """Return whether the budget allows an `online` event of a device after an outage of its network.

        If not, a stranger stays `unknown` until it is seen again: strangers can cause such an outage on purpose.
        """
        return is_resident(device, now) or self.budgets.take(RETURNS, device.interface, now)

    def _restart_silences(self, network: Network, now: float) -> None:
        """Restart the silence of every device of a network that works again: it counts from now."""
        self.outage.hearing_since = now

        def restart(device: Device) -> None:
            if is_on(device, network.id, network.index):
                self._restart_silence(device, now)
                if device.next_check == inf and any(address.foreign for address in device.addresses):
                    self._schedule(device)  # no scan finds it

        self._batches.add(list(self.devices.values()), restart)
