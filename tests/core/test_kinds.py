"""The kind of a device, by its evidence or its user, and the trial of the rules on real devices."""

import re
import struct
from typing import Any, get_args

import pytest

from netscand import protocol
from netscand.core import kind_rules as rules
from netscand.core.kinds import MOST_SERVICES, Clues, identify, with_services
from netscand.core.model import CHOSEN_KIND, Device, EventKind, Evidence, Kind, Mac, Observation, Service
from netscand.lan import dns, mdns
from netscand.lan.mdns import own_services
from netscand.lan.senders import Sender
from tests.core import trial_kinds
from tests.core.world import World, ip, mac, network

ORDINARY = Mac(b"\x00\x11\x22\x33\x44\x55")
IPP = Service("_ipp._tcp", ("ty=HP Envy 6100e",))
QUEUE = Service("_ipp._tcp", ("rp=printers/Office",))


def kind_of(*services: Service, **clues: Any) -> str | None:  # noqa: ANN401 - of Clues
    found = identify(Clues(ORDINARY, services=services, **clues))
    return found.name if found else None


# ---- rules ---------------------------------------------------------------------------------------------------------


def test_every_rule_names_a_kind_of_the_contract() -> None:
    tables = (
        rules.SERVICES, rules.TXT, rules.HOMEKIT, rules.MATTER, rules.DHCP, rules.HOST_NAMES, rules.VENDORS,
    )  # fmt: skip
    assert not [line for table in tables for line in table.split("\n")[1:-1] if not re.match(r"[a-z_]+: \S", line)]
    named = {kind for table in tables for _, kind in rules.rows(table)}
    named |= {kind for kind, _ in rules.MACS.values()} | set(rules.MORE_EXACT)
    assert named <= set(rules.KINDS)
    assert get_args(protocol.Kind) == rules.KINDS


def test_every_pattern_of_a_name_contains_its_text() -> None:
    """The text is only a filter: a name that fits the pattern contains it."""
    for rule, _ in rules.rows(rules.HOST_NAMES):
        part, _, pattern = rule.partition(" ")
        assert re.compile(pattern)
        assert part == "*" or part in re.sub(r"[\\?]", "", pattern), pattern


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Janes-iPhone", "phone"), ("iphone", "phone"), ("Janes-MBP", "laptop"), ("DESKTOP-A1B2C3D", "computer"),
        ("BRW0080927AFBCE.lan", "printer"), ("Galaxy-Tab-A", "tablet"), ("Pixel-7-Pro", "phone"),
        ("janes-laptop", None), ("android-1c1335ec95a27318", None), ("phone", None), ("localcam", None),
    ],
)  # fmt: skip
def test_a_host_name(name: str, kind: str | None) -> None:
    assert kind_of(host_names=(name,)) == kind


def test_no_evidence_names_no_kind() -> None:
    """`android-dhcp-` is sent by phones, tablets, TVs and cars; nothing is guessed."""
    assert kind_of() is None
    assert kind_of(vendor_class="android-dhcp-14") is None
    assert kind_of(Service("_http._tcp", ()), vendor="Espressif Inc.", vendor_class="udhcp 1.22.1") is None


def test_a_maker_of_several_kinds_needs_more_than_its_name() -> None:
    """By DHCP: a word for what it is, or the name of a series; else switches and cameras would be access points."""
    for silent in (
        "Meraki",
        "MERAKI MX",
        "Dell",
        "DELL Embedded",
        "Canon",
        "Canon VB-H45",
        "Zebra",
        "Zebra TC52",
        "Poly",
    ):
        assert kind_of(vendor_class=silent) is None, silent
    assert kind_of(vendor_class="Nintendo Switch") == "console"
    for printer in (
        "Mfg=ANY;Typ=Printer;Mod=X;Ser=1",
        "Mfg=ANY;Typ=MFP;Mod=X",
        "Zebra Technologies ZTC ZD410",
        "HP Printer",
    ):
        assert kind_of(vendor_class=printer) == "printer", printer
    assert kind_of(vendor_class="AXIS,Network Camera,P3343,5.20.3") == "camera"
    for silent in ("sprinter 2", "printers.example", "mfpx"):
        assert kind_of(vendor_class=silent) is None, silent


def test_a_print_queue_is_no_printer() -> None:
    """Computers and routers share the printers of others."""
    assert kind_of(IPP) == "printer"
    assert kind_of(QUEUE) is None
    assert kind_of(IPP, Service("_workstation._tcp", ())) is None
    assert kind_of(IPP, Service("_device-info._tcp", ("model=MacBookPro11,1",))) == "laptop"


def test_contradictory_evidence_names_no_kind() -> None:
    assert kind_of(Service("_sonos._tcp", ()), Service("_axis-video._tcp", ())) is None
    assert kind_of(host_names=("iPhone", "iPad")) is None


def test_weaker_evidence_makes_a_kind_more_exact() -> None:
    assert kind_of(vendor_class="MSFT 5.0") == "computer"
    assert kind_of(vendor_class="MSFT 5.0", host_names=("LAPTOP-A1B2C3D4",)) == "laptop"
    assert identify(Clues(Mac(b"\x52\x54\0\0\0\1"), vendor_class="MSFT 5.0")) == Kind(
        "virtual_machine", "MAC prefix of QEMU"
    )
    assert kind_of(Service("_plexmediasvr._tcp", ()), vendor="Synology Incorporated") == "nas"


def test_the_gateway_is_a_router() -> None:
    assert kind_of(is_gateway=True, vendor="Synology Incorporated") == "router"
    assert kind_of(is_gateway=True, host_names=("Janes-iPhone",)) == "phone"  # a hotspot


def test_bridges_in_software_are_no_hubs() -> None:
    hap = Service("_hap._tcp", ("md=BSB002", "ci=2"))
    assert kind_of(hap) == "hub"
    assert kind_of(Service("_hap._tcp", ("md=homebridge", "ci=2"))) is None
    assert kind_of(hap, Service("_hap._tcp", ("md=AC02", "ci=9"))) is None
    assert kind_of(hap, Service("_ssh._tcp", ())) is None


def test_a_cast_receiver_without_video_is_a_speaker() -> None:
    assert kind_of(Service("_googlecast._tcp", ("md=Some Soundbar", "ca=4"))) == "speaker"
    assert kind_of(Service("_googlecast._tcp", ("md=Google Cast Group", "ca=36"))) is None
    assert kind_of(Service("_googlecast._tcp", ("md=Some Screen", "ca=5"))) is None
    assert kind_of(Service("_googlecast._tcp", ("ca=99999999999999999999999", "md=x"))) in (None, "speaker")


def test_services_are_bounded() -> None:
    """Law 6: a device keeps at most so many services, whatever it announces."""
    many = [Service(f"_s{number}._tcp", ()) for number in range(100)]
    assert len(with_services((), many)) == MOST_SERVICES
    assert with_services((IPP,), [Service("_ipp._tcp", ())]) == (IPP,)
    assert with_services((Service("_ipp._tcp", ()),), [IPP]) == (IPP,)


def test_the_trial_of_real_devices() -> None:
    """At most 2 % of the devices of each part get a wrong kind; of those that get one, 2 % as well."""
    found = list(trial_kinds.results())
    assert len(found) >= 150 and len({each.device["is"] for each in found}) >= 20
    for part in trial_kinds.PARTS:
        here = [each for each in found if each.part == part]
        count = trial_kinds.counts(here)
        assert count["wrong"] <= 0.02 * (count["right"] + count["wrong"]), trial_kinds.report()
        assert count["right"] >= 0.25 * len(here), trial_kinds.report()
    assert {each.device["is"] for each in found} <= set(rules.KINDS)
    assert all(each.device["source"] for each in found)


def test_the_figures_in_the_documentation_are_those_of_the_trial() -> None:
    text = (trial_kinds.DATA.parents[3] / "docs" / "kinds.md").read_text()
    for line in trial_kinds.report().splitlines()[:4]:
        numbers = re.findall(r"\d+", line)
        assert re.search(r"\D+".join(numbers), text), line


# ---- frames --------------------------------------------------------------------------------------------------------


def encoded(*labels: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def record(name: bytes, kind: int, content: bytes, ttl: int = 120) -> bytes:
    return name + struct.pack("!HHIH", kind, 1, ttl, len(content)) + content


def message(*records: bytes) -> bytes:
    return struct.pack("!HHHHHH", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


OWN, OTHER = ip("10.0.0.9"), ip("10.0.0.8")
HOST = encoded("envy", "local")
PRINTER = encoded("HP Envy", "_ipp", "_tcp", "local")


def srv(name: bytes = PRINTER, host: bytes = HOST, ttl: int = 120) -> bytes:
    return record(name, 33, struct.pack("!HHH", 0, 0, 631) + host, ttl)


def txt(*entries: str, name: bytes = PRINTER) -> bytes:
    return record(name, 16, b"".join(bytes([len(each.encode())]) + each.encode() for each in entries))


def services(*records: bytes) -> tuple[Service, ...]:
    read = dns.read(message(*records))
    assert read is not None
    return own_services(read, OWN)


def test_services_of_a_frame() -> None:
    """The keys that indicate a kind are kept; serial numbers and names of people are not."""
    found = services(record(HOST, 1, OWN), srv(), txt("txtvers=1", "ty=HP Envy", "note=Jane", "rp=ipp/print", "UUID=1"))
    assert found == (Service("_ipp._tcp", ("ty=HP Envy", "rp=ipp/print")),)
    info = encoded("envy", "_device-info", "_tcp", "local")
    assert services(record(HOST, 1, OWN), txt("model=MacBookPro11,1", name=info)) == (
        Service("_device-info._tcp", ("model=MacBookPro11,1",)),
    )


def test_services_of_another_host_are_ignored() -> None:
    """A reflector and a sleep proxy send records of other hosts: none becomes a service of theirs."""
    other = encoded("mac", "local")
    assert services(record(HOST, 1, OTHER), srv(), txt("ty=HP")) == ()
    assert services(srv(), txt("ty=HP")) == ()  # no address proves whose it is
    assert services(record(HOST, 1, OWN), record(other, 1, OTHER), srv(host=other), txt("ty=HP")) == ()
    info = encoded("mac", "_device-info", "_tcp", "local")
    assert services(record(HOST, 1, OWN), record(other, 1, OTHER), txt("model=iMac", name=info)) == ()
    assert services(txt("model=iMac", name=info)) == ()
    assert services(record(HOST, 1, OWN), srv(ttl=0)) == ()  # withdrawn


def test_hostile_services_are_sanitised() -> None:
    wrong = encoded("x", "_i\x1b[2J", "_tcp", "local")
    assert services(record(HOST, 1, OWN), srv(wrong)) == ()
    found = services(record(HOST, 1, OWN), srv(), txt("ty=\x1b[31mred\u202e", "md=" + "a" * 200, "=x", "ty"))
    assert found == (Service("_ipp._tcp", ("ty=[31mred", "md=" + "a" * 63)),)


def test_an_mdns_frame_has_its_services() -> None:
    (seen,) = mdns.decode(message(record(HOST, 1, OWN), srv()), Sender(ORDINARY, OWN, 1.0, 2), from_port=5353)
    assert (seen.name, seen.services) == ("envy", (Service("_ipp._tcp", ()),))


# ---- the inventory -------------------------------------------------------------------------------------------------


def world() -> World:
    made = World([network(gateway="10.0.0.1")])
    made.run(1)
    return made


def hear(world: World, number: int, **fields: Any) -> list[EventKind]:  # noqa: ANN401 - of an observation
    """Let a device send an mDNS frame; return the kinds of the events."""
    seen = Observation(world.now, 2, Mac(b"\0\x11\x22\0\0" + bytes([number])), ip(f"10.0.0.{number}"), Evidence.MDNS)
    events = world.inventory.observe(seen._replace(**fields), network(gateway="10.0.0.1"))
    return [event.kind for event in events]


def device_of(world: World, number: int) -> Device:
    return world.inventory.devices[Mac(b"\0\x11\x22\0\0" + bytes([number]))]


def name_of(device: Device) -> str | None:
    return device.kind.name if device.kind else None


def test_a_kind_known_at_the_discovery_is_no_event_of_its_own() -> None:
    made = world()
    assert hear(made, 9, services=(IPP,)) == [EventKind.DISCOVERED]
    assert device_of(made, 9).kind == Kind("printer", "mDNS service _ipp._tcp")


def test_a_repeated_announcement_makes_no_event() -> None:
    """Law 5: only a change of the kind is an event, once."""
    made = world()
    assert hear(made, 9) == [EventKind.DISCOVERED]
    assert hear(made, 9, services=(IPP,)) == [EventKind.KIND_CHANGED]
    assert hear(made, 9, services=(IPP,)) == []
    assert hear(made, 9, services=(Service("_uscan._tcp", ()),)) == []  # more evidence for the same


def test_changes_of_kinds_are_limited() -> None:
    """A device that alternates between two kinds causes a few events in an hour."""
    made, events = world(), list[EventKind]()
    hear(made, 9)
    for number in range(100):
        made.now += 1
        events += hear(made, 9, vendor_class=("MSFT 5.0", "yealink")[number % 2])
    assert 0 < events.count(EventKind.KIND_CHANGED) <= 5
    assert made.inventory.budgets.refused["kind_changes"]
    made.now += 3600
    later = [*hear(made, 9, vendor_class="MSFT 5.0"), *hear(made, 9, vendor_class="yealink")]
    assert EventKind.KIND_CHANGED in later


def test_a_host_name_and_dhcp_name_a_kind() -> None:
    made = world()
    hear(made, 9)
    changed = hear(made, 9, name="Janes-iPad", name_source="mdns")
    assert changed == [EventKind.RENAMED, EventKind.KIND_CHANGED]
    hear(made, 8)
    parameters = bytes((1, 121, 3, 6, 15, 119, 252, 95, 44, 46))
    assert hear(made, 8, parameters=parameters, evidence=Evidence.DHCP) == [EventKind.KIND_CHANGED]
    assert name_of(device_of(made, 8)) == "computer"


def test_the_users_word_wins() -> None:
    made = world()
    hear(made, 9, services=(IPP,))
    who = Mac(b"\0\x11\x22\0\0\x09")
    (event,) = made.inventory.label(who, {"kind": "camera"}, made.now)
    assert (event.kind, event.previous) == (
        EventKind.LABELLED, {"kind": "printer", "kind_reason": "mDNS service _ipp._tcp"},
    )  # fmt: skip
    assert hear(made, 9, services=(Service("_sonos._tcp", ()),), name="Janes-iPhone", name_source="mdns") == [
        EventKind.RENAMED
    ]
    assert made.inventory.devices[who].kind == Kind("camera", CHOSEN_KIND)
    made.inventory.label(who, {"kind": None}, made.now)
    assert made.inventory.devices[who].kind is None  # its evidence is contradictory now


def test_the_gateway_becomes_a_router() -> None:
    made = world()
    assert hear(made, 1, evidence=Evidence.ARP_REQUEST) == [EventKind.DISCOVERED]
    assert device_of(made, 1).kind == Kind("router", "it is the gateway")
    hear(made, 7, evidence=Evidence.ARP_REQUEST)
    made.set_networks([network(gateway="10.0.0.7")])
    made.run(2)
    assert name_of(device_of(made, 7)) == "router"
    assert device_of(made, 1).kind is None
    assert [event.kind for event in made.events].count(EventKind.KIND_CHANGED) == 2


def test_a_frame_for_another_device_is_no_evidence() -> None:
    made = world()
    hear(made, 9)
    hear(made, 9, vendor_class="yealink", evidence=Evidence.PROXIED, via=mac(1))
    assert device_of(made, 9).kind is None
