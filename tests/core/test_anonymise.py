"""Anonymised frames mean the same as before, without names and full MACs."""

import re
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netscand.core.kinds import kind_of_name
from netscand.core.model import Ip, Mac, Observation
from netscand.lan import decode
from netscand.lan.anonymise import Anonymiser
from tests.core import captured_frames
from tests.core.built_frames import DNS, DNSRR, IP, UDP, Ether, IPv6, arp, dhcp, dhcp_answer, inet6, mdns
from tests.core.test_replay import Played, capture

KEY = bytes(32)
CAPTURED = {name: frame for name, frame in vars(captured_frames).items() if isinstance(frame, bytes)}
BUILT = {
    "arp": arp("10.0.0.9"),
    "arp reply": arp("10.0.0.9", to="52:54:00:00:00:01"),
    "duid": dhcp("discover", (61, bytes.fromhex("ff e7123456 0003 0001 a483e7123456"))),
    "client id": dhcp("request", (61, bytes.fromhex("01a483e7123456")), ("hostname", b"HP-a483e7123456")),
    "class": dhcp("discover", ("hostname", b"jane"), ("vendor_class_id", b"Mfg=HP;Mod=M4;Ser=VNB3R1;x jane")),
    "answer": dhcp_answer("ack", "10.0.0.1", "a4:83:e7:12:34:56", ("hostname", b"jane"), yiaddr="10.0.0.9"),
    "mdns": mdns(("janes-phone.local", "A", "10.77.0.9")),
    "mdns 6": mdns(("jane.local", "AAAA", "fe80::a683:e7ff:fe12:3456"), source="fe80::a683:e7ff:fe12:3456"),
    "solicitation": bytes(
        Ether(src="a4:83:e7:12:34:56", dst="33:33:ff:65:43:21")
        / IPv6(src="fe80::a683:e7ff:fe12:3456", dst="ff02::1:ff65:4321", hlim=255)
        / inet6.ICMPv6ND_NS(tgt="fe80::a683:e7ff:fe65:4321")
        / inet6.ICMPv6NDOptSrcLLAddr(lladdr="a4:83:e7:12:34:56")
    ),
}
CORPUS = {**CAPTURED, **BUILT}
FULL_MACS = ("a483e7123456", "a483e7654321", "525400770003", "525400770005", "02a1b2c3d4e5", "3cd92b000009")
NAMES = re.compile(rb"jane|pixel-7|desktop-4k2|VNB3R1|server", re.IGNORECASE)


def of(frame: bytes) -> tuple[Observation, ...]:
    return decode.decode(frame, 1.0, 2)


@pytest.mark.parametrize("name", CORPUS)
def test_an_anonymised_frame_means_the_same(name: str) -> None:
    """Of all that the decoder reads, only MACs, EUI-64 addresses and names differ; the length stays."""
    frame, anonymiser = CORPUS[name], Anonymiser(KEY)
    after = anonymiser.frame(frame)
    assert after is not None
    assert len(after) == len(frame)
    for was, now in zip(of(frame), of(after), strict=True):
        expected = was._replace(
            mac=Mac(anonymiser.mac(was.mac)), via=was.via and Mac(anonymiser.mac(was.via)),
            ip=was.ip and (Ip(anonymiser.ip6(was.ip)) if len(was.ip) == 16 else was.ip),
            name=now.name, client_id=now.client_id, vendor_class=now.vendor_class,
        )  # fmt: skip
        assert now == expected
        assert (now.name is None, now.client_id is None) == (was.name is None, was.client_id is None)
        assert now.name is None or now.name != was.name


@pytest.mark.parametrize("name", CORPUS)
def test_no_name_and_no_full_mac_is_left(name: str) -> None:
    after = Anonymiser(KEY).frame(CORPUS[name])
    assert after is not None
    assert not NAMES.search(after)
    for mac in FULL_MACS:
        raw = bytes.fromhex(mac)
        assert raw not in after
        assert mac.encode() not in after.lower()
        assert raw[3:5] == b"\0\0" or raw[3:] not in after  # the last bytes alone, as in groups and interface numbers


@pytest.mark.parametrize("name", BUILT)
def test_checksums_are_right_again(name: str) -> None:
    """scapy, which computes them, has the same frame."""
    after = Anonymiser(KEY).frame(BUILT[name])
    assert after is not None
    rebuilt = Ether(after)
    for layer in (IP, UDP, inet6.ICMPv6ND_NS):
        if layer in rebuilt:
            for field in ("chksum", "cksum"):
                if field in rebuilt[layer].fields:
                    delattr(rebuilt[layer], field)
    assert bytes(rebuilt) == after


def test_names_and_macs_are_replaced_consistently() -> None:
    """The same name in DHCP and mDNS, in any case, and in a longer text; MACs in names, too."""
    one = Anonymiser(KEY)
    assert one.label(b"JANE").lower() == one.label(b"jane") != b"jane"
    assert one.name(b"jane.local").endswith(b".local")
    assert one.label(b"_ipp") == b"_ipp"
    mac = bytes.fromhex("a483e7123456")
    assert one.text(b"BRW-A483E7123456").endswith(one.mac(mac).hex().upper().encode())
    assert one.text(b"a4:83:e7:12:34:56@Jane").startswith(one.mac(mac).hex(":").encode())
    assert one.ip6(bytes.fromhex("fe80000000000000a683e7fffe123456"))[13:] == one.mac(mac)[3:]
    assert Anonymiser().mac(mac) != Anonymiser().mac(mac)


@given(st.sets(st.binary(min_size=3, max_size=3), max_size=200), st.binary(min_size=3, max_size=3))
def test_no_two_macs_get_the_same_substitute(lower: set[bytes], upper: bytes) -> None:
    macs = {bytes([upper[0] & 0xFE]) + upper[1:] + each for each in lower}
    one = Anonymiser(KEY)
    after = {one.mac(mac) for mac in macs}
    assert len(after) == len(macs)
    assert {mac[:3] for mac in after} == {mac[:3] for mac in macs}


@given(st.sets(st.text(st.characters(codec="utf-8", exclude_characters=".\0"), min_size=1, max_size=20), max_size=50))
def test_text_keeps_its_length_and_stays_text(texts: set[str]) -> None:
    one = Anonymiser(KEY)
    for text in texts:
        raw = text.encode()
        after = one.text(raw)
        assert len(after) == len(raw)
        assert len(after.decode()) == len(text)


@given(st.sampled_from(sorted(CORPUS)), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4))
def test_any_frame_is_anonymised_or_left_out(name: str, changes: list[tuple[int, int]]) -> None:
    """Law 6: hostile frames raise nothing; the sender's MAC is in none."""
    frame = bytearray(CORPUS[name])
    for position, value in changes:
        frame[position % len(frame)] = value
    after = Anonymiser(KEY).frame(bytes(frame))
    if after is not None:
        assert len(after) <= len(frame)
        source = bytes(frame[6:12])
        assert source not in after or Anonymiser(KEY).mac(source) == source


def test_services_and_models_stay_texts_and_addresses_go() -> None:
    """A printer's records: what it is stays, whose it is goes."""
    texts = [b"ty=Laser 4", b"note=Jane's room", b"UUID=5ab1", b"mac=a4:83:e7:12:34:56"]
    answers = [
        DNSRR(rrname="_ipp._tcp.local", type="PTR", rdata="Jane Printer._ipp._tcp.local"),
        DNSRR(rrname="Jane Printer._ipp._tcp.local", type="TXT", rdata=texts),
        DNSRR(rrname="jane.local", type=13, rdata=b"\4jane\4jane"),
    ]
    frame = bytes(
        Ether(src="a4:83:e7:12:34:56", dst="01:00:5e:00:00:fb") / IP(src="10.0.0.9", dst="224.0.0.251", ttl=255)
        / UDP(sport=5353, dport=5353) / DNS(qr=1, aa=1, qd=[], an=answers)
    )  # fmt: skip
    after = Anonymiser(KEY).frame(frame)
    assert after is not None
    assert b"ty=Laser 4" in after
    assert b"\x04_ipp\x04_tcp\x05local" in after
    assert not re.search(rb"jane|5ab1|a4:83:e7:12:34:56", after, re.IGNORECASE)


@pytest.mark.parametrize(
    "name",
    ["Janes-iPhone", "iphone", "DESKTOP-AB12CD3", "Janes-MacBook-Pro", "janes-galaxy-s21", "galaxy-sarah", "NPI1A2B3C",
     "BRWA483E7123456", "pixel-7-pro", "Redmi-Note-12-Jane", "HUAWEI_P30-jane", "jane-mi-9t"],
)  # fmt: skip
def test_a_name_that_says_a_kind_says_it_afterwards(name: str) -> None:
    """Words of a model stay; the other words, and digits, do not."""
    after = Anonymiser(KEY).label(name.encode()).decode()
    assert kind_of_name(after) == kind_of_name(name) is not None
    assert not re.search("jane|sarah|1a2b3c|ab12cd3|123456", after, re.IGNORECASE)


def test_the_corpus_replays_to_the_same_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same kinds, times and evidence, of devices with the substituted MACs and names."""
    one, frames = Anonymiser(KEY), list(CORPUS.values())
    hidden = [one.frame(frame) or b"" for frame in frames]
    before, after = (
        Played(capsys, capture(tmp_path / "x", enumerate(each)), IPv4Network("10.0.0.0/8")) for each in (frames, hidden)
    )
    assert len(before.events) > 20
    for was, now in zip(before.events, after.events, strict=True):
        for key in ("kind", "at", "network", "evidence"):
            assert now[key] == was[key]
        assert (now["device"] is None) == (was["device"] is None)
        if was["device"]:
            mac = bytes.fromhex(was["device"]["mac"].replace(":", ""))
            assert now["device"]["mac"] == one.mac(mac).hex(":")
            name = was["device"]["hostname"]
            assert now["device"]["hostname"] == (name and one.name(name.encode()).decode())
