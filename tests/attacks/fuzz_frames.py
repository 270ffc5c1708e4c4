"""Frames, well made and then wrong in one place, through decoders, inventory, planner, rows and messages.

A case is some hundred frames, by which one LAN lives for a while: their MACs, addresses and names are few, so that they
meet. Every event that results must be stored, read back and encoded whole.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from random import Random
from time import thread_time

import msgspec

from netscand import protocol
from netscand.core.model import Event, Network, Observation
from netscand.core.presence import Rules
from netscand.lan import arp as arp_module
from netscand.lan import decode
from netscand.serve.encode import Encoder, event_message, remembered
from netscand.store.rows import event_row, unpack
from tests.attacks.fuzz import INTERESTING, broken, joined, parted
from tests.core import captured_frames
from tests.core.world import World, ip, network
from tests.store.diary import BOOT, FakeClock

SLOW = 0.05
"""Seconds of processor for one frame, with all that comes of it."""

STATIONS = [bytes.fromhex(f"02000000000{number:x}") for number in range(10)]
OTHER_MACS = [b"\xff" * 6, bytes(6), b"\x01\0\x5e\0\0\xfb", b"\x33\x33\0\0\0\1"]
HOSTS = [
    ip_address(text).packed for text in ("10.0.0.1", "10.0.0.2", *(f"10.0.0.{number}" for number in range(10, 22)))
]
OTHER_IPS = [ip_address(text).packed for text in (
    "0.0.0.0", "255.255.255.255", "10.0.0.31", "10.0.0.0", "192.168.9.9", "224.0.0.251", "127.0.0.1",
)]  # fmt: skip
LOCAL = [ip_address(text).packed for text in ("fe80::1", "fe80::2", "fe80::3", "fe80::4")]
OTHER_IPS_6 = [ip_address(text).packed for text in (
    "::", "::1", "2001:db8::5", "ff02::1", "ff02::fb", "ff02::1:ff00:1",
)]  # fmt: skip
NAMES = [
    b"phone", b"printer", b"tv", b"x" * 63, b"\xff\xfe", "Zo\u00eb".encode(), b"a.b", b"\x1b[2J", b"\xe2\x80\xaegpj",
    b"\0", b"\n", b"_http", b"local",
]  # fmt: skip
SOME = 0.9
"""How often a field holds what it should."""


def mac_of(random: Random) -> bytes:
    return random.choice(STATIONS if random.random() < SOME else OTHER_MACS)


def ip_of(random: Random) -> bytes:
    return random.choice(HOSTS if random.random() < SOME else OTHER_IPS)


def ip6_of(random: Random) -> bytes:
    return random.choice(LOCAL if random.random() < SOME else OTHER_IPS_6)


# ---- frames that are well made --------------------------------------------------------------------------------------


def arp(random: Random) -> bytes:
    sender = mac_of(random)
    source = sender if random.random() < SOME else mac_of(random)
    operation = random.choice((1, 1, 1, 2, 2, 2, 3, 8, 0xFFFF))
    own = ip_of(random)
    target = own if random.random() < 0.3 else ip_of(random)
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + sender + own + mac_of(random) + target
    return b"\xff" * 6 + source + b"\x08\x06" + body + bytes(18)


def udp4(random: Random, mac: bytes, own: bytes, ports: tuple[int, int], message: bytes) -> bytes:
    datagram = struct.pack("!HHHH", *ports, 8 + len(message), 0) + message
    ttl = 255 if random.random() < SOME else random.choice((0, 1, 64))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, ttl, 17, 0)
    return b"\xff" * 6 + mac + b"\x08\x00" + head + own + b"\xff" * 4 + datagram


def ipv6(random: Random, mac: bytes, own: bytes, kind: int, content: bytes) -> bytes:
    hops = 255 if random.random() < SOME else 1
    head = struct.pack("!IHBB", 0x6000_0000, len(content), kind, hops)
    return b"\x33\x33\0\0\0\1" + mac + b"\x86\xdd" + head + own + random.choice(OTHER_IPS_6) + content


def dhcp(random: Random) -> bytes:
    mac = mac_of(random)
    options = b"\x35\x01" + bytes((random.choice((1, 1, 3, 3, 3, 4, 7, 8, 2, 5, 0, 9)),))
    for code in random.sample((12, 50, 54, 60, 61, 81, 55, 0, 52), random.randrange(5)):
        text = random.choice(NAMES)
        value = {12: text, 50: ip_of(random), 54: ip_of(random), 60: text, 81: b"\0\0\0" + text}.get(code, b"\1\2")
        options += bytes((code, len(value))) + value if code else b"\0"
    client = mac if random.random() < SOME else mac_of(random)
    answer = random.random() < 0.3
    fixed = struct.pack("!BBBBIHH", 1 + answer, 1, 6, 0, 7, 0, 0)
    own = ip_of(random) if answer or random.random() < 0.3 else bytes(4)
    fixed += (bytes(4) if answer else own) + (ip_of(random) if answer else bytes(4)) + bytes(8)
    fixed += client + bytes(10 + 192)
    ports = (67, 68) if answer else (68, 67)
    return udp4(random, mac, own, ports, fixed + b"\x63\x82\x53\x63" + options + b"\xff")


def name(random: Random, *, local: bool = True) -> bytes:
    labels = [random.choice(NAMES) for _ in range(random.choice((1, 1, 1, 2, 3)))] + [b"local"] * local
    whole = b"".join(bytes((len(label),)) + label for label in labels)
    return whole + (b"\0" if random.random() < SOME else random.choice((b"\xc0\x0c", b"\xc0\x40", b"\xff\xff", b"")))


def record(random: Random, own: bytes) -> bytes:
    """One of mDNS; most give the sender's own address a name."""
    kind = 1 if len(own) == 4 else 28
    content = own
    if random.random() < 0.3:
        kind = random.choice((12, 16, 33, 47, 1, 28))
        content = random.choice((ip_of(random), ip6_of(random), name(random), bytes(6) + name(random)))
    klass = random.choice((1, 0x8001, 0x8001, 255))
    ttl = random.choice((120, 120, 0, 2**31))
    return name(random) + struct.pack("!HHIH", kind, klass, ttl, len(content)) + content


def mdns(random: Random) -> bytes:
    own = ip_of(random) if random.random() < 0.7 else ip6_of(random)
    questions = [name(random) + struct.pack("!HH", 12, 1) for _ in range(random.choice((0, 0, 0, 1)))]
    records = [record(random, own) for _ in range(random.randrange(1, 5))]
    flags = 0x8400 if random.random() < SOME else random.choice((0, 0x8403, 0x8C00))
    message = struct.pack("!HHHHHH", 0, flags, len(questions), len(records), 0, 0) + b"".join(questions + records)
    if len(own) == 4:
        return udp4(random, mac_of(random), own, (5353, 5353), message)
    return ipv6(random, mac_of(random), own, 17, struct.pack("!HHHH", 5353, 5353, 8 + len(message), 0) + message)


def nbns(random: Random) -> bytes:
    """A registration (RFC 1002, 4.2.2)."""
    padded = random.choice(NAMES)[:15].ljust(15) + bytes((random.choice((0, 0, 0x20, 0x1B)),))
    encoded = b"\x20" + b"".join(bytes((0x41 + (byte >> 4), 0x41 + (byte & 15))) for byte in padded) + b"\0"
    own = ip_of(random)
    kind = 0x20 if random.random() < SOME else random.choice((0x21, 1))
    asked = encoded + struct.pack("!HH", kind, 1)
    more = b"\xc0\x0c" + struct.pack("!HHIHH", kind, 1, 300, 6, random.choice((0, 0, 0x8000))) + own
    flags = 0x2910 if random.random() < SOME else random.choice((0x8500, 0x2810, 0x3110))
    message = struct.pack("!HHHHHH", 5, flags, 1, 0, 0, 1) + asked + more
    return udp4(random, mac_of(random), own, (137, 137), message)


def neighbour(random: Random) -> bytes:
    mac, own = mac_of(random), ip6_of(random)
    kind = random.choice((133, 134, 135, 136, 136, 129))
    content = bytes((kind, 0)) + bytes(2) + random.choice((b"\x60", b"\x20", b"\0", b"\xff")) + random.randbytes(3)
    if kind == 134:
        content += random.randbytes(8)
    elif kind >= 135:
        content += own if kind == 136 and random.random() < SOME else ip6_of(random)
    for _ in range(random.randrange(3)):
        size = 1 if random.random() < SOME else random.choice((0, 2, 255))
        content += bytes((random.choice((1, 2, 2, 3, 25)), size)) + (mac if random.random() < SOME else mac_of(random))
    return ipv6(random, mac, own if random.random() < SOME else bytes(16), 58, content)


KINDS: tuple[Callable[[Random], bytes], ...] = (arp, arp, arp, dhcp, dhcp, mdns, mdns, nbns, neighbour, neighbour)


def frame(random: Random) -> bytes:
    """One that is well made, or nearly: a field with a value that it should not have, a length that is not so."""
    made = random.choice(KINDS)(random)
    luck = random.random()
    if luck < 0.6:
        return made
    if luck < 0.85:  # one field, and be it a length, a count or a pointer
        place = random.randrange(12, len(made) - 1)
        value = random.choice((bytes((random.choice(INTERESTING),)), ip_of(random), mac_of(random), b"\xc0\x0c"))
        return made[:place] + value + made[place + len(value) :]
    return broken(random, made)


# ---- cases ----------------------------------------------------------------------------------------------------------


def seeds() -> Iterator[bytes]:
    """One of each kind, and frames of real devices."""
    for number, kind in enumerate(dict.fromkeys(KINDS)):
        random = Random(number)
        yield joined([kind(random) for _ in range(24)])
    yield joined(list(captured_frames.ALL.values()))


def make(random: Random, known: Sequence[bytes]) -> bytes:
    """A case that is new: frames of its own, and some of those known, broken."""
    made = [frame(random) for _ in range(random.randrange(20, 160))]
    for _ in range(random.randrange(8)):
        old = parted(random.choice(known))
        if old:
            made.insert(random.randrange(len(made)), broken(random, random.choice(old)))
    return joined(made)


class Lan(World):
    """A LAN that checks each event as it is published."""

    def __init__(self) -> None:
        self.wire = Encoder(lambda: BOOT, lambda _: None)
        self.clock = FakeClock()
        self.sequence = 0
        super().__init__(networks=[self.network()], rules=Rules(5, 10, 60))

    @staticmethod
    def network() -> Network:
        return network("10.0.0.0/27", gateway="10.0.0.1")

    def _tell(self, events: Sequence[Event]) -> None:  # type: ignore[override]
        for event in events:
            self.sequence += 1
            self.planner.on_event(event)
            body = self.wire.event(event)
            self._stored(event, body)
            self._sent(body)

    def _stored(self, event: Event, body: bytes) -> None:
        """Store it and read it back; nothing is lost, and a start restores the device."""
        stored = event_row(self.sequence, event, body, self.clock)[-1]
        assert isinstance(stored, bytes)
        assert unpack(stored) == body
        back, device = remembered(body), event.device
        assert (back and (back.mac, back.status, back.reason, back.hostname)) == (
            device and (device.mac, device.status, device.reason, device.hostname)
        )
        held = {(each.ip, each.network) for each in device.addresses} if device else set()
        assert {(each.ip, each.network) for each in (back.addresses if back else ())} == held

    def _sent(self, body: bytes) -> None:
        """Decode it as a client does: one line of JSON, every text fit for a terminal."""
        text = event_message(f"fuzz-{self.sequence}", body, self.wire.now())
        again = protocol.encode(protocol.decode_server(text))
        assert msgspec.json.decode(again) == msgspec.json.decode(text), (again, text)
        assert b"\n" not in text
        for each in strings(msgspec.json.decode(text)):
            assert each.isprintable(), each

    def take(self, raw: bytes) -> None:
        """A frame as the rings give it."""
        if raw[12:14] == b"\x08\x06":
            seen = arp_module.decode(raw, self.now, 2)
            observations: Sequence[Observation] = (seen,) if seen else ()
        else:
            observations = decode.decode(raw, self.now, 2)
        for each in observations:
            self._hear(each)


def strings(value: object) -> Iterator[str]:
    """All text within."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def run(case: bytes) -> tuple[float, int]:
    """Live through a case; the processor's seconds of the slowest frame, and the events. Raises whatever is wrong."""
    lan = Lan()
    lan.hosts = {(2, ip(f"10.0.0.{number}")): STATIONS[number - 10] for number in range(10, 16)}  # type: ignore[misc]
    random = Random(len(case))
    slowest = 0.0
    for number, raw in enumerate(parted(case)):
        begun = thread_time()
        lan.take(raw)
        slowest = max(slowest, thread_time() - begun)
        if number % 8 == 0:
            lan.run(random.choice((0.01, 0.01, 0.5, 20.0)))
        if number % 40 == 39:
            _meddle(lan, random)
    lan.run(120)
    assert len(lan.inventory.devices) <= 1 + 6 + len(parted(case))
    for device in lan.inventory.devices.values():
        assert len(device.addresses) <= 64
        protocol.encode(lan.wire.wholly(device))
    return slowest, lan.sequence


def _meddle(lan: Lan, random: Random) -> None:
    """Do what happens beside frames: annotations of a user, a link that fails."""
    devices = [device for device in lan.inventory.devices.values() if not device.is_self]
    if not devices:
        return
    device = random.choice(devices)
    match random.randrange(4):
        case 0:
            lan._tell(lan.inventory.label(device.mac, {"label": random.choice(("x", None)), "known": True}, lan.now))
        case 1:
            lan._tell([lan.inventory.forget(device.mac, lan.now, "forgotten by a user")])
        case 2:
            lan.set_networks([])
            lan.set_networks([lan.network()])
        case _:
            lan._tell(lan.inventory.rename(device.mac, "asked", "dns", lan.now))
