"""`netscand --once`: scan, print the devices, exit; works without the service, and while it runs."""

import asyncio
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from random import SystemRandom

from netscand import protocol
from netscand.config import Config
from netscand.core.inventory import Inventory
from netscand.core.kinds import DeviceKinds
from netscand.core.model import Device, Event, Mac, Network, ScanFailed, ScanFinished, ScanNews
from netscand.core.planner import Pace, Planner
from netscand.core.presence import Rules
from netscand.engine import Engine, Numbers
from netscand.lan.interfaces import Interfaces
from netscand.lan.vendors import Vendors
from netscand.lan.wire import Wire
from netscand.serve.encode import Encoder

LONGEST = 3600.0
"""Seconds after which a scan is considered stuck."""


class _ScanListener:
    """Receiver of events that waits for the end of one scan."""

    def __init__(self) -> None:
        self.scan_id = 0
        self.ended = asyncio.Event()
        self.found: tuple[Mac, ...] = ()
        self.errors: list[str] = []

    def publish(self, cursor: str, event: Event, body: bytes) -> None:
        """Ignore events."""

    def publish_scan(self, news: ScanNews) -> None:
        """Note errors and the end of the scan."""
        if isinstance(news, ScanFailed):
            self.errors.append(f"{news.network}: {news.message}")
        elif isinstance(news, ScanFinished) and news.scan_id == self.scan_id:
            self.found = news.found
            self.ended.set()


def once(config: Config, *, as_json: bool) -> int:
    """Scan every network and print the devices that answered; return the exit code."""
    return asyncio.run(_once(config, as_json=as_json))


def nothing_to_scan(networks: Iterable[Network]) -> str:
    """Return why there is no network to scan, network by network."""
    seen = [f"{network.id} ({network.state}: {network.why})" for network in networks]
    return f"no network to scan: {', '.join(seen) or 'no interface has an IPv4 address'}"


def by_address(device: Device) -> tuple[bool, int, bytes, Mac]:
    """Return the sort key: by IPv4, then by IPv6, then devices without an address."""
    ip = device.ip or b""
    return not ip, len(ip), ip, device.mac


async def _once(config: Config, *, as_json: bool) -> int:
    listener = _ScanListener()
    now = time.monotonic()
    inventory = Inventory(Rules(config.presence.probe_interval, *config.presence.patience), SystemRandom())
    pace = Pace(config.scan.rate, config.scan.background_rate, config.scan.tries)
    planner = Planner(inventory, pace, now, SystemRandom())
    wire = Wire(lambda batch: engine.observe(batch))
    engine = Engine(inventory, planner, wire, Numbers("once"), listener, clock=time.monotonic)
    interfaces = Interfaces(engine.set_networks, config.scan, config.network)
    wire.open()
    try:
        engine.set_networks(interfaces.open())
        if not any(network.state == "up" and network.swept for network in engine.networks.values()):
            sys.stderr.write(f"netscand: {nothing_to_scan(engine.networks.values())}\n")
            return 69
        listener.scan_id = engine.scan_now(())
        async with asyncio.TaskGroup() as rooms:
            tasks = [rooms.create_task(wire.run()), rooms.create_task(engine.run())]
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST):
                    await listener.ended.wait()
            for task in tasks:
                task.cancel()
    finally:
        wire.close()
        interfaces.close()
    vendor = Vendors().of  # only now: reading the table would delay the scan
    translator = Encoder(offset=lambda: time.time() - time.monotonic(), vendor=vendor)
    found = sorted((inventory.devices[mac] for mac in listener.found if mac in inventory.devices), key=by_address)
    kinds = DeviceKinds(inventory.budgets, vendor)
    for device in found:
        kinds.update(device, now, is_new=True)
    devices = [translator.device(device) for device in found]
    if as_json:
        text = protocol.encode(devices).decode() + "\n"
    else:
        text = "".join(f"{device.ip or '-':<15}  {device.mac}  {device.vendor or '-'}\n" for device in devices)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as wrong:  # a closed pipe is the reader's choice; a full disk is a fault
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(wrong, BrokenPipeError):
            sys.stderr.write(f"netscand: cannot write: {wrong.strerror}\n")
            return 69
    for error in listener.errors:
        sys.stderr.write(f"netscand: {error}\n")
    return 69 if listener.errors and not devices else 0
