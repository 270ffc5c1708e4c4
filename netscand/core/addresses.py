"""Bindings of addresses to devices, and detection of proxies."""

from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import ip_address
from itertools import islice
from math import inf

from netscand.core.conflicts import Conflicts
from netscand.core.disputes import APART, APART_UNCHANGED, Dispute, DisputeReports, Disputes, Guard, Guards, Question
from netscand.core.foreign_addresses import is_outside, may_have_foreign, to_replace
from netscand.core.limits import is_resident, may_change
from netscand.core.model import (
    EVIDENCE_TEXT,
    Address,
    Device,
    Event,
    EventKind,
    Evidence,
    Ip,
    Mac,
    Network,
    Observation,
    Status,
)
from netscand.core.presence import NEW_PATIENCE
from netscand.core.ranges import Runs, spans
from netscand.core.ratelimit import ADDRESSES, Budgets
from netscand.core.relayed_names import MANY
from netscand.core.shared_addresses import MOST_ADDRESSES, OwnClaims, Proxies, SharedHosts, give_ips, is_proxied
from netscand.core.stale_addresses import STALE, choose_main, is_temporary_address, keep_main, rank_to_keep, stale
from netscand.core.status import StatusCounts, is_online

# ---- addresses -----------------------------------------------------------------------------------------------------
# The device that holds each address of each network; conflicts, moves and other events about that.

FEW = 8
"""Maximum addresses of a device that never answered (made-up devices stay cheap), or that answers for others."""

CONFLICT_WITHIN = 60.0
"""Seconds after which a guarded address that a silent device held has moved, and no longer is in conflict."""

ASLEEP = NEW_PATIENCE
"""Patience in seconds above which a silent device that is online may be asleep: its address moves only to a claimant
that answers there."""

ANNOUNCES = frozenset([Evidence.ARP_ANNOUNCEMENT, Evidence.DHCP])
"""Evidence of a device that announces its address to all others: it becomes its `ip`."""

MOST_NAMED = 4
"""Maximum addresses in a reason."""

NO_ADDRESS: Mapping[str, object] = {"ip": None, "addresses": ()}


class Addresses:
    """The addresses of every scanned network, and the devices that hold them."""

    def __init__(self, networks: Mapping[str, Network], budgets: Budgets, counts: StatusCounts) -> None:
        self.networks = networks
        """All networks by id, shared with the inventory."""
        self._holders: dict[str, dict[Ip, Device]] = {}
        self._gateways: dict[Mac, Device] = {}
        """Devices that were marked as gateways."""
        self.on_gateway: Callable[[Device, bool], None] = lambda *_: None  # called before a device is marked, or not
        self._counts = counts
        self.guards = Guards()
        self._budgets = budgets
        self._claims = DisputeReports(budgets)
        self.disputes = Disputes(budgets)
        self.own_claims = OwnClaims()
        self.conflicts = Conflicts()
        self.shared = SharedHosts()
        self._proxies = Proxies()

    def open(self, networks: Iterable[Network]) -> None:
        """Set the scanned networks."""
        scanned = list(networks)
        for network in scanned:
            holders = self._holders.setdefault(network.id, {})
            ours = network.ours  # another device may have been seen there before this host got the address
            fewer, more = (holders, ours) if len(holders) < len(ours) else (ours, holders)
            for ip in [ip for ip in fewer if ip in more and not holders[ip].is_self]:
                del holders[ip]
        self.guards.open(scanned)

    def holder(self, network: str, ip: Ip | None) -> Device | None:
        """Return the device last seen at an address."""
        holders = self._holders.get(network)
        return holders.get(ip) if holders is not None and ip is not None else None

    def devices(self, network: str) -> Collection[Device]:
        """Return the holders of all addresses of a network; a device with several addresses appears several times."""
        return self._holders.get(network, {}).values()

    def count(self, network: str) -> int:
        """Return the number of addresses of a network where a device was seen, of both families."""
        return len(self._holders.get(network, ()))

    def seen_at(self, network: Network, start: int, most: int) -> Runs:
        """Return the offsets of `most` scannable addresses where a device was seen, beginning with number `start`."""
        first, ours = int(network.cidr.network_address), network.ours
        some = islice(self._holders.get(network.id, ()), start, start + most)
        found = (int.from_bytes(ip) - first for ip in some if len(ip) == 4 and ip not in ours)
        return Runs.united(range(each, each + 1) for each in found).clipped(spans(network.cidr, network.excluded))

    def mark_gateways(self, devices: Iterable[Device] | None = None) -> None:
        """Mark as gateways those `devices`, by default all, that hold a gateway's address."""
        for device in tuple(self._gateways.values()) if devices is None else devices:
            self._mark_gateway(device, False)
        for network in self.networks.values():
            holder = self.holder(network.id, network.gateway)
            if holder is not None:
                self._mark_gateway(holder, True)

    def _mark_gateway(self, device: Device, is_gateway: bool) -> None:
        self.on_gateway(device, is_gateway)
        device.is_gateway = is_gateway
        if is_gateway:
            self._gateways[device.mac] = device
        else:
            self._gateways.pop(device.mac, None)

    def put(self, device: Device, address: Address) -> None:
        """Bind an address to a device, without an event."""
        self.attach(device, address)
        self._holders.setdefault(address.network, {})[address.ip] = device

    def attach(self, device: Device, address: Address) -> None:
        """Add an address to a device that does not hold it."""
        device.addresses.append(address)
        self._counts.place(device)

    def put_back(self, device: Device, address: Address) -> None:
        """Bind an address from before a restart: of several devices that have it, the one seen last holds it."""
        device.addresses.append(address)
        address.foreign = is_outside(address.network, address.ip)
        if address.foreign:
            return
        holders = self._holders.setdefault(address.network, {})
        if holders.setdefault(address.ip, device).last_seen <= device.last_seen:
            holders[address.ip] = device

    def drop(self, device: Device, address: Address) -> None:
        """Delete the binding of an address to a device."""
        device.addresses.remove(address)
        self._counts.place(device)
        choose_main(device)
        holders = self._holders.get(address.network, {})
        if holders.get(address.ip) is device:
            del holders[address.ip]

    def replace(self, device: Device, addresses: Collection[Address]) -> None:
        """Bind these addresses to a device instead of all that it has, without an event."""
        for old in device.addresses:
            holders = self._holders.get(old.network, {})
            if holders.get(old.ip) is device:
                del holders[old.ip]
        device.addresses[:] = addresses
        for new in addresses:
            self._holders.setdefault(new.network, {})[new.ip] = device
        self._counts.place(device)
        choose_main(device)

    # ---- observations -------------------------------------------------------------------------------------------

    def observe(
        self, device: Device, seen: Observation, network: Network, *, answers: bool = False
    ) -> tuple[Event, ...]:
        """Note the address at which a device was seen; return what changed. `answers`: it answered a request."""
        ip = seen.ip
        if ip is None:
            return ()
        if len(device.addresses) == 1 and not (
            device.is_proxy or seen.evidence is Evidence.PROXIED or self.disputes.open
        ):
            only = device.addresses[0]
            if only.ip == ip and only.network == network.id and self.holder(network.id, ip) is device:  # nearly always
                if seen.at > only.last_seen:
                    only.evidence, only.last_seen, only.mac = seen.evidence, seen.at, seen.merged_mac
                if answers:
                    only.answered = seen.at
                return ()
        disputed = self._observe(device, seen, ip, network)
        if answers:
            address = device.address_at(network.id, ip)
            if address is not None:
                address.answered = seen.at
            elif len(ip) == 4:
                self._proxies.answered(device, ip, seen.at)
        return disputed

    def take_free(self, device: Device, seen: Observation, network: Network, *, answers: bool) -> bool:
        """Give a new device, not counted yet, its IPv4 address, if no device holds it; return False in other cases."""
        ip, holders = seen.ip, self._holders.get(network.id)
        if ip is None or holders is None or ip in holders or len(ip) != 4 or network.is_outside(ip):
            return False
        if seen.evidence is Evidence.PROXIED or seen.via or self.disputes.open or self.guards.at(network, ip):
            return False
        address = Address(ip, network.id, network.interface, seen.evidence, seen.at, seen.at)
        address.main_since, address.mac = seen.at, seen.merged_mac
        address.answered = seen.at if answers else -inf
        device.addresses = [address]  # smaller than a list that grows
        holders[ip] = device
        return True

    def report_claim(self, seen: Observation, network: Network, device: Device | None) -> tuple[Event, ...]:
        """Publish a claim to an address that the claimant does not get.

        These are claims that another station makes for `seen.mac`, claims of a proxy to an address that a device
        holds, and any claim to this host's own address. `device`: the one with that MAC, if it is known.
        """
        ip = seen.ip
        if ip is None:
            return ()
        guard, holder = self._guarded_holder(seen, network, ip)
        if holder is None:
            guard, holder = None, self._holder_at(seen, network, ip, device)
        apart = APART if guard is not None else APART_UNCHANGED
        if holder is not None and holder.is_self:
            self._note_own_claim(seen, ip, network, device)
        if holder is None or not self._claims.publish(
            network, ip, seen.mac, holder, seen.at, guard=guard, in_conflict=True, apart=apart
        ):
            return ()
        kind = EventKind.GATEWAY_CHANGED if ip == network.gateway else EventKind.ADDRESS_CONFLICT
        owner = "this host's own address" if holder.is_self else f"the address of {holder.mac.hex(':')}"
        claim = EVIDENCE_TEXT[seen.evidence]
        if seen.via is not None:
            claim = f"{seen.via.hex(':')} claims it for {seen.mac.hex(':')}"
        elif device is None:
            claim = f"{claim} as {seen.mac.hex(':')}"
        reason = f"{claim}; it is {owner}{self._claims.suppressed_text(network, ip)}"
        return (Event(kind, seen.at, network.id, device, ip, holder.mac, seen.evidence, reason, None, seen.at),)

    def _note_own_claim(self, seen: Observation, ip: Ip, network: Network, device: Device | None) -> None:
        """Note a claim to this host's own address. A claimant without another address is probed there."""
        self.own_claims.note(network, ip, seen.mac, seen.at)
        if seen.evidence is not Evidence.PROXIED and device is not None and not device.addresses and ip != network.own6:
            device.lost = Address(ip, network.id, network.interface, seen.evidence, seen.at, seen.at)

    def _holder_at(self, seen: Observation, network: Network, ip: Ip, claimant: Device | None) -> Device | None:
        """Return the online device that holds an address claimed for another MAC, if it is trusted enough.

        It must have answered us. If the claimant is unknown and speaks for itself (it may be one of thousands of
        made-up MACs), the holder must be a resident. A lease that a DHCP server grants is no claim.
        """
        old, is_lease = self.holder(network.id, ip), seen.joining and seen.evidence is Evidence.PROXIED
        if old is None or old.mac == seen.mac or is_lease or is_proxied(old, ip):
            return None
        counts = is_resident(old, seen.at) or (old.confirmed and (claimant is not None or seen.via is not None))
        return old if counts and is_online(old, seen.at) else None

    def is_urgent(self, seen: Observation, network: Network) -> bool:
        """Return whether an observation claims a guarded address for another MAC; such a claim is published at once."""
        if seen.ip is None or self.guards.at(network, seen.ip) is None:
            return False
        guard, holder = self._guarded_holder(seen, network, seen.ip)
        if guard is None or holder is None:
            return False
        return self._claims.would_publish(network, seen.ip, seen.mac, seen.at, guard)

    def _guarded_holder(self, seen: Observation, network: Network, ip: Ip) -> tuple[Guard | None, Device | None]:
        """Return the guard and the holder of a guarded address that is claimed for another MAC; else None."""
        guard = self.guards.at(network, ip)
        if guard is None:
            return None, None
        ours = self.guards.is_ours(network, ip)
        holder = guard.router or self.holder(network.id, network.own if ours else ip)
        return guard, None if holder is None or holder.mac == seen.mac else holder

    def _observe(self, device: Device, seen: Observation, ip: Ip, network: Network) -> tuple[Event, ...]:
        proxied = seen.evidence is Evidence.PROXIED
        if self.disputes.open and not proxied:
            self.disputes.record_sight(device, network, ip, seen.at)
        answers_for_all = device.is_proxy and self.guards.at(network, ip) is None
        if (proxied or answers_for_all) and (claimed := self.report_claim(seen, network, device)):
            return claimed
        for address in device.addresses:
            if address.ip == ip and address.network == network.id:
                alone = device.status is not Status.ONLINE or len(device.addresses) == 1
                if seen.at > address.last_seen and (alone or not proxied):
                    address.evidence, address.last_seen = seen.evidence, seen.at
                    address.mac = seen.merged_mac
                if proxied or address.foreign:
                    return ()
                old = self._holders[network.id].get(ip)
                if old is device:
                    if len(device.addresses) > 1 and len(ip) == 4:
                        keep_main(device, address)
                    return ()
                if self.guards.is_ours(network, ip):
                    return self.report_claim(seen, network, device)
                dispute = self._dispute(device, seen, network, ip, old) if old else None
                return self._settle(device, seen, network, ip, dispute, None)
        # Evidence from another station adds no address to those a device has: it would be probed there in vain.
        return () if proxied and device.addresses else self._add(device, ip, seen, network)

    def _add(self, device: Device, ip: Ip, seen: Observation, network: Network) -> tuple[Event, ...]:
        if self.guards.is_ours(network, ip):
            return self.report_claim(seen, network, device)
        if network.is_outside(ip):
            return self._add_foreign(device, ip, seen, network)
        old = self.holder(network.id, ip)
        dispute = self._dispute(device, seen, network, ip, old) if old else None
        is_first = not device.addresses and device.first_seen == seen.at  # part of `discovered`
        if dispute and dispute.waits and not is_first:
            return ()  # added when the dispute is settled
        is_temporary = is_temporary_address(device, network, ip)
        if (
            not (dispute and dispute.reason)
            and not is_first
            and not self._may_add(device, ip, seen.at, is_temporary=is_temporary)
        ):
            return ()  # added when it is seen there again
        before = _before(device)
        renamed = self._append(device, ip, seen, network)
        disputed = self._settle(device, seen, network, ip, dispute, before)
        if disputed or renamed or is_first or is_temporary:
            return disputed
        return (self._event(EventKind.ADDRESS_ADDED, device, seen, network, previous=before),)

    def _add_foreign(self, device: Device, ip: Ip, seen: Observation, network: Network) -> tuple[Event, ...]:
        """Add an address outside this host's networks: a fixed one from the factory, or a link-local one without DHCP.

        Others may have the same one, so it has no holder, and there is no conflict about it.
        """
        if not may_have_foreign(device, seen, network) or len(device.addresses) >= MOST_ADDRESSES:
            return ()
        if any(each.ip == ip and seen.at - each.last_seen <= STALE for each in device.addresses):
            return ()  # another interface of this host is on the same LAN, and its network has the address
        is_first = not device.addresses and device.first_seen == seen.at
        if not is_first and not self._may_add(device, ip, seen.at, is_temporary=False):
            return ()
        before = _before(device)
        if old := to_replace(device, seen.at):
            self.drop(device, old)
        entry = Address(ip, network.id, network.interface, seen.evidence, seen.at, seen.at, foreign=True)
        entry.main_since, entry.mac = seen.at, seen.merged_mac
        self.attach(device, entry)
        return () if is_first else (self._event(EventKind.ADDRESS_ADDED, device, seen, network, previous=before),)

    def _append(self, device: Device, ip: Ip, seen: Observation, network: Network, *, keeps_main: bool = False) -> bool:
        """Add an address to a device; return whether it had the same one on a network that was renamed.

        The first IPv4 address, and one that the device announces, becomes its `ip`, unless it `keeps_main`.
        """
        renamed = [
            address
            for address in device.addresses
            if address.ip == ip and (address.network not in self.networks or address.foreign)
        ]
        for address in renamed:
            self.drop(device, address)
        if len(device.addresses) >= self._room(device):
            evictable = [address for address in device.addresses if len(address.ip) >= len(ip)]  # IPv6 evicts no IPv4
            if evictable:  # IPv6 first; then those without an answer
                self.drop(device, min(evictable, key=rank_to_keep))
        main, new = device.main_address, Address(ip, network.id, network.interface, seen.evidence, seen.at, seen.at)
        new.mac = seen.merged_mac
        few = sum(len(each.ip) == 4 for each in device.addresses) + 1 < MANY  # an extender's `ip` stays
        announced = few and (seen.joining or seen.evidence in ANNOUNCES)
        if len(ip) == 4 and (main is None or len(main.ip) == 16 or (announced and not keeps_main)):
            new.main_since = seen.at
        self.attach(device, new)
        device.lost = None
        return bool(renamed)

    def _may_add(self, device: Device, ip: Ip, now: float, *, is_temporary: bool) -> bool:
        """Return whether a device may get one more address; if so, take it from the budget, unless it is no event."""
        room, ipv4 = self._room(device), sum(len(address.ip) == 4 for address in device.addresses)
        if ipv4 >= room and (len(ip) == 16 or room == FEW):
            return False
        return is_temporary or may_change(self._budgets, ADDRESSES, device, now)

    @staticmethod
    def _room(device: Device) -> int:
        return FEW if device.is_proxy or not device.confirmed else MOST_ADDRESSES

    def _dispute(self, device: Device, seen: Observation, network: Network, ip: Ip, old: Device) -> Dispute | None:
        """Judge a claim to an address that `old` holds. None: it is no claim, and changes nothing."""
        at, guard = seen.at, self.guards.at(network, ip)
        if seen.evidence is Evidence.PROXIED or (device.is_proxy and guard is None):
            return None
        claim = old.address_at(network.id, ip)
        silent = at - claim.last_seen if claim else inf
        since = f"was last seen there {silent:.0f} s before" if claim else "held it before"
        if guard is not None:
            in_conflict = silent <= CONFLICT_WITHIN or _is_there(old, claim, at)
            if guard.router is not None:  # a router that is not offline defends its address even while silent
                in_conflict = in_conflict or old.status is not Status.OFFLINE
            return self._judge_claim(device, seen, network, ip, old, guard, in_conflict, since)
        if is_proxied(old, ip):
            return Dispute(in_conflict=True, takes=True, reason=None)
        if self._is_settled(device, seen, network, ip, old):
            return Dispute(in_conflict=True, takes=False, reason=None, waits=True)
        in_conflict = False
        if claim is not None and old.status is not Status.OFFLINE:
            can_probe = network.own6 is not None if len(ip) == 16 else not network.excludes(ip)
            if can_probe and self.disputes.open_question(seen, ip, network, device, old):
                return Dispute(in_conflict=True, takes=False, reason=None, waits=True)
            in_conflict = silent <= CONFLICT_WITHIN or is_online(old, at)
        return self._judge_claim(device, seen, network, ip, old, None, in_conflict, since)

    def _is_settled(self, device: Device, seen: Observation, network: Network, ip: Ip, old: Device) -> bool:
        """Return whether a claim needs no question: both are one host or one cluster, or the event is published."""
        return (
            self.shared.are_one(device.mac, old.mac, seen.at)
            or self.shared.is_cluster(network.id, ip, seen.via)
            or self.disputes.was_probed(device, ip)
            or (old.status is not Status.OFFLINE and self._claims.was_published(network, ip, device.mac, seen.at))
        )

    def _judge_claim(
        self, device: Device, seen: Observation, network: Network, ip: Ip, old: Device, guard: Guard | None,
        in_conflict: bool, since: str,
    ) -> Dispute:  # fmt: skip
        """Return the judgement of a claim, with a reason if it may be published. `since`: text about the holder."""
        takes = guard is not None or not in_conflict
        if not self._claims.publish(network, ip, device.mac, old, seen.at, guard=guard, in_conflict=in_conflict):
            known = in_conflict and self._claims.was_published(network, ip, device.mac, seen.at)
            return Dispute(in_conflict, takes=known and takes, reason=None)
        more = self._claims.suppressed_text(network, ip) if guard is not None else ""
        return Dispute(in_conflict, takes, f"{EVIDENCE_TEXT[seen.evidence]}; {old.mac.hex(':')} {since}{more}")

    def settle(self, question: Question, devices: Mapping[Mac, Device], now: float, *, lost: bool) -> tuple[Event, ...]:
        """Settle a disputed claim; return the events. `lost`: answers may have been lost."""
        network, device, old, ip = question.network, question.claimant, question.holder, question.ip
        claim = old.address_at(network.id, ip)
        if claim is None or self.holder(network.id, ip) is not old:
            return ()
        if question.is_one_host():
            return self._join(question, now)
        in_conflict, since = self._verdict(question, claim, now, lost=lost)
        events = self._publish(question, device, question.claim, in_conflict, since, now)
        for mac, seen in question.waiting.items():
            other, holder = devices.get(mac), self.holder(network.id, ip)
            if other is None or holder is None or other is holder:
                continue
            if in_conflict:
                events += self._publish(question, other, seen, True, since, now)
            else:
                self.disputes.open_question(seen._replace(at=now), ip, network, other, holder)
        return events

    def _verdict(self, question: Question, claim: Address, now: float, *, lost: bool) -> tuple[bool, str]:
        """Return whether both devices are there, else the address moved; and the proof, a text about the holder."""
        old, device, at = question.holder, question.claimant, question.claim.at
        if question.holder_stays:
            return True, "is still there" + (": both answer" if question.saw(device) else "")
        if lost or claim.probed_at < at:
            return question.network.probed, "could not be probed there"
        no_answer = "no longer answers" if question.saw(old) else "did not answer"
        silent = f"{no_answer} there, and was last seen there {now - claim.last_seen:.0f} s before"
        elsewhere, answers = question.keeps_another(old) is not None, question.saw(device)
        handed_over = self.disputes.is_handover(question.network, question.ip, device.mac, old, now)
        if _is_there(old, claim, now) and old.presence.patience > ASLEEP and not (elsewhere or answers or handed_over):
            return True, f"{silent}; neither did the claimant"
        kept = question.keeps_another(device)
        return False, silent + (f"; the claimant answers at {ip_address(kept)}, too" if kept is not None else "")

    def _publish(
        self, question: Question, device: Device, claim: Observation, in_conflict: bool, since: str, now: float
    ) -> tuple[Event, ...]:
        """Publish the verdict about a claim."""
        network, ip, old, seen = question.network, question.ip, question.holder, claim._replace(at=now)
        dispute = self._judge_claim(device, seen, network, ip, old, None, in_conflict, since)
        if dispute.reason is None:
            return ()
        dispute = dispute._replace(claimed_at=claim.at)
        if in_conflict:
            self.shared.part(device.mac, old.mac)
        if device.address_at(network.id, ip) is not None:
            return self._settle(device, seen, network, ip, dispute, None)
        before = _before(device)
        self._append(device, ip, seen, network, keeps_main=in_conflict or question.keeps_another(device) is not None)
        return self._settle(device, seen, network, ip, dispute, before)

    def _join(self, question: Question, now: float) -> tuple[Event, ...]:
        """Note that two devices are one host: this causes one event for each pair, and no conflict."""
        network, ip, old, device = question.network, question.ip, question.holder, question.claimant
        seen = question.claim._replace(at=now)
        if self.shared.are_one(old.mac, device.mac, now):
            return ()
        if not self._claims.publish(network, ip, device.mac, old, now, guard=None, in_conflict=False):
            return ()
        is_new = self.shared.join(old.mac, device.mac, now)
        self.conflicts.end(old.mac, device.mac)
        before = _before(device)
        both = [each for each, macs in question.sights.items() if len(macs) == 2]
        both = [each for each in both if self.guards.at(network, each) is None]  # claims to these are published
        for each in both:
            if device.address_at(network.id, each) is None:
                self._append(device, each, seen, network, keeps_main=True)
        give_ips(network, (old, device), both, now)
        if not is_new:
            return ()
        shared = " and ".join(str(ip_address(each)) for each in both[:MOST_NAMED])
        reason = f"{old.mac.hex(':')} and {device.mac.hex(':')} both answer at {shared}: one host"
        return (self._event(EventKind.SAME_HOST, device, seen, network, previous=before, other=old, reason=reason),)

    def _settle(
        self, device: Device, seen: Observation, network: Network, ip: Ip, dispute: Dispute | None,
        before: Mapping[str, object] | None,
    ) -> tuple[Event, ...]:  # fmt: skip
        """Bind the address to its new holder, if it moved; return the events."""
        holders = self._holders[network.id]
        old = holders.get(ip)
        is_gateway = ip == network.gateway
        if old is None or old is device or (dispute and dispute.takes):
            holders[ip] = device
            if is_gateway:
                self._mark_gateway(device, True)
        if seen.via is not None and holders[ip] is device and seen.evidence is not Evidence.PROXIED:
            self.shared.note_cluster(network.id, ip, seen.via)
        if old is None or old is device or dispute is None or dispute.reason is None:
            return ()
        if dispute.in_conflict:
            self.conflicts.note(network.id, ip, old, device, min(seen.at, dispute.claimed_at))
        left: tuple[Event, ...] = ()
        claim = old.address_at(network.id, ip)
        if not dispute.in_conflict and claim is not None:
            left = (self._leave(old, claim, device, seen.at),)
        kind = EventKind.ADDRESS_CONFLICT if dispute.in_conflict else EventKind.ADDRESS_MOVED
        if is_gateway:
            self._mark_gateway(old, dispute.in_conflict)
            kind = EventKind.GATEWAY_CHANGED
        disputed = self._event(kind, device, seen, network, previous=before, other=old, reason=dispute.reason)
        return (*left, disputed)

    def _leave(self, old: Device, claim: Address, new: Device, now: float) -> Event:
        """Drop an address of a device that another one holds now; the device is probed there if it has no other."""
        had = {"ip": old.ip, "addresses": tuple(old.addresses)}
        self.drop(old, claim)
        old.lost = claim
        network = self.networks.get(claim.network)
        if network is not None:  # their next claims are new ones
            self._claims.clear(network, claim.ip, old.mac)
            self._claims.clear(network, claim.ip, new.mac)
        why = f"{new.mac.hex(':')} holds it now"
        return Event(EventKind.ADDRESS_REMOVED, now, claim.network, old, claim.ip, new.mac, reason=why, previous=had)

    def release(self, device: Device, now: float) -> list[Event]:
        """Drop the addresses of a device that is offline now, if another device that is online holds them."""
        events = []
        for address in tuple(device.addresses):
            holder = self.holder(address.network, address.ip)
            if holder is None or holder is device or holder.status is not Status.ONLINE:
                continue
            if not self.shared.are_one(device.mac, holder.mac, now):
                events.append(self._leave(device, address, holder, now))
        return events

    def drop_stale(
        self, device: Device, now: float, can_probe: Callable[[Address], object]
    ) -> tuple[list[Event], list[Address]]:
        """Drop the addresses that a device has probably given up; return events, and the addresses to probe."""
        if device.is_proxy:
            self._proxies.expire(device, now)
        if len(device.addresses) < 2 or device.is_self or device.is_proxy:
            return [], []
        events: list[Event] = []
        to_drop, to_probe = stale(device, can_probe)
        for old in to_drop:
            before = {"ip": device.ip, "addresses": tuple(device.addresses)}
            self.drop(device, old)
            if len(old.ip) == 16:
                continue  # its successor was no event, either
            reason = f"not seen there for {now - old.last_seen:.0f} s, but at another address"
            events.append(
                Event(EventKind.ADDRESS_REMOVED, now, old.network, device, old.ip, reason=reason, previous=before)
            )
        return events, to_probe

    @staticmethod
    def _event(
        kind: EventKind,
        device: Device,
        seen: Observation,
        network: Network,
        *,
        previous: Mapping[str, object] | None,
        other: Device | None = None,
        reason: str | None = None,
    ) -> Event:
        return Event(
            kind, seen.at, network.id, device, seen.ip, other.mac if other else None, seen.evidence,
            reason or EVIDENCE_TEXT[seen.evidence], previous, seen.at,
        )  # fmt: skip


def _before(device: Device) -> Mapping[str, object]:
    """Return the `previous` addresses of a device for an event, before they change."""
    return {"ip": device.ip, "addresses": tuple(device.addresses)} if device.addresses else NO_ADDRESS


def _is_there(holder: Device, address: Address | None, now: float) -> bool:
    """Return whether a device is online by its own patience, and was last seen at this address."""
    there = address is not None and holder.last_seen - address.last_seen <= CONFLICT_WITHIN
    return there and is_online(holder, now)
