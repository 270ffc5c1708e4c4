"""Disputed addresses: claims to an address that another device holds; its holder is probed, the outcome reported."""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from netscand.core.limits import is_resident
from netscand.core.model import Device, Ip, Mac, Network, Observation, Probe
from netscand.core.ratelimit import (
    CLAIMS,
    CLAIMS_ON_STRANGERS,
    CONFLICTS,
    DAY,
    DISPUTES,
    FIRST_CLAIMS,
    GATEWAY_CLAIMS,
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
            self._ours[network.index] = self._ours.get(network.index, frozenset()) | network.ours

    def is_ours(self, network: Network, ip: Ip) -> bool:
        """Return whether an address is this host's own."""
        return ip in self._ours.get(network.index, ())

    def update_router(self, device: Device) -> None:
        """Note that a device has become an IPv6 router, or is one no longer."""
        for index, routers in self._routers.items():
            self._routers[index] = [router for router in routers if router is not device]
        if device.is_router:
            routers = [*self._routers.get(device.interface, ()), device]
            self._routers[device.interface] = sorted(routers, key=lambda each: each.first_seen)[:MOST_ROUTERS]

    def at(self, network: Network, ip: Ip) -> Guard | None:
        """Return the guard of an address; None if it is not guarded."""
        if self.is_ours(network, ip):
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
        elif not self._take(network, ip, old, now):
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

    def _note(self, network: Network, ip: Ip, claimant: Mac, now: float) -> None:
        key = network.id, ip, claimant
        self._published[key] = now
        self._published.move_to_end(key)
        if len(self._published) > MOST_REPORTED:
            self._published.popitem(last=False)

    def _take(self, network: Network, ip: Ip, old: Device, now: float) -> bool:
        """Take from the budget of the address and the shared one; if the shared one is used up, from FIRST_CLAIMS."""
        budgets, address = self._budgets, (network.id, ip)
        shared = CLAIMS if is_resident(old, now) else CLAIMS_ON_STRANGERS
        if not budgets.has(CONFLICTS, address, now):
            budgets.refuse(CONFLICTS, now)
            return False
        if budgets.has(shared, network.index, now):
            return budgets.take(shared, network.index, now) and budgets.take(CONFLICTS, address, now)
        if budgets.has(FIRST_CLAIMS, address, now):
            return budgets.take(FIRST_CLAIMS, address, now) and budgets.take(CONFLICTS, address, now)
        budgets.refuse(shared, now)
        return False


# ---- disputes ------------------------------------------------------------------------------------------------------
# Claims that are decided by probing the holder of the address first.
#
# A holder that is online but was last seen at another address may have given this one up, or may only use another
# protocol at the moment. The same is true of a silent holder if DHCP has leased the address to the claimant. An answer
# makes the claim a conflict; without an answer to two probes, the address moves. A holder that could not be probed
# counts as present.

PROBES, TRIES_APART = 2, 1.0
"""Probes of the holder, the second by broadcast, and the seconds in which each may be answered."""

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
    probes_holder: bool = False
    """The holder is probed first."""


@dataclass(slots=True, eq=False)
class Question:
    """A claim whose holder is being probed."""

    claim: Observation
    network: Network
    claimant: Device
    holder: Device
    due: float
    probes_sent: int = 0


class Disputes:
    """Open questions, at most one for each address."""

    def __init__(self, budgets: Budgets) -> None:
        self.open: dict[tuple[str, Ip], Question] = {}
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
        """Return whether the holder is being probed, for this claim or an earlier one."""
        if (network.id, ip) in self.open:
            return True
        if not self._budgets.take(DISPUTES, network.index, claim.at):
            return False
        self.open[network.id, ip] = Question(claim, network, claimant, holder, claim.at)
        return True

    def record_answer(self, network: Network, ip: Ip, holder: Device, at: float) -> Question | None:
        """Note that a device was seen at its address; return the question that this answers."""
        question = self.open.get((network.id, ip))
        if question is None or question.holder is not holder or at <= question.claim.at:
            return None
        return self.open.pop((network.id, ip))

    def due(self, now: float) -> tuple[list[Probe], list[Question]]:
        """Return the probes to send now, and the questions without an answer."""
        probes, over = [], []
        for (network, ip), question in tuple(self.open.items()):
            if question.due > now:
                continue
            if question.probes_sent == PROBES:
                del self.open[network, ip]
                over.append(question)
                continue
            mac = None if question.probes_sent else question.holder.mac
            probes.append(Probe(question.network, ip, mac, question.holder.mac, additional=True))
            question.probes_sent, question.due = question.probes_sent + 1, now + TRIES_APART
        return probes, over

    def forget(self, device: Device) -> None:
        """Drop the questions about a device that is forgotten."""
        for key, question in tuple(self.open.items()):
            if device is question.claimant or device is question.holder:
                del self.open[key]
