"""Networks, counts, and the messages that begin with them."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import msgspec

from netscand import __version__, protocol
from netscand.serve.auth import Role
from netscand.serve.encode import Encoder
from netscand.serve.ports import Scanner
from netscand.serve.query import EVERYTHING, Filter

NO_DEVICES = (0, 0, 0)


class Summary:
    """Everything that is published beside devices and events."""

    def __init__(self, scanner: Scanner, encoder: Encoder, clock: Callable[[], float] = monotonic) -> None:
        self._scanner = scanner
        self._encoder = encoder
        self._clock = clock

    @property
    def devices(self) -> int:
        """Number of devices."""
        return len(self._scanner.devices)

    def counts(self, fits: Filter = EVERYTHING) -> protocol.Counts:
        """Return the number of devices by status, without this host; of a filter, only its sites count."""
        online, offline, unknown = self._scanner.counts.total
        return protocol.Counts(online=online, offline=offline, unknown=unknown)

    def presence(self) -> Mapping[str, Sequence[int]]:
        """Return the devices online, offline and unknown in each network that has any, without this host."""
        return self._scanner.counts.by_network

    def limits(self) -> list[protocol.Limit]:
        """Return what budgets refused, by name."""
        found = self._scanner.budgets.report(self._clock())
        return [protocol.Limit(name=name, refused=count, limiting=limiting) for name, count, limiting in found]

    def networks(self, fits: Filter) -> list[protocol.Network]:
        """Return the networks by id."""
        by_network = self._scanner.counts.by_network
        scanner, encoder = self._scanner, self._encoder
        encoder.sync()
        return [
            encoder.network(
                network, scanner.coverage(name), by_network.get(name, NO_DEVICES)[0], scanner.last_scan_of(name)
            )
            for name, network in sorted(scanner.networks.items())
            if fits.scan((name,))
        ]

    def people(self) -> list[protocol.Person]:
        """Return all people by name."""
        self._encoder.sync()
        return [self._encoder.person(person) for person in self._scanner.people.all()]

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
            people=self.people(),
        )


def around_devices(message: msgspec.Struct) -> tuple[bytes, bytes]:
    """Return the JSON of a message without devices, split where they belong: `… "devices":[` and `] …`.

    No text within can look the same: its quotes would be escaped.
    """
    before, _, after = protocol.encode(message).partition(b'"devices":[]')
    return before + b'"devices":[', b"]" + after
