"""The page in headless Chromium: how soon it shows something, and what 1,000 devices with 20 changes a second cost.

Seconds of CPU are Chromium's own counters (Performance.getMetrics and SystemInfo.getProcessInfo of its debugging
protocol), of the tab's process and of the one that paints: there is no graphics card here, so painting is counted too.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network

from tests.bench.report import Figure, Options, Result, Row, median, quantile
from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web.chromium import Chromium, Page, installed

NETWORK = "10.77.0.0/21"
DEVICES = 1000
CHANGES = 20
"""A second."""
LOADS = 20
SECONDS = 20
URL = "http://127.0.0.1:8000/"

CONFIG = "[scan]\nrate = 0\nbackground_rate = 2000\n"

SHOWN = f"Number(document.querySelector('#count-all').textContent.replace(/\\D/g, '')) >= {DEVICES}"
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def run(options: Options, say: Callable[[str], None]) -> Result:
    """One lab, one browser."""
    if installed() is None:
        return Result([Figure("first content, median", float("nan"), "ms", most=200)], {}, ("no Chromium installed",))
    with Lab(NETWORK) as lab:
        crowd = lab.crowd()
        addresses = lab.addresses(DEVICES, start=16)
        crowd.populate(addresses)
        daemon = lab.daemon(CONFIG, as_user=True)
        fill(daemon)
        with Chromium(lab.watcher.space) as browser:
            painted, shown, size = loads(browser, options.times(LOADS))
            say(f"first content {median(painted):.0f} ms, all devices {median(shown):.0f} ms")
            page = browser.page(URL, width=1440, height=900)
            page.until(SHOWN)
            time.sleep(2)
            seconds = options.times(SECONDS)
            idle = cost(browser, page, seconds)
            with changing(crowd, addresses):
                time.sleep(1)
                begun, at = events(daemon), time.monotonic()
                busy = cost(browser, page, seconds)
                rate = (events(daemon) - begun) / (time.monotonic() - at)
            say(f"{rate:.1f} changes/s: {busy['process']:.1f} % of a core")
            mistakes = list(page.errors)
    figures = [
        Figure("all files", size / 1000, "kB", most=100),
        Figure("first content, median", median(painted), "ms", most=200),
        Figure("first content, p90", quantile(painted, 0.9), "ms"),
        Figure(f"{DEVICES} devices in the list, median", median(shown), "ms"),
        Figure("CPU, nothing happens", idle["process"] + idle["painter"], "%"),
        Figure("changes", rate, "/s", least=0.9 * CHANGES),
        Figure("CPU, changes", busy["process"] + busy["painter"], "%", most=30),
        Figure("main thread occupied, changes", busy["occupied"], "%"),
        Figure("heap of the page", busy["heap"], "MB"),
        Figure("errors in the console", len(mistakes), "", most=0),
    ]
    return Result(figures, {"first content, ms": painted, "list, ms": shown}, tuple(mistakes))


def fill(daemon: Daemon) -> None:
    """Wait until the daemon knows everybody."""
    ends = time.monotonic() + 60
    while daemon.get("/api/status")["devices"]["online"] < DEVICES:
        if time.monotonic() > ends:
            raise RuntimeError("the daemon does not find the crowd")
        time.sleep(0.2)


def events(daemon: Daemon) -> int:
    """How many there were."""
    return int(daemon.get("/api/status")["cursor"].rpartition("-")[2])


def loads(browser: Chromium, times: int) -> tuple[list[float], list[float], int]:
    """Milliseconds from the request to the first content and to the whole list, each with an empty cache; bytes."""
    painted, shown, size = [], [], 0
    for _ in range(times):
        page = browser.page(width=1440, height=900)
        page.call("Network.setCacheDisabled", {"cacheDisabled": True})
        page.go(URL)
        page.js(
            f"new Promise(done => {{ const look = () => {SHOWN} ? (window.shownAt = performance.now(), done(1))"
            " : setTimeout(look, 5); look() }), 0"
        )
        painted.append(float(page.until(PAINTED)))
        shown.append(float(page.until("window.shownAt")))
        sizes = (
            "performance.getEntries().filter(e => e.decodedBodySize && !/api/.test(e.name)).map(e => e.decodedBodySize)"
        )
        size = sum(page.js(sizes))
        page.close()
    return painted, shown, size


def cost(browser: Chromium, page: Page, seconds: float) -> dict[str, float]:
    """Per cent of a core over the next seconds, and megabytes."""

    def counters() -> tuple[float, float, float, float]:
        metrics = page.metrics()
        processes = browser.call("SystemInfo.getProcessInfo")["processInfo"]
        painter = sum(one["cpuTime"] for one in processes if one["type"] == "GPU")
        return time.monotonic(), metrics["ProcessTime"], painter, metrics["TaskDuration"]

    before = counters()
    time.sleep(seconds)
    after = counters()
    wall, process, painter, occupied = (late - early for early, late in zip(before, after, strict=True))
    heap = page.metrics()["JSHeapUsedSize"] / 1e6
    return {
        "process": 100 * process / wall,
        "painter": 100 * painter / wall,
        "occupied": 100 * occupied / wall,
        "heap": heap,
    }


def free_besides(addresses: list[str]) -> list[str]:
    """Addresses of the network that no device has."""
    return sorted({str(ip) for ip in list(ip_network(NETWORK).hosts())[16:]} - set(addresses))


@contextmanager
def changing(crowd: Crowd, addresses: list[str]) -> Iterator[None]:
    """Devices in sight and out of it take other addresses, evenly."""
    draw = random.Random(7)
    over = threading.Event()

    def change() -> None:
        held, free, due = list(addresses), free_besides(addresses), time.monotonic()
        while not over.is_set():
            one, other = draw.randrange(len(held)), draw.randrange(len(free))
            crowd.move(held[one], free[other])
            held[one], free[other] = free[other], held[one]
            due += 1 / CHANGES
            over.wait(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


ROW = Row("page", "the page in headless Chromium: first content, and 1,000 devices with 20 changes/s", run)
