"""FIELD, all cases at once: forty kernel hosts do for an hour what is ordinary on real LANs (issue 13).

The only `address_conflict`s are the two real ones, only hosts that left are `offline`, and nobody is missing.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.attacks.monitor import Measured, monitored
from tests.core.built_frames import ARP, Ether, dhcp_answer
from tests.lab.daemon import Daemon
from tests.lab.lan import Host, Lab
from tests.lab.spaces import Space
from tests.lab.test_daemon import wait_for

SHORT, HOUR = 100.0, 3600.0
"""Seconds of the ordinary run, and with --long."""

GATEWAY, SHARED = "10.77.0.1", "10.77.0.40"
CONFLICTS = {"10.77.0.70", "10.77.0.71"}
OWN_ADDRESS = "10.77.0.2"
"""A host takes the address of this host: the third real conflict."""

VIRTUAL = "00:00:5e:00:01:0a"
VIRTUAL_ANSWERS = {"10.77.0.45": "00:00:5e:00:01:2d", "10.77.0.46": "02:bf:0a:4d:00:2e"}
"""IP → MAC in the ARP replies that a station sends by its own MAC: of CARP, and of a cluster by NLB (cases 8, 22)."""

CHILD, SECOND = "52:54:00:88:00:01", "52:54:00:88:00:{:02x}"
"""MACs of a container on the watcher's interface, and of its second interface, which changes its MAC."""

ORDINARY = [f"10.77.0.{number}" for number in range(100, 116)]
OWN = {
    "tv": "10.77.0.20", "alias": "10.77.0.50", "node a": "10.77.0.41", "node b": "10.77.0.42",
    "camera": "192.168.0.64", "stray": "169.254.33.7", "router a": "10.77.0.8", "router b": "10.77.0.9",
}  # fmt: skip
"""The `ip` of hosts that get another address, too, for a while or for good.

Of the host on two interfaces, each MAC answers for both addresses from the first scan on, so neither is its own."""

EXPECTED_GONE = 1500.0
"""Seconds after which a host that left must be offline; patience of an unknown device is long in its first hour."""


@dataclass
class Site:
    """The LAN, and what its people do."""

    lab: Lab
    seconds: float
    hosts: dict[str, Host] = field(default_factory=dict)
    left: dict[str, float] = field(default_factory=dict)
    """MACs of the hosts that left for good, and when."""
    was_away: set[str] = field(default_factory=set)
    """MACs that were unplugged at some time, so that `offline` is true of them."""
    failures: list[BaseException] = field(default_factory=list)
    child: Space = field(init=False)
    """A container on the watcher's interface (case 21)."""
    turns: int = 0

    def host(self, name: str, ip: str | None, **options: Any) -> Host:  # noqa: ANN401
        """Plug a host in, by name."""
        self.hosts[name] = self.lab.host(ip, **options)
        return self.hosts[name]

    def announce(self, host: Host, ip: str, mac: str | None = None) -> None:
        """Announce an address (RFC 5227) by an interface of a host."""
        with host.space.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((host.interface, 0))
            raw.send(announcement(mac or host.mac, ip))

    # ---- what happens ---------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Forty hosts: sixteen ordinary ones, and those of the cases."""
        for number, ip in enumerate(ORDINARY):
            self.host(f"ordinary{number}", ip)
        for number in range(3):
            self.host(f"leaver{number}", f"10.77.0.{130 + number}")
        self.host("router a", "10.77.0.8").space.ip(
            f"link add vrrp link eth0 address {VIRTUAL} type macvlan mode bridge",
            f"addr add {GATEWAY}/24 dev vrrp", "link set vrrp up",
        )  # fmt: skip
        self.host("router b", "10.77.0.9").space.ip(
            f"link add vrrp link eth0 address {VIRTUAL} type macvlan mode bridge"
        )
        self.lab.watcher.space.ip(f"route add default via {GATEWAY}")
        self.host("carp", "10.77.0.44")
        self.host("node a", "10.77.0.41")
        self.host("node b", "10.77.0.42")
        self.host("mac", "10.77.0.37")
        self.host("tv", "10.77.0.20")
        self.host("alias", "10.77.0.50")
        self.host("floor a", "10.77.0.61", mac="52:54:00:53:00:61")
        self.host("floor b", None, mac="0e:80:63:53:00:61")
        self.host("container", "10.77.0.60")
        for number, ip in enumerate(sorted(CONFLICTS)):
            self.host(f"first{number}", ip)
            self.host(f"second{number}", None)
        self.host("camera", "192.168.0.64/24")
        self.host("stray", "169.254.33.7/16")
        self.host("mover", "10.77.0.80")
        self.host("phone", "10.77.0.90")
        extender = self.host("extender", "10.77.0.160")
        extender.space.ip(*(f"addr add 10.77.0.{number}/32 dev eth0" for number in range(161, 169)))
        self.host("server", "10.77.0.5")
        self.host("thief", None)
        watcher, child = self.lab.watcher.space, self.lab._space("child")
        self.child = child
        watcher.ip(f"link add link eth0 name mv0 netns {child.name} address {CHILD} type macvlan mode bridge")
        child.ip("addr add 10.77.0.95/24 dev mv0", "link set mv0 up")
        self.lab._connect(watcher, "port-w", "wlan0", SECOND.format(2))
        watcher.ip("addr add 10.77.0.3/24 dev wlan0")
        flux = self.host("flux", "10.77.0.153")
        self.lab._connect(flux.space, "portflux", "eth1", "52:54:00:78:00:73")
        flux.space.ip("addr add 10.77.0.173/24 dev eth1")
        assert len(self.lab.hosts) >= 40

    def sleep_and_wake(self) -> None:
        """A Mac sleeps, and the TV answers for it; then it wakes (case 3)."""
        mac, tv = self.hosts["mac"], self.hosts["tv"]
        self.was_away.add(mac.mac)
        if self.turns % 2:
            tv.space.ip("addr del 10.77.0.37/32 dev eth0")
            mac.replug()
            self.announce(mac, mac.ip)
        else:
            mac.unplug()
            tv.space.ip("addr add 10.77.0.37/32 dev eth0")
            self.announce(tv, mac.ip)

    def fail_over(self) -> None:
        """A shared address goes to the other node (case 7), and the gateway to the other router (VRRP).

        For half a second, both nodes have the address: a preempted master gives it up when it hears of the other.
        """
        old, new = ("node a", "node b") if self.turns % 2 == 0 else ("node b", "node a")
        self.hosts[new].space.ip(f"addr add {SHARED}/32 dev eth0")
        self.announce(self.hosts[new], SHARED)
        time.sleep(0.5)
        if self.turns:
            self.hosts[old].space.ip(f"addr del {SHARED}/32 dev eth0")
        self.announce(self.hosts[new], SHARED)
        old, new = ("router a", "router b") if self.turns % 2 == 0 else ("router b", "router a")
        self.hosts[old].space.ip("link set vrrp down", "addr flush dev vrrp")
        self.hosts[new].space.ip(f"addr add {GATEWAY}/24 dev vrrp", "link set vrrp up")
        self.announce(self.hosts[new], GATEWAY, VIRTUAL)

    def change_floor(self) -> None:
        """A phone behind extenders that translate its MAC goes to the other floor (case 5)."""
        old, new = ("floor a", "floor b") if self.turns % 2 == 0 else ("floor b", "floor a")
        self.was_away.add(self.hosts[old].mac)
        self.hosts[old].set_address(None)
        self.hosts[new].set_address("10.77.0.61")
        self.hosts[new].announce()

    def recreate(self) -> None:
        """A container starts again, with another MAC (case 13)."""
        old = self.hosts["container"]
        self.left.setdefault(old.mac, time.monotonic())
        self.was_away.add(old.mac)
        old.delete()
        self.host("container", "10.77.0.60").announce()

    def conflict(self) -> None:
        """Two pairs of hosts have one address each."""
        for number, ip in enumerate(sorted(CONFLICTS)):
            if not self.turns:
                self.hosts[f"second{number}"].set_address(ip)
            self.hosts[f"first{number}"].announce()
            self.hosts[f"second{number}"].announce()

    def speak(self) -> None:
        """Hosts with odd addresses speak by themselves (case 6), and a host with two by one of them (x1)."""
        self.announce(self.hosts["camera"], "192.168.0.64")
        self.announce(self.hosts["stray"], "169.254.33.7")
        alias = self.hosts["alias"]
        if not self.turns:  # of several addresses at the first scan, any may be the `ip`
            alias.add_address("10.77.0.51")
        self.announce(alias, "10.77.0.50")
        with self.child.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("mv0", 0))
            raw.send(announcement(CHILD, "10.77.0.95"))

    def lease(self) -> None:
        """The DHCP server grants an address behind the extender to a phone that only the extender hears (case 5)."""
        server, phone = self.hosts["server"], "52:54:00:53:01:61"
        with server.space.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((server.interface, 0))
            raw.send(dhcp_answer("ack", server.ip, phone, mac=server.mac, yiaddr="10.77.0.161"))

    def steal(self) -> None:
        """A host takes the address of this host (case 1), for a while."""
        thief = self.hosts["thief"]
        if self.turns % 2 == 0:
            thief.set_address(OWN_ADDRESS)
            thief.announce()
        else:
            thief.set_address("10.77.0.96")
            thief.announce()

    def change_own_mac(self) -> None:
        """The second interface of this host gets another MAC (case 31)."""
        self.was_away.add(SECOND.format(self.turns + 2))
        self.left.setdefault(SECOND.format(self.turns + 2), time.monotonic())
        self.lab.watcher.space.ip(
            "link set wlan0 down", f"link set wlan0 address {SECOND.format(self.turns + 3)}", "link set wlan0 up"
        )

    def renumber(self) -> None:
        """A phone takes one more temporary IPv6 address, and drops an old one (case 9)."""
        phone = self.hosts["phone"].space
        phone.ip(f"addr add fd00:77::{self.turns + 16:x}/64 dev eth0")
        if self.turns >= 6:
            phone.ip(f"addr del fd00:77::{self.turns + 10:x}/64 dev eth0")
        phone.run(["ping", "-6", "-c1", "-W1", "-I", f"fd00:77::{self.turns + 16:x}", "ff02::1%eth0"], check=False)

    def leave(self) -> None:
        """One of three hosts leaves for good; once, a host changes its address."""
        if self.turns < 3:
            host = self.hosts[f"leaver{self.turns}"]
            self.left[host.mac] = time.monotonic()
            self.was_away.add(host.mac)
            host.unplug()
        elif self.turns == 3:
            self.hosts["mover"].set_address("10.77.0.81")
            self.hosts["mover"].announce()

    ACTS: tuple[tuple[Callable[["Site"], None], float, float], ...] = (
        (conflict, 7, 60), (speak, 11, 120), (renumber, 5, 300), (sleep_and_wake, 20, 420), (fail_over, 25, 300),
        (change_floor, 22, 240), (recreate, 27, 200), (leave, 18, 240), (lease, 13, 150), (steal, 31, 900),
        (change_own_mac, 37, 800),
    )  # fmt: skip
    """What happens, with its period in seconds: in the short run, and in the hour."""

    def play(self, stop: threading.Event) -> None:
        """Do all that at its time until the end."""
        begun, done = time.monotonic(), dict.fromkeys(range(len(self.ACTS)), 0)
        try:
            while not stop.is_set() and (now := time.monotonic() - begun) < self.seconds:
                for number, (act, short, hour) in enumerate(self.ACTS):
                    period = hour if self.seconds == HOUR else short
                    if now >= period * (done[number] + 1):
                        self.turns = done[number]
                        done[number] += 1
                        act(self)
                stop.wait(0.2)
        except BaseException as error:
            self.failures.append(error)


def announcement(mac: str, ip: str) -> bytes:
    """Return an ARP announcement."""
    return bytes(Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=mac, psrc=ip, pdst=ip))


@contextmanager
def virtual_answers(host: Host) -> Iterator[None]:
    """Answer for VIRTUAL_ANSWERS as FreeBSD and Windows do: a virtual MAC in ARP, the host's own in Ethernet."""
    stop = threading.Event()
    sock = host.space.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    sock.bind((host.interface, 0))
    sock.settimeout(0.2)

    def answer() -> None:
        while not stop.is_set():
            try:
                asked = Ether(sock.recv(2048))
            except TimeoutError:
                continue
            if ARP not in asked or asked[ARP].op != 1 or asked[ARP].hwsrc == host.mac:
                continue
            if virtual := VIRTUAL_ANSWERS.get(ip := asked[ARP].pdst):
                reply = ARP(op=2, hwsrc=virtual, psrc=ip, hwdst=asked[ARP].hwsrc, pdst=asked[ARP].psrc)
                sock.send(bytes(Ether(src=host.mac, dst=asked.src) / reply))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sock.close()


def judge(site: Site, daemon: Daemon, measured: Measured) -> None:
    """Compare the events, and the devices at the end, with what happened."""
    events = measured.events
    found = {event["address"] for event in events if event["kind"] == "address_conflict"}
    assert found == CONFLICTS | {OWN_ADDRESS}, [event for event in events if event["kind"] == "address_conflict"]
    gone = [event for event in events if event["kind"] == "offline"]
    wrong = [(event["mac"], event["reason"]) for event in gone if event["mac"] not in site.was_away]
    assert not wrong, wrong
    repeated = Counter((event["kind"], event["mac"]) for event in events)
    print(sorted(Counter(event["kind"] for event in events).items()))
    assert not measured.missing
    listed: dict[str, Any] = {device["mac"]: device for device in daemon.get("/api/devices")["devices"]}
    present = {host.mac for host in site.lab.hosts if host.mac not in site.left} - {site.hosts["mac"].mac}
    present -= {site.hosts["floor a"].mac, site.hosts["floor b"].mac}
    present |= set(VIRTUAL_ANSWERS.values()) | {CHILD}
    missing = {mac for mac in present if listed.get(mac, {}).get("status") != "online"}
    assert not missing, [(mac, listed.get(mac)) for mac in missing]
    now = time.monotonic()
    late = {mac for mac, at in site.left.items() if now - at > EXPECTED_GONE and listed[mac]["status"] == "online"}
    assert not late, [listed[mac] for mac in late]
    for name, ip in OWN.items():
        assert listed[site.hosts[name].mac]["ip"] == ip, (name, listed[site.hosts[name].mac])
    noisy = {key: count for key, count in repeated.items() if count > site.seconds / 10}
    assert not noisy, f"events that repeat: {noisy}"


@pytest.mark.parametrize("seconds", [SHORT, pytest.param(HOUR, marks=pytest.mark.long)], ids=["short", "an hour"])
def test_what_is_ordinary_on_real_lans_raises_no_alarm(root: None, seconds: float) -> None:
    """Issue 13: of all that happens, only the two real conflicts are reported as conflicts."""
    with Lab(ipv6=True) as lab:
        site = Site(lab, seconds)
        site.build()
        with virtual_answers(site.hosts["carp"]):
            daemon = lab.daemon(as_user=True)
            wait_for("the hosts", lambda: len(daemon.devices()) >= 36)
            stop = threading.Event()
            with monitored(daemon) as measured:
                thread = threading.Thread(target=site.play, args=(stop,))
                thread.start()
                try:
                    thread.join()
                finally:
                    stop.set()
                    thread.join()
                assert not site.failures, site.failures
                time.sleep(5)
            judge(site, daemon, measured)
