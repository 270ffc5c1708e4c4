"""What is heard beside ARP, on real links: each kind alone reveals a device at once, without any scan."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from netscand.core.addresses import FEW
from netscand.core.shared_addresses import MOST_ADDRESSES
from netscand.lan import bpf
from netscand.lan.capture import CaptureReader
from tests.core import built_frames, captured_frames
from tests.lab.daemon import Daemon
from tests.lab.lan import Host, Lab
from tests.lab.rooms import Send
from tests.lab.spaces import DEADLINE
from tests.lab.test_daemon import until, wait_for
from tests.lab.test_wire import reply

NO_SCANS = {"scan": {"interval": 86400}, "names": {"sources": ["dhcp", "mdns", "nbns"]}}


def told(daemon: Daemon, lab: Lab, *frames: bytes) -> dict[str, Any]:
    """Put frames on a LAN that is not scanned; return the event of the device `words.MAC`."""
    crowd = lab.crowd()
    with daemon.websocket() as stream:
        until(stream, "initial_state")
        before = time.time()
        crowd.send(*frames)
        event = until(stream, "event", kind="discovered")
        assert event["device"]["mac"] == built_frames.MAC
        assert before <= when(event["seen_at"])
        assert when(event["sent_at"]) - when(event["seen_at"]) < 10.0
    return event


def when(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def device(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.get(f"/api/devices/{built_frames.MAC}")
    return found


def test_dhcp_alone_tells_who_joins_and_its_name(lab: Lab) -> None:
    daemon = lab.daemon(NO_SCANS)
    event = told(daemon, lab, built_frames.dhcp("discover", ("hostname", b"janes-phone")))
    assert event["evidence"] == "dhcp"
    for _ in range(2):
        assert (device(daemon)["hostname"], device(daemon)["hostname_source"]) == ("janes-phone", "dhcp")
        daemon.kill()
        daemon.start()


def test_duplicate_address_detection_alone_tells_who_joins(lab: Lab) -> None:
    daemon = lab.daemon(NO_SCANS)
    assert told(daemon, lab, built_frames.dad("fe80::a683:e7ff:fe12:3456"))["evidence"] == "ndp"


def test_mdns_alone_tells_who_is_there_and_its_name(lab: Lab) -> None:
    daemon = lab.daemon(NO_SCANS)
    event = told(daemon, lab, built_frames.mdns(("janes-phone.local.", "A", "10.77.0.9")))
    assert (event["evidence"], event["address"]) == ("mdns", "10.77.0.9")
    assert (device(daemon)["hostname"], device(daemon)["hostname_source"]) == ("janes-phone", "mdns")


def test_new_ipv6_addresses_of_a_phone_are_listed_and_no_events(lab: Lab) -> None:
    """FIELD case 9: 70 solicitations, each from another address of one prefix."""
    daemon = lab.daemon(NO_SCANS)
    crowd = lab.crowd()
    phone = crowd.join("10.77.0.71")
    sources = [f"2001:db8:77:0:9c1e:44b0:7d2a:{number:x}" for number in range(0x1101, 0x1101 + 70)]
    for source in sources:
        crowd.send(built_frames.solicitation(source, "fe80::1", mac=phone))

    def found() -> dict[str, Any]:
        return dict(daemon.get(f"/api/devices/{phone}"))

    wait_for("the last one", lambda: sources[-1] in {address["ip"] for address in found()["addresses"]})
    device = found()
    assert (device["ip"], device["kinds"]) == ("10.77.0.71", [])
    assert FEW <= len(device["addresses"]) <= MOST_ADDRESSES, "more than FEW from when it answered a probe"
    kinds = [event["kind"] for event in daemon.get("/api/events")["events"] if event["device"]]
    assert sorted(kinds) == ["address_added", "discovered"]


# ---- real programs --------------------------------------------------------------------------------------------------


def of(stream: ClientConnection, mac: str, kind: str) -> dict[str, Any]:
    """The next event of a kind about one device."""
    ends = time.monotonic() + DEADLINE
    while (left := ends - time.monotonic()) > 0:
        event = until(stream, "event", kind=kind, seconds=left)
        if event["device"] and event["device"]["mac"] == mac:
            return event
    raise AssertionError(f"no {kind} of {mac}")


def dnsmasq(host: Host, *options: str) -> None:
    """Serve DHCP (always by broadcast) and DNS at a host, until the lab ends."""
    folder = host._lab.folder
    host.popen(
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--bind-interfaces", "--interface=eth0",
         "--user=root", "--dhcp-broadcast", "--no-resolv", "--no-hosts", "--no-ping",
         f"--dhcp-leasefile={folder}/{host.port}.leases", f"--pid-file={folder}/{host.port}.pid", *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    udp = ["ss", "--listening", "--udp", "--numeric", "--no-header"]
    wait_for("dnsmasq", lambda: ":53 " in host.run(udp).stdout)


def dhclient(host: Host, name: str, vendor_class: str = "lab 1.0", more: str = "request subnet-mask, routers;") -> None:
    """Take a lease, once, and put it on the interface; `more`: further lines of its configuration.

    By a copy of the program: AppArmor's profile for /sbin/dhclient (Ubuntu, and Debian where AppArmor is on) allows no
    file of ours as configuration, and no script but /sbin/dhclient-script. It goes by the path.
    """
    folder = host._lab.folder
    installed = shutil.which("dhclient")
    assert installed, "no dhclient: ./dev setup --test installs it"
    program = shutil.copy(installed, folder / f"{host.port}.dhclient")
    conf = folder / f"{host.port}.conf"
    conf.write_text(f'send host-name "{name}";\nsend vendor-class-identifier "{vendor_class}";\n{more}\n')
    script = folder / f"{host.port}.sh"
    script.write_text('#!/bin/sh\n[ "$reason" != BOUND ] || ip addr add "$new_ip_address/24" dev "$interface"\n')
    script.chmod(0o755)
    host.run(
        [program, "-1", "-cf", str(conf), "-lf", f"{conf}.leases", "-pf", f"{conf}.pid", "-sf", str(script), "eth0"]
    )


AVAHI = """
mount -t tmpfs tmpfs /run
mkdir /run/avahi-daemon
for file in passwd group; do  # it wants its user, as any user; where it was only unpacked there is none
    { grep -v ^avahi: /etc/$file; echo avahi:x:65533:65533::/:/bin/false; } >/run/$file
    mount --bind /run/$file /etc/$file
done
if [ -s "$1" ]; then  # a service to announce
    mkdir /run/etc
    cp -a /etc/. /run/etc
    mkdir -p /run/etc/avahi/services
    cp "$1" /run/etc/avahi/services
    mount --bind /run/etc /etc
fi
exec avahi-daemon --no-drop-root --no-chroot -f "$0"
"""


def avahi(
    host: Host, name: str, *, workstation: bool = False, service: str = "", txt: Sequence[str] = ()
) -> subprocess.Popen[Any]:
    """Answer and announce by mDNS at a host, until the lab ends; with a service of type `service`, if given."""
    assert shutil.which("avahi-daemon"), (
        "no avahi-daemon on the PATH: ./dev setup --test unpacks it, ./dev test finds it"
    )
    conf = host._lab.folder / f"{host.port}.avahi"
    conf.write_text(
        f"[server]\nhost-name={name}\nenable-dbus=no\nallow-interfaces=eth0\n[publish]\n"
        f"publish-workstation={'yes' if workstation else 'no'}\n[rlimits]\n"
    )
    file = conf.with_suffix(".service")
    records = "".join(f"<txt-record>{each}</txt-record>" for each in txt)
    file.write_text(
        f'<?xml version="1.0"?><!DOCTYPE service-group SYSTEM "avahi-service.dtd"><service-group><name>{name}</name>'
        f"<service><type>{service}</type><port>631</port>{records}</service></service-group>"
        if service
        else ""
    )
    argv = ["unshare", "--mount", "sh", "-euc", AVAHI, str(conf), str(file)]
    return host.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_lease_gives_address_name_and_dhcp_server(lab: Lab) -> None:
    daemon = lab.daemon(NO_SCANS)
    server = lab.host("10.77.0.1")
    dnsmasq(server, "--dhcp-range=10.77.0.100,10.77.0.110,1h")
    with daemon.websocket() as stream:
        host = lab.host(None)
        dhclient(host, "janes-laptop")
        assert of(stream, host.mac, "discovered")["evidence"] == "dhcp"
        first = until(stream, "event", kind="dhcp_server_seen")
        assert (first["address"], first["evidence"]) == ("10.77.0.1", "dhcp")
        status, found = daemon.request("GET", f"/api/devices/{host.mac}")
        assert (status, found["hostname"], found["hostname_source"]) == (200, "janes-laptop", "dhcp")
        assert found["ip"].startswith("10.77.0.1")
        rogue = lab.host("10.77.0.66")
        dnsmasq(rogue, "--dhcp-range=10.77.0.200,10.77.0.210,1h")
        other = lab.host(None)
        dhclient(other, "johns-laptop")
        assert until(stream, "event", kind="dhcp_server_seen")["address"] == "10.77.0.66"
        assert daemon.get(f"/api/devices/{other.mac}")["dhcp_vendor_class"] == "lab 1.0"
    told = {event["kind"] for event in daemon.get("/api/events")["events"]}
    assert told <= {"network_up", "discovered", "renamed", "address_added", "dhcp_server_seen", "kind_changed"}


def test_kinds_by_dhcp_and_by_avahi_stay_over_a_restart(lab: Lab) -> None:
    """Each kind is published once, with its evidence; the evidence is in the history."""
    daemon = lab.daemon(NO_SCANS)
    dnsmasq(lab.host("10.77.0.1"), "--dhcp-range=10.77.0.100,10.77.0.110,1h")
    phone, tablet = lab.host(None, "5c:aa:fd:00:00:51"), lab.host("10.77.0.61", "5c:aa:fd:00:00:61")
    with daemon.websocket() as stream:
        dhclient(phone, "office-1", "yealink")
        found = of(stream, phone.mac, "discovered")["device"]
        assert (found["kind"], found["kind_reason"]) == ("voip_phone", 'DHCP vendor class "yealink"')
        avahi(tablet, "Janes-iPad", workstation=True)
        changed = of(stream, tablet.mac, "kind_changed")
        assert (changed["device"]["kind"], changed["reason"]) == ("tablet", 'host name "Janes-iPad"')

    def announced() -> list[dict[str, Any]]:
        services: list[dict[str, Any]] = daemon.get(f"/api/devices/{tablet.mac}")["services"]
        return services

    expected = [{"type": "_workstation._tcp", "txt": {}}]
    wait_for("its service", lambda: announced() == expected)
    daemon.restart()
    assert announced() == expected
    assert [daemon.get(f"/api/devices/{host.mac}")["kind"] for host in (phone, tablet)] == ["voip_phone", "tablet"]


def test_avahi_is_heard_and_its_goodbye_is_no_verdict(lab: Lab) -> None:
    daemon = lab.daemon(NO_SCANS)
    host = lab.host("10.77.0.60")
    with daemon.websocket() as stream:
        responder = avahi(host, "printer")
        renamed = of(stream, host.mac, "renamed")
        assert (renamed["device"]["hostname"], renamed["device"]["hostname_source"]) == ("printer", "mdns")
        host.space.end(responder)
        time.sleep(6)
        assert daemon.get(f"/api/devices/{host.mac}")["status"] == "online"


def test_hostile_names_are_cleaned_where_they_enter(lab: Lab) -> None:
    """FAULTS T8."""
    daemon = lab.daemon(NO_SCANS)
    crowd = lab.crowd()
    said = {
        "02:00:00:00:00:01": (b"\x1b[2J\x1b]0;owned\x07pc", "[2J]0;ownedpc"),
        "02:00:00:00:00:02": ("gpj\u202egnp".encode(), "gpjgnp"),
        "02:00:00:00:00:03": (b"one\ntwo\tthree", "one two three"),
        "02:00:00:00:00:04": (b"\xff\xfe\x1b\x00more", None),
        "02:00:00:00:00:05": (b"y" * 255, "y" * 63),
        "02:00:00:00:00:06": ("\u200b\u2066\u2069".encode(), None),
        "02:00:00:00:00:07": (b"B\xfcro-Drucker", "Büro-Drucker"),  # FIELD case 23
        "02:00:00:00:00:08": (b"*", None),
    }
    crowd.send(*(built_frames.dhcp("discover", ("hostname", name), mac=mac) for mac, (name, _) in said.items()))
    wait_for("all of them", lambda: len(daemon.get("/api/devices")["devices"]) == 1 + len(said))
    found = {device["mac"]: device["hostname"] for device in daemon.get("/api/devices")["devices"]}
    assert {mac: found[mac] for mac in said} == {mac: kept for mac, (_, kept) in said.items()}


def test_a_flood_of_talk_keeps_nobody_from_being_heard_by_arp(lab: Lab) -> None:
    """FAULTS T10: what is beyond the budget is not even decoded."""
    daemon = lab.daemon(NO_SCANS)
    crowd = lab.crowd()
    flood = [built_frames.mdns((f"n{n}.local.", "A", "10.77.0.9")) for n in range(500)]
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        crowd.send(*flood)
    mac = crowd.join("10.77.0.99")
    with daemon.websocket() as stream:
        wait_for("the newcomer", lambda: daemon.request("GET", f"/api/devices/{mac}")[0] == 200)
        assert until(stream, "initial_state")


@pytest.mark.parametrize(
    ("frame", "made"),
    [
        (reply(), lambda: CaptureReader(bpf.arp, lambda *_: (), 128, size=64 * 1024)),
        (
            captured_frames.LINUX_DAD,
            lambda: CaptureReader(bpf.talk, lambda *_: (), 128, slot=2048, size=1 << 20, budget=50),
        ),
    ],
    ids=["the kernel has no room", "nor we the time"],
)
def test_an_ear_knows_when_answers_may_have_been_lost(
    shared_lab: Lab, send: Send, frame: bytes, made: Callable[[], CaptureReader]
) -> None:
    """FAULTS T10, law 8: a tenth of what came; or all, where the ring broke. Not one that hears everything."""
    ear = made()
    shared_lab.watcher.space.within(ear.open)

    def deafened(count: int) -> bool:
        for _ in range(count):
            send(frame)
        came = ear.received + min(count, 512)  # slots
        while ear.received < came:
            ear.read()
        before = time.monotonic()
        ear.count()
        return ear.overflow_at >= before

    assert not deafened(10)
    assert deafened(600)
    time.sleep(1)
    assert not deafened(10)
    ear.close()
    assert deafened(0)


# ---- IPv6, by real kernel hosts -------------------------------------------------------------------------------------

IMPATIENT = NO_SCANS | {"presence": {"probe_interval": 1, "patience": [2, 4]}}


@pytest.fixture
def lab6(root: None) -> Iterator[Lab]:
    with Lab(ipv6=True) as made:
        yield made


def test_a_host_with_ipv4_and_ipv6_is_one_device(lab6: Lab) -> None:
    daemon = lab6.daemon({"scan": {"interval": 2}})
    host = lab6.host("10.77.0.50")
    host.space.ip("addr add fd77::50/64 dev eth0")
    lab6.watcher.space.ip("addr add fd77::2/64 dev eth0")

    def addresses() -> set[str]:
        status, found = daemon.request("GET", f"/api/devices/{host.mac}")
        return {held["ip"] for held in found["addresses"]} if status == 200 else set()

    wait_for("its IPv4 address", lambda: "10.77.0.50" in addresses())
    wait_for("its link-local address", lambda: any(ip.startswith("fe80::") for ip in addresses()))
    ping = ["ping", "-c", "1", "-W", "5", "fd77::50"]  # not before both addresses are known to be unique
    wait_for("an answer", lambda: lab6.watcher.run(ping, check=False).returncode == 0)
    wait_for("its global address", lambda: "fd77::50" in addresses())
    assert {device["mac"] for device in daemon.get("/api/devices")["devices"]} == {lab6.watcher.mac, host.mac}
    told = [event["kind"] for event in daemon.get(f"/api/devices/{host.mac}/events")["events"]]
    assert (told[0], {*told[1:]}) == ("discovered", {"address_added"})


def test_who_has_ipv6_only_is_asked_by_it_and_found_gone(lab6: Lab) -> None:
    daemon = lab6.daemon(IMPATIENT)
    with daemon.websocket() as stream, lab6.capture() as capture:
        host = lab6.host(None)
        assert of(stream, host.mac, "discovered")["evidence"] == "ndp"
        time.sleep(8)  # twice its patience
        found = daemon.get(f"/api/devices/{host.mac}")
        assert (found["status"], found["addresses"][0]["evidence"]) == ("online", "ndp")
        assert found["rtt_ms"] is not None
        host.unplug()
        left = of(stream, host.mac, "offline")
        assert left["reason"].startswith("3 probes and 1 request unanswered")
        asked = [frame.data for frame in capture.frames() if frame.outgoing and frame.data[54:55] == b"\x87"]
        assert asked
        assert all(frame[22:24] == b"\xfe\x80" for frame in asked if frame[22:38] != bytes(16))


def test_who_is_quiet_is_found_by_the_echo_of_all_nodes(lab6: Lab) -> None:
    host = lab6.host(None)
    host.space.sysctl("ipv6.conf.eth0.router_solicitations", 0)
    time.sleep(3)
    daemon = lab6.daemon(NO_SCANS)
    wait_for("it", lambda: daemon.request("GET", f"/api/devices/{host.mac}")[0] == 200)


def test_the_kernels_own_neighbours_are_a_reason_to_ask(lab: Lab) -> None:
    """Somebody here talks with it; what its cache holds may be made up, and is no presence."""
    daemon = lab.daemon(NO_SCANS)
    crowd = lab.crowd()
    there = crowd.join("10.77.0.50", say="none")
    for ip, mac in (("10.77.0.50", there), ("10.77.0.51", built_frames.MAC)):
        lab.watcher.space.ip(f"neigh replace {ip} lladdr {mac} dev eth0 nud reachable")
    wait_for("it", lambda: daemon.request("GET", f"/api/devices/{there}")[0] == 200)
    found = daemon.get(f"/api/devices/{there}")
    assert [(held["ip"], held["evidence"]) for held in found["addresses"]] == [("10.77.0.50", "arp_reply")]
    time.sleep(1)
    assert daemon.request("GET", f"/api/devices/{built_frames.MAC}")[0] == 404


def test_a_snooping_switch_learns_what_we_listen_to(root: None) -> None:
    with Lab(snooping=True, ipv6=True) as lab:
        daemon = lab.daemon(NO_SCANS, as_user=True)  # CAP_NET_RAW is enough
        told = ["cat", "/proc/net/igmp", "/proc/net/igmp6"]
        wait_for("224.0.0.251", lambda: "FB0000E0" in lab.watcher.run(told).stdout)
        joined = lab.watcher.run(told).stdout
        assert "ff0200000000000000000000000000fb" in joined
        assert "ff020000000000000000000000000002" in joined
        assert "allmulti 1" in lab.watcher.run(["ip", "-details", "link", "show", "eth0"]).stdout
        members = ["bridge", "mdb", "show"]
        wait_for("the switch", lambda: "ff02::fb" in lab.switch.run(members).stdout)
        daemon.stop()
        wait_for("we have left", lambda: "FB0000E0" not in lab.watcher.run(told).stdout)
        assert "allmulti 1" not in lab.watcher.run(["ip", "-details", "link", "show", "eth0"]).stdout
