"""MQTT: an event's way from the frame's arrival (`seen_at`) to a subscriber; the discovery of many devices."""

import json
import random
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tests.bench.push import APART, JOINS, NETWORK, populated
from tests.bench.report import Figure, Options, Result, Row, median, quantile
from tests.ctl.fake_daemon import FakeDaemon
from tests.engines.mosquitto import Mosquitto, Subscriber, many, wait
from tests.engines.service_process import Running
from tests.lab.lan import Lab
from tests.lab.spaces import temporary_folder

DEVICES = 1000
PERCENT = ((50, 5.0), (99, 25.0))
"""Percentile, and the most milliseconds it may be."""


def event_delays(folder: Path, joins: int) -> list[float]:
    """Return the milliseconds from `seen_at` to the subscriber's clock, for each device that joins a real LAN."""
    draw = random.Random(joins)
    broker = Mosquitto(folder)
    subscriber = Subscriber(broker)
    try:
        with Lab(NETWORK) as lab:
            newcomers = populated(lab, joins, joins)
            daemon = lab.daemon(as_user=True)
            for path in (lab.folder, daemon.folder):
                path.chmod(0o755)
            service = Running(folder, daemon.socket, broker=broker.url, devices="all")
            service.start()
            try:
                wait("the first cursor", (service.state / "cursor").exists)
                wait("the first scan", lambda: daemon.get("/api/status")["last_scan"])
                for ip in newcomers:
                    lab.crowds[0].join(ip)
                    time.sleep(draw.uniform(*APART))
                wait("all events", lambda: len(arrivals(subscriber, newcomers)) == joins)
            finally:
                service.close()
        return list(arrivals(subscriber, newcomers).values())
    finally:
        subscriber.close()
        broker.kill()


def arrivals(subscriber: Subscriber, addresses: list[str]) -> dict[str, float]:
    """Return address → milliseconds of its `discovered` event on the way."""
    wanted, to_wall = set(addresses), time.time() - time.monotonic()
    found: dict[str, float] = {}
    for at, (topic, payload) in list(zip(subscriber.at, subscriber.messages, strict=False)):
        if topic == "netscand/home/event":
            event = json.loads(payload)
            if event["kind"] == "discovered" and event["address"] in wanted:
                found[event["address"]] = 1000 * (at + to_wall - datetime.fromisoformat(event["seen_at"]).timestamp())
    return found


def discovery_seconds(folder: Path) -> float:
    """Return the seconds from the first to the last message of DEVICES devices, each with its state and discovery."""
    broker = Mosquitto(folder)
    subscriber = Subscriber(broker)
    daemon = FakeDaemon(folder / "netscand.sock")
    daemon.devices = many(DEVICES)
    daemon.start()
    (folder / "netscand.sock").chmod(0o666)
    service = Running(folder, folder / "netscand.sock", broker=broker.url, devices="all")
    try:
        service.start()
        wait("everything", lambda: len(subscriber.retained) == 2 * DEVICES + 3)
        topics = [topic for topic, _ in subscriber.messages]
        return subscriber.at[-1] - subscriber.at[next(at for at, topic in enumerate(topics) if "/device/" in topic)]
    finally:
        service.close()
        daemon.stop()
        subscriber.close()
        broker.kill()


def mqtt(options: Options, say: Callable[[str], None]) -> Result:
    """Measure the way of each newcomer's event."""
    folder = temporary_folder("bench-mqtt")
    folder.chmod(0o755)
    try:
        for name in ("events", "discovery"):
            (folder / name).mkdir()
        took = event_delays(folder / "events", options.times(JOINS))
        discovery = discovery_seconds(folder / "discovery")
    finally:
        shutil.rmtree(folder)
    say(f"p50 {median(took):.2f} ms, p99 {quantile(took, 0.99):.2f} ms, {DEVICES} devices {discovery:.2f} s")
    figures = [Figure(f"p{percent}", quantile(took, percent / 100), "ms", most=most) for percent, most in PERCENT]
    return Result(
        figures, {"ms": [round(value, 4) for value in took]}, ("QoS 1; broker and subscriber on this machine",)
    )


ROW = Row("mqtt", "seen_at of a gratuitous ARP → a subscriber of mosquitto, by netscand-mqtt; discovery", mqtt)
