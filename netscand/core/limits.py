"""Admission limits: which devices are admitted, which are evicted, and which budget pays for their changes."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import islice
from random import Random

from netscand.core.annotations import is_annotated
from netscand.core.model import Device, Event, EventKind, Ip, Mac, Observation, Status
from netscand.core.ratelimit import (
    ABSENCES,
    ADDRESSES,
    DAY,
    FIRST_ABSENCES,
    FIRST_CHANGES,
    FLOODS,
    NEWCOMERS,
    NEWCOMERS_AGAIN,
    NEWCOMERS_AT,
    NEWCOMERS_THAT_ANSWER,
    OWN_SHARES,
    RESIDENTS,
    STRANGERS,
    Budget,
    Budgets,
)

# ---- strangers -----------------------------------------------------------------------------------------------------
# Strangers and residents, and the budgets that pay for their changes.
#
# An attacker can make up MACs, answer for them, and keep them for a while, but cannot make them known since yesterday
# or labelled by a user. So all strangers share one budget, residents share another, and an annotated device has budgets
# of its own. When a shared budget is used up, residents still have a few changes of their own, and so have the
# strangers that came first (`own_shares`): their leaving is published whatever others do. Later strangers have none,
# because otherwise each made-up MAC would bring its own.


def is_resident(device: Device, now: float) -> bool:
    """Return whether a device answered us and was known a day ago, or a user annotated it."""
    return is_annotated(device) or (device.confirmed and now - device.first_seen >= DAY)


def grant_share(budgets: Budgets, device: Device, now: float) -> None:
    """Give a new device a share of changes, if its interface has one left."""
    if budgets.has(OWN_SHARES, device.interface, now):  # checked first: having no share is no refusal
        device.has_share = budgets.take(OWN_SHARES, device.interface, now)


def could_change(budgets: Budgets, row: Budget, device: Device, now: float) -> bool:
    """Return whether `may_change` would allow a change, without spending."""
    return budgets.has(row, device.mac, now) and (is_annotated(device) or _payer(budgets, row, device, now) is not None)


def may_change(budgets: Budgets, row: Budget, device: Device, now: float) -> bool:
    """Return whether a device may cause one more event of the kind that `row` limits; if so, spend it."""
    if is_annotated(device):
        return budgets.take(row, device.mac, now)
    payer = _payer(budgets, row, device, now)
    if payer is None:
        budgets.refuse(_shared(device, now), now)
        return False
    return budgets.take(row, device.mac, now) and budgets.take(*payer, now, _units(row))


def _payer(budgets: Budgets, row: Budget, device: Device, now: float) -> tuple[Budget, Hashable] | None:
    """Return the budget that pays for a device without annotations, and its spender; None: nothing is left.

    Names and addresses never spend what is reserved for absences.
    """
    shared, units = _shared(device, now), _units(row)
    if budgets.has(shared, device.interface, now, units):
        return shared, device.interface
    if not device.has_share and shared is STRANGERS:
        return None
    own = FIRST_ABSENCES if row is ABSENCES else FIRST_CHANGES
    return (own, device.mac) if budgets.has(own, device.mac, now, units) else None


def _units(row: Budget) -> float:
    """Return the cost of a change: an address that is added will be removed, too, so it counts twice."""
    return 2.0 if row is ADDRESSES else 1.0


def _shared(device: Device, now: float) -> Budget:
    return RESIDENTS if is_resident(device, now) else STRANGERS


# ---- contested -----------------------------------------------------------------------------------------------------
# Addresses at which new devices were refused, and the budget of new devices that each address has of its own.
#
# A flood of made-up MACs can use up the budgets of its interface and claim every address. It cannot use up the budget
# of a real device's address unless its MACs stay and answer there. So each scan requests the address of a refused
# device by broadcast, even if another device holds it. A MAC that answers there twice, ANSWERS_APART, is admitted from
# the budget of that address, in the order of first answers.

ANSWERS_APART = 20.0
"""Seconds between two answers of a refused MAC after which it is probably real: made-up MACs are mostly used once."""

MOST_ADDRESSES = 4_096
"""Maximum addresses remembered, for at least DRAWN_WAITS each."""

MOST_MACS, DRAWN_WAITS = 16, 60.0
"""Maximum MACs remembered of an address; if more answer within so many seconds, a random sample is kept."""

STAYS = 3_600.0
"""Seconds without an answer after which a MAC that answered twice is dropped: longer than a scan of a /16."""

AddressKey = tuple[str, Ip]
"""Network and IPv4 address."""


@dataclass(slots=True)
class _Answers:
    first: float
    last: float

    def stays(self, now: float) -> bool:
        """Return whether the MAC answered twice, and recently."""
        return self.last - self.first >= ANSWERS_APART and now - self.last < STAYS


class _Waiting:
    """Refused MACs that answered at one address."""

    def __init__(self, now: float) -> None:
        self.macs: dict[Mac, _Answers] = {}
        self._since, self._count = now, 0

    def add(self, mac: Mac, now: float, rng: Random) -> None:
        """Note the first answer of a MAC."""
        if now - self._since >= DRAWN_WAITS:
            self._since, self._count = now, 0
        self._count += 1
        if len(self.macs) >= MOST_MACS:
            left = [each for each, answers in self.macs.items() if not answers.stays(now)]
            old = next((each for each in left if now - self.macs[each].last >= DRAWN_WAITS), None)
            if old is None and left and rng.random() * self._count < MOST_MACS:
                old = rng.choice(left)
            if old is None:
                return
            del self.macs[old]
        self.macs[mac] = _Answers(now, now)

    def is_next(self, mac: Mac, now: float) -> bool:
        """Return whether a MAC stays, and answered before all others that stay."""
        first = self.macs[mac].first
        return self.macs[mac].stays(now) and not any(
            other.first < first and other.stays(now) for other in self.macs.values()
        )


class ContestedAddresses:
    """Record of IPv4 addresses at which new devices were refused."""

    def __init__(self, budgets: Budgets, rng: Random) -> None:
        self._budgets = budgets
        self._rng = rng
        self._to_probe: OrderedDict[AddressKey, None] = OrderedDict()
        self._answers: OrderedDict[AddressKey, _Waiting] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether there are addresses to request."""
        return bool(self._to_probe)

    def __contains__(self, key: AddressKey) -> bool:
        """Return whether to request an address by broadcast, even if a device holds it."""
        return key in self._to_probe

    def add(self, network: str, ip: Ip | None) -> None:
        """Note that a new device was refused at an address."""
        if ip is not None and len(ip) == 4:
            self._to_probe[network, ip] = None
            if len(self._to_probe) > MOST_ADDRESSES:
                self._to_probe.popitem(last=False)

    def record_sent(self, network: str, ip: Ip) -> None:
        """Note that a scan requests an address by broadcast."""
        if self._to_probe:
            self._to_probe.pop((network, ip), None)

    def may_enter(self, network: str, ip: Ip | None, mac: Mac, now: float) -> bool:
        """Note an answer of a new device that the interface's budget refused; return whether to admit it."""
        if ip is None or len(ip) != 4:
            return False
        key = network, ip
        waiting = self._waiting_at(key, now)
        if waiting is None:
            return False
        if mac not in waiting.macs:
            waiting.add(mac, now, self._rng)
            return False
        waiting.macs[mac].last = now
        if not waiting.is_next(mac, now) or not self._budgets.take(NEWCOMERS_AT, key, now):
            return False
        del waiting.macs[mac]
        return True

    def _waiting_at(self, key: AddressKey, now: float) -> _Waiting | None:
        waiting = self._answers.get(key)
        if waiting is not None:
            return waiting
        if len(self._answers) >= MOST_ADDRESSES:
            oldest = next(iter(self._answers))
            if any(now - each.last < DRAWN_WAITS or each.stays(now) for each in self._answers[oldest].macs.values()):
                self._answers.move_to_end(oldest)  # the next call looks at another one
                return None
            del self._answers[oldest]
        self._answers[key] = waiting = _Waiting(now)
        return waiting


# ---- admission -----------------------------------------------------------------------------------------------------
# Admission and eviction of devices: a LAN is hostile, and every table is bounded (law 6, FAULTS T11).

MOST_UNCONFIRMED = 4_096
"""Maximum devices of an interface that never answered us; the oldest are evicted first."""

MOST_CONFIRMED = 65_536
"""Maximum devices of an interface that answered us."""

READMIT_AFTER = 20.0
"""Seconds after which a refused MAC that is seen again is probably real: made-up MACs are mostly seen once."""

MOST_WAITING, WAITING_FOR = 4_096, 60.0
"""Maximum refused MACs remembered of an interface, each for at least so many seconds, so that a flood evicts none."""

MOST_NEVER_SEEN = 4_096
"""Maximum devices that a user annotated before they were seen."""

LONG_OFFLINE = 30 * DAY
"""Seconds offline after which a device that stayed for more than a day may be evicted for one that answered us."""

EXAMINED = 64
"""Devices examined for one that may be evicted."""

EVICTED = "offline, and evicted to make room for a newer device"
NO_ROOM = "never answered, and evicted to make room for newer devices"


class _InterfaceCounts:
    """Devices and refused MACs of one interface."""

    def __init__(self) -> None:
        self.unconfirmed: dict[Mac, Device] = {}
        self.confirmed: dict[Mac, Device] = {}
        self.waiting: OrderedDict[Mac, float] = OrderedDict()
        """Refused MACs, with the time of the first refusal."""
        self.refused = 0


class AdmissionLimits:
    """Limits on the number of devices of each interface, separate for those that answered us."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._by_interface: defaultdict[int, _InterfaceCounts] = defaultdict(_InterfaceCounts)

    def admit(self, seen: Observation, *, confirmed: bool, has_room: bool) -> bool:
        """Return whether to admit a new device. `confirmed`: it answered us, and needs `has_room`."""
        interface, now = seen.interface, seen.at
        counts = self._by_interface[interface]
        row = NEWCOMERS_THAT_ANSWER if confirmed else NEWCOMERS
        if confirmed and not has_room:
            self._budgets.refuse(row, now)
        elif self._budgets.take(row, interface, now) or self._is_back(counts, seen):
            counts.waiting.pop(seen.mac, None)
            return True
        counts.refused += 1
        return False

    def _is_back(self, counts: _InterfaceCounts, seen: Observation) -> bool:
        """Return whether a MAC was refused READMIT_AFTER ago or earlier, and the budget admits it now."""
        since = counts.waiting.get(seen.mac)
        if since is not None:
            return seen.at - since >= READMIT_AFTER and self._budgets.take(NEWCOMERS_AGAIN, seen.interface, seen.at)
        waiting = counts.waiting
        if len(waiting) >= MOST_WAITING:
            if seen.at - next(iter(waiting.values())) < WAITING_FOR:
                return False
            waiting.popitem(last=False)
        waiting[seen.mac] = seen.at
        return False

    def has_room(self, interface: int) -> bool:
        """Return whether there is room for one more device that answered us."""
        return len(self._by_interface[interface].confirmed) < MOST_CONFIRMED

    def eviction_candidate(self, interface: int, now: float) -> Mac | None:
        """Return a device to evict for a new one that answered: offline, without annotations.

        Devices that stayed for less than a day go first; the others only after a month offline. None while there is
        room, or if none of those examined may go; the next call examines others.
        """
        if self.has_room(interface):
            return None

        def may_evict(device: Device) -> bool:
            gone_for = now - device.last_seen
            return device.status is Status.OFFLINE and (not _stayed_a_day(device) or gone_for > LONG_OFFLINE)

        return _next_evicted(self._by_interface[interface].confirmed, may_evict)

    def flood(self, seen: Observation, network: str) -> tuple[Event, ...]:
        """Return a `flood` event about the MACs refused since the last one, if it is time for another."""
        counts = self._by_interface[seen.interface]
        if not counts.refused or not self._budgets.has(FLOODS, seen.interface, seen.at):
            return ()
        self._budgets.take(FLOODS, seen.interface, seen.at)
        count, counts.refused = counts.refused, 0
        reason = f"{count} new MACs refused: more than the limit; the last: {seen.mac.hex(':')}"
        return (Event(EventKind.FLOOD, seen.at, network, None, seen.ip, seen.mac, seen.evidence, reason),)

    def add(self, device: Device) -> Mac | None:
        """Count a device that never answered us; return the one to evict for it, if any: the oldest.

        Devices that stayed for more than a day go last. Annotated ones are never evicted, and may exceed the limit.
        """
        unconfirmed = self._by_interface[device.interface].unconfirmed
        unconfirmed[device.mac] = device
        if len(unconfirmed) <= MOST_UNCONFIRMED:
            return None
        gone = _next_evicted(unconfirmed, lambda each: each is not device)
        if gone is not None:
            del unconfirmed[gone]
        return gone

    def confirm(self, device: Device) -> None:
        """Count a device as one that answered us, if there is room."""
        here = self._by_interface[device.interface]
        if len(here.confirmed) >= MOST_CONFIRMED:
            return
        for counts in self._by_interface.values():
            counts.unconfirmed.pop(device.mac, None)
        device.confirmed = True
        here.confirmed[device.mac] = device

    def remove(self, device: Device) -> None:
        """Stop counting a device."""
        for counts in self._by_interface.values():  # it may be counted at another interface than where it was seen last
            counts.confirmed.pop(device.mac, None)
            counts.unconfirmed.pop(device.mac, None)


def _stayed_a_day(device: Device) -> bool:
    """Return whether a device was present for more than a day, which an attacker cannot fake quickly."""
    return device.last_seen - device.first_seen >= DAY


def _next_evicted(counted: dict[Mac, Device], may_evict: Callable[[Device], bool]) -> Mac | None:
    """Return the next device to evict, never an annotated one. Each call examines others, longest counted first."""
    last_choice = None
    for mac in tuple(islice(counted, EXAMINED)):
        device = counted[mac]
        if not is_annotated(device) and may_evict(device):
            if not _stayed_a_day(device):
                return mac
            last_choice = last_choice or mac
        counted[mac] = counted.pop(mac)
    return last_choice
