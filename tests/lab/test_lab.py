"""The lab is what it says: were it not, every test that stands on it would prove nothing."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.capture import Arp, Capture
from tests.lab.crowd import Crowd, Refused
from tests.lab.lan import Host, Lab
from tests.lab.ring import Sender
from tests.lab.spaces import NAMESPACES, ROOT, CommandFailed, command, ours, sweep


@pytest.fixture
def crowd(shared_lab: Lab) -> Iterator[Crowd]:
    """An empty crowd, gone afterwards."""
    made = shared_lab.crowd(seed=7)
    yield made
    shared_lab.crowds.remove(made)
    made.close()
    shared_lab._spaces.remove(made.space)
    made.space.delete()


def answering(lab: Lab, *how: str) -> dict[str, str]:
    """IP → MAC of all that arp-scan finds."""
    found = lab.watcher.run(["arp-scan", "-I", "eth0", "-q", "-x", "-t", "100", *how, str(lab.network)]).stdout
    return dict(re.findall(r"^(\S+)\t(\S+)$", found, re.MULTILINE))


def ask(lab: Lab, ip: str, *how: str) -> str | None:
    """The MAC that answers one request for `ip`."""
    found = lab.watcher.run(["arp-scan", "-I", "eth0", "-q", "-x", "-r", "1", "-t", "60", *how, ip]).stdout
    return found.split()[1] if found.strip() else None


def soon(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether it becomes true in time."""
    ends = time.monotonic() + seconds
    while not what():
        if time.monotonic() > ends:
            return False
        time.sleep(0.01)
    return True


def test_arp_scan_finds_exactly_who_is_there(shared_lab: Lab, crowd: Crowd) -> None:
    """Without loss each device of the crowd and each kernel host answers, with its own MAC, and nobody else."""
    people = crowd.populate(shared_lab.addresses(34, start=100))
    printer = shared_lab.host("10.77.0.20")
    found = answering(shared_lab, "-B", "2M")
    printer.delete()
    assert found == people | {printer.ip: printer.mac}


def test_loss_is_what_was_asked_for(shared_lab: Lab, crowd: Crowd) -> None:
    """Of 2,000 requests with 5 % loss, some 100 go unanswered: within four standard deviations."""
    crowd.populate(shared_lab.addresses(100))
    crowd.conditions(loss=0.05)
    with sender(shared_lab) as send:
        for _ in range(20):
            send([request(shared_lab.watcher, ip) for ip in shared_lab.addresses(100)])
        assert soon(lambda: crowd.counts()["asked"] >= 2000)
    counts = crowd.counts()
    assert counts["answered"] + counts["lost"] == 2000
    assert 100 - 4 * 9.75 < counts["lost"] < 100 + 4 * 9.75


def test_the_same_seed_loses_the_same_requests(shared_lab: Lab) -> None:
    """Two crowds of one seed, asked the same, answer the same; another seed does not."""
    answers = []
    for seed in (3, 3, 4):
        with Lab("10.78.0.0/24") as lab:
            crowd = lab.crowd(seed)
            crowd.populate(lab.addresses(200))
            crowd.conditions(loss=0.3)
            with lab.capture() as capture, sender(lab) as send:
                send([request(lab.watcher, ip) for ip in lab.addresses(200)])
                assert soon(lambda crowd=crowd: crowd.counts()["asked"] == 200)  # type: ignore[misc]
                answers.append([reply.sender_ip for reply in capture.arp(outgoing=False)])
    assert answers[0] == answers[1] != answers[2]


def test_a_delay_delays(shared_lab: Lab, crowd: Crowd) -> None:
    """A reply comes after the delay asked for, of everyone or of one."""
    crowd.populate(["10.77.0.50", "10.77.0.51", "10.77.0.52"])
    crowd.set("10.77.0.51", delay=0.02)
    crowd.set("10.77.0.52", delay=[0.03, 0.05])
    delays = {}
    for ip in ("10.77.0.50", "10.77.0.51", "10.77.0.52"):
        with shared_lab.capture() as capture:
            assert ask(shared_lab, ip)
            asked, answered = capture.arp()
            delays[ip] = answered.at - asked.at
    assert delays["10.77.0.51"] >= 0.02
    assert delays["10.77.0.52"] >= 0.03
    assert delays["10.77.0.50"] < delays["10.77.0.51"]
    crowd.conditions(delay=0.04)
    with shared_lab.capture() as capture:
        assert ask(shared_lab, "10.77.0.50")
        asked, answered = capture.arp()
        assert answered.at - asked.at >= 0.04


def test_they_come_and_go_on_command(shared_lab: Lab, crowd: Crowd) -> None:
    """Join, sleep, wake, move and leave do what they say, and are seen on the wire."""
    ip, other = "10.77.0.60", "10.77.0.61"
    with shared_lab.capture() as capture:
        mac = crowd.join(ip)
        (said,) = received(capture)
        assert (said.operation, said.source, said.sender_mac, said.sender_ip, said.target_ip, said.broadcast) == (
            "request", mac, mac, ip, ip, True,
        )  # fmt: skip
        assert ask(shared_lab, ip) == mac
        crowd.sleep(ip)
        assert ask(shared_lab, ip) is None
        list(capture.frames())
        at = crowd.wake(ip)
        (said,) = received(capture)
        assert abs(said.at - at) < 1
        assert ask(shared_lab, ip) == mac
        crowd.move(ip, other)
        assert (ask(shared_lab, ip), ask(shared_lab, other)) == (None, mac)
        crowd.leave(other)
        assert ask(shared_lab, other) is None


def test_they_speak_in_the_ways_of_arp(shared_lab: Lab, crowd: Crowd) -> None:
    """A gratuitous reply, a probe, a question for another, silence: as told."""
    with shared_lab.capture() as capture:
        mac = crowd.join("10.77.0.62", say="reply")
        (said,) = received(capture)
        assert (said.operation, said.sender_ip, said.target_ip, said.broadcast) == (
            "reply", "10.77.0.62", "10.77.0.62", True,
        )  # fmt: skip
        crowd.join("10.77.0.63", say="probe")
        (said,) = received(capture)
        assert (said.operation, said.sender_ip, said.target_ip) == ("request", "0.0.0.0", "10.77.0.63")
        crowd.speak("10.77.0.62", "10.77.0.1")
        (said,) = received(capture)
        assert (said.sender_mac, said.sender_ip, said.target_ip) == (mac, "10.77.0.62", "10.77.0.1")
        crowd.join("10.77.0.64", say="none")
        crowd.send(bytes.fromhex("ffffffffffff020000000001 1234 00".replace(" ", "")))
        (frame,) = capture.frames()
        assert frame.data[12:14] == b"\x12\x34"


def test_a_whim_is_kept(shared_lab: Lab, crowd: Crowd) -> None:
    """Deaf to unicast, deaf to broadcast, always lost, answering through another MAC."""
    ip = "10.77.0.70"
    mac = crowd.join(ip)
    to_it = ("--destaddr", mac)
    assert (ask(shared_lab, ip), ask(shared_lab, ip, *to_it)) == (mac, mac)
    assert ask(shared_lab, ip, "--destaddr", "02:00:00:00:00:99") is None
    crowd.set(ip, deaf="unicast")
    assert (ask(shared_lab, ip), ask(shared_lab, ip, *to_it)) == (mac, None)
    crowd.set(ip, deaf="broadcast")
    assert (ask(shared_lab, ip), ask(shared_lab, ip, *to_it)) == (None, mac)
    crowd.set(ip, deaf="", loss=1.0)
    assert ask(shared_lab, ip) is None
    crowd.set(ip, loss=None, via="02:00:00:00:00:77")
    with shared_lab.capture() as capture:
        assert ask(shared_lab, ip) == mac
        assert [(reply.source, reply.sender_mac) for reply in received(capture)] == [("02:00:00:00:00:77", mac)]


def test_two_may_hold_one_address(shared_lab: Lab, crowd: Crowd) -> None:
    """Both answer; when one leaves, the other is alone again."""
    ip = "10.77.0.80"
    first, second = crowd.join(ip), crowd.join(ip, "02:00:00:00:00:80")
    with shared_lab.capture() as capture:
        ask(shared_lab, ip)
        assert {reply.sender_mac for reply in received(capture)} == {first, second}
        crowd.leave(first)
        ask(shared_lab, ip)
        assert {reply.sender_mac for reply in received(capture)} == {second}


def test_a_wrong_command_is_told_and_harms_nobody(shared_lab: Lab, crowd: Crowd) -> None:
    """The crowd refuses with a reason, and goes on."""
    mac = crowd.join("10.77.0.81")
    for verb, how, why in (
        ("dance", {}, "dance"),
        ("leave", {"who": "10.77.0.99"}, "nobody is 10.77.0.99"),
        ("join", {"ip": "10.77.0.300"}, "10.77.0.300"),
        ("set", {"who": "10.77.0.81", "mood": 1}, "unknown: mood"),
    ):
        with pytest.raises(Refused, match=re.escape(why)):
            crowd.do(verb, **how)
    assert ask(shared_lab, "10.77.0.81") == mac


def test_the_crowd_keeps_up_with_the_fastest_asker() -> None:
    """All 65,533 of a /16, asked as fast as a thousand-frame batch goes, answer: none dropped, none twice."""
    with Lab("10.77.0.0/16") as lab:
        crowd = lab.crowd()
        people = lab.addresses(65_533, start=1)
        assert len(set(crowd.populate(people).values())) == 65_533
        requests = [request(lab.watcher, ip) for ip in people]
        with lab.capture(slots=131_072 + 65_536, size=128) as capture, sender(lab) as send:
            begun = time.monotonic()
            for first in range(0, len(requests), 512):
                send(requests[first : first + 512])
                assert soon(lambda first=first: crowd.counts()["asked"] + 8192 > first)  # type: ignore[misc]
            assert soon(lambda: crowd.counts()["asked"] == 65_533)
            took = time.monotonic() - begun
            replies = [reply.sender_ip for reply in capture.arp(outgoing=False)]
        assert crowd.counts()["dropped"] == 0
        assert sorted(replies) == sorted(people)
        print(f"{65_533 / took:,.0f} replies/s")


def test_a_flood_is_as_fast_as_asked(shared_lab: Lab, crowd: Crowd) -> None:
    """10,000 announcements a second for half a second, from as many MACs as asked."""
    with shared_lab.capture() as capture:
        crowd.flood(rate=10_000, seconds=0.5, macs=3000)
        assert soon(lambda: crowd.counts()["flooded"] == 5000)
        heard = received(capture)
    assert len(heard) == 5000
    assert len({said.sender_mac for said in heard}) == 3000


def test_cable_address_and_link_do_what_they_say(lab: Lab) -> None:
    """A kernel host is unplugged, replugged, readdressed, down, up, robbed of its interface and given it back."""
    host, ip = lab.host("10.77.0.90", mac="00:11:32:aa:bb:cc"), "10.77.0.90"
    assert ask(lab, ip) == "00:11:32:aa:bb:cc"
    host.unplug()
    assert ask(lab, ip) is None
    host.replug()
    assert soon(lambda: ask(lab, ip) == host.mac)
    host.set_address("10.77.0.91")
    assert (ask(lab, ip), ask(lab, "10.77.0.91")) == (None, host.mac)
    host.down()
    assert ask(lab, "10.77.0.91") is None
    host.up()
    assert soon(lambda: ask(lab, "10.77.0.91") == host.mac)
    host.remove_interface()
    assert ask(lab, "10.77.0.91") is None
    host.plug()
    assert soon(lambda: ask(lab, "10.77.0.91") == host.mac)
    with lab.capture() as capture:
        host.announce()
        (said,) = received(capture)
        assert (said.source, said.sender_ip, said.target_ip) == (host.mac, host.ip, host.ip)
    host.delete()
    assert ask(lab, "10.77.0.91") is None


def test_the_lab_is_quiet(lab: Lab) -> None:
    """On a LAN where nobody is told to speak, nobody speaks: no IPv6, no STP, no multicast queries."""
    lab.host("10.77.0.5")
    lab.crowd().populate(lab.addresses(10, start=20))
    with lab.capture() as capture:
        time.sleep(1.0)
        assert list(capture.frames()) == []


def test_a_capture_with_gaps_says_so(shared_lab: Lab, crowd: Crowd) -> None:
    """A capture whose ring was too small raises, since absence in it proves nothing."""
    with shared_lab.capture(slots=1024) as capture:
        crowd.flood(rate=20_000, seconds=0.2, macs=10)
        assert soon(lambda: crowd.counts()["flooded"] == 4000)
        with pytest.raises(BufferError, match="lost"):
            list(capture.frames())


def test_no_link_is_made_outside_of_our_namespaces(shared_lab: Lab, crowd: Crowd) -> None:
    """The machine's own namespace has the links that it had: ours, and their peers, are all inside."""
    links = command("ip", "-o", "link", "show")
    with Lab("10.79.0.0/24") as other:
        other.host()
        other.crowd()
        assert command("ip", "-o", "link", "show") == links


def test_everything_is_gone_afterwards() -> None:
    """Namespaces, processes and folder end with the block, and when it fails."""

    class Stop(Exception):
        pass

    before = ours()
    with pytest.raises(Stop), Lab("10.79.0.0/24") as lab:
        lab.crowd()
        sleeper = lab.watcher.popen(["sleep", "1000"])
        child = lab.watcher.popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE)
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        folder = lab.folder
        assert set(ours()) > set(before)
        raise Stop
    assert ours() == before
    assert sleeper.poll() is not None
    assert not Path(f"/proc/{grandchild}").exists() or "Z" in Path(f"/proc/{grandchild}/stat").read_text().split()
    assert not folder.exists()
    lab.close()


LEAVES_IT = """
import sys, time
from tests.lab.lan import Lab
with Lab("10.79.0.0/24") as lab:
    lab.crowd()
    lab.watcher.popen(["sleep", "1000"])
    print(lab.watcher.space.name, flush=True)
    time.sleep(1000)
"""


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cleans_up_too(number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C unwind the lab."""
    with subprocess.Popen([sys.executable, "-c", LEAVES_IT], cwd=ROOT, stdout=subprocess.PIPE, stderr=-3) as process:
        assert process.stdout is not None
        name = process.stdout.readline().decode().strip()
        assert (NAMESPACES / name).exists()
        process.send_signal(number)
        process.wait(20)
    assert not (NAMESPACES / name).exists()


@pytest.mark.usefixtures("root")
def test_what_a_killed_lab_left_is_swept() -> None:
    """After kill -9 the next lab's owner removes the namespaces, and their processes have died by themselves."""
    with subprocess.Popen([sys.executable, "-c", LEAVES_IT], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        name = process.stdout.readline().decode().strip()
        process.kill()
    assert soon(lambda: not (NAMESPACES / name).exists() or command("ip", "netns", "pids", name) == "")
    sweep()
    assert not (NAMESPACES / name).exists()


def test_commands_that_fail_say_what_they_were(shared_lab: Lab) -> None:
    """The line, the exit code and what it said."""
    with pytest.raises(CommandFailed, match="link set nothing up"):
        shared_lab.watcher.space.ip("link set nothing up")
    with pytest.raises(CommandFailed, match="exit 3"):
        shared_lab.watcher.run(["sh", "-c", "echo no >&2; exit 3"])
    with pytest.raises(subprocess.TimeoutExpired):
        shared_lab.watcher.run(["sleep", "5"], timeout=0.1)


def test_the_ordinary_user_has_one_capability(shared_lab: Lab) -> None:
    """What the daemon is in its unit: not root, CAP_NET_RAW (13) alone, and the project can be imported."""
    from tests.lab.ordinary import ordinary

    (shared_lab.folder / "hold").mkdir()
    program = "import os, netscand, msgspec; print(os.getuid(), open('/proc/self/status').read())"
    said = shared_lab.watcher.run(ordinary([sys.executable, "-c", program], shared_lab.folder / "hold")).stdout
    assert said.startswith("65534 ")
    sets = dict(re.findall(r"^Cap(\w+):\s+(\w+)$", said, re.MULTILINE))
    assert {name: int(value, 16) for name, value in sets.items()} == dict.fromkeys(
        ("Inh", "Prm", "Eff", "Bnd", "Amb"), 1 << 13
    )
    assert not os.listdir(shared_lab.folder / "hold"), "its mounts are its own"


def received(capture: Capture) -> list[Arp]:
    """What others said since the last look."""
    return capture.arp(outgoing=False)


def request(host: Host, ip: str) -> bytes:
    """A broadcast request by `host` for `ip`, made here by hand (RFC 826)."""
    mac = bytes.fromhex(host.mac.replace(":", ""))
    own, target = socket.inet_aton(host.ip), socket.inet_aton(ip)
    return (
        b"\xff" * 6
        + mac
        + bytes.fromhex("0806000108000604 0001".replace(" ", ""))
        + mac
        + own
        + bytes(6)
        + target
        + bytes(18)
    )


class sender:
    """Sends frames out of the watcher's interface."""

    def __init__(self, lab: Lab) -> None:
        self._socket = lab.watcher.space.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._sender = Sender(self._socket, "eth0")

    def __enter__(self) -> Callable[[list[bytes]], None]:
        return self._sender.send

    def __exit__(self, *_: object) -> None:
        self._socket.close()
