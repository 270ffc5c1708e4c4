"""The inventory of devices and networks: observations and ticks in, events out. Every table is bounded (law 6).

Pure: it gets the time as an argument and returns what changed. Only the engine changes it (law 1).
"""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from math import inf
from random import Random

from netscand.core.annotations import annotate, is_annotated, would_annotate
from netscand.core.claims import ClaimTracker
from netscand.core.due import DueChecks
from netscand.core.foreign_addresses import is_known_foreign
from netscand.core.kinds import DeviceKinds
from netscand.core.limits import (
    EVICTED,
    MOST_NEVER_SEEN,
    NO_ROOM,
    AdmissionLimits,
    ContestedAddresses,
    grant_share,
    is_resident,
)
from netscand.core.merged import Merge, taken_out, to_give, to_take_back, why_not_merged
from netscand.core.model import (
    EVIDENCE_TEXT,
    NEVER_SEEN,
    Busy,
    Device,
    Event,
    EventKind,
    Evidence,
    Ip,
    Mac,
    Network,
    NetworkState,
    Observation,
    Status,
    chosen_kind,
    is_link_local,
)
from netscand.core.networks import SCANNED, PresenceRules, addresses_by_interface
from netscand.core.own_devices import OwnDevices
from netscand.core.people import People
from netscand.core.presence import Presence, Rules
from netscand.core.ratelimit import FLAPS
from netscand.core.relayed_names import RelayedNames
from netscand.core.restore import restore_devices
from netscand.core.shared_addresses import MOST_ADDRESSES
from netscand.core.weak_evidence import WEAK_EVIDENCE, filter_weak_evidence

JOINING = (Evidence.ARP_PROBE, Evidence.ARP_ANNOUNCEMENT)
"""Frames that hosts send when they join a link (RFC 5227)."""


def is_unsolicited(seen: Observation) -> bool:
    """Return whether a frame is no answer. A sleeping PC's network card, or a proxy, may send answers, too."""
    return seen.evidence is not Evidence.ARP_REPLY and not seen.solicited


UNSETTLED = 300.0
"""Seconds for which devices stay `unknown` after their network went down too often."""


class Inventory(DueChecks):
    """Devices and networks."""

    def __init__(self, rules: Rules, rng: Random, vendor: Callable[[Mac], str | None] = lambda _: None) -> None:
        super().__init__(rng)
        self.kinds = DeviceKinds(self.budgets, vendor)
        self.addresses.on_gateway = self.kinds.on_gateway
        self._presence_rules = PresenceRules(rules, self.network_table)
        self.claims = ClaimTracker(self.budgets)
        self._limits = AdmissionLimits(self.budgets)
        self._relayed_names = RelayedNames()
        self._own_devices = OwnDevices(self.devices, self.addresses, self.counts, self._batches)
        self.contested = ContestedAddresses(self.budgets, rng)
        self.people = People(self.devices)
        self._restored_networks: set[str] = set()
        """Networks whose devices were online before this start, until the first `set_networks`."""
        self._never_seen: set[Mac] = set()
        """Devices that a user annotated before they were seen."""
        self._unsettled: dict[str, float] = {}
        """Networks that went down too often, and until when their devices stay `unknown`."""

    # ---- observations -------------------------------------------------------------------------------------------

    def observe(self, seen: Observation, network: Network, rtt: float | None = None) -> tuple[Event, ...]:
        """Apply one observation; return what changed. `rtt`: it answers a request of ours, after so many seconds."""
        if self.merged and seen.merged_mac is None:
            seen = self.merged.apply(seen)
        if self.shared_lans:
            joined, network = self._on_shared_lan(seen, network, rtt)
            if joined:
                return (*joined, *self.observe(seen, network, rtt))
        if seen.lease is not None and (assigned := self.devices.get(seen.mac)) is not None:
            assigned.lease = seen.lease  # also by the acknowledgement of a server, which proves no presence
        if seen.evidence is Evidence.NEIGHBOUR:
            self._probe(seen, network)
            return ()
        if seen.evidence in WEAK_EVIDENCE and not is_known_foreign(self.devices.get(seen.mac), network.id, seen.ip):
            worth = filter_weak_evidence(seen, network, self.addresses.holder(network.id, seen.ip))
            if worth is None:
                return ()
            seen = worth
        if rtt is not None and seen.via is not None and seen.evidence is Evidence.PROXIED:
            # The answer of a virtual router or a cluster, which any station may carry (core/shared_addresses.py).
            self.addresses.shared.note_carrier(seen.mac, seen.via)
            seen = seen._replace(evidence=Evidence.ARP_REPLY, via=None)
        if seen.evidence is Evidence.PROXIED:
            self._relayed_names.note(seen, network)
        events = self._fold(seen, network, rtt)
        if self._relayed_names and seen.ip is not None and (named := self.devices.get(seen.mac)) is not None:
            self._relayed_names.apply(named, network, seen.ip)
        if network.expected_gateway and seen.ip is not None and seen.ip == network.gateway:
            device = self.devices.get(seen.mac)
            events = (*events, *self.claims.unexpected.gateway(network, device, seen.mac, seen.evidence, seen.at))
        for event in events:
            self.claims.disputes.note(event)
        if seen.name or seen.dhcp_server or seen.vendor_class or seen.client_id or seen.router is not None:
            server = self.addresses.holder(network.id, seen.dhcp_server)
            device = self.devices.get(seen.mac)
            events = (*events, *self.claims.observe(seen, network, device, server))
            if seen.router is not None and device is not None:
                self.addresses.guards.update_router(device)
        if events or seen.services or seen.vendor_class or seen.parameters:
            events = (*events, *self._update_kind(seen, network, events))
        return events

    def _update_kind(self, seen: Observation, network: Network, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Take the evidence of an observation for the kind of its device; return what changed by it and its events."""
        device = self.devices.get(seen.mac)
        if device is None or device.is_self:
            return ()
        changed = seen.evidence is not Evidence.PROXIED and self.kinds.note(device, seen)
        mine = [event.kind for event in events if event.device is device]
        is_new = EventKind.DISCOVERED in mine
        if not (changed or is_new or EventKind.RENAMED in mine or device.mac in self.kinds.due):
            return ()
        event = self.kinds.update(device, seen.at, is_new=is_new)
        if event is None:
            return ()
        return (event._replace(network=network.id, address=seen.ip, evidence=seen.evidence, seen_at=seen.at),)

    def _on_shared_lan(self, seen: Observation, network: Network, rtt: float | None) -> tuple[list[Event], Network]:
        """Return the network that an observation belongs to, and the events if it proves two networks one LAN."""
        device, joins = self.devices.get(seen.mac), None
        if device is not None and device.is_self and seen.target is not None:
            joins = self.shared_lans.record_echo(seen)
        elif device is not None and rtt is not None:
            joins = self.shared_lans.record_answer(seen, network, device)
        events = self._join_lans(joins)
        return events, self.networks[self.shared_lans.where(seen, network, device)]

    def tick(self, now: float, limit: int = 128) -> tuple[Event, ...]:
        """Run the checks that are due, at most `limit`; return the events."""
        events = super().tick(now, limit)
        if self.kinds.due:
            events = (*events, *self._update_due_kinds(now))
        for event in events:
            self.claims.disputes.note(event)
        return events

    def _update_due_kinds(self, now: float) -> list[Event]:
        """Update the kinds of devices whose mark as a gateway changed."""
        due = [self.devices[mac] for mac in tuple(self.kinds.due) if mac in self.devices]
        self.kinds.due.clear()
        return [event for device in due if (event := self.kinds.update(device, now)) is not None]

    def rename(self, mac: Mac, name: str, source: str, at: float) -> tuple[Event, ...]:
        """Set a name that was looked up, if its source is trusted enough; return what changed."""
        device = self.devices.get(mac)
        if device is None:
            return ()
        names = device.hostname, device.other_names
        event = self.claims.host_names.assign(device, name, source, at)
        kind = self.kinds.update(device, at) if (device.hostname, device.other_names) != names else None
        return tuple(each for each in (event, kind) if each is not None)

    def set_name_sources(
        self, sources: Iterable[str], now: float, then: Callable[[Device], None] = lambda _: None
    ) -> tuple[Event, ...]:
        """Set the sources of names, most trusted first; return what changed. `then` is called with each device."""
        names = self.claims.host_names
        names.sources = tuple(dict.fromkeys(sources))

        def reassign(device: Device) -> Event | None:
            event = names.reassign(device, now)
            then(device)
            return event

        return tuple(self._batches.add(list(self.devices.values()), reassign))

    def query_address(self, mac: Mac, network: str, now: float, *, by_dns: bool) -> Ip | None:
        """Return the address to look a device's name up at: IPv4 if it has any, the latest; None: none.

        Over IPv6, an mDNS responder answers from its link-local address, so that one is preferred.

        A name server is only asked about addresses in this host's own prefixes: otherwise a device that claims an
        address could choose the server that gets the query. Any host can advertise a prefix, and so choose one for all
        devices: a device with an IPv4 address is not looked up by IPv6.
        """
        device, where = self.devices.get(mac), self.networks.get(network)
        if device is None or where is None:
            return None
        no_ipv6 = by_dns and any(len(each.ip) == 4 for each in device.addresses)
        candidates = (
            each
            for each in device.addresses
            if each.network == network
            and not where.excludes(each.ip)
            and each.mac is None
            and (where.is_ours(each.ip) or not by_dns)
            and not (no_ipv6 and len(each.ip) == 16)
            and self.may_take_name(mac, network, each.ip, now, by_dns=by_dns)
        )
        best = max(
            candidates, key=lambda each: (len(each.ip) == 4, is_link_local(each.ip), each.last_seen), default=None
        )
        return best.ip if best else None

    def may_take_name(self, mac: Mac, network: str, ip: Ip, now: float, *, by_dns: bool) -> bool:
        """Return whether a name found at an address belongs to a device: it holds the address, undisputed."""
        device = self.devices.get(mac)
        if device is None or self.addresses.holder(network, ip) is not device:
            return False
        if (network, ip) in self.addresses.disputes.open and not is_resident(device, now):
            return False
        return self.claims.disputes.allow(device, network, ip, now, by_dns=by_dns)

    def _fold(self, seen: Observation, network: Network, rtt: float | None) -> tuple[Event, ...]:
        device = self.devices.get(seen.mac)
        if device is None or device.never_seen:
            return self._discover(seen, network, rtt, device)
        if device.is_self:  # another station uses our own MAC
            return () if seen.ip in network.ours else self.addresses.report_claim(seen, network, device)
        if self._batches and (first := self._batches.apply_pending(device)):
            return (*first, *self._fold(seen, network, rtt))
        if seen.evidence is Evidence.PROXIED:  # refreshes an address, not presence
            if seen.joining:
                self._probe(seen, network)
            return self.addresses.observe(device, seen, network)
        at = seen.at
        if at > device.last_seen:
            device.last_seen = at
        device.interface = seen.interface
        if is_unsolicited(seen):
            device.last_unsolicited = at
        if rtt is not None:
            device.rtt = rtt
        evicted_events = self._confirm(device, at) if rtt is not None and not device.confirmed else ()
        if seen.goodbye:
            device.presence.goodbye(at)
            if seen.evidence is Evidence.DHCP:
                self.addresses.disputes.record_release(device.mac, at)
            self._schedule(device)
        else:
            joined, unprobed = seen.joining or seen.evidence in JOINING, device.mac in network.children
            device.presence.record_activity(at, joined=joined, unprobed=unprobed)
        recovered = evicted_events + (self._end_outage(network, seen) if self.outage.silent(network.id) else ())
        is_unknown = device.status is Status.UNKNOWN
        if device.status is Status.ONLINE or (is_unknown and self._stays_unknown(device, network, at)):
            disputed = self.addresses.observe(device, seen, network, answers=rtt is not None)
            if disputed:  # its probe target may have changed
                self._schedule(device)
            return recovered + disputed
        event = self.counts.publish_change(device, Status.ONLINE, at, EVIDENCE_TEXT[seen.evidence], network.id, seen)
        self._schedule(device)
        return (*recovered, event, *self.addresses.observe(device, seen, network, answers=rtt is not None))

    def _stays_unknown(self, device: Device, network: Network, at: float) -> bool:
        """Return whether a device that is seen again stays `unknown`, because other hosts can cause many returns."""
        if at < self._unsettled.get(network.id, -inf):
            self.budgets.refuse(FLAPS, at, 0)
            return True
        return self.outage.outage_began_at(device.status_since) and not self._may_return(device, at)

    def _confirm(self, device: Device, at: float) -> tuple[Event, ...]:
        """Count a device as confirmed at its first answer, if there is room or another one can be evicted."""
        absent = self._limits.eviction_candidate(device.interface, at)
        evicted_events = (self.forget(absent, at, EVICTED),) if absent else ()
        self._limits.confirm(device)
        return evicted_events

    def _discover(
        self, seen: Observation, network: Network, rtt: float | None, annotated: Device | None
    ) -> tuple[Event, ...]:
        """Enter a new device. `annotated`: its entry until now, if a user annotated it before it was seen."""
        if seen.evidence is Evidence.PROXIED:
            if seen.joining:
                self._probe(seen, network)
            return self.addresses.report_claim(seen, network, None)
        if seen.goodbye:
            return ()
        answers, absent = rtt is not None, None
        has_room = answers and self._limits.has_room(seen.interface)
        if answers and not has_room:
            absent = self._limits.eviction_candidate(seen.interface, seen.at)
            has_room = absent is not None
        urgent = self.addresses.is_urgent(seen, network)
        if (
            annotated is None
            and not urgent
            and not self._limits.admit(seen, confirmed=answers, has_room=has_room)
            and not (has_room and self.contested.may_enter(network.id, seen.ip, seen.mac, seen.at))
        ):
            self.contested.add(network.id, seen.ip)
            self._probe(seen, network)
            return (*self.addresses.report_claim(seen, network, None), *self._limits.flood(seen, network.id))
        evicted_events = [self.forget(absent, seen.at, EVICTED)] if absent else []
        device = Device(
            seen.mac, seen.at, seen.at, Presence(seen.at, self._presence_rules.of(network)), status_since=seen.at
        )
        device.reason = EVIDENCE_TEXT[seen.evidence]
        device.interface = seen.interface
        previous = self._take_annotations(annotated, device) if annotated is not None else None
        grant_share(self.budgets, device, seen.at)
        self.devices[seen.mac] = device
        evicted = None
        device.rtt = rtt
        if is_unsolicited(seen):
            device.last_unsolicited = seen.at
        if has_room:
            self._limits.confirm(device)
        else:
            evicted = self._limits.add(device)
        is_free = self.addresses.take_free(device, seen, network, answers=answers)
        disputed = () if is_free else self.addresses.observe(device, seen, network, answers=answers)
        self.counts.add(device)
        self._schedule(device)
        found = Event(
            EventKind.DISCOVERED, seen.at, network.id, device, seen.ip, None, seen.evidence, device.reason,
            previous, seen.at,
        )  # fmt: skip
        recovered = self._end_outage(network, seen) if self.outage.silent(network.id) else ()
        if evicted:
            evicted_events.append(self.forget(evicted, seen.at, NO_ROOM))
        return (*recovered, *evicted_events, found, *disputed)

    def _take_annotations(self, annotated: Device, device: Device) -> Mapping[str, object]:
        """Give a new device the annotations that it got before it was seen; return what they change."""
        self._limits.remove(annotated)
        self.counts.remove(annotated)
        self._never_seen.discard(device.mac)
        device.label, device.known, device.notes = annotated.label, annotated.known, annotated.notes
        device.tags, device.has_person = annotated.tags, annotated.has_person
        device.not_same_as = annotated.not_same_as
        device.presence.chosen = annotated.presence.chosen
        device.kind = annotated.kind
        return {
            "status": annotated.status, "status_since": annotated.status_since, "reason": annotated.reason,
            "patience": annotated.presence.patience, "first_seen": annotated.first_seen,
            "last_seen": annotated.last_seen, "ip": None, "addresses": [], "kinds": ["never_seen"],
        }  # fmt: skip

    def forget(self, mac: Mac, now: float, reason: str) -> Event:
        """Delete a device. Raises KeyError."""
        device = self.devices.pop(mac)
        self.counts.remove(device)
        self._never_seen.discard(mac)
        self._batches.apply_pending(device)  # nothing is published of it afterwards
        addresses = list(device.addresses)
        for address in addresses:
            self.addresses.drop(device, address)
        device.addresses = addresses  # published with the event
        self._limits.remove(device)
        self.kinds.forget(mac)
        self.addresses.disputes.forget(device)
        self.addresses.conflicts.end(mac)
        device.next_check, device.is_router = inf, False
        self.merged.forget(mac)
        self.addresses.guards.update_router(device)
        return Event(EventKind.FORGOTTEN, now, None, device, reason=reason)

    def restore(self, devices: Iterable[Device], interfaces: Mapping[str, int], now: float) -> tuple[Event, ...]:
        """Restore the devices of before a restart; call it before `set_networks`. `interfaces`: name → ifindex."""
        known, left_out = restore_devices(devices, self.addresses, self._limits, interfaces, now)
        self.devices.update(known)
        self._never_seen.update(device.mac for device in known.values() if device.never_seen)
        for device in known.values():
            self.counts.add(device)
            if device.is_self:
                self._own_devices.mine.add(device.mac)
            for address in device.addresses:
                if self.addresses.holder(address.network, address.ip) is not device:
                    self.claims.disputes.add(address.network, address.ip, None, now)
        strangers = [device for device in known.values() if not is_resident(device, now) and not device.is_self]
        for device in sorted(strangers, key=lambda device: device.first_seen):
            grant_share(self.budgets, device, now)
        # By the rules of this version, which may know more than those of an earlier one.
        left_out += tuple(self._batches.add(list(known.values()), lambda device: self.kinds.update(device, now)))
        unknown = (device for device in known.values() if device.status is Status.UNKNOWN and not device.is_self)
        self._restored_networks.update(address.network for device in unknown for address in device.addresses)
        return left_out

    def label(self, mac: Mac, changes: Mapping[str, object], now: float) -> tuple[Event, ...]:
        """Set a user's annotations of a device (core/annotations.py); return what changed.

        The device need not have been seen. Raises KeyError if there is nothing to annotate: the MAC is none that a
        device can have, or `changes` only remove annotations; Busy if too many devices were annotated and never seen.
        """
        device = self.devices.get(mac)
        if device is None:
            device = self._add_never_seen(mac, changes, now)
        event = annotate(device, changes, now, self.kinds.of(device) if "kind" in changes else None)
        self._schedule(device)
        return (event,) if event else ()

    def _add_never_seen(self, mac: Mac, changes: Mapping[str, object], now: float) -> Device:
        if mac[0] & 1 or not any(mac) or not would_annotate(changes):
            raise KeyError(mac)
        if len(self._never_seen) >= MOST_NEVER_SEEN:
            raise Busy(f"{MOST_NEVER_SEEN:,} devices were annotated and never seen; forget some of them first")
        device = Device(mac, now, now, Presence(now, self.rules), Status.UNKNOWN, now, NEVER_SEEN)
        self._never_seen.add(mac)
        self.devices[mac] = device
        self.counts.add(device)
        return device

    def merge(self, mac: Mac, other: Mac, now: float) -> list[Event]:
        """Merge a device into another one; return the events: it is forgotten, and the other one has its MAC.

        Raises KeyError for a MAC that is no device, ValueError for a device that cannot be merged, Busy at a limit.
        """
        into, gone = self.devices[mac], self.devices[other]
        for device in (into, gone):
            if why := why_not_merged(device):
                raise ValueError(f"{device.mac.hex(':')} {why}, and cannot be merged")
        if into is gone:
            raise ValueError(f"{mac.hex(':')} cannot be merged into itself")
        self.merged.check_room(into, 1 + len(gone.merged))
        before: dict[str, object] = {
            "addresses": tuple(into.addresses), "ip": into.ip, "merged_macs": into.merged,
            "first_seen": into.first_seen, "last_seen": into.last_seen,
        }  # fmt: skip
        given, status = to_give(gone, into), gone.status
        people = {
            person.name.casefold(): (person.devices[other], mac not in person.devices)
            for person in self.people.of(other)
        }  # fmt: skip
        own_first_seen = next((each.own_first_seen for each in self.merged.all() if each.into == mac), into.first_seen)
        of_gone = [each for each in self.merged.all() if each.into == other]
        events = [self.forget(other, now, f"merged into {mac.hex(':')}")]
        its_first = next((each.own_first_seen for each in of_gone if each.own_first_seen), gone.first_seen)
        self.merged.add(Merge(replace(gone, first_seen=its_first, merged=()), mac, own_first_seen, given, people))
        for each in of_gone:  # `forget` removed them; what they gave is that of `other` now
            self.merged.add(Merge(each.device, mac, own_first_seen))
        into.merged = self.merged.of(mac)
        for address in gone.addresses:
            if into.address_at(address.network, address.ip) is None and len(into.addresses) < MOST_ADDRESSES:
                self.addresses.put_back(into, replace(address, mac=address.mac or other))
        self.counts.place(into)
        into.first_seen, into.last_seen = min(into.first_seen, gone.first_seen), max(into.last_seen, gone.last_seen)
        if into.hostname is None:
            into.hostname, into.hostname_source = gone.hostname, gone.hostname_source
            self.kinds.update(into, now, is_new=True)  # `merged` shows it
        if (labelled := annotate(into, given | {"tags": tuple(sorted({*gone.tags, *into.tags}))}, now)) is not None:
            before |= dict(labelled.previous or {})
        if status is Status.ONLINE is not into.status:
            before |= {"status": into.status, "status_since": into.status_since, "reason": into.reason}
            into.presence.record_activity(gone.last_seen)
            self.counts.change(into, Status.ONLINE, now, gone.reason)
        if gone.confirmed and not into.confirmed:
            self._limits.confirm(into)
        self._schedule(into)
        events += self.people.move(other, mac, now)
        reason = f"{other.hex(':')} was merged into it by a user"
        return [*events, Event(EventKind.MERGED, now, None, into, None, other, reason=reason, previous=before)]

    def split(self, other: Mac, now: float) -> list[Event]:
        """Undo the merge of a MAC: its device is back, with all that was known of it then. Raises KeyError.

        What it got from the other one since, such as a new address, is added.
        """
        merge = self.merged.remove(other)
        into = self.devices[merge.into]
        before: dict[str, object] = {
            "addresses": tuple(into.addresses), "ip": into.ip, "merged_macs": into.merged,
            "first_seen": into.first_seen,
        }  # fmt: skip
        name = merge.device.hostname, merge.device.hostname_source
        if "hostname" in merge.given and (into.hostname, into.hostname_source) == name:
            before |= {"hostname": into.hostname, "hostname_source": into.hostname_source}
            into.hostname = into.hostname_source = None
        if (labelled := annotate(into, to_take_back(merge, into), now, self.kinds.of(into))) is not None:
            before |= dict(labelled.previous or {})
        kind = into.kind
        self.kinds.update(into, now, is_new=True)  # `split` shows it
        if kind != into.kind:
            before = dict(zip(("kind", "kind_reason"), kind or (None, None), strict=True)) | before
        into.merged = self.merged.of(merge.into)
        if merge.own_first_seen is not None:
            rest = (each.device.first_seen for each in self.merged.all() if each.into == merge.into)
            into.first_seen = min((merge.own_first_seen, *rest))
        its = [address for address in into.addresses if address.mac == other]
        device = taken_out(merge, into, now, max((address.last_seen for address in its), default=None))
        self.devices[other] = device
        self.counts.add(device)
        for address in its:
            self.addresses.drop(into, address)
            self.addresses.put_back(device, replace(address, mac=None))
        for address in merge.device.addresses:
            if len(device.addresses) < MOST_ADDRESSES and self._is_free(address.network, address.ip, device):
                self.addresses.put_back(device, replace(address))
        self.counts.place(device)
        device.kind = device.kind if chosen_kind(device) is not None else self.kinds.of(device)
        if device.confirmed or any(address.answered > -inf for address in its) or is_annotated(device):
            self._limits.confirm(device)
            evicted = None
        else:
            evicted = self._limits.add(device)
        for each in (into, device):
            self._schedule(each)
        events = [
            Event(EventKind.SPLIT, now, None, into, None, other,
                  reason=f"{other.hex(':')} was separated from it by a user", previous=before),
            Event(EventKind.SPLIT, now, None, device, None, merge.into, reason=device.reason),
            *self.people.split(merge, now),
        ]  # fmt: skip
        return events + ([self.forget(evicted, now, NO_ROOM)] if evicted else [])

    def _is_free(self, network_id: str, ip: Ip, device: Device) -> bool:
        """Return whether neither a device nor this host has an address."""
        network = self.networks.get(network_id)
        if network is not None and ip in network.ours:
            return False
        return self.addresses.holder(network_id, ip) is None and device.address_at(network_id, ip) is None

    # ---- networks -----------------------------------------------------------------------------------------------

    def set_networks(self, networks: Iterable[Network], now: float, macs: Set[Mac] | None = None) -> tuple[Event, ...]:
        """Set all networks; return what changed. A network that is down makes its devices `unknown` (law 8).

        `macs`: those of all interfaces of this host; None: those of the networks.
        """
        before = dict(self.networks)
        stand_ins = {network_id: self.shared_lans.stand_ins(network_id) for network_id in before}
        given = self.shared_lans.open(networks, now)
        self.network_table.set(
            replace(network, state=NetworkState.SILENT)
            if network.state is NetworkState.UP and self.outage.silent(network.id)
            else network
            for network in given
        )
        self.addresses.open(network for network in self.networks.values() if network.state in SCANNED)
        events: list[Event] = []
        self._unsettled = {name: until for name, until in self._unsettled.items() if until > now}
        up = {network.id for network in self.networks.values() if network.state in SCANNED}
        # Networks that went down first: a renamed network is published as the end of one and the start of another.
        for network_id in sorted(
            before.keys() | self.networks.keys() | self._restored_networks, key=lambda name: name in up
        ):
            old, new = before.get(network_id), self.networks.get(network_id)
            was, is_up = old is not None and old.state in SCANNED, network_id in up
            if is_up and not was:
                assert new is not None
                events.append(Event(EventKind.NETWORK_UP, now, new.id, reason=new.why))
                self._restart_silences(new, now)
            elif (was or network_id in self._restored_networks) and not is_up:
                self.outage.end(network_id, now)
                reason = new.why if new else "the address or the interface is gone"
                if was and not self.budgets.take(FLAPS, network_id, now):
                    self._unsettled[network_id] = now + UNSETTLED
                events.append(Event(EventKind.NETWORK_DOWN, now, network_id, reason=reason))
                if to := next((each for each in stand_ins.get(network_id, ()) if each in up), None):
                    events += self._hand_over(network_id, to, reason, now, settled=network_id not in self._unsettled)
                self._suspect_outage(network_id, reason, now)
            elif old and new and (old.own6, old.excluded, old.children) != (new.own6, new.excluded, new.children):
                for device in self.addresses.devices(network_id):
                    self._schedule(device)
        self._restored_networks.clear()
        self.set_rules(self.rules)
        self._interfaces = {network.id: network.index for network in self.networks.values()}
        self.budgets.addresses = addresses_by_interface(self.networks.values())
        macs = {network.mac for network in given} if macs is None else macs
        for merge in [each for each in self.merged.all() if not macs.isdisjoint((each.mac, each.into))]:
            events += self.split(merge.mac, now)  # an adapter is at this host now
        ours, retired = self._own_devices.update(self.networks.values(), macs, self.rules, now)
        self._never_seen = {mac for mac in self._never_seen if self.devices[mac].never_seen}  # some are this host now
        evicted = [mac for device in retired if (mac := self._limits.add(device)) is not None]
        events += [*ours, *(self.forget(mac, now, NO_ROOM) for mac in evicted)]
        self.addresses.mark_gateways()
        return (*events, *self.claims.unexpected.follow(before, self.networks, self.addresses.holder, now))

    @property
    def rules(self) -> Rules:
        """`[presence]`."""
        return self._presence_rules.rules

    def set_rules(self, rules: Rules) -> None:
        """Set the rules of `[presence]` and of each `[[network]]`."""
        self._presence_rules.rules = rules
        if self._presence_rules.changed(self.networks.values()):
            self._batches.add(list(self.devices.values()), self._presence_rules.apply)

    def on_resume(self, now: float) -> None:
        """Restart every device's silence after a suspend or stop of this process: it proves no absence."""
        self.outage.hearing_since = now
        self._batches.add(list(self.devices.values()), lambda device: self._restart_silence(device, now))
