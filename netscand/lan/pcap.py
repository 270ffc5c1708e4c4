"""Capture files: pcap and pcapng, read as a stream in bounded memory; pcapng, encoded block by block. Pure.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, https://www.tcpdump.org/linktypes.html.
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import BinaryIO, NamedTuple

from netscand.core.model import Ip, Mac, Network

LARGEST_PACKET = 262_144
"""Maximum bytes of a packet, as in libpcap: more shows damage."""

LARGEST_BLOCK = 16 << 20
"""The same of a pcapng block, as in Wireshark."""

LAST_TIME = 253_402_300_799
"""Unix time of the last second of the year 9999."""

ETHERNET, COOKED, COOKED2 = 1, 113, 276
LINK_TYPES = {
    0: "BSD loopback", 9: "PPP", 12: "raw IP", 14: "raw IP", 101: "raw IP", 105: "IEEE 802.11 (monitor mode)",
    108: "OpenBSD loopback", 119: "IEEE 802.11 with Prism headers", 127: "IEEE 802.11 with radiotap headers",
    163: "IEEE 802.11 with AVS headers", 187: "Bluetooth", 189: "USB", 192: "PPI", 195: "IEEE 802.15.4",
    201: "Bluetooth", 220: "USB", 228: "raw IPv4", 229: "raw IPv6", 249: "USB", 253: "netlink",
}  # fmt: skip
"""Link types that are refused by name."""

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 2, 3, 5, 6
_ORDER_MAGIC = 0x1A2B3C4D
_END, _COMMENT, _NAME, _PROGRAM, _ADDRESS4, _ADDRESS6, _MAC, _RESOLUTION, _OFFSET = 0, 1, 2, 4, 4, 5, 6, 9, 14
_RECEIVED, _DROPPED = 4, 5
"""Types of blocks and of their options."""

_PCAP = {  # first four bytes → byte order, units of the fraction in a second
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6), b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9), b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}  # fmt: skip

FOREIGN = {
    b"\x1f\x8b": "compressed by gzip: decompress it first (gunzip)",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it first (zstd -d)",
    b"\xfd7zX": "compressed by xz: decompress it first (unxz)",
    b"PK\x03\x04": "a zip archive: unpack it first",
}
"""First bytes of files that people give by mistake."""

GATEWAY = "netscand gateway "
"""Begin of the comment on an interface that names its gateway."""


class CaptureError(Exception):
    """A file, or a packet in it, that cannot be read; the text says which one, why, and what to do."""


class Interface(NamedTuple):
    """Interface on which packets were captured, as the file describes it."""

    number: int
    link: int
    name: str = ""
    mac: Mac | None = None
    addresses: tuple[tuple[Ip, IPv4Network], ...] = ()
    """Its IPv4 addresses, each with its prefix."""
    own6: Ip | None = None
    gateway: Ip | None = None
    unit: float = 1e-6
    """Seconds of one unit of its timestamps."""
    offset: float = 0.0
    """Seconds to add to them."""


class Packet(NamedTuple):
    """One packet."""

    number: int
    """1 for the first one, as Wireshark counts them."""
    at: float
    """Unix time."""
    interface: Interface
    frame: bytes
    """An Ethernet frame; empty for a packet of another kind on a link of mixed kinds."""


class CaptureFile:
    """Packets of an open file, in their order. Raises CaptureError for a file that is no capture."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._number = 0
        self._at = 0.0
        self.program = ""
        """Program that wrote the current section of the file; empty if the file does not say so."""
        self._interfaces: list[Interface] = []
        self._order = "<"
        self._magic = file.read(4)
        if self._magic not in _PCAP and self._magic != _SECTION.to_bytes(4):
            raise CaptureError(_foreign(self._magic))

    def __iter__(self) -> Iterator[Packet]:
        """Yield the packets. Raises CaptureError at the first one that is damaged, or of a link that is not read."""
        return self._sections() if self._magic == _SECTION.to_bytes(4) else self._pcap()

    # ---- pcap ------------------------------------------------------------------------------------------------------

    def _pcap(self) -> Iterator[Packet]:
        self._order, unit = _PCAP[self._magic]
        *_, link = struct.unpack(f"{self._order}20xI", b"\0\0\0\0" + self._take(20))
        interface = Interface(0, link & 0x0FFF_FFFF, unit=unit)  # above: the length of a frame check sequence
        head = struct.Struct(f"{self._order}IIII")
        while start := self._file.read(head.size):
            self._number += 1
            if len(start) < head.size:
                raise self._cut_short()
            seconds, fraction, length, _ = head.unpack(start)
            self._check_length(length)
            yield self._packet(interface, seconds + fraction * unit, self._take(length))

    # ---- pcapng ----------------------------------------------------------------------------------------------------

    def _sections(self) -> Iterator[Packet]:
        start = self._magic
        while start:
            if len(start) < 4:
                raise self._cut_short()
            kind = int.from_bytes(start, "little" if self._order == "<" else "big")
            body = self._begin_section() if kind == _SECTION else self._block(kind)
            if kind == _INTERFACE:
                self._interfaces.append(self._interface(body))
            elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
                self._number += 1
                yield self._packet_of_block(kind, body)
            start = self._file.read(4)

    def _begin_section(self) -> bytes:
        length, magic = self._take(4), self._take(4)
        if int.from_bytes(magic, "little") != _ORDER_MAGIC and int.from_bytes(magic) != _ORDER_MAGIC:
            raise self._damaged("a section of unknown byte order")
        self._order = "<" if int.from_bytes(magic, "little") == _ORDER_MAGIC else ">"
        self._interfaces = []
        body = self._body(struct.unpack(f"{self._order}I", length)[0], 12)
        self.program = self._options(body[12:]).get(_PROGRAM, b"").decode(errors="replace")
        return b""

    def _block(self, kind: int) -> bytes:
        return self._body(struct.unpack(f"{self._order}I", self._take(4))[0], 8)

    def _body(self, length: int, read: int) -> bytes:
        """Return the body of a block, after the `read` bytes that were read of it."""
        if length < 12 or length % 4 or length > LARGEST_BLOCK:
            raise self._damaged(f"a block of {length} bytes")
        body = self._take(length - read - 4)
        if struct.unpack(f"{self._order}I", self._take(4))[0] != length:
            raise self._damaged("a block that ends with another length than it begins with")
        return body

    def _options(self, raw: bytes) -> dict[int, bytes]:
        """Return the first option of each code; of addresses, all of them, one after the other."""
        found: dict[int, bytes] = {}
        position = 0
        while position + 4 <= len(raw):
            code, length = struct.unpack_from(f"{self._order}HH", raw, position)
            if code == _END:
                break
            value = raw[position + 4 : position + 4 + length]
            found[code] = found.get(code, b"") + value if code == _ADDRESS4 else found.get(code, value)
            position += 4 + length + -length % 4
        return found

    def _interface(self, body: bytes) -> Interface:
        if len(body) < 8:
            raise self._damaged("an interface without a link type")
        options = self._options(body[8:])
        pairs = options.get(_ADDRESS4, b"")
        comment = options.get(_COMMENT, b"").decode(errors="replace")
        mac, own6, ticks = options.get(_MAC, b""), options.get(_ADDRESS6, b"")[:16], options.get(_RESOLUTION, b"\6")
        power = (ticks or b"\6")[0]
        return Interface(
            len(self._interfaces), struct.unpack_from(f"{self._order}H", body)[0],
            options.get(_NAME, b"").decode(errors="replace"), Mac(mac) if len(mac) == 6 else None,
            tuple(
                (Ip(pairs[at : at + 4]), cidr) for at in range(0, len(pairs) - 7, 8)
                if (cidr := _prefix(pairs[at : at + 4], pairs[at + 4 : at + 8])) is not None
            ),
            Ip(own6) if len(own6) == 16 else None, _gateway(comment),
            2.0 ** -(power & 0x7F) if power & 0x80 else 10.0**-power,
            float(int.from_bytes(options.get(_OFFSET, b""), "little" if self._order == "<" else "big", signed=True)),
        )  # fmt: skip

    def _packet_of_block(self, kind: int, body: bytes) -> Packet:
        number, at, start = 0, self._at, 4
        if len(body) < (20 if kind != _SIMPLE_PACKET else 4):
            raise self._damaged("a block too short for its head")
        length = struct.unpack_from(f"{self._order}I", body, 0 if kind == _SIMPLE_PACKET else 12)[0]
        if kind != _SIMPLE_PACKET:  # which has no time
            number = struct.unpack_from(f"{self._order}{'I' if kind == _PACKET else 'H'}", body)[0]
            high, low = struct.unpack_from(f"{self._order}II", body, 4)
            start = 20
        if number >= len(self._interfaces):
            raise self._damaged(f"interface {number}, which the file does not describe")
        interface = self._interfaces[number]
        if kind != _SIMPLE_PACKET:
            at = (high << 32 | low) * interface.unit + interface.offset
        else:
            length = min(length, len(body) - 4)
        self._check_length(length)
        if start + length > len(body):
            raise self._damaged(f"{length} bytes in a block of {len(body)}")
        return self._packet(interface, at, body[start : start + length])

    # ---- both ------------------------------------------------------------------------------------------------------

    def _packet(self, interface: Interface, at: float, content: bytes) -> Packet:
        if not 0 <= at <= LAST_TIME:
            raise self._damaged(f"a time beyond the year 9999 ({at:.0f} s)")
        if interface.link not in (ETHERNET, COOKED, COOKED2):
            name = LINK_TYPES.get(interface.link, "unknown")
            where = f" (interface {interface.name})" if interface.name else ""
            raise CaptureError(
                f"packet {self._number}{where}: its link type is {name}, no. {interface.link}; netscand reads "
                "Ethernet, and Linux cooked captures: capture on the interface of the LAN, without monitor mode"
            )
        self._at = at
        return Packet(
            self._number, at, interface, content if interface.link == ETHERNET else _cooked(interface, content)
        )

    def _check_length(self, length: int) -> None:
        if length > LARGEST_PACKET:
            raise self._damaged(f"a length of {length} bytes")

    def _take(self, length: int) -> bytes:
        found = self._file.read(length)
        if len(found) < length:
            raise self._cut_short()
        return found

    def _cut_short(self) -> CaptureError:
        return CaptureError(
            f"the file ends in the middle of packet {max(self._number, 1)}, or of what follows it: the capture was "
            "killed, or the file was copied before it was complete; copy it again, or go on with what was read"
        )

    def _damaged(self, what: str) -> CaptureError:
        return CaptureError(
            f"packet {max(self._number, 1)}, or what follows it, is damaged: {what}; copy the file again, or repair it "
            "(Wireshark: File, Save As)"
        )


def _foreign(magic: bytes) -> str:
    if not magic:
        return "the file is empty"
    for start, what in FOREIGN.items():
        if magic.startswith(start):
            return f"the file is {what}"
    return (
        f"neither pcap nor pcapng (it begins with {magic.hex(' ')}); to convert a capture of another format: "
        "tshark -r FILE -w NEW.pcapng"
    )


def _prefix(ip: bytes, mask: bytes) -> IPv4Network | None:
    bits = f"{int.from_bytes(mask):032b}".rstrip("0")
    return None if "0" in bits or not bits else IPv4Network((ip, len(bits)), strict=False)


def _gateway(comment: str) -> Ip | None:
    try:
        return Ip(bytes(map(int, comment.removeprefix(GATEWAY).split("."))))
    except ValueError:
        return None


def _cooked(interface: Interface, content: bytes) -> bytes:
    """Return a packet of the Linux pseudo-interface `any` as an Ethernet frame; empty if it is from another link.

    It does not have the destination: that is a group, or zero.
    """
    if interface.link == COOKED and len(content) >= 16:
        kind, hardware, length, source, ethertype = struct.unpack_from("!HHH8s2s", content)
        rest = content[16:]
    elif interface.link == COOKED2 and len(content) >= 20:
        ethertype, hardware, kind, length, source = struct.unpack_from("!2s6xHBB8s", content)
        rest = content[20:]
    else:
        return b""
    if hardware != 1 or length != 6:
        return b""
    to = {1: b"\xff" * 6, 2: b"\x01" + bytes(5)}.get(kind, bytes(6))
    return b"".join((to, source[:6], ethertype, rest))


# ---- encoder -------------------------------------------------------------------------------------------------------
# Blocks of pcapng, little-endian, with times in microseconds.


def _encoded(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(program: str) -> bytes:
    """Return the begin of a file that `program` writes."""
    return _encoded(
        _SECTION, struct.pack("<IHHq", _ORDER_MAGIC, 1, 0, -1) + _option(_PROGRAM, program.encode()) + bytes(4)
    )


def interface(name: str, networks: tuple[Network, ...]) -> bytes:
    """Return the description of an interface, with its MAC, and the addresses and the gateway of its networks."""
    options = _option(_NAME, name.encode())
    if gateway := next((network.gateway for network in networks if network.gateway), None):
        options = _option(_COMMENT, (GATEWAY + ".".join(map(str, gateway))).encode()) + options
    for network in networks:
        options += _option(_ADDRESS4, network.own + network.cidr.netmask.packed)
    if own6 := next((network.own6 for network in networks if network.own6), None):
        options += _option(_ADDRESS6, own6 + b"\x40")
    for network in networks[:1]:
        options += _option(_MAC, network.mac)
    return _encoded(_INTERFACE, struct.pack("<HxxI", ETHERNET, LARGEST_PACKET) + options + bytes(4))


def packet(number: int, at: float, frame: bytes) -> bytes:
    """Return a packet of the interface `number` (0 for the first one) at unix time `at`."""
    time = round(at * 1e6)
    head = struct.pack("<IIIII", number, time >> 32, time & 0xFFFF_FFFF, len(frame), len(frame))
    return _encoded(_PACKET, head + frame + bytes(-len(frame) % 4))


def statistics(number: int, at: float, received: int, dropped: int) -> bytes:
    """Return the counters of the interface `number`: packets received, and those not in the file."""
    time = round(at * 1e6)
    options = _option(_RECEIVED, struct.pack("<Q", received)) + _option(_DROPPED, struct.pack("<Q", dropped))
    return _encoded(_STATISTICS, struct.pack("<III", number, time >> 32, time & 0xFFFF_FFFF) + options + bytes(4))
