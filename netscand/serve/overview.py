"""The scanner as a whole: networks, counts, and the messages that begin with them."""

from time import monotonic

import msgspec

from netscand import __version__, protocol
from netscand.core.model import Status
from netscand.serve.access import Role
from netscand.serve.filters import Filter
from netscand.serve.scanner import Scanner
from netscand.serve.translate import Translator

COUNTED_ANEW = 1.0
"""Seconds that a count of a large inventory serves; it takes some 20 ms for 65,533 devices."""

SMALL = 4096
"""Devices up to which each change is counted at once."""


class Overview:
    """What is told besides devices."""

    def __init__(self, scanner: Scanner, translator: Translator) -> None:
        self._scanner = scanner
        self._translator = translator
        self._counted_for = ""
        self._counted_at = 0.0
        self._counts = protocol.Counts(online=0, offline=0, unknown=0)
        self._online_in: dict[str, int] = {}

    def counts(self) -> protocol.Counts:
        """Devices by presence, this host left out."""
        self._count()
        return self._counts

    def networks(self, fits: Filter) -> list[protocol.Network]:
        """Networks in the order of their ids."""
        self._count()
        scanner, translator = self._scanner, self._translator
        translator.sync()
        return [
            translator.network(
                network, scanner.coverage(name), self._online_in.get(name, 0), scanner.last_scan_of(name)
            )
            for name, network in sorted(scanner.networks.items())
            if fits.scan((name,))
        ]

    def last_scan(self) -> str | None:
        """When the last scan ended."""
        ended = self._scanner.last_scan
        return None if ended is None else self._translator.time(ended)

    def initial_state(self, cursor: str, role: Role, fits: Filter) -> protocol.InitialState:
        """The first message, with no devices yet."""
        return protocol.InitialState(
            protocol=protocol.PROTOCOL,
            version=__version__,
            cursor=cursor,
            interval=self._scanner.interval,
            scanning=self._scanner.scanning,
            last_scan=self.last_scan(),
            role=role.told,
            networks=self.networks(fits),
            devices=[],
        )

    def _count(self) -> None:
        scanner, now = self._scanner, monotonic()
        if scanner.cursor == self._counted_for or (
            len(scanner.devices) > SMALL and now < self._counted_at + COUNTED_ANEW
        ):
            return
        online = offline = unknown = 0
        online_in: dict[str, int] = {}
        for device in scanner.devices.values():  # 65,533 of them: identities, as an enum's hash is Python's work
            status = device.status
            if device.is_self:
                continue
            if status is Status.ONLINE:
                online += 1
                held = device.addresses
                for name in (held[0].network,) if len(held) == 1 else {address.network for address in held}:
                    online_in[name] = online_in.get(name, 0) + 1
            elif status is Status.OFFLINE:
                offline += 1
            else:
                unknown += 1
        self._counts = protocol.Counts(online=online, offline=offline, unknown=unknown)
        self._online_in = online_in
        self._counted_for, self._counted_at = scanner.cursor, now


def listed(devices: list[bytes]) -> list[protocol.Device]:
    """Devices in JSON, to stand as they are in a message that is encoded."""
    return msgspec.Raw(b"[" + b",".join(devices) + b"]")  # type: ignore[return-value]  # the encoder copies it in


def around_devices(message: msgspec.Struct) -> tuple[bytes, bytes]:
    """The JSON of a message with no devices, cut where they stand: `… "devices":[` and `] …`.

    No text within can look like the place: its quotes would be escaped.
    """
    before, _, after = protocol.encode(message).partition(b'"devices":[]')
    return before + b'"devices":[', b"]" + after
