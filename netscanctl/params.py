"""Parameters of commands: DEVICE, time, duration, kinds of events."""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import wraps
from ipaddress import IPv4Address, IPv4Network, ip_address, summarize_address_range
from typing import Any, TypeVar, get_args

import click

from netscanctl.client import Client, Failure, Usage, device_path, find_daemon, socket_or_url
from netscanctl.render import title
from netscanctl.text import clean
from netscand.protocol import (
    LONGEST_TAG,
    TAG_PATTERN,
    Conflict,
    Device,
    DeviceList,
    EventKind,
    NetworkList,
    PeopleList,
    SiteList,
    has_name,
)

# ---- duration ------------------------------------------------------------------------------------------------------
# Durations on the command line: seconds, or with a unit: `90`, `90s`, `30m`, `1.5 h`, `3d`, `1w`. Pure.

UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""Unit → seconds."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|m|h|d|w|)")

Callback = Callable[[click.Context, click.Parameter, str | None], float | None]


def parse_seconds(text: str) -> float | None:
    """Return the seconds; None if the text is not a duration."""
    found = _DURATION.fullmatch(text.strip())
    return float(found[1]) * UNITS[found[2]] if found else None


def duration(minimum: float, maximum: float = 0.0, keyword: str = "") -> Callback:
    """Return a click callback for seconds from `minimum` to `maximum` (0: no limit).

    The callback returns None for `keyword` or a missing option, and raises BadParameter.
    """
    bounds = (
        f"{minimum:g} to {maximum:g} seconds"
        if maximum
        else f"at least {minimum:g} {'second' if minimum == 1 else 'seconds'}"
    )
    expected = f"expected {bounds}, optionally with a unit (90s, 30m, 2h)" + (f', or "{keyword}"' if keyword else "")

    def parse(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
        if text is None or (keyword and text == keyword):
            return None
        seconds = parse_seconds(text)
        if seconds is None or seconds < minimum or (maximum and seconds > maximum):
            raise click.BadParameter(f'"{text}": {expected}')
        return seconds

    return parse


# ---- kinds ---------------------------------------------------------------------------------------------------------
# Option `--kind`: kinds of events, comma-separated or repeated.

F = TypeVar("F", bound=Callable[..., object])
KINDS: tuple[str, ...] = get_args(EventKind)


def kind_option(noun: str) -> Callable[[F], F]:
    """Add `--kind` to a command, as its argument `kinds`; `noun` is used in the help."""
    text = f"Only {noun} of this kind (online, offline, discovered, …); comma-separated or repeated for several."
    return click.option("--kind", "kinds", metavar="KIND", multiple=True, callback=_parse, shell_complete=_complete,
                        help=text)  # fmt: skip


def _parse(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return each kind once, in the given order. Raises BadParameter."""
    kinds = tuple(dict.fromkeys(kind.strip() for value in values for kind in value.split(",")))
    for kind in kinds:
        if kind not in KINDS:
            raise click.BadParameter(f'unknown kind "{kind}"; expected {", ".join(KINDS)}')
    return kinds


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{kind}" for kind in KINDS if kind.startswith(last)]


# ---- since ---------------------------------------------------------------------------------------------------------
# Options `--since` and `--until`: a cursor, a time, or an age. Pure.

_CURSOR = re.compile(r"[0-9a-z]+[-~][0-9]+")
_EXPECTED = '{} "{}": expected a cursor (such as k3f9-118)'
_DAY_ENDS = timedelta(days=1) - timedelta(milliseconds=1)


def parse_since(text: str, now: datetime, *, until: bool = False) -> str:
    """Return the API parameter `since`: a cursor as it is; a local time, or an age, as a time in UTC. Raises Usage.

    `until`: the parameter `until`, which includes a day given without a time.
    """
    text = text.strip()
    if text in ("today", "yesterday"):
        text = f"{now - timedelta(days=text == 'yesterday'):%Y-%m-%d}"
    try:
        if until and re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return _utc(datetime.fromisoformat(text) + _DAY_ENDS)
        if not text[-1:].isdigit() and (age := parse_seconds(text)) is not None:  # 2026 is not a duration
            return _utc(now - timedelta(seconds=age))
        if re.match(r"\d{4}-\d\d-\d\d", text):
            return _utc(datetime.fromisoformat(text))
        if re.fullmatch(r"\d\d?:\d\d(:\d\d)?", text):
            return _utc(datetime.fromisoformat(f"{now:%Y-%m-%d} {text:0>5}"))
    except (ValueError, OverflowError):
        pass
    if _CURSOR.fullmatch(text):
        return text
    expected = _EXPECTED.format("--until" if until else "--since", text)
    raise Usage(f"{expected}, a time (2026-11-23 10:00, 10:00, today), or an age (2h, 3d)")


def parse_cursor(text: str) -> str:
    """Return a cursor as it is. Raises Usage."""
    if _CURSOR.fullmatch(text.strip()):
        return text.strip()
    raise Usage(f"{_EXPECTED.format('--since', text)}; for a time or an age: netscanctl events --since")


def _utc(at: datetime) -> str:
    """Format a time as RFC 3339; a time without a zone is local."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


# ---- which ---------------------------------------------------------------------------------------------------------
# Device lookup by MAC, address, name or label. Pure.

_MAC = re.compile(
    r"[0-9a-f]{2}([:.-]?)(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|[0-9a-f]{4}([:.-])[0-9a-f]{4}\2[0-9a-f]{4}|[0-9a-f]{6}[:-][0-9a-f]{6}"
)
"""Not every 12 digits: without its dots, 192.168.100.200 has as many."""


def as_mac(text: str) -> str | None:
    """Return a MAC in any usual notation (`aa:bb:…`, `AA-BB-…`, `aabb.ccdd.eeff`) as the API writes it; else None."""
    text = text.lower()
    digits = re.sub(r"[:.-]", "", text)
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2)) if _MAC.fullmatch(text) else None


def as_ip(text: str) -> str | None:
    """Return an IP address as the API writes it; else None."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def matching(devices: Iterable[Device], text: str) -> list[Device]:
    """Return the devices that match `text`. An earlier address of a device counts only if no device has it now."""
    listed = list(devices)
    if mac := as_mac(text):
        return [device for device in listed if device.mac == mac or mac in (device.merged_macs or ())]
    if ip := as_ip(text):
        current = [device for device in listed if device.ip == ip]
        return current or [device for device in listed if any(address.ip == ip for address in device.addresses)]
    return [device for device in listed if has_name(device, text)]


class NoMatch(Failure):
    """No device matches DEVICE."""


def find_one(devices: Iterable[Device], text: str, conflicts: Iterable[Conflict] = ()) -> Device:
    """Return the device that matches `text`. Raises Failure unless exactly one does.

    `conflicts`: those of all devices, to say why several match.
    """
    found = matching(devices, text)
    if not found:
        search = f"netscanctl devices {shlex.quote(clean(text))}"
        raise NoMatch(f'no device matches "{clean(text)}"', f"to search by part of a name: {search}")
    if len(found) > 1:
        macs = ", ".join(clean(device.mac) for device in found[:8]) + (", …" if len(found) > 8 else "")
        disputed = {mac for conflict in conflicts if conflict.address == as_ip(text) for mac in conflict.macs}
        if all(device.mac in disputed for device in found):
            macs = ", ".join(title(device) for device in found[:8]) + (", …" if len(found) > 8 else "")
            what = f"{len(found)} devices use the address {clean(text)} at the same time (address conflict)"
            raise Failure(what, f"use one MAC address instead of it: {macs}")
        if any(device.site for device in found):
            named = ", ".join(title(device) for device in found[:8]) + (", …" if len(found) > 8 else "")
            raise Failure(f'"{clean(text)}" matches {len(found)} devices: {named}', "choose one with --site or its MAC")
        raise Failure(f'"{clean(text)}" matches {len(found)} devices', f"use a MAC address: {macs}")
    return found[0]


# ---- argument ------------------------------------------------------------------------------------------------------
# DEVICE and network arguments: lookup and shell completion.

SITE = re.compile(r"[A-Za-z0-9_-]{1,32}")
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._,:@+'()-]*")
"""Names that are completed: a shell obeys none of these characters in quotes, nor can they be an option. Devices choose
their own names, and a shell executes what it completes."""
_NETWORK = re.compile(r"[0-9.]+/[0-9]+(@.+)?")
SAFE_ID = re.compile(r"[0-9.]+/[0-9]+@[A-Za-z0-9][A-Za-z0-9._-]*")


def mac_of(client: Client, text: str) -> str:
    """Return the MAC of the device that matches `text`. Raises Failure unless exactly one does."""
    return as_mac(text) or device_of(client, text).mac


def device_of(client: Client, text: str) -> Device:
    """Return the device that matches `text`; requests after this are limited to its site.

    Raises Failure unless exactly one does.
    """
    if mac := as_mac(text):
        found = client.read(client.get(device_path(mac)), Device)
    else:
        ip = as_ip(text)
        listed = client.read(client.get("/api/devices", {"ip": ip} if ip else {"name": text}), DeviceList)
        try:
            found = find_one(listed.devices, text, listed.conflicts)
        except NoMatch:
            refuse_person(client, text)
            raise
    client.site = found.site or client.site  # its MAC may be at other sites, too
    return found


def refuse_person(client: Client, text: str) -> None:
    """Raise NoMatch if the text is the name of a person."""
    try:
        people = client.read(client.get("/api/people"), PeopleList).people
    except Failure:  # a hub, or a netscand without people
        return
    if any(person.name.casefold() == text.casefold() for person in people):
        raise NoMatch(
            f'"{clean(text)}" is a person, not a device', "to list people with their devices: netscanctl people"
        )


def networks_instead(client: Client, network: str) -> str:
    """Return the existing ids if no network has this id or prefix; "" if one has, or had devices.

    Raises Failure if the text is neither an id nor a prefix.
    """
    networks = client.read(client.get("/api/networks"), NetworkList).networks
    if any(network in (each.id, each.cidr) for each in networks):
        return ""
    ids = ", ".join(clean(each.id) for each in networks) or "none"
    if not _NETWORK.fullmatch(network):
        raise unknown_network(network, ids)
    query = {"network": network, "limit": "1"}
    return "" if client.read(client.get("/api/devices", query), DeviceList).devices else ids


def refuse_unknown_network(client: Client, query: Mapping[str, str]) -> None:
    """Raise Failure if the parameters of a selection name a network that does not exist."""
    network = query.get("network")
    if network and (existing := networks_instead(client, network)):
        raise unknown_network(network, existing)


def unknown_network(text: str, existing: str) -> Failure:
    """Return the failure for a network that does not exist; `existing` lists the ids that do."""
    return Failure(f'unknown network "{clean(text)}"; expected an id or prefix: {existing}')


_RANGE = re.compile(r"(\d+\.\d+\.\d+)\.(\d+)-(?:(\d+\.\d+\.\d+)\.)?(\d+)")
TARGET = "expected an address, a range (192.168.1.10-50), a prefix, a network, an interface or a device"


def scan_targets(client: Client, texts: Sequence[str]) -> tuple[str, ...]:
    """Return targets as the API takes them: addresses, prefixes and network ids.

    Raises Usage for a text that is no target, and Failure for one that matches several devices.
    """
    return tuple(dict.fromkeys(target for text in texts for target in _scan_target(client, text)))


def _scan_target(client: Client, text: str) -> list[str]:
    if "@" in text:
        return [text]
    if found := _RANGE.fullmatch(text):
        return _prefixes(text, f"{found[1]}.{found[2]}", f"{found[3] or found[1]}.{found[4]}")
    try:
        return [str(IPv4Address(text)) if "/" not in text else str(IPv4Network(text))]
    except ValueError as error:
        if "/" in text:
            raise Usage(f'TARGET "{clean(text)}": {error}; {TARGET}') from None
    networks = client.read(client.get("/api/networks"), NetworkList).networks
    ids = [network.id for network in networks if network.interface == text and network.state != "excluded"]
    if ids:
        return ids
    listed = client.read(client.get("/api/devices", {"q": as_mac(text) or as_ip(text) or text}), DeviceList)
    if not matching(listed.devices, text):
        interfaces = ", ".join(dict.fromkeys(clean(network.interface) for network in networks)) or "none"
        raise Usage(f'TARGET "{clean(text)}" matches no device and no interface ({interfaces}); {TARGET}')
    device = find_one(listed.devices, text, listed.conflicts)
    if device.ip is None or ":" in device.ip:
        raise Failure(f"{title(device)} has no IPv4 address to scan", "its status is probed all the same")
    return [device.ip]


def _prefixes(text: str, first: str, last: str) -> list[str]:
    """Return the prefixes that a range of addresses consists of. Raises Usage."""
    try:
        return list(map(str, summarize_address_range(IPv4Address(first), IPv4Address(last))))
    except ValueError as error:
        raise Usage(f'TARGET "{clean(text)}": {error}') from None


def device_argument(command: F) -> F:
    """Add the argument DEVICE to a command."""
    return click.argument("device", shell_complete=complete_device)(command)


def site_option(command: F) -> F:
    """Add `--site` to a command, for its whole session."""
    return click.option("--site", metavar="NAME", expose_value=False, callback=_set_site, shell_complete=complete_site,
                        help="Only one site of a hub.")(command)  # fmt: skip


def _set_site(ctx: click.Context, _parameter: click.Parameter, name: str | None) -> None:
    from netscanctl.cli import Session

    session = ctx.find_object(Session)
    if name is None or session is None:  # none during completion
        return
    if not SITE.fullmatch(name):
        raise click.BadParameter(f'"{name}": expected 1 to 32 letters, digits, - or _')
    session.site = name


# ---- tags and selections
# Options that select devices by status, mark, network and tag; the same in `devices`, `tag` and others.

_TAG = re.compile(TAG_PATTERN)
TAG_RULE = f"expected up to {LONGEST_TAG} characters without spaces or commas, first a letter or a digit"


def is_tag(text: str) -> bool:
    """Return whether a text can be a tag."""
    return bool(_TAG.search(text)) and len(text) <= LONGEST_TAG


def tag_option(which: str) -> Callable[[F], F]:
    """Add `--tag` to a command; `which` begins the help."""
    return click.option("--tag", metavar="TAG", callback=_parse_tag, shell_complete=complete_tag,
                        help=f"{which} with this tag.")  # fmt: skip


def _parse_tag(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None and not is_tag(text):
        raise click.BadParameter(f'"{clean(text)}": {TAG_RULE}')
    return None if text is None else text.lower()


def selection_options(command: Callable[..., object]) -> Callable[..., object]:
    """Add the options that select devices; the command gets them as `selected`: parameters of `/api/devices`."""

    @wraps(command)
    def with_selection(*args: object, **given: Any) -> object:  # noqa: ANN401 - the values of options
        names = ("online", "offline", "unknown")
        statuses = [name for name in names if given.pop(name)]
        if len(statuses) > 1:
            raise click.UsageError(f"--{statuses[0]} and --{statuses[1]} exclude each other; use neither to list all")
        mark = known_filter(known=given.pop("known"), not_known=given.pop("not_known"))
        found = {"status": "".join(statuses), "network": given.pop("network"), "known": mark, "tag": given.pop("tag")}
        return command(*args, selected={key: value for key, value in found.items() if value}, **given)

    options = (
        click.option("--online", is_flag=True, help="Only online devices."),
        click.option("--offline", is_flag=True, help="Only offline devices."),
        click.option("--unknown", is_flag=True, help="Only devices whose status is unknown."),
        click.option("--known", is_flag=True, help="Only devices that are marked as known."),
        click.option("--not-known", is_flag=True, help="Only devices that are not marked as known."),
        tag_option("Only devices"),
        click.option(
            "--network",
            metavar="ID",
            shell_complete=complete_network,
            help="Only devices of one network, such as 192.168.1.0/24@eth0, or of all networks with a prefix.",
        ),
    )
    for option in reversed(options):
        with_selection = option(with_selection)
    return with_selection


def known_filter(*, known: bool, not_known: bool) -> str | None:
    """Return the API parameter `known` for the options; None for neither. Raises UsageError for both."""
    if known and not_known:
        raise click.UsageError("--known and --not-known exclude each other; use neither to list both")
    return "true" if known else "false" if not_known else None


# ---- shell completion


def complete_device(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return matching names, addresses and, once a part of one is typed, MACs; none if no daemon answers."""
    answer = _fetch(ctx, "/api/devices", DeviceList)
    devices = answer.devices if answer else []
    names = {name for device in devices for name in (device.label, device.hostname, device.ip) if name}
    if incomplete:
        names |= {device.mac for device in devices}
    return sorted(name for name in names if name.startswith(incomplete) and SAFE_NAME.fullmatch(name))


def complete_tag(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return matching tags; none if no daemon answers."""
    answer = _fetch(ctx, "/api/devices", DeviceList)
    tags = {tag for device in answer.devices for tag in device.tags} if answer else set()
    return sorted(tag for tag in tags if tag.startswith(incomplete) and SAFE_NAME.fullmatch(tag))


def complete_person(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return matching names of people; none if no daemon answers."""
    answer = _fetch(ctx, "/api/people", PeopleList)
    names = [person.name for person in answer.people] if answer else []
    return sorted(name for name in names if name.startswith(incomplete) and SAFE_NAME.fullmatch(name))


def complete_network(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return matching ids of scanned networks; none if no daemon answers."""
    answer = _fetch(ctx, "/api/networks", NetworkList)
    ids = [network.id for network in answer.networks if network.state != "excluded"] if answer else []
    return sorted(id_ for id_ in ids if id_.startswith(incomplete) and SAFE_ID.fullmatch(id_))


def complete_site(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return matching sites of a hub; none if no hub answers."""
    answer = _fetch(ctx, "/api/sites", SiteList)
    return [each.site for each in answer.sites if each.site.startswith(incomplete)] if answer else []


def complete_target(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return matching networks, interfaces and devices; none if no daemon answers."""
    answer = _fetch(ctx, "/api/networks", NetworkList)
    names = {network.interface for network in answer.networks if network.state != "excluded"} if answer else set()
    interfaces = [name for name in sorted(names) if name.startswith(incomplete) and SAFE_NAME.fullmatch(name)]
    devices = complete_device(ctx, param, incomplete) if incomplete else []
    return [*complete_network(ctx, param, incomplete), *interfaces, *devices]


Answer = TypeVar("Answer", DeviceList, NetworkList, PeopleList, SiteList)


def _fetch(ctx: click.Context, path: str, kind: type[Answer]) -> Answer | None:
    options = ctx.find_root().params  # click does not run the group's callback during completion: no Session exists
    try:
        target = socket_or_url(options.get("socket"), options.get("url"))
        client = Client(find_daemon(*target, options.get("token_file")))
        return client.read(client.get(path), kind)
    except Failure:
        return None
