"""State of the devices and networks, built from the stream: messages in, events to show out. No socket, no clock.

Two rules make this more than a dictionary:

- A network that goes up, down or silent sets its devices to `unknown` without an event for each of them. A device that
  returns to its earlier status is not shown.
- A new snapshot after a lost connection is compared with the earlier state, and only the differences are shown.
"""

from typing import Any

from netscand.protocol import (
    Address,
    Device,
    Devices,
    Event,
    InitialState,
    Network,
    Resumed,
    ScanUpdate,
    ServerMessage,
)

UNCERTAIN = {"network_up", "network_down", "network_silent"}
"""Events of a network that set its online devices to `unknown`, unless they are on another network too."""
STATE_AFTER = {"network_up": "up", "network_down": "down", "network_silent": "silent", "network_recovered": "up"}
KIND_FOR_STATE = {"up": "network_up", "down": "network_down", "silent": "network_silent"}
"""State of a network → event that leads to it."""
STATUS_KINDS = {"discovered", "online", "offline"}
ANNOTATIONS = ("label", "known", "notes")
"""Fields of a device that users set."""


class ClientState:
    """Devices and networks as received from the daemon."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        """By MAC."""
        self.networks: dict[str, Network] = {}
        """By id."""
        self.complete = False
        """A whole snapshot was received, or the stream was resumed."""
        self._status_before: dict[str, str] = {}
        """MAC → status before the device became `unknown`."""
        self._missing: set[str] = set()
        """MACs that are not in the last snapshot; a daemon that just started may not have scanned for them yet."""
        self._snapshot: list[Device] | None = None
        """Devices of an incomplete snapshot."""

    def on_message(self, message: ServerMessage | None) -> list[Event]:
        """Apply one message; return the events to show, in order."""
        match message:
            case InitialState():
                self._snapshot = list(message.devices)
                events = self._replace_networks(message.networks)
                return events if message.more else events + self._apply_snapshot()
            case Devices() if self._snapshot is not None:
                self._snapshot += message.devices
                return [] if message.more else self._apply_snapshot()
            case Resumed():
                # The daemon sends the changes of the networks since the cursor as events.
                self._snapshot, self.complete = None, True
                self.networks = {network.id: network for network in message.networks}
            case Event():
                return self._on_event(message)
            case ScanUpdate():
                return self._on_scan(message)
        return []

    # ---- events

    def _on_event(self, event: Event) -> list[Event]:
        if event.network in self.networks and event.kind in STATE_AFTER:
            self.networks[event.network].state = STATE_AFTER[event.kind]
        if event.network and event.kind in UNCERTAIN:
            self._mark_network_unknown(event.network, event.kind)
        device = event.device
        if device is None:
            return [event]
        known = self.devices.get(device.mac)
        if event.kind == "forgotten":
            self._remove(device.mac)
            return [event]
        self.devices[device.mac] = device
        self._missing.discard(device.mac)
        if event.kind not in STATUS_KINDS:
            return [event]
        shown = self._status_before.pop(device.mac, known.status if known else None)
        was_unknown = (known and known.status == "unknown") or (event.previous or {}).get("status") == "unknown"
        return [] if was_unknown and shown == device.status else [event]

    def _mark_network_unknown(self, network: str, kind: str) -> None:
        for device in self.devices.values():
            networks = {address.network for address in device.addresses}
            if network not in networks:
                continue
            if "self" in device.kinds and kind == "network_up":
                device.status = "online"  # this host is online without a scan
            elif device.status == "online" and not any(self._is_up(other) for other in networks - {network}):
                self._mark_unknown(device)

    def _is_up(self, network: str) -> bool:
        return network in self.networks and self.networks[network].state == "up"

    def _mark_unknown(self, device: Device) -> None:
        if device.status != "unknown":
            self._status_before[device.mac] = device.status
            device.status = "unknown"

    def _remove(self, mac: str) -> None:
        self.devices.pop(mac, None)
        self._status_before.pop(mac, None)
        self._missing.discard(mac)

    # ---- snapshots and scans

    def _replace_networks(self, networks: list[Network]) -> list[Event]:
        before, self.networks = self.networks, {network.id: network for network in networks}
        if not self.complete:
            return []
        events = [
            Event(cursor="", kind=kind, at="", network=network.id, reason=network.why)
            for network in networks
            if (kind := _network_event(before.get(network.id), network)) is not None
        ]
        removed = [id_ for id_, network in before.items() if id_ not in self.networks and network.state == "up"]
        return events + [
            Event(cursor="", kind="network_down", at="", network=id_, reason="no longer in the list") for id_ in removed
        ]

    def _apply_snapshot(self) -> list[Event]:
        """Replace the state by the collected snapshot; return the differences, if there was a state before."""
        devices, self._snapshot = self._snapshot or [], None
        if not self.complete:
            self.complete, self.devices = True, {device.mac: device for device in devices}
            return []
        events = self._update(devices)
        for mac in self.devices.keys() - {device.mac for device in devices}:
            self._missing.add(mac)
            self._mark_unknown(self.devices[mac])
        return events + self._remove_missing()

    def _on_scan(self, update: ScanUpdate) -> list[Event]:
        for network in update.networks:
            if network in self.networks:
                self.networks[network].last_scan = update.finished_at
        return self._update(update.devices) + self._remove_missing()

    def _update(self, devices: list[Device]) -> list[Event]:
        """Store the devices; return the differences."""
        events: list[Event] = []
        for device in devices:
            before = self.devices.get(device.mac)
            self._missing.discard(device.mac)
            if before is not None:
                events += self._differences(before, device)
            elif device.status != "unknown":
                events.append(_event(device.status, device.status_since, device))
            self.devices[device.mac] = device
        return events

    def _differences(self, before: Device, now: Device) -> list[Event]:
        events = []
        shown = self._status_before.get(now.mac, before.status)
        if now.status == "unknown":
            self._status_before[now.mac] = shown
        else:
            self._status_before.pop(now.mac, None)
            if now.status != shown:
                events.append(_event(now.status, now.status_since, now, previous={"status": before.status}))
        old, new = _by_scope(before), _by_scope(now)
        events += [
            _event("address_added", address.first_seen, now, address=address.ip, network=address.network)
            for key, address in new.items()
            if key not in old
        ]
        events += [_event("address_removed", "", now, address=old[key].ip) for key in sorted(old.keys() - new.keys())]
        if before.hostname != now.hostname:
            events.append(_event("renamed", "", now, previous={"hostname": before.hostname}))
        annotations = {key: getattr(before, key) for key in ANNOTATIONS if getattr(before, key) != getattr(now, key)}
        if annotations:
            events.append(_event("labelled", "", now, previous=annotations))
        return events

    def _remove_missing(self) -> list[Event]:
        """Remove missing devices once the daemon has scanned for them: right after its start it knows no devices."""
        removed = sorted(mac for mac in self._missing if self._was_scanned_for(self.devices[mac]))
        events = [_event("forgotten", "", self.devices[mac], reason="no longer in the list") for mac in removed]
        for mac in removed:
            self._remove(mac)
        return events

    def _was_scanned_for(self, device: Device) -> bool:
        networks = [self.networks.get(address.network) for address in device.addresses]
        return all(network is None or network.last_scan is not None for network in networks)


def _by_scope(device: Device) -> dict[str, Address]:
    """Return one address for each key whose changes are events: hosts make new IPv6 addresses at any time."""

    def key(ip: str) -> str:
        return ip if ":" not in ip else "link-local" if ip.startswith(("fe8", "fe9", "fea", "feb")) else "IPv6"

    return {key(address.ip): address for address in device.addresses}


def _network_event(before: Network | None, now: Network) -> str | None:
    """Return the kind of event that leads from one state of a network to the other."""
    if before is not None and before.state == now.state:
        return None
    if before and before.state == "silent" and now.state == "up":
        return "network_recovered"
    return KIND_FOR_STATE.get(now.state)


def _event(kind: str, at: str, device: Device, *, previous: dict[str, object] | None = None, **more: Any) -> Event:  # noqa: ANN401 - fields of the event
    """Return an event for a change found by comparison; `at` is empty if the time is unknown."""
    reason = more.pop("reason", device.reason)
    return Event(cursor="", kind=kind, at=at, device=device, previous=previous, reason=reason, **more)
