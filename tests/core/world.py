"""A LAN in simulated time: inventory and planner, a manual clock, and hosts that answer or do not."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from random import Random

from netscand.core.inventory import Inventory
from netscand.core.model import (
    Event,
    EventKind,
    Evidence,
    Ip,
    Mac,
    Network,
    NetworkState,
    Observation,
    Probe,
    ScanNews,
    Status,
)
from netscand.core.planner import Pace, Planner
from netscand.core.presence import Rules


def mac(number: int) -> Mac:
    return Mac(bytes.fromhex("00163e") + number.to_bytes(3))


def ip(text: str) -> Ip:
    return Ip(IPv4Address(text).packed)


def network(
    cidr: str = "10.0.0.0/24",
    interface: str = "eth0",
    index: int = 2,
    state: NetworkState = NetworkState.UP,
    gateway: str | None = None,
    interval: float = 30.0,
    rate: float | None = None,
    background_rate: float | None = None,
) -> Network:
    prefix = IPv4Network(cidr)
    own = Ip(prefix[2].packed)
    return Network(
        f"{cidr}@{interface}", prefix, interface, index, Mac(b"\x02\x00\x00\x00\x00" + bytes([index])), own, state,
        "a test's", ip(gateway) if gateway else None, interval, rate, background_rate,
    )  # fmt: skip


def check_counts(inventory: Inventory) -> None:
    """Check that the counts that the inventory keeps are those of its devices."""
    total, by_network = [0, 0, 0], dict[str, list[int]]()
    for device in inventory.devices.values():
        if not device.is_self:
            column = [Status.ONLINE, Status.OFFLINE, Status.UNKNOWN].index(device.status)
            total[column] += 1
            for name in {address.network for address in device.addresses}:
                by_network.setdefault(name, [0, 0, 0])[column] += 1
    assert (inventory.counts.total, inventory.counts.by_network) == (total, by_network)


@dataclass
class World:
    """Inventory and planner, driven as the engine drives them; time moves from one thing due to the next."""

    networks: Iterable[Network] = field(default_factory=lambda: [network()])
    pace: Pace = field(default_factory=Pace)
    rules: Rules = field(default_factory=Rules)
    loss: float = 0.0
    delay: float = 0.0005
    seed: int = 1
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.inventory = Inventory(self.rules, Random(self.seed))
        self.planner = Planner(self.inventory, self.pace, self.now, Random(self.seed))
        self.hosts: dict[tuple[int, Ip], Mac] = {}
        """Who answers, by interface and address."""
        self.also: dict[tuple[int, Ip], list[Mac]] = {}
        """Further devices that answer there."""
        self.unreachable: Callable[[Probe], bool] = lambda probe: False
        self.events: list[Event] = []
        self.kinds: list[tuple[float, EventKind, Mac | None]] = []
        self.news: list[tuple[float, ScanNews]] = []
        self.frames: list[tuple[float, Probe]] = []
        self._air: deque[tuple[float, Observation]] = deque()
        self.set_networks(self.networks)

    def set_networks(self, networks: Iterable[Network]) -> None:
        self._tell(self.inventory.set_networks(networks, self.now))
        self.planner.set_networks(self.now)
        check_counts(self.inventory)

    def alive(self, count: int, index: int = 2, base: str = "10.0.0.0") -> None:
        """Let the addresses .10, .11 … answer."""
        first = int(IPv4Address(base)) + 10
        for i in range(count):
            self.hosts[index, Ip((first + i).to_bytes(4))] = mac(i + 1)

    def hear(self, sender: Mac, at: str | None, evidence: Evidence = Evidence.ARP_REQUEST, index: int = 2) -> None:
        """Put an unsolicited frame on the air."""
        joining = evidence in (Evidence.DHCP, Evidence.ARP_PROBE, Evidence.ARP_ANNOUNCEMENT)
        self._hear(Observation(self.now, index, sender, ip(at) if at else None, evidence, joining=joining))

    def run(self, seconds: float) -> None:
        self.run_unchecked(seconds)
        check_counts(self.inventory)

    def run_unchecked(self, seconds: float) -> None:
        """Run without the check, which visits every device: for many short steps."""
        end = self.now + seconds
        while self.now < end:
            self._turn()
            due = min(self.planner.next_at, self.inventory.next_at, self._air[0][0] if self._air else end)
            self.now = min(end, max(due, self.now + 0.0005))

    def of(self, kind: EventKind) -> list[Event]:
        return [event for event in self.events if event.kind is kind]

    def _turn(self) -> None:
        while self._air and self._air[0][0] <= self.now:
            self._hear(self._air.popleft()[1])
        self._tell(self.inventory.tick(self.now))
        if self.inventory.probe_queue or self.inventory.addresses.disputes.to_scan:
            self.planner.next_at = self.now
        while self.planner.next_at <= self.now:
            for probe in self.planner.due(self.now, 512):
                self._send(probe)
        self.news += [(self.now, news) for news in self.planner.news()]

    def _send(self, probe: Probe) -> None:
        self.frames.append((self.now, probe))
        self.inventory.record_sent(probe, self.now)
        place = probe.network.index, probe.ip
        for holder in (self.hosts.get(place), *self.also.get(place, ())):
            if (
                holder is not None
                and probe.mac in (None, holder)
                and not self.unreachable(probe)
                and self.random.random() >= self.loss
            ):
                self._answer(probe, holder)

    def _answer(self, probe: Probe, holder: Mac) -> None:
        at = self.now + self.delay
        evidence = Evidence.ARP_REPLY if len(probe.ip) == 4 else Evidence.NDP
        self._air.append(
            (at, Observation(at, probe.network.index, holder, probe.ip, evidence, solicited=len(probe.ip) == 16))
        )

    def _hear(self, seen: Observation) -> None:
        where = self.inventory.network_table.lookup(seen.interface, seen.ip)
        if where is not None:
            rtt = self.planner.record_reply(seen, where)
            self._tell(self.inventory.observe(seen, where, rtt))

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self.planner.on_event(event)
            self.events.append(event)
            self.kinds.append((self.now, event.kind, event.device.mac if event.device else None))
