"""One scan: which addresses it asks, in which order, how often, and what has come of it.

Pure, and lazy: a /16 is walked without a table of its addresses.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import gcd
from random import Random

from netscand.core.addresses import has_answered
from netscand.core.inventory import Inventory
from netscand.core.model import Ask, Cause, Device, Ip, Mac, Network, Status
from netscand.core.targets import Wish

EXTRA_TRIES = 3
"""What a device that is online gets on top of `tries`: a wish should not miss it for a lost frame."""

SKIP = 1024
"""Addresses passed over before the walk lets the loop breathe."""

ANSWERED, SETTLED = 254, 255
"""In place of the count of tries: answered, or tried for the last time without an answer."""


Walk = Iterator[Ask | float | None]
"""What is next: an Ask; a time before which there is nothing to do; None, to let the loop breathe."""


class Order:
    """A random order of 0 … n-1 that needs no table: steps of a size that shares no factor with n."""

    def __init__(self, n: int, rng: Random) -> None:
        self.n = n
        self._first = rng.randrange(n) if n else 0
        step = rng.randrange(n // 3, 2 * n // 3) | 1 if n > 3 else 1  # never near n, which would walk backwards
        while gcd(step, max(n, 1)) != 1:
            step += 2 if n % 2 == 0 else 1
        self._step = step

    def at(self, i: int) -> int:
        """Give the i-th, counted round and round."""
        return (self._first + i * self._step) % self.n


class Part:
    """One scan's share of one network."""

    def __init__(
        self,
        network: Network,
        offsets: Sequence[int],
        order: Order,
        window: range,
        *,
        tries: int,
        thorough: bool,
        fast: bool,
    ) -> None:
        self.network = network
        self.offsets = offsets
        """Within the network; `window` are the indexes into `order` of those that are asked."""
        self.fast = fast
        """At the full rate; else broadcast keeps to the background rate."""
        self.whole = len(window) == len(network.offsets)
        self.done = 0
        self.total = len(window)
        self.found: dict[Mac, int] = {}
        """Shared by the parts of a scan: devices that answered, each with the number of addresses where it did."""
        self.settled = 0
        """Addresses that will not be asked again."""
        self.wait = 0.5
        """Seconds to wait for an answer; the planner keeps it to the round trips it sees."""
        self.now = 0.0
        self.walk: Walk | None = None
        """Under way; None: at its end."""
        self.pending: Ask | float | None = None
        self._order = order
        self._window = window
        self._tries = tries
        self._thorough = thorough
        self._base = int(network.cidr.network_address)
        self._state = bytearray(len(offsets))
        self._known: list[Device | None] = [None] * len(offsets)
        """Online devices, each at the address where it was asked first: whoever claims the address meanwhile."""
        self._found_at: list[Mac | None] = [None] * len(offsets)
        """The one MAC that counts as found at each address."""
        self._answered = 0
        self._last_sent = 0.0

    @property
    def open(self) -> int:
        """Addresses without an answer."""
        return self.total - self._answered

    def index(self, offset: int) -> int | None:
        """Give the place of an address in this part."""
        return self.offsets.index(offset) if offset in self.offsets else None

    def covers(self, runs: Iterable[range]) -> bool:
        """Whether all these addresses are this part's and will still be asked, or asked again."""
        for run in runs:
            first = self.index(run.start)
            if first is None or self.index(run[-1]) != first + len(run) - 1:
                return False
            if any(self._state.find(passed, first, first + len(run)) >= 0 for passed in (ANSWERED, SETTLED)):
                return False
        return True

    def heard(self, ip: Ip, mac: Mac, inventory: Inventory) -> bool:
        """Take an answer to an ask of ours; return whether it finds a device.

        Where a known device is online, another MAC does not end the asking: anybody can answer first. One MAC counts as
        found at an address: the one of the device that is known there, else the first that is a device.
        """
        index = self.index(int.from_bytes(ip) - self._base)
        if index is None:
            return False
        known = self._known[index]
        is_known = known is not None and known.mac == mac
        if known is None or is_known or known.status is not Status.ONLINE:
            self._answer(index)
        before = self._found_at[index]
        if before is not None and before in inventory.devices and not is_known:
            return False
        return self._find(index, mac)

    def _answer(self, index: int) -> None:
        if self._state[index] != ANSWERED:
            self._settle(index)
            self._state[index] = ANSWERED
            self._answered += 1

    def _find(self, index: int, mac: Mac) -> bool:
        """Count a device as found at an address; return whether it was found nowhere before."""
        before = self._found_at[index]
        if before == mac:
            return False
        if before is not None:
            self.found[before] -= 1
            if not self.found[before]:
                del self.found[before]
        self._found_at[index] = mac
        count = self.found.get(mac, 0)
        self.found[mac] = count + 1
        return not count

    def _settle(self, index: int) -> None:
        if self._state[index] < ANSWERED:
            self._state[index] = SETTLED
            self.settled += 1
            self.done += 1

    def asks(self, inventory: Inventory) -> Walk:
        """Walk the addresses, the known first, the silent again and again."""
        started = self.now
        yield from self._walk(inventory, 0, known=True)
        yield from self._walk(inventory, 0, known=False)
        for attempt in range(1, self._tries + (EXTRA_TRIES if self._thorough else 0)):
            if self.settled == self.total:
                break
            yield started + self.wait
            started = self.now
            yield from self._walk(inventory, attempt, known=None)
        if self.open and self._last_sent:
            yield self._last_sent + self.wait
        self.done = self.total

    def _walk(self, inventory: Inventory, attempt: int, *, known: bool | None) -> Walk:
        """Ask once around. `known`: only devices that are online, or only the others."""
        network_id, base, state = self.network.id, self._base, self._state
        skipped = 0
        for i in self._window:
            index = self._order.at(i)
            tried = state[index]
            skipped += 1
            if skipped % SKIP == 0:
                yield None
            if tried > attempt:  # SETTLED too
                continue
            ip = Ip((base + self.offsets[index]).to_bytes(4))
            device = self._known[index] or inventory.addresses.holder(network_id, ip)
            online = device is not None and device.status is Status.ONLINE
            if known is not None and online is not known:
                continue
            if device is not None and device.is_self:
                self._answer(index)  # found only where it was a target
                if not self.whole:
                    self._find(index, device.mac)
                continue
            if (
                device is not None
                and online
                and not self._thorough
                and has_answered(device, network_id, ip)
                and (network_id, ip) not in inventory.contested
            ):
                self._answer(index)  # presence asks it, as seldom as it can: this scan need not
                self._find(index, device.mac)
                continue
            limit = self._tries + (EXTRA_TRIES if self._thorough and online else 0)
            if attempt >= limit:
                self._settle(index)
                continue
            state[index] = attempt + 1
            self._last_sent = self.now
            # Every second try goes to broadcast: the address may have another holder by now.
            inventory.contested.asked(network_id, ip)
            if online:
                self._known[index] = device
            known_mac = device.mac if device is not None and online and self._thorough and attempt % 2 == 0 else None
            yield Ask(self.network, ip, known_mac)
            if attempt + 1 == limit:
                self._settle(index)
            skipped = 0


@dataclass(slots=True)
class Scan:
    """One pass over one or more networks, with one id."""

    id: int
    cause: Cause
    parts: list[Part]
    started_at: float
    broadcast: int = 0
    unicast: int = 0
    tell_at: float = 0.0
    """When its progress may be told again."""
    told: tuple[int, int] = (0, 0)
    networks: tuple[str, ...] = field(init=False)
    found: dict[Mac, int] = field(default_factory=dict)
    """Who answered, in the order of the answers: at most one MAC for each address."""

    def __post_init__(self) -> None:
        self.networks = tuple(part.network.id for part in self.parts)
        for part in self.parts:
            part.found = self.found

    def serves(self, wish: Wish) -> bool:
        """Whether none of what is wanted has been passed."""
        parts = {part.network.id: part for part in self.parts}
        for network, runs in wish.items():
            part = parts.get(network)
            if part is None:
                return False
            if not part.covers(runs.ranges) if runs is not None else not part.whole or part.settled:
                return False
        return True

    @property
    def progress(self) -> tuple[int, int]:
        """Give (done, found)."""
        return sum(part.done for part in self.parts), len(self.found)
