"""Messages from events: title, text, link. Pure, but for the local time zone. All text from the LAN is cleaned."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, tzinfo
from urllib.parse import quote

from netscanctl.services.notify.settings import Rule
from netscanctl.services.notify.state import Entry, Message
from netscanctl.services.notify.templates import fill
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand.protocol import Device, Event

TITLES = {
    "discovered": "New device: {name}",
    "online": "{name} is online",
    "offline": "{name} is offline",
    "address_added": "{name} has a new address: {address}",
    "address_removed": "{name} no longer has {address}",
    "address_moved": "{address} moved to {name}",
    "address_conflict": "Address conflict: {name} uses {address}, too",
    "same_host": "{name} is the same host as {other}",
    "renamed": "{name} has a new host name",
    "labelled": "{name} was edited",
    "kind_changed": "{name} is of another kind",
    "forgotten": "{name} was forgotten",
    "gateway_changed": "Another device uses the gateway's address {address}",
    "dhcp_server_seen": "New DHCP server: {name}",
    "network_up": "Network {network} is up",
    "network_down": "Network {network} is down",
    "network_silent": "Network {network} is silent",
    "network_recovered": "Network {network} answers again",
    "unknown": "{name} can no longer be seen",
    "merged": "{other} was merged into {name}",
    "split": "{name} was separated from {other}",
    "person_home": "{name} is home",
    "person_away": "{name} has left",
    "person_unknown": "Whether {name} is home is unknown",
    "person_changed": "{name} was edited",
    "person_removed": "{name} was removed",
    "flood": "Too many new devices on {network}",
    "snapshot": "{name} was published again by its site",
    "site_snapshot": "A site has published all of its devices again",
    "site_up": "A site is connected",
    "site_silent": "A site is silent",
    "site_changed": "The condition of a site has changed",
    "site_removed": "A site was removed",
}
"""Kind → title."""
UNEXPECTED = {
    "dhcp_server_seen": ("not in expected_dhcp", "Unexpected DHCP server: {name}"),
    "gateway_changed": ("not in expected_gateway", "Unexpected gateway at {address}: {name}"),
}
"""Kind → part of the reason if the configuration does not expect it, and the title then; a digest has titles only."""
NOUNS = {
    "discovered": ("new device", "new devices"), "online": ("online", "online"), "offline": ("offline", "offline"),
}  # fmt: skip
TITLE_LIMIT, TEXT_LIMIT = 250, 3500
"""Maximum characters; ntfy makes an attachment of more than 4,096 bytes."""
MOST_LINES = 20
"""Lines of a digest."""
MOST_EVENTS = 100
"""Events in the data of one message."""
NOTHING = "-"


class Composer:
    """Maker of messages; `page` is the URL of the page, for links."""

    def __init__(self, page: str | None = None, zone: tzinfo | None = None) -> None:
        self._page = page.rstrip("/") if page else None
        self._zone = zone

    def message(self, rule: Rule, entry: Entry) -> Message:
        """Return the message about one event."""
        event = entry.event
        values = self._values(event)
        title, text = self._title(rule, event, values), fill(rule.text or _text_of(event), values)
        text = "\n".join(part for part in (text.strip(), entry.note) if part)
        return Message(
            id=event.cursor, kind=event.kind, at=event.at, title=title, text=text[:TEXT_LIMIT], priority=rule.priority,
            link=self._link(event.device), events=[event],
        )  # fmt: skip

    def digest(self, rule: Rule, entries: Sequence[Entry], more: int = 0) -> Message:
        """Return one message about several events."""
        lines = []
        for entry in entries[:MOST_LINES]:
            values = self._values(entry.event)
            note = f" ({entry.note})" if entry.note else ""
            lines.append(f"{values['time']}  {self._title(rule, entry.event, values)}{note}")
        count = len(entries) + more
        if count > len(lines):
            lines.append(f"and {count - len(lines)} more")
        kinds = Counter(entry.event.kind for entry in entries)
        parts = [f"{number} {_noun(kind, number)}" for kind, number in kinds.most_common(3)]
        return Message(
            id=entries[0].event.cursor, kind="digest", at=entries[-1].event.at,
            title=clean(", ".join(parts), TITLE_LIMIT),
            text="\n".join(lines)[:TEXT_LIMIT], priority=rule.priority, link=self._page,
            events=[entry.event for entry in entries[:MOST_EVENTS]], count=count,
        )  # fmt: skip

    def _title(self, rule: Rule, event: Event, values: dict[str, str]) -> str:
        title = rule.title or _title_of(event)
        return clean(fill(title, values), TITLE_LIMIT)

    def _values(self, event: Event) -> dict[str, str]:
        device = event.device
        return {
            "name": name_of(event),
            "label": clean((device and device.label) or NOTHING),
            "hostname": clean((device and device.hostname) or NOTHING),
            "mac": clean((device and device.mac) or NOTHING),
            "ip": clean((device and device.ip) or NOTHING),
            "address": clean(event.address or (device and device.ip) or NOTHING),
            "vendor": clean((device and (device.vendor or (device.randomized_mac and "randomized MAC"))) or NOTHING),
            "tags": clean(" ".join(device.tags if device else ()) or NOTHING),
            "status": clean((device and device.status) or NOTHING),
            "kind": clean(event.kind),
            "reason": clean(event.reason, SENTENCE_LIMIT),
            "network": clean(event.network or NOTHING),
            "other": clean(event.other or NOTHING),
            "time": self._local(event.at),
            "link": self._link(device) or "",
        }

    def _link(self, device: Device | None) -> str | None:
        """Return the address of the device's page: its MAC is the fragment."""
        if self._page is None or device is None:
            return self._page
        return f"{self._page}/#{quote(device.mac, safe=':')}"

    def _local(self, at: str) -> str:
        try:
            return f"{datetime.fromisoformat(at).astimezone(self._zone):%Y-%m-%d %H:%M}"
        except ValueError:
            return NOTHING


def name_of(event: Event) -> str:
    """Return the name of the person or device, else its vendor and MAC; for an event without a device, the address."""
    device = event.device
    if event.person:
        return clean(event.person.name)
    if device is None:
        return clean(event.address or event.network or NOTHING)
    if device.label or device.hostname:
        return clean(device.label or device.hostname)
    return f"{clean(device.vendor)} {clean(device.mac)}" if device.vendor else clean(device.mac)


def merge(last: Message, new: Message) -> Message:
    """Return one message instead of two: the queue of a channel is full."""
    text = last.text if last.kind == "digest" else f"{last.title}"
    return Message(
        id=last.id, kind="digest", at=new.at, title=f"{last.count + new.count} notifications",
        text=f"{text}\n{new.title}"[:TEXT_LIMIT], priority=new.priority, link=None,
        events=(last.events + new.events)[:MOST_EVENTS], count=last.count + new.count,
    )  # fmt: skip


def _noun(kind: str, number: int) -> str:
    return NOUNS[kind][number > 1] if kind in NOUNS else kind.replace("_", " ")


def _title_of(event: Event) -> str:
    part, title = UNEXPECTED.get(event.kind, ("", ""))
    return title if part and part in (event.reason or "") else TITLES.get(event.kind, "{kind}: {name}")


def _text_of(event: Event) -> str:
    if event.device is None:
        return "{time}: {reason}"
    other = "\nother device: {other}" if event.other else ""
    return f"{{vendor}}\n{{ip}}, {{mac}}{other}\n{{network}}, {{time}}: {{reason}}"
