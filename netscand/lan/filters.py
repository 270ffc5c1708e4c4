"""Classic BPF programs: what the kernel lets into a receive ring.

Source: the kernel's Documentation/networking/filter.rst; ancillary loads from include/uapi/linux/filter.h.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

ETHERTYPE_ARP = 0x0806
ARPHRD_ETHER = 1

_LOAD_WORD = 0x20  # BPF_LD  | BPF_W   | BPF_ABS
_LOAD_HALF = 0x28  # BPF_LD  | BPF_H   | BPF_ABS
_AND = 0x54  #       BPF_ALU | BPF_AND | BPF_K
_IF_EQUAL = 0x15  #  BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  #    BPF_RET | BPF_K

_ANCILLARY = 0xFFFFF000  # SKF_AD_OFF: beyond it, what the kernel knows of the frame instead of its bytes
_HARDWARE = _ANCILLARY + 28  # SKF_AD_HATYPE
_VLAN_TAG = _ANCILLARY + 44
_VLAN_PRESENT = _ANCILLARY + 48


class Instruction(NamedTuple):
    """struct sock_filter; jumps count instructions to skip."""

    code: int
    if_true: int
    if_false: int
    k: int


def arp(room: int) -> tuple[Instruction, ...]:
    """ARP on links with Ethernet addresses, untagged; at most `room` bytes of each frame.

    A tagged frame is another LAN's: the kernel gives it once more, untagged, on the VLAN's own interface if there is
    one. A tag with VLAN 0 carries a priority and no VLAN (IEEE 802.1Q), and stays.
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


def packed(program: Sequence[Instruction]) -> bytes:
    """An array of struct sock_filter."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
