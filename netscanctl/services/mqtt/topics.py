"""Topics of one site, and which of them are ours."""

import re
from dataclasses import dataclass
from hashlib import sha256

from netscanctl.services.mqtt.settings import Mqtt

DEFAULT_SITE = "home"
"""Site whose entities have the ids of the former recipe, so that they are kept."""


def compact(mac: str) -> str:
    """Return a MAC as in topics and ids: 12 hexadecimal digits."""
    return mac.replace(":", "")


def mac_of(compact_mac: str) -> str:
    """Return a MAC from its 12 digits."""
    return ":".join(compact_mac[at : at + 2] for at in range(0, 12, 2))


def person_id(name: str) -> str:
    """Return a person's part of topics and ids: 16 hexadecimal digits, which no MAC has."""
    return sha256(name.casefold().encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Topics:
    """Topics of one site. No name from the LAN is ever in one."""

    base: str
    site: str
    prefix: str
    """Of Home Assistant's discovery; "": none."""

    @classmethod
    def of(cls, table: Mqtt) -> "Topics":
        """Return the topics for a configuration."""
        return cls(f"{table.topic}/{table.site}", table.site, table.discovery_prefix)

    @property
    def bridge(self) -> str:
        """Return the topic of availability."""
        return f"{self.base}/bridge"

    @property
    def status(self) -> str:
        """Return the topic of the counts and problems."""
        return f"{self.base}/status"

    @property
    def event(self) -> str:
        """Return the topic of the events."""
        return f"{self.base}/event"

    @property
    def command(self) -> str:
        """Return the topic of commands to us."""
        return f"{self.base}/command"

    @property
    def end_of_list(self) -> str:
        """Return the topic of our own message that ends the list of retained messages."""
        return f"{self.base}/end_of_list"

    @property
    def birth(self) -> str:
        """Return the topic in which Home Assistant reports its start."""
        return f"{self.prefix}/status"

    @property
    def hub_config(self) -> str:
        """Return the discovery topic of the site itself."""
        return f"{self.prefix}/device/netscand_{self.site}/config"

    def device(self, mac: str) -> str:
        """Return the state topic of a device."""
        return f"{self.base}/device/{compact(mac)}"

    def location(self, mac: str) -> str:
        """Return the topic of a device's zone, by name."""
        return f"{self.device(mac)}/location"

    def config(self, mac: str) -> str:
        """Return the discovery topic of a device."""
        return f"{self.prefix}/device/netscand_{self.site}_{compact(mac)}/config"

    def person(self, name: str) -> str:
        """Return the state topic of a person."""
        return f"{self.base}/person/{person_id(name)}"

    def person_config(self, name: str) -> str:
        """Return the discovery topic of a person."""
        return f"{self.prefix}/device/netscand_{self.site}_person_{person_id(name)}/config"

    def old_config(self, mac: str) -> str:
        """Return the discovery topic that the former recipe used."""
        return f"{self.prefix}/device_tracker/netscand_{compact(mac)}/config"

    @property
    def retained_filters(self) -> list[str]:
        """Return subscriptions that cover every retained topic of this site, and those of the former recipe."""
        found = [
            f"{self.base}/status",
            f"{self.base}/device/+",
            f"{self.base}/device/+/location",
            f"{self.base}/person/+",
        ]
        if self.prefix:
            found += [f"{self.prefix}/device/+/config", f"{self.prefix}/device_tracker/+/config"]
            found += ["netscand/+", "netscand/+/state"]  # states of the former recipe
        return found

    def mac(self, topic: str) -> str | None:
        """Return the MAC if the topic is one of a device's state or zone."""
        found = re.fullmatch(rf"{re.escape(self.base)}/device/([0-9a-f]{{12}})(?:/location)?", topic)
        return mac_of(found[1]) if found else None

    def is_ours(self, topic: str) -> bool:
        """Return whether a retained topic belongs to this site, and to no site whose name begins with its name."""
        ends = "(_[0-9a-f]{12}|_person_[0-9a-f]{16})?"
        config = rf"{re.escape(self.prefix)}/device/netscand_{re.escape(self.site)}{ends}/config"
        state = rf"{re.escape(self.base)}/(status|device/[0-9a-f]{{12}}(/location)?|person/[0-9a-f]{{16}})"
        return bool((self.prefix and re.fullmatch(config, topic)) or re.fullmatch(state, topic))

    def old_mac(self, topic: str) -> str | None:
        """Return the MAC if the topic is one of the former recipe, whose entities the default site takes over."""
        config = rf"{re.escape(self.prefix)}/device_tracker/netscand_([0-9a-f]{{12}})/config"
        found = re.fullmatch(rf"{config}|netscand/([0-9a-f]{{12}})(?:/state)?", topic)
        return mac_of(found[1] or found[2]) if found and self.prefix and self.site == DEFAULT_SITE else None
