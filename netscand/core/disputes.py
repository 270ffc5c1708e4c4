"""Disputed addresses: claims to what another device holds, asked about and reported."""

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
# Addresses that are guarded: a claim to one of them is published at once, from a budget that no other claim can spend.
#
# These are the gateway's, this host's own, and those of IPv6 routers. Anybody can advertise itself as a router, so that
# only those known for longest are guarded, each by a budget of its own.

MOST_ROUTERS = 4
"""Routers of an interface that are guarded."""


class Guard(NamedTuple):
    """What pays for the events of claims to a guarded address."""

    budget: Budget
    spender: Hashable
    router: Device | None = None
    """The IPv6 router whose address it is."""


class Guards:
    """The guarded addresses of every interface (ifindex)."""

    def __init__(self) -> None:
        self._ours: dict[int, frozenset[Ip]] = {}
        self._routers: dict[int, list[Device]] = {}
        """Those known for longest first."""

    def open(self, networks: Iterable[Network]) -> None:
        """Take the networks that are scanned, which have our own addresses."""
        self._ours = {}
        for network in networks:
            self._ours[network.index] = self._ours.get(network.index, frozenset()) | network.ours

    def is_ours(self, network: Network, ip: Ip) -> bool:
        """Return whether an address is this host's own."""
        return ip in self._ours.get(network.index, ())

    def update_router(self, device: Device) -> None:
        """Take that a device is a router of IPv6 now, or is none any more."""
        for index, routers in self._routers.items():
            self._routers[index] = [router for router in routers if router is not device]
        if device.is_router:
            routers = [*self._routers.get(device.interface, ()), device]
            self._routers[device.interface] = sorted(routers, key=lambda each: each.first_seen)[:MOST_ROUTERS]

    def at(self, network: Network, ip: Ip) -> Guard | None:
        """Return the guard of an address; None: it has none."""
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
# Claims to an address that another device holds: which are published, and how often.
#
# Guarded addresses (core/disputes.py) have budgets of their own, that no other claim can spend: each new claimant is
# published at once, and where there are more than that allows, they are counted.

APART = 600.0
"""Seconds between two events of a conflict that name the same claimant of the same address."""

APART_UNCHANGED = DAY
"""The same for a claim that changes nothing: a proxy that answers for a whole network, too, is one event a device and
day."""

MOST_REPORTED = 1_024
"""Claimants remembered."""


class DisputeReports:
    """Published claims, and the count of those that were not."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._published: OrderedDict[tuple[str, Ip, Mac], float] = OrderedDict()
        self._suppressed: Counter[tuple[str, Ip]] = Counter()
        """Claims to a guarded address for which there was no room."""

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
        """Return whether the claim of `claimant` to what `old` holds is to be published now; it counts as that then.

        `guard`: the address is guarded.
        """
        if in_conflict and self.was_published(network, ip, claimant, now, apart):
            return False
        if guard is not None:
            if not self._budgets.take(guard.budget, guard.spender, now):
                self._suppressed[network.id, ip] += 1
                return False
        elif not self._take(network, ip, old, now):
            return False
        if in_conflict:  # who holds it defends it: that is no claim to be published beside this one
            self._note(network, ip, claimant, now)
            self._note(network, ip, old.mac, now)
        return True

    def suppressed_text(self, network: Network, ip: Ip) -> str:
        """Return what a reason says of claims that were counted since the last one published; none after that."""
        count = self._suppressed.pop((network.id, ip), 0)
        return f"; {count} more claims by other MACs since the last event" if count else ""

    def was_published(self, network: Network, ip: Ip, claimant: Mac, now: float, apart: float = APART) -> bool:
        """Return whether a conflict with that claimant was published within `apart` seconds."""
        return now < self._published.get((network.id, ip, claimant), -inf) + apart

    def _note(self, network: Network, ip: Ip, claimant: Mac, now: float) -> None:
        key = network.id, ip, claimant
        self._published[key] = now
        self._published.move_to_end(key)
        if len(self._published) > MOST_REPORTED:
            self._published.popitem(last=False)

    def _take(self, network: Network, ip: Ip, old: Device, now: float) -> bool:
        """Take from the budget of the address, and from that of all addresses of such devices or its first ones."""
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
# Claims of which the holder of the address is asked first whether it is still there.
#
# A device that is online, but was heard elsewhere since, may have given the address up, or only speak by another
# protocol now. So may one that is silent, where DHCP says that the address has another owner. An answer makes the
# claim a conflict; without one to two asks, the address moves. A holder that could not be asked is taken for present.

PROBES, TRIES_APART = 2, 1.0
"""Asks of the holder, the second by broadcast, and the seconds in which each may be answered."""

HANDOVER = 60.0
"""Seconds after a DHCP server's ACK in which its client is expected to claim the address."""

MOST = 256
"""Leases and releases remembered."""


class Dispute(NamedTuple):
    """What is to be made of a claim to an address that another device holds."""

    in_conflict: bool
    """Both are there; else the address moves."""
    takes: bool
    """Who claims it is who was heard there last, from now on."""
    reason: str | None
    """Of the event; None: nothing is published."""
    asked: bool = False
    """The holder is asked first."""


@dataclass(slots=True, eq=False)
class Question:
    """A claim, while its holder is asked."""

    claim: Observation
    network: Network
    claimant: Device
    holder: Device
    due: float
    probes_sent: int = 0


class Disputes:
    """Questions that are open, one for an address."""

    def __init__(self, budgets: Budgets) -> None:
        self.open: dict[tuple[str, Ip], Question] = {}
        self._budgets = budgets
        self._leases: OrderedDict[tuple[str, Ip], tuple[Mac, float]] = OrderedDict()
        self._released: OrderedDict[Mac, float] = OrderedDict()

    @property
    def next_at(self) -> float:
        """When `due` next wants to be called."""
        return min(question.due for question in self.open.values()) if self.open else inf

    def record_lease(self, seen: Observation, network: Network) -> None:
        """Take that a DHCP server gave an address to a client."""
        if seen.ip is not None:
            self._leases[network.id, seen.ip] = seen.mac, seen.at
            self._leases.move_to_end((network.id, seen.ip))
            if len(self._leases) > MOST:
                self._leases.popitem(last=False)

    def record_release(self, mac: Mac, at: float) -> None:
        """Take that a device gave its DHCP lease back."""
        self._released[mac] = at
        self._released.move_to_end(mac)
        if len(self._released) > MOST:
            self._released.popitem(last=False)

    def is_handover(self, network: Network, ip: Ip, claimant: Mac, holder: Device, now: float) -> bool:
        """Return whether DHCP said that the address is the claimant's now, or that its holder gave it back."""
        client, at = self._leases.get((network.id, ip), (None, -inf))
        leased = client == claimant and now - at <= HANDOVER
        return leased or self._released.get(holder.mac, -inf) >= holder.last_seen

    def open_question(self, claim: Observation, ip: Ip, network: Network, claimant: Device, holder: Device) -> bool:
        """Return whether the holder of the address is asked, for this claim or one before it."""
        if (network.id, ip) in self.open:
            return True
        if not self._budgets.take(DISPUTES, network.index, claim.at):
            return False
        self.open[network.id, ip] = Question(claim, network, claimant, holder, claim.at)
        return True

    def record_answer(self, network: Network, ip: Ip, holder: Device, at: float) -> Question | None:
        """Take that a device was heard at an address that it holds; return the question that this answers."""
        question = self.open.get((network.id, ip))
        if question is None or question.holder is not holder or at <= question.claim.at:
            return None
        return self.open.pop((network.id, ip))

    def due(self, now: float) -> tuple[list[Probe], list[Question]]:
        """Return what to ask now, and the questions that nobody answered."""
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
        for place, question in tuple(self.open.items()):
            if device is question.claimant or device is question.holder:
                del self.open[place]
