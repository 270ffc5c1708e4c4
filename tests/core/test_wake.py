"""Wake-on-LAN: where magic packets go, within the limits of frames, and what they contain."""

from netscand.core.model import BadTarget, Busy, Mac, Network, NetworkState
from netscand.core.planner import Pace
from netscand.lan.wake import magic_packets
from tests.core.built_frames import IP, UDP, Ether
from tests.core.test_engine import EngineView
from tests.core.virtual_loop import VirtualLoop, run
from tests.core.world import mac, network


class Sleeper(EngineView):
    """An engine that saw one device, and records what it sends to wake it."""

    def __init__(self, pace: Pace | None = None) -> None:
        super().__init__(pace)
        self.sent: list[tuple[str, Mac, int]] = []
        self.engine.send_wake = self.send
        self.engine.observe([self.seen(1, "10.0.0.11")])
        self.turn(30)

    def send(self, network: Network, mac: Mac, number: int) -> None:
        if self.cable.refuses:
            raise OSError(100, "Network is down")
        self.sent.append((network.id, mac, number))

    def wake(self, device: Mac) -> list[str]:
        """On a loop on which time passes while it sleeps."""
        loop = VirtualLoop()
        loop.clock.now = self.now
        self.engine._clock = loop.time
        try:
            return run(loop, self.engine.wake(device))
        finally:
            self.now = loop.time()
            self.engine._clock = lambda: self.now

    def refusal(self, device: Mac) -> str:
        try:
            self.wake(device)
        except (BadTarget, Busy) as error:
            return f"{type(error).__name__}: {error}"
        return ""


def test_a_device_is_woken_where_it_was_seen() -> None:
    """Also when it is offline; both frames count as broadcasts."""
    house = Sleeper()
    house.turn(600)
    before = house.engine.load().broadcast
    assert house.wake(mac(1)) == [network().id]
    assert house.sent == [(network().id, mac(1), 0), (network().id, mac(1), 1)]
    assert house.engine.load().broadcast == before + 2


def test_a_refusal_says_what_is_wrong() -> None:
    house = Sleeper()
    house.engine.label(mac(7), {"label": "never seen"})
    assert house.refusal(mac(7)).startswith("BadTarget: it was not seen on any network that this host has now, so")
    own = next(each for each, device in house.engine.devices.items() if device.is_self)
    assert house.refusal(own) == "BadTarget: this host is awake"
    house.cable.refuses = True
    assert house.refusal(mac(1)) == "Busy: 10.0.0.0/24@eth0: cannot send: Network is down"
    house.engine.set_networks([network(state=NetworkState.DOWN)])
    assert house.refusal(mac(1)) == "Busy: 10.0.0.0/24@eth0: down or excluded, so no frame can be sent"
    house.engine.set_networks([])
    assert "(only on 10.0.0.0/24@eth0)" in house.refusal(mac(1))
    assert house.sent == []


def test_waking_stays_within_the_limits_of_frames() -> None:
    """FAULTS T20: requests without end cause no more broadcasts than `background_rate`."""
    house = Sleeper(Pace(background_rate=10.0))
    began = house.now
    for _ in range(20):
        house.wake(mac(1))
    assert len(house.sent) == 40
    assert house.now - began > 3.5
    slow = Sleeper(Pace(background_rate=0.1))
    assert slow.refusal(mac(1)).endswith("the limits of frames in [scan] are used up; try again later")


def test_both_magic_packets_have_the_mac_sixteen_times() -> None:
    target = mac(5)
    first, second = magic_packets(network(), target)
    assert (Ether(first).type, first[14:]) == (0x0842, b"\xff" * 6 + target * 16)
    assert first[:12] == b"\xff" * 6 + network().mac
    datagram = Ether(second)
    assert (datagram[IP].src, datagram[IP].dst, datagram[UDP].dport) == ("10.0.0.2", "255.255.255.255", 9)
    assert bytes(datagram[UDP].payload) == b"\xff" * 6 + target * 16
