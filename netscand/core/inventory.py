"""The one picture of the LAN: observations and ticks in, events out. Every table is bounded (law 6).

Pure: it is told the time, and returns what changed. Only the engine calls what changes it (law 1).
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from heapq import heappop, heappush
from math import inf
from random import Random

from netscand.core import ourselves
from netscand.core.addresses import SPOKEN, Addresses
from netscand.core.census import GONE, NO_ROOM, Census
from netscand.core.chores import Chores
from netscand.core.doubt import Doubt, Verdict
from netscand.core.hearsay import NEEDS_A_LOOK, believed
from netscand.core.model import (
    Ask,
    Device,
    Event,
    EventKind,
    Evidence,
    Mac,
    Network,
    NetworkState,
    Observation,
    Status,
)
from netscand.core.places import SCANNED, Places, is_on
from netscand.core.presence import Presence, Rules, Step
from netscand.core.recall import take_back
from netscand.core.rulebook import Rulebook
from netscand.core.said import Said
from netscand.core.verdict import lose_sight, set_status
from netscand.core.words import relabel

UNASKABLE = 300.0
"""Seconds after which a device that has no address to be asked at counts as gone, if its patience is not longer."""

JOINING = (Evidence.ARP_PROBE, Evidence.ARP_ANNOUNCEMENT)
"""What hosts say as they come onto a link (RFC 5227)."""


class Inventory:
    """Devices and networks, and what is due for each device."""

    def __init__(self, rules: Rules, rng: Random) -> None:
        self._interfaces: dict[str, int] = {}
        self.devices: dict[Mac, Device] = {}
        self.networks: dict[str, Network] = {}
        """Scanned or not, by id."""
        self.wishes: dict[str, deque[Ask]] = {}
        """Probes and requests that presence wants, for the planner to send under its budget."""
        self.addresses = Addresses(self.networks)
        self.place = Places(self.networks)
        self._rulebook = Rulebook(rules, self.place)
        self.said = Said()
        self._census = Census()
        self.doubt = Doubt(rng)
        self._agenda: list[tuple[float, Mac]] = []
        self._chores = Chores()
        self._recalled: set[str] = set()
        """Networks whose devices were online before this start, until the first word of netlink."""

    # ---- what is heard ------------------------------------------------------------------------------------------

    def observe(self, seen: Observation, network: Network, rtt: float | None = None) -> tuple[Event, ...]:
        """Fold one observation in; return what changed. `rtt`: it answered an ask of ours, after so many seconds."""
        if seen.evidence in NEEDS_A_LOOK:
            worth = believed(seen, network, self.addresses.holder(network.id, seen.ip))
            if worth is None:
                return ()
            seen = worth
        events = self._fold(seen, network, rtt)
        if seen.name or seen.dhcp_server or seen.vendor_class or seen.router is not None:
            server = self.addresses.holder(network.id, seen.dhcp_server)
            events = (*events, *self.said.hear(seen, network, self.devices.get(seen.mac), server))
        return events

    def rename(self, mac: Mac, name: str, source: str, at: float) -> tuple[Event, ...]:
        """Take a name that was asked for, by the order of trust; return what changed."""
        device = self.devices.get(mac)
        event = self.said.naming.give(device, name, source, at) if device is not None else None
        return (event,) if event else ()

    def _fold(self, seen: Observation, network: Network, rtt: float | None) -> tuple[Event, ...]:
        device = self.devices.get(seen.mac)
        if device is None:
            return self._discover(seen, network, rtt)
        if device.is_self:
            return ()
        if self._chores:
            self._chores.first(device)
        if seen.evidence is Evidence.PROXIED:  # keeps an address, not presence (DESIGN section 3)
            return self.addresses.hear(device, seen, network)
        at = seen.at
        if at > device.last_seen:
            device.last_seen = at
        device.interface = seen.interface
        if rtt is not None:
            device.rtt = rtt
        gone = self._confirm(device, at) if rtt is not None and not device.confirmed else ()
        if seen.goodbye:
            device.presence.goodbye(at)
            self._schedule(device)
        else:
            device.presence.heard(at, joined=seen.joining or seen.evidence in JOINING)
        recovered = gone + self._end_doubt(network, seen)
        if device.status is Status.ONLINE:
            odd = self.addresses.hear(device, seen, network, answers=rtt is not None)
            if odd:  # it may be asked elsewhere now, or for the first time
                self._schedule(device)
            return recovered + odd
        event = set_status(device, Status.ONLINE, at, SPOKEN[seen.evidence], network.id, seen)
        self._schedule(device)
        return (*recovered, event, *self.addresses.hear(device, seen, network, answers=rtt is not None))

    def _confirm(self, device: Device, at: float) -> tuple[Event, ...]:
        """It answered us for the first time: count it so, if there is room or somebody makes it."""
        gone = self._make_room(device.interface, at)
        self._census.confirm(device)
        return gone

    def _make_room(self, interface: int, at: float) -> tuple[Event, ...]:
        absent = self._census.to_go(interface)
        return (self.forget(absent, at, GONE),) if absent else ()

    def _discover(self, seen: Observation, network: Network, rtt: float | None) -> tuple[Event, ...]:
        if seen.evidence is Evidence.PROXIED or seen.goodbye:
            return ()
        gone = list(self._make_room(seen.interface, seen.at)) if rtt is not None else []
        if not self._census.admits(seen.interface, seen.at, confirmed=rtt is not None):
            return self._census.flood(seen, network.id)
        device = Device(seen.mac, seen.at, seen.at, Presence(seen.at, self._rulebook.of(network)), status_since=seen.at)
        device.reason = SPOKEN[seen.evidence]
        device.interface = seen.interface
        self.devices[seen.mac] = device
        evicted = None
        if rtt is not None:
            device.rtt = rtt
            self._census.confirm(device)
        else:
            evicted = self._census.add(device)
        odd = self.addresses.hear(device, seen, network, answers=rtt is not None)
        self._schedule(device)
        found = Event(
            EventKind.DISCOVERED, seen.at, network.id, device, seen.ip, None, seen.evidence, device.reason,
            seen_at=seen.at,
        )  # fmt: skip
        recovered = self._end_doubt(network, seen)
        if evicted:
            gone.append(self.forget(evicted, seen.at, NO_ROOM))
        return (*recovered, *gone, found, *odd)

    def forget(self, mac: Mac, now: float, reason: str) -> Event:
        """Strike a device out. Raises KeyError."""
        device = self.devices.pop(mac)
        held = list(device.addresses)
        for address in held:
            self.addresses.drop(device, address)
        device.addresses = held  # told with it
        self._census.remove(device)
        device.agenda = inf
        return Event(EventKind.FORGOTTEN, now, None, device, reason=reason)

    def recall(self, devices: Iterable[Device], interfaces: Mapping[str, int], now: float) -> tuple[Event, ...]:
        """Take back who was known before a restart, before the first `set_networks`. `interfaces`: name → ifindex."""
        known, left_out = take_back(devices, self.addresses, self._census, interfaces, now)
        self.devices.update(known)
        doubted = (device for device in known.values() if device.status is Status.UNKNOWN)
        self._recalled.update(held.network for device in doubted for held in device.addresses)
        return left_out

    def label(self, mac: Mac, wishes: Mapping[str, object], now: float) -> tuple[Event, ...]:
        """Take what the user knows of a device (core/words.py). Raises KeyError."""
        device = self.devices[mac]
        event = relabel(device, wishes, now)
        self._schedule(device)
        return (event,) if event else ()

    # ---- what is due --------------------------------------------------------------------------------------------

    @property
    def next_at(self) -> float:
        """When `tick` next wants to be called."""
        if self._chores:
            return 0.0
        return self._agenda[0][0] if self._agenda else inf

    def tick(self, now: float, limit: int = 128) -> tuple[Event, ...]:
        """Do what is due, at most `limit` at a time: verdicts are returned; asks that presence wants go to `wishes`."""
        if self._chores:  # nobody is judged before
            self._chores.go_on()
            return ()
        events: list[Event] = []
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
                if silence >= max(UNASKABLE, device.presence.patience) and self.place.would_hear(device):
                    events.append(self._lose(device, now, f"silent for {silence:.0f} s, and no address to ask"))
                else:
                    self._schedule(device)
            elif step is Step.OFFLINE:
                events += self._judge(device, where[0], now)
            elif step is Step.NOTHING:
                events += self.addresses.drop_stale(device, now)
                self._schedule(device)
            else:  # off the agenda until the planner has sent it, or found it no longer wanted
                if step is Step.REQUEST:
                    self._ask_the_others(device, where[0], now)
                ip = self.addresses.where_to_ask(device, *where)
                self._wish(Ask(where[0], ip, device.mac if step is Step.PROBE else None, device.mac))
        return tuple(events)

    def _judge(self, device: Device, network: Network, now: float) -> tuple[Event, ...]:
        verdict, at, reason = self.doubt.verdict(network.id, device, now)
        if verdict is Verdict.GONE:
            over = self.doubt.silent(network.id) and any(
                each.status is Status.ONLINE and not each.is_self for each in self.addresses.devices(network.id)
            )
            recovered = self._recover(network, now) if over else ()
            return (*recovered, self._lose(device, now, device.presence.why(now), network.id))
        if verdict is Verdict.NETWORK_SILENT:
            self.place.change(replace(network, state=NetworkState.SILENT))
            self._doubt(network.id, reason, now)
            return (Event(EventKind.NETWORK_SILENT, now, network.id, reason=reason),)
        if at <= now:
            self._ask_the_others(device, network, now)
            at = now + 0.1
        self._push(device, at)
        return ()

    def _lose(self, device: Device, now: float, reason: str, network: str | None = None) -> Event:
        device.agenda = inf
        device.presence.lost(now)
        if device.is_gateway:  # another may hold that address by now
            self.addresses.mark_gateways((device,))
        return set_status(device, Status.OFFLINE, now, reason, network)

    def _ask_the_others(self, device: Device, network: Network, now: float) -> None:
        for witness in self.doubt.suspect(network.id, device, self.addresses.devices(network.id), now):
            where = self.place.where(witness)
            if where is not None:
                self._wish(Ask(where[0], where[1].ip, witness.mac, witness.mac))

    def _wish(self, ask: Ask) -> None:
        self.wishes.setdefault(ask.network.id, deque()).append(ask)

    def _end_doubt(self, network: Network, seen: Observation) -> tuple[Event, ...]:
        """The first answer ends the doubt; each device stays `unknown` until its own verdict."""
        if not self.doubt.silent(network.id) or not self.doubt.ends_by(network.id, seen.mac, seen.at):
            return ()
        return self._recover(network, seen.at)

    def _recover(self, network: Network, now: float) -> tuple[Event, ...]:
        self.doubt.end(network.id, now)
        up = replace(network, state=NetworkState.UP)
        self.place.change(up)
        self._believe(up, now)
        return (Event(EventKind.NETWORK_RECOVERED, now, network.id, reason="heard again"),)

    def wanted(self, ask: Ask, now: float) -> bool:
        """Whether a wish still stands when its turn has come; one that does not is scheduled anew."""
        device = self._meant(ask)
        if device is None:
            return False
        if device.presence.step(now) in (Step.PROBE, Step.REQUEST):
            return True
        if self.doubt.asks(ask.network.id, device.mac):
            return True
        if device.agenda == inf:
            self._schedule(device)
        return False

    def asked(self, ask: Ask, now: float) -> None:
        """Note that an ask really left."""
        device = self._meant(ask)
        if device is not None and not device.is_self:
            device.presence.asked(now, broadcast=ask.mac is None)
            self._schedule(device)

    def give_up(self, asks: Iterable[Ask], now: float) -> None:
        """Note that an interface refused asks, thousands perhaps: try again in a second, and count nothing."""

        def try_again(device: Device) -> None:
            if device.status is not Status.OFFLINE and not device.is_self:
                self._push(device, now + 1.0)

        self._chores.add((device for ask in asks if (device := self._meant(ask)) is not None), try_again)

    def _meant(self, ask: Ask) -> Device | None:
        """Whom an ask is about: not who holds the address by now, but who was asked."""
        mac = ask.of or ask.mac
        return self.devices.get(mac) if mac else self.addresses.holder(ask.network.id, ask.ip)

    def _schedule(self, device: Device) -> None:
        due = inf
        if device.is_self or device.status is Status.OFFLINE:
            pass
        elif self.place.where(device) is not None:
            due = device.presence.next_at
        elif self.place.would_hear(device):
            due = device.presence.since + max(UNASKABLE, device.presence.patience)
        if due == inf:
            device.agenda = inf
        elif due != device.agenda:
            self._push(device, due)

    def _push(self, device: Device, at: float) -> None:
        device.agenda = at
        heappush(self._agenda, (at, device.mac))

    # ---- what netlink says --------------------------------------------------------------------------------------

    def set_networks(self, networks: Iterable[Network], now: float) -> tuple[Event, ...]:
        """Take all networks as they are now; return what changed. Down is doubt about us, not about them (law 8)."""
        before = dict(self.networks)
        self.place.set(
            replace(network, state=NetworkState.SILENT)
            if network.state is NetworkState.UP and self.doubt.silent(network.id)
            else network
            for network in networks
        )
        for network in self.networks.values():
            if network.state in SCANNED:
                self.addresses.open(network.id)
        events: list[Event] = []
        up = {network.id for network in self.networks.values() if network.state in SCANNED}
        # What is gone first: a network with another name is told as the end of one and the start of the other.
        for network_id in sorted(before.keys() | self.networks.keys() | self._recalled, key=lambda name: name in up):
            old, new = before.get(network_id), self.networks.get(network_id)
            was, is_up = old is not None and old.state in SCANNED, network_id in up
            if is_up and not was:
                assert new is not None
                events.append(Event(EventKind.NETWORK_UP, now, new.id, reason=new.why))
                self._believe(new, now)
            elif (was or network_id in self._recalled) and not is_up:
                self.doubt.end(network_id, now)
                reason = new.why if new else "the address or the interface is gone"
                events.append(Event(EventKind.NETWORK_DOWN, now, network_id, reason=reason))
                self._doubt(network_id, reason, now)
            elif old and new and (old.own6, old.spared) != (new.own6, new.spared):
                for device in self.addresses.devices(network_id):
                    self._schedule(device)
        self._recalled.clear()
        self.set_rules(self.rules)
        self._interfaces = {network.id: network.index for network in self.networks.values()}
        ourselves.mark(self.devices, self.networks.values(), self.addresses, self.rules, now)
        self.addresses.mark_gateways(self.devices.values())
        return tuple(events)

    @property
    def rules(self) -> Rules:
        """`[presence]`."""
        return self._rulebook.rules

    def set_rules(self, rules: Rules) -> None:
        """Take `[presence]` and the patience of each `[[network]]`."""
        self._rulebook.rules = rules
        if self._rulebook.changed(self.networks.values()):
            self._chores.add(list(self.devices.values()), self._rulebook.apply)

    def resumed(self, now: float) -> None:
        """We slept, or were stopped: nobody's silence in that time counts."""
        self.doubt.heard_again = now
        self._chores.add(list(self.devices.values()), lambda device: self._excuse(device, now))

    def _excuse(self, device: Device, now: float) -> None:
        silent = device.presence.since < now  # or it was heard since
        if silent and device.status is not Status.OFFLINE and not device.is_self:
            device.presence.excuse(now)
            self._schedule(device)

    def _doubt(self, network: str, reason: str, now: float) -> None:
        lose_sight(self.devices.values(), network, self._interfaces.get(network), self.place, reason, now)

    def _believe(self, network: Network, now: float) -> None:
        """We hear this network again: each device gets its own verdict, its silence counted from now."""
        self.doubt.heard_again = now

        def excuse(device: Device) -> None:
            if is_on(device, network.id, network.index):
                self._excuse(device, now)

        self._chores.add(list(self.devices.values()), excuse)
