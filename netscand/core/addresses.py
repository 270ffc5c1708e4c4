"""Bindings of addresses to devices, and how far weak evidence is believed."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf

from netscand.core.disputes import APART, APART_UNCHANGED, Dispute, DisputeReports, Disputes, Guard, Guards, Question
from netscand.core.limits import is_resident, may_change
from netscand.core.model import Address, Device, Event, EventKind, Evidence, Ip, Mac, Network, Observation, Status
from netscand.core.ratelimit import ADDRESSES, HINTS, Budgets

# ---- hearsay -------------------------------------------------------------------------------------------------------
# What an observation is worth, beside what is known: evidence that is no more than what a packet says of itself.

WEAK_EVIDENCE = frozenset([Evidence.MDNS, Evidence.NBNS])
"""Evidence that binds no MAC to an address by a protocol made for it, as ARP, NDP and DHCP are."""


def filter_weak_evidence(seen: Observation, network: Network, holder: Device | None) -> Observation | None:
    """What to believe of it; None: nothing. `holder` is who was last heard at its address.

    An IP packet from another LAN was passed on: its Ethernet source is a router. And where somebody else is known to
    hold the address, it was repeated by a station that puts its own MAC to what others said (some extenders of Wi-Fi
    do): the MAC is there, the address and the name are not its own. Nobody becomes the gateway by it.
    """
    if not seen.ip:
        return seen
    if len(seen.ip) == 4 and int.from_bytes(seen.ip) & int(network.cidr.netmask) != int(network.cidr.network_address):
        return None
    is_foreign = holder.mac != seen.mac if holder is not None else seen.ip == network.gateway
    if is_foreign:
        return seen._replace(ip=None, name=None, name_source=None, goodbye=False)
    return seen


# ---- candidates ----------------------------------------------------------------------------------------------------
# Candidates for a probe: devices that something suggests are there, without evidence.
#
# The kernel knows which neighbours are reachable, but not who answered it; a DHCP server names the client of a lease; a
# new device was refused for lack of budget. Each is probed, and its own answer is the evidence.

MOST_HINTS = 64
"""Devices that wait for their probe."""


class ProbeCandidates:
    """Devices to probe once, until the probe has left."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._waiting: OrderedDict[Mac, None] = OrderedDict()

    def __contains__(self, mac: object) -> bool:
        """Return whether a device waits for its probe."""
        return mac in self._waiting

    def add(self, seen: Observation, network: Network, device: Device | None) -> bool:
        """Return whether to probe the device that `seen` suggests. Presence probes those that are online by itself."""
        ip = seen.ip
        if ip is None or seen.mac in self._waiting or (device is not None and device.status is Status.ONLINE):
            return False
        if ip in network.ours or network.excludes(ip) or (len(ip) == 16 and network.own6 is None):
            return False
        if len(ip) == 4 and int.from_bytes(ip) & int(network.cidr.netmask) != int(network.cidr.network_address):
            return False
        if not self._budgets.take(HINTS, seen.interface, seen.at):
            return False
        self._waiting[seen.mac] = None
        if len(self._waiting) > MOST_HINTS:
            self._waiting.popitem(last=False)
        return True

    def record_sent(self, mac: Mac | None) -> None:
        """Take that the probe has left."""
        if mac is not None:
            self._waiting.pop(mac, None)


# ---- proxies -------------------------------------------------------------------------------------------------------
# Devices that answer for others (proxy ARP): at more IPv4 addresses than a host has.
#
# Only answers to our own requests count: anybody can announce 64 addresses. And it ends when the answers do.

MOST_ADDRESSES = 64
"""Addresses that a host may have."""

WINDOW = 1800.0
"""Seconds within which it answers at so many; two scans of a quiet /16 take longer, but its proxies are asked more."""

MOST_PROXIES = 256
"""Devices remembered that answered where they hold nothing."""


class Proxies:
    """At which addresses devices answered us that they are not listed with."""

    def __init__(self) -> None:
        self._answered: OrderedDict[Mac, tuple[float, set[Ip]]] = OrderedDict()
        """Since when, and where."""

    def answered(self, device: Device, ip: Ip, now: float) -> None:
        """Take an answer at an IPv4 address that the device is not listed with."""
        since, where = self._answered.get(device.mac, (now, set()))
        if now - since > WINDOW:
            device.is_proxy = self._is_proxy(device, where)
            since, where = now, set()
        if len(where) <= MOST_ADDRESSES:
            where.add(ip)
        device.is_proxy = device.is_proxy or self._is_proxy(device, where)
        self._answered[device.mac] = since, where
        self._answered.move_to_end(device.mac)
        if len(self._answered) > MOST_PROXIES:
            self._answered.popitem(last=False)

    def expire(self, device: Device, now: float) -> None:
        """Let a device be no proxy any more that has not answered like one."""
        since, _ = self._answered.get(device.mac, (now - 3 * WINDOW, None))
        if now - since > 2 * WINDOW:
            device.is_proxy = False
            self._answered.pop(device.mac, None)

    @staticmethod
    def _is_proxy(device: Device, where: set[Ip]) -> bool:
        return len(where) + sum(len(address.ip) == 4 for address in device.addresses) > MOST_ADDRESSES


# ---- stale ---------------------------------------------------------------------------------------------------------
# Which addresses a device seems to have given up: not heard at for long, while it was at another of the same kind.

STALE = 1800.0
"""Seconds after which an address is dropped that its device was not heard at, while it was at another."""

STALE_V6 = 86_400.0
"""The same for IPv6, where a host has several addresses, and says for hours nothing by some of them."""

PROBED_BEFORE_DROP = 60.0
"""Seconds after that in which a device is asked at an address where it answered before."""


def stale(device: Device, can_probe: Callable[[Address], object]) -> tuple[list[Address], list[Address]]:
    """Return the addresses to drop, and those to be asked for a minute before they go.

    The device answered us there, and anybody can bring about that it is heard elsewhere.
    """
    to_drop: list[Address] = []
    to_probe: list[Address] = []
    for old in device.addresses:
        same = (
            address for address in device.addresses if address.network == old.network and len(address.ip) == len(old.ip)
        )
        behind = max(address.last_seen for address in same) - old.last_seen
        silent = STALE if len(old.ip) == 4 else STALE_V6
        if behind <= silent:
            continue
        unproven = behind <= silent + PROBED_BEFORE_DROP or old.probed_at <= old.last_seen
        (to_probe if unproven and old.answered > -inf and can_probe(old) else to_drop).append(old)
    return to_drop, to_probe


# ---- addresses -----------------------------------------------------------------------------------------------------
# Who holds which address of which network, and what is odd about that.

FEW = 8
"""Addresses of a device that never answered us, so that made-up ones cost little; or that answers for others."""

CONFLICT_WITHIN = 60.0
"""Seconds in which two devices that claim one address are in conflict; later, the address has moved. It has not, while
who held it is online by its own patience: a phone that sleeps does not lose its address to whoever asks for it."""

EVIDENCE_TEXT = {
    Evidence.ARP_REQUEST: "sent an ARP request",
    Evidence.ARP_REPLY: "answered an ARP request",
    Evidence.ARP_PROBE: "probed for an address",
    Evidence.ARP_ANNOUNCEMENT: "announced its address",
    Evidence.NDP: "sent neighbour discovery",
    Evidence.DHCP: "spoke DHCP",
    Evidence.MDNS: "spoke mDNS",
    Evidence.NBNS: "spoke NBNS",
    Evidence.NEIGHBOUR: "is a reachable neighbour of this host",
    Evidence.PROXIED: "another station answered for it",
}
"""Evidence as a reason."""


NO_ADDRESS: Mapping[str, object] = {"ip": None, "addresses": ()}


class Addresses:
    """The address book of every scanned network."""

    def __init__(self, networks: Mapping[str, Network], budgets: Budgets) -> None:
        self.networks = networks
        """All, by id: the inventory's."""
        self._holders: dict[str, dict[Ip, Device]] = {}
        self.guards = Guards()
        self._budgets = budgets
        self._claims = DisputeReports(budgets)
        self.disputes = Disputes(budgets)
        self._proxies = Proxies()

    def open(self, networks: Iterable[Network]) -> None:
        """Keep the addresses of these networks, which are all that are scanned."""
        scanned = list(networks)
        for network in scanned:
            holders = self._holders.setdefault(network.id, {})
            for ip in network.ours:  # somebody was heard there before we had it, perhaps
                if ip in holders and not holders[ip].is_self:
                    del holders[ip]
        self.guards.open(scanned)

    def holder(self, network: str, ip: Ip | None) -> Device | None:
        """Who was last heard at an address."""
        holders = self._holders.get(network)
        return holders.get(ip) if holders is not None and ip is not None else None

    def devices(self, network: str) -> Collection[Device]:
        """Who holds an address there; a device with several stands there several times."""
        return self._holders.get(network, {}).values()

    def mark_gateways(self, devices: Iterable[Device]) -> None:
        """Let those be gateways, of all `devices`, that hold a gateway's address."""
        for device in devices:
            device.is_gateway = False
        for network in self.networks.values():
            holder = self.holder(network.id, network.gateway)
            if holder is not None:
                holder.is_gateway = True

    def put(self, device: Device, address: Address) -> None:
        """Enter an address that a device is known to hold, without a word."""
        device.addresses.append(address)
        self._holders.setdefault(address.network, {})[address.ip] = device

    def put_back(self, device: Device, address: Address) -> None:
        """The same, of the past: who was heard last holds it."""
        device.addresses.append(address)
        holders = self._holders.setdefault(address.network, {})
        if holders.setdefault(address.ip, device).last_seen <= device.last_seen:
            holders[address.ip] = device

    def drop(self, device: Device, address: Address) -> None:
        """Strike an address out."""
        device.addresses.remove(address)
        holders = self._holders.get(address.network, {})
        if holders.get(address.ip) is device:
            del holders[address.ip]

    # ---- what is heard ------------------------------------------------------------------------------------------

    def observe(
        self, device: Device, seen: Observation, network: Network, *, answers: bool = False
    ) -> tuple[Event, ...]:
        """Note at which address a device was heard; what is new or odd about it. `answers`: it answered us."""
        ip = seen.ip
        if ip is None:
            return ()
        disputed = self._observe(device, seen, ip, network)
        if answers:
            address = _entry(device, network, ip)
            if address is not None:
                address.answered = seen.at
            elif len(ip) == 4:
                self._proxies.answered(device, ip, seen.at)
        return disputed

    def report_claim(self, seen: Observation, network: Network, device: Device | None) -> tuple[Event, ...]:
        """Publish a claim that changes nothing, to an address that is guarded.

        Such are what another station says in the name of `seen.mac`, what a proxy claims beside the addresses that
        nobody holds, and any claim to our own address: that is never given away. `device`: the one with that MAC,
        where it is known.
        """
        ip = seen.ip
        if ip is None:
            return ()
        guard, holder = self._guarded_holder(seen, network, ip)
        if holder is None:
            guard, holder = None, self._holder_at(seen, network, ip, device)
        apart = APART if guard is not None else APART_UNCHANGED
        if holder is None or not self._claims.publish(
            network, ip, seen.mac, holder, seen.at, guard=guard, in_conflict=True, apart=apart
        ):
            return ()
        kind = EventKind.GATEWAY_CHANGED if ip == network.gateway else EventKind.ADDRESS_CONFLICT
        whose = "this host's own address" if holder.is_self else f"the address of {holder.mac.hex(':')}"
        said = EVIDENCE_TEXT[seen.evidence]
        if seen.via is not None:
            said = f"{seen.via.hex(':')} claims it for {seen.mac.hex(':')}"
        elif device is None:
            said = f"{said} as {seen.mac.hex(':')}"
        reason = f"{said}; it is {whose}{self._claims.suppressed_text(network, ip)}"
        return (Event(kind, seen.at, network.id, device, ip, holder.mac, seen.evidence, reason, None, seen.at),)

    def _holder_at(self, seen: Observation, network: Network, ip: Ip, claimant: Device | None) -> Device | None:
        """Return the device that answered us, or was labelled, and is online, at the address claimed for another MAC.

        Where the claimant is unknown and speaks for itself, one of very many perhaps, it has to be a resident. What a
        DHCP server says of a lease is no claim.
        """
        old, is_lease = self.holder(network.id, ip), seen.joining and seen.evidence is Evidence.PROXIED
        if old is None or old.mac == seen.mac or is_lease or _is_proxied(old, ip):
            return None
        counts = is_resident(old, seen.at) or (old.confirmed and (claimant is not None or seen.via is not None))
        return old if counts and _is_online(old, seen.at) else None

    def is_urgent(self, seen: Observation, network: Network) -> bool:
        """Return whether it claims a guarded address for another MAC, which is to be published now."""
        if seen.ip is None:
            return False
        guard, holder = self._guarded_holder(seen, network, seen.ip)
        if guard is None or holder is None:
            return False
        return self._claims.would_publish(network, seen.ip, seen.mac, seen.at, guard)

    def _guarded_holder(self, seen: Observation, network: Network, ip: Ip) -> tuple[Guard | None, Device | None]:
        """Who holds the guarded address that is claimed for another MAC; None where it is no such claim."""
        guard = self.guards.at(network, ip)
        if guard is None:
            return None, None
        ours = self.guards.is_ours(network, ip)
        holder = guard.router or self.holder(network.id, network.own if ours else ip)
        return guard, None if holder is None or holder.mac == seen.mac else holder

    def _observe(self, device: Device, seen: Observation, ip: Ip, network: Network) -> tuple[Event, ...]:
        proxied = seen.evidence is Evidence.PROXIED
        answers_for_all = device.is_proxy and self.guards.at(network, ip) is None
        if (proxied or answers_for_all) and (claimed := self.report_claim(seen, network, device)):
            return claimed
        for address in device.addresses:
            if address.ip == ip and address.network == network.id:
                alone = device.status is not Status.ONLINE or len(device.addresses) == 1
                if seen.at > address.last_seen and (alone or not proxied):
                    address.evidence = seen.evidence
                    address.last_seen = seen.at
                old = self._holders[network.id].get(ip)
                if proxied:
                    return ()
                if old is device:
                    return self._answered(device, seen, ip, network) if self.disputes.open else ()
                if self.guards.is_ours(network, ip):
                    return self.report_claim(seen, network, device)
                dispute = self._dispute(device, seen, network, ip, old) if old else None
                return self._settle(device, seen, network, ip, dispute, None)
        # What others say of a device's address adds none to those it has: it would be asked there, and called gone.
        return () if proxied and device.addresses else self._add(device, ip, seen, network)

    def _add(self, device: Device, ip: Ip, seen: Observation, network: Network) -> tuple[Event, ...]:
        if self.guards.is_ours(network, ip):
            return self.report_claim(seen, network, device)
        if len(ip) == 4 and int.from_bytes(ip) & int(network.cidr.netmask) != int(network.cidr.network_address):
            return ()  # an address of another LAN says nothing about this one
        old = self.holder(network.id, ip)
        dispute = self._dispute(device, seen, network, ip, old) if old else None
        is_first = not device.addresses and device.first_seen == seen.at  # `discovered` tells it
        if dispute and dispute.asked and not is_first:
            return ()  # taken when that is decided
        if not (dispute and dispute.reason) and not is_first and not self._may_add(device, seen.at):
            return ()  # taken when it is heard there again
        before = _before(device)
        renamed = self._append(device, ip, seen, network)
        disputed = self._settle(device, seen, network, ip, dispute, before)
        if disputed or renamed or is_first:
            return disputed
        return (self._event(EventKind.ADDRESS_ADDED, device, seen, network, previous=before),)

    def _append(self, device: Device, ip: Ip, seen: Observation, network: Network) -> bool:
        """Give a device one more address; return whether it had the same on a network that has another name now."""
        renamed = [address for address in device.addresses if address.ip == ip and address.network not in self.networks]
        for address in renamed:
            self.drop(device, address)
        if len(device.addresses) >= MOST_ADDRESSES:  # where it never answered first, and IPv6 before IPv4
            self.drop(
                device,
                min(
                    device.addresses,
                    key=lambda address: (address.answered > -inf, len(address.ip) == 4, address.last_seen),
                ),
            )
        device.addresses.append(Address(ip, network.id, network.interface, seen.evidence, seen.at, seen.at))
        return bool(renamed)

    def _may_add(self, device: Device, now: float) -> bool:
        """Return whether a device may have one address more; if so, it is paid for."""
        if (device.is_proxy or not device.confirmed) and len(device.addresses) >= FEW:
            return False
        return may_change(self._budgets, ADDRESSES, device, now)

    def _dispute(self, device: Device, seen: Observation, network: Network, ip: Ip, old: Device) -> Dispute | None:
        """Judge a claim to what `old` holds. None: it is no claim, and changes nothing."""
        at, guard = seen.at, self.guards.at(network, ip)
        if seen.evidence is Evidence.PROXIED or (device.is_proxy and guard is None):
            return None
        if guard is None and _is_proxied(old, ip):
            return Dispute(in_conflict=True, takes=True, reason=None)
        claim = _entry(old, network, ip)
        silent = at - claim.last_seen if claim else inf
        in_conflict = silent <= CONFLICT_WITHIN or _is_there(old, claim, at)
        if guard is not None and guard.router is not None:  # one that is there is in conflict, where it is silent too
            in_conflict = in_conflict or old.status is not Status.OFFLINE
        may_be_there = guard is None and claim is not None and old.status is not Status.OFFLINE
        if may_be_there and (not in_conflict or self.disputes.is_handover(network, ip, device.mac, old, at)):
            can_probe = network.own6 is not None if len(ip) == 16 else not network.excludes(ip)
            if can_probe and self.disputes.open_question(seen, ip, network, device, old):
                return Dispute(in_conflict=True, takes=False, reason=None, asked=True)
            in_conflict = in_conflict or _is_online(old, at)
        since = f"was heard there {silent:.0f} s before" if claim else "had it before"
        return self._judge_claim(device, seen, network, ip, old, guard, in_conflict, since)

    def _judge_claim(
        self, device: Device, seen: Observation, network: Network, ip: Ip, old: Device, guard: Guard | None,
        in_conflict: bool, since: str,
    ) -> Dispute:  # fmt: skip
        """Give the judgement of a claim, published if it may be. `since`: what is known of the holder."""
        if not self._claims.publish(network, ip, device.mac, old, seen.at, guard=guard, in_conflict=in_conflict):
            known = in_conflict and self._claims.was_published(network, ip, device.mac, seen.at)
            return Dispute(in_conflict, takes=known, reason=None)
        more = self._claims.suppressed_text(network, ip) if guard is not None else ""
        return Dispute(in_conflict, True, f"{EVIDENCE_TEXT[seen.evidence]}; {old.mac.hex(':')} {since}{more}")

    def _answered(self, device: Device, seen: Observation, ip: Ip, network: Network) -> tuple[Event, ...]:
        """Take that a device was heard at an address that it holds: a claim to that is a conflict."""
        question = self.disputes.record_answer(network, ip, device, seen.at)
        return self.settle(question, seen.at, there=True) if question is not None else ()

    def settle(self, question: Question, now: float, *, there: bool) -> tuple[Event, ...]:
        """Publish what became of a claim. `there`: its holder answered, or was not heard for lack of hearing."""
        network, device, old, ip = question.network, question.claimant, question.holder, question.claim.ip
        claim = _entry(old, network, ip) if ip is not None else None
        if ip is None or claim is None or self.holder(network.id, ip) is not old:
            return ()
        since = f"did not answer there, and was heard there {now - claim.last_seen:.0f} s before"
        in_conflict = there or claim.probed_at < question.claim.at
        if in_conflict:
            since = "is there" if claim.last_seen > question.claim.at else "could not be asked there"
        seen = question.claim._replace(at=now)
        dispute = self._judge_claim(device, seen, network, ip, old, None, in_conflict, since)
        if _entry(device, network, ip) is not None:
            return self._settle(device, seen, network, ip, dispute, None)
        if dispute.reason is None:
            return ()
        before = _before(device)
        self._append(device, ip, seen, network)
        return self._settle(device, seen, network, ip, dispute, before)

    def _settle(
        self, device: Device, seen: Observation, network: Network, ip: Ip, dispute: Dispute | None,
        before: Mapping[str, object] | None,
    ) -> tuple[Event, ...]:  # fmt: skip
        """Decide who holds the address now; what to publish of that."""
        holders = self._holders[network.id]
        old = holders.get(ip)
        if old is not None and old is not device and not (dispute and dispute.takes):
            return ()
        holders[ip] = device
        is_gateway = ip == network.gateway
        device.is_gateway = device.is_gateway or is_gateway
        if old is None or old is device or dispute is None or dispute.reason is None:
            return ()
        left: tuple[Event, ...] = ()
        claim = _entry(old, network, ip)
        if not dispute.in_conflict and claim is not None:
            had = {"ip": old.ip, "addresses": tuple(old.addresses)}
            self.drop(old, claim)
            why = f"{device.mac.hex(':')} holds it now"
            removed = EventKind.ADDRESS_REMOVED
            left = (Event(removed, seen.at, network.id, old, ip, device.mac, reason=why, previous=had),)
        kind = EventKind.ADDRESS_CONFLICT if dispute.in_conflict else EventKind.ADDRESS_MOVED
        if is_gateway:
            old.is_gateway = dispute.in_conflict
            kind = EventKind.GATEWAY_CHANGED
        disputed = self._event(kind, device, seen, network, previous=before, other=old, reason=dispute.reason)
        return (*left, disputed)

    def drop_stale(
        self, device: Device, now: float, can_probe: Callable[[Address], object]
    ) -> tuple[list[Event], list[Address]]:
        """Drop the addresses that a device seems to have given up; return also those to ask there."""
        if device.is_proxy:
            self._proxies.expire(device, now)
        if len(device.addresses) < 2 or device.is_self or device.is_proxy:
            return [], []
        events: list[Event] = []
        to_drop, to_probe = stale(device, can_probe)
        for old in to_drop:
            before = {"ip": device.ip, "addresses": tuple(device.addresses)}
            self.drop(device, old)
            reason = f"not heard there for {now - old.last_seen:.0f} s, but at another address"
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


def _entry(device: Device, network: Network, ip: Ip) -> Address | None:
    """The device's entry of that address, if it has one."""
    for address in device.addresses:
        if address.ip == ip and address.network == network.id:
            return address
    return None


def _before(device: Device) -> Mapping[str, object]:
    """Give the addresses of a device as an event keeps them, before they change."""
    return {"ip": device.ip, "addresses": tuple(device.addresses)} if device.addresses else NO_ADDRESS


def has_answered(device: Device, network: str, ip: Ip) -> bool:
    """Return whether a device answered an ask of ours at an address that it holds, since the start."""
    return any(
        address.answered > -inf for address in device.addresses if address.ip == ip and address.network == network
    )


def _is_there(holder: Device, address: Address | None, now: float) -> bool:
    """Return whether a device is online by its own patience, and this is where it was heard last."""
    there = address is not None and holder.last_seen - address.last_seen <= CONFLICT_WITHIN
    return there and _is_online(holder, now)


def _is_online(device: Device, now: float) -> bool:
    return device.status is Status.ONLINE and now - device.last_seen <= device.presence.patience


def _is_proxied(holder: Device, ip: Ip) -> bool:
    """Return whether a device is a proxy, and this is not the first address that it was heard at, its own."""
    return holder.is_proxy and ip != next((address.ip for address in holder.addresses if len(address.ip) == 4), None)
