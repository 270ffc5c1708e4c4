"""The one picture of the LAN: observations and ticks in, events out. Every table is bounded (law 6).

Pure: it is told the time, and returns what changed. Only the engine calls what changes it (law 1).
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from math import inf

from netscand.core.model import (
    Address,
    Ask,
    Device,
    Event,
    EventKind,
    Evidence,
    Ip,
    Mac,
    Network,
    NetworkState,
    Observation,
    Status,
)
from netscand.core.presence import Presence, Rules, Step

MOST_UNCONFIRMED = 4_096
"""Devices an interface may have that never answered us; the oldest go first (FAULTS T11)."""

MOST_CONFIRMED = 65_536
"""Devices an interface may have that answered us."""

MOST_ADDRESSES = 64
"""Addresses a device may have; the one not heard for longest goes first."""

UNASKABLE = 300.0
"""Seconds after which a device that has no address to be asked at counts as gone."""

JOINING = frozenset((Evidence.DHCP, Evidence.ARP_PROBE, Evidence.ARP_ANNOUNCEMENT))
"""What a device says when it comes onto a link."""

SPOKEN = {
    Evidence.ARP_REQUEST: "sent an ARP request",
    Evidence.ARP_REPLY: "answered an ARP request",
    Evidence.ARP_PROBE: "probed for an address",
    Evidence.ARP_ANNOUNCEMENT: "announced its address",
    Evidence.NDP: "sent neighbour discovery",
    Evidence.DHCP: "spoke DHCP",
    Evidence.MDNS: "spoke mDNS",
    Evidence.NBNS: "spoke NBNS",
    Evidence.NEIGHBOUR: "is a reachable neighbour of this host",
    Evidence.PROXIED: "another station answered for it",
}
"""Evidence as a reason."""


class Inventory:
    """Devices and networks, and what is due for each device."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.devices: dict[Mac, Device] = {}
        self.networks: dict[str, Network] = {}
        """Scanned or not, by id."""
        self.wishes: deque[Ask] = deque()
        """Probes and requests that presence wants, for the planner to send under its budget."""
        self._at: dict[int, tuple[tuple[int, int, Network], ...]] = {}
        """Interface → its scanned networks, each as (prefix, mask, network)."""
        self._holders: dict[str, dict[Ip, Device]] = {}
        """Network → address → who holds it."""
        self._unconfirmed: dict[int, OrderedDict[Mac, None]] = {}
        self._confirmed: dict[int, int] = {}
        self._agenda: list[tuple[float, Mac]] = []

    # ---- what is heard ------------------------------------------------------------------------------------------

    def place(self, interface: int, ip: Ip | None) -> Network | None:
        """Give the network that an address heard on an interface belongs to; the interface's first for what has none.

        None: nothing is scanned on this interface, so what is heard there is not ours to judge.
        """
        networks = self._at.get(interface)
        if networks is None:
            return None
        if ip is not None and len(ip) == 4:
            number = int.from_bytes(ip)
            for prefix, mask, network in networks:
                if number & mask == prefix:
                    return network
        return networks[0][2]

    def observe(self, seen: Observation, network: Network, rtt: float | None = None) -> tuple[Event, ...]:
        """Fold one observation in; return what changed. `rtt`: it answered an ask of ours, after so many seconds."""
        device = self.devices.get(seen.mac)
        if device is None:
            return self._discover(seen, network, rtt)
        if device.is_self:
            return ()
        if seen.evidence is Evidence.PROXIED:  # keeps an address, not presence (DESIGN section 3)
            return self._hold(device, seen, network)
        at = seen.at
        if at > device.last_seen:
            device.last_seen = at
        device.interface = seen.interface
        if rtt is not None:
            device.rtt = rtt
            if not device.confirmed:
                self._confirm(device)
        device.presence.heard(at, joined=seen.evidence in JOINING)
        if device.status is Status.ONLINE:
            return self._hold(device, seen, network)
        event = self._set_status(device, Status.ONLINE, at, SPOKEN[seen.evidence], network.id, seen)
        self._schedule(device)
        return (event, *self._hold(device, seen, network))

    def _discover(self, seen: Observation, network: Network, rtt: float | None) -> tuple[Event, ...]:
        forgotten = self._make_room(seen.interface, confirmed=rtt is not None)
        if forgotten is None:
            return ()
        device = Device(seen.mac, seen.at, seen.at, Presence(seen.at, self.rules), status_since=seen.at)
        device.reason = SPOKEN[seen.evidence]
        device.interface = seen.interface
        self.devices[seen.mac] = device
        self._unconfirmed.setdefault(seen.interface, OrderedDict())[seen.mac] = None
        if rtt is not None:
            device.rtt = rtt
            self._confirm(device)
        self._hold(device, seen, network)
        self._schedule(device)
        event = Event(
            EventKind.DISCOVERED, seen.at, network.id, device, seen.ip, None, seen.evidence, device.reason,
            seen_at=seen.at,
        )  # fmt: skip
        return (*forgotten, event)

    def _hold(self, device: Device, seen: Observation, network: Network) -> tuple[Event, ...]:
        """Note at which address the device was heard."""
        ip = seen.ip
        if ip is None:
            return ()
        for address in device.addresses:
            if address.ip == ip and address.network == network.id:
                if seen.at > address.last_seen:
                    address.last_seen = seen.at
                    address.evidence = seen.evidence
                break
        else:
            return self._add_address(device, ip, seen, network)
        if self._holders[network.id].get(ip) is not device:
            self._holders[network.id][ip] = device
        return ()

    def _add_address(self, device: Device, ip: Ip, seen: Observation, network: Network) -> tuple[Event, ...]:
        if self.place(seen.interface, ip) is not network or (len(ip) == 4 and not _within(ip, network)):
            return ()  # an address of another LAN says nothing about this one
        before = {"ip": device.ip, "addresses": tuple(device.addresses)}
        moved = [held for held in device.addresses if held.ip == ip and held.network not in self.networks]
        for held in moved:  # its network was renamed, or is on another interface now
            self._drop_address(device, held)
        if len(device.addresses) >= MOST_ADDRESSES:
            oldest = min(device.addresses, key=lambda held: held.last_seen)
            self._drop_address(device, oldest)
        device.addresses.append(Address(ip, network.id, network.interface, seen.evidence, seen.at, seen.at))
        self._holders[network.id][ip] = device
        device.is_gateway = device.is_gateway or (ip == network.gateway and ip is not None)
        if moved or (len(device.addresses) == 1 and device.first_seen == seen.at):
            return ()  # nothing new, or `discovered` tells it
        return (
            Event(
                EventKind.ADDRESS_ADDED, seen.at, network.id, device, ip, None, seen.evidence,
                SPOKEN[seen.evidence], before, seen.at,
            ),
        )  # fmt: skip

    def _drop_address(self, device: Device, address: Address) -> None:
        device.addresses.remove(address)
        holders = self._holders.get(address.network, {})
        if holders.get(address.ip) is device:
            del holders[address.ip]

    def holder(self, network: str, ip: Ip) -> Device | None:
        """Who was last heard at an address."""
        return self._holders[network].get(ip)

    # ---- what is due --------------------------------------------------------------------------------------------

    @property
    def next_at(self) -> float:
        """When `tick` next wants to be called."""
        return self._agenda[0][0] if self._agenda else inf

    def tick(self, now: float, limit: int = 512) -> tuple[Event, ...]:
        """Do what is due, at most `limit` at a time: verdicts are returned; asks that presence wants go to `wishes`."""
        events: list[Event] = []
        agenda = self._agenda
        for _ in range(limit):
            if not agenda or agenda[0][0] > now:
                break
            due, mac = heappop(agenda)
            device = self.devices.get(mac)
            if device is None or device.agenda != due:
                continue  # forgotten, or scheduled anew since
            step = device.presence.step(now)
            where = self._where(device)
            silence = now - device.last_seen
            if where is None and silence >= UNASKABLE:
                events.append(self._lose(device, now, f"silent for {silence:.0f} s, and no address to ask"))
            elif step is Step.OFFLINE and where is not None:
                events.append(self._lose(device, now, device.presence.why(now), where[0].id))
            elif where is None or step is Step.NOTHING:
                self._schedule(device)
            else:
                device.agenda = inf  # until the planner has sent it, or found it no longer wanted
                self.wishes.append(Ask(where[0], where[1].ip, device.mac if step is Step.PROBE else None))
        return tuple(events)

    def _lose(self, device: Device, now: float, reason: str, network: str | None = None) -> Event:
        device.agenda = inf
        device.presence.lost(now)
        return self._set_status(device, Status.OFFLINE, now, reason, network)

    def wanted(self, ask: Ask, now: float) -> bool:
        """Whether a wish still stands when its turn has come; one that does not is scheduled anew."""
        device = self.holder(ask.network.id, ask.ip) if ask.network.id in self._holders else None
        if device is None:
            return False
        if device.presence.step(now) in (Step.PROBE, Step.REQUEST):
            return True
        self._schedule(device)
        return False

    def asked(self, ask: Ask, now: float) -> None:
        """Note that an ask really left."""
        holders = self._holders.get(ask.network.id)
        device = holders.get(ask.ip) if holders else None
        if device is not None and not device.is_self:
            device.presence.asked(now, broadcast=ask.mac is None)
            if device.status is not Status.OFFLINE:
                self._schedule(device)

    def not_asked(self, ask: Ask, now: float) -> None:
        """Note that the interface refused an ask: try again in a second, and count nothing."""
        holders = self._holders.get(ask.network.id)
        device = holders.get(ask.ip) if holders else None
        if device is not None and device.status is not Status.OFFLINE and not device.is_self:
            device.agenda = now + 1.0
            heappush(self._agenda, (device.agenda, device.mac))

    def _where(self, device: Device) -> tuple[Network, Address] | None:
        """Where a device would be asked: at the address last heard that is ours to ask."""
        best: tuple[Network, Address] | None = None
        for address in device.addresses:
            network = self.networks.get(address.network)
            if network is None or network.state is not NetworkState.UP or len(address.ip) != 4:
                continue
            if best is None or address.last_seen > best[1].last_seen:
                best = network, address
        return best

    def _schedule(self, device: Device) -> None:
        due = inf
        if not device.is_self and device.status is not Status.OFFLINE:
            if self._where(device) is not None:
                due = device.presence.next_at
            elif device.status is Status.ONLINE:
                due = device.last_seen + UNASKABLE
        if due == inf:
            device.agenda = inf
        elif due != device.agenda:
            device.agenda = due
            heappush(self._agenda, (due, device.mac))

    # ---- what netlink says --------------------------------------------------------------------------------------

    def set_networks(self, networks: Iterable[Network], now: float) -> tuple[Event, ...]:
        """Take all networks as they are now; return what changed. Down is doubt about us, not about them (law 8)."""
        before, self.networks = self.networks, {network.id: network for network in networks}
        table: dict[int, list[tuple[int, int, Network]]] = {}
        for network in self.networks.values():
            if network.state is NetworkState.UP:
                row = (int(network.cidr.network_address), int(network.cidr.netmask), network)
                table.setdefault(network.index, []).append(row)
                self._holders.setdefault(network.id, {})
        # The longest prefix first, so that an address in two nested networks belongs to the inner one.
        self._at = {index: tuple(sorted(rows, key=lambda row: -row[1])) for index, rows in table.items()}
        events: list[Event] = []
        for network_id in before.keys() | self.networks.keys():
            old, new = before.get(network_id), self.networks.get(network_id)
            was, is_up = (each is not None and each.state is NetworkState.UP for each in (old, new))
            if is_up and not was:
                assert new is not None
                events.append(Event(EventKind.NETWORK_UP, now, new.id, reason=new.why))
                self._believe(new, now)
            elif was and not is_up:
                assert old is not None
                reason = new.why if new else "the address or the interface is gone"
                events.append(Event(EventKind.NETWORK_DOWN, now, network_id, reason=reason))
                self._doubt(network_id, reason, now)
        self._mark_ourselves(now)
        self._mark_gateways()
        return tuple(events)

    def _doubt(self, network: str, reason: str, now: float) -> None:
        """Set every device that is online on no other network to `unknown`; the network's event tells it."""
        for device in self._holders.get(network, {}).values():
            where = self._where_up(device, now)
            if device.status is Status.ONLINE and where is None:
                device.status, device.status_since, device.reason = Status.UNKNOWN, now, reason
                device.agenda = inf

    def _where_up(self, device: Device, now: float) -> Network | None:
        """Give a network that is up, on which the device was heard within its patience."""
        for address in device.addresses:
            network = self.networks.get(address.network)
            if network is not None and network.state is NetworkState.UP:  # noqa: SIM102 (one thought a line)
                if device.is_self or now - address.last_seen <= device.presence.patience:
                    return network
        return None

    def _believe(self, network: Network, now: float) -> None:
        """We hear this network again: each device gets its own verdict, its silence counted from now."""
        for device in self._holders[network.id].values():
            if device.status is not Status.OFFLINE and not device.is_self:
                device.presence.excuse(now)
                self._schedule(device)

    def _mark_ourselves(self, now: float) -> None:
        ours: dict[Mac, list[Network]] = {}
        for network in self.networks.values():
            if network.state is NetworkState.UP:
                ours.setdefault(network.mac, []).append(network)
        for device in self.devices.values():
            if device.is_self and device.mac not in ours and device.status is Status.ONLINE:
                device.status, device.status_since, device.reason = Status.UNKNOWN, now, "the interface is down"
        for mac, networks in ours.items():
            device = self.devices.get(mac) or self.devices.setdefault(
                mac, Device(mac, now, now, Presence(now, self.rules))
            )
            if device.status is not Status.ONLINE or not device.is_self:
                device.status, device.status_since, device.reason = Status.ONLINE, now, "this host"
            device.is_self, device.interface, device.last_seen, device.agenda = True, networks[0].index, now, inf
            held = {(address.network, address.ip): address for address in device.addresses}
            device.addresses = []
            for network in networks:
                address = held.get((network.id, network.own)) or Address(
                    network.own, network.id, network.interface, Evidence.NEIGHBOUR, now, now
                )
                device.addresses.append(address)
                self._holders[network.id][network.own] = device

    def _mark_gateways(self) -> None:
        for device in self.devices.values():
            device.is_gateway = False
        for network in self.networks.values():
            holder = self._holders.get(network.id, {}).get(network.gateway) if network.gateway else None
            if holder is not None:
                holder.is_gateway = True

    # ---- bounds -------------------------------------------------------------------------------------------------

    def _make_room(self, interface: int, *, confirmed: bool) -> tuple[Event, ...] | None:
        """Make room for one more device of an interface; None: there is none."""
        if confirmed:
            return () if self._confirmed.get(interface, 0) < MOST_CONFIRMED else None
        waiting = self._unconfirmed.get(interface)
        if not waiting or len(waiting) < MOST_UNCONFIRMED:
            return ()
        mac, _ = waiting.popitem(last=False)
        device = self.devices.pop(mac)
        for address in tuple(device.addresses):
            self._drop_address(device, address)
        return ()

    def _confirm(self, device: Device) -> None:
        for waiting in self._unconfirmed.values():
            waiting.pop(device.mac, None)
        device.confirmed = True
        self._confirmed[device.interface] = self._confirmed.get(device.interface, 0) + 1

    # ---- telling ------------------------------------------------------------------------------------------------

    @staticmethod
    def _set_status(
        device: Device, status: Status, at: float, reason: str, network: str | None, seen: Observation | None = None
    ) -> Event:
        previous: Mapping[str, object] = {
            "status": device.status, "status_since": device.status_since, "reason": device.reason,
        }  # fmt: skip
        device.status, device.status_since, device.reason = status, at, reason
        kind = EventKind.ONLINE if status is Status.ONLINE else EventKind.OFFLINE
        return Event(
            kind, at, network, device, seen.ip if seen else device.ip, None, seen.evidence if seen else None,
            reason, previous, seen.at if seen else None,
        )  # fmt: skip


def _within(ip: Ip, network: Network) -> bool:
    return int.from_bytes(ip) & int(network.cidr.netmask) == int(network.cidr.network_address)
