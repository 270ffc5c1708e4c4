"""Frames in and out by AF_PACKET, fast enough for a crowd of thousands: a mapped receive ring and batched sending.

Written apart from netscand on purpose: the lab judges it, so it must not share its mistakes.
Source: Linux `packet(7)`, Documentation/networking/packet_mmap.rst (TPACKET_V2), `sendmmsg(2)`.
"""

import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

SOL_PACKET = 263
PACKET_RX_RING = 5
PACKET_STATISTICS = 6
PACKET_VERSION = 10
PACKET_IGNORE_OUTGOING = 23
SO_ATTACH_FILTER = 26
TPACKET_V2 = 1
ETH_P_ALL = 0x0003
OUTGOING = 4
"""sll_pkttype of a frame that this interface sent."""

BLOCK = 1 << 18
"""Bytes of one block of the ring: small enough that the kernel finds it in a crowded memory."""
SLL_AT = 32
"""Where the sockaddr_ll stands in a slot: after the header of 32 bytes."""
FRAME = 60
"""The least an Ethernet frame carries without its checksum; every ARP frame is padded to it."""
BATCH = 1024
"""UIO_MAXIOV: what one sendmmsg takes."""

ARP_REQUESTS = (
    (0x30, 0, 0, 0xFFFFF030),  # A = a VLAN tag is present (SKF_AD_VLAN_TAG_PRESENT)
    (0x15, 0, 5, 0),
    (0x28, 0, 0, 12),  # A = EtherType
    (0x15, 0, 3, 0x0806),
    (0x28, 0, 0, 20),  # A = ARP operation
    (0x15, 0, 1, 1),
    (0x06, 0, 0, 0xFFFFFFFF),
    (0x06, 0, 0, 0),
)
"""Kernel filter: untagged ARP requests only."""


class Frame(NamedTuple):
    """A captured frame."""

    at: float
    """The kernel's stamp, unix seconds."""
    outgoing: bool
    data: bytes
    """As much as was kept."""
    length: int
    """Bytes on the wire."""
    vlan: int | None


def attach_filter(sock: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Let the kernel drop what the classic BPF `program` refuses; what had come before it is thrown away."""
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    held = ctypes.create_string_buffer(code)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(held)))


class Ring:
    """The receive ring of one raw socket bound to `interface`: the kernel writes into `slots` slots of `size` bytes.

    `sock` is an unbound AF_PACKET SOCK_RAW socket of protocol 0, made in the namespace it is to hear; the ring owns it
    from here on. Nothing is heard before this returns, everything after it, read or not, until the slots are full.
    """

    def __init__(
        self,
        sock: socket.socket,
        interface: str,
        *,
        slots: int = 65_536,
        size: int = 256,
        program: Sequence[tuple[int, int, int, int]] = (),
        outgoing: bool = False,
    ) -> None:
        self.socket = sock
        self.size = size
        self.slots = slots
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        if not outgoing:
            sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        if program:
            attach_filter(sock, program)
        sock.setsockopt(SOL_PACKET, PACKET_RX_RING, struct.pack("IIII", BLOCK, slots * size // BLOCK or 1, size, slots))
        self.memory = mmap.mmap(sock.fileno(), max(slots * size, BLOCK))
        self.words = memoryview(self.memory).cast("I")
        self.halves = memoryview(self.memory).cast("H")
        self.at = 0
        sock.bind((interface, ETH_P_ALL))

    def take(self) -> Iterator[Frame]:
        """The frames that wait, oldest first; each slot is given back as the next is asked for."""
        while self.words[self.at * self.size // 4] & 1:
            start = self.at * self.size
            status, length, kept, mac, _net, sec, nsec, tci, _tpid = struct.unpack_from("IIIHHIIHH", self.memory, start)
            kind = self.memory[start + SLL_AT + 10]
            data = self.memory[start + mac : start + mac + min(kept, self.size - mac)]
            yield Frame(sec + nsec / 1e9, kind == OUTGOING, data, length, tci & 0xFFF if status & 0x10 else None)
            self.words[start // 4] = 0
            self.at = (self.at + 1) % self.slots

    def dropped(self) -> int:
        """Frames that found no slot since the last call."""
        _packets, drops = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return int(drops)

    def close(self) -> None:
        """Give memory and socket back."""
        self.words.release()
        self.halves.release()
        self.memory.close()
        self.socket.close()


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """One entry of a sendmmsg: struct mmsghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.POINTER(_Iovec)),
        ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int), ("sent", ctypes.c_uint),
    )  # fmt: skip


class Sender:
    """Sends frames of exactly `FRAME` bytes out of `interface`, a thousand a system call; deaf.

    `sock` is an unbound AF_PACKET SOCK_RAW socket of protocol 0.
    """

    def __init__(self, sock: socket.socket, interface: str) -> None:
        self.socket = sock
        sock.bind((interface, 0))
        self._fd = sock.fileno()
        self._out = ctypes.create_string_buffer(FRAME * BATCH)
        start = ctypes.addressof(self._out)
        self._iovecs = (_Iovec * BATCH)(*(_Iovec(start + FRAME * n, FRAME) for n in range(BATCH)))
        self._messages = (_Message * BATCH)()
        for message, iovec in zip(self._messages, self._iovecs, strict=True):
            message.iov = ctypes.pointer(iovec)
            message.iovlen = 1
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg

    def send(self, frames: Sequence[bytes]) -> None:
        """Send them all, in order. Raises OSError where the interface refuses."""
        for first in range(0, len(frames), BATCH):
            self.send_joined(b"".join(frames[first : first + BATCH]))

    def send_joined(self, frames: bytes) -> None:
        """The same of up to BATCH frames that stand one after another."""
        count = len(frames) // FRAME
        ctypes.memmove(self._out, frames, FRAME * count)
        done = 0
        while done < count:
            sent = self._sendmmsg(self._fd, ctypes.byref(self._messages[done]), count - done, 0)
            if sent < 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            done += sent
