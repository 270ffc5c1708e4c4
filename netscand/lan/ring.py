"""A receive ring shared with the kernel: frames of every interface, filtered, stamped and counted by it.

TPACKET_V2 carries the interface's index and a stamp with each frame, is not bounded by rmem_max (at the usual one, a
sleeping reader keeps 512 of 5,000 replies), and needs no more than CAP_NET_RAW. Source: the kernel's
Documentation/networking/packet_mmap.rst and include/uapi/linux/if_packet.h.
"""

import mmap
import os
import socket
import struct
from collections.abc import Callable, Sequence
from time import monotonic, time_ns
from typing import NamedTuple

from netscand.lan import packet_socket
from netscand.lan.filters import Instruction
from netscand.lan.packet_socket import ETH_P_ALL, SOL_PACKET

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
        self._socket = packet_socket.packet_socket()
        try:
            # Bound last, and of no protocol before: not one frame enters unfiltered.
            packet_socket.attach(self._socket, program(slot - FRAME_AT))
            self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            shape = struct.pack("=IIII", BLOCK, size // BLOCK, slot, size // slot)
            self._socket.setsockopt(SOL_PACKET, PACKET_RX_RING, shape)
            self._map = mmap.mmap(self._socket.fileno(), size)
            packet_socket.bind(self._socket, 0, ETH_P_ALL)
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
        place, floor = self._next, self._floor
        now = started = monotonic()
        wall = self._wall()
        for _ in range(most):
            if not words[place >> 2] & TP_STATUS_USER:  # read first: behind it, the kernel has written the rest
                floor = max(floor, started)
                break
            length, start, seconds, nanoseconds, interface = _HEADER.unpack_from(ring, place)
            start += place
            frame = ring[start : start + length]
            words[place >> 2] = 0  # last: from here on, the slot is the kernel's
            place += slot
            if place == size:
                place = 0
            at = started - (wall - seconds * 1_000_000_000 - nanoseconds) * 1e-9
            if at > now:
                now = monotonic()
                at = min(at, now)
            floor = max(at, floor)
            frames.append(Frame(frame, floor, interface))
        self._next, self._floor = place, floor
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
