"""Own devices: those of this host, online while their interface is up, and never probed."""

from collections.abc import Iterable, Mapping, Set
from functools import partial

from netscand.core.addresses import Addresses
from netscand.core.annotations import is_annotated, move_annotations
from netscand.core.batches import DeferredBatches
from netscand.core.model import THIS_HOST, Address, Device, Event, EventKind, Evidence, Ip, Mac, Network, Status
from netscand.core.networks import SCANNED, without
from netscand.core.presence import Presence, Rules
from netscand.core.status import StatusCounts


class OwnDevices:
    """The devices of this host, one for each MAC of its interfaces."""

    def __init__(
        self, devices: dict[Mac, Device], addresses: Addresses, counts: StatusCounts, batches: DeferredBatches
    ) -> None:
        self._devices = devices
        self._addresses = addresses
        self._counts = counts
        self._batches = batches
        self.mine: set[Mac] = set()
        """MACs of these devices."""
        self._former: dict[int, Device] = {}
        """ifindex → device of the MAC that the interface had before, until it has another one."""
        self._own: dict[str, frozenset[Ip]] = {}
        """Network → this host's addresses on its interface."""

    def update(
        self, networks: Iterable[Network], macs: Set[Mac], rules: Rules, now: float
    ) -> tuple[list[Event], list[Device]]:
        """Follow the networks that are up, and the `macs` of all interfaces of this host.

        Return the events, and the devices that are no longer this host.
        """
        ours: dict[Mac, list[Network]] = {}
        scanned = [network for network in networks if network.state in SCANNED]
        for network in scanned:
            ours.setdefault(network.mac, []).append(network)
        events, retired = self._take_addresses(scanned, now), []
        for mac in sorted(self.mine - ours.keys()):
            device = self._devices[mac]
            if mac not in macs:
                events.append(self._retire(device, now))
                retired.append(device)
            elif device.status is Status.ONLINE:
                self._counts.change(device, Status.UNKNOWN, now, "the interface is down")
        for mac, networks_of_mac in ours.items():
            events += self._update(mac, networks_of_mac, rules, now)
        return events, retired

    def _take_addresses(self, networks: Iterable[Network], now: float) -> list[Event]:
        """Take the addresses of this host from all other devices."""
        before, self._own = self._own, {network.id: network.ours for network in networks}
        fresh = {}
        for network_id, own in self._own.items():
            if new := without(own, before.get(network_id, frozenset())):
                fresh[network_id] = new
        if not fresh:
            return []
        everyone = [device for device in self._devices.values() if not device.is_self]
        once_for_each_address = (device for device in everyone for _ in range(len(device.addresses)))
        return self._batches.add(once_for_each_address, partial(self._take_address, fresh, now))

    def _take_address(self, fresh: Mapping[str, Set[Ip]], now: float, device: Device) -> Event | None:
        """Drop the first of the device's addresses that is this host's own now."""
        theirs = () if device.is_self else device.addresses
        address = next((each for each in theirs if each.ip in fresh.get(each.network, ())), None)
        if address is None:
            return None
        had = {"ip": device.ip, "addresses": tuple(device.addresses)}
        self._addresses.drop(device, address)
        reason = "it is this host's own address now"
        return Event(EventKind.ADDRESS_REMOVED, now, address.network, device, address.ip, reason=reason, previous=had)

    def _retire(self, device: Device, now: float) -> Event:
        """Take a MAC that no interface has any more: it is offline, and may be forgotten."""
        previous = {
            "status": device.status, "status_since": device.status_since, "reason": device.reason, "ip": device.ip,
            "addresses": tuple(device.addresses),
        }  # fmt: skip
        self._addresses.replace(device, ())
        device.is_self = device.is_gateway = False
        self.mine.discard(device.mac)
        self._counts.change(device, Status.OFFLINE, now, "this host no longer has this MAC")
        self._counts.add(device)
        device.presence.set_offline(now)
        self._former[device.interface] = device
        return Event(EventKind.OFFLINE, now, None, device, reason=device.reason, previous=previous)

    def _update(self, mac: Mac, networks: list[Network], rules: Rules, now: float) -> list[Event]:
        index = networks[0].index
        known, former = self._devices.get(mac), self._former.pop(index, None)
        if former is not None and self._devices.get(former.mac) is not former:
            former = None  # it was forgotten
        device = known or self._devices.setdefault(mac, Device(mac, now, now, Presence(now, rules)))
        # Clients get a new device of this host with the snapshot. An event is needed only if they know the device as
        # another host's, or if it replaces one.
        changed = (known is not None and not known.is_self) or (former is not None and former is not device)
        previous = {"status": device.status, "status_since": device.status_since, "reason": device.reason}
        if device.status is not Status.ONLINE or not device.is_self:
            self._counts.remove(device)
            self._counts.change(device, Status.ONLINE, now, THIS_HOST)
        self.mine.add(mac)
        device.is_self, device.interface, device.last_seen, device.next_check = True, index, now, float("inf")
        self._bind(device, networks, now)
        events = []
        if changed:
            events.append(Event(EventKind.ONLINE, now, networks[0].id, device, device.ip, None, None, THIS_HOST,
                                previous))  # fmt: skip
        if former is not None and former is not device and is_annotated(former) and not is_annotated(device):
            events += move_annotations(former, device, now)
        return events

    def _bind(self, device: Device, networks: list[Network], now: float) -> None:
        bindings = {(address.network, address.ip): address for address in device.addresses}
        self._addresses.replace(
            device,
            [
                bindings.get((network.id, network.own))
                or Address(network.own, network.id, network.interface, Evidence.NEIGHBOUR, now, now)
                for network in networks
            ],
        )
