"""`GET /metrics` for Prometheus; a test compares it with docs/metrics.md.

prometheus-client is imported at the first scrape, in a thread: without Prometheus it costs nothing (measured: 1.2 MiB),
and the loop goes on meanwhile. The registry is our own; the library's global one stays empty.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from math import inf, nan
from os import listdir
from pathlib import Path
from resource import getpagesize
from time import process_time
from typing import TYPE_CHECKING, NamedTuple, cast

from aiohttp import web

from netscand import __version__, protocol
from netscand.core.model import Evidence, NetworkState, Status
from netscand.core.ratelimit import table
from netscand.core.restore import Hangs
from netscand.off_loop import OffLoop
from netscand.serve.connection_limits import ConnectionLimiter
from netscand.serve.encode import Encoder
from netscand.serve.histograms import Histogram
from netscand.serve.http import HEADERS, connection_of
from netscand.serve.hub import Hub
from netscand.serve.ports import HistoryPort, Scanner
from netscand.serve.query import SLOW
from netscand.serve.summary import NO_DEVICES, Summary
from netscand.serve.websocket import WebSocketEndpoint

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

MOST_DEVICES = 1000
"""Known devices with a series of their own: they are written within one turn of the loop."""


SIZE_WITHIN = 5.0
"""Seconds that a scrape waits for the size of the history; Prometheus itself waits 10 s."""


class _Stored(NamedTuple):
    """Values of the history, read before the scrape because they may wait for the disk."""

    size: float
    """The last that was known, while the disk does not answer."""
    degraded: bool


class Metrics:
    """Handler of the metrics. `problems` returns the problems of the server."""

    def __init__(
        self,
        scanner: Scanner,
        hub: Hub,
        summary: Summary,
        encoder: Encoder,
        history: HistoryPort | None,
        live: WebSocketEndpoint,
        limiter: ConnectionLimiter,
        problems: Callable[[], tuple[str, ...]],
    ) -> None:
        self._scanner = scanner
        self._hub = hub
        self._summary = summary
        self._encoder = encoder
        self._measures = hub.measures
        self._history = history
        self._live = live
        self._limiter = limiter
        self._problems = problems
        self.has_devices: Callable[[], bool] = lambda: False
        """Returns whether each known device has a series, `[access] device_metrics`."""
        self._stored: _Stored | None = None
        self._registry: CollectorRegistry | None = None
        self._sizing, self._importing = OffLoop(1), OffLoop(8)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Return metrics for Prometheus."""
        if self._history is not None:
            size = self._stored.size if self._stored else nan
            with suppress(TimeoutError):
                size = await self._sizing.do(self._history.size, SIZE_WITHIN)
            self._stored = _Stored(size, bool(self._history.problems()))
        if self._registry is None:
            try:
                self._registry = await self._importing.do(self._registered, SLOW)
            except TimeoutError:
                raise Hangs("a library cannot be read: the disk does not answer") from None
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        await self._hub.turns.turn(connection_of(request).account)
        text = generate_latest(self._registry)
        await self._hub.settled()
        return web.Response(body=text, headers={**HEADERS, "Content-Type": CONTENT_TYPE_LATEST})

    def _registered(self) -> "CollectorRegistry":
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        registry.register(
            cast("Collector", self)
        )  # it has all methods of a Collector; a subclass would cost an import at start
        return registry

    def collect(self) -> "Iterator[Metric]":
        """Yield all metrics."""
        yield from self._of_the_daemon()
        yield from self._of_networks()
        if self.has_devices():
            yield self._of_known_devices()
        yield from self._of_frames()
        yield self._of_budgets()
        yield from self._of_clients()
        yield from self._of_the_history()

    # ---- by what they are about -----------------------------------------------------------------------------------

    def _of_the_daemon(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        build = GaugeMetricFamily(
            "netscand_build_info",
            "Always 1; the labels are the version and the protocol number.",
            labels=["version", "protocol"],
        )
        build.add_metric([__version__, str(protocol.PROTOCOL)], 1)
        yield build
        yield from self._of_the_process()
        degraded = bool(self._scanner.problems() or self._problems())
        yield GaugeMetricFamily("netscand_degraded", "1 while netscanctl status reports degraded.", value=degraded)
        yield _histogram(
            "netscand_loop_lag_seconds", "Delay of a timer in the event loop, once a second.", self._measures.loop_lag
        )
        turns = self._measures.turns
        yield _histogram(
            "netscand_loop_held_seconds", "Iterations of the event loop of 10 ms or longer.", turns.lengths
        )
        yield GaugeMetricFamily(
            "netscand_loop_held_longest_seconds", "Longest iteration of the event loop.", value=turns.longest
        )

    def _of_the_process(self) -> "Iterator[Metric]":
        """Yield the usual metrics of a process; the library's collector reads files that our unit hides."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        started = self._encoder.milliseconds(self._scanner.started_at) / 1000
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        yield GaugeMetricFamily("process_start_time_seconds", "Start time, in unix seconds.", value=started)
        yield CounterMetricFamily("process_cpu_seconds", "Processor time used.", value=process_time())
        yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory.", value=pages * getpagesize())
        yield GaugeMetricFamily("process_open_fds", "Open file descriptors.", value=len(listdir("/proc/self/fd")))

    def _of_networks(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        scanner, encoder = self._scanner, self._encoder
        encoder.sync()
        devices = GaugeMetricFamily(
            "netscand_devices", "Devices by network and status, without this host.", labels=["network", "status"]
        )
        up = GaugeMetricFamily("netscand_network_up", "1 while the network is up and not silent.", labels=["network"])
        ended = GaugeMetricFamily(
            "netscand_last_scan_timestamp_seconds", "End of the last scan, in unix seconds.", labels=["network"]
        )
        covered = GaugeMetricFamily(
            "netscand_coverage_ratio", "Fraction of the addresses that one scan covers.", labels=["network"]
        )
        present = self._summary.presence()
        words = (Status.ONLINE, Status.OFFLINE, Status.UNKNOWN)
        for name, network in sorted(scanner.networks.items()):
            if network.state is NetworkState.EXCLUDED:
                continue
            for status, count in zip(words, present.get(name, NO_DEVICES), strict=True):
                devices.add_metric([name, status], count)
            up.add_metric([name], network.state is NetworkState.UP)
            covered.add_metric([name], scanner.coverage(name).fraction)
            if (last := scanner.last_scan_of(name)) is not None:
                ended.add_metric([name], encoder.milliseconds(last) / 1000)
        yield from (devices, up, ended, covered)

    def _of_known_devices(self) -> "Metric":
        from prometheus_client.core import GaugeMetricFamily

        online = GaugeMetricFamily(
            "netscand_device_online", "1 while a known device is online, 0 while it is offline.", labels=["mac", "name"]
        )
        known = (device for device in self._scanner.devices.values() if device.known and not device.is_self)
        for device in islice(known, MOST_DEVICES):
            if device.status is not Status.UNKNOWN:
                online.add_metric([str(device.mac), device.label or ""], device.status is Status.ONLINE)
        return online

    def _of_frames(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        load = self._scanner.load()
        frames = CounterMetricFamily("netscand_frames", "Frames by direction and kind.", labels=["direction", "kind"])
        frames.add_metric(["received", "any"], load.received)
        frames.add_metric(["sent", "broadcast"], load.broadcast)
        frames.add_metric(["sent", "unicast"], load.unicast)
        yield frames
        understood = CounterMetricFamily(
            "netscand_observations", "Observations from received frames, by evidence.", labels=["evidence"]
        )
        for evidence in Evidence:
            understood.add_metric([evidence], self._scanner.observations.get(evidence.value, 0))
        yield understood
        yield CounterMetricFamily(
            "netscand_frames_dropped", "Frames dropped because the receive buffer was full.", value=load.dropped
        )
        yield CounterMetricFamily(
            "netscand_frames_ignored", "Frames received but not decoded, beyond the limit.", value=load.ignored
        )
        yield CounterMetricFamily(
            "netscand_send_errors", "Times that an interface refused to send a frame.", value=load.send_errors
        )
        budget = GaugeMetricFamily(
            "netscand_budget_frames_per_second", "Maximum frames in a second; +Inf: unlimited.", labels=["kind"]
        )
        budget.add_metric(["any"], load.rate or inf)
        budget.add_metric(["background_broadcast"], load.background_rate or inf)
        yield budget
        yield GaugeMetricFamily(
            "netscand_budget_used_frames_per_second", "Frames sent in the last whole second.", value=load.used
        )

    def _of_budgets(self) -> "Metric":
        from prometheus_client.core import CounterMetricFamily

        limited = CounterMetricFamily("netscand_limited", "Refusals, by budget.", labels=["limit"])
        for budget in table():
            limited.add_metric([budget.name], self._scanner.budgets.refused[budget.name])
        return limited

    def _of_clients(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield GaugeMetricFamily("netscand_clients", "Open WebSockets.", value=self._live.clients)
        yield GaugeMetricFamily(
            "netscand_connections", "Connections of every kind.", value=len(self._limiter.connections)
        )
        refused_connections = CounterMetricFamily(
            "netscand_connections_refused", "Connections refused or closed, by limit.", labels=["limit"]
        )
        for limit, count in (
            *((limit, self._limiter.refused[limit]) for limit in ("all", "peer", "strangers", "account")),
            ("clients", self._live.refused),
        ):
            refused_connections.add_metric([limit], count)
        refused = CounterMetricFamily(
            "netscand_requests_refused", "Requests refused before they reach a route, by code.", labels=["code"]
        )
        for code, count in sorted(self._measures.refused_requests.items()):
            refused.add_metric([code], count)
        yield from (refused_connections, refused)
        yield _histogram(
            "netscand_event_lag_seconds",
            "From the timestamp of a frame to the sending of its event.",
            self._measures.event_lag,
        )

    def _of_the_history(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        if self._stored is not None:
            yield GaugeMetricFamily(
                "netscand_history_size_bytes", "Size of the history on the disk.", value=self._stored.size
            )
            yield GaugeMetricFamily(
                "netscand_history_degraded",
                "1 while events may be lost at a restart, or after a loss.",
                value=self._stored.degraded,
            )


def _histogram(name: str, description: str, found: Histogram) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    buckets = [("+Inf" if bound == inf else str(float(bound)), count) for bound, count in found.buckets()]
    return HistogramMetricFamily(name, description, buckets=buckets, sum_value=found.sum)
