"""A hostile account of this host: connections to the daemon, all of one uid, that ask for too much."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.lab.daemon import Daemon
from tests.lab.program import Program
from tests.lab.spaces import Space
from tests.serve.house import handshake

NICE = 5
"""The priority of attackers: that they share our two processors with the daemon is not what is tested."""

FIRST, SECOND, THIRD = 1501, 1502, 1503
"""Uids: two attackers, and one that suffers."""


class Outcome(NamedTuple):
    """What an attack came to."""

    opened: int
    still_open: int
    cut: int
    refused: int
    sent: int
    messages: int
    received: int
    finished: int
    took: list[float]
    """The longest five, in seconds, of the connections that were answered to their end."""
    seconds: float


class Account:
    """`count` connections of one account; they send `more` without end once `connected` lets them.

    Each sends one of `begin` first, in turn (where it `upgrades`, the answer has to be 101); then `more`, again and
    again: `rate` times a second over all connections, or, with 0, as often as the daemon takes it. `reads`: whether
    answers are read. `again`: connect again whenever a connection ends. `where`: (host, port), instead of the daemon's
    Unix socket, from the address `source`, in the namespace `space`. `spread`: each connection by the next uid.
    `knocks`: connect, send `begin` and close, over and over, instead.
    """

    def __init__(
        self,
        daemon: Daemon,
        uid: int,
        count: int,
        begin: bytes | list[bytes],
        more: bytes = b"",
        *,
        upgrades: bool = False,
        reads: bool = True,
        again: bool = False,
        rate: float = 0.0,
        where: tuple[str, int] | None = None,
        source: str | None = None,
        space: Space | None = None,
        spread: bool = False,
        knocks: bool = False,
    ) -> None:
        first = [begin] if isinstance(begin, bytes) else begin
        self._options: dict[str, Any] = {
            "uid": uid, "gid": uid, "nice": NICE, "count": count, "begin": [each.decode("latin-1") for each in first],
            "more": more.decode("latin-1"), "upgrades": upgrades, "reads": reads, "again": again, "rate": rate,
            "where": where or str(daemon.socket), "source": source, "spread": spread,
            "knocks": knocks,
        }  # fmt: skip
        self._space = space or daemon.space
        self._program: Program | None = None

    def connect(self, seconds: float) -> None:
        """Open the connections, for an attack of so many seconds."""
        options = self._options | {"seconds": seconds}
        self._program = Program(self._space, "tests.attacks.account_process", options=options).ready()

    def open_fire(self) -> None:
        """Begin."""
        assert self._program is not None
        self._program.go()

    def outcome(self) -> Outcome:
        """Wait until it is over; the connections stay open."""
        assert self._program is not None
        return Outcome(**self._program.result())

    def close(self) -> None:
        """End it."""
        if self._program is not None:
            self._program.close()


def websockets(
    daemon: Daemon,
    uid: int,
    count: int,
    more: bytes,
    query: str = "updates=changes",
    **how: Any,  # noqa: ANN401
) -> Account:
    """WebSockets that send `more` (frames) without end."""
    return Account(daemon, uid, count, handshake(f"/ws?{query}"), more, upgrades=True, **how)


def requests(daemon: Daemon, uid: int, count: int, *targets: str, **how: Any) -> Account:  # noqa: ANN401
    """Connections that ask for one of `targets` in turn, and for the next as soon as they have the answer."""
    asking = [f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" for target in targets]
    return Account(daemon, uid, count, [each.encode() for each in asking], **{"again": True} | how)


@contextmanager
def connected(seconds: float, *accounts: Account) -> Iterator[Callable[[], list[Outcome]]]:
    """All of them with their connections open; call what this gives to let them all talk for so many seconds.

    It returns what each came to. The connections stay open to the end of the block.
    """

    def fire() -> list[Outcome]:
        for account in accounts:
            account.open_fire()
        return [account.outcome() for account in accounts]

    try:
        for account in accounts:
            account.connect(seconds)
        yield fire
    finally:
        for account in accounts:
            account.close()


def frame(payload: bytes, opcode: int = 0x1) -> bytes:
    """A masked frame of a client (RFC 6455, section 5.2); the mask is zeros."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2)
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8)
    return head + bytes(4) + payload
