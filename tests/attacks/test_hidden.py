"""Frames in forms that hosts believe and a decoder may not know: neither a claim nor a server hides in them (T58).

The kernel of the watcher decides: what it believes of an address has to be reported.
"""

import socket
import time
from collections.abc import Iterator

import pytest

from netscand.core.model import Ip, Mac
from netscand.lan.name_lookup import datagram
from tests.attacks.conftest import QUICK
from tests.attacks.monitor import WATCHED, monitored
from tests.attacks.test_belief import GATEWAY, SOON, sending
from tests.core import built_frames as words
from tests.lab.daemon import Daemon
from tests.lab.lan import Host, Lab
from tests.lab.macs import pack_mac
from tests.lab.test_daemon import wait_for
from tests.lab.test_hostile_peers import claim

NOBODY = "00:00:00:00:00:00"
PRIORITY = 0xE000
ROUTER = "fe80::77"


def of_ieee_802(frame: bytes) -> bytes:
    """The same ARP, for hardware of type 6."""
    return frame[:14] + b"\0\6" + frame[16:]


@pytest.fixture(scope="module")
def lab(root: None) -> Iterator[Lab]:
    with Lab(ipv6=True) as made:
        made.gateway()
        yield made


@pytest.fixture(scope="module")
def daemon(lab: Lab) -> Daemon:
    made = lab.daemon(QUICK, as_user=True, env=WATCHED)
    wait_for("the gateway", lambda: GATEWAY in made.devices())
    return made


def believed(lab: Lab, address: str) -> str | None:
    """The MAC by which the watcher's kernel reaches an address."""
    words_of_it: list[str] = lab.watcher.run(["ip", "neigh", "show", address]).stdout.split()
    return words_of_it[words_of_it.index("lladdr") + 1] if "lladdr" in words_of_it else None


def speak_to(lab: Lab, address: str) -> None:
    """Let the kernel have an entry, as any connection makes one."""

    def touch() -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (address, 9, 0, socket.if_nametoindex("eth0")) if ":" in address else (address, 9))

    lab.watcher.space.within(touch)
    wait_for("an entry", lambda: believed(lab, address) is not None)
    time.sleep(1.2)  # an entry is not overwritten within its first second (arp(7), locktime)


ARPS = {
    "hardware of IEEE 802": lambda host: of_ieee_802(claim(host.mac, GATEWAY)),
    "two tags": lambda host: words.tagged(claim(host.mac, GATEWAY), (0x8100, PRIORITY), (0x8100, 0)),
    "eight tags": lambda host: words.tagged(claim(host.mac, GATEWAY), *[(0x88A8, 0), (0x8100, PRIORITY)] * 4),
    "no MAC": lambda host: claim(NOBODY, GATEWAY, via=host.mac),
}


@pytest.mark.parametrize("form", ARPS)
def test_a_claim_to_the_gateways_address_is_reported(lab: Lab, daemon: Daemon, form: str) -> None:
    """FAULTS T58, T26: two hosts claim it, in a form that hosts take like any other."""
    speak_to(lab, GATEWAY)
    liars = [lab.host(None), lab.host(None)]
    try:
        with monitored(daemon) as measured:
            for liar in liars[:1] if form == "no MAC" else liars:
                begun = time.monotonic()
                with sending(liar, [ARPS[form](liar)], 0.2):
                    mac = NOBODY if form == "no MAC" else liar.mac
                    wait_for("the kernel's belief", lambda mac=mac: believed(lab, GATEWAY) == mac)  # type: ignore[misc]
                    said = {"mac": liar.mac} if mac != NOBODY else {"mac": None}
                    changed = measured.event("gateway_changed", address=GATEWAY, **said)
                    assert changed["at"] - begun < SOON
                time.sleep(1.2)
        measured.check()
    finally:
        for liar in liars:
            liar.delete()
        next(host for host in lab.hosts if host.address and host.ip == GATEWAY).announce()


def advertised(lab: Lab, daemon: Daemon) -> Host:
    """A router of IPv6 that netscand knows."""
    router = lab.host(None, mac="52:54:00:77:77:77")
    router.space.ip(f"addr add {ROUTER}/64 dev eth0 nodad")
    over = words.IPv6(src=ROUTER, dst="ff02::1", hlim=255)
    head = words.Ether(src=router.mac, dst="33:33:00:00:00:01") / over
    with sending(router, [bytes(head / words.inet6.ICMPv6ND_RA(routerlifetime=1800))], 0.5):
        wait_for(
            "the router", lambda: "gateway" in daemon.request("GET", f"/api/devices/{router.mac}")[1].get("kinds", [])
        )
    return router


@pytest.mark.parametrize("headers", [(60,), (0, 60, 60)], ids=["one header", "three headers"])
def test_a_claim_to_a_routers_address_is_reported(lab: Lab, daemon: Daemon, headers: tuple[int, ...]) -> None:
    """FAULTS T58, T48: by neighbour discovery behind headers that say nothing."""
    router = advertised(lab, daemon)
    speak_to(lab, ROUTER)
    liars = [lab.host(None), lab.host(None)]
    try:
        with monitored(daemon) as measured:
            for liar in liars:
                begun = time.monotonic()
                frame = words.advertisement(ROUTER, liar.mac, solicited=False, to="ff02::1")
                with sending(liar, [words.extended(frame, *headers)], 0.2):
                    wait_for("the kernel's belief", lambda liar=liar: believed(lab, ROUTER) == liar.mac)  # type: ignore[misc]
                    conflict = measured.event("address_conflict", mac=liar.mac, address=ROUTER)
                    assert conflict["at"] - begun < SOON
        measured.check()
    finally:
        for host in (router, *liars):
            host.delete()


def test_a_dhcp_server_that_hides_its_options_is_reported(lab: Lab, daemon: Daemon) -> None:
    """FAULTS T58, T42: two servers, one behind fillers, one by options in the field of the file."""
    liars = [lab.host("10.77.0.171"), lab.host("10.77.0.172")]
    try:
        with monitored(daemon) as measured:
            for liar, hidden in zip(liars, (behind_fillers, in_the_file), strict=True):
                begun = time.monotonic()
                with sending(liar, [hidden(liar)], 0.2):
                    seen = measured.event("dhcp_server_seen", address=liar.ip)
                    assert seen["at"] - begun < SOON
        measured.check()
    finally:
        for liar in liars:
            liar.delete()


OFFER = b"\x35\1\2\x36\4"


def offer(liar: Host, file: bytes, options: bytes) -> bytes:
    fixed = bytes([2, 1, 6, 0]) + bytes(24) + pack_mac("a4:83:e7:99:99:99") + bytes(74) + file.ljust(128, b"\0")
    own = Ip(socket.inet_aton(liar.ip))
    content = fixed + b"\x63\x82\x53\x63" + options
    everyone = Mac(b"\xff" * 6), Ip(b"\xff" * 4)
    return datagram(Mac(pack_mac(liar.mac)), everyone[0], own, everyone[1], (67, 68), content, 64)


def behind_fillers(liar: Host) -> bytes:
    return offer(liar, b"", bytes(400) + OFFER + socket.inet_aton(liar.ip) + b"\xff")


def in_the_file(liar: Host) -> bytes:
    return offer(liar, OFFER + socket.inet_aton(liar.ip) + b"\xff", b"\x34\1\1\xff")
