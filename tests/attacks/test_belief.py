"""Frames that prove nothing: presence, names and the gateway's address follow only from frames that do."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from netscand.core.model import EventKind, Evidence
from tests.attacks.conftest import Scene, household
from tests.attacks.monitor import monitored
from tests.core import built_frames
from tests.core.world import World, ip, mac, network
from tests.lab.crowd_device import PADDING, Device
from tests.lab.daemon import Daemon
from tests.lab.impostor import NAME, impostor
from tests.lab.lan import Host
from tests.lab.macs import pack_mac
from tests.lab.test_daemon import wait_for
from tests.lab.test_hostile_peers import claim, raw

GATEWAY, WATCHER = "10.77.0.1", "10.77.0.2"
SOON = 3.0
"""Seconds to an event that waits for nothing; far more than it takes."""


def reply(sha: str, at: str, to: Host, via: str) -> bytes:
    """An ARP reply to one host: `at` is at `sha`, in a frame of `via`."""
    me = Device(pack_mac(sha), via=pack_mac(via))
    there = pack_mac(to.mac)
    return there + me.reply(socket.inet_aton(at)) + there + socket.inet_aton(to.ip) + PADDING


@contextmanager
def sending(host: Host, frames: list[bytes], apart: float) -> Iterator[None]:
    """Send these frames from a host again and again, so many seconds apart, while the block lasts."""
    over = threading.Event()

    def send() -> None:
        with raw(host) as sock:
            number = 0
            while not over.wait(apart if number else 0.0):
                sock.send(frames[number % len(frames)])
                number += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# ---- the gateway (T26) ----------------------------------------------------------------------------------------------


def test_each_taking_of_the_gateways_address_is_reported(shared: Scene) -> None:
    """FAULTS T26: a device with more addresses than a host has counts as a proxy, and is exempt, but not here.

    A second device that takes it is reported too, within the ten minutes for which a conflict is reported once.
    """
    first, second = shared.lab.host("10.77.0.98"), shared.lab.host("10.77.0.99")
    for host in (first, second):
        host.announce()
        wait_for("its answer", partial(answered, shared.daemon, host.ip))
    try:
        with monitored(shared.daemon) as measured:
            for host, base in ((first, 100), (second, 175)):
                with raw(host) as sock:
                    for number in range(70):
                        sock.send(claim(host.mac, f"10.77.0.{base + number}"))
                time.sleep(0.5)
                with sending(
                    host, [claim(host.mac, GATEWAY), reply(host.mac, GATEWAY, shared.lab.watcher, host.mac)], 0.2
                ):
                    begun = time.monotonic()
                    changed = measured.event("gateway_changed", mac=host.mac)
                assert changed["address"] == GATEWAY
                assert changed["at"] - begun < SOON
        measured.check()
    finally:
        for host in (first, second):
            host.delete()
        shared.gateway.announce()


def answered(daemon: Daemon, address: str) -> bool:
    """Whether who has that address answered an ask of ours."""
    return daemon.devices().get(address, {}).get("rtt_ms") is not None


# ---- presence (T27) -------------------------------------------------------------------------------------------------


def test_an_answer_of_a_dhcp_server_makes_nobody_present(shared: Scene) -> None:
    """FAULTS T27: two hosts acknowledge leases of one that has left, and of one that never was; by their own MACs."""
    liars = [shared.lab.host("10.77.0.131"), shared.lab.host("10.77.0.132")]
    made_up = "a4:83:e7:99:99:99"
    with monitored(shared.daemon) as measured:
        mac = shared.crowd.join("10.77.0.130")
        measured.event("discovered", mac=mac)
        shared.crowd.leave(mac)
        measured.event("offline", mac=mac)
        before = len(measured.received())
        acks = [
            built_frames.dhcp_answer(kind, liar.ip, client, mac=liar.mac, yiaddr=yiaddr)
            for liar in liars
            for client, yiaddr in ((mac, "10.77.0.130"), (made_up, "10.77.0.133"))
            for kind in ("offer", "ack")
        ]
        with ExitStack() as both:
            for liar in liars:
                both.enter_context(sending(liar, [ack for ack in acks if pack_mac(liar.mac) == ack[6:12]], 0.05))
            time.sleep(2.5)
        after = measured.received()[before:]
    assert not [event for event in after if event["mac"] in (mac, made_up)], after
    assert shared.daemon.get(f"/api/devices/{mac}")["status"] == "offline"
    assert shared.daemon.request("GET", f"/api/devices/{made_up}")[0] == 404
    measured.check()
    for liar in liars:
        liar.delete()


def test_replies_in_anothers_name_keep_nobody_present(shared: Scene) -> None:
    """FAULTS T27: ARP replies by two hosts' own MACs, that name the victim's, make the kernel call it reachable.

    A device with two addresses, which is unplugged, is reported offline no later than without them.
    """
    held = ["10.77.0.140", "10.77.0.141"]
    mac = "a4:83:e7:14:00:00"
    for address in held:
        shared.crowd.join(address, mac)
    liars = [shared.lab.host("10.77.0.142"), shared.lab.host("10.77.0.143")]
    watcher = shared.lab.watcher

    def touch() -> None:  # as any connection of this host does: the kernel has an entry that can be poisoned
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for address in held:
                sock.sendto(b"x", (address, 9))

    watcher.space.within(touch)
    wait_for("the kernel's entries", lambda: watcher.run(["ip", "neigh"]).stdout.count(mac) == 2)
    with monitored(shared.daemon) as measured:
        measured.event("discovered", mac=mac) if shared.daemon.request("GET", f"/api/devices/{mac}")[0] != 200 else None
        with ExitStack() as both:
            for liar, address in zip(liars, held, strict=True):
                decoy = "06:00:00:00:00:01"
                frames = [reply(decoy, address, watcher, liar.mac), reply(mac, address, watcher, liar.mac)]
                both.enter_context(sending(liar, frames, 1.1))
            time.sleep(1)
            shared.crowd.leave(mac)
            begun = time.monotonic()
            wait_for("its end", lambda: offline(shared, mac) or time.monotonic() > begun + 15)
            took = time.monotonic() - begun
    assert offline(shared, mac), "the device that was unplugged is online still"
    print(f"reported offline after {took:.1f} s")
    measured.check()
    for liar in liars:
        liar.delete()


def offline(scene: Scene, mac: str) -> bool:
    status: str = scene.daemon.get(f"/api/devices/{mac}")["status"]
    return status == "offline"


# ---- names (T27) ----------------------------------------------------------------------------------------------------


def test_who_answers_in_anothers_name_names_nobody(root: None) -> None:
    """FAULTS T27: two hosts answer from the victim's IP, by their own MACs; each names itself alone."""
    victim = "10.77.0.20"
    with household({"names": {"sources": ["mdns"]}}, count=1) as scene:
        liars = [scene.lab.host(f"10.77.0.{number}") for number in (150, 151)]
        for liar in liars:
            impostor(liar, victim)
            liar.announce()
        scene.crowd.leave(victim)
        scene.crowd.join(victim)

        def name_of(address: str) -> str | None:
            name: str | None = scene.daemon.devices().get(address, {}).get("hostname")
            return name

        wait_for("their own names", lambda: [name_of(liar.ip) for liar in liars] == [NAME, NAME])
        time.sleep(1.5)
        assert name_of(victim) is None


# ---- our own address (T34) ------------------------------------------------------------------------------------------


def test_a_claim_to_our_own_address_is_always_a_conflict() -> None:
    """FAULTS T34: we hold it now, not when netlink last reported it."""
    world = World([network()])
    world.alive(4)
    world.run(600)
    for number in (77, 78):
        world.hear(mac(number), "10.0.0.2", Evidence.ARP_ANNOUNCEMENT)
        world.run(700)
    conflicts = [event.device.mac for event in world.of(EventKind.ADDRESS_CONFLICT) if event.device]
    assert conflicts[:1] == [mac(77)]
    assert mac(78) in conflicts
    assert not [event for event in world.of(EventKind.ADDRESS_MOVED) if event.address == ip("10.0.0.2")]


@pytest.mark.long
def test_a_claim_to_our_own_address_is_a_conflict_on_the_wire(shared: Scene) -> None:
    """FAULTS T34, a minute after the last message of netlink."""
    time.sleep(70)
    liar = shared.lab.host(None)
    with monitored(shared.daemon) as measured, sending(liar, [claim(liar.mac, WATCHER)], 0.5):
        assert measured.event("address_conflict", mac=liar.mac)["address"] == WATCHER
    liar.delete()


def test_a_claim_to_our_second_address_is_a_conflict_on_the_wire(shared: Scene) -> None:
    """FAULTS T34."""
    liar = shared.lab.host(None)
    shared.lab.watcher.space.ip("addr add 10.77.0.3/24 dev eth0")
    time.sleep(2)
    with monitored(shared.daemon) as measured, sending(liar, [claim(liar.mac, "10.77.0.3")], 0.5):
        assert measured.event("address_conflict", mac=liar.mac)["address"] == "10.77.0.3"
    shared.lab.watcher.space.ip("addr del 10.77.0.3/24 dev eth0")
    liar.delete()
