"""State of the devices and networks, built from the stream: messages in, events to show out. No socket, no clock.

Three rules make this more than a dictionary:

- A network that goes up, down or silent sets its devices to `unknown` without an event for each of them. A device that
  returns to its earlier status is not shown.
- A site of a hub that becomes silent sets its devices to `unknown`, never to `offline`, without an event for each.
- A new snapshot after a lost connection is compared with the earlier state, and only the differences are shown.
"""

from typing import Any

from msgspec import UNSET, UnsetType

from netscand.protocol import (
    Address,
    Device,
    Devices,
    Event,
    InitialState,
    Network,
    Person,
    Resumed,
    ScanUpdate,
    ServerMessage,
    Site,
)

UNCERTAIN = {"network_up", "network_down", "network_silent"}
"""Events of a network that set its online devices to `unknown`, unless they are on another network too."""
STATE_AFTER = {"network_up": "up", "network_down": "down", "network_silent": "silent", "network_recovered": "up"}
KIND_FOR_STATE = {"up": "network_up", "down": "network_down", "silent": "network_silent"}
"""State of a network → event that leads to it."""
STATUS_KINDS = {"discovered", "online", "offline"}
ANNOTATIONS = ("label", "known", "notes", "tags")
"""Fields of a device that users set."""


def at_site(site: str | UnsetType | None, name: str) -> str:
    """Return what identifies a device by its MAC, or a network by its id; on a hub, with the site."""
    return f"{site}/{name}" if site else name


def key_of(device: Device) -> str:
    """Return what identifies a device: its MAC; on a hub, its site and its MAC."""
    return at_site(device.site, device.mac)


def is_return_of_person(event: Event) -> bool:
    """Return whether a person is only certain again: home, or away, as before the doubt."""
    if not event.person or (event.previous or {}).get("status") != "unknown":
        return False
    return event.person.status_since != event.at


class ClientState:
    """Devices and networks as received from the daemon."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        """By `key_of`."""
        self.networks: dict[str, Network] = {}
        """By id; on a hub, by site and id."""
        self.people: dict[str, Person] = {}
        """By name, in lower case."""
        self.complete = False
        """A whole snapshot was received, or the stream was resumed."""
        self._status_before: dict[str, str] = {}
        """Device → status before it became `unknown`."""
        self._missing: set[str] = set()
        """Devices that are not in the last snapshot; a daemon that just started may not have scanned for them yet."""
        self._snapshot: list[Device] | None = None
        """Devices of an incomplete snapshot."""

    def on_message(self, message: ServerMessage | None) -> list[Event]:
        """Apply one message; return the events to show, in order."""
        match message:
            case InitialState():
                self._snapshot = list(message.devices)
                self.people = {person.name.casefold(): person for person in message.people}
                events = self._replace_networks(message.networks)
                return events if message.more else events + self._apply_snapshot()
            case Devices() if self._snapshot is not None:
                self._snapshot += message.devices
                return [] if message.more else self._apply_snapshot()
            case Resumed():
                # The daemon sends the changes of the networks since the cursor as events.
                self._snapshot, self.complete = None, True
                self.networks = _by_key(message.networks)
                for site in message.sites or ():
                    self._on_site(site)
            case Event():
                return self._on_event(message)
            case ScanUpdate():
                return self._on_scan(message)
        return []

    # ---- events

    def _on_event(self, event: Event) -> list[Event]:
        network = at_site(event.site, event.network) if event.network else ""
        if network in self.networks and event.kind in STATE_AFTER:
            self.networks[network].state = STATE_AFTER[event.kind]
        if network and event.kind in UNCERTAIN:
            self._mark_network_unknown(network, event.kind)
        if event.kind == "site_removed" and event.site:
            self._remove_site(event.site)
        if isinstance(event.state, Site):
            self._on_site(event.state)
        device = event.device
        if event.person:
            return self._on_person(event, event.person)
        if device is None:
            return [event]
        key = key_of(device)
        known = self.devices.get(key)
        if event.kind == "forgotten":
            self._remove(key)
            return [event]
        self.devices[key] = device
        self._missing.discard(key)
        if event.kind not in STATUS_KINDS:
            return [event]
        shown = self._status_before.pop(key, known.status if known else None)
        was_unknown = (known and known.status == "unknown") or (event.previous or {}).get("status") == "unknown"
        return [] if was_unknown and shown == device.status else [event]

    def _on_person(self, event: Event, person: Person) -> list[Event]:
        if event.site:  # a hub lists no people, and two sites may have one of the same name
            return [] if is_return_of_person(event) else [event]
        former = (event.previous or {}).get("name")
        if isinstance(former, str):
            self.people.pop(former.casefold(), None)
        if event.kind == "person_removed":
            self.people.pop(person.name.casefold(), None)
        else:
            self.people[person.name.casefold()] = person
        return [] if is_return_of_person(event) else [event]

    def _mark_network_unknown(self, network: str, kind: str) -> None:
        for device in self.devices.values():
            networks = {at_site(device.site, address.network) for address in device.addresses}
            if network not in networks:
                continue
            if "self" in device.kinds and kind == "network_up":
                device.status = "online"  # this host is online without a scan
            elif "self" in device.kinds and kind == "network_silent":
                continue  # it is not one of those that fell silent
            elif device.status == "online" and not any(self._is_up(other) for other in networks - {network}):
                self._mark_unknown(device)

    def _is_up(self, network: str) -> bool:
        return network in self.networks and self.networks[network].state == "up"

    def _mark_unknown(self, device: Device) -> None:
        if device.status != "unknown":
            self._status_before[key_of(device)] = device.status
            device.status = "unknown"

    def _on_site(self, site: Site) -> None:
        """Mark the devices of a silent site `unknown`; of another one, with the status that it reported."""
        for device in [each for each in self.devices.values() if each.site == site.site]:
            if site.state != "silent":
                device.status = device.status_at_site or device.status
                device.status_at_site = UNSET
            elif not device.status_at_site and device.status != "unknown":
                device.status_at_site = device.status
                self._mark_unknown(device)

    def _remove_site(self, site: str) -> None:
        """Remove what a site had; a client that resumes gets no event for each device."""
        self.networks = {key: network for key, network in self.networks.items() if network.site != site}
        for key in [key for key, device in self.devices.items() if device.site == site]:
            self._remove(key)

    def _remove(self, key: str) -> None:
        self.devices.pop(key, None)
        self._status_before.pop(key, None)
        self._missing.discard(key)

    # ---- snapshots and scans

    def _replace_networks(self, networks: list[Network]) -> list[Event]:
        before, self.networks = self.networks, _by_key(networks)
        if not self.complete:
            return []
        events = [
            Event(cursor="", kind=kind, at="", network=network.id, reason=network.why, site=network.site)
            for key, network in self.networks.items()
            if (kind := _network_event(before.get(key), network)) is not None
        ]
        gone = [network for key, network in before.items() if key not in self.networks and network.state == "up"]
        reason = "no longer in the list"
        return events + [
            Event(cursor="", kind="network_down", at="", network=network.id, reason=reason, site=network.site)
            for network in gone
        ]

    def _apply_snapshot(self) -> list[Event]:
        """Replace the state by the collected snapshot; return the differences, if there was a state before."""
        devices, self._snapshot = self._snapshot or [], None
        if not self.complete:
            self.complete, self.devices = True, {key_of(device): device for device in devices}
            return []
        events = self._update(devices)
        for key in self.devices.keys() - {key_of(device) for device in devices}:
            self._missing.add(key)
            self._mark_unknown(self.devices[key])
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
            key = key_of(device)
            before = self.devices.get(key)
            self._missing.discard(key)
            if before is not None:
                events += self._differences(before, device)
            elif device.status != "unknown":
                events.append(_event(device.status, device.status_since, device))
            self.devices[key] = device
        return events

    def _differences(self, before: Device, now: Device) -> list[Event]:
        events = []
        key = key_of(now)
        shown = self._status_before.get(key, before.status)
        if now.status == "unknown":
            self._status_before[key] = shown
        else:
            self._status_before.pop(key, None)
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
        removed = sorted(key for key in self._missing if self._was_scanned_for(self.devices[key]))
        events = [_event("forgotten", "", self.devices[key], reason="no longer in the list") for key in removed]
        for key in removed:
            self._remove(key)
        return events

    def _was_scanned_for(self, device: Device) -> bool:
        networks = [self.networks.get(at_site(device.site, address.network)) for address in device.addresses]
        return all(network is None or network.last_scan is not None for network in networks)


def _by_key(networks: list[Network]) -> dict[str, Network]:
    return {at_site(network.site, network.id): network for network in networks}


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
    return Event(cursor="", kind=kind, at=at, device=device, previous=previous, reason=reason, site=device.site, **more)
