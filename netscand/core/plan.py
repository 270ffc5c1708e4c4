"""What is planned for one network that is up: its schedule, its walk, its round trips."""

from math import inf
from random import Random
from typing import NamedTuple

from netscand.core.budget import Allowance, Bucket
from netscand.core.model import Cause, Ip, Mac, Network
from netscand.core.scan import Order

LEAST_WAIT, MOST_WAIT = 0.05, 1.0
"""Seconds a scan waits for the last answers, by the round trips seen."""


ANSWER_WITHIN = 2.0
"""Seconds after an ask in which a reply is an answer to it."""

MOST_ANSWERS = 256
"""Devices that may answer one ask."""


class Outstanding(NamedTuple):
    """An ask that may still be answered."""

    at: float
    mac: Mac | None
    """The device asked; None: all, and each of them may answer, or the fastest liar would silence the others."""
    answered: set[Mac]
    """Those that have, at most MOST_ANSWERS."""

    def answer(self, mac: Mac, at: float) -> float | None:
        """Take the answer of a device; its round trip in seconds, None where it is late or not its first."""
        rtt = max(0.0, at - self.at)
        if rtt > ANSWER_WITHIN or mac in self.answered or len(self.answered) >= MOST_ANSWERS:
            return None
        self.answered.add(mac)
        return rtt


class Plan:
    """What is planned for one network that is up."""

    def __init__(self, network: Network, now: float, rng: Random) -> None:
        self.network = network
        self.offsets = network.offsets
        self.order = Order(len(self.offsets), rng)
        self.walked = 0
        """Where in the order the next timer's scan goes on."""
        self.due = now
        self.cause = Cause.INTERFACE
        self.echo_at = now
        """When all nodes are asked for an echo next."""
        self.last_scan: float | None = None
        self.last_fast = -inf
        self.changed_at = now
        """When somebody last came or went."""
        self.outstanding: dict[Ip, Outstanding] = {}
        """Asks that may still be answered, oldest first."""
        self.rate: Bucket | None = None
        self.background: Bucket | None = None
        self.requested: Allowance | None = None
        """Broadcasts at the full rate that clients may still request here."""
        self._srtt: float | None = None
        self._rttvar = 0.0

    def sample(self, rtt: float) -> None:
        """Fold in a round trip, smoothed as TCP does (RFC 6298 section 2)."""
        if self._srtt is None:
            self._srtt, self._rttvar = rtt, rtt / 2
        else:
            self._rttvar += (abs(self._srtt - rtt) - self._rttvar) / 4
            self._srtt += (rtt - self._srtt) / 8

    @property
    def wait(self) -> float:
        """Seconds in which nearly every answer comes."""
        if self._srtt is None:
            return MOST_WAIT / 2
        return min(max(self._srtt + 4 * self._rttvar, LEAST_WAIT), MOST_WAIT)
