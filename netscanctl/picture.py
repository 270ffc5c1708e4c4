"""What a watcher knows, folded from the stream: messages in, changes worth telling out. No socket, no clock.

Two things make it more than a dictionary. A network that goes up, down or silent puts its devices in doubt without an
event for each, and a device that leaves the doubt as it entered it is no news. And a fresh snapshot after a lost
connection is compared with what was shown, so that only the differences are told.
"""

from netscand.protocol import (
    Device,
    Devices,
    Event,
    InitialState,
    Network,
    Resumed,
    ScanUpdate,
    ServerMessage,
)  # fmt: skip

DOUBT = {"network_up", "network_down", "network_silent"}
"""Events of a network that set those of its devices to `unknown` that were online, and are on no other network."""
STATES = {"network_up": "up", "network_down": "down", "network_silent": "silent", "network_recovered": "up"}
KINDS = {"up": "network_up", "down": "network_down", "silent": "network_silent"}
"""The event that leads to a state."""
VERDICTS = {"discovered", "online", "offline"}
WORDS = ("label", "known", "notes")
"""What the user knows of a device."""


class Picture:
    """The devices and networks as this client was told of them."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        """By MAC."""
        self.networks: dict[str, Network] = {}
        """By id."""
        self.whole = False
        """A snapshot arrived to its end, or a stream was resumed."""
        self._before: dict[str, str] = {}
        """MAC → presence before the doubt it is in."""
        self._missing: set[str] = set()
        """MACs that a fresh snapshot did not name, while its daemon has yet to look for them."""
        self._parts: list[Device] | None = None

    def hear(self, message: ServerMessage | None) -> list[Event]:
        """Fold one message in; return what is worth telling, in order."""
        match message:
            case InitialState():
                self._parts = list(message.devices)
                told = self._networks_now(message.networks)
                return told if message.more else told + self._snapshot()
            case Devices() if self._parts is not None:
                self._parts += message.devices
                return [] if message.more else self._snapshot()
            case Resumed():
                # What happened to the networks meanwhile follows as events.
                self._parts, self.whole = None, True
                self.networks = {network.id: network for network in message.networks}
            case Event():
                return self._event(message)
            case ScanUpdate():
                return self._scanned(message)
        return []

    # ---- events

    def _event(self, event: Event) -> list[Event]:
        if event.network in self.networks and event.kind in STATES:
            self.networks[event.network].state = STATES[event.kind]
        if event.network and event.kind in DOUBT:
            self._doubt(event.network, event.kind)
        device = event.device
        if device is None:
            return [event]
        known = self.devices.get(device.mac)
        if event.kind == "forgotten":
            self._drop(device.mac)
            return [event]
        self.devices[device.mac] = device
        self._missing.discard(device.mac)
        if event.kind not in VERDICTS:
            return [event]
        shown = self._before.pop(device.mac, known.status if known else None)
        doubted = (known and known.status == "unknown") or (event.previous or {}).get("status") == "unknown"
        return [] if doubted and shown == device.status else [event]

    def _doubt(self, network: str, kind: str) -> None:
        for device in self.devices.values():
            held = {address.network for address in device.addresses}
            if network not in held:
                continue
            if "self" in device.kinds and kind == "network_up":
                device.status = "online"  # this host needs nobody's verdict (DESIGN section 3)
            elif device.status == "online" and not any(self._up(other) for other in held - {network}):
                self._unsure(device)

    def _up(self, network: str) -> bool:
        return network in self.networks and self.networks[network].state == "up"

    def _unsure(self, device: Device) -> None:
        if device.status != "unknown":
            self._before[device.mac] = device.status
            device.status = "unknown"

    def _drop(self, mac: str) -> None:
        self.devices.pop(mac, None)
        self._before.pop(mac, None)
        self._missing.discard(mac)

    # ---- snapshots

    def _networks_now(self, networks: list[Network]) -> list[Event]:
        was, self.networks = self.networks, {network.id: network for network in networks}
        if not self.whole:
            return []
        told = [
            Event(cursor="", kind=kind, at="", network=now.id, reason=now.why)
            for now in networks
            if (kind := _became(was.get(now.id), now)) is not None
        ]
        gone = [id_ for id_, network in was.items() if id_ not in self.networks and network.state == "up"]
        return told + [Event(cursor="", kind="network_down", at="", network=id_, reason="it is gone") for id_ in gone]

    def _snapshot(self) -> list[Event]:
        """Take the collected snapshot; what differs from what was shown, where something was."""
        fresh, self._parts = {device.mac: device for device in self._parts or ()}, None
        if not self.whole:
            self.whole, self.devices = True, fresh
            return []
        told: list[Event] = []
        for mac, now in fresh.items():
            was = self.devices.get(mac)
            self._missing.discard(mac)
            told += self._appeared(now) if was is None else self._differences(was, now)
            self.devices[mac] = now
        for mac in self.devices.keys() - fresh.keys():
            self._missing.add(mac)
            self._unsure(self.devices[mac])
        return told + self._gone()

    def _appeared(self, now: Device) -> list[Event]:
        return [] if now.status == "unknown" else [_told(now.status, now.status_since, now)]

    def _differences(self, was: Device, now: Device) -> list[Event]:
        told = []
        shown = self._before.get(now.mac, was.status)
        if now.status == "unknown":
            self._before[now.mac] = shown
        else:
            self._before.pop(now.mac, None)
            if now.status != shown:
                told.append(_told(now.status, now.status_since, now, previous={"status": was.status}))
        held, holds = {address.ip for address in was.addresses}, {address.ip: address for address in now.addresses}
        told += [
            _told("address_added", holds[ip].first_seen, now, address=ip, network=holds[ip].network)
            for ip in holds
            if ip not in held
        ]
        told += [_told("address_removed", "", now, address=ip) for ip in sorted(held - holds.keys())]
        if was.hostname != now.hostname:
            told.append(_told("renamed", "", now, previous={"hostname": was.hostname}))
        words = {key: getattr(was, key) for key in WORDS if getattr(was, key) != getattr(now, key)}
        if words:
            told.append(_told("labelled", "", now, previous=words))
        return told

    def _scanned(self, update: ScanUpdate) -> list[Event]:
        for network in update.networks:
            if network in self.networks:
                self.networks[network].last_scan = update.finished_at
        told = []
        for now in update.devices:
            was = self.devices.get(now.mac)
            self._missing.discard(now.mac)
            told += self._appeared(now) if was is None else self._differences(was, now)
            self.devices[now.mac] = now
        return told + self._gone()

    def _gone(self) -> list[Event]:
        """Who is missing though the daemon has looked: a daemon that just started knows nobody yet."""
        gone = [mac for mac in self._missing if self._looked_for(self.devices[mac])]
        told = [_told("forgotten", "", self.devices[mac], reason="no longer in the list") for mac in sorted(gone)]
        for mac in gone:
            self._drop(mac)
        return told

    def _looked_for(self, device: Device) -> bool:
        networks = [self.networks.get(address.network) for address in device.addresses]
        return all(network is None or network.last_scan is not None for network in networks)


def _became(was: Network | None, now: Network) -> str | None:
    """The event that leads from one state of a network to the other."""
    if was is not None and was.state == now.state:
        return None
    return "network_recovered" if was and was.state == "silent" and now.state == "up" else KINDS.get(now.state)


def _told(kind: str, at: str, device: Device, *, previous: dict[str, object] | None = None, **more: str) -> Event:
    """A change that no event told us of; `at` may be empty: some time before now."""
    reason = more.pop("reason", device.reason)
    return Event(cursor="", kind=kind, at=at, device=device, previous=previous, reason=reason, **more)
