"""Claims to an address that another device holds: the holder is probed, and the outcome reported."""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from netscand.core.limits import is_resident
from netscand.core.model import Device, Evidence, Ip, Mac, Network, Observation, Probe
from netscand.core.networks import united
from netscand.core.ratelimit import (
    CLAIMS,
    CLAIMS_ON_STRANGERS,
    CONFLICTS,
    DAY,
    DISPUTES,
    FIRST_CLAIMS,
    GATEWAY_CLAIMS,
    MOVES,
    OWN_CLAIMS,
    ROUTER_CLAIMS,
    Budget,
    Budgets,
)

# ---- guards --------------------------------------------------------------------------------------------------------
# Guarded addresses: a claim to one of them is published at once, from a budget that no other claim can spend.
#
# These are the addresses of the gateway, of this host and of IPv6 routers. Any station can advertise itself as a
# router, so only the routers known for longest are guarded, each with a budget of its own.

MOST_ROUTERS = 4
"""Maximum guarded routers of an interface."""


class Guard(NamedTuple):
    """Budget for the events of claims to a guarded address."""

    budget: Budget
    spender: Hashable
    router: Device | None = None
    """The IPv6 router that holds the address."""


class Guards:
    """Guarded addresses of every interface (ifindex)."""

    def __init__(self) -> None:
        self._ours: dict[int, frozenset[Ip]] = {}
        self._routers: dict[int, list[Device]] = {}
        """Routers of each interface, those known for longest first."""

    def open(self, networks: Iterable[Network]) -> None:
        """Set the scanned networks, which have this host's own addresses."""
        self._ours = {}
        for network in networks:
            self._ours[network.index] = united(self._ours.get(network.index, frozenset()), network.ours)

    def is_ours(self, network: Network, ip: Ip) -> bool:
        """Return whether an address is this host's own."""
        return ip in self._ours.get(network.index, ())

    def update_router(self, device: Device) -> None:
        """Note that a device has become an IPv6 router, or no longer is one."""
        for index, routers in self._routers.items():
            self._routers[index] = [router for router in routers if router is not device]
        if device.is_router:
            routers = [*self._routers.get(device.interface, ()), device]
            self._routers[device.interface] = sorted(routers, key=lambda each: each.first_seen)[:MOST_ROUTERS]

    def at(self, network: Network, ip: Ip) -> Guard | None:
        """Return the guard of an address; None if it is not guarded."""
        if ip in self._ours.get(network.index, ()):
            return Guard(OWN_CLAIMS, network.id)
        if ip == network.gateway:
            return Guard(GATEWAY_CLAIMS, network.id)
        if len(ip) == 16:
            for router in self._routers.get(network.index, ()):
                if any(address.ip == ip and address.network == network.id for address in router.addresses):
                    return Guard(ROUTER_CLAIMS, router.mac, router)
        return None


# ---- claims --------------------------------------------------------------------------------------------------------
# Publication of claims to an address that another device holds, and its limits.
#
# Each new claimant of a guarded address is published at once; claimants beyond the budget are counted.

APART = 600.0
"""Minimum seconds between two conflict events with the same claimant of the same address."""

APART_UNCHANGED = DAY
"""The same for a claim that changes nothing, so that a proxy which answers for a whole network causes one event for
each device and day."""

MOST_REPORTED = 1_024
"""Maximum claimants remembered."""


class DisputeReports:
    """Record of published claims, and the count of suppressed ones."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._published: OrderedDict[tuple[str, Ip, Mac], float] = OrderedDict()
        self._suppressed: Counter[tuple[str, Ip]] = Counter()
        """Claims to a guarded address that exceeded the budget, since the last event."""

    def would_publish(self, network: Network, ip: Ip, claimant: Mac, now: float, guard: Guard) -> bool:
        """Return whether a claim to a guarded address would be published."""
        return not self.was_published(network, ip, claimant, now) and self._budgets.has(
            guard.budget, guard.spender, now
        )

    def publish(
        self,
        network: Network,
        ip: Ip,
        claimant: Mac,
        old: Device,
        now: float,
        *,
        guard: Guard | None,
        in_conflict: bool,
        apart: float = APART,
    ) -> bool:
        """Return whether to publish a claim to the address that `old` holds; if so, record it as published.

        `guard`: of a guarded address.
        """
        if in_conflict and self.was_published(network, ip, claimant, now, apart):
            return False
        if guard is not None:
            if not self._budgets.take(guard.budget, guard.spender, now):
                self._suppressed[network.id, ip] += 1
                return False
        elif not self._take(CONFLICTS if in_conflict else MOVES, network, ip, old, now):
            return False
        if in_conflict:  # the holder's defence is no second claim to publish
            self._note(network, ip, claimant, now)
            self._note(network, ip, old.mac, now)
        return True

    def suppressed_text(self, network: Network, ip: Ip) -> str:
        """Return the text about claims suppressed since the last event, and reset the count."""
        count = self._suppressed.pop((network.id, ip), 0)
        return f"; {count} more claims by other MACs since the last event" if count else ""

    def was_published(self, network: Network, ip: Ip, claimant: Mac, now: float, apart: float = APART) -> bool:
        """Return whether a conflict with this claimant was published within `apart` seconds."""
        return now < self._published.get((network.id, ip, claimant), -inf) + apart

    def clear(self, network: Network, ip: Ip, claimant: Mac) -> None:
        """Forget that a claim was published: the address has moved since."""
        self._published.pop((network.id, ip, claimant), None)

    def _note(self, network: Network, ip: Ip, claimant: Mac, now: float) -> None:
        key = network.id, ip, claimant
        self._published[key] = now
        self._published.move_to_end(key)
        if len(self._published) > MOST_REPORTED:
            self._published.popitem(last=False)

    def _take(self, own: Budget, network: Network, ip: Ip, old: Device, now: float) -> bool:
        """Take from the address's `own` budget and the shared one; if the latter is used up, from FIRST_CLAIMS."""
        budgets, address = self._budgets, (network.id, ip)
        shared = CLAIMS if is_resident(old, now) else CLAIMS_ON_STRANGERS
        if not budgets.has(own, address, now):
            budgets.refuse(own, now)
            return False
        if budgets.has(shared, network.index, now):
            return budgets.take(shared, network.index, now) and budgets.take(own, address, now)
        if budgets.has(FIRST_CLAIMS, address, now):
            return budgets.take(FIRST_CLAIMS, address, now) and budgets.take(own, address, now)
        budgets.refuse(shared, now)
        return False


# ---- disputes ------------------------------------------------------------------------------------------------------
# Claims that are decided by probing both devices first, for one to two seconds.
#
# A holder that does not answer at its address, while the claimant does, has given it up: the address moves. If both
# answer, they are in conflict, unless they are one host on two interfaces: then each answers for the other's addresses,
# too. A holder that could not be probed counts as present. A holder that speaks again at an address that moved disputes
# it again.

GAPS = (0.2, 0.3, 0.5, 0.3, 0.3, 0.4, 1.0)
"""Seconds from each step of a question to the next: the holder is probed, then the claimant and both at their other
addresses, then what these answers call for, then all that was not answered, and the holder again, up to three times."""

REPEAT = 3
"""The step that repeats probes, a second after the claim. A holder must answer from then on: one that hands the address
over (VRRP) may do so some milliseconds after the other one has announced it, and answer the first probe."""

VERDICT = 6
"""The step with a verdict, after 2 s; there may be one before it."""

LAST_OF_NEWCOMERS = 11
"""The step with a verdict, after 7 s, if one scan has just found both devices by their answers at one address: the next
scan, which begins at once, may find them at another one as well."""

NEWCOMER = 5.0
"""Seconds for which a device is such a newcomer, and within which two sightings at an address are simultaneous."""

MOST_OTHERS = 2
"""Maximum other addresses of each device that are probed."""

MOST_SIGHTS, MOST_WAITING = 8, 2
"""Maximum addresses of a question at which the devices are seen, and further claimants that wait for its verdict."""

HANDOVER = 60.0
"""Seconds after a DHCP server's ACK in which the client is expected to claim the address."""

MOST = 256
"""Maximum leases, and maximum releases, remembered."""


class Dispute(NamedTuple):
    """Judgement of a claim to an address that another device holds."""

    in_conflict: bool
    """Both devices are present; else the address moves."""
    takes: bool
    """The claimant becomes the holder."""
    reason: str | None
    """Reason of the event; None: no event."""
    waits: bool = False
    """Nothing changes now: both are probed first, or the claim is already published."""
    claimed_at: float = inf
    """When the claim was made, if before it was settled."""


@dataclass(slots=True, eq=False)
class Question:
    """A claim whose holder and claimant are being probed."""

    claim: Observation
    ip: Ip
    network: Network
    claimant: Device
    holder: Device
    due: float
    step: int = 0
    probed: set[tuple[Mac, Ip]] = field(default_factory=set)
    sights: dict[Ip, dict[Mac, float]] = field(default_factory=dict)
    """Address → when each of the two was first seen there since the claim."""
    repeated_at: float = inf
    """When the probes were repeated."""
    holder_at: float = -inf
    """When the holder was last seen at the address."""
    waiting: dict[Mac, Observation] = field(default_factory=dict)
    """Claims of others meanwhile."""

    def saw(self, device: Device, ip: Ip | None = None) -> bool:
        """Return whether a device was seen at an address since the claim; None: the disputed one."""
        return device.mac in self.sights.get(self.ip if ip is None else ip, ())

    @property
    def holder_stays(self) -> bool:
        """Return whether the holder was seen at the address since the probes were repeated."""
        return self.holder_at >= self.repeated_at

    @property
    def both_there(self) -> bool:
        """Return whether both devices were seen at the address since the claim."""
        return self.saw(self.holder) and self.saw(self.claimant)

    def others(self, device: Device) -> list[Ip]:
        """Return the other IPv4 addresses at which a device is probed, its `ip` first."""
        if len(self.ip) == 16:
            return []
        found = [
            each.ip
            for each in device.addresses
            if len(each.ip) == 4
            and each.network == self.network.id
            and each.ip != self.ip
            and each.ip not in self.network.ours
            and not self.network.excludes(each.ip)
        ]
        return sorted(found, key=lambda ip: ip != device.ip)[:MOST_OTHERS]

    def keeps_another(self, device: Device) -> Ip | None:
        """Return another address where a device was seen since the claim; None: it was not."""
        return next((ip for ip in self.others(device) if self.saw(device, ip)), None)

    def is_one_host(self) -> bool:
        """Return whether both answer at two addresses or more, one of which was not first the holder's alone.

        A station that claims each address of another one is in conflict: the other does not answer for its addresses.
        """
        both = [ip for ip, macs in self.sights.items() if len(macs) == 2]
        return (
            self.both_there
            and len(both) > 1
            and any(self._first(self.claimant, ip) <= self._first(self.holder, ip) + NEWCOMER for ip in both)
        )

    def _first(self, device: Device, ip: Ip) -> float:
        known = (each.first_seen for each in device.addresses if each.ip == ip and each.network == self.network.id)
        return min(*known, self.sights[ip][device.mac], self.claim.at if ip == self.ip else inf, inf)

    @property
    def is_over(self) -> bool:
        """Return whether there is a verdict at this step."""
        if self.step < VERDICT:
            alone = not (self.others(self.holder) or self.others(self.claimant))
            in_conflict = self.holder_stays and alone and not self.are_newcomers
            return self.step >= REPEAT and (in_conflict or self.is_one_host())
        return self.step >= LAST_OF_NEWCOMERS or not self.are_newcomers or self.is_one_host()

    @property
    def are_newcomers(self) -> bool:
        """Return whether a scan has just found both, at the same address."""
        both_new = min(self.holder.first_seen, self.claimant.first_seen) > self.claim.at - NEWCOMER
        return both_new and self.both_there and self.claim.evidence is Evidence.ARP_REPLY

    def probes(self) -> list[Probe]:
        """Return the probes of this step."""
        if self.step == 0:
            return [self._probe(self.holder, self.ip)]
        pair = (self.claimant, self.holder)
        targets = [(device, ip) for device in pair for ip in (self.ip, *self.others(device)[:1])]
        if self.both_there:
            targets += [(self.holder, ip) for ip in self.others(self.claimant)]
            targets += [(self.claimant, ip) for ip in self.others(self.holder)]
        done = set() if self.step == REPEAT else set(self.probed)
        probes = []
        if REPEAT <= self.step < VERDICT and self.saw(self.holder) and not self.holder_stays:
            done.add((self.holder.mac, self.ip))
            probes.append(self._probe(self.holder, self.ip))
        for device, ip in targets:
            if (device.mac, ip) not in done and not self.saw(device, ip):
                done.add((device.mac, ip))
                probes.append(self._probe(device, ip))
        return probes

    def _probe(self, device: Device, ip: Ip) -> Probe:
        """Return a probe of a device: by unicast; the second one of a holder that may need broadcasts is one.

        Any station may answer a broadcast, and so cause the next question: strangers get none.
        """
        self.probed.add((device.mac, ip))
        may_be_deaf = device.presence.broadcast_only or is_resident(device, self.claim.at)
        is_last = device is self.holder and ip == self.ip and self.step == REPEAT and not self.saw(device)
        to = None if is_last and may_be_deaf else device.mac_of(self.network.id, ip)
        return Probe(self.network, ip, to, device.mac, additional=True)


class Disputes:
    """Open questions, at most one for each address."""

    def __init__(self, budgets: Budgets) -> None:
        self.open: dict[tuple[str, Ip], Question] = {}
        self._of: dict[Mac, list[Question]] = {}
        """Device → its open questions, as holder or claimant."""
        self.to_scan: dict[str, float] = {}
        """Networks to scan now, because newcomers share an address there → until when that can change the verdict."""
        self._budgets = budgets
        self._leases: OrderedDict[tuple[str, Ip], tuple[Mac, float]] = OrderedDict()
        self._released: OrderedDict[Mac, float] = OrderedDict()

    @property
    def next_at(self) -> float:
        """When to call `due` next."""
        return min(question.due for question in self.open.values()) if self.open else inf

    def record_lease(self, seen: Observation, network: Network) -> None:
        """Note that a DHCP server leased an address to a client."""
        if seen.ip is not None:
            self._leases[network.id, seen.ip] = seen.mac, seen.at
            self._leases.move_to_end((network.id, seen.ip))
            if len(self._leases) > MOST:
                self._leases.popitem(last=False)

    def record_release(self, mac: Mac, at: float) -> None:
        """Note that a device released its DHCP lease."""
        self._released[mac] = at
        self._released.move_to_end(mac)
        if len(self._released) > MOST:
            self._released.popitem(last=False)

    def is_handover(self, network: Network, ip: Ip, claimant: Mac, holder: Device, now: float) -> bool:
        """Return whether DHCP leased the address to the claimant, or the holder released it."""
        client, at = self._leases.get((network.id, ip), (None, -inf))
        leased = client == claimant and now - at <= HANDOVER
        return leased or self._released.get(holder.mac, -inf) >= holder.last_seen

    def open_question(self, claim: Observation, ip: Ip, network: Network, claimant: Device, holder: Device) -> bool:
        """Return whether the claim is being decided, by a new question or by an open one."""
        question = self.open.get((network.id, ip))
        if question is not None:
            if claimant is not question.claimant and len(question.waiting) < MOST_WAITING:
                question.waiting.setdefault(claimant.mac, claim)
            return True
        if not self._budgets.take(DISPUTES, network.index, claim.at):
            return False
        question = self.open[network.id, ip] = Question(claim, ip, network, claimant, holder, claim.at)
        for device in (claimant, holder):
            self._of.setdefault(device.mac, []).append(question)
        return True

    def record_sight(self, device: Device, network: Network, ip: Ip, at: float) -> None:
        """Note that a device was seen at an address."""
        for question in self._of.get(device.mac, ()):
            if at > question.claim.at and question.network.id == network.id:
                sights = question.sights
                if ip == question.ip and device is question.holder:
                    question.holder_at = at
                if ip in sights or ip == question.ip or len(sights) < MOST_SIGHTS:
                    sights.setdefault(ip, {}).setdefault(device.mac, at)

    def was_probed(self, device: Device, ip: Ip) -> bool:
        """Return whether an open question probed a device at an address: then its answer is no claim."""
        return any((device.mac, ip) in question.probed for question in self._of.get(device.mac, ()))

    def due(self, now: float) -> tuple[list[Probe], list[Question]]:
        """Return the probes to send now, and the questions that can be decided."""
        probes: list[Probe] = []
        over: list[Question] = []
        for question in tuple(self.open.values()):
            if question.due > now:
                continue
            if question.is_over:
                self._close(question)
                over.append(question)
                continue
            if question.step == REPEAT:
                question.repeated_at = now
            probes += question.probes()
            if question.step == REPEAT - 1 and question.are_newcomers:
                self.to_scan[question.network.id] = now + sum(GAPS) + (LAST_OF_NEWCOMERS - len(GAPS)) * GAPS[-1]
            question.due = now + (GAPS[question.step] if question.step < len(GAPS) else GAPS[-1])
            question.step += 1
        return probes, over

    def forget(self, device: Device) -> None:
        """Drop the questions about a device that is forgotten."""
        for question in tuple(self.open.values()):
            question.waiting.pop(device.mac, None)
            if device is question.claimant or device is question.holder:
                self._close(question)

    def _close(self, question: Question) -> None:
        del self.open[question.network.id, question.ip]
        for device in (question.claimant, question.holder):
            left = [each for each in self._of[device.mac] if each is not question]
            if left:
                self._of[device.mac] = left
            else:
                del self._of[device.mac]
