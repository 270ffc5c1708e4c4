"""AF_PACKET sockets, and what Python's `socket` does not say of them (packet(7))."""

import ctypes
import os
import socket
import struct
from collections.abc import Sequence

from netscand.lan.filters import Instruction, packed

ETH_P_ALL = 3
SOL_PACKET = 263
SO_ATTACH_FILTER = 26

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """A `struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def packet_socket() -> socket.socket:
    """A raw, non-blocking one of protocol 0: it can send, and nothing enters before it is bound with a protocol."""
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)


def bind(sock: socket.socket, index: int, protocol: int = 0) -> None:
    """Bind to the interface with that `index`; 0 is every interface. Python's own bind takes names only, and no 0."""
    address = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(protocol), index, 0, 0, 0)
    if _libc.bind(sock.fileno(), address, len(address)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def attach(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the kernel drop what `program` does not return."""
    code = ctypes.create_string_buffer(packed(program))
    pointer = _Program(len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(pointer))
