"""The decoders compared with scapy on valid frames; on malformed ones they give nothing."""

import logging
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netscand.core.model import Evidence, Ip, Mac, Observation
from netscand.lan import arp as arp_module
from netscand.lan import decode, dns, netlink
from netscand.lan.senders import is_host, is_station
from netscand.lan.text import clean_bytes, clean_name
from tests.core import built_frames, captured_frames
from tests.core.built_frames import BOOTP, DHCP, DNS, DNSRR, IP, UDP, Ether, IPv6, inet6

Read = tuple[str, str | None, Evidence, bool, bool, str | None, str | None]
"""MAC, address, evidence, joining, goodbye, name, DHCP server: what an observation says, as text."""

MACS = st.sampled_from(["a4:83:e7:12:34:56", "52:54:00:00:00:01", "00:00:00:00:00:00", "01:00:5e:00:00:fb"])
IPS = st.sampled_from(["0.0.0.0", "10.77.0.9", "10.77.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
IPS_6 = st.sampled_from(["::", "::1", "fe80::9", "fe80::1", "2001:db8::9", "ff02::1", "fdff::7"])
LABELS = st.text(
    st.characters(blacklist_characters=".\\", blacklist_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda label: len(label.encode()) < 64)
NAMES = st.lists(LABELS, min_size=1, max_size=3)


def published(seen: Observation) -> Read:
    return (
        seen.mac.hex(":"), str(ip_address(seen.ip)) if seen.ip else None, seen.evidence, seen.joining, seen.goodbye,
        seen.name, str(ip_address(seen.dhcp_server)) if seen.dhcp_server else None,
    )  # fmt: skip


def decoded(frame: bytes) -> list[Read]:
    return [published(seen) for seen in decode.decode(frame, 1.0, 2)]


def host(text: str) -> bool:
    return is_host(Ip(ip_address(text).packed))


def station(text: str) -> bool:
    return is_station(Mac(bytes.fromhex(text.replace(":", ""))))


# ---- DHCP -----------------------------------------------------------------------------------------------------------


@st.composite
def dhcp_frames(draw: st.DrawFn) -> bytes:
    options: list[Any] = [("message-type", draw(st.integers(0, 9)))]
    for option in draw(st.lists(st.sampled_from(["hostname", "client_FQDN", "server_id", "vendor_class_id", "pad"]))):
        if option == "pad":
            options.append("pad")
        elif option == "server_id":
            if not any(known[0] == "server_id" for known in options):
                options.append((option, draw(IPS)))
        elif not any(known[0] == option for known in options):
            text = draw(st.text(max_size=20).filter(lambda text: text[:1] >= " ")).encode()  # else: as DNS encodes it
            options.append((option, b"\0\0\0" + text if option == "client_FQDN" else text))
    mac = draw(MACS)
    fixed = BOOTP(
        op=draw(st.sampled_from([1, 2, 3])),
        htype=draw(st.sampled_from([1, 1, 1, 6])), hlen=draw(st.sampled_from([6, 6, 6, 8])),
        ciaddr=draw(IPS), yiaddr=draw(IPS), giaddr=draw(st.sampled_from(["0.0.0.0", "0.0.0.0", "10.78.0.1"])),
        chaddr=bytes.fromhex(mac.replace(":", "")),
    )  # fmt: skip
    source = draw(st.just(mac) | MACS)
    port = draw(st.sampled_from([67, 68]))
    over = IP(src=draw(IPS), dst="255.255.255.255") / UDP(sport=135 - port, dport=port)
    return bytes(Ether(src=source, dst="ff:ff:ff:ff:ff:ff") / over / fixed / DHCP(options=[*options, "end"]))


def dhcp_by_scapy(frame: bytes) -> list[Read]:
    seen = Ether(frame)
    fixed = seen[BOOTP]
    options = {option[0]: option[1] for option in seen[DHCP].options if isinstance(option, tuple)}
    client = fixed.chaddr[:6].hex(":")
    if not station(seen.src):
        return []
    of_ethernet = station(client) and (fixed.htype, fixed.hlen) == (1, 6)
    kind = options["message-type"]
    server = options.get("server_id")
    server = server if server and host(server) else None
    if fixed.op == 1 and of_ethernet and fixed.giaddr == "0.0.0.0" and kind in (1, 3, 4, 7, 8):
        name = clean_bytes(options.get("hostname", b"")) or clean_bytes(options.get("client_FQDN", b"")[3:])
        address = fixed.ciaddr if host(fixed.ciaddr) and kind != 7 else None
        evidence = Evidence.DHCP if client == seen.src else Evidence.PROXIED
        joining = kind in (1, 3) and fixed.ciaddr == "0.0.0.0"
        return [(client, address, evidence, joining, kind == 7, name, server if kind == 3 and joining else None)]
    if fixed.op == 2:
        address = seen[IP].src if host(seen[IP].src) else None
        said: list[Read] = [(seen.src, address, Evidence.DHCP, False, False, None, server or address)]
        if kind == 5 and of_ethernet and host(fixed.yiaddr) and client != seen.src:
            said.append((client, fixed.yiaddr, Evidence.PROXIED, True, False, None, None))
        return said
    return []


@given(dhcp_frames())
def test_dhcp_is_read_as_scapy_reads_it(frame: bytes) -> None:
    assert decoded(frame) == dhcp_by_scapy(frame)


# ---- mDNS -----------------------------------------------------------------------------------------------------------


@st.composite
def mdns_frames(draw: st.DrawFn) -> bytes:
    source = draw(st.sampled_from(["10.77.0.9", "fe80::9", "0.0.0.0", "2001:db8::9"]))

    def record() -> Any:  # noqa: ANN401 scapy has no types
        kind = draw(st.sampled_from(["A", "AAAA", "TXT", "PTR"]))
        name = ".".join([*draw(NAMES), draw(st.sampled_from(["local", "LOCAL", "example"]))]) + "."
        content: dict[str, Any] = {
            "A": "10.77.0.9" if draw(st.booleans()) else "10.77.0.1",
            "AAAA": "fe80::9" if draw(st.booleans()) else "fe80::1",
            "TXT": [b"path=/"],
            "PTR": "other.local.",
        }
        ttl = draw(st.sampled_from([0, 120, 4500]))
        return DNSRR(
            rrname=name.encode(), type=kind, rdata=content[kind], ttl=ttl, rclass=draw(st.sampled_from([1, 0x8001, 3]))
        )

    message = DNS(
        qr=draw(st.booleans()), opcode=draw(st.sampled_from([0, 0, 0, 5])), rcode=draw(st.sampled_from([0, 0, 0, 3])),
        qd=[], an=[record() for _ in range(draw(st.integers(0, 3)))],
        ar=[record() for _ in range(draw(st.integers(0, 2)))],
    )  # fmt: skip
    over = IPv6(src=source, dst="ff02::fb", hlim=255) if ":" in source else IP(src=source, dst="224.0.0.251", ttl=255)
    ports = UDP(sport=draw(st.sampled_from([5353, 5353, 40000])), dport=5353)
    frame = Ether(src=built_frames.MAC, dst="01:00:5e:00:00:fb") / over / ports / message
    return bytes(frame.compress()) if draw(st.booleans()) and hasattr(frame, "compress") else bytes(frame)


def mdns_by_scapy(frame: bytes) -> list[Read]:
    seen = Ether(frame)
    over = seen[IPv6] if IPv6 in seen else seen[IP]
    message = seen[DNS]
    if message.opcode or message.rcode or not host(over.src):
        return []
    if ":" in over.src and not IPv6Address(over.src).is_link_local:
        return []
    if message.qr and seen[UDP].sport != 5353:
        return []
    name, goodbye = None, False
    for record in [*message.an, *message.ar] if message.qr else []:
        labels = record.rrname.decode("utf-8", "replace").removesuffix(".").split(".")
        wanted = "AAAA" if ":" in over.src else "A"
        if record.type != {"A": 1, "AAAA": 28}[wanted] or record.rdata != over.src or record.rclass & 0x7FFF != 1:
            continue
        if labels[-1].lower() == "local":
            goodbye = record.ttl == 0
            name = None if goodbye else clean_name(".".join(labels[:-1]))
            break
    return [(seen.src, over.src, Evidence.MDNS, False, goodbye, name, None)]


@given(mdns_frames())
def test_mdns_is_read_as_scapy_reads_it(frame: bytes) -> None:
    assert decoded(frame) == mdns_by_scapy(frame)


@given(st.lists(NAMES, min_size=1, max_size=4), st.booleans())
def test_compressed_names_are_read_as_scapy_reads_them(names: list[list[str]], compressed: bool) -> None:
    records = [DNSRR(rrname=".".join([*name, "local"]).encode(), type="A", rdata="10.77.0.9") for name in names]
    built = DNS(qr=1, qd=[], an=records)
    raw = bytes(built.compress() if compressed else built)
    message = dns.read(raw)
    assert message is not None
    read = [dns.labels(raw, record.name_at) for record in message.answers]
    assert read == [tuple(record.rrname.removesuffix(b".").split(b".")) for record in DNS(raw).an]


# ---- neighbour discovery --------------------------------------------------------------------------------------------


@st.composite
def ndp_frames(draw: st.DrawFn) -> bytes:
    target = draw(IPS_6)
    message = draw(
        st.sampled_from(
            [
                inet6.ICMPv6ND_RS(), inet6.ICMPv6ND_RA(), inet6.ICMPv6ND_NS(tgt=target),
                inet6.ICMPv6ND_NA(tgt=target, S=draw(st.integers(0, 1))), inet6.ICMPv6ND_Redirect(tgt=target),
            ]
        )
    )  # fmt: skip
    options = st.sampled_from(["source", "target", "mtu"])
    for option in draw(st.lists(options, max_size=3)):
        mac = draw(st.just(built_frames.MAC) | MACS)
        message /= {
            "source": inet6.ICMPv6NDOptSrcLLAddr(lladdr=mac),
            "target": inet6.ICMPv6NDOptDstLLAddr(lladdr=mac),
            "mtu": inet6.ICMPv6NDOptMTU(),
        }[option]
    over = IPv6(
        src=draw(IPS_6), dst=draw(st.sampled_from(["ff02::1", "fe80::1"])), hlim=draw(st.sampled_from([255, 255, 64]))
    )
    return bytes(Ether(src=draw(st.just(built_frames.MAC) | MACS), dst="33:33:00:00:00:01") / over / message)


def ndp_by_scapy(frame: bytes) -> list[Read]:
    seen = Ether(frame)
    over = seen[IPv6]
    if not station(seen.src) or over.hlim != 255:
        return []

    def linked(kind: type) -> str | None:
        return str(seen[kind].lladdr) if kind in seen else None

    def said(address: str | None, mac: str | None, joining: bool = False) -> list[Read]:
        if mac and mac != seen.src:
            return [(mac, address, Evidence.PROXIED, False, False, None, None)] if station(mac) else []
        return [(seen.src, address, Evidence.NDP, joining, False, None, None)]

    source = linked(inet6.ICMPv6NDOptSrcLLAddr)
    if inet6.ICMPv6ND_NA in seen:
        message = seen[inet6.ICMPv6ND_NA]
        if not host(message.tgt) or not host(over.src):
            return []
        return said(message.tgt, linked(inet6.ICMPv6NDOptDstLLAddr), not message.S and over.dst.startswith("ff"))
    if over.src == "::":
        if inet6.ICMPv6ND_NS in seen and source is None and host(seen[inet6.ICMPv6ND_NS].tgt):
            return said(None, None, True)
        return said(None, None) if inet6.ICMPv6ND_RS in seen else []
    if not host(over.src):
        return []
    if inet6.ICMPv6ND_Redirect in seen:
        return said(over.src, None) if IPv6Address(over.src).is_link_local else []
    if inet6.ICMPv6ND_RA in seen and not IPv6Address(over.src).is_link_local:
        return []
    return said(over.src, source)


@given(ndp_frames())
def test_neighbour_discovery_is_read_as_scapy_reads_it(frame: bytes) -> None:
    assert decoded(frame) == ndp_by_scapy(frame)


# ---- whatever comes -------------------------------------------------------------------------------------------------

WHOLE = sorted(captured_frames.ALL.values())
HEADS = st.sampled_from(WHOLE).map(lambda frame: frame[:42])


@given(st.binary(max_size=2000) | st.tuples(HEADS, st.binary(max_size=600)).map(b"".join))
@example(b"")
@example(captured_frames.AVAHI_ANNOUNCES[:54] + b"\xc0\x0c" * 400)
def test_any_bytes_are_observations_or_nothing(frame: bytes) -> None:
    assert all(isinstance(seen, Observation) for seen in decode.decode(frame, 0.0, 1))


@given(st.binary(max_size=600))
def test_any_message_of_dns_is_read_or_not_and_its_names_too(raw: bytes) -> None:
    message = dns.read(raw)
    if message is not None:
        for record in (*message.answers, *message.authorities, *message.additionals):
            labels = dns.labels(raw, record.name_at)
            assert labels is None or len(labels) <= dns.MOST_LABELS + 1
    for place in range(len(raw)):
        dns.labels(raw, place)


@pytest.mark.parametrize("raw", [b"\xc0\x00", b"\x01a\xc0\x00", b"\xc0\x02\xc0\x00", bytes(12) + b"\xc0\x0c"])
def test_a_name_that_points_to_itself_or_forward_is_none(raw: bytes) -> None:
    assert dns.labels(raw, len(raw) - 2) is None


@given(st.binary(max_size=300))
def test_any_bytes_of_netlink_are_neighbours_or_nothing(chunk: bytes) -> None:
    assert all(seen.evidence is Evidence.NEIGHBOUR for seen in netlink.decode(chunk, 0.0))


def mutated(count: int, seed: int) -> None:
    """Frames cut, flipped, filled, doubled and tagged, through the decoders of both rings."""
    random = Random(seed)

    def cut(frame: bytearray) -> None:
        del frame[random.randrange(len(frame) + 1) :]

    def flip(frame: bytearray) -> None:
        for _ in range(random.randrange(1, 9)):
            if frame:
                frame[random.randrange(len(frame))] = random.choice(
                    (0, 1, 0x3F, 0x7F, 0xC0, 0xFF, random.randrange(256))
                )

    def fill(frame: bytearray) -> None:
        start = random.randrange(14, 60)
        frame[start:] = random.randbytes(random.randrange(600))

    def double(frame: bytearray) -> None:
        frame += frame[random.randrange(len(frame) + 1) :] * random.randrange(1, 9)

    def tag(frame: bytearray) -> None:
        frame[12:12] = b"\x81\x00\x00\x05"

    ways: tuple[Callable[[bytearray], None], ...] = (cut, flip, flip, flip, fill, double, tag)
    arp = bytes.fromhex("ffffffffffffa483e712345608060001080006040001a483e71234560a4d00090000000000000a4d0002") + bytes(
        18
    )
    whole = [*WHOLE, arp]
    for _ in range(count):
        frame = bytearray(random.choice(whole))
        for _ in range(random.randrange(1, 4)):
            random.choice(ways)(frame)
        raw = bytes(frame)
        arp_module.decode(raw, 0.0, 1)
        decode.decode(raw, 0.0, 1)


def test_mutated_frames_raise_nothing_and_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """FAULTS T12."""
    caplog.set_level(logging.DEBUG)
    mutated(50_000, seed=1)
    assert not caplog.records


@pytest.mark.long
def test_a_million_mutated_frames_raise_nothing_and_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """FAULTS T12, whole."""
    caplog.set_level(logging.DEBUG)
    mutated(1_000_000, seed=2)
    assert not caplog.records
