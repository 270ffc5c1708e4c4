"""Classic BPF programs, and the packet sockets that run them (packet(7))."""

import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from netscand.lan import ndp

# ---- filters -------------------------------------------------------------------------------------------------------
# Classic BPF programs: the frames that the kernel puts into a receive ring.
#
# Source: the kernel's Documentation/networking/filter.rst; ancillary loads from include/uapi/linux/filter.h.

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
TAGS = (0x8100, 0x88A8)
"""EtherTypes of tags (IEEE 802.1Q). Behind one that the kernel removed: it removes all those of VLAN 0."""

UDP, ICMPV6 = 17, 58
EXTENSIONS = (0, 43, 60)
"""IPv6 headers that may precede ICMPv6 (RFC 8200, section 4); hosts read what follows them."""

MDNS = 5353
NBNS = 137
PORTS = (67, 68, MDNS, NBNS)
"""Destination ports of UDP over IPv4 that are received: DHCP server and client, mDNS, NBNS."""

ANSWERING = (MDNS, NBNS)
"""Source ports that are received, because answers to our queries (lan/name_lookup.py) come from them."""

ARPHRD_ETHER = 1

_LOAD_WORD = 0x20  # BPF_LD  | BPF_W   | BPF_ABS
_LOAD_HALF = 0x28  # BPF_LD  | BPF_H   | BPF_ABS
_LOAD_BYTE = 0x30  # BPF_LD  | BPF_B   | BPF_ABS
_HEADER_LENGTH = 0xB1  # BPF_LDX | BPF_B | BPF_MSH: X = 4 times the low half of a byte, the length of an IPv4 header
_LOAD_HALF_BEHIND = 0x48  # BPF_LD | BPF_H | BPF_IND: at an offset from X
_AND = 0x54  #       BPF_ALU | BPF_AND | BPF_K
_IF_EQUAL = 0x15  #  BPF_JMP | BPF_JEQ | BPF_K
_IF_GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K
_IF_LESS_NOT = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_IF_ANY = 0x45  #   BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  #    BPF_RET | BPF_K

_ANCILLARY = 0xFFFFF000  # SKF_AD_OFF: from here on, metadata of the kernel instead of bytes of the frame
_PACKET_TYPE = _ANCILLARY + 4  # SKF_AD_PKTTYPE
_HARDWARE = _ANCILLARY + 28  # SKF_AD_HATYPE
_VLAN_TAG = _ANCILLARY + 44
_VLAN_PRESENT = _ANCILLARY + 48


class Instruction(NamedTuple):
    """struct sock_filter; jumps count instructions to skip."""

    code: int
    if_true: int
    if_false: int
    k: int


NOTHING = (Instruction(_RETURN, 0, 0, 0),)
"""Program that rejects every frame."""


def _assembled(lines: Sequence[str | tuple[int, int] | tuple[int, int, str, str]]) -> tuple[Instruction, ...]:
    """Assemble (code, k) and, for jumps, (code, k, label if true, label if false); "" is the next line."""
    labels: dict[str, int] = {}
    count = 0
    for line in lines:
        if isinstance(line, str):
            labels[line] = count
        else:
            count += 1
    program: list[Instruction] = []
    for line in lines:
        if isinstance(line, str):
            continue
        code, k, *jumps = line
        behind = len(program) + 1
        true, false = (labels[str(label)] - behind if label else 0 for label in jumps) if jumps else (0, 0)
        program.append(Instruction(code, true, false, k))
    return tuple(program)


def talk(room: int) -> tuple[Instruction, ...]:
    """Return the program for frames that decode.py reads: DHCP, mDNS, NBNS, neighbour discovery, our echo replies.

    Only on links with Ethernet addresses, untagged (see `arp`); at most `room` bytes of each frame.
    """
    return _assembled(
        [
            (_LOAD_HALF, 12),
            (_IF_EQUAL, ETHERTYPE_IPV4, "", "no IPv4"),
            (_LOAD_BYTE, 14 + 9),
            (_IF_EQUAL, UDP, "", "reject"),
            (_LOAD_HALF, 14 + 6),
            (_IF_ANY, 0x3FFF, "reject", ""),  # a fragment
            (_HEADER_LENGTH, 14),
            (_LOAD_HALF_BEHIND, 14),
            *((_IF_EQUAL, port, "port", "") for port in ANSWERING),
            (_LOAD_HALF_BEHIND, 14 + 2),
            *((_IF_EQUAL, port, "port", "") for port in PORTS[:-1]),
            (_IF_EQUAL, PORTS[-1], "port", "reject"),
            "no IPv4",
            *((_IF_EQUAL, tag, "port", "") for tag in TAGS),
            (_IF_EQUAL, ETHERTYPE_IPV6, "", "reject"),
            (_LOAD_BYTE, 14 + 6),
            (_IF_EQUAL, ICMPV6, "ICMPv6", ""),
            *((_IF_EQUAL, header, "extended", "") for header in EXTENSIONS),
            (_IF_EQUAL, UDP, "", "reject"),
            (_LOAD_HALF, 54),
            (_IF_EQUAL, MDNS, "port", ""),
            (_LOAD_HALF, 54 + 2),
            (_IF_EQUAL, MDNS, "port", "reject"),
            "extended",
            (_LOAD_BYTE, 14 + 7),
            (_IF_EQUAL, ndp.LINK_HOP_LIMIT, "port", "reject"),
            "ICMPv6",
            (_LOAD_BYTE, 54),
            (_IF_LESS_NOT, ndp.ROUTER_SOLICITATION, "", "echo"),
            (_IF_GREATER, ndp.REDIRECT, "reject", "port"),
            "echo",
            (_IF_EQUAL, ndp.ECHO_REPLY, "", "reject"),
            (_LOAD_HALF, 54 + 4),
            (_IF_EQUAL, ndp.ECHO_ID, "", "reject"),
            "port",
            (_LOAD_WORD, _HARDWARE),
            (_IF_EQUAL, ARPHRD_ETHER, "", "reject"),
            (_LOAD_WORD, _VLAN_PRESENT),
            (_IF_EQUAL, 0, "accept", ""),
            (_LOAD_WORD, _VLAN_TAG),
            (_AND, 0x0FFF),
            (_IF_EQUAL, 0, "accept", "reject"),
            "accept",
            (_RETURN, room),
            "reject",
            (_RETURN, 0),
        ]
    )


def arp(room: int) -> tuple[Instruction, ...]:
    """Return the program for ARP on links with Ethernet addresses, untagged; at most `room` bytes of each frame.

    A tagged frame belongs to another LAN: the kernel delivers it again, untagged, on the interface of the VLAN, if
    there is one. A tag with VLAN 0 has only a priority (IEEE 802.1Q), and is accepted.
    """
    return (
        Instruction(_LOAD_HALF, 0, 0, 12),
        Instruction(_IF_EQUAL, 0, 8, ETHERTYPE_ARP),
        Instruction(_LOAD_WORD, 0, 0, _HARDWARE),
        Instruction(_IF_EQUAL, 0, 6, ARPHRD_ETHER),
        Instruction(_LOAD_WORD, 0, 0, _VLAN_PRESENT),
        Instruction(_IF_EQUAL, 3, 0, 0),
        Instruction(_LOAD_WORD, 0, 0, _VLAN_TAG),
        Instruction(_AND, 0, 0, 0x0FFF),
        Instruction(_IF_EQUAL, 0, 1, 0),
        Instruction(_RETURN, 0, 0, room),
        Instruction(_RETURN, 0, 0, 0),
    )


def incoming(program: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """Return a program that also rejects frames that this host sends: for kernels without PACKET_IGNORE_OUTGOING."""
    return (
        Instruction(_LOAD_WORD, 0, 0, _PACKET_TYPE),
        Instruction(_IF_EQUAL, 0, 1, socket.PACKET_OUTGOING),
        Instruction(_RETURN, 0, 0, 0),
        *program,
    )


def packed(program: Sequence[Instruction]) -> bytes:
    """Encode a program as an array of struct sock_filter."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


# ---- packet socket -------------------------------------------------------------------------------------------------
# AF_PACKET sockets, and constants and calls that Python's `socket` lacks (packet(7)).

ETH_P_ALL = 3
SOL_PACKET = 263
SO_ATTACH_FILTER = 26

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """A `struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def packet_socket() -> socket.socket:
    """Return a raw, non-blocking socket of protocol 0: it can send, and receives nothing before it is bound."""
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)


def bind(sock: socket.socket, index: int, protocol: int = 0) -> None:
    """Bind to the interface `index`; 0 is every interface. Python's own bind takes only names, and no 0."""
    address = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(protocol), index, 0, 0, 0)
    if _libc.bind(sock.fileno(), address, len(address)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def attach(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Attach a filter: the kernel drops the frames that `program` rejects."""
    code = ctypes.create_string_buffer(packed(program))
    pointer = _Program(len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(pointer))
