"""Claims of which the holder of the address is asked first whether it is still there.

A device that is online, but was heard elsewhere since, may have given the address up, or only speak by another protocol
now. So may one that is silent, where DHCP says that the address has another owner. An answer makes the claim a
conflict; without one to two asks, the address moves. A holder that could not be asked is taken for present.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from netscand.core.budgets import DISPUTES, Budgets
from netscand.core.model import Ask, Device, Ip, Mac, Network, Observation

ASKS, APART = 2, 1.0
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
    asks: int = 0


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

    def leased(self, seen: Observation, network: Network) -> None:
        """Take that a DHCP server gave an address to a client."""
        if seen.ip is not None:
            self._leases[network.id, seen.ip] = seen.mac, seen.at
            self._leases.move_to_end((network.id, seen.ip))
            if len(self._leases) > MOST:
                self._leases.popitem(last=False)

    def released(self, mac: Mac, at: float) -> None:
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

    def ask(self, claim: Observation, ip: Ip, network: Network, claimant: Device, holder: Device) -> bool:
        """Return whether the holder of the address is asked, for this claim or one before it."""
        if (network.id, ip) in self.open:
            return True
        if not self._budgets.take(DISPUTES, network.index, claim.at):
            return False
        self.open[network.id, ip] = Question(claim, network, claimant, holder, claim.at)
        return True

    def answered(self, network: Network, ip: Ip, holder: Device, at: float) -> Question | None:
        """Take that a device was heard at an address that it holds; return the question that this answers."""
        question = self.open.get((network.id, ip))
        if question is None or question.holder is not holder or at <= question.claim.at:
            return None
        return self.open.pop((network.id, ip))

    def due(self, now: float) -> tuple[list[Ask], list[Question]]:
        """Return what to ask now, and the questions that nobody answered."""
        asks, over = [], []
        for (network, ip), question in tuple(self.open.items()):
            if question.due > now:
                continue
            if question.asks == ASKS:
                del self.open[network, ip]
                over.append(question)
                continue
            mac = None if question.asks else question.holder.mac
            asks.append(Ask(question.network, ip, mac, question.holder.mac, beside=True))
            question.asks, question.due = question.asks + 1, now + APART
        return asks, over

    def forget(self, device: Device) -> None:
        """Drop the questions about a device that is forgotten."""
        for place, question in tuple(self.open.items()):
            if device is question.claimant or device is question.holder:
                del self.open[place]
