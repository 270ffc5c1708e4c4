"""The uid of the peer of a connection, by Unix socket or on loopback, and the account that it is counted for."""

import socket
import struct
from bisect import bisect_right
from collections.abc import Hashable, Iterator
from ipaddress import ip_address
from itertools import islice
from pathlib import Path
from typing import NamedTuple

# ---- Unix sockets --------------------------------------------------------------------------------------------------

SO_PEERGROUPS = 59
"""linux/socket.h; Python has no name for it."""

MAX_GROUPS = 256
"""Groups that Python's getsockopt can return; of a user with more, only the primary group counts."""


def unix_peer(sock: socket.socket) -> tuple[int, tuple[int, ...]]:
    """Return the uid and the groups of the peer of a Unix socket, as they were when it connected (unix(7))."""
    _, uid, gid = struct.unpack("3I", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MAX_GROUPS * 4)
    except OSError:
        return uid, (gid,)
    return uid, (gid, *struct.unpack(f"{len(raw) // 4}I", raw))


# ---- loopback ------------------------------------------------------------------------------------------------------
# The uid of the peer of a connection on loopback: TCP does not know it, but the kernel does (sock_diag(7)).

SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG, linux/netlink.h; Python has no name for it."""

BY_FAMILY = 20
REQUEST = 1

_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBBI")
"""inet_diag_req_v2: family, protocol, extensions, padding, states."""

_SOCKET = struct.Struct("!HH16s16s4sQ")
"""inet_diag_sockid: ports, addresses, interface, and a cookie of ones, for unknown."""

_OWNER = struct.Struct("=II")
"""Uid and inode; the socket of a program always has an inode."""

_OWNER_AT = _HEADER.size + 4 + _SOCKET.size + 12
"""Offset in inet_diag_msg: after family, states, socket, timer and both queues."""

CLOSE_WAIT = 8
"""TCP_CLOSE_WAIT, linux/tcp_states.h"""

EVERY_STATE = 0xFFFFFFFF


CLOSED = "closed by the other end"


def loopback_uid(sock: socket.socket) -> int | None:
    """Return the uid that created the socket at the other end of a connection on this host.

    None if the kernel has no sock_diag. Raises ConnectionError if that socket is closed: it has no user any more, and
    most kernels show it as root's.
    """
    ours, theirs = sock.getsockname(), sock.getpeername()
    side = _SOCKET.pack(
        theirs[1], ours[1], ip_address(theirs[0]).packed, ip_address(ours[0]).packed, bytes(4), 2**64 - 1
    )
    question = _QUESTION.pack(sock.family, socket.IPPROTO_TCP, 0, 0, EVERY_STATE) + side
    header = _HEADER.pack(_HEADER.size + len(question), BY_FAMILY, REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, SOCK_DIAG) as diag:
            diag.setblocking(False)  # the kernel has answered when sendto returns
            diag.sendto(header + question, (0, 0))
            answer = diag.recv(4096)
    except OSError:
        return None
    if len(answer) < _OWNER_AT + _OWNER.size or _HEADER.unpack_from(answer)[1] != BY_FAMILY:
        if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT:  # the other end is closed
            raise ConnectionResetError(CLOSED)
        return None
    uid, inode = _OWNER.unpack_from(answer, _OWNER_AT)
    if not inode:
        raise ConnectionResetError(CLOSED)
    return int(uid)


# ---- subordinates --------------------------------------------------------------------------------------------------
# Accounts of subordinate uids (subuid(5)): a user of this host can use all of them (newuidmap(1)).
#
# Only /etc/subuid counts. Other uids above 65,535 are accounts of their own: directories (LDAP, AD) give them to
# people, and a container has them only if root permits it. So are those of DynamicUser= (61184 to 65519), which only
# root gives out, one to each service. Groups do not matter here: connections are counted by uid, and a subordinate
# gid is never that of `[access] group`.

SUBUID, PASSWD = Path("/etc/subuid"), Path("/etc/passwd")

LARGEST = 1 << 20
"""Maximum bytes read of each file."""

MAX_LINES = 4096
"""Maximum lines read of each file."""

FIRST = 1 << 16
"""Uids below this are real accounts, whatever the file says."""


class _Range(NamedTuple):
    start: int
    stop: int
    account: Hashable


class Subordinates:
    """Subordinate uids, each with the account that it belongs to."""

    def __init__(self, ranges: tuple[_Range, ...] = ()) -> None:
        self._ranges = ranges
        """Ascending, not overlapping."""
        self._starts = [each.start for each in ranges]

    def account(self, uid: int) -> Hashable:
        """Return the account that connections of a uid are counted for."""
        number = bisect_right(self._starts, uid) - 1
        if number >= 0 and uid < self._ranges[number].stop:
            return self._ranges[number].account
        return "uid", uid


def read_subordinates(subuid: Path = SUBUID, passwd: Path = PASSWD) -> Subordinates:
    """Read the ranges of all users. Lines that cannot be read are left out: a bad line takes no connection away."""
    uids = {name: int(uid) for name, _, uid, *_ in _lines(passwd, 7) if uid.isascii() and uid.isdigit()}
    ranges: list[_Range] = []
    for found in sorted(_ranges(subuid, uids), key=lambda each: each.start):
        start = max(found.start, ranges[-1].stop if ranges else FIRST)
        if start < found.stop:
            ranges.append(found._replace(start=start))
    return Subordinates(tuple(ranges))


def _ranges(path: Path, uids: dict[str, int]) -> Iterator[_Range]:
    for name, start, count in _lines(path, 3):
        if not all(text.isascii() and text.isdigit() and len(text) <= 10 for text in (start, count)):
            continue
        uid = int(name) if name.isascii() and name.isdigit() and len(name) <= 10 else uids.get(name)
        # Root's are those of its containers, which are not counted with root itself.
        account = ("subordinates of", name) if uid in (0, None) else ("uid", uid)
        yield _Range(int(start), min(int(start) + int(count), 1 << 32), account)


def _lines(path: Path, fields: int) -> Iterator[list[str]]:
    """Yield the lines with the given number of fields."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST).decode("utf-8", "replace")
    except OSError:
        return
    for line in islice(text.split("\n"), MAX_LINES):
        found = line.strip().split(":")
        if len(found) == fields and found[0]:
            yield found
