"""Receive rings shared with the kernel, and the reader that decodes their frames within a budget."""

import errno
import mmap
import os
import socket
import struct
from collections.abc import Callable, Container, Sequence
from math import inf
from time import monotonic, time_ns
from typing import NamedTuple

from netscand.core.model import Observation
from netscand.core.ratelimit import TALK, Budgets
from netscand.lan import bpf
from netscand.lan.bpf import ETH_P_ALL, SOL_PACKET, Instruction

# ---- ring ----------------------------------------------------------------------------------------------------------
# A receive ring shared with the kernel, which filters, timestamps and counts the frames of every interface.
#
# TPACKET_V2 has the interface's index and a timestamp with each frame, is not limited by rmem_max (with the usual one,
# a sleeping reader gets 512 of 5,000 replies), and needs only CAP_NET_RAW. Source: the kernel's
# Documentation/networking/packet_mmap.rst and include/uapi/linux/if_packet.h.

PACKET_RX_RING = 5
PACKET_STATISTICS = 6
PACKET_VERSION = 10
PACKET_IGNORE_OUTGOING = 23
"""Since Linux 4.20."""
TPACKET_V2 = 1
TP_STATUS_USER = 1

BLOCK = 64 * 1024
"""Bytes that the kernel allocates in one piece."""

FRAME_AT = 66
"""Offset of a frame in its slot: after tpacket2_hdr and sockaddr_ll, padded so that the *network* header is aligned."""

PACKET_OUTGOING = 4

_HEADER = struct.Struct("=8xIH2xII12xi2xB")
"""tpacket2_hdr: (status, len,) snaplen, mac, (net,) sec, nsec, (vlan…); sockaddr_ll: (family, protocol,) ifindex,
(hatype,) pkttype."""


class Frame(NamedTuple):
    """Content of a slot, in the order of the arguments of a decoder."""

    frame: bytes
    at: float
    """Timestamp of the kernel, in monotonic seconds."""
    interface: int
    """ifindex"""


def _ignores_outgoing(sock: socket.socket) -> bool:
    """Exclude the frames that this host sends; return False where that is not possible: the filter can do it, too."""
    try:
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    except OSError:  # ENOPROTOOPT on an older kernel; emulations of Linux have other errors
        return False
    return True


class Ring:
    """Receive ring of `size` bytes, with `slot` bytes for each frame and its header. Raises OSError.

    `slot` divides BLOCK, and `size` is a multiple of BLOCK, so that there are no gaps between slots. `program` returns
    the filter for a number of bytes of each frame; `wall` is the clock of the kernel's timestamps, in ns.
    """

    def __init__(
        self,
        program: Callable[[int], Sequence[Instruction]],
        slot: int = 128,
        size: int = 4 << 20,
        wall: Callable[[], int] = time_ns,
    ) -> None:
        assert BLOCK % slot == 0 == size % BLOCK
        self._slot = slot
        self._size = size
        self._wall = wall
        self._next = 0
        self._children: frozenset[bytes] = frozenset()
        self.own = 0
        """Frames of this host itself that the last `read` skipped."""
        self._socket = bpf.packet_socket()
        try:
            # Bound last, without a protocol before, so that no frame enters unfiltered.
            code = program(slot - FRAME_AT)
            bpf.attach(self._socket, code if _ignores_outgoing(self._socket) else bpf.incoming(code))
            self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
            shape = struct.pack("=IIII", BLOCK, size // BLOCK, slot, size // slot)
            self._socket.setsockopt(SOL_PACKET, PACKET_RX_RING, shape)
            self._map = mmap.mmap(self._socket.fileno(), size)
            bpf.bind(self._socket, 0, ETH_P_ALL)
        except OSError:
            self._socket.close()
            raise
        self._words = memoryview(self._map).cast("I")
        self._floor = monotonic()

    def fileno(self) -> int:
        """Return the file descriptor, which is readable while a frame waits."""
        return self._socket.fileno()

    def read(self, most: int) -> list[Frame]:
        """Return the next frames, oldest first, at most `most`; fewer: no more wait.

        Timestamps are wall time, converted to monotonic time by the current offset. In case the wall clock jumped, they
        are limited: a frame arrived after the ring was last empty and after the previous frame, and before now.
        """
        frames: list[Frame] = []
        self.own = 0
        words, ring, slot, size = self._words, self._map, self._slot, self._size
        position, floor = self._next, self._floor
        now = started = monotonic()
        wall = self._wall()
        for _ in range(most):
            if not words[position >> 2] & TP_STATUS_USER:  # read first: the kernel writes the status last
                floor = max(floor, started)
                break
            length, start, seconds, nanoseconds, interface, kind = _HEADER.unpack_from(ring, position)
            start += position
            frame = ring[start : start + length]
            words[position >> 2] = 0  # written last: it returns the slot to the kernel
            position += slot
            if position == size:
                position = 0
            at = started - (wall - seconds * 1_000_000_000 - nanoseconds) * 1e-9
            if at > now:
                now = monotonic()
                at = min(at, now)
            floor = max(at, floor)
            if kind == PACKET_OUTGOING and frame[6:12] not in self._children:
                self.own += 1
                continue
            frames.append(Frame(frame, floor, interface))
        self._next, self._floor = position, floor
        return frames

    def follow_children(self, macs: frozenset[bytes]) -> None:
        """Receive what these MACs send through this host, too: those of macvlan interfaces. Raises OSError."""
        self._children = macs
        try:
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 0 if macs else 1)
        except OSError as refused:
            if refused.errno != errno.ENOPROTOOPT:  # before Linux 4.20
                raise

    def drops(self) -> int:
        """Return the frames dropped by a full ring since the last call."""
        _, drops = struct.unpack("=II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return int(drops)

    def error(self) -> str:
        """Return the error of the socket; empty if there is none."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return os.strerror(number) if number else ""

    def close(self) -> None:
        """Close the socket and the map."""
        self._words.release()
        self._map.close()
        self._socket.close()


# ---- reader --------------------------------------------------------------------------------------------------------
# Reader of one ring: a batch each turn, decoded within a budget, counted.

Decode = Callable[[bytes, float, int], Sequence[Observation]]
"""(frame, at, interface) → observations, oldest first. Never raises."""

EMPTY_READS = 10_000
"""Maximum reads in a row of a slot that is not ready; after that, our position in the ring is wrong."""


LOST_SHARE = 0.1
"""Part of the frames since the last count that, if not decoded, makes silence meaningless: the answers to a probe and
its repetitions may be among them."""


class Broken(Exception):
    """A ring that no longer works; the text says why."""


class CaptureReader:
    """Reader of a ring with the filter `program`: at most `batch` frames each turn. `slot`, `size`: see Ring."""

    def __init__(
        self,
        program: Callable[[int], Sequence[Instruction]],
        decode: Decode,
        batch: int,
        *,
        slot: int = 128,
        size: int = 4 << 20,
        budget: float = 0.0,
        budgets: Budgets | None = None,
    ) -> None:
        self._program = program
        self._decode = decode
        self._batch = batch
        self._shape = slot, size
        self._budget = TALK._replace(at_once=budget, per_second=budget) if budget else None
        """Limit of frames decoded in a second; None: unlimited."""
        self._budgets = budgets or Budgets()
        self._empty_reads = 0
        self._ring: Ring | None = None
        self.interfaces: Container[int] | None = None
        """Interfaces whose frames are decoded; None: all."""
        self.received = self.dropped = self.ignored = 0
        """Frames received; dropped by the kernel; received but beyond the budget."""
        self.behind = self.over_budget = False
        """The last turn left frames unread; used up the budget."""
        self.overflow_at = -inf
        """When (monotonic) so much was last lost that answers may be among it."""
        self.tap: Callable[[Sequence[Frame]], None] | None = None
        """Gets the frames that are decoded."""
        self._children: frozenset[bytes] = frozenset()
        self._counted = 0, 0
        """Frames that arrived, and those not decoded, at the last count."""

    def open(self) -> None:
        """Open the ring; frames wait there until the first `read`. Raises OSError."""
        self._ring = Ring(self._program, *self._shape)
        if self._children:
            self._ring.follow_children(self._children)
        self._empty_reads = 0

    def fileno(self) -> int:
        """Return the file descriptor, which is readable while a frame waits."""
        assert self._ring is not None
        return self._ring.fileno()

    def read(self) -> list[Observation]:
        """Return the observations of the next frames. Raises Broken."""
        assert self._ring is not None
        frames = self._ring.read(self._batch)
        self.behind = len(frames) == self._batch
        self.over_budget = False
        if not frames:
            if not self._ring.own:
                self._check_empty(self._ring)
            return []
        self._empty_reads = 0
        self.received += len(frames)
        if self._budget is not None:
            wanted = self.interfaces
            if wanted is not None:
                frames = [frame for frame in frames if frame.interface in wanted]
            now = monotonic()
            room = self._budgets.room(self._budget, None, now)
            if len(frames) > room:
                self.over_budget = True
                self.ignored += len(frames) - room
                self._budgets.refuse(self._budget, now, len(frames) - room)
                del frames[room:]
            self._budgets.take(self._budget, None, now, len(frames))
        if self.tap is not None:
            self.tap(frames)
        decode = self._decode
        return [seen for frame in frames for seen in decode(*frame)]

    def _check_empty(self, ring: Ring) -> None:
        """Handle a readable ring without a frame: an error, or a slot that another CPU is still writing."""
        if wrong := ring.error():
            raise Broken(wrong)
        self._empty_reads += 1
        if self._empty_reads > EMPTY_READS:
            raise Broken("the ring is readable but has no frames")

    def follow_children(self, macs: frozenset[bytes]) -> None:
        """Receive what these MACs send through this host, too."""
        changed, self._children = macs != self._children, macs
        if changed and self._ring is not None:
            self._ring.follow_children(macs)

    def count(self) -> None:
        """Update the drop counters; without a ring, everything is lost."""
        if self._ring:
            self.dropped += self._ring.drops()
        came, lost = self._counted
        self._counted = self.received + self.dropped, self.dropped + self.ignored
        if not self._ring or self._counted[1] - lost > LOST_SHARE * (self._counted[0] - came):
            self.overflow_at = monotonic()

    def close(self) -> None:
        """Close the ring."""
        if self._ring:
            self._ring.close()
            self._ring = None
