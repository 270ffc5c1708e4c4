"""Addresses at which new devices were refused, and the share of each address in the newcomers that are published.

A flood of made-up MACs can use up the budgets of its interface, and claim every address. It cannot use up what is kept
for the address of a real device unless it answers there by MACs that stay. So a refused newcomer is asked again: each
scan asks its address by broadcast, whoever holds it. Who answers twice there, AGAIN_AFTER apart, has a part in the
share of that address, in the order of the first answers.
"""

from collections import OrderedDict
from dataclasses import dataclass
from random import Random

from netscand.core.budgets import NEWCOMERS_AT, Budgets
from netscand.core.model import Ip, Mac

AGAIN_AFTER = 20.0
"""Seconds between two answers of a MAC that was refused, after which it is not one of many that are used once."""

MOST_ADDRESSES = 4_096
"""Addresses remembered, at least WAITS each."""

MOST_MACS, WAITS = 16, 60.0
"""MACs remembered of an address; where more answer once within so many seconds, these are drawn by lot."""

STAYS = 3_600.0
"""Seconds without an answer after which a MAC that answered twice no longer waits: more than a scan of a /16 takes."""

Place = tuple[str, Ip]
"""Network and IPv4 address."""


@dataclass(slots=True)
class _Answers:
    first: float
    last: float

    def stays(self, now: float) -> bool:
        """Return whether the MAC answered twice, and not long ago."""
        return self.last - self.first >= AGAIN_AFTER and now - self.last < STAYS


class _Waiting:
    """MACs that answered at one address."""

    def __init__(self, now: float) -> None:
        self.macs: dict[Mac, _Answers] = {}
        self._since, self._count = now, 0

    def add(self, mac: Mac, now: float, rng: Random) -> None:
        """Take the first answer of a MAC."""
        if now - self._since >= WAITS:
            self._since, self._count = now, 0
        self._count += 1
        if len(self.macs) >= MOST_MACS:
            left = [each for each, answers in self.macs.items() if not answers.stays(now)]
            old = next((each for each in left if now - self.macs[each].last >= WAITS), None)
            if old is None and left and rng.random() * self._count < MOST_MACS:
                old = rng.choice(left)
            if old is None:
                return
            del self.macs[old]
        self.macs[mac] = _Answers(now, now)

    def is_next(self, mac: Mac, now: float) -> bool:
        """Return whether a MAC stays, and is the first to have answered of those that do."""
        first = self.macs[mac].first
        return self.macs[mac].stays(now) and not any(
            other.first < first and other.stays(now) for other in self.macs.values()
        )


class ContestedAddresses:
    """IPv4 addresses at which new devices were refused."""

    def __init__(self, budgets: Budgets, rng: Random) -> None:
        self._budgets = budgets
        self._rng = rng
        self._to_ask: OrderedDict[Place, None] = OrderedDict()
        self._answers: OrderedDict[Place, _Waiting] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether there are any to ask."""
        return bool(self._to_ask)

    def __contains__(self, place: Place) -> bool:
        """Return whether an address is to be asked by broadcast, whoever holds it or speaks from it."""
        return place in self._to_ask

    def add(self, network: str, ip: Ip | None) -> None:
        """Take that a new device was refused there."""
        if ip is not None and len(ip) == 4:
            self._to_ask[network, ip] = None
            if len(self._to_ask) > MOST_ADDRESSES:
                self._to_ask.popitem(last=False)

    def asked(self, network: str, ip: Ip) -> None:
        """Take that a scan asks an address by broadcast now."""
        if self._to_ask:
            self._to_ask.pop((network, ip), None)

    def may_enter(self, network: str, ip: Ip | None, mac: Mac, now: float) -> bool:
        """Take an answer of a new device for which its interface has no budget left; return whether it is published."""
        if ip is None or len(ip) != 4:
            return False
        place = network, ip
        waiting = self._waiting_at(place, now)
        if waiting is None:
            return False
        if mac not in waiting.macs:
            waiting.add(mac, now, self._rng)
            return False
        waiting.macs[mac].last = now
        if not waiting.is_next(mac, now) or not self._budgets.take(NEWCOMERS_AT, place, now):
            return False
        del waiting.macs[mac]
        return True

    def _waiting_at(self, place: Place, now: float) -> _Waiting | None:
        waiting = self._answers.get(place)
        if waiting is not None:
            return waiting
        if len(self._answers) >= MOST_ADDRESSES:
            oldest = next(iter(self._answers))
            if any(now - each.last < WAITS or each.stays(now) for each in self._answers[oldest].macs.values()):
                self._answers.move_to_end(oldest)  # the next call looks at another one
                return None
            del self._answers[oldest]
        self._answers[place] = waiting = _Waiting(now)
        return waiting
