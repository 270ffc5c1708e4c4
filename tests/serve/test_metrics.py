"""`/metrics`, by Prometheus' rules, and as docs/metrics.md lists it."""

import asyncio
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from netscand import __version__
from netscand.core.model import Evidence, NetworkState, Status
from netscand.core.ratelimit import NEWCOMERS, table
from netscand.serve import histograms, metrics, websocket
from netscand.serve.histograms import Histogram, TimedSelector, Turns
from tests.serve.house import BOOT, LAN, OTHER, TOKENS, EmptyHistory, House, house, mac, receive, token_file

ROOT = Path(__file__).parents[2]
Found = dict[str, Metric]


async def scrape(lan: House) -> tuple[str, Found]:
    """Return what Prometheus sees: families by name, counters without their suffix."""
    answer = await lan.raw(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", tcp=False)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return head.decode(), {family.name: family for family in text_string_to_metric_families(body.decode())}


def value(found: Found, name: str, **labels: str) -> float:
    """Return the one sample with this name and these labels."""
    (sample,) = [
        sample
        for family in found.values()
        for sample in family.samples
        if (sample.name, sample.labels) == (name, labels)
    ]
    return float(sample.value)


def test_it_has_devices_networks_frames_and_clients(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path, devices=4) as lan, lan.ws() as client:
            await receive(client)
            lan.scanner.add(9, OTHER)
            lan.scanner.turn(1, Status.OFFLINE)
            lan.scanner.turn(2, Status.UNKNOWN)
            lan.scanner.finish(42)
            head, found = await scrape(lan)
            assert "text/plain" in head
            for status, count in (("online", 2), ("offline", 1), ("unknown", 1)):
                assert value(found, "netscand_devices", network=LAN, status=status) == count
            assert value(found, "netscand_devices", network=OTHER, status="online") == 1
            assert value(found, "netscand_network_up", network=LAN) == 1
            assert value(found, "netscand_coverage_ratio", network=LAN) == 1
            last = value(found, "netscand_last_scan_timestamp_seconds", network=LAN)
            assert last == pytest.approx(BOOT + (lan.scanner.last_scan or 0), abs=0.01)
            assert len(found["netscand_last_scan_timestamp_seconds"].samples) == 1
            assert value(found, "netscand_frames_total", direction="received", kind="any") == 1
            assert value(found, "netscand_frames_dropped_total") == 2
            assert value(found, "netscand_frames_ignored_total") == 8
            assert value(found, "netscand_frames_total", direction="sent", kind="broadcast") == 3
            assert value(found, "netscand_frames_total", direction="sent", kind="unicast") == 4
            assert value(found, "netscand_send_errors_total") == 5
            assert value(found, "netscand_budget_frames_per_second", kind="any") == 1000
            assert value(found, "netscand_budget_frames_per_second", kind="background_broadcast") == 50
            assert value(found, "netscand_budget_used_frames_per_second") == 6
            assert value(found, "netscand_observations_total", evidence="arp_reply") == 7
            assert len(found["netscand_observations"].samples) == len(Evidence)
            assert value(found, "netscand_clients") == 1
            assert value(found, "netscand_connections") == 2
            assert value(found, "netscand_build_info", version=__version__, protocol="1") == 1
            assert value(found, "netscand_history_size_bytes") == 4096
            assert value(found, "netscand_history_degraded") == 0
            assert value(found, "process_resident_memory_bytes") > 10 * 2**20
            assert value(found, "process_open_fds") > 3

    asyncio.run(play())


def test_a_disk_that_hangs_delays_a_scrape_shortly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS F33: later scrapes do not wait at all, and take no thread."""
    monkeypatch.setattr(metrics, "SIZE_WITHIN", 0.1)
    thaw, asked = threading.Event(), 0

    class Hanging(EmptyHistory):
        def size(self) -> int:
            nonlocal asked
            asked += 1
            if asked > 1:
                thaw.wait(60)
            return 4000 + asked

    async def play() -> None:
        async with house(tmp_path, archive=Hanging()) as lan, asyncio.timeout(30):
            sizes = [value((await scrape(lan))[1], "netscand_history_size_bytes") for _ in range(4)]
            assert (sizes, asked) == ([4001] * 4, 2)

    try:
        asyncio.run(play())
    finally:
        thaw.set()


def test_every_budget_reports_what_it_refused(tmp_path: Path) -> None:
    """From 0 on, so that a first refusal is an increase."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            for _ in range(3):
                lan.scanner.budgets.refuse(NEWCOMERS, time.monotonic())
            _, found = await scrape(lan)
            assert {sample.labels["limit"] for sample in found["netscand_limited"].samples} == {
                row.name for row in table()
            }
            assert value(found, "netscand_limited_total", limit="newcomers") == 3
            assert value(found, "netscand_limited_total", limit="renames") == 0

    asyncio.run(play())


def test_known_devices_have_a_series_only_where_the_configuration_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never more than MOST_DEVICES; none for a device in doubt, and none for one that is not marked as known."""

    async def play(path: Path, wanted: bool) -> list[tuple[str, float]]:
        path.mkdir()
        async with house(path, devices=5, access={"device_metrics": wanted}) as lan:
            for number in (1, 2, 3):
                lan.scanner.label(mac(number), {"known": True})
            lan.scanner.label(mac(1), {"label": 'a "quoted" name'})
            lan.scanner.turn(2, Status.OFFLINE)
            lan.scanner.turn(3, Status.UNKNOWN)
            _, found = await scrape(lan)
            family = found.get("netscand_device_online")
            found_samples = family.samples if family else []
            names = {sample.labels["mac"]: sample.labels["name"] for sample in found_samples}
            assert names.get(str(mac(1)), 'a "quoted" name') == 'a "quoted" name'
            return [(sample.labels["mac"], sample.value) for sample in found_samples]

    assert asyncio.run(play(tmp_path / "without", False)) == []
    assert asyncio.run(play(tmp_path / "with", True)) == [(str(mac(1)), 1), (str(mac(2)), 0)]
    monkeypatch.setattr(metrics, "MOST_DEVICES", 1)
    assert asyncio.run(play(tmp_path / "few", True)) == [(str(mac(1)), 1)]


def test_an_excluded_or_removed_network_is_not_reported(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            lan.scanner.networks[OTHER] = replace(lan.scanner.networks[OTHER], state=NetworkState.EXCLUDED)
            _, found = await scrape(lan)
            assert {sample.labels["network"] for sample in found["netscand_devices"].samples} == {LAN}

    asyncio.run(play())


def test_degraded_and_unlimited_are_reported(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            lan.scanner.troubles = ("the disk is full",)
            free = lan.scanner.load()._replace(rate=0, background_rate=0)
            lan.scanner.load = lambda: free  # type: ignore[method-assign]
            _, found = await scrape(lan)
            assert value(found, "netscand_degraded") == 1
            assert value(found, "netscand_budget_frames_per_second", kind="any") == inf

    asyncio.run(play())


def test_the_lag_of_an_event_is_counted_from_its_frame(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            lan.scanner.join(50)
            assert value((await scrape(lan))[1], "netscand_event_lag_seconds_count") == 0
            async with lan.ws() as client:
                await receive(client)
                for number in (51, 52, 53):
                    lan.scanner.join(number)
                _, found = await scrape(lan)
                assert value(found, "netscand_event_lag_seconds_count") == 3
                assert 0 < value(found, "netscand_event_lag_seconds_sum") < 3
                assert value(found, "netscand_event_lag_seconds_bucket", le="+Inf") == 3

    asyncio.run(play())


def test_refusals_are_counted_by_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "RESERVED", 0)  # otherwise root gets a reserved one

    async def play() -> None:
        access = {"others": "none", "token_file": token_file(tmp_path)}
        async with house(tmp_path, access=access, listen={"max_clients": 1, "max_per_peer": 2}) as lan:
            host = f"Host: localhost:{lan.port}\r\n"
            for header in (
                host,
                "Host: evil\r\n",
                f"{host}Origin: http://evil\r\n",
                f"{host}Authorization: Bearer x\r\n",
            ):
                await lan.head(f"GET /api/status HTTP/1.1\r\n{header}\r\n".encode())
            async with asyncio.timeout(30):
                while lan.server._limiter.connections:
                    await asyncio.sleep(0.01)
            two = [await asyncio.open_connection("127.0.0.1", lan.port) for _ in range(2)]
            third, writer = await asyncio.open_connection("127.0.0.1", lan.port)
            with suppress(ConnectionResetError):
                assert await third.read() == b""
            async with lan.ws():
                assert (await lan.ask("GET", "/ws", headers={"Upgrade": "websocket"}))[0] == 503
            _, found = await scrape(lan)
            assert value(found, "netscand_requests_refused_total", code="unauthorized") == 2
            assert value(found, "netscand_requests_refused_total", code="bad_request") == 1
            assert value(found, "netscand_requests_refused_total", code="forbidden") == 1
            assert value(found, "netscand_connections_refused_total", limit="peer") == 1
            assert value(found, "netscand_connections_refused_total", limit="clients") == 1
            assert value(found, "netscand_connections_refused_total", limit="all") == 0
            for other in (writer, *(other for _, other in two)):
                other.close()

    asyncio.run(play())


def test_a_blocked_loop_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histograms, "LOOK", 0.01)

    async def play() -> None:
        async with house(tmp_path) as lan:
            await asyncio.sleep(0.02)
            subprocess.run(["sleep", "0.3"], check=True)  # blocks it, as nothing may
            await asyncio.sleep(0.05)
            _, found = await scrape(lan)
            late = value(found, "netscand_loop_lag_seconds_bucket", le="+Inf") - value(
                found, "netscand_loop_lag_seconds_bucket", le="0.1"
            )
            assert late >= 1

    asyncio.run(play())


def test_each_long_turn_of_the_loop_is_measured(tmp_path: Path) -> None:
    """A sample a second misses it, but it is counted; turns before `reset` are not."""
    turns = Turns()

    async def play() -> None:
        time.sleep(0.4)
        await asyncio.sleep(0)
        turns.reset()
        for seconds in (0.15, 0.03, 0.0):
            time.sleep(seconds)
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(TimedSelector(turns))) as runner:
        runner.run(play())
    counts = dict(turns.lengths.buckets())
    assert counts[inf] - counts[0.1] == 1
    assert counts[inf] >= 2
    assert 0.15 <= turns.longest < 0.4
    assert turns.lengths.sum >= 0.18


def test_a_value_is_in_the_buckets_from_its_bound_on() -> None:
    found = Histogram((1.0, 2.0))
    for one in (0.5, 1.0, 1.5, 7.0):
        found.record(one)
    assert found.buckets() == [(1.0, 2), (2.0, 3), (inf, 4)]
    assert found.sum == 10.0


def test_it_needs_the_role_read_and_takes_a_token(tmp_path: Path) -> None:
    async def play() -> None:
        access = {"others": "none", "token_file": token_file(tmp_path)}
        async with house(tmp_path, access=access) as lan:
            for token, status in ((None, b"401"), (TOKENS["read"], b"200")):
                bearer = f"Authorization: Bearer {token}\r\n" if token else ""
                head = await lan.head(f"GET /metrics HTTP/1.1\r\nHost: localhost:{lan.port}\r\n{bearer}\r\n".encode())
                assert head.split(b" ")[1] == status

    asyncio.run(play())


# ---- Prometheus' rules ----------------------------------------------------------------------------------------------


def test_names_and_units_are_by_the_rules(tmp_path: Path) -> None:
    """prometheus.io/docs/practices/naming: base units in the name, `_total` on counters alone, help for each."""

    async def play() -> None:
        async with house(tmp_path) as lan:
            lan.scanner.finish(42)
            _, found = await scrape(lan)
            assert len(found) > 20
            for name, family in found.items():
                assert re.fullmatch(r"(netscand|process)_[a-z][a-z_]*[a-z]", name)
                assert re.fullmatch(r"[A-Z0-9].*\.", family.documentation), name
                assert not re.search(r"(milli|micro|kilo|mega|_ms\b|_mib|_percent|minutes|days)", name)
                assert family.type in ("gauge", "counter", "histogram")
                assert not name.endswith(("_total", "_count", "_sum", "_bucket"))
                names = {sample.name for sample in family.samples}
                if family.type == "counter":
                    assert names == {f"{name}_total"}
                elif family.type == "gauge":
                    assert names == {name}
                else:
                    assert names == {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
                for sample in family.samples:
                    assert all(re.fullmatch(r"[a-z]+", label) for label in sample.labels)

    asyncio.run(play())


def test_the_page_lists_every_metric_with_its_type_and_labels(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([`\w ]*)\|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    listed = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}

    async def play() -> None:
        async with house(tmp_path, access={"device_metrics": True}) as lan:
            lan.scanner.finish(42)
            lan.scanner.label(mac(1), {"known": True})
            _, found = await scrape(lan)
            told = {
                f"{name}_total" if family.type == "counter" else name: (
                    family.type,
                    {label for sample in family.samples for label in sample.labels} - {"le"},
                )
                for name, family in found.items()
            }
            assert told == listed

    asyncio.run(play())


def test_words_of_the_page_are_those_of_the_labels(tmp_path: Path) -> None:
    pages = [(ROOT / "docs" / name).read_text() for name in ("metrics.md", "security.md")]
    page = pages[0] + pages[1].partition("## Budgets")[2]  # the page lists these

    async def play() -> None:
        async with house(tmp_path) as lan:
            _, found = await scrape(lan)
            for family in found.values():
                for sample in family.samples:
                    for label, word in sample.labels.items():
                        if label not in ("network", "version", "protocol", "le"):
                            assert f"`{word}`" in page, (family.name, word)

    asyncio.run(play())


# ---- what it costs --------------------------------------------------------------------------------------------------


def test_the_library_is_imported_at_the_first_scrape() -> None:
    program = """if True:
        import sys
        import netscand.daemon
        assert "prometheus_client" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_nothing_is_registered_with_the_library_at_large(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as lan:
            await scrape(lan)
            assert not [family for family in REGISTRY.collect() if family.name.startswith("netscand")]

    asyncio.run(play())
