"""Payloads for devices, the site and Home Assistant's discovery. Pure: the state in, topics with JSON out.

Names from the LAN are hostile: they are values in JSON, and never in a topic or a template.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec

from netscanctl.services.mqtt.settings import Mqtt
from netscanctl.services.mqtt.topics import DEFAULT_SITE, Topics, compact, person_id
from netscanctl.services.patterns import is_device
from netscanctl.text import NAME_LIMIT, SENTENCE_LIMIT, clean
from netscand import __version__
from netscand.protocol import Device, Person

Document = dict[str, Any]
HOME, AWAY = "home", "not_home"
PRESENCE = {"online": HOME, "offline": AWAY}
REMOVED: Document = {"tracker": {"p": "device_tracker"}, "connectivity": {"p": "binary_sensor"}}
"""Components with nothing but a platform: Home Assistant removes them if they exist. Those left out, it keeps."""
NO_LEASE: Document = {"address_origin": None, "dhcp_server": None, "lease_seconds": None}
NEW_DEVICE = (
    "{{ {'event_type': 'discovered', 'mac': value_json.device.mac, 'ip': value_json.device.ip, "
    "'host_name': value_json.device.hostname, 'vendor': value_json.device.vendor, 'at': value_json.at} | to_json "
    "if value_json.kind == 'discovered' and value_json.device else '' }}"
)
"""Template that yields nothing for other events; Home Assistant ignores an empty payload."""

encode = msgspec.json.Encoder(order="deterministic").encode


class Documents:
    """Payloads by topic, for one configuration."""

    def __init__(self, table: Mqtt) -> None:
        self.topics = Topics.of(table)
        self._table = table
        self._presence: dict[str, str] = {}
        """MAC → `home` or `not_home`, as far as it was ever certain."""
        self._leases: dict[str, Document] = {}
        """MAC → what is published of its DHCP lease."""
        self._own_ids = "netscand" if table.site == DEFAULT_SITE else f"netscand_{table.site}"

    # ---- devices

    def includes(self, device: Device) -> bool:
        """Return whether a device is published."""
        return device.known or self._table.devices == "all"

    def remember(self, mac: str, payload: bytes) -> None:
        """Take presence and lease from a retained state of an earlier run, unless newer ones are known."""
        try:
            state = msgspec.json.decode(payload)
            presence, lease = state.get("presence"), {name: state.get(name) for name in NO_LEASE}
        except (msgspec.DecodeError, AttributeError, RecursionError):  # any client of the broker may have written it
            return
        if presence in (HOME, AWAY):
            self._presence.setdefault(mac, presence)
        self._leases.setdefault(mac, lease)

    def set_lease(self, device: Device) -> bool:
        """Take the lease from the answer about a single device; return whether what is published of it has changed."""
        lease = device.dhcp or None
        found: Document = {
            "address_origin": device.address_origin or None,
            "dhcp_server": clean(lease.server) if lease else None,
            "lease_seconds": lease.lease_seconds if lease else None,
        }
        was, self._leases[device.mac] = self._leases.get(device.mac, NO_LEASE), found
        return found != was

    def forget(self, mac: str) -> None:
        """Discard what is known of a device that is published no longer."""
        self._presence.pop(mac, None)
        self._leases.pop(mac, None)

    def device(self, device: Device) -> dict[str, bytes]:
        """Return every retained topic of a device with its payload."""
        presence = self._presence_of(device)
        state: Document = {
            "status": device.status,
            "presence": presence,
            "mac": device.mac,
            "ip": device.ip,
            "host_name": _name(device.hostname),
            "label": _name(device.label),
            "tags": [clean(tag) for tag in device.tags],
            "vendor": _name(device.vendor),
            "kind": _name(device.kind or None),
            "reason": clean(device.reason, SENTENCE_LIMIT),
            "status_since": device.status_since,
            **self._leases.get(device.mac, NO_LEASE),
        }
        if presence is not None:
            state["in_zones"] = [self._table.zone] if presence == HOME else []
        found = {self.topics.device(device.mac): encode(state)}
        if self._has_zone:
            found[self.topics.location(device.mac)] = self._location(presence).encode()
        if self.topics.prefix:
            found[self.topics.config(device.mac)] = encode(self._device_config(device))
        return found

    def _presence_of(self, device: Device) -> str | None:
        """Return `home` or `not_home`; while the status is unknown, the last known one, or None (law 8)."""
        if device.status in PRESENCE:
            self._presence[device.mac] = PRESENCE[device.status]
        elif self._table.unknown == "unknown":
            return None
        return self._presence.get(device.mac)

    @property
    def _has_zone(self) -> bool:
        """Return whether the zone is another one than Home Assistant's own."""
        return self._table.zone != "zone.home"

    def _location(self, presence: str | None) -> str:
        """Return the payload of a tracker in another zone: the zone's name."""
        if presence is None:
            return "None"
        return self._table.zone.removeprefix("zone.").replace("_", " ").title() if presence == HOME else AWAY

    def _device_config(self, device: Device) -> Document:
        topic, id_ = self.topics.device(device.mac), f"{self._own_ids}_{compact(device.mac)}"
        shared = {"unique_id": id_, "name": None, "json_attributes_topic": topic}
        components: Document = dict(REMOVED)
        if self.is_connectivity(device):
            components["connectivity"] = {
                "p": "binary_sensor", "device_class": "connectivity", "state_topic": topic,
                "value_template": "{{ value_json.presence }}", "payload_on": HOME, "payload_off": AWAY, **shared,
            }  # fmt: skip
        else:
            where = {"state_topic": topic, "value_template": "{{ value_json.presence }}"}
            if self._has_zone:
                where = {"state_topic": self.topics.location(device.mac)}
            components["tracker"] = {"p": "device_tracker", "source_type": "router", **where, **shared}
        about = {
            "ids": [f"netscand_{compact(device.mac)}"],
            "cns": [["mac", device.mac]],
            "name": _name(device.label) or _name(device.hostname) or device.mac,
            "via_device": f"netscand_{self._table.site}",
        }
        if vendor := _name(device.vendor):
            about["mf"] = vendor
        return self._config(about, components)

    # ---- people

    def person(self, person: Person) -> dict[str, bytes]:
        """Return every retained topic of a person with its payload."""
        presence = {"home": HOME, "away": AWAY}.get(person.status)
        if presence is None and self._table.unknown == "keep":
            presence = {"home": HOME, "away": AWAY}.get(person.last_status or "")
        state: Document = {
            "name": clean(person.name), "status": person.status, "presence": presence,
            "status_since": person.status_since, "reason": clean(person.reason, SENTENCE_LIMIT),
            "devices": [each.mac for each in person.devices],
        }  # fmt: skip
        if presence is not None:
            state["in_zones"] = [self._table.zone] if presence == HOME else []
        topic = self.topics.person(person.name)
        found = {topic: encode(state)}
        if self.topics.prefix:
            id_ = f"netscand_{self._table.site}_person_{person_id(person.name)}"
            location = "{{ value_json.presence }}"
            if self._has_zone:
                location = (
                    f"{{{{ {self._location(HOME)!r} if value_json.presence == 'home' else value_json.presence }}}}"
                )
            tracker = {
                "p": "device_tracker", "source_type": "router", "state_topic": topic, "value_template": location,
                "unique_id": id_, "name": None, "json_attributes_topic": topic,
            }  # fmt: skip
            about = {"ids": [id_], "name": clean(person.name), "via_device": f"netscand_{self._table.site}"}
            found[self.topics.person_config(person.name)] = encode(self._config(about, {"tracker": tracker}))
        return found

    def is_connectivity(self, device: Device) -> bool:
        """Return whether a device is a thing by configuration, not what a person carries."""
        return is_device(device, self._table.connectivity)

    def unmatched(self, devices: Collection[Device]) -> Iterator[str]:
        """Yield a line for each entry of `connectivity` that fits no device: it may be mistyped, or come later."""
        for entry in self._table.connectivity:
            if not any(is_device(device, [entry]) for device in devices):
                yield f"[mqtt] connectivity {entry!r}: there is no such device now; to list them: netscanctl devices"

    # ---- the site

    def hub(self) -> dict[str, bytes]:
        """Return the discovery of the site itself: sensors, the event, and the button if commands are allowed."""
        if not self.topics.prefix:
            return {}
        id_, status = f"netscand_{self._table.site}", self.topics.status
        components: Document = {
            "online": {
                "p": "sensor", "unique_id": f"{id_}_online", "name": "Devices online", "state_topic": status,
                "value_template": "{{ value_json.online }}", "state_class": "measurement",
                "unit_of_measurement": "devices", "json_attributes_topic": status,
            },
            "problem": {
                "p": "binary_sensor", "unique_id": f"{id_}_problem", "name": "Problem", "device_class": "problem",
                "state_topic": status, "value_template": "{{ 'ON' if value_json.problems else 'OFF' }}",
                "json_attributes_topic": status,
            },
            "new_device": {
                "p": "event", "unique_id": f"{id_}_new_device", "name": "New device", "state_topic": self.topics.event,
                "event_types": ["discovered"], "value_template": NEW_DEVICE,
            },
        }  # fmt: skip
        components["scan"] = {"p": "button"}
        if self._table.commands:
            components["scan"] |= {
                "unique_id": f"{id_}_scan", "name": "Scan now", "command_topic": self.topics.command,
                "payload_press": "scan_now",
            }  # fmt: skip
        name = "netscand" if self._table.site == DEFAULT_SITE else f"netscand {self._table.site}"
        about = {"ids": [id_], "name": name, "sw": __version__}
        return {self.topics.hub_config: encode(self._config(about, components))}

    def status(self, devices: Iterable[Device], problems: Iterable[str]) -> dict[str, bytes]:
        """Return the counts, as the daemon's own without this host, and the problems."""
        counts = {"online": 0, "offline": 0, "unknown": 0}
        for device in devices:
            if "self" not in device.kinds and device.status in counts:
                counts[device.status] += 1
        shown = [clean(problem, SENTENCE_LIMIT) for problem in problems]
        return {self.topics.status: encode({**counts, "problems": shown})}

    def _config(self, about: Document, components: Document) -> Document:
        origin = {"name": "netscand", "sw": __version__}
        return {"dev": about, "o": origin, "avty_t": self.topics.bridge, "qos": 1, "cmps": components}


def _name(text: str | None) -> str | None:
    return clean(text, NAME_LIMIT) or None if text else None
