"""Handlers of `/api` and `/healthz`: devices, networks, status, scan requests, and changes of devices."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from ipaddress import IPv4Network
from pathlib import Path
from resource import getpagesize
from time import monotonic
from typing import cast
from unicodedata import normalize

import msgspec
from aiohttp import web

from netscand import __version__, protocol, validation_messages
from netscand.checkout import for_checkout
from netscand.core.annotations import NO_ANNOTATIONS, inherited
from netscand.core.model import BadTarget, Busy, Device, Mac
from netscand.core.predecessor import are_different
from netscand.core.ratelimit import ANNOTATIONS
from netscand.serve.encode import Encoder, mac_text
from netscand.serve.fair_turns import Account, FairTurns, Shares
from netscand.serve.http import HEADERS, JSON, Refused, answer, connection_of, warn
from netscand.serve.hub import Hub, scan_update
from netscand.serve.ports import HistoryPort, Scanner, request_scan
from netscand.serve.query import (
    SLOW,
    Filter,
    boolean_of,
    filter_of,
    mac_of,
    number_of,
    sites_of,
    stored_tag,
    struct_of,
)
from netscand.serve.related import Labels, related, suggestions
from netscand.serve.snapshot import Snapshot
from netscand.serve.summary import Summary, around_devices


class Targets:
    """Targets of a scan request: IPv4 addresses, prefixes, or ids of networks."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._prefixes: dict[int, set[int]] = {}
        """Length → prefixes of that length, so that an address needs 33 lookups at most."""

    def add(self, target: str) -> None:
        """Add a target."""
        if "@" in target:
            self._ids.add(target)
        else:
            prefix = IPv4Network(target)
            self._prefixes.setdefault(prefix.prefixlen, set()).add(int(prefix.network_address))

    def contain(self, device: Device) -> bool:
        """Return whether a device is at a target; for this host, which is not scanned, only its own address counts."""
        lengths = [32] if device.is_self else self._prefixes
        for address in device.addresses:
            if address.network in self._ids and not device.is_self:
                return True
            if len(address.ip) == 4:
                number = int.from_bytes(address.ip)
                if any(number >> 32 - bits << 32 - bits in self._prefixes.get(bits, ()) for bits in lengths):
                    return True
        return False


async def filter_by_targets(
    macs: Sequence[Mac], devices: Mapping[Mac, Device], targets: Sequence[str], turns: FairTurns, account: Account
) -> Sequence[Mac]:
    """Return those of `macs` that are at a target; all if there is none. In turns of `account`."""
    if not targets:
        return macs
    wanted, kept = Targets(), []
    async for target in turns.over(account, targets):
        wanted.add(target)
    async for mac in turns.over(account, macs):
        device = devices.get(mac)
        if device is not None and wanted.contain(device):
            kept.append(mac)
    return kept


async def shown_wholly(
    device: Device, scanner: Scanner, hub: Hub, encoder: Encoder, request: web.Request
) -> protocol.Device:
    """Return a device as the answer about a single one shows it."""
    account = connection_of(request).account
    others = await related(device, scanner.devices, encoder.vendor, hub.turns, account)
    encoder.sync()
    shown = encoder.wholly(device, others)
    shown.conflicts = conflicts_of(scanner, encoder, device)
    return shown


def conflicts_of(scanner: Scanner, encoder: Encoder, device: Device | None = None) -> list[protocol.Conflict]:
    """Return the conflicts between devices that last; of one device, if it is given."""
    found = scanner.conflicts()
    return [
        encoder.conflict(each) for each in found if device is None or device is each.holder or device is each.claimant
    ]


# ---- changes -------------------------------------------------------------------------------------------------------
# PATCH and DELETE of a device.


MOST_NAMED = 4
"""Devices in a warning."""

MOST_EXISTING = 20
"""Names in a warning that one does not exist."""


def existing(what: str, names: Collection[str]) -> str:
    """Return which names exist, as the end of a warning that one does not."""
    more = ", …" if len(names) > MOST_EXISTING else ""
    return f"the {what} are: {', '.join(sorted(names)[:MOST_EXISTING])}{more}" if names else f"there are no {what}"


async def warn_of_tag(request: web.Request, tag: str, scanner: Scanner, turns: FairTurns) -> None:
    """Warn about a tag that no device has: it may be mistyped."""
    tags: set[str] = set()
    async for device in turns.over(connection_of(request).account, tuple(scanner.devices.values())):
        if tag in device.tags:
            return
        tags.update(device.tags)
    warn(request, f"no device has the tag {validation_messages.shown(tag)}; {existing('tags', tags)}")


class DeviceChanges:
    """Handlers that change devices."""

    def __init__(self, scanner: Scanner, hub: Hub, encoder: Encoder, archive: HistoryPort | None) -> None:
        self._scanner = scanner
        self._hub = hub
        self._encoder = encoder
        self._archive = archive
        self._labels = Labels()

    async def label(self, request: web.Request) -> web.StreamResponse:
        """Set a user's annotations; return the device, for `Prefer: return=minimal` as lists have it."""
        mac = primary_of(request, self._scanner)
        words = await struct_of(request, protocol.DeviceUpdate, "device update")
        changes = {name: value for name, value in msgspec.structs.asdict(words).items() if value is not msgspec.UNSET}
        warnings = clean_texts(changes)
        scanner, spender, now = self._scanner, (connection_of(request).account, mac), monotonic()
        old = mac_of(str(changes.pop("take_from"))) if "take_from" in changes else None
        if old == mac:
            raise Refused("bad_request", f"take_from: {mac_text(mac)} is the device itself")
        if old is not None and old not in scanner.devices:
            raise no_device(old)
        self._check_budget(spender, now)
        cursor = scanner.cursor
        if old is not None:
            changes = inherited(scanner.devices[old], scanner.devices.get(mac)) | changes
        _set_tags(changes, scanner.devices.get(mac))
        if words.not_same_as is not msgspec.UNSET:
            changes["not_same_as"] = tuple(sorted({mac_of(other) for other in words.not_same_as} - {mac}))
        label = scanner.devices[mac].label if mac in scanner.devices else None
        try:
            scanner.label(mac, changes)
        except KeyError:
            raise no_device(mac) from None
        except Busy as full:
            raise Refused("busy", str(full)) from None
        device = scanner.devices[mac]
        self._labels.moved(device, label, cursor, scanner.cursor)
        if old is not None:
            scanner.label(old, NO_ANNOTATIONS)
        if scanner.cursor != cursor:  # a request that changes nothing is not charged
            scanner.budgets.take(ANNOTATIONS, spender, now)
        if prefers_minimal(request):  # what other devices show about it is found by a look at all of them
            self._encoder.sync()
            shown = self._encoder.device(device)
        else:
            shown = await shown_wholly(device, scanner, self._hub, self._encoder, request)
        if "label" in changes and device.label:
            turns, account = self._hub.turns, connection_of(request).account
            others = await self._labels.others(device, scanner.devices, scanner.cursor, turns, account)
            warnings += [_same_label(device, others)] if others else []
        shown.warnings = warnings or msgspec.UNSET
        return await changed(request, self._hub, self._archive, shown)

    def _check_budget(self, spender: tuple[Account, Mac], now: float) -> None:
        """Raise Refused if an account changed a device too often."""
        budgets = self._scanner.budgets
        if not budgets.has(ANNOTATIONS, spender, now):
            budgets.refuse(ANNOTATIONS, now)
            raise Refused(
                "busy",
                f"{mac_text(spender[1])}: changed more than {ANNOTATIONS.at_once:g} times, and then more than once a "
                "minute; try again in 60 s",
            )

    async def wake(self, request: web.Request) -> web.StreamResponse:
        """Send magic packets to a device; whether it wakes up is an event."""
        mac = mac_of(request.match_info["mac"])
        try:
            networks = await self._scanner.wake(mac)
        except KeyError:
            raise no_device(mac) from None
        except BadTarget as error:
            raise Refused("bad_request", f"{mac_text(mac)}: {error}") from None
        except Busy as busy:
            raise Refused("busy", str(busy)) from None
        return answer(protocol.WakeSent(networks=list(networks)), 202)

    async def merge(self, request: web.Request) -> web.StreamResponse:
        """Merge another device into this one: one device with both MACs; return it."""
        scanner, mac = self._scanner, primary_of(request, self._scanner)
        other = mac_of((await struct_of(request, protocol.MergeRequest, "merge request")).mac)
        for each in (mac, other):
            if each not in scanner.devices:
                raise no_device(each)
        _check_tags({*scanner.devices[mac].tags, *scanner.devices[other].tags})
        spender, now = (connection_of(request).account, other), monotonic()
        self._check_budget(spender, now)
        try:
            scanner.merge(mac, other)
        except ValueError as error:
            raise Refused("bad_request", str(error)) from None
        except Busy as full:
            raise Refused("busy", str(full)) from None
        scanner.budgets.take(ANNOTATIONS, spender, now)
        shown = await shown_wholly(scanner.devices[mac], scanner, self._hub, self._encoder, request)
        return await changed(request, self._hub, self._archive, shown)

    async def split(self, request: web.Request) -> web.StreamResponse:
        """Undo the merge of this MAC; return its device."""
        scanner, mac = self._scanner, mac_of(request.match_info["mac"])
        try:
            scanner.split(mac)
        except KeyError:
            raise Refused("not_found", f"{mac_text(mac)} is not merged into a device") from None
        shown = await shown_wholly(scanner.devices[mac], scanner, self._hub, self._encoder, request)
        return await changed(request, self._hub, self._archive, shown)

    async def forget(self, request: web.Request) -> web.StreamResponse:
        """Delete a device, and with `history=true` its events; if it is seen again, it is new."""
        mac = primary_of(request, self._scanner)
        archive = self._archive if boolean_of(request.query, "history") else None
        is_there = mac in self._scanner.devices
        macs = (mac, *self._scanner.merged.of(mac))
        try:
            if is_there or archive is None:  # the events of a forgotten device can be deleted later
                self._scanner.forget(mac)
        except KeyError:
            raise no_device(mac) from None
        except ValueError as error:
            raise Refused("bad_request", f"{mac_text(mac)}: {error}") from None
        response = await changed(request, self._hub, self._archive)
        if archive is None:
            return response
        count = await archive.erase(macs)
        if not count and not is_there:
            raise Refused("not_found", f"no device {mac_text(mac)}, and no event of one")
        return answer(protocol.Erased(events=count))


async def changed(
    request: web.Request, hub: Hub, archive: HistoryPort | None, shown: protocol.Device | protocol.Person | None = None
) -> web.Response:
    """Return the answer to a change once it is stored, or with a warning that a restart may lose it."""
    await hub.settled()
    why = archive.unstored() if archive is not None else ""
    warning = f"{protocol.NOT_STORED}: {why}; a restart before this is fixed loses the change" if why else ""
    if warning:
        warn(request, warning)
        if shown is not None:
            shown.warnings = [*(shown.warnings or ()), warning]
    return web.Response(status=204, headers=HEADERS) if shown is None else answer(shown)


def no_device(mac: Mac, hint: str = "") -> Refused:
    """Return the refusal for a MAC that no device has, or that none can have."""
    if mac[0] & 1 or not any(mac):
        return Refused("not_found", f"{mac_text(mac)} is not the address of one device (multicast, or zero)")
    return Refused("not_found", f"no device {mac_text(mac)}" + (f"; {hint}" if hint else ""))


def prefers_minimal(request: web.Request) -> bool:
    """Return whether a client needs no more than the outcome (RFC 7240, section 4.2)."""
    wanted = ",".join(request.headers.getall("Prefer", ())).lower().split(",")
    return "return=minimal" in (part.strip() for part in wanted)


def primary_of(request: web.Request, scanner: Scanner) -> Mac:
    """Return the MAC of the device that the path names by one of its MACs."""
    return scanner.merged.primary(mac_of(request.match_info["mac"]))


def clean_texts(changes: dict[str, object]) -> list[str]:
    """Clean label and notes among the changes of a device; return what a user should know about it."""
    warnings = []
    for name in ("label", "notes"):
        if isinstance(text := changes.get(name), str):
            changes[name] = kept = cleaned(text, lines=name == "notes")
            if (kept or "") != normalize("NFC", text).strip():
                now = f"it is now {validation_messages.shown(kept)}" if kept else "nothing is left, so it was removed"
                warnings.append(f"{name}: control and invisible characters were removed; {now}")
    return warnings


def _set_tags(changes: dict[str, object], device: Device | None) -> None:
    """Replace the tags to add and to remove, among the changes of a device, by all its tags. Raises Refused."""
    names = [name for name in ("tags", "add_tags", "remove_tags") if name in changes]
    if not names:
        return
    before: object = changes.get("tags", device.tags if device else ())
    lists = {"tags": before} | {name: changes.pop(name, ()) for name in ("add_tags", "remove_tags")}
    now, added, removed = (
        {stored_tag(f"{name}[{at}]", tag) for at, tag in enumerate(cast("Sequence[str]", tags))}
        for name, tags in lists.items()
    )
    if both := sorted(added & removed):
        raise Refused("bad_request", f"add_tags and remove_tags: {both[0]!r} is in both")
    tags = (now | added) - removed
    _check_tags(tags)
    changes["tags"] = tuple(sorted(tags))


def _check_tags(tags: Collection[str]) -> None:
    if len(tags) > protocol.MOST_TAGS:
        raise Refused(
            "bad_request", f"tags: a device has at most {protocol.MOST_TAGS}, not {len(tags)}; remove some first"
        )


def _same_label(device: Device, others: Sequence[Device]) -> str:
    macs = ", ".join(mac_text(other.mac) for other in others[:MOST_NAMED]) + (", …" if len(others) > MOST_NAMED else "")
    return (
        f"label: {validation_messages.shown(device.label)} is also the label of {macs}; use MAC addresses in commands"
    )


def cleaned(text: str, *, lines: bool = False) -> str | None:
    """Return a text without control, bidi and zero-width characters (FAULTS T8), in NFC; None if nothing is left."""
    kept = "".join(char for char in normalize("NFC", text) if char.isprintable() or (lines and char == "\n"))
    return kept.strip() or None


# ---- rest ----------------------------------------------------------------------------------------------------------
# `/api` and `/healthz`: single requests, with the structs of the WebSocket.

PART = 100
"""Devices in one part of a streamed list."""

LARGE, LISTS = 4096, 8
"""Devices from which on a list is large, and the number of large lists of an account at a time: each keeps the order of
its MACs until it is read."""

LONGEST_SCAN = 3600.0
"""Seconds that a request waits for its scan: a /16 takes minutes, but at a low rate hours."""

MOST_SUGGESTIONS = 32
"""Suggestions in one answer: stations that make up names can cause many."""

MOST_CONFLICTS = 4
"""Conflicts in `status`: a station that makes up MACs can cause many."""


class Rest:
    """Handlers. `clients`, `problems` and `serving` return what the server knows."""

    def __init__(
        self,
        scanner: Scanner,
        hub: Hub,
        summary: Summary,
        encoder: Encoder,
        clients: Callable[[], int],
        problems: Callable[[], tuple[str, ...]],
        serving: Callable[[], bool],
    ) -> None:
        self._scanner = scanner
        self._hub = hub
        self._summary = summary
        self._encoder = encoder
        self._clients = clients
        self._server_problems = problems
        self._serving = serving
        self.access: Callable[[], protocol.Access | None] = lambda: None
        self.reload_configuration: Callable[[], Awaitable[None]]
        self.needs_restart: Callable[[], Sequence[str]] = lambda: ()
        self.config_changed: Callable[[], bool] = lambda: False
        self._lists = Shares(LISTS)

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Return whether the daemon serves clients; needs no role."""
        if not self._serving():
            raise Refused("busy", "netscand is starting or stopping")
        return answer(protocol.Health(status="degraded" if self._problems() else "ok"))

    async def devices(self, request: web.Request) -> web.StreamResponse:
        """List devices by MAC."""
        given = request.query
        limit = number_of(given, "limit") if "limit" in given else None
        after = self._after(given["after"]) if "after" in given else Mac(b"")
        connection = connection_of(request)
        fits, account = filter_of(given, connection.sites), connection.account
        if fits.tag is not None:
            await warn_of_tag(request, fits.tag, self._scanner, self._hub.turns)
        async with self._may_list(account):
            with self._hub.snapshot(fits, after=after, account=account) as snapshot:
                head = protocol.DeviceList(
                    cursor=snapshot.cursor,
                    last_scan=self._summary.last_scan(),
                    devices=[],
                    conflicts=conflicts_of(self._scanner, self._encoder),
                )
                return await self._stream(request, head, snapshot, limit)

    async def suggestions(self, request: web.Request) -> web.StreamResponse:
        """List devices that are probably one, and why, and those that a user dismissed; changes nothing."""
        account = connection_of(request).account
        found: dict[bool, list[protocol.Suggestion]] = {False: [], True: []}
        for each in await suggestions(self._scanner.devices, self._hub.turns, account):
            mac, into = mac_text(each.other.mac), mac_text(each.device.mac)
            shown = protocol.Suggestion(mac=mac, into=into, name=each.name, evidence=list(each.evidence))
            found[are_different(each.device, each.other)].append(shown)
        new, dismissed = (found[key][:MOST_SUGGESTIONS] for key in (False, True))
        more = any(len(listed) > MOST_SUGGESTIONS for listed in found.values())
        response = answer(protocol.SuggestionList(suggestions=new, dismissed=dismissed, more=more))
        await self._hub.settled()
        return response

    async def device(self, request: web.Request) -> web.StreamResponse:
        """Return a device."""
        mac = primary_of(request, self._scanner)
        device = self._scanner.devices.get(mac)
        if device is None:
            raise no_device(mac)
        response = answer(await shown_wholly(device, self._scanner, self._hub, self._encoder, request))
        await self._hub.settled()
        return response

    async def networks(self, request: web.Request) -> web.StreamResponse:
        """List networks, including excluded ones."""
        return answer(protocol.NetworkList(networks=self._summary.networks(self._sites(request))))

    async def status(self, request: web.Request) -> web.StreamResponse:
        """Return health, load, coverage, drops and version."""
        scanner, load, problems = self._scanner, self._scanner.load(), self._problems()
        sites = self._sites(request)
        networks, conflicts = self._summary.networks(sites), conflicts_of(scanner, self._encoder)
        response = answer(
            protocol.DaemonStatus(
                version=__version__,
                protocol=protocol.PROTOCOL,
                status="degraded" if problems else "ok",
                problems=list(problems),
                role=connection_of(request).role.on_wire,
                started_at=self._encoder.time(scanner.started_at),
                now=self._encoder.now(),
                cursor=scanner.cursor,
                scanning=scanner.scanning,
                interval=scanner.interval,
                last_scan=self._summary.last_scan(),
                devices=self._summary.counts(sites),
                networks=networks,
                clients=self._clients(),
                frames=protocol.Traffic(
                    received=load.received,
                    dropped=load.dropped,
                    broadcast=load.broadcast,
                    unicast=load.unicast,
                    send_errors=load.send_errors,
                    ignored=load.ignored,
                ),
                budget=protocol.Budget(rate=load.rate, background_rate=load.background_rate, used=load.used),
                memory_mib=_memory_mib(),
                limits=self._summary.limits(),
                conflicts=conflicts[:MOST_CONFLICTS],
                conflict_count=len(conflicts),
                access=self.access(),
                needs_restart=list(self.needs_restart()),
                config_changed=self.config_changed(),
            )
        )
        await self._hub.settled()
        return response

    async def reload(self, request: web.Request) -> web.StreamResponse:
        """Read configuration and tokens again."""
        await self.reload_configuration()
        return web.Response(status=204, headers=HEADERS)

    async def scan(self, request: web.Request) -> web.StreamResponse:
        """Request a scan; with `wait=1`, return the devices that it found when it has ended."""
        wait = request.query.get("wait", "0")
        if wait not in ("0", "1"):
            raise Refused("bad_request", f"wait={wait[:64]}: expected 1 or 0")
        scan_request = await struct_of(request, protocol.ScanRequest, "scan request", required=False)
        client = object() if wait == "1" else None
        scan_id = request_scan(self._scanner, scan_request, connection_of(request), client)
        if wait == "0":
            return answer(protocol.ScanTicket(scan_id=scan_id), 202)
        try:
            with self._hub.waiting_for(scan_id) as ended:
                async with asyncio.timeout(LONGEST_SCAN):
                    finish = await ended
        except TimeoutError:  # the scan continues, as one that no connection waits for
            client = None
            return answer(protocol.ScanTicket(scan_id=scan_id), 202)
        finally:
            if client is not None:
                self._scanner.leave_scans(client)
        account, turns = connection_of(request).account, self._hub.turns
        # The end of a scan wakes all clients that wait for it in the same turn of the loop.
        found = await filter_by_targets(finish.scan.found, self._scanner.devices, scan_request.targets, turns, account)
        async with self._may_list(account):
            await turns.turn(account)
            with self._hub.snapshot(macs=found, account=account) as snapshot:
                head = scan_update(
                    finish._replace(cursor=snapshot.cursor), self._summary.counts().online, self._encoder
                )
                return await self._stream(request, head, snapshot, None)

    # ---- parts of answers -----------------------------------------------------------------------------------------

    @staticmethod
    def _after(text: str) -> Mac:
        """Return the key of the device behind which a list continues."""
        return mac_of(text)

    @staticmethod
    def _sites(request: web.Request) -> Filter:
        """Return the filter of a request that has no other parameters than `site`."""
        return Filter(sites=sites_of(request.query, connection_of(request).sites))

    def _may_list(self, account: Account) -> AbstractAsyncContextManager[None]:
        return self._lists.hold(account) if len(self._scanner.devices) > LARGE else nullcontext()

    def _problems(self) -> tuple[str, ...]:
        return tuple(map(for_checkout, (*self._scanner.problems(), *self._server_problems())))

    async def _stream(
        self, request: web.Request, head: msgspec.Struct, snapshot: Snapshot, limit: int | None
    ) -> web.StreamResponse:
        """Stream `head` with the devices of the snapshot."""
        async with connection_of(request).answering(lambda: snapshot.bytes_kept):
            return await self._send_list(request, head, snapshot, limit)

    async def _send_list(
        self, request: web.Request, head: msgspec.Struct, snapshot: Snapshot, limit: int | None
    ) -> web.StreamResponse:
        before, _ = around_devices(head)
        left = len(snapshot) if limit is None else limit
        part = await snapshot.part(min(PART, left))
        if not snapshot.left or len(part) == left:
            body = before + b",".join(part) + await _end(head, snapshot)
            return web.Response(body=body, content_type=JSON, headers=HEADERS)
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": JSON})
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        text = before + b",".join(part)
        while True:
            async with asyncio.timeout(SLOW):
                await response.write(text)
            left -= len(part)
            if not snapshot.left or not left:
                break
            part = await snapshot.part(min(PART, left))
            text = b"".join(b"," + device for device in part)
        await response.write(await _end(head, snapshot))
        return response


async def _end(head: msgspec.Struct, snapshot: Snapshot) -> bytes:
    """Return what follows the devices of a list: that there are more, if another one fits."""
    if isinstance(head, protocol.DeviceList):
        head.more = bool(await snapshot.part(1))
    return around_devices(head)[1]


def _memory_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * getpagesize() / 2**20, 1)
