"""Names that are asked for: of real name servers and responders, within bounds, and without delaying others."""

import asyncio
import contextlib
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import TypeVar

import pytest

from netscand.core.model import Ip, Mac, Network
from netscand.lan import dns, name_lookup, name_queue
from netscand.lan.dns import reverse
from netscand.lan.interfaces import Interfaces
from netscand.lan.name_lookup import Effort, Resolver, Unanswered
from netscand.lan.name_queue import PATIENT, Names
from netscand.lan.wire import Wire
from tests.core import built_frames
from tests.lab.impostor import NAME, impostor
from tests.lab.lan import Host, Lab
from tests.lab.rooms import until
from tests.lab.spaces import DEADLINE, Space
from tests.lab.test_daemon import wait_for
from tests.lab.test_passive import NO_SCANS, avahi, dnsmasq

T = TypeVar("T")
ICMP, UDP = 1, 17
MACS = [Mac(bytes([2, 0, 0, 0, n >> 8, n & 255])) for n in range(5000)]


def ip(text: str) -> Ip:
    return Ip(ip_address(text).packed)


def within(space: Space, work: Callable[[], Awaitable[T]]) -> T:
    async def whole() -> T:
        return await work()

    return space.within(lambda: asyncio.run(whole()))


def network_of(host: Host) -> Network:
    """The host's own, as our rooms see it."""
    from netscand.config import Scan

    def look() -> Network:
        interfaces = Interfaces(lambda _: None, Scan(), ())
        try:
            return next(network for network in interfaces.open() if network.interface == host.interface)
        finally:
            interfaces.close()

    return host.space.within(look)


# ---- reverse DNS ----------------------------------------------------------------------------------------------------


def test_a_name_server_is_asked_for_both_kinds_of_address(lab: Lab, tmp_path: Path) -> None:
    server = lab.host("10.77.0.1")
    dnsmasq(server, "--host-record=janes-phone.lan,10.77.0.9,fd77::9")
    conf = tmp_path / "resolv.conf"
    conf.write_text("# ours\nsearch lan\nnameserver 10.77.0.1\noptions edns0\n")

    async def ask() -> list[str | None]:
        asked = Resolver(conf)
        return [await asked.name_of(ip(text), PATIENT) for text in ("10.77.0.9", "fd77::9", "10.77.0.10")]

    assert within(lab.watcher.space, ask) == ["janes-phone.lan", "janes-phone.lan", None]


class Server:
    """A name server on loopback that gives the answers of a test, and keeps the questions."""

    def __init__(self, answer: Callable[[bytes], list[bytes]]) -> None:
        self.asked: list[bytes] = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            raw, client = self._socket.recvfrom(4096)
            if not raw:
                return
            self.asked.append(raw)
            for answer in self._answer(raw):
                self._socket.sendto(answer, client)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


@contextlib.contextmanager
def serving(answer: Callable[[bytes], list[bytes]]) -> Iterator[Server]:
    made = Server(answer)
    try:
        yield made
    finally:
        made.close()


def answered(question: bytes, *labels: bytes, rcode: int = 0, number: bytes | None = None) -> bytes:
    """A PTR answer to it."""
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    record = b"\xc0\x0c" + struct.pack("!HHIH", dns.PTR, 1, 60, len(name)) + name
    count = 1 if labels else 0
    head = (number or question[:2]) + struct.pack("!HHHHH", 0x8180 | rcode, 1, count, 0, 0)
    return head + question[12:] + (record if labels else b"")


def asked_of(
    server: Server, tmp_path: Path, servers: str = "nameserver 127.0.0.1\n", effort: Effort = PATIENT
) -> str | None:
    conf = tmp_path / "resolv.conf"
    conf.write_text(servers)
    return asyncio.run(Resolver(conf, server.port).name_of(ip("10.77.0.9"), effort))


def test_an_answer_to_another_question_is_no_answer(tmp_path: Path) -> None:
    def answer(question: bytes) -> list[bytes]:
        other = dns.questions(0, [reverse(ip("10.77.0.8"))], dns.PTR)
        wrong_number = bytes(2) if question[:2] != bytes(2) else b"\1\1"
        return [
            b"", b"\0", answered(question, b"evil", number=wrong_number), answered(question[:2] + other[2:], b"evil"),
            question, answered(question, b"good", b"lan"),
        ]  # fmt: skip

    with serving(answer) as server:
        assert asked_of(server, tmp_path) == "good.lan"


@pytest.mark.parametrize(("lies", "name"), [(name_lookup.MOST_ANSWERS - 1, "good"), (name_lookup.MOST_ANSWERS, None)])
def test_a_question_costs_a_bounded_amount_of_work(tmp_path: Path, lies: int, name: str | None) -> None:
    """H1; and an attacker who guesses the number of a question has few guesses."""

    def answer(question: bytes) -> list[bytes]:
        wrong = answered(question, b"evil", number=question[:1] + bytes([question[1] ^ 1]))
        return [wrong] * lies + [answered(question, b"good")]

    with serving(answer) as server:
        assert asked_of(server, tmp_path) == name


def test_after_a_server_that_fails_the_next_one_is_asked(tmp_path: Path) -> None:
    rcodes = iter([2, 5, 0])
    with serving(lambda question: [answered(question, b"third", rcode=next(rcodes))]) as server:
        assert asked_of(server, tmp_path, "nameserver 127.0.0.1\n" * 3) == "third"
    with serving(lambda question: [answered(question, rcode=5)]) as refusing:
        assert asked_of(refusing, tmp_path) is None
    with serving(lambda question: []) as silent, pytest.raises(Unanswered, match="no answer"):
        asked_of(silent, tmp_path, effort=Effort(0.1, 2))


@pytest.mark.parametrize(
    ("labels", "kept"),
    [((b"\x1b[2Jpc", b"lan"), "[2Jpc.lan"), ((b"_gateway",), None),
     ((b"9", b"0", b"77", b"10", b"in-addr", b"arpa"), None), ((b"\xe2\x80\xae",), None)],
    ids=["hostile", "a role", "the address again", "invisible"],
)  # fmt: skip
def test_what_a_name_server_says_is_cleaned(tmp_path: Path, labels: tuple[bytes, ...], kept: str | None) -> None:
    with serving(lambda question: [answered(question, *labels)]) as server:
        assert asked_of(server, tmp_path) == kept


def test_the_servers_are_those_that_the_file_has_now(tmp_path: Path) -> None:
    """F17: without any, we go on."""
    conf = tmp_path / "resolv.conf"
    asked = Resolver(conf)
    assert asked.servers() == ()
    with pytest.raises(Unanswered, match="no server in"):
        asyncio.run(asked.name_of(ip("10.77.0.9"), PATIENT))
    conf.write_text("nameserver 127.0.0.1\nnameserver\nnameserver fe80::1%lo\n")
    assert asked.servers() == ("127.0.0.1", "fe80::1%lo")
    conf.write_text("nameserver nonsense\nnameserver ::1%nonsense\n")
    assert asked.servers() == ("nonsense", "::1%nonsense")
    with pytest.raises(Unanswered):
        asyncio.run(asked.name_of(ip("10.77.0.9"), PATIENT))
    conf.unlink()
    assert asked.servers() == ()


# ---- asking on the LAN ----------------------------------------------------------------------------------------------


NODE = """
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 137))
print("up", flush=True)
while True:
    asked, client = s.recvfrom(1024)
    assert asked[12:46] == b"\\x20CK" + b"A" * 30 + b"\\0" and asked[46:50] == b"\\0\\x21\\0\\1", asked
    for number, name in (bytes([asked[0] ^ 1, asked[1]]), b"EVIL"), (asked[:2], b"JANES-PC"):
        names = [(b"WORKGROUP", 0, 0x84), (name, 0, 4), (name, 0x20, 4)]
        names = bytes([3]) + b"".join(n.ljust(15) + bytes([x, f, 0]) for n, x, f in names) + bytes(46)
        s.sendto(number + struct.pack("!HHHHH", 0x8400, 0, 1, 0, 0) + asked[12:46]
                 + struct.pack("!HHIH", 33, 1, 0, len(names)) + names, client)
"""
"""Answers the status of a node as Windows does, after an answer without a question."""


def responder(host: Host, name: str, *, settle: float = 5.0) -> None:
    """An avahi that has announced itself, and, after so many seconds, has nothing more to say."""
    with host._lab.capture(host) as capture:
        avahi(host, name)
        response = b"\x84\0"  # in an answer: the flags of DNS, behind Ethernet, IPv4 and UDP
        wait_for("its announcement", lambda: [frame for frame in capture.frames() if frame.data[44:46] == response])
    time.sleep(settle)  # it does so three times


def netbios(host: Host) -> None:
    process = host.popen([sys.executable, "-c", NODE], stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()


# ---- the room -------------------------------------------------------------------------------------------------------

Named = list[tuple[Mac, str, str]]


def mac_of(host: Host) -> Mac:
    return Mac(bytes.fromhex(host.mac.replace(":", "")))


class Room:
    """Names, and the wire it speaks and hears by, at the watcher of a lab for some seconds."""

    def __init__(self, space: Space, conf: Path, lacks: tuple[str, ...] = ("dns", "mdns", "nbns")) -> None:
        self.found: Named = []
        self.allowed: list[tuple[str, bool]] = []
        self.room = True
        self.networks: dict[str, Network] = {}
        self.places: dict[tuple[Mac, str], Ip] = {}
        self._lacks = lacks
        self._space = space
        self._conf = conf

    def missing_sources(self, mac: Mac) -> tuple[str, ...]:
        return self._lacks

    def may_probe(self, network: str, to_all: bool) -> bool:
        self.allowed.append((network, to_all))
        return self.room

    def query_address(self, mac: Mac, network: str, *, by_dns: bool) -> Ip | None:
        return self.places.get((mac, network))

    def named(self, mac: Mac, name: str, source: str, at: float, network: str, ip: Ip) -> None:
        self.found.append((mac, name, source))

    def run(self, seconds: float, *wants: tuple[Mac, Ip, Network], awaited: int = 0, asked: int = 0) -> Names:
        """Until so many names are reported and so many questions were asked, and for some seconds more."""
        self.networks = {network.id: network for _, _, network in wants}
        self.places = {(mac, network.id): ip for mac, ip, network in wants}

        async def work() -> Names:
            wire = Wire(lambda _: None, lambda answer: made.answered(answer))
            made = Names(self, lambda _: 1, wire.send_frame, Resolver(self._conf))
            wire.open()
            for want in wants:
                made.request_name(*want)
            try:
                async with asyncio.TaskGroup() as tasks:
                    running = [tasks.create_task(each.run()) for each in (made, wire)]
                    await until(lambda: len(self.found) >= awaited and len(self.allowed) >= asked)
                    await asyncio.sleep(seconds)
                    for task in running:
                        task.cancel()
            finally:
                wire.close()
            return made

        return within(self._space, work)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As fast as a test may be, with patience for a busy machine: LAN_WAIT decides what is asked next."""
    monkeypatch.setattr(name_queue, "SETTLE", 0.0)
    monkeypatch.setattr(name_queue, "MDNS_APART", 0.2)
    monkeypatch.setattr(name_queue, "LAN_WAIT", 3.0)
    monkeypatch.setattr(name_lookup, "ANSWERED_WITHIN", DEADLINE)


def test_quiet_responders_are_asked_by_one_frame(tmp_path: Path, quick: None) -> None:
    with Lab(ipv6=True) as lab:
        hosts = [lab.host(f"10.77.0.{60 + number}") for number in range(3)]
        for number, host in enumerate(hosts):
            responder(host, f"printer{number}", settle=5 if host is hosts[-1] else 0)
        network = network_of(lab.watcher)
        expected = [(mac_of(host), f"printer{number}", "mdns") for number, host in enumerate(hosts)]
        for addresses in (map(ip, (host.ip for host in hosts)), map(link_local, map(mac_of, hosts))):
            room = Room(lab.watcher.space, tmp_path / "none", ("mdns",))
            with lab.capture(size=1024) as capture:
                room.run(
                    0.2,
                    *((mac_of(host), each, network) for host, each in zip(hosts, addresses, strict=True)),
                    awaited=3,
                )
                sent = [frame.data for frame in capture.frames() if frame.outgoing]
            assert sorted(room.found) == expected
            (question,) = [frame for frame in sent if frame[20 if frame[12:14] == b"\x86\xdd" else 23] == UDP]
            assert question[0] & 1
            assert not [frame for frame in sent if frame[12:14] == b"\x08\x00" and frame[23] == ICMP], "it is refused"


def link_local(mac: Mac) -> Ip:
    return Ip(b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])


def test_a_responder_of_our_own_host_keeps_its_port_for_itself(lab: Lab, tmp_path: Path, quick: None) -> None:
    """We ask beside one that does not share port 5353."""
    host = lab.host("10.77.0.60")
    responder(host, "printer")
    with lab.watcher.space.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("", 5353))
        room = Room(lab.watcher.space, tmp_path / "none", ("mdns",))
        room.run(0.1, (mac_of(host), ip(host.ip), network_of(lab.watcher)), awaited=1)
    assert room.found == [(mac_of(host), "printer", "mdns")]


def test_an_nbns_answer_from_anothers_address_names_none(lab: Lab, tmp_path: Path, quick: None) -> None:
    """M2: the Ethernet source is the answerer's own, as on Wi-Fi it has to be (mDNS: tests/attacks/test_belief.py)."""
    victim, attacker = lab.host("10.77.0.60"), lab.host("10.77.0.66")
    impostor(attacker, victim.ip)
    room = Room(lab.watcher.space, tmp_path / "none", ("nbns",))
    wants = [(mac_of(host), ip(host.ip), network_of(lab.watcher)) for host in (victim, attacker)]
    room.run(2, *wants, awaited=1)
    assert room.found == [(mac_of(attacker), NAME, "nbns")], "it may name itself, by its own address"


def test_nbns_is_asked_only_where_dns_and_mdns_are_silent(lab: Lab, tmp_path: Path, quick: None) -> None:
    server = lab.host("10.77.0.1")
    dnsmasq(server, "--host-record=by-dns.lan,10.77.0.64")
    netbios(host := lab.host("10.77.0.64"))
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 10.77.0.1\n")
    network = network_of(lab.watcher)
    room = Room(lab.watcher.space, conf)
    want = mac_of(host), ip(host.ip), network
    room.run(0.5, want, want, awaited=2)
    assert sorted(room.found) == [(mac_of(host), "JANES-PC", "nbns"), (mac_of(host), "by-dns.lan", "dns")]
    # DNS and mDNS, then NBNS, to one; and the second time is not within this hour.
    assert sorted(room.allowed) == [(network.id, False)] * 2 + [(network.id, True)]
    room = Room(lab.watcher.space, conf, ("nbns",))
    room.run(0.5, want, awaited=1)
    assert room.found == [(mac_of(host), "JANES-PC", "nbns")]
    room = Room(lab.watcher.space, conf, ())
    room.run(1, want)
    assert (room.found, room.allowed) == ([], [])


def test_without_room_in_the_budget_nothing_is_sent(lab: Lab, tmp_path: Path, quick: None) -> None:
    """Nor to a name server, which may be on the LAN as well."""
    (conf := tmp_path / "resolv.conf").write_text("nameserver 10.77.0.1\n")
    room = Room(lab.watcher.space, conf)
    room.room = False
    with lab.capture() as capture:
        room.run(1, (MACS[0], ip("10.77.0.64"), network_of(lab.watcher)))
        assert not [frame for frame in capture.frames() if frame.outgoing]
    assert room.allowed


def test_what_waits_and_what_is_remembered_is_bounded(lab: Lab, tmp_path: Path) -> None:
    network = network_of(lab.watcher)
    wants = [
        (mac, Ip(bytes([10, 77]) + (n * 4 + k).to_bytes(2)), network) for n, mac in enumerate(MACS) for k in range(4)
    ]
    made = Room(lab.watcher.space, tmp_path / "none").run(0.01, *wants)
    assert len(made._for_dns) <= name_queue.MOST_WAITING
    assert len(made._for_mdns) <= name_queue.MOST_WAITING
    assert len(made._next_round) <= name_queue.MOST_REMEMBERED


def test_a_network_that_is_gone_stops_nothing(lab: Lab, tmp_path: Path, quick: None) -> None:
    network = network_of(lab.watcher)
    gone = replace(network, id="10.99.0.0/24@eth9", interface="eth9", index=99, own=Ip(IPv4Address("10.99.0.2").packed))
    netbios(host := lab.host("10.77.0.64"))
    room = Room(lab.watcher.space, tmp_path / "none", ("mdns", "nbns"))
    room.run(0.5, (MACS[1], ip("10.99.0.9"), gone), (mac_of(host), ip(host.ip), network), awaited=1)
    assert room.found == [(mac_of(host), "JANES-PC", "nbns")]


def test_without_a_resolver_names_are_found_on_the_lan(lab: Lab) -> None:
    """F17, and the whole way: scanned, asked, named."""
    host = lab.host("10.77.0.60")
    responder(host, "printer")
    daemon = lab.daemon(NO_SCANS | {"names": {}})

    def named() -> tuple[str | None, str | None]:
        device = daemon.devices().get(host.ip, {})
        return device.get("hostname"), device.get("hostname_source")

    wait_for("its name", lambda: named() == ("printer", "mdns"))
    assert daemon.log(100).count("no name server answers") <= 1


FIREWALL = (
    "rule add pref 1 lookup local",
    "rule del pref 0",
    "rule add pref 0 iif eth0 ipproto 17 sport 5353 blackhole",
)
"""Rules that drop what comes in from port 5353, behind the packet sockets, as netfilter does; nft is not everywhere."""


def test_a_firewall_hides_no_answer_about_a_name(lab: Lab) -> None:
    """FIELD case 15: the answer to a question by multicast is unicast, from an address that was not asked."""
    host = lab.host("10.77.0.60")
    responder(host, "printer")
    lab.watcher.space.ip(*FIREWALL)
    with lab.capture(lab.watcher) as capture:
        daemon = lab.daemon(NO_SCANS)
        wait_for("its name", lambda: daemon.devices().get(host.ip, {}).get("hostname") == "printer")
        answers = [frame.data for frame in capture.frames() if frame.data[34:36] == (5353).to_bytes(2)]
    assert any(answer[:6] == mac_of(lab.watcher) and answer[36:38] != answer[34:36] for answer in answers)


def test_the_order_of_sources_is_the_order_of_names(lab: Lab) -> None:
    """FIELD case 2: the name server before what the device calls itself, and after a reload the reverse."""
    dnsmasq(lab.host("10.77.0.1"), "--host-record=kitchen-tv.lan,10.77.0.60")
    crowd = lab.crowd()
    mac = crowd.join("10.77.0.60")
    daemon = lab.daemon(
        {"names": {"sources": ["dns", "dhcp", "mdns"]}}, files={"/etc/resolv.conf": "nameserver 10.77.0.1\n"}
    )

    def named() -> tuple[str | None, str | None]:
        device = daemon.get("/api/devices/" + mac)
        return device["hostname"], device["hostname_source"]

    wait_for("it answers", lambda: "10.77.0.60" in daemon.devices())
    crowd.send(built_frames.dhcp("request", ("hostname", b"android-dhcp-13"), mac=mac))
    wait_for("the name of its router", lambda: named() == ("kitchen-tv.lan", "dns"))
    crowd.send(built_frames.dhcp("request", ("hostname", b"android-dhcp-14"), mac=mac))
    for order, name in [
        (["dhcp", "dns"], ("android-dhcp-14", "dhcp")),
        (["mdns", "dns", "dhcp"], ("kitchen-tv.lan", "dns")),
    ]:
        daemon.configure({"names": {"sources": order}})
        daemon.signal(signal.SIGHUP)
        wait_for("the new order", lambda name=name: named() == name)  # type: ignore[misc]
    renamed = [event["device"]["hostname"] for event in daemon.get("/api/events?kind=renamed")["events"]]
    assert renamed.count("android-dhcp-14") == 1
    assert len(renamed) <= 4
