"""The crowd is what it says: were it not, every test that stands on it would prove nothing."""

import time

from tests.lab.asking import answering, ask, received, request, sender, silent, soon
from tests.lab.crowd import Crowd
from tests.lab.lan import Lab


def test_arp_scan_finds_exactly_who_is_there(shared_lab: Lab, crowd: Crowd) -> None:
    """Without loss each device of the crowd and each kernel host answers, with its own MAC, and no other."""
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


def test_a_delay_delays(shared_lab: Lab, crowd: Crowd) -> None:
    """A reply comes after the delay asked for, of everyone or of one."""
    crowd.populate(["10.77.0.50", "10.77.0.51", "10.77.0.52"])
    crowd.set("10.77.0.51", delay=0.1)
    crowd.set("10.77.0.52", delay=[0.2, 0.3])

    def delay(ip: str) -> float:
        with shared_lab.capture() as capture:
            assert ask(shared_lab, ip)
            asked, answered = capture.arp()
            return answered.at - asked.at

    assert delay("10.77.0.51") >= 0.1
    assert delay("10.77.0.52") >= 0.2
    assert soon(lambda: delay("10.77.0.50") < 0.1), "always late, and not only when the crowd has no turn"
    crowd.conditions(delay=0.04)
    assert delay("10.77.0.50") >= 0.04


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
        assert silent(shared_lab, ip)
        list(capture.frames())
        at = crowd.wake(ip)
        (said,) = received(capture)
        assert abs(said.at - at) < 1
        assert ask(shared_lab, ip) == mac
        crowd.move(ip, other)
        assert (silent(shared_lab, ip), ask(shared_lab, other)) == (True, mac)
        crowd.leave(other)
        assert silent(shared_lab, other)


def test_they_speak_in_the_ways_of_arp(shared_lab: Lab, crowd: Crowd) -> None:
    """A gratuitous reply, a probe, a question for another, silence: as commanded."""
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
    assert silent(shared_lab, ip, "--destaddr", "02:00:00:00:00:99")
    crowd.set(ip, deaf="unicast")
    assert (ask(shared_lab, ip), silent(shared_lab, ip, *to_it)) == (mac, True)
    crowd.set(ip, deaf="broadcast")
    assert (silent(shared_lab, ip), ask(shared_lab, ip, *to_it)) == (True, mac)
    crowd.set(ip, deaf="", loss=1.0)
    assert silent(shared_lab, ip)
    crowd.set(ip, loss=None, via="02:00:00:00:00:77")
    with shared_lab.capture() as capture:
        assert ask(shared_lab, ip) == mac
        assert [(reply.source, reply.sender_mac) for reply in received(capture)] == [("02:00:00:00:00:77", mac)]


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
