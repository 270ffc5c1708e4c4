"""Receive rings shared with the kernel, and the reader that decodes their frames within a budget."""

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
# A receive ring shared with the kernel: frames of every interface, filtered, stamped and counted by it.
#
# TPACKET_V2 carries the interface's index and a stamp with each frame, is not bounded by rmem_max (at the usual one, a
# sleeping reader keeps 512 of 5,000 replies), and needs no more than CAP_NET_RAW. Source: the kernel's
# Documentation/networking/packet_mmap.rst and include/uapi/linux/if_packet.h.

PACKET_RX_RING = 5
PACKET_STATISTICS = 6
PACKET_VERSION = 10
PACKET_IGNORE_OUTGOING = 23
TPACKET_V2 = 1
TP_STATUS_USER = 1

BLOCK = 64 * 1024
"""Bytes the kernel allocates in one piece."""

FRAME_AT = 66
"""Where a frame begins in its slot: tpacket2_hdr and sockaddr_ll, padded so that the *network* header is aligned."""

_HEADER = struct.Struct("=8xIH2xII12xi")
"""tpacket2_hdr: (status, len,) snaplen, mac, (net,) sec, nsec, (vlan…); sockaddr_ll: (family, protocol,) ifindex."""


class Frame(NamedTuple):
    """What stood in a slot; in the order of `packets.decode`."""

    frame: bytes
    at: float
    """The kernel's stamp, in monotonic seconds."""
    interface: int
    """ifindex"""


class Ring:
    """One ring: `slot` bytes a frame, header included, `size` in all. Raises OSError where the kernel refuses.

    `slot` divides BLOCK and `size` is a multiple of it, so that slots follow each other without gaps. `program` makes
    the filter, told how many bytes of a frame a slot has room for; `wall` is the clock of the kernel's stamps, in ns.
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
        self._socket = bpf.packet_socket()
        try:
            # Bound last, and of no protocol before: not one frame enters unfiltered.
            bpf.attach(self._socket, program(slot - FRAME_AT))
            self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
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
        """Readable while a frame waits."""
        return self._socket.fileno()

    def read(self, most: int) -> list[Frame]:
        """The next frames, oldest first, at most so many; fewer: none is left.

        Stamps are wall time, and become monotonic by the offset of this moment. If the wall clock jumped in between,
        they are held between what we know: a frame came after the ring was last seen empty and after the frame before
        it, and before now.
        """
        frames: list[Frame] = []
        words, ring, slot, size = self._words, self._map, self._slot, self._size
        position, floor = self._next, self._floor
        now = started = monotonic()
        wall = self._wall()
        for _ in range(most):
            if not words[position >> 2] & TP_STATUS_USER:  # read first: behind it, the kernel has written the rest
                floor = max(floor, started)
                break
            length, start, seconds, nanoseconds, interface = _HEADER.unpack_from(ring, position)
            start += position
            frame = ring[start : start + length]
            words[position >> 2] = 0  # last: from here on, the slot is the kernel's
            position += slot
            if position == size:
                position = 0
            at = started - (wall - seconds * 1_000_000_000 - nanoseconds) * 1e-9
            if at > now:
                now = monotonic()
                at = min(at, now)
            floor = max(at, floor)
            frames.append(Frame(frame, floor, interface))
        self._next, self._floor = position, floor
        return frames

    def drops(self) -> int:
        """Frames that found the ring full since the last call."""
        _, drops = struct.unpack("=II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return int(drops)

    def error(self) -> str:
        """What broke the socket; empty where it is sound."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return os.strerror(number) if number else ""

    def close(self) -> None:
        """Give everything back."""
        self._words.release()
        self._map.close()
        self._socket.close()


# ---- ear -----------------------------------------------------------------------------------------------------------
# One receive ring, and what is made of its frames: read in turns, decoded within a budget, counted.

Decode = Callable[[bytes, float, int], Sequence[Observation]]
"""(frame, at, interface) → what it says, oldest first. Total."""

EMPTY_READS = 10_000
"""Times that a ring may call us to a slot that is not ready; then we have lost our place in it."""


LOST_SHARE = 0.1
"""The part of what came since the last count from which on, if it was not looked at, silence proves nothing: a probe
and its repetitions may be among it."""


class Broken(Exception):
    """The ring hears no more; the text says why."""


class CaptureReader:
    """Hears what `program` lets in, from `open` on; `batch` frames a turn at most. `slot` and `size` as of Ring."""

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
        """Frames decoded a second, and at once, at most; None: all."""
        self._budgets = budgets or Budgets()
        self._empty_reads = 0
        self._ring: Ring | None = None
        self.interfaces: Container[int] | None = None
        """Those whose frames are decoded; None: all."""
        self.received = self.dropped = self.ignored = 0
        """Frames heard, those that the kernel had no room for, and those heard but beyond the budget."""
        self.behind = self.over_budget = False
        """The last turn ended with frames unheard; with the budget spent."""
        self.overflow_at = -inf
        """When last (monotonic) so much was lost that an answer may well have been among it."""
        self._counted = 0, 0
        """Frames that came, and those of them that were not looked at, as of the last count."""

    def open(self) -> None:
        """Begin to hear; what comes before the first `read` waits. Raises OSError."""
        self._ring = Ring(self._program, *self._shape)
        self._empty_reads = 0

    def fileno(self) -> int:
        """Readable while a frame waits."""
        assert self._ring is not None
        return self._ring.fileno()

    def read(self) -> list[Observation]:
        """What the next frames say. Raises Broken."""
        assert self._ring is not None
        frames = self._ring.read(self._batch)
        self.behind = len(frames) == self._batch
        self.over_budget = False
        if not frames:
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
        decode = self._decode
        return [seen for frame in frames for seen in decode(*frame)]

    def _check_empty(self, ring: Ring) -> None:
        """Readable, and no frame: an error, or a slot that another processor is still writing."""
        if wrong := ring.error():
            raise Broken(wrong)
        self._empty_reads += 1
        if self._empty_reads > EMPTY_READS:
            raise Broken("the ring says that it has frames, and has none")

    def count(self) -> None:
        """Ask the kernel how many it had no room for; without a ring, all that comes is lost."""
        if self._ring:
            self.dropped += self._ring.drops()
        came, lost = self._counted
        self._counted = self.received + self.dropped, self.dropped + self.ignored
        if not self._ring or self._counted[1] - lost > LOST_SHARE * (self._counted[0] - came):
            self.overflow_at = monotonic()

    def close(self) -> None:
        """Hear no more."""
        if self._ring:
            self._ring.close()
            self._ring = None
