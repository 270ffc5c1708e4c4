"""What a hub changes in the server of clients: each device has a site, and a client may be limited to some sites."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
from aiohttp import web
from msgspec import Meta

from netscand import protocol, sites
from netscand.core.model import Mac
from netscand.core.restore import EventQuery
from netscand.hub.connection import ServerError
from netscand.hub.published import device_of
from netscand.hub.scanner import Sites
from netscand.hub.settings import TOKENS
from netscand.hub.site import Site, SiteDevice
from netscand.hub.view import key_of, shown_text
from netscand.serve.auth import Role
from netscand.serve.encode import Encoder, mac_text
from netscand.serve.fair_turns import Account
from netscand.serve.history_api import HistoryApi, ListQuery
from netscand.serve.http import Refused, answer, connection_of
from netscand.serve.metrics import Metrics
from netscand.serve.query import EVERYTHING, SITE_PATTERN, Filter, Searched, mac_of, sites_of, struct_of
from netscand.serve.rest import DeviceChanges, Rest, clean_texts
from netscand.serve.routes import API, Query, Route
from netscand.serve.server import Kinds, Server
from netscand.serve.summary import Summary

if TYPE_CHECKING:
    from prometheus_client.core import Metric

STATES = ("connected", "silent", "unknown")
PROBLEMS = ("behind", "wrong_clock", "conflicting", "other_version", "gap", "snapshot", "unreadable", "never_published")


def sites_behind(part: object) -> Sites:
    """Return the sites that a part of the server serves."""
    return cast(Sites, vars(part)["_scanner"])


class SiteEncoder(Encoder):
    """Encoder of devices of sites, which are JSON already."""

    def listed(self, device: Any, fits: Filter | None) -> bytes | None:  # noqa: ANN401 - as in the class above
        """Return the JSON of a device in a list; None if it does not fit."""
        assert isinstance(device, SiteDevice)
        if fits is None:
            return shown_text(device)
        if fits.sites is not None and device.site.name not in fits.sites:
            return None
        text = shown_text(device)
        return text if fits == Filter(sites=fits.sites) or fits.fits(Searched(device_of(text))) else None


class SiteSummary(Summary):
    """Networks and counts of the sites that a client may see."""

    def _chosen(self, fits: Filter) -> Iterator[Site]:
        found = sites_behind(self).view.sites
        return (site for name, site in sorted(found.items()) if fits.sites is None or name in fits.sites)

    def counts(self, fits: Filter = EVERYTHING) -> protocol.Counts:
        """Return the number of devices by status."""
        online, offline, unknown = (sum(column) for column in zip((0, 0, 0), *(
            site.shown_counts() for site in self._chosen(fits)
        ), strict=True))  # fmt: skip
        return protocol.Counts(online=online, offline=offline, unknown=unknown)

    def networks(self, fits: Filter) -> list[protocol.Network]:
        """Return the networks by site and id."""
        return [each for site in self._chosen(fits) for each in site.shown_networks() if fits.scan((each.id,))]

    def sites(self, fits: Filter) -> list[protocol.Site]:
        """Return the sites by name."""
        now = monotonic()
        self._encoder.sync()
        return [site.shown_as(now, self._encoder.time) for site in self._chosen(fits)]

    def initial_state(self, cursor: str, role: Role, fits: Filter) -> protocol.InitialState:
        """Return the first message, without devices."""
        first = super().initial_state(cursor, role, fits)
        first.sites = self.sites(fits)
        return first


def site_device(scanner: Sites, request: web.Request) -> SiteDevice:
    """Return the device that a path names, at the site of the parameter, or the only one. Raises Refused."""
    mac = mac_of(request.match_info["mac"])
    allowed = sites_of(request.query, connection_of(request).sites)
    names = [name for name in scanner.view.sites if allowed is None or name in allowed]
    found = [device for name in sorted(names) if (device := scanner.devices.get(key_of(name, mac))) is not None]
    if not found:
        where = f" at site {request.query['site']}" if "site" in request.query else ""
        raise Refused("not_found", f"no device {mac_text(mac)}{where}")
    if len(found) > 1:
        at = ", ".join(device.site.name for device in found[:8]) + (", …" if len(found) > 8 else "")
        raise Refused("ambiguous", f"{mac_text(mac)} is at several sites: {at}; choose one with site=NAME")
    return found[0]


class SiteRest(Rest):
    """Handlers that read."""

    @staticmethod
    def _after(text: str) -> Mac:
        """Return the key of the device behind which a list continues: `SITE/MAC`."""
        site, _, mac = text.rpartition("/")
        if not re.fullmatch(SITE_PATTERN, site):
            raise Refused("bad_request", f"after={text[:64]}: expected a site and a MAC, as in home/aa:bb:cc:dd:ee:ff")
        return key_of(site, mac_of(mac))

    async def device(self, request: web.Request) -> web.StreamResponse:
        """Return a device."""
        found = device_of(shown_text(site_device(sites_behind(self), request)))
        return answer(found)

    async def sites(self, request: web.Request) -> web.StreamResponse:
        """List the sites, with the condition of each."""
        summary = cast(SiteSummary, self._summary)
        found = summary.sites(self._sites(request))
        return answer(protocol.SiteList(cursor=self._scanner.cursor, sites=found))

    async def scan(self, request: web.Request) -> web.StreamResponse:
        """Request a scan of a site."""
        if request.query.get("wait", "0") != "0":
            raise Refused("bad_request", "wait: a hub does not see when a scan of a site ends; leave it out")
        return await super().scan(request)


ONLY_AT_SITE = ("take_from", "tags", "add_tags", "remove_tags", "not_same_as")
"""Changes of a device that the command `annotate` to a site does not have."""


class SiteChanges(DeviceChanges):
    """Handlers that change devices: the site does it, if it allows that."""

    async def label(self, request: web.Request) -> web.StreamResponse:
        """Pass label, known, notes, patience on to the site; return the device as the hub has it."""
        scanner = sites_behind(self)
        device = site_device(scanner, request)
        update = await struct_of(request, protocol.DeviceUpdate, "device update")
        changes = {name: value for name, value in msgspec.structs.asdict(update).items() if value is not msgspec.UNSET}
        if only := next((name for name in ONLY_AT_SITE if name in changes), None):
            raise Refused("bad_request", f"{only}: only at site {device.site.name} itself")
        clean_texts(changes)
        await at_site(scanner, device, sites.Annotate(mac=mac_text(Mac(device.key[-6:])), **changes))
        return answer(device_of(shown_text(device)))

    async def wake(self, request: web.Request) -> web.StreamResponse:
        """Refuse it: only a host on its network reaches the device."""
        device = site_device(sites_behind(self), request)
        raise Refused("forbidden", f"a device is woken at its site: ask netscand at site {device.site.name}")

    async def forget(self, request: web.Request) -> web.StreamResponse:
        """Refuse it: the site removes devices."""
        device = site_device(sites_behind(self), request)
        raise Refused("forbidden", f"a device is removed at its site: ask netscand at site {device.site.name}")


async def at_site(scanner: Sites, device: SiteDevice, command: sites.Command) -> None:
    """Let a site carry out a command. Raises Refused with a sentence."""
    site = device.site
    hint = f"set it at site {site.name} itself"
    if site.state != "connected":
        raise Refused("busy", f"site {site.name} is {site.state}; {hint}")
    if site.alive is not None and not site.alive.commands:
        raise Refused("forbidden", f"site {site.name} accepts no commands ([uplink] commands there); {hint}")
    try:
        await scanner.log.command(site.name, command)
    except ServerError as error:
        raise Refused("busy", f"{error}; {hint}") from None


class SiteHistoryApi(HistoryApi):
    """Handlers of the past."""

    has_people = False

    async def reach(self, since: str) -> None:
        """Wait until the hub has read up to a client's cursor."""
        await sites_behind(self).log.until_read(since)

    def _scope(self, request: web.Request) -> tuple[frozenset[Mac] | None, frozenset[str] | None]:
        """Return the device and the sites of the events that are requested."""
        if "mac" not in request.match_info:
            return super()._scope(request)
        device = site_device(sites_behind(self), request)
        return frozenset((Mac(device.key[-6:]),)), frozenset((device.site.name,))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer with events; refuse the filters by tag and person: a MAC or a name may be at several sites."""
        if name := next((name for name in ("tag", "person") if name in request.query), None):
            raise Refused(
                "bad_request", f"{name}: a hub lists the events of one device or of all; ask netscand at a site"
            )
        return await super().events(request)

    async def _question(self, query: ListQuery, cursor: str, account: Account) -> EventQuery:
        found = await super()._question(query, cursor, account)
        return replace(found, limit=sys.maxsize) if query.last else found  # all of the messages in which they begin

    async def presence(self, request: web.Request) -> web.StreamResponse:
        """Refuse it: the site has it."""
        device = site_device(sites_behind(self), request)
        raise Refused("forbidden", f"the hours of a device are in the history of its site {device.site.name}")


class SiteMetrics(Metrics):
    """Metrics of the hub, which are of all sites."""

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Return metrics for Prometheus."""
        if connection_of(request).sites is not None:
            raise Refused("forbidden", "metrics cover all sites, but this token is limited to some")
        return await super().respond(request)

    def collect(self) -> "Iterator[Metric]":
        """Yield all metrics."""
        yield from self._of_the_daemon()
        yield from self._of_sites()
        yield from self._of_clients()

    def _of_sites(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        scanner, now = sites_behind(self), monotonic()
        found = scanner.view.sites.values()
        states = GaugeMetricFamily("netscand_sites", "Sites by state.", labels=["state"])
        for state in STATES:
            states.add_metric([state], sum(site.state == state for site in found))
        problems = GaugeMetricFamily("netscand_sites_with_problem", "Sites by problem.", labels=["problem"])
        words = [word for site in found for word in site.problems(now)]
        for problem in PROBLEMS:
            problems.add_metric([problem], words.count(problem))
        devices = GaugeMetricFamily("netscand_devices", "Devices by site and status.", labels=["site", "status"])
        for site in found:
            for status, count in zip(("online", "offline", "unknown"), site.shown_counts(), strict=True):
                devices.add_metric([site.name, status], count)
        yield from (states, problems, devices)
        counts = scanner.view.counts
        messages = CounterMetricFamily("netscand_log_messages", "Messages of the log, by result.", labels=["result"])
        messages.add_metric(["read"], counts.read)
        messages.add_metric(["repeated"], counts.repeated)
        messages.add_metric(["unreadable"], counts.unreadable)
        yield messages
        yield CounterMetricFamily(
            "netscand_log_connections_lost", "Attempts and connections that ended.", value=scanner.log.reconnects
        )
        yield GaugeMetricFamily(
            "netscand_log_delay_seconds",
            "Seconds from storing the last message to reading it.",
            value=scanner.log.delay,
        )
        yield GaugeMetricFamily("netscand_log_sequence", "Number of the last message.", value=scanner.log.sequence)


# ---- routes

SITE = Query("site", Annotated[str, Meta(pattern=SITE_PATTERN)], "only this site")
AFTER = Query(
    "after",
    Annotated[
        str, Meta(pattern=f"{SITE_PATTERN[:-1]}/{protocol.MAC_PATTERN[1:]}", examples=["home/a4:83:e7:12:34:56"])
    ],
    "devices after this site and MAC",
)
WITH_SITE = frozenset((
    "open_stream", "list_devices", "get_device", "update_device", "forget_device", "list_device_events",
    "list_device_presence", "list_events", "list_networks", "get_status",
))  # fmt: skip
"""Operations that a parameter limits to one site."""


AT_A_SITE = frozenset((
    "list_people", "update_person", "remove_person", "merge_devices", "split_device", "list_suggestions",
))  # fmt: skip
"""Operations that only a site has."""


def _of_hub(route: Route) -> Route:
    query, refusals = route.query, route.refusals
    if route.operation in WITH_SITE and query is not None:
        query = (*(AFTER if each.name == "after" else each for each in query), SITE)
        refusals = (*refusals, *((409,) if "{mac}" in route.path else ()), 404)
    return route._replace(query=query, refusals=tuple(dict.fromkeys(refusals)))


HUB_API: Sequence[Route] = (
    *(_of_hub(route) for route in API if route.operation not in AT_A_SITE),
    Route(
        "GET", "/api/sites", Role.READ, SiteRest.sites, {200: protocol.SiteList}, query=(SITE,), refusals=(404,),
        operation="list_sites", tag="networks",
    ),
)  # fmt: skip


class HubServer(Server):
    """Server of clients of a hub."""

    api = HUB_API
    kinds = Kinds(SiteSummary, SiteHistoryApi, SiteRest, SiteChanges, SiteMetrics)
    tokens = TOKENS


Answers = Mapping[int, Any]
