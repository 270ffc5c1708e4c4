"""Receiving takes a bounded piece, then yields to the loop; no code in lan/ receives otherwise."""

import ast
import asyncio
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from netscand.lan import turns
from tests.core.test_house import ROOT, modules

RECEIVING = {
    "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into",
    "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into",
}  # fmt: skip
ELSEWHERE = {
    "netscand/lan/netlink.py": "a dump of the kernel's, of which each piece is followed by a turn",
    "netscand/serve/accept.py": "one byte, looked at once when a connection is accepted: is its client gone already?",
    "netscand/serve/selftest.py": "our own answer to our own request, over a pair of sockets, within TIMEOUT seconds",
    "netscand/serve/peer_uid.py": "one answer of the kernel's, to one question",
}
"""Where something is received by other means, and why that is bounded."""


def receiving(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in RECEIVING:
            yield f"{node.attr} in line {node.lineno}"


@pytest.mark.parametrize("path", sorted(modules("netscand")), ids=lambda path: str(path.relative_to(ROOT)))
def test_all_that_is_received_is_received_by_the_rule(path: Path) -> None:
    """lan/turns.py: code that awaits datagrams until the right one arrives is blocked while others are sent."""
    name = str(path.relative_to(ROOT))
    found = list(receiving(path))
    if name == "netscand/lan/turns.py":
        assert len(found) == 2
    elif name in ELSEWHERE:
        assert len(found) == 1, "one place is known, and was looked at"
    else:
        assert not found


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A non-blocking socket on loopback, and one whose datagrams come to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours, socket.socket(
        socket.AF_INET, socket.SOCK_DGRAM
    ) as theirs:  # fmt: skip
        ours.bind(("127.0.0.1", 0))
        theirs.bind(("127.0.0.1", 0))
        theirs.connect(ours.getsockname())
        ours.connect(theirs.getsockname())
        ours.setblocking(False)
        yield ours, theirs


def test_what_waits_is_given_by_the_piece(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    for number in range(10):
        theirs.send(bytes([number]))
    pieces = [[datagram[0][0] for datagram in turns.waiting(ours, 10, 4) if datagram] for _ in range(4)]
    assert pieces == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]


class Overrun:
    """A socket of netlink whose buffer always was too small."""

    def recvfrom(self, size: int) -> tuple[bytes, object]:
        raise OSError(errno.ENOBUFS, "no buffer space available")


def test_a_socket_with_endless_losses_blocks_no_turn() -> None:
    """The number of reads is limited."""
    assert list(turns.waiting(Overrun(), 10, 4)) == [None] * 4  # type: ignore[arg-type]


def test_a_turn_is_given_before_each_datagram(pair: tuple[socket.socket, socket.socket]) -> None:
    """So a timeout fires though there is always one more."""
    ours, theirs = pair

    async def work() -> int:
        count = 0
        try:
            async with asyncio.timeout(0.05):
                while True:
                    theirs.send(b"one more")
                    await turns.receive(ours, 10)
                    count += 1
        except TimeoutError:
            return count

    async def bounded() -> int:
        return await asyncio.wait_for(work(), 5)

    assert asyncio.run(bounded()) > 1


def test_work_in_pieces_is_done_in_turns_or_at_once() -> None:
    done: list[str] = []

    def work() -> turns.Work[int]:
        for _ in range(3):
            done.append("piece")
            yield
        return 7

    async def other() -> None:
        for _ in range(3):
            done.append("other")
            await asyncio.sleep(0)

    async def both() -> int:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(other())
            return await turns.run_in_turns(work())

    assert asyncio.run(both()) == 7
    assert done == ["piece", "other"] * 3
    assert turns.run_now(work()) == 7
