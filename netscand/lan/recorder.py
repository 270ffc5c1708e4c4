"""Recorder of the frames that netscand receives, as pcapng; at most one recording at a time, with a bounded buffer."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from netscand.core.model import Busy, Ip, Mac, Network
from netscand.lan import pcap
from netscand.lan.capture import Frame

if TYPE_CHECKING:
    from netscand.lan.anonymise import Anonymiser

MOST_A_SECOND = 2_000
"""Maximum frames recorded in a second: anonymising one takes up to 0.1 ms."""

MOST_BUFFERED = 1 << 20
"""Maximum bytes that wait for a client that reads slowly; frames beyond are counted as dropped."""

MOST_BYTES = 64 << 20
"""Maximum bytes of one recording."""


class Tapped(Protocol):
    """What the recorder needs of lan/wire."""

    def tap(self, sink: Callable[[Sequence[Frame]], None] | None) -> None:
        """Pass all frames that are decoded to `sink`, too; None: no longer."""


class Recording:
    """Frames since its start, as blocks of pcapng."""

    def __init__(
        self, networks: Iterable[Network], program: str, unix: Callable[[float], float], anonymiser: "Anonymiser | None"
    ) -> None:
        self._anonymise = anonymiser.frame if anonymiser is not None else bytes
        self._unix = unix
        self._numbers: dict[int, int] = {}
        """ifindex → number of the interface in the file."""
        self._received: list[int] = []
        self._dropped: list[int] = []
        self._blocks = bytearray(pcap.section(program))
        self._last = -inf
        self._second = (0, 0)
        """The running second, and the frames recorded in it."""
        self._filled = asyncio.Event()
        self._left = MOST_BYTES
        for index, group in groupby(sorted(networks, key=attrgetter("index")), key=attrgetter("index")):
            here = tuple(group)
            if anonymiser is not None:
                here = tuple(_without_macs(network, anonymiser) for network in here)
            self._numbers[index] = len(self._numbers)
            self._received.append(0)
            self._dropped.append(0)
            self._blocks += pcap.interface(here[0].interface, here)

    @property
    def is_over(self) -> bool:
        """Return whether the recording has as many bytes as it may have."""
        return self._left <= 0

    def take(self) -> bytes:
        """Return the blocks since the last call."""
        blocks, self._blocks = bytes(self._blocks), bytearray()
        self._left -= len(blocks)
        self._filled.clear()
        return blocks

    async def wait(self, seconds: float) -> None:
        """Wait until there are blocks, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._filled.wait()

    def end(self) -> bytes:
        """Return the last blocks: how many frames of each interface were received, and not recorded."""
        if self._last == -inf:
            return b""
        counts = enumerate(zip(self._received, self._dropped, strict=True))
        return b"".join(pcap.statistics(number, self._unix(self._last), *both) for number, both in counts)

    def record(self, frames: Sequence[Frame]) -> None:
        """Add frames, as far as there is room."""
        for frame, at, interface in frames:
            number = self._numbers.get(interface)
            if number is None:
                continue
            self._last = max(at, self._last)
            self._received[number] += 1
            second, count = self._second
            count = count + 1 if int(at) == second else 1
            self._second = int(at), count
            recorded = None
            if len(self._blocks) < MOST_BUFFERED and count <= MOST_A_SECOND:
                recorded = self._anonymise(frame)
            if recorded is None:
                self._dropped[number] += 1
                continue
            self._blocks += pcap.packet(number, self._unix(at), recorded)
            self._filled.set()


class Recorder:
    """Recorder of what the wire receives on scanned networks. `unix` returns the unix time of a monotonic one."""

    def __init__(
        self, wire: Tapped, networks: Callable[[], Mapping[str, Network]], program: str, unix: Callable[[float], float]
    ) -> None:
        self._wire = wire
        self._networks = networks
        self._program = program
        self._unix = unix
        self._recording: Recording | None = None

    def start(self, *, anonymise: bool) -> Recording:
        """Start a recording. Raises Busy while there is another one."""
        if self._recording is not None:
            raise Busy("a capture is being made; try again when it has ended")
        scanned = [network for network in self._networks().values() if network.state in ("up", "silent")]
        anonymiser = None
        if anonymise:
            from netscand.lan.anonymise import Anonymiser  # rarely needed, and 0.1 MiB

            anonymiser = Anonymiser()
        recording = self._recording = Recording(scanned, self._program, self._unix, anonymiser)
        self._wire.tap(recording.record)
        return recording

    def stop(self) -> None:
        """End the recording."""
        self._wire.tap(None)
        self._recording = None


def _without_macs(network: Network, anonymiser: "Anonymiser") -> Network:
    own6 = Ip(anonymiser.ip6(network.own6)) if network.own6 is not None else None
    return replace(network, mac=Mac(anonymiser.mac(network.mac)), own6=own6)
