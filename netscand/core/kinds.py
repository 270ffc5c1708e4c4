"""The kind of a device (printer, phone, …) and its reason: chosen by a user, else by evidence, else none.

The rules are in core/kind_rules.py. Contradictory evidence of the same strength names no kind (ADR 80). All of it is
claimed by the device, as its name is: a kind is no proof.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from functools import lru_cache
from typing import NamedTuple

from netscand.core import kind_rules as rules
from netscand.core.limits import may_change
from netscand.core.model import Device, Event, EventKind, Kind, Mac, Observation, Service, chosen_kind
from netscand.core.ratelimit import KIND_CHANGES, Budgets

MOST_SERVICES = 12
"""Maximum services that are kept of a device; the oldest is dropped."""

# ---- identification ------------------------------------------------------------------------------------------------

GATEWAY, MODEL, SERVICE, CLIENT, VENDOR = 5, 4, 3, 2, 1
"""Strengths of evidence: it routes; a model that it names; a service; a name or DHCP client; what only its MAC says."""

HOTSPOTS = ("phone", "tablet", "laptop")
"""Kinds that a gateway keeps: they share their connection."""

CAST_VIDEO, CAST_GROUP = 0x01, 0x20
"""Bits of the capabilities of Google Cast (`ca`; Chromium, media_router/.../cast_media_sink_service)."""


class Clues(NamedTuple):
    """What is known of a device."""

    mac: Mac
    vendor: str | None = None
    host_names: tuple[str, ...] = ()
    vendor_class: str | None = None
    parameters: bytes | None = None
    services: Collection[Service] = ()
    is_gateway: bool = False


Found = tuple[int, str, str]
"""Strength, kind, reason."""


def identify(clues: Clues) -> Kind | None:
    """Return the kind of a device and the evidence for it; None: there is none, or it is contradictory."""
    found = [
        *_by_services(clues.services), *_by_client(clues),
        *((VENDOR, *each) for each in [_by_vendor(clues.vendor)] if each is not None),
    ]  # fmt: skip
    if by_mac := rules.MACS.get(clues.mac[:3]):
        found.append((CLIENT, by_mac[0], f"MAC prefix of {by_mac[1]}"))
    best = _best(found)
    if clues.is_gateway and (best is None or best.name not in HOTSPOTS):
        return Kind("router", "it is the gateway")
    return best


def _best(found: Collection[Found]) -> Kind | None:
    """Return the kind with the strongest evidence, made more exact by weaker evidence; None if it is contradictory."""
    top = max((strength for strength, _, _ in found), default=0)
    kinds = {kind: reason for strength, kind, reason in reversed(tuple(found)) if strength == top}
    for kind in tuple(kinds):
        if any(other in kinds for other in rules.MORE_EXACT.get(kind, ())):
            del kinds[kind]
    if len(kinds) != 1:
        return None
    kind, reason = kinds.popitem()
    for _, other, why in sorted(found, reverse=True):
        if other in rules.MORE_EXACT.get(kind, ()):
            kind, reason = other, why
    return Kind(kind, reason)


def _by_services(services: Collection[Service]) -> Iterator[Found]:
    types = {service.type for service in services}
    for service in services:
        text = f"mDNS service {service.type}"
        values = dict(entry.lower().partition("=")[::2] for entry in service.txt)
        kind = rules.by_evidence(rules.SERVICES).get(service.type)
        queue = values.get("rp", "").startswith(rules.QUEUE)
        if kind is not None and not (kind == "printer" and (queue or not types.isdisjoint(rules.NOT_PRINTERS))):
            yield SERVICE, kind, text
        for kind, entry in _by_txt(service.type, values):
            yield MODEL, kind, f"{text} with {entry}"
            break
        else:
            if service.type == "_googlecast._tcp" and _is_audio(values.get("ca", "")):
                yield MODEL, "speaker", f"{text} without video"
        if service.type == "_matterc._udp" and (kind := rules.by_evidence(rules.MATTER).get(values.get("dt", ""))):
            yield MODEL, kind, f"{text} with DT={values['dt']}"
    yield from _by_homekit(services, types)


def _by_txt(of: str, values: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each kind that an entry of a TXT record names, and the entry."""
    known = rules.by_key()
    for key, value in values.items():
        for each, start, kind in known.get(key, ()):
            if value.startswith(start) and each in ("*", of) and not _is_router(kind, values):
                yield kind, f"{key}={value}"


def _is_router(kind: str, values: dict[str, str]) -> bool:
    return kind == "nas" and values.get("model", "").startswith(rules.NOT_NAS)


def _is_audio(capabilities: str) -> bool:
    number = int(capabilities) if capabilities.isascii() and capabilities.isdigit() else CAST_VIDEO
    return not number & (CAST_VIDEO | CAST_GROUP)


def _by_homekit(services: Iterable[Service], types: Set[str]) -> Iterator[Found]:
    """Yield the kind by the category of HomeKit, if all accessories have one, and none is in software on a computer."""
    kinds: dict[str | None, str] = {}
    for service in services:
        if service.type == "_hap._tcp" and service.txt:
            values = dict(entry.lower().partition("=")[::2] for entry in service.txt)
            software = values.get("md", "").startswith(rules.HOMEKIT_SOFTWARE)
            category = values.get("ci", "")
            kinds[None if software else rules.by_evidence(rules.HOMEKIT).get(category)] = category
    if len(kinds) == 1 and types.isdisjoint(("_ssh._tcp", *rules.NOT_PRINTERS)):
        kind, category = kinds.popitem()
        if kind is not None:
            yield MODEL, kind, f"mDNS service _hap._tcp with ci={category}"


def _by_client(clues: Clues) -> Iterator[Found]:
    """Yield what host names and the DHCP client say."""
    named = {kind: name for name in clues.host_names if (kind := kind_of_name(name)) is not None}
    if len(named) == 1:
        kind, name = named.popitem()
        yield CLIENT, kind, f'host name "{name}"'
    if clues.vendor_class and (kind := _by_vendor_class(clues.vendor_class.lower())):
        yield CLIENT, kind, f'DHCP vendor class "{clues.vendor_class}"'
    begin, end = rules.MACOS
    if clues.parameters and clues.parameters.startswith(begin) and clues.parameters.endswith(end):
        yield CLIENT, "computer", "it requests the DHCP options that macOS requests"


@lru_cache(maxsize=256)
def _by_vendor_class(text: str) -> str | None:
    by_word = rules.by_evidence(rules.DHCP_WORDS)
    words = (kind for word, kind in by_word.items() if re.search(rf"(?<![a-z]){word}(?![a-z])", text))
    return rules.find_start(rules.DHCP, text) or next(words, None)


@lru_cache(maxsize=1024)
def kind_of_name(name: str) -> str | None:
    """Return the kind that a host name alone says, or None."""
    label = name.partition(".")[0].replace(" ", "-").lower()
    for rule, kind in rules.rows(rules.HOST_NAMES):
        part, _, pattern = rule.partition(" ")
        if (part == "*" or part in label) and re.fullmatch(pattern, label):
            return kind
    return None


@lru_cache(maxsize=1)
def model_words() -> re.Pattern[str]:
    """Return a pattern of the words in the rules of host names: each names a model, and no person."""
    rule = re.sub(r"\[.*?\]", " ", " ".join(rule.partition(" ")[2] for rule, _ in rules.rows(rules.HOST_NAMES)))
    words = "|".join(sorted(set(re.findall("[a-z]{2,}", rule)), key=len, reverse=True))
    return re.compile(rf"(?<![a-z])(?:{words})(?![a-z])|^(?:{words})[g-z]?(?=[0-9a-f]{{6}})")


@lru_cache(maxsize=256)
def _by_vendor(vendor: str | None) -> tuple[str, str] | None:
    kind = rules.find_start(rules.VENDORS, vendor.lower()) if vendor else None
    return (kind, f'vendor "{vendor}"') if kind else None


# ---- tracker -------------------------------------------------------------------------------------------------------


class DeviceKinds:
    """Kinds of devices, kept up to date with their evidence. `vendor` returns the vendor of a MAC."""

    def __init__(self, budgets: Budgets, vendor: Callable[[Mac], str | None]) -> None:
        self._budgets = budgets
        self._vendor = vendor
        self._by_mac = lru_cache(maxsize=1024)(_by_prefix)
        self.due: set[Mac] = set()
        """Devices whose kind may have changed without a frame from them, such as a new gateway."""
        self._refused: set[Mac] = set()
        """Devices whose latest change the budget refused; it is tried again with their next evidence."""

    def on_gateway(self, device: Device, is_gateway: bool) -> None:
        """Note that a device is about to be marked as a gateway, or not."""
        if is_gateway != device.is_gateway:
            self.due.add(device.mac)

    def note(self, device: Device, seen: Observation) -> bool:
        """Keep the evidence of a frame; return whether the kind may change by it."""
        if not (seen.services or seen.vendor_class or seen.parameters):
            return device.mac in self._refused
        services = with_services(device.services, seen.services) if seen.services else device.services
        client = seen.vendor_class or device.dhcp_vendor_class, seen.parameters or device.dhcp_parameters
        if services != device.services or client != (device.dhcp_vendor_class, device.dhcp_parameters):
            device.services, device.unstored = services, True
            device.dhcp_vendor_class, device.dhcp_parameters = client
            return True
        return device.mac in self._refused

    def update(self, device: Device, at: float, *, is_new: bool = False) -> Event | None:
        """Set the kind by the evidence; return the event if it changed. `is_new`: `discovered` shows the kind."""
        if self.due:
            self.due.discard(device.mac)
        was = device.kind
        if device.is_self or (was is not None and chosen_kind(device) is not None):
            return None
        now = self.of(device)
        if now == was or (now is not None and was is not None and now.name == was.name):
            device.kind = now
            self._refused.discard(device.mac)
            return None
        if not is_new and not may_change(self._budgets, KIND_CHANGES, device, at):
            self._refused.add(device.mac)
            return None
        self._refused.discard(device.mac)
        device.kind = now
        if is_new:
            return None
        previous = {"kind": was.name if was else None, "kind_reason": was.reason if was else None}
        reason = now.reason if now else "its evidence is contradictory now"
        return Event(EventKind.KIND_CHANGED, at, None, device, reason=reason, previous=previous)

    def of(self, device: Device) -> Kind | None:
        """Return the kind of a device by its evidence alone."""
        evidence = device.hostname or device.services or device.dhcp_vendor_class or device.dhcp_parameters
        if not evidence and not device.is_gateway:
            return self._by_mac(device.mac[:3], self._vendor(device.mac))
        names = (*((device.hostname,) if device.hostname else ()), *device.other_names.values())
        return identify(
            Clues(device.mac, self._vendor(device.mac), names, device.dhcp_vendor_class, device.dhcp_parameters,
                  device.services, device.is_gateway)
        )  # fmt: skip

    def forget(self, mac: Mac) -> None:
        """Forget a device."""
        self.due.discard(mac)
        self._refused.discard(mac)


def _by_prefix(prefix: bytes, vendor: str | None) -> Kind | None:
    return identify(Clues(Mac(prefix.ljust(6, b"\0")), vendor))


def with_services(known: tuple[Service, ...], seen: Iterable[Service]) -> tuple[Service, ...]:
    """Return the known services of a device and those of a frame; one without TXT replaces none of the same type."""
    for service in seen:
        if service in known or (not service.txt and any(each.type == service.type for each in known)):
            continue
        bare = Service(service.type, ())
        known = (*(each for each in known if each != bare), service)[-MOST_SERVICES:]
    return known
