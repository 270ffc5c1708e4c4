"""Limits on the number of connections, in all and for each peer, and on the memory kept for slow readers."""

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
"""Connections reserved for root and the group."""

UNAUTHENTICATED_PART = 4
"""Unauthenticated connections may be this part (1/N) of all."""

CHECK_AFTER = 4 * 2**20
"""Bytes transferred until memory is checked again before the second ends."""


class ConnectionLimiter:
    """Limits for connections: `most` in all, `max_per_peer` of one peer.

    A connection without a role is unauthenticated; there may be many peers of this kind, because another host can use
    any number of addresses. They share a part of all connections; when it is full, the oldest one is closed. When all
    connections are in use, the account with the most loses its newest one to an account with fewer: one token may come
    from many addresses.
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
        """Number of refusals by limit."""
        self._transferred = 0
        """Bytes since the last check."""
        self._max = most
        self._max_per_peer = max_per_peer
        self._of_peer: Counter[Hashable] = Counter()
        self._unauthenticated: dict[Connection, None] = {}
        """Oldest first."""
        self._account_of: dict[Connection, Account] = {}
        """Account that each connection counts for when all are in use; oldest first."""

    def admit(self, connection: "Connection", peer: Peer) -> bool:
        """Count a connection; return False if there are too many."""
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
        """Close the newest connection of the account that has the most, if `account` would still have fewer.

        Connections of root and of the group are never closed, and not counted.
        """
        connections = [each for each in self._account_of if not each.peer.privileged]
        counts = Counter(self._account_of[each] for each in connections)
        most = max(counts, key=counts.__getitem__, default=None)
        if most is None or counts[most] <= counts[account] + 1:
            return False
        newest = next(each for each in reversed(connections) if self._account_of[each] == most)
        self.refused["account"] += 1
        newest.abort()
        self.leave(newest, newest.peer)  # free at once, not only when its transport has closed
        return True

    def _add_unauthenticated(self, connection: "Connection") -> None:
        if len(self._unauthenticated) >= max(1, self._max // UNAUTHENTICATED_PART):
            longest = next(iter(self._unauthenticated))
            del self._unauthenticated[longest]
            self.refused["strangers"] += 1
            longest.abort()
        self._unauthenticated[connection] = None

    def mark_authenticated(self, connection: "Connection") -> None:
        """Count a connection for its account, now that it has a role."""
        self._unauthenticated.pop(connection, None)
        if connection in self._account_of:
            self._account_of[connection] = connection.account

    def leave(self, connection: "Connection", peer: Peer) -> None:
        """Remove a connection."""
        self._unauthenticated.pop(connection, None)
        if connection in self.connections:
            self.connections.discard(connection)
            self._of_peer[peer.key] -= 1
            if not self._of_peer[peer.key]:
                del self._of_peer[peer.key]
            self._account_of.pop(connection, None)

    # ---- what they do not read ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Close connections that are not read, every second, until cancelled."""
        while True:
            await asyncio.sleep(until_next(1.0))
            self.check_unread(monotonic())

    def check_unread(self, now: float) -> None:
        """Close stalled connections and, over the memory limit, the largest one of the account that uses the most."""
        self._transferred = 0
        kept: defaultdict[Account, dict[Connection, int]] = defaultdict(dict)
        for connection in tuple(self.connections):
            if connection.is_stalled(now):
                connection.abort()
            elif not connection.peer.privileged and (size := connection.bytes_kept):
                kept[connection.account][connection] = size
        of_account = {account: sum(sizes.values()) for account, sizes in kept.items()}
        in_all = sum(of_account.values())
        while in_all > UNREAD.at_once:
            account = max(of_account, key=of_account.__getitem__)
            largest = max(kept[account], key=kept[account].__getitem__)
            size = kept[account].pop(largest)
            of_account[account] -= size
            in_all -= size
            largest.abort()
            self._budgets.refuse(UNREAD, now)

    def count(self, size: int) -> None:
        """Count bytes to or from a client; check memory early if there are many."""
        before = self._transferred
        self._transferred += size
        if before <= CHECK_AFTER < self._transferred:
            asyncio.get_running_loop().call_soon(lambda: self.check_unread(monotonic()))
