"""Parameters and bodies of requests: known, given once, and valid; and the filters that they make."""

import asyncio
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Annotated, TypeVar, get_args
from unicodedata import normalize

import msgspec
from aiohttp import web
from msgspec import Meta

from netscand import protocol
from netscand.core.model import Mac
from netscand.protocol import MAX_MESSAGE
from netscand.serve.http import JSON, Refused, connection_of
from netscand.validation_messages import not_readable, shown

# ---- query ---------------------------------------------------------------------------------------------------------
# Query parameters and bodies.

NOT_READABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)
"""Exceptions of decoding invalid text: too deep, a number that is too long, half a surrogate pair."""

SLOW = 30.0
"""Seconds within which a client must read a part of an answer, or send its body."""

OF_A_FORM = frozenset(("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"))
"""Types that a page of another site can send without a preflight request (Fetch, "CORS-safelisted")."""

MAC = re.compile(r"[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}", re.IGNORECASE)


MAC_PATTERN = protocol.MAC_PATTERN
"""The same for JSON Schema, which knows no back reference."""
MacText = Annotated[str, Meta(pattern=MAC_PATTERN, examples=["a4:83:e7:12:34:56"])]

CURSOR_PATTERN = "^[A-Za-z0-9]{1,32}[-~][0-9]{1,18}$"
SITE_PATTERN = "^[A-Za-z0-9_-]{1,32}$"
NETWORK_PATTERN = "^[0-9]{1,3}([.][0-9]{1,3}){3}/[0-9]{1,2}(@.+)?$"

BOOLEANS = {"true": True, "false": False}

TOKEN_NAMES = frozenset(("token", "access_token"))
"""Query parameters that no request may have (FAULTS T18; RFC 6750, section 2.3)."""

Body = TypeVar("Body", bound=msgspec.Struct)


def refuse_token(query: Mapping[str, str]) -> None:
    """Refuse a token in the address."""
    if any(name.lower() in TOKEN_NAMES for name in query):
        raise Refused(
            "bad_request", "a token in a URL appears in logs; send the header Authorization: Bearer TOKEN instead"
        )


def check_query(query: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse unknown parameters, and those given twice."""
    given: set[str] = set()
    for name, _ in query.items():  # noqa: PERF102 - keys() of a multidict yields each once
        if name not in known:
            expected = ", ".join(sorted(known)) or "none"
            raise Refused("bad_request", f"unknown query parameter {name[:64]!r}; known: {expected}")
        if name in given:
            raise Refused("bad_request", f"{name}: given twice")
        given.add(name)


def mac_of(text: str) -> Mac:
    """Return the MAC of `aa:bb:cc:dd:ee:ff`, also with dashes. Raises Refused for anything else."""
    if not MAC.fullmatch(text):
        raise Refused("bad_request", f"{text[:64]!r}: expected a MAC such as aa:bb:cc:dd:ee:ff")
    return Mac(bytes.fromhex(text.replace(text[2], "")))


def cursor_of(given: Mapping[str, str]) -> str | None:
    """Return the parameter `since` of a stream; None if it is empty. Raises Refused if it can be no cursor."""
    since = given.get("since") or None
    if since is not None and not re.fullmatch(CURSOR_PATTERN, since):
        raise Refused("bad_request", f"since={since[:64]}: expected a cursor such as k3f9-118")
    return since


def boolean_of(given: Mapping[str, str], name: str) -> bool | None:
    """Return a parameter that is `true` or `false`; None if it is not given. Raises Refused for anything else."""
    text = given.get(name)
    if text is not None and text not in BOOLEANS:
        raise Refused("bad_request", f"{name}={text[:64]}: expected true or false")
    return None if text is None else BOOLEANS[text]


def number_of(given: Mapping[str, str], name: str, default: int = 0, most: int = 10**9) -> int:
    """Return a parameter that is a number from 1 to `most`. Raises Refused for anything else."""
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        expected = f"from 1 to {most:,}" if most < 10**9 else "above 0"
        raise Refused("bad_request", f"{name}={text[:64]}: expected a number {expected}")
    return int(text)


async def json_of(request: web.Request) -> bytes:
    """Return the body, whose type must be JSON; empty if there is none. Raises Refused."""
    connection_of(request).read_body()
    try:
        async with asyncio.timeout(SLOW):
            body = await request.read()
    except TimeoutError:
        raise Refused("bad_request", f"no complete body within {SLOW:g} s", 408, {"Connection": "close"}) from None
    if len(body) > MAX_MESSAGE:  # aiohttp's own limit is one byte off in some versions
        raise Refused("too_large", f"more than {MAX_MESSAGE} bytes")
    if request.content_type != JSON and (body or request.content_type in OF_A_FORM):
        raise Refused("unsupported_media_type", f"expected Content-Type: {JSON}")
    return body


async def struct_of(request: web.Request, kind: type[Body], what: str, *, required: bool = True) -> Body:
    """Return the JSON of the body as a struct; the struct's defaults for no body if none is required."""
    body = await json_of(request)
    if not body and not required:
        return kind()
    try:
        return msgspec.json.decode(body, type=kind)
    except NOT_READABLE as error:
        raise Refused("bad_request", f"invalid {what}: {not_readable(error, body, kind)}") from None


# ---- filters -------------------------------------------------------------------------------------------------------
# Filters: `network=`, `q=`, `status=`, `known=`, `ip=`, `name=` and `tag=`.

LONGEST = 128
"""Maximum characters of `q` and `name`. Every event is searched for it, for each client."""

BETWEEN, NEVER = "\0", "\1"
"""Separates the texts of a device; replaces it in `q`. The texts contain neither: control characters are removed."""

PART_OF_MAC = re.compile(
    r"[0-9a-f]{4,12}|[0-9a-f]{1,2}(-[0-9a-f]{2})+-?[0-9a-f]?|[0-9a-f]{0,3}(\.?[0-9a-f]{4})+\.?[0-9a-f]{0,3}"
)
"""Part of a MAC in another spelling than `aa:bb:cc`: `aabb`, `aa-bb`, `aabb.cc`. No IPv4 address has four digits
between dots."""


class Searched:
    """Device for filters. Its texts are casefolded once, when the first filter needs them."""

    __slots__ = ("_words", "device")

    def __init__(self, device: protocol.Device) -> None:
        self.device = device
        self._words: str | None = None

    @property
    def words(self) -> str:
        """MACs, names, label, notes, vendor, kind, addresses and tags as one text, separated by BETWEEN."""
        if self._words is None:
            device = self.device
            kind = device.kind.replace("_", " ") if device.kind else None
            texts = (*macs_of(device), device.hostname, device.label, device.notes, device.vendor, kind)
            ips = [address.ip for address in device.addresses]
            self._words = BETWEEN.join([*(word.casefold() for word in texts if word), *ips, *device.tags])
        return self._words


def macs_of(device: protocol.Device) -> tuple[str, ...]:
    """Return the MAC of a device, and those that were merged into it."""
    return (device.mac, *(device.merged_macs or ()))


class Change:
    """Event for filters: its device as it is, and as it was before."""

    __slots__ = ("devices", "network", "person", "site")

    def __init__(self, event: protocol.Event, before: protocol.Device | None) -> None:
        self.network = event.network
        self.site = event.site
        self.person = event.person.name.casefold() if event.person else None
        self.devices = tuple(Searched(device) for device in (event.device, before) if device is not None)


@dataclass(frozen=True, slots=True)
class Filter:
    """Filter; all fields must match. `text` is searched in MACs, addresses, names, label, notes, vendor, kind and tags.

    `network` is an id, or a prefix on any interface; `ip` and `name` must match completely.
    """

    network: str | None = None
    text: str | None = None
    status: str | None = None
    known: bool | None = None
    ip: str | None = None
    name: str | None = None
    sites: frozenset[str] | None = None
    """Only these; on a host, no device has a site."""
    tag: str | None = None
    _digits: str | None = field(default=None, init=False)
    """Digits of the text, if it can be a part of a MAC in another spelling."""

    def __post_init__(self) -> None:
        """Casefold the text, once."""
        text = (self.text or "").casefold().replace(BETWEEN, NEVER) or None
        object.__setattr__(self, "text", text)
        if text and PART_OF_MAC.fullmatch(text) and len(digits := re.sub("[-.]", "", text)) >= 4:
            object.__setattr__(self, "_digits", digits)

    def __bool__(self) -> bool:
        return self != EVERYTHING

    def fits(self, searched: Searched) -> bool:
        """Return whether a device matches."""
        device = searched.device
        if self.sites is not None and device.site not in self.sites:
            return False
        if self.status is not None and device.status != self.status:
            return False
        if self.known is not None and device.known is not self.known:
            return False
        if self.known is False and "self" in device.kinds:  # this host needs no mark
            return False
        if self.tag is not None and self.tag not in device.tags:
            return False
        if self.network is not None and not self.scan([address.network for address in device.addresses]):
            return False
        if self.ip is not None and all(address.ip != self.ip for address in device.addresses):
            return False
        if self.name is not None and not protocol.has_name(device, self.name):
            return False
        return self.text is None or self.text in searched.words or self._in_mac(device)

    def _in_mac(self, device: protocol.Device) -> bool:
        return self._digits is not None and any(self._digits in mac.replace(":", "") for mac in macs_of(device))

    def device(self, device: protocol.Device) -> bool:
        """Return the same for a device that no other filter checks."""
        return self.fits(Searched(device))

    def scan(self, networks: Collection[str]) -> bool:
        """Return whether a scan or an event of these networks matches."""
        wanted = self.network
        if wanted is None or wanted in networks:
            return True
        return "@" not in wanted and any(network.startswith(f"{wanted}@") for network in networks)

    def change(self, change: Change) -> bool:
        """Return whether the device matches, or did before the event: a client must learn that it left the filter.

        A person matches only by the text, in the name: people have no status, network or mark of a device.
        """
        if self.sites is not None and change.site not in self.sites:
            return False
        if change.person is not None:
            by_text = self == Filter(text=self.text, sites=self.sites)
            return by_text and (self.text is None or self.text in change.person)
        if not change.devices:
            return change.network is None or self.scan((change.network,))
        return any(map(self.fits, change.devices))

    def event(self, event: protocol.Event, before: protocol.Device | None) -> bool:
        """Return the same for an event that no other filter checks."""
        return self.change(Change(event, before))


EVERYTHING = Filter()


def sites_of(given: Mapping[str, str], allowed: frozenset[str] | None) -> frozenset[str] | None:
    """Return the sites of a request, of those that its token is limited to; None: all. Raises Refused."""
    site = given.get("site")
    if site is None:
        return allowed
    if not re.fullmatch(SITE_PATTERN, site):
        raise Refused("bad_request", f"site={site[:64]}: expected 1 to 32 letters, digits, - or _")
    if allowed is not None and site not in allowed:
        raise Refused("not_found", f"no site {site}")
    return frozenset((site,))


def filter_of(given: Mapping[str, str], allowed: frozenset[str] | None = None) -> Filter:
    """Return the filter of a request's parameters; `allowed`: see `sites_of`. Raises Refused for an invalid value."""
    for name in ("q", "name"):
        if len(text := given.get(name, "")) > LONGEST:
            raise Refused("bad_request", f"{name}: expected up to {LONGEST} characters, not {len(text)}")
    status, network, ip = map(given.get, ("status", "network", "ip"))
    if status is not None and status not in get_args(protocol.Status):
        raise Refused("bad_request", f"status={status[:64]}: expected online, offline or unknown")
    if network is not None and not re.fullmatch(NETWORK_PATTERN, network):
        expected = "expected the id of a network (192.168.1.0/24@eth0), or its prefix"
        raise Refused("bad_request", f"network={network[:64]}: {expected}")
    if ip is not None:
        try:
            ip = str(ip_address(ip))
        except ValueError:
            raise Refused("bad_request", f"ip={ip[:64]}: expected an IP address such as 192.168.1.7") from None
    known, sites, tag = boolean_of(given, "known"), sites_of(given, allowed), tag_of(given)
    return Filter(network, given.get("q"), status, known, ip, given.get("name"), sites, tag)


def tag_of(given: Mapping[str, str]) -> str | None:
    """Return the parameter `tag`, as tags are stored; None if it is not given. Raises Refused if it can be no tag."""
    return None if (tag := given.get("tag")) is None else stored_tag("tag", tag)


TAG_RULE = f"expected up to {protocol.LONGEST_TAG} characters without spaces or commas, first a letter or a digit"


def stored_tag(where: str, tag: str) -> str:
    """Return a tag as it is stored: in lower case, in NFC, without invisible characters. Raises Refused."""
    if not re.search(protocol.TAG_PATTERN, tag) or len(tag) > protocol.LONGEST_TAG:
        raise Refused("bad_request", f"{where}: {TAG_RULE}, not {shown(tag)}")
    stored = "".join(char for char in normalize("NFC", tag).lower() if char.isprintable())
    return stored[: protocol.LONGEST_TAG]  # a few letters have more characters in lower case
