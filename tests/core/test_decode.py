"""Decoding of frames other than ARP: captured frames, and evidence that is not accepted."""

import struct
from ipaddress import ip_address
from typing import Any

import pytest

from netscand.core.model import Evidence, Ip, Lease, Mac, Observation
from netscand.lan import decode, dns, nbns
from tests.core import built_frames, captured_frames

CLIENT = Mac(bytes.fromhex("525400770003"))
SERVER = Mac(bytes.fromhex("525400770002"))
AVAHI = Mac(bytes.fromhex("525400770004"))
PHONE = Mac(bytes.fromhex(built_frames.MAC.replace(":", "")))
DHCP, MDNS, NDP = Evidence.DHCP, Evidence.MDNS, Evidence.NDP


def ip(text: str) -> Ip:
    return Ip(ip_address(text).packed)


def decoded(frame: bytes) -> tuple[Observation, ...]:
    return decode.decode(frame, 12.5, 3)


def says(
    mac: Mac,
    address: str | None,
    evidence: Evidence,
    name: str | None = None,
    **more: Any,  # noqa: ANN401 fields
) -> Observation:
    source = {DHCP: "dhcp", MDNS: "mdns", Evidence.NBNS: "nbns"}.get(evidence)
    seen = Observation(
        12.5, 3, mac, ip(address) if address else None, evidence, name=name, name_source=source if name else None
    )
    return seen._replace(**more)


NETWORKD = Mac(bytes.fromhex("525400770005"))
DUID = bytes.fromhex("00020000ab11a1b2c3d4e5f60718")


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "DHCLIENT_DISCOVER": [says(CLIENT, None, DHCP, "janes-laptop", joining=True, parameters=bytes((1, 3)))],
        "DHCLIENT_REQUEST": [
            says(
                CLIENT, None, DHCP, "janes-laptop", joining=True, dhcp_server=ip("10.77.0.1"), parameters=bytes((1, 3)),
                lease=Lease(ip("10.77.0.1"), ip("10.77.0.102"), None, 12.5),
            ),
        ],
        "DNSMASQ_OFFER": [says(SERVER, "10.77.0.1", DHCP, dhcp_server=ip("10.77.0.1"))],
        "DNSMASQ_ACK": [
            says(SERVER, "10.77.0.1", DHCP, dhcp_server=ip("10.77.0.1")),
            says(
                CLIENT, "10.77.0.102", Evidence.PROXIED, joining=True, via=SERVER,
                lease=Lease(ip("10.77.0.1"), ip("10.77.0.102"), 3600, 12.5),
            ),
        ],
        "NETWORKD_DISCOVER": [says(
            NETWORKD, None, DHCP, "server", joining=True, client_id=DUID, parameters=bytes.fromhex("01030c0f1a212a79")
        )],
        "NETWORKD_RELEASE": [says(NETWORKD, None, DHCP, goodbye=True, client_id=DUID)],
        "ANDROID_DISCOVER": [
            says(
                Mac(bytes.fromhex("02a1b2c3d4e5")), None, DHCP, "Pixel-7", joining=True, vendor_class="android-dhcp-14",
                parameters=bytes.fromhex("0103060f1a1c333a3b2b726c"),
            ),
        ],
        "IOS_REQUEST": [
            says(PHONE, None, DHCP, "Janes-iPhone", joining=True, parameters=bytes.fromhex("017903060f6c7277fc")),
        ],
        "WINDOWS_REBINDING": [
            says(Mac(bytes.fromhex("3cd92b000009")), "10.77.0.64", DHCP, "DESKTOP-4K2", vendor_class="MSFT 5.0",
                 parameters=bytes.fromhex("0103060f1f212b2c2e2f7779f9fc")),
        ],
        "AVAHI_PROBE": [says(AVAHI, "10.77.0.60", MDNS)],
        "AVAHI_ANNOUNCES": [says(AVAHI, "10.77.0.60", MDNS, "printer")],
        "AVAHI_ANNOUNCES_6": [says(AVAHI, "fe80::5054:ff:fe77:4", MDNS, "printer")],
        "AVAHI_GOODBYE": [says(AVAHI, "10.77.0.60", MDNS, goodbye=True)],
        "LINUX_DAD": [says(SERVER, None, NDP, joining=True)],
        "LINUX_RS": [says(SERVER, "fe80::5054:ff:fe77:2", NDP)],
        "LINUX_NS": [says(Mac(bytes.fromhex("525400770001")), "fe80::5054:ff:fe77:1", NDP)],
        "LINUX_NA": [says(AVAHI, "fe80::5054:ff:fe77:4", NDP, solicited=True)],
        "WINDOWS_REGISTRATION": [
            says(Mac(bytes.fromhex("3cd92b000009")), "10.77.0.64", Evidence.NBNS, "DESKTOP-4K2"),
        ],
    }.items(),
)  # fmt: skip
def test_what_real_devices_say_is_understood(name: str, expected: list[Observation]) -> None:
    assert decoded(captured_frames.ALL[name]) == tuple(expected)


def test_every_captured_frame_is_tested() -> None:
    (mark,) = [mark for mark in test_what_real_devices_say_is_understood.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert {name for name, _ in mark.args[1]} == set(captured_frames.ALL)


# ---- DHCP -----------------------------------------------------------------------------------------------------------


def test_a_requested_address_is_not_yet_held() -> None:
    """INIT-REBOOT and SELECTING; an acknowledgement comes from the server and proves no presence."""
    (seen,) = decoded(built_frames.dhcp("request", ("requested_addr", "10.77.0.9")))
    assert (seen.ip, seen.joining) == (None, True)
    _, seen = decoded(built_frames.dhcp_answer("ack", "10.77.0.1", yiaddr="10.77.0.9"))
    assert (seen.mac, seen.ip, seen.evidence) == (PHONE, ip("10.77.0.9"), Evidence.PROXIED)


def test_a_lease_renewed_is_no_joining() -> None:
    (seen,) = decoded(built_frames.dhcp("request", ciaddr="10.77.0.9"))
    assert (seen.ip, seen.joining) == (ip("10.77.0.9"), False)


def test_a_client_names_a_server_only_as_it_takes_an_offer() -> None:
    """RFC 2131, 4.3.2; else a client that renews a lease would count as the server that it names."""
    (taking,) = decoded(built_frames.dhcp("request", ("server_id", "10.77.0.1")))
    (renewing,) = decoded(built_frames.dhcp("request", ("server_id", "10.77.0.1"), ciaddr="10.77.0.9"))
    assert (taking.dhcp_server, renewing.dhcp_server) == (ip("10.77.0.1"), None)


def test_an_offer_is_not_the_clients_address() -> None:
    assert [seen.mac for seen in decoded(built_frames.dhcp_answer("offer", "10.77.0.1", yiaddr="10.77.0.9"))] == [
        Mac(bytes.fromhex("525400000001"))
    ]


def test_what_a_relay_passes_on_says_nothing_of_this_link() -> None:
    assert decoded(built_frames.dhcp("discover", giaddr="10.78.0.1")) == ()


def test_dhcp_in_the_name_of_another_keeps_no_presence() -> None:
    """Starving a server takes a thousand made-up clients, all from one station."""
    (seen,) = decoded(built_frames.dhcp("discover", source="52:54:00:00:00:99"))
    assert (seen.mac, seen.evidence) == (PHONE, Evidence.PROXIED)


def test_a_name_without_option_12_is_that_of_option_81() -> None:
    plain = ("client_FQDN", b"\0\0\0laptop.example.org")
    (seen,) = decoded(built_frames.dhcp("discover", plain))
    assert seen.name == "laptop.example.org"
    encoded = ("client_FQDN", b"\x04\0\0\x06laptop\x07example\x03org\0")
    (seen,) = decoded(built_frames.dhcp("discover", encoded))
    assert seen.name == "laptop.example.org"


@pytest.mark.parametrize(("option", "name"), [(bytes(8), None), (b"nas-2\0", "nas-2"), (b"nas-2\0\0\0", "nas-2")])
def test_a_name_ends_before_its_zeros(option: bytes, name: str | None) -> None:
    """FIELD R4 (W4, W5): clients that send their whole buffer."""
    (seen,) = decoded(built_frames.dhcp("discover", ("hostname", option)))
    assert seen.name == name


def test_what_a_client_calls_itself_is_one_line() -> None:
    """FAULTS T8: option 60."""
    (seen,) = decoded(built_frames.dhcp("discover", ("vendor_class_id", b"\x1b[2Judhcp 1.36.1\n" + b"x" * 100)))
    assert seen.vendor_class == "[2Judhcp 1.36.1 " + "x" * 47


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"\xff\x12\x34\x56\x78" + DUID, DUID),
        (b"\x00kitchen", b"\x00kitchen"),
        (b"\x01" + bytes.fromhex(built_frames.MAC.replace(":", "")), None),
        (b"\xff\x00\x03\x00\x01" + bytes.fromhex(built_frames.MAC.replace(":", "")), None),
        (b"x", None),
        (b"x" * 65, None),
    ],
    ids=["DUID", "name", "MAC", "DUID of the MAC", "too short", "too long"],
)
def test_a_client_identifier_that_is_not_the_mac_is_kept(sent: bytes, kept: bytes | None) -> None:
    """FIELD case 13: option 61 (RFC 2132, 9.14; RFC 4361); it shows a device under another MAC."""
    (seen,) = decoded(built_frames.dhcp("discover", ("client_id", sent)))
    assert seen.client_id == kept


def test_an_option_in_two_parts_is_one() -> None:
    (seen,) = decoded(built_frames.dhcp("discover", ("hostname", b"janes-"), ("hostname", b"phone")))
    assert seen.name == "janes-phone"


@pytest.mark.parametrize(
    "options",
    [
        b"\0" * 600 + b"\x35\1\2\x36\4\x0a\x4d\0\1\xff",
        b"\xe0\0" * 600 + b"\x35\1\2\x36\4\x0a\x4d\0\1\xff",
        b"\x35\1\1\x35\1\2\x36\4\x0a\x4d\0\1\xff",
        b"\xff",
    ],
    ids=["fillers", "many options", "two types", "none"],
)
def test_no_server_hides_its_message(options: bytes) -> None:
    """FAULTS T58: clients read every option, and differ in which of two they take."""
    plain = built_frames.dhcp_answer("offer", "10.77.0.1")
    head = plain[: plain.index(b"\x63\x82\x53\x63") + 4]
    size = len(head) - 14 + len(options)
    frame = head[:16] + size.to_bytes(2) + head[18:38] + (size - 20).to_bytes(2) + head[40:] + options
    (seen,) = decoded(frame)
    assert seen == says(Mac(bytes.fromhex("525400000001")), "10.77.0.1", DHCP, dhcp_server=ip("10.77.0.1"))


@pytest.mark.parametrize(("bits", "at"), [(1, 108), (2, 44), (3, 44)], ids=["file", "name", "both"])
def test_options_in_another_field_are_read(bits: int, at: int) -> None:
    """FAULTS T58: RFC 2132, 9.3."""
    frame = bytearray(built_frames.dhcp_answer("offer", "10.77.0.1"))
    start = frame.index(b"\x63\x82\x53\x63")
    said = frame[start + 4 :]
    frame[start + 4 :] = bytes([52, 1, bits, 255]).ljust(len(said), b"\0")
    frame[start - 236 + at : start - 236 + at + len(said)] = said
    (seen,) = decoded(bytes(frame))
    assert (seen.ip, seen.dhcp_server) == (ip("10.77.0.1"), ip("10.77.0.1"))


def test_a_server_is_one_whatever_client_it_speaks_to() -> None:
    """FAULTS T58: some clients look at neither the type nor the address of their hardware."""
    frame = bytearray(built_frames.dhcp_answer("offer", "10.77.0.1", yiaddr="10.77.0.9"))
    frame[frame.index(b"\x63\x82\x53\x63") - 235] = 7
    (seen,) = decoded(bytes(frame))
    assert (seen.ip, seen.dhcp_server) == (ip("10.77.0.1"), ip("10.77.0.1"))


# ---- mDNS, NBNS -----------------------------------------------------------------------------------------------------


def test_an_mdns_name_needs_the_senders_address() -> None:
    """A responder that answers for others, or a reflector, sets no name."""
    (seen,) = decoded(built_frames.mdns(("other.local.", "A", "10.77.0.10")))
    assert (seen.mac, seen.name) == (PHONE, None)
    (seen,) = decoded(built_frames.mdns(("other.local.", "A", "10.77.0.10"), ("own.local.", "A", "10.77.0.9")))
    assert seen.name == "own"


QUESTION, OWN_NAME = b"\x05_http\x04_tcp\x05local\0\0\x0c\0\1", b"\x03own\x05local\0"
ADDRESS, SERVICE = b"\0\1%b\0\0\0\x78\0\4\x0a\x4d\0\x09", b"\x05_http\x04_tcp\x05local\0\0\x0c\0\1\0\0\0\x78"


@pytest.mark.parametrize(
    ("flags", "counts", "records"),
    [
        (0x8400, (1, 1, 0, 0), QUESTION + OWN_NAME + ADDRESS % b"\x80\1"),  # with the question
        (0x8000, (0, 1, 0, 0), OWN_NAME + ADDRESS % b"\x80\1"),  # no AA
        (0x8600, (0, 1, 0, 0), OWN_NAME + ADDRESS % b"\x80\1"),  # TC
        (0x8400, (0, 1, 0, 0), OWN_NAME + ADDRESS % b"\0\1"),  # no cache-flush
        (0x8400, (0, 1, 0, 0), OWN_NAME.replace(b"local", b"LOCAL") + ADDRESS % b"\x80\1"),
        (0x8400, (1, 1, 0, 0), QUESTION + b"\x03own\xc0\x17" + ADDRESS % b"\x80\1"),  # compressed: the question's local
        (0x8400, (0, 1, 0, 1), SERVICE + b"\0\x05\x02my\xc0\x0c" + OWN_NAME + ADDRESS % b"\x80\1"),  # an additional
    ],
)
def test_an_mdns_answer_in_any_form_has_its_name(flags: int, counts: tuple[int, ...], records: bytes) -> None:
    """FIELD R7: what responders send that are not Apple's."""
    message = struct.pack(">HH4H", 0, flags, *counts) + records
    head = built_frames.Ether(src=built_frames.MAC, dst="01:00:5e:00:00:fb")
    over = built_frames.IP(src="10.77.0.9", dst="224.0.0.251", ttl=255) / built_frames.UDP(sport=5353, dport=5353)
    (seen,) = decoded(bytes(head / over / message))
    assert seen.name == "own"


@pytest.mark.parametrize("hops", [1, 64, 254])
def test_what_a_router_may_have_passed_on_says_nothing(hops: int) -> None:
    assert decoded(built_frames.mdns(("own.local.", "A", "10.77.0.9"), hops=hops)) == ()
    assert decoded(built_frames.solicitation("fe80::9", "fe80::1", hops=hops)) == ()


def test_a_name_outside_of_local_is_nobodys() -> None:
    (seen,) = decoded(built_frames.mdns(("www.example.org.", "A", "10.77.0.9")))
    assert seen.name is None


def test_mdns_from_a_global_ipv6_address_is_not_believed() -> None:
    assert decoded(built_frames.mdns(("own.local.", "AAAA", "2001:db8::9"), source="2001:db8::9")) == ()


def encoded(name: bytes, suffix: int) -> bytes:
    """First-level encoding (RFC 1001, 14.1)."""
    whole = name.ljust(15) + bytes([suffix])
    return bytes([32]) + bytes(half + 0x41 for byte in whole for half in (byte >> 4, byte & 15)) + b"\0"


def netbios(flags: int, name: bytes, suffix: int, address: str = "10.77.0.9", nb_flags: int = 0) -> bytes:
    """A message about one name, from `built_frames.MAC` at 10.77.0.9."""
    message = struct.pack("!HHHHHH", 7, flags, 1, 0, 0, 1) + encoded(name, suffix) + struct.pack("!HH", 32, 1)
    message += b"\xc0\x0c" + struct.pack("!HHIHH", 32, 1, 300000, 6, nb_flags) + ip(address)
    udp = struct.pack("!HHHH", 137, 137, 8 + len(message), 0) + message
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 128, 17, 0) + ip("10.77.0.9") + ip("10.77.0.255")
    return b"\xff" * 6 + PHONE + b"\x08\x00" + head + udp


@pytest.mark.parametrize(
    ("frame", "name", "goodbye"),
    [
        (netbios(0x2910, b"JANES-PC", 0x00), "JANES-PC", False),
        (netbios(0x2910, b"JANES-PC", 0x20), "JANES-PC", False),
        (netbios(0x4010, b"JANES-PC", 0x00), "JANES-PC", False),
        (netbios(0x3010, b"JANES-PC", 0x00), None, True),
        (netbios(0x2910, b"WORKGROUP", 0x00, nb_flags=0x8000), None, False),
        (netbios(0x2910, b"JANES-PC", 0x1B), None, False),
        (netbios(0x2910, b"OTHER", 0x00, address="10.77.0.10"), None, False),
        (netbios(0x0110, b"ASKED-FOR", 0x20), None, False),
    ],
    ids=["workstation", "server", "refresh", "release", "group", "browser", "another's", "query"],
)
def test_netbios_names_hosts_by_what_they_register(frame: bytes, name: str | None, goodbye: bool) -> None:
    (seen,) = decoded(frame)
    assert (seen.ip, seen.evidence, seen.name, seen.goodbye) == (ip("10.77.0.9"), Evidence.NBNS, name, goodbye)


def test_the_status_of_a_node_has_its_own_name_among_others() -> None:
    names = [(b"WORKGROUP", 0x00, 0x84), (b"JANES-PC", 0x03, 0x04), (b"JANES-PC", 0x20, 0x04)]
    content = bytes([len(names)]) + b"".join(
        name.ljust(15) + bytes([suffix, flags, 0]) for name, suffix, flags in names
    )
    record = encoded(b"*" + bytes(14), 0) + struct.pack("!HHIH", dns.NBSTAT, 1, 0, len(content)) + content
    message = dns.read(struct.pack("!HHHHHH", 7, 0x8400, 0, 1, 0, 0) + record)
    assert message is not None
    assert nbns.node_name(message) == "JANES-PC"


# ---- neighbour discovery --------------------------------------------------------------------------------------------


def test_evidence_from_another_station_is_proxied() -> None:
    """The Ethernet source and the MAC in the frame differ."""
    other = Mac(bytes.fromhex("525400000099"))
    for frame in (
        built_frames.solicitation("fe80::9", "fe80::1", link_layer="52:54:00:00:00:99"),
        built_frames.advertisement("fe80::9", link_layer="52:54:00:00:00:99"),
    ):
        assert decoded(frame) == (says(other, "fe80::9", Evidence.PROXIED, via=PHONE),)


@pytest.mark.parametrize("headers", [(0,), (60,), (43,), (0, 60, 43, 60), (60,) * 100])
def test_headers_of_ipv6_hide_no_claim(headers: tuple[int, ...]) -> None:
    """FAULTS T58: hosts read neighbour discovery behind them."""
    frame = built_frames.advertisement("fe80::9", solicited=False)
    assert decoded(built_frames.extended(frame, *headers)) == decoded(frame) != ()
    assert decoded(built_frames.extended(frame, *headers)[:-9]) in (decoded(frame), (), decoded(frame[:-8]))


@pytest.mark.parametrize("tags", [[0x8100], [0x88A8], [0x8100, 0x88A8, 0x8100], [0x8100] * 300])
def test_tags_without_a_vlan_hide_nothing(tags: list[int]) -> None:
    """FAULTS T58: hosts take all of them off, the kernel one before we are given the frame."""
    for frame in (built_frames.CLAIM, built_frames.advertisement("fe80::9"), captured_frames.DHCLIENT_DISCOVER):
        bare = decoded(frame)
        assert bare
        assert decoded(built_frames.tagged(frame, *((kind, 0xE000) for kind in tags))) == bare
        assert decoded(built_frames.tagged(frame, *((kind, 0) for kind in tags), (0x8100, 5))) == ()


def test_the_last_option_of_many_says_who_is_meant() -> None:
    """FAULTS T58: hosts read all of them."""
    frame = built_frames.advertisement("fe80::9")
    told = b"\2\1\x52\x54\0\0\0\x99"
    body = frame[54:78] + (b"\5\1" + bytes(6)) * 150 + told
    (seen,) = decoded(frame[:18] + len(body).to_bytes(2) + frame[20:54] + body)
    assert (seen.mac, seen.evidence, seen.via) == (Mac(bytes.fromhex("525400000099")), Evidence.PROXIED, PHONE)


def test_a_large_frame_that_the_ring_cuts_hides_no_claim() -> None:
    """FAULTS T58: on a LAN of jumbo frames, hosts read all of it."""
    frame = built_frames.advertisement("fe80::9", solicited=False)
    body = frame[54:] + (b"\5\1" + bytes(6)) * 400
    large = frame[:18] + len(body).to_bytes(2) + frame[20:54] + body
    for cut in (1982, 1983, 1979):
        assert decoded(large[:cut]) == decoded(frame) != ()


def test_an_advertisement_nobody_asked_for_is_an_announcement() -> None:
    (seen,) = decoded(built_frames.advertisement("2001:db8::9", solicited=False, to="ff02::1"))
    assert (seen.ip, seen.joining, seen.solicited) == (ip("2001:db8::9"), True, False)


def test_an_address_in_duplicate_detection_is_not_held() -> None:
    """A solicitation from the unspecified address claims nothing yet."""
    (seen,) = decoded(built_frames.dad("fe80::9"))
    assert (seen.mac, seen.ip, seen.joining) == (PHONE, None, True)


@pytest.mark.parametrize("lifetime", [0, 1800])
def test_a_router_says_whether_it_is_one(lifetime: int) -> None:
    over = built_frames.IPv6(src="fe80::9", dst="ff02::1", hlim=255)
    frame = (
        built_frames.Ether(src=built_frames.MAC, dst="33:33:00:00:00:01")
        / over
        / built_frames.inet6.ICMPv6ND_RA(routerlifetime=lifetime)
    )
    assert decoded(bytes(frame)) == (says(PHONE, "fe80::9", NDP, router=lifetime > 0),)


def test_an_answer_to_an_echo_counts_where_the_echo_was_ours() -> None:
    def answer(number: int, source: str = "fe80::9") -> bytes:
        body = struct.pack("!BBHHH", 129, 0, 0, number, 1)
        head = struct.pack("!IHBB", 6 << 28, len(body), 58, 64) + ip(source) + ip("fe80::1")
        return b"\x52\x54\0\0\0\1" + PHONE + b"\x86\xdd" + head + body

    assert decoded(answer(0x6E73)) == (says(PHONE, "fe80::9", NDP, solicited=True),)
    assert decoded(answer(0x1234)) == ()
    assert decoded(answer(0x6E73, "2001:db8::9")) == ()
