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
from netscand.lan import packets
from netscand.lan.heard import frames
from netscand.serve.translate import Translator
from netscand.store.rows import EventCodec, Words
from tests.attacks.fuzz import INTERESTING, broken, joined, parted
from tests.core import captured
from tests.core.world import World, ip, network
from tests.store.diary import BOOT, FakeClock

SLOW = 0.05
"""Seconds of processor for one frame, with all that comes of it."""

MACS = [bytes.fromhex(f"02000000000{number:x}") for number in range(10)] + [
    b"\xff" * 6,
    bytes(6),
    b"\x01\0\x5e\0\0\xfb",
]
IPS = [ip_address(text).packed for text in (
    "10.0.0.1", "10.0.0.2", *(f"10.0.0.{number}" for number in range(10, 22)), "0.0.0.0", "255.255.255.255",
    "10.0.0.255", "192.168.9.9", "224.0.0.251", "127.0.0.1",
)]  # fmt: skip
IPS_6 = [ip_address(text).packed for text in (
    "::", "::1", "fe80::1", "fe80::2", "fe80::3", "2001:db8::5", "ff02::1", "ff02::fb", "ff02::1:ff00:1",
)]  # fmt: skip
NAMES = [
    b"phone",
    b"printer",
    b"x" * 63,
    b"\xff\xfe",
    "Zo\u00eb".encode(),
    b"a.b",
    b"\x1b[2J",
    b"",
    b"\0",
    b"_http",
    b"local",
]

# ---- frames that are well made --------------------------------------------------------------------------------------


def arp(random: Random) -> bytes:
    sender, target = random.choice(MACS), random.choice(MACS)
    source = sender if random.random() < 0.8 else random.choice(MACS)
    operation = random.choice((1, 1, 2, 2, 3, 8, 0xFFFF))
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + sender + random.choice(IPS) + target + random.choice(IPS)
    return random.choice(MACS) + source + b"\x08\x06" + body + bytes(18)


def udp4(random: Random, source: int, to: int, message: bytes) -> bytes:
    datagram = struct.pack("!HHHH", source, to, 8 + len(message), 0) + message
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 1, 0, random.choice((255, 255, 1, 64)), 17, 0)
    packet = head + random.choice(IPS) + random.choice(IPS) + datagram
    return random.choice(MACS) + random.choice(MACS) + b"\x08\x00" + packet


def ipv6(random: Random, kind: int, content: bytes) -> bytes:
    head = struct.pack("!IHBB", 0x6000_0000, len(content), kind, random.choice((255, 255, 255, 1)))
    packet = head + random.choice(IPS_6) + random.choice(IPS_6) + content
    return random.choice(MACS) + random.choice(MACS) + b"\x86\xdd" + packet


def dhcp(random: Random) -> bytes:
    options = b"\x35\x01" + bytes((random.randrange(10),))
    for code in random.sample((12, 12, 50, 54, 60, 61, 81, 55, 0, 52), random.randrange(5)):
        value = random.choice((*NAMES, *IPS[:8], b"\0\0\0" + random.choice(NAMES), random.randbytes(4)))
        options += bytes((code, len(value))) + value if code else b"\0"
    fixed = struct.pack("!BBBBIHH", random.choice((1, 2)), 1, 6, 0, 7, 0, 0)
    fixed += b"".join(random.choice(IPS) for _ in range(4)) + random.choice(MACS) + bytes(10 + 192)
    ports = random.choice(((68, 67), (67, 68), (67, 67)))
    return udp4(random, *ports, fixed + b"\x63\x82\x53\x63" + options + b"\xff")


def name(random: Random) -> bytes:
    labels = [random.choice(NAMES)[:63] for _ in range(random.randrange(1, 4))] + [b"local"] * (random.random() < 0.7)
    whole = b"".join(bytes((len(label),)) + label for label in labels if label)
    return random.choice((whole + b"\0", whole + b"\0", b"\xc0\x0c", whole + b"\xc0\x0c", b"\0"))


def record(random: Random) -> bytes:
    kind = random.choice((1, 12, 16, 28, 33, 33, 32, 47))
    content = random.choice((random.choice(IPS), random.choice(IPS_6), name(random), bytes(6) + name(random)))
    klass = random.choice((1, 0x8001, 255))
    return name(random) + struct.pack("!HHIH", kind, klass, random.choice((0, 120, 2**31)), len(content)) + content


def dns(random: Random, port: int) -> bytes:
    questions = [
        name(random) + struct.pack("!HH", random.choice((1, 12, 32, 33, 255)), 1) for _ in range(random.randrange(2))
    ]
    records = [record(random) for _ in range(random.randrange(5))]
    flags = random.choice((0x8400, 0x8500, 0, 0x2910, 0xA800, 0x8403))
    counts = len(questions), random.randrange(len(records) + 1), 0, 0
    head = struct.pack("!HHHHHH", random.randrange(3), flags, *counts)
    message = head + b"".join(questions) + b"".join(records)
    if port == 5353 and random.random() < 0.3:
        return ipv6(random, 17, struct.pack("!HHHH", port, port, 8 + len(message), 0) + message)
    return udp4(random, port, port, message)


def neighbour(random: Random) -> bytes:
    kind = random.choice((133, 134, 135, 136, 128, 129))
    content = bytes((kind, 0)) + bytes(2) + random.randbytes(4)
    if kind == 134:
        content += random.randbytes(8)
    elif kind >= 135:
        content += random.choice(IPS_6)
    for _ in range(random.randrange(3)):
        content += bytes((random.choice((1, 2, 3, 25)), random.choice((1, 1, 1, 0, 2, 255)))) + random.choice(MACS)
    return ipv6(random, 58, content)


KINDS: tuple[Callable[[Random], bytes], ...] = (
    arp, arp, arp, dhcp, lambda random: dns(random, 5353), lambda random: dns(random, 137), neighbour, neighbour,
)  # fmt: skip


def frame(random: Random) -> bytes:
    """One that is well made, or nearly: a field with a value that it should not have, a length that is not so."""
    made = random.choice(KINDS)(random)
    luck = random.random()
    if luck < 0.5:
        return made
    if luck < 0.8:  # one field, and be it a length, a count or a pointer
        place = random.randrange(12, len(made) - 1)
        value = random.choice(
            (bytes((random.choice(INTERESTING),)), random.choice(IPS), random.choice(MACS), b"\xc0\x0c")
        )
        return made[:place] + value + made[place + len(value) :]
    return broken(random, made)


# ---- cases ----------------------------------------------------------------------------------------------------------


def seeds() -> Iterator[bytes]:
    """One of each kind, and frames of real devices."""
    for number, kind in enumerate(dict.fromkeys(KINDS)):
        random = Random(number)
        yield joined([kind(random) for _ in range(24)])
    yield joined(list(captured.ALL.values()))


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
        self.words = Words()
        self.codec = EventCodec(self.words)
        self.wire = Translator(lambda: BOOT, lambda _: None)
        self.clock = FakeClock()
        self.sequence = 0
        super().__init__(networks=[self.network()], rules=Rules(5, 10, 60))

    @staticmethod
    def network() -> Network:
        return network("10.0.0.0/24", gateway="10.0.0.1")

    def _tell(self, events: Sequence[Event]) -> None:  # type: ignore[override]
        for event in events:
            self.sequence += 1
            self.planner.told(event)
            self._stored(event)
            self._sent(event)

    def _stored(self, event: Event) -> None:
        """There and back: nothing is lost (tests/store/test_rows.py checks what is kept of the device)."""
        recorded = self.codec.event(self.codec.row(self.sequence, event, self.clock))
        again = recorded.event
        assert recorded.mac == (event.device.mac if event.device else None)
        assert (again.kind, again.network, again.address, again.other, again.evidence, again.reason) == (
            event.kind, event.network, event.address, event.other, event.evidence, event.reason,
        )  # fmt: skip
        assert set(again.previous or ()) == set(event.previous or ())

    def _sent(self, event: Event) -> None:
        """As a client reads it: one line of JSON, every name of it fit for a terminal."""
        text = protocol.encode(self.wire.event(f"fuzz-{self.sequence}", event))
        again = protocol.encode(protocol.decode_server(text))
        assert msgspec.json.decode(again) == msgspec.json.decode(text), (again, text)
        assert b"\n" not in text
        for each in strings(msgspec.json.decode(text)):
            assert each.isprintable(), each

    def take(self, raw: bytes) -> None:
        """A frame as the rings give it."""
        if raw[12:14] == b"\x08\x06":
            seen = packets.decode(raw, self.now, 2)
            observations: Sequence[Observation] = (seen,) if seen else ()
        else:
            observations = frames.decode(raw, self.now, 2)
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
    lan.hosts = {(2, ip(f"10.0.0.{number}")): MACS[number - 10] for number in range(10, 16)}  # type: ignore[misc]
    random = Random(len(case))
    slowest = 0.0
    for number, raw in enumerate(parted(case)):
        begun = thread_time()
        lan.take(raw)
        slowest = max(slowest, thread_time() - begun)
        if number % 8 == 0:
            lan.run(random.choice((0.01, 0.5, 20.0)))
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
