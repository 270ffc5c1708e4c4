"""Pure: UDP datagrams as whole frames, for a raw socket: to a station whose MAC is known, so that none is asked for it.

Sources: RFC 768 (UDP), RFC 791 (IPv4), RFC 8200 (IPv6), RFC 1112 and RFC 2464 (groups over Ethernet).
"""

import struct

from netscand.core.model import Ip, Mac
from netscand.lan.solicit import checksum

UDP = 17


def group_mac(group: Ip) -> Mac:
    """Return the Ethernet address of a multicast group."""
    if len(group) == 16:
        return Mac(b"\x33\x33" + group[12:])
    return Mac(b"\x01\x00\x5e" + bytes([group[1] & 0x7F]) + group[2:])


def datagram(
    mac: Mac, to_mac: Mac, own: Ip, to: Ip, ports: tuple[int, int], content: bytes, hops: int = 255
) -> bytes:  # fmt: skip
    """Return the frame from our `mac` and `own`, from the first of `ports` to the second."""
    length = 8 + len(content)
    head = struct.pack("!HHH", *ports, length)
    padded = own + to + struct.pack("!HH", UDP, length) + head + b"\0\0" + content + b"\0" * (length & 1)
    udp = head + (checksum(padded) if checksum(padded) != b"\0\0" else b"\xff\xff") + content  # 0: it has none
    if len(own) == 16:
        return to_mac + mac + struct.pack("!HIHBB", 0x86DD, 6 << 28, length, UDP, hops) + own + to + udp
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 0, 0x4000, hops, UDP)  # 0x4000: never in fragments
    return to_mac + mac + b"\x08\x00" + start + checksum(start + b"\0\0" + own + to) + own + to + udp
