"""Table `[notify]` of services.toml: its channels and rules."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from msgspec import field

from netscanctl.services.notify.quiet import covers_day, parse_duration, parse_period
from netscanctl.services.notify.templates import template_faults
from netscanctl.services.settings import COMMON_CHECKS, ServiceTable, file_fault
from netscand.config import Checks, ConfigError, Table, Texts
from netscand.protocol import EventKind

NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
MAIL_ADDRESS = re.compile(r"[^\s@<>,;]+@[^\s@<>,;]+")
TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")
"""Name of a topic, as ntfy's server accepts it."""
SECRET_LIMIT = 64 * 1024
"""Maximum bytes of a secret."""
Way = Literal["ntfy", "webhook", "smtp", "apprise"]
Priority = Literal["min", "low", "default", "high", "urgent"]


# ---- checks


def _check_url(key: str, example: str) -> Callable[[str | None], Iterator[str]]:
    def check(url: str | None) -> Iterator[str]:
        try:
            parts = urlsplit(url or example)
            valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
            if not valid or parts.username is not None or re.search(r"\s", url or ""):
                raise ValueError
        except ValueError:
            yield f"{key} {url!r}: expected a URL such as {example}; put a password or token into secret_file"

    return check


def _ntfy(url: str | None) -> Iterator[str]:
    example = "https://ntfy.sh/TOPIC"
    parts = urlsplit(url or example)
    if faults := list(_check_url("ntfy", example)(url)):
        yield from faults
    elif parts.query or parts.fragment or not TOPIC.fullmatch(parts.path.rpartition("/")[2]):
        yield f"ntfy {url!r}: expected a URL that ends with a topic (letters, digits, - and _), such as {example}"


def _smtp(server: str | None) -> Iterator[str]:
    found = HOST.fullmatch(server or "localhost")
    if not found or (found[1] and not 0 < int(found[1]) < 65_536):
        yield f"smtp {server!r}: expected HOST or HOST:PORT, such as mail.example.org:587"


def _check_each(key: str, pattern: re.Pattern[str], wanted: str) -> Callable[[Iterable[str] | None], Iterator[str]]:
    def check(values: Iterable[str] | str | None) -> Iterator[str]:
        listed = [values] if isinstance(values, str) else values or ()
        yield from (f"{key} {one!r}: expected {wanted}" for one in listed if not pattern.fullmatch(one))

    return check


def _check_duration(key: str) -> Callable[[str], Iterator[str]]:
    def check(text: str) -> Iterator[str]:
        try:
            parse_duration(text)
        except ValueError:
            yield f"{key} {text!r}: expected a duration of up to 30 days, such as 90s, 2m, 1h or 1d"

    return check


def _quiet(periods: Sequence[str]) -> Iterator[str]:
    valid = True
    for period in periods:
        try:
            parse_period(period)
        except ValueError:
            valid = False
            yield f"quiet {period!r}: expected hours in local time, such as 22:00-07:00"
    if valid and covers_day(periods):
        yield f"quiet {list(periods)}: covers the whole day, so nothing would be sent; leave some hours"


CHANNEL_CHECKS: Checks = {
    "ntfy": _ntfy,
    "webhook": _check_url("webhook", "https://hooks.example.org/netscand"),
    "smtp": _smtp,
    "from": _check_each("from", MAIL_ADDRESS, "an address such as netscand@example.org"),
    "to": _check_each("to", MAIL_ADDRESS, "an address such as me@example.org"),
}
RULE_CHECKS: Checks = {
    "for": _check_duration("for"),
    "cooldown": _check_duration("cooldown"),
    "digest": _check_duration("digest"),
    "quiet": _quiet,
    "title": lambda text: template_faults("title", text),
    "text": lambda text: template_faults("text", text),
}
NOTIFY_CHECKS: Checks = {
    **COMMON_CHECKS,
    "ntfy": _ntfy,
    "page": _check_url("page", "https://scan.lan"),
}


# ---- the tables


class Channel(Table, frozen=True, rename={"sender": "from"}):
    """`[notify.channel.NAME]`: a receiver of messages; exactly one of the first four keys says which."""

    checks = CHANNEL_CHECKS

    ntfy: str | None = None
    webhook: str | None = None
    smtp: str | None = None
    apprise: bool = False
    secret_file: str | None = None
    ca_file: str | None = None
    sender: str | None = None
    to: Texts = ()
    user: str | None = None
    tls: Literal["starttls", "tls", "none"] = "starttls"

    @property
    def ways(self) -> list[Way]:
        """Return the keys that say how; exactly one in a valid channel."""
        ways: tuple[Way, ...] = ("ntfy", "webhook", "smtp", "apprise")
        return [way for way in ways if getattr(self, way)]


class Rule(Table, frozen=True, rename={"hold": "for"}):
    """`[notify.rule.NAME]`: which events are sent to which channels, and when."""

    checks = RULE_CHECKS

    kinds: tuple[EventKind, ...] = ("discovered",)
    devices: Texts = ()
    known: bool | None = None
    tags: Texts = ()
    people: Texts = ()
    networks: Texts = ()
    channels: Texts = ()
    hold: str = "0s"
    cooldown: str = "0s"
    digest: str = "0s"
    quiet: Texts = ()
    title: str | None = None
    text: str | None = None
    priority: Priority = "default"


class Notify(ServiceTable, frozen=True):
    """`[notify]`."""

    checks = NOTIFY_CHECKS

    ntfy: str | None = None
    page: str | None = None
    channel: dict[str, Channel] = field(default_factory=dict)
    rule: dict[str, Rule] = field(default_factory=dict)

    @property
    def channels(self) -> dict[str, Channel]:
        """Return the channels by name; the key `ntfy` makes one of that name."""
        return {**({"ntfy": Channel(ntfy=self.ntfy)} if self.ntfy else {}), **self.channel}

    @property
    def rules(self) -> dict[str, Rule]:
        """Return the rules by name, in their order; without any, devices that are new and not known."""
        return self.rule or {"new": Rule(known=False)}


# ---- what a table alone cannot show


def secret(name: str, channel: Channel, credentials: Path | None) -> str | None:
    """Return the secret of a channel, from its file or from systemd's credential; None: it has none.

    Raises ConfigError.
    """
    credential = credentials / f"netscand-notify.{name}" if credentials else None
    path = Path(channel.secret_file) if channel.secret_file else credential
    if path is None or (channel.secret_file is None and not path.exists()):
        return None
    try:
        with path.open("rb") as file:
            text = file.read(SECRET_LIMIT + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise ConfigError(f"[notify.channel.{name}] secret_file {str(path)!r}: cannot be read: {reason}") from None
    if not text or len(text) > SECRET_LIMIT:
        raise ConfigError(f"[notify.channel.{name}] secret_file {str(path)!r}: expected only the secret")
    return text


def faults(table: Notify, credentials: Path | None) -> Iterable[str]:
    """Yield a line for each combination of keys, and each file, that cannot be used."""
    if not table.channels:
        yield "no channel: set ntfy, or add a [notify.channel.NAME]"
    if table.ntfy and "ntfy" in table.channel:
        yield "ntfy: [notify.channel.ntfy] has the same name; remove one of the two"
    for name, channel in table.channel.items():
        yield from (f"channel.{name}: {fault}" for fault in _channel_faults(name, channel, credentials))
    for name, rule in table.rule.items():
        if not NAME.fullmatch(name):
            yield f"rule.{name}: expected a name of 1 to 32 letters, digits, - or _"
        yield from (f"rule.{name}: {fault}" for fault in _people_faults(rule))
        for channel_name in rule.channels:
            if channel_name not in table.channels:
                known = ", ".join(table.channels) or "none"
                yield f"rule.{name}: channels {channel_name!r}: no such channel; the channels are: {known}"


def _people_faults(rule: Rule) -> Iterator[str]:
    """Yield why a rule about people would never match: an event is about a person or about a device."""
    if not rule.people:
        return
    if not any(kind.startswith("person_") for kind in rule.kinds):
        yield f'people {list(rule.people)}: no kind is about people; add kinds, such as ["person_home", "person_away"]'
    about_devices = {"devices": rule.devices, "tags": rule.tags, "known": rule.known is not None}
    for key in (key for key, given in about_devices.items() if given):
        yield f"people and {key} exclude each other: no event is about a person and a device; write two rules"


def _channel_faults(name: str, channel: Channel, credentials: Path | None) -> Iterator[str]:
    from netscanctl.services.notify.senders import sender_faults

    if not NAME.fullmatch(name):
        yield "expected a name of 1 to 32 letters, digits, - or _"
    if len(channel.ways) != 1:
        yield f"expected one of ntfy, webhook, smtp and apprise, not {' and '.join(channel.ways) or 'none'}"
        return
    yield from file_fault("ca_file", channel.ca_file)
    unreadable = list(file_fault("secret_file", channel.secret_file))
    yield from unreadable
    if "smtp" not in channel.ways and (channel.sender or channel.to or channel.user):
        yield "from, to and user are keys of smtp; remove them"
    if not unreadable:
        try:
            yield from sender_faults(channel, secret(name, channel, credentials))
        except ConfigError as wrong:
            yield from wrong.faults
