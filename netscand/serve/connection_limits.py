"""The lobby: how many connections there may be, in all and of one peer, and who makes way where there are too many."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Hashable
from time import monotonic
from typing import TYPE_CHECKING

from netscand.core.ratelimit import UNREAD, Budgets
from netscand.serve.auth import UNAUTHENTICATED, Guard, Peer, Role
from netscand.serve.fair_turns import Account, FairTurns
from netscand.serve.histograms import until_next

if TYPE_CHECKING:
    from netscand.serve.connection import Connection

RESERVED = 32
"""Connections that only root and the group may still make."""

UNAUTHENTICATED_PART = 4
"""Strangers have this part of all connections."""

CHECK_AFTER = 4 * 2**20
"""Bytes that come and go until it is looked again who holds how much: a second may bring many times that."""


class ConnectionLimiter:
    """Counts connections: `most` in all, `max_per_peer` of one peer.

    Who has no role yet is a stranger, and may be many: another host has as many addresses as it likes. They have a part
    of the room, and where it is full, whoever has stood there longest makes way. Where the whole room is full, an
    account that holds more than the one who comes would gives up its newest: a token may come from many addresses.
    """

    def __init__(
        self,
        guard: Guard,
        most: int,
        max_per_peer: int,
        turns: FairTurns | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        self.guard = guard
        self.turns = turns or FairTurns()
        self._budgets = budgets or Budgets()
        self.connections: set[Connection] = set()
        self.refused: Counter[str] = Counter()
        """By which limit."""
        self._transferred = 0
        """Bytes since the last look."""
        self._max = most
        self._max_per_peer = max_per_peer
        self._of_peer: Counter[Hashable] = Counter()
        self._unauthenticated: dict[Connection, None] = {}
        """In the order in which they came."""
        self._account_of: dict[Connection, Account] = {}
        """Whom each is counted for where the room is full; in the order in which they came."""

    def admit(self, connection: "Connection", peer: Peer) -> bool:
        """Count it in, unless there are too many."""
        most = self._max if peer.privileged else self._max - RESERVED
        account = peer.key if peer.role > Role.NONE else UNAUTHENTICATED
        if not peer.privileged and self._of_peer[peer.key] >= self._max_per_peer:
            self.refused["peer"] += 1
        elif len(self.connections) >= most and (peer.privileged or not self._make_room(account)):
            self.refused["all"] += 1
        else:
            if peer.role is Role.NONE:
                self._add_unauthenticated(connection)
            self.connections.add(connection)
            self._of_peer[peer.key] += 1
            self._account_of[connection] = account
            return True
        return False

    def _make_room(self, account: Account) -> bool:
        """Cut the newest of the account that holds the most, if one of `account` would still hold fewer.

        Root and the group give way to nobody, and their connections count for nobody.
        """
        there = [each for each in self._account_of if not each.peer.privileged]
        held = Counter(self._account_of[each] for each in there)
        most = max(held, key=held.__getitem__, default=None)
        if most is None or held[most] <= held[account] + 1:
            return False
        newest = next(each for each in reversed(there) if self._account_of[each] == most)
        self.refused["account"] += 1
        newest.abort()
        self.leave(newest, newest.peer)  # its place is free now, not only when its transport has closed
        return True

    def _add_unauthenticated(self, connection: "Connection") -> None:
        if len(self._unauthenticated) >= max(1, self._max // UNAUTHENTICATED_PART):
            longest = next(iter(self._unauthenticated))
            del self._unauthenticated[longest]
            self.refused["strangers"] += 1
            longest.abort()
        self._unauthenticated[connection] = None

    def mark_authenticated(self, connection: "Connection") -> None:
        """It showed that it has a role: from now on it is counted for its account, too."""
        self._unauthenticated.pop(connection, None)
        if connection in self._account_of:
            self._account_of[connection] = connection.account

    def leave(self, connection: "Connection", peer: Peer) -> None:
        """Count it out."""
        self._unauthenticated.pop(connection, None)
        if connection in self.connections:
            self.connections.discard(connection)
            self._of_peer[peer.key] -= 1
            if not self._of_peer[peer.key]:
                del self._of_peer[peer.key]
            self._account_of.pop(connection, None)

    # ---- what they do not read ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Cut who does not read, every second; until cancelled."""
        while True:
            await asyncio.sleep(until_next(1.0))
            self.check_unread(monotonic())

    def check_unread(self, now: float) -> None:
        """Cut what takes nothing of an answer for too long, and the largest of the account that holds the most."""
        self._transferred = 0
        held: defaultdict[Account, dict[Connection, int]] = defaultdict(dict)
        for connection in tuple(self.connections):
            if connection.is_stalled(now):
                connection.abort()
            elif not connection.peer.privileged and (size := connection.bytes_kept):
                held[connection.account][connection] = size
        of_account = {account: sum(sizes.values()) for account, sizes in held.items()}
        in_all = sum(of_account.values())
        while in_all > UNREAD.at_once:
            account = max(of_account, key=of_account.__getitem__)
            largest = max(held[account], key=held[account].__getitem__)
            size = held[account].pop(largest)
            of_account[account] -= size
            in_all -= size
            largest.abort()
            self._budgets.refuse(UNREAD, now)

    def count(self, size: int) -> None:
        """Count bytes that a client sent or is sent, and look again when they are many."""
        before = self._transferred
        self._transferred += size
        if before <= CHECK_AFTER < self._transferred:
            asyncio.get_running_loop().call_soon(lambda: self.check_unread(monotonic()))
