"""Networks, counts, and the messages that begin with them."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic

import msgspec

from netscand import __version__, protocol
from netscand.core.model import Device, Status
from netscand.serve.auth import Role
from netscand.serve.encode import Encoder
from netscand.serve.histograms import until_next
from netscand.serve.ports import Scanner
from netscand.serve.query import Filter

COUNT_INTERVAL = 1.0
"""Seconds between two counts of a large inventory; one takes some 20 ms for 65,533 devices."""

NO_DEVICES = (0, 0, 0)

SMALL = 4096
"""Number of devices up to which each change is counted at once."""


class _PresenceCounts:
    """Number of devices by status, without this host."""

    def __init__(self, cursor: str) -> None:
        self.cursor = cursor
        self.devices = self.online = self.offline = self.unknown = 0
        self.by_network: dict[str, list[int]] = {}
        """Online, offline and unknown in each network."""

    def add(self, devices: Collection[Device]) -> None:
        """Count devices."""
        self.devices += len(devices)
        by_network = self.by_network
        online, offline = Status.ONLINE, Status.OFFLINE
        for device in devices:  # compared by identity: the hash of an enum is slow, and there may be 65,533 devices
            status = device.status
            if device.is_self:
                continue
            if status is online:
                self.online += 1
                column = 0
            elif status is offline:
                self.offline += 1
                column = 1
            else:
                self.unknown += 1
                column = 2
            addresses = device.addresses
            for name in (addresses[0].network,) if len(addresses) == 1 else {address.network for address in addresses}:
                row = by_network.get(name)
                if row is None:
                    row = by_network[name] = [0, 0, 0]
                row[column] += 1


class Summary:
    """Everything that is published beside devices and events."""

    def __init__(self, scanner: Scanner, encoder: Encoder, clock: Callable[[], float] = monotonic) -> None:
        self._scanner = scanner
        self._encoder = encoder
        self._clock = clock
        self._counted = _PresenceCounts("")

    @property
    def devices(self) -> int:
        """Number of devices."""
        return len(self._scanner.devices)

    def counts(self) -> protocol.Counts:
        """Return the number of devices by status, without this host."""
        counted = self._count()
        return protocol.Counts(online=counted.online, offline=counted.offline, unknown=counted.unknown)

    def presence(self) -> Mapping[str, Sequence[int]]:
        """Return the devices online, offline and unknown in each network that has any, without this host."""
        return self._count().by_network

    def limits(self) -> list[protocol.Limit]:
        """Return what budgets refused, by name."""
        found = self._scanner.budgets.report(self._clock())
        return [protocol.Limit(name=name, refused=count, limiting=limiting) for name, count, limiting in found]

    def networks(self, fits: Filter) -> list[protocol.Network]:
        """Return the networks by id."""
        by_network = self._count().by_network
        scanner, encoder = self._scanner, self._encoder
        encoder.sync()
        return [
            encoder.network(
                network, scanner.coverage(name), by_network.get(name, NO_DEVICES)[0], scanner.last_scan_of(name)
            )
            for name, network in sorted(scanner.networks.items())
            if fits.scan((name,))
        ]

    def last_scan(self) -> str | None:
        """Return when the last scan ended."""
        ended = self._scanner.last_scan
        return None if ended is None else self._encoder.time(ended)

    def initial_state(self, cursor: str, role: Role, fits: Filter) -> protocol.InitialState:
        """Return the first message, without devices."""
        return protocol.InitialState(
            protocol=protocol.PROTOCOL,
            version=__version__,
            cursor=cursor,
            interval=self._scanner.interval,
            scanning=self._scanner.scanning,
            last_scan=self.last_scan(),
            role=role.on_wire,
            networks=self.networks(fits),
            devices=[],
        )

    async def run(self) -> None:
        """Count a large inventory once a second, in slices, until cancelled."""
        while True:
            await asyncio.sleep(until_next(COUNT_INTERVAL))
            devices = self._scanner.devices
            if len(devices) > SMALL and self._scanner.cursor != self._counted.cursor:
                counted = _PresenceCounts(self._scanner.cursor)
                everyone = list(devices.values())
                for start in range(0, len(everyone), SMALL):
                    counted.add(everyone[start : start + SMALL])
                    await asyncio.sleep(0)
                self._counted = counted

    def _count(self) -> _PresenceCounts:
        """Count now; for a large inventory, return the last count."""
        scanner, counted = self._scanner, self._counted
        if scanner.cursor != counted.cursor and (len(scanner.devices) <= SMALL or counted.devices <= SMALL):
            counted = self._counted = _PresenceCounts(scanner.cursor)
            counted.add(scanner.devices.values())
        return counted


def around_devices(message: msgspec.Struct) -> tuple[bytes, bytes]:
    """Return the JSON of a message without devices, split where they belong: `… "devices":[` and `] …`.

    No text within can look the same: its quotes would be escaped.
    """
    before, _, after = protocol.encode(message).partition(b'"devices":[]')
    return before + b'"devices":[', b"]" + after
