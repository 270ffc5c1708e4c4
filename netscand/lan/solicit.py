"""Pure: what we ask by IPv6. Neighbour solicitations (RFC 4861, 4.3), and an echo of all nodes (RFC 4443, 4.1)."""

import struct

from netscand.core.model import ALL_NODES, Ip, Mac
from netscand.lan.heard.ndp import ECHO_ID, NEIGHBOUR_SOLICITATION, SOURCE_ADDRESS, UNPASSED

ECHO_REQUEST = 128
ALL_NODES_MAC = bytes.fromhex("3333 0000 0001")
GROUP = bytes.fromhex("ff02 0000 0000 0000 0000 0001 ff")
"""What the solicited-node groups begin with; the last three bytes are the target's (RFC 4291, 2.7.1)."""

_ICMPV6 = 58


def solicitation(mac: Mac, own: Ip, target: Ip, to: Mac | None) -> bytes:
    """The frame that asks for `target`, from our `mac` and link-local `own`: to `to` alone, or to its group (None)."""
    group = GROUP + target[13:]
    ethernet = to or b"\x33\x33" + group[12:]
    body = struct.pack("!BBxxxxxx16sBB6s", NEIGHBOUR_SOLICITATION, 0, target, SOURCE_ADDRESS, 1, mac)
    return _frame(ethernet, mac, own, target if to else group, body, UNPASSED)


def echo(mac: Mac, own: Ip) -> bytes:
    """The frame that asks all nodes for an echo."""
    return _frame(ALL_NODES_MAC, mac, own, ALL_NODES, struct.pack("!BBxxHH", ECHO_REQUEST, 0, ECHO_ID, 1), 1)


def _frame(ethernet: bytes, mac: Mac, own: Ip, to: bytes, body: bytes, hop_limit: int) -> bytes:
    head = ethernet + mac + struct.pack("!HIHBB", 0x86DD, 6 << 28, len(body), _ICMPV6, hop_limit) + own + to
    return head + body[:2] + checksum(own + to + struct.pack("!II", len(body), _ICMPV6) + body) + body[4:]


def checksum(summed: bytes) -> bytes:
    """Return the ones' complement of the ones' complement sum of sixteen-bit words (RFC 1071).

    The words are the digits of one number to the base 2 ** 16, which has the sum of its digits modulo 2 ** 16 - 1.
    """
    return (0xFFFF - (int.from_bytes(summed) % 0xFFFF or 0xFFFF)).to_bytes(2)
