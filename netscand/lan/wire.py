"""Raw sockets: receive rings for every interface, and a send socket for each interface that is probed."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from time import monotonic

from netscand.core.model import ALL_NODES, Mac, Network, Observation, Probe, SendFailed
from netscand.core.ratelimit import TALK, Budgets
from netscand.lan import arp, bpf, decode, ndp
from netscand.lan.capture import Broken, CaptureReader, Frame
from netscand.lan.decode import Answer
from netscand.lan.wake import magic_packets

log = logging.getLogger(__name__)

BATCH = 64
"""Maximum frames read in one turn of the loop; other tasks run between turns."""

TALK_BATCH, TALK_BUDGET = 32, TALK.per_second
"""The same for frames that are not ARP, and how many of them are decoded in a second: 250 devices send 50, and a flood
must not delay ARP."""

PAUSE = 0.05
"""Seconds to pause a reader whose budget is used up: the kernel drops a flood more cheaply than we do."""

SLICE = 0.005
"""Maximum seconds that one call of `send` blocks the loop."""

TICK = 1.0
"""Seconds between checks of the drop counters and updates of `ticked_at`; aligned to whole seconds to save wake-ups."""

BACK_OFF = (1.0, 30.0)
"""Seconds before a failed receive path is opened again: the first time, and at most."""

_FULL = frozenset([errno.EAGAIN, errno.ENOBUFS])
"""Errors of a full send queue."""


class WireError(Exception):
    """Frames cannot be received; the text is a sentence with the remedy. `not_permitted`: a permission is missing."""

    def __init__(self, message: str, *, not_permitted: bool = False) -> None:
        super().__init__(message)
        self.not_permitted = not_permitted


class Wire:
    """Receiver of ARP and of other frames that show devices, on all interfaces; sender of requests and probes.

    `on_observations` gets batches of at most 256 observations, oldest first, from *every* Ethernet interface, ports of
    bridges included: the caller filters them by `interface`. `on_answer` gets possible answers to name queries.
    """

    def __init__(
        self,
        on_observations: Callable[[list[Observation]], None],
        on_answer: Callable[[Answer], None] = lambda _: None,
        budgets: Budgets | None = None,
    ) -> None:
        self._on_observations = on_observations
        self._on_answer = on_answer
        self._arp = CaptureReader(bpf.arp, _arp, BATCH)
        self._talk = CaptureReader(
            bpf.talk, self._decode, TALK_BATCH, slot=2048, size=1 << 20, budget=TALK_BUDGET, budgets=budgets
        )
        self._readers = (self._arp, self._talk)
        self._is_open = False
        self._send_sockets: dict[int, socket.socket] = {}
        self.send_errors = 0
        self.ticked_at = monotonic()
        """When the receive path last showed that it runs (monotonic; every second)."""

    @property
    def received(self) -> int:
        """Return the frames received since the start."""
        return sum(reader.received for reader in self._readers)

    @property
    def dropped(self) -> int:
        """Return the frames that the kernel dropped for lack of room, as of the last second."""
        return sum(reader.dropped for reader in self._readers)

    @property
    def ignored(self) -> int:
        """Return the frames received but not decoded, because they exceeded the budget."""
        return sum(reader.ignored for reader in self._readers)

    @property
    def behind(self) -> bool:
        """Return whether the last turn left ARP frames unread: the engine should send less."""
        return self._arp.behind

    @property
    def overflow_at(self) -> tuple[float, float]:
        """Return when (monotonic) so much was last lost that answers may be among it: of ARP, and of other frames."""
        return self._arp.overflow_at, self._talk.overflow_at

    def follow(self, interfaces: Container[int], children: frozenset[bytes] = frozenset()) -> None:
        """Decode frames other than ARP only on these interfaces (ifindexes); before the first call, on all.

        `children`: MACs of macvlan interfaces on this host, whose frames it sends and does not receive.
        """
        self._talk.interfaces = interfaces
        for reader in self._readers:
            reader.follow_children(children)

    def tap(self, sink: Callable[[Sequence[Frame]], None] | None) -> None:
        """Pass all frames that are decoded to `sink`, too; None: no longer."""
        for reader in self._readers:
            reader.tap = sink

    def open(self) -> None:
        """Open the rings; frames wait there until `run`. Raises WireError."""
        try:
            with ExitStack() as undo:
                for reader in self._readers:
                    undo.callback(reader.close)
                    reader.open()
                undo.pop_all()
        except PermissionError as refused:
            raise WireError(
                f"not permitted to open a raw socket ({refused.strerror}): run netscand with sudo, or as a service "
                "with AmbientCapabilities=CAP_NET_RAW; in a container, add the capability NET_RAW",
                not_permitted=True,
            ) from None
        except OSError as refused:
            if refused.errno == errno.EAFNOSUPPORT:
                raise WireError(
                    "AF_PACKET sockets are forbidden: allow AF_PACKET (RestrictAddressFamilies=, seccomp)",
                    not_permitted=True,
                ) from None
            raise WireError(f"this kernel refuses a packet ring with a filter (TPACKET_V2): {refused}") from None
        self._is_open = True

    async def run(self) -> None:
        """Receive until cancelled. A failed receive path is opened again; exceptions of `on_observations` end this."""
        wait = BACK_OFF[0]
        while True:
            began = monotonic()
            try:
                if not self._is_open:
                    self.open()
                    log.info("receiving again")
                await self._listen()
            except WireError as broken:
                if monotonic() - began > BACK_OFF[1]:
                    wait = BACK_OFF[0]
                if wait == BACK_OFF[0]:
                    log.error("cannot receive from the LAN; trying again: %s", broken)
            finally:
                self._close_readers()
            until = monotonic() + wait
            while (left := until - monotonic()) > 0:
                self.ticked_at = monotonic()  # no hang: it is trying again
                for reader in self._readers:
                    reader.count()
                await asyncio.sleep(min(left, TICK))
            wait = min(2 * wait, BACK_OFF[1])

    async def _listen(self) -> None:
        """Read until a ring (WireError) or `on_observations` fails."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def read(reader: CaptureReader) -> None:
            try:
                if observations := reader.read():
                    self._on_observations(observations)
            except Exception as wrong:  # asyncio would only log it
                loop.remove_reader(reader)
                if not ended.done():
                    ended.set_exception(wrong)
            if reader.over_budget:
                loop.remove_reader(reader)
                loop.call_later(PAUSE, listen, reader)

        def listen(reader: CaptureReader) -> None:
            if not ended.done():
                loop.add_reader(reader, read, reader)

        for reader in self._readers:
            listen(reader)
        try:
            while not ended.done():
                await asyncio.wait([ended], timeout=TICK - monotonic() % TICK)
                for reader in self._readers:
                    reader.count()
                self.ticked_at = monotonic()
            ended.result()
        except Broken as broken:
            raise WireError(str(broken)) from None
        finally:
            ended.cancel()
            for reader in self._readers:
                loop.remove_reader(reader)

    def _decode(self, frame: bytes, at: float, interface: int) -> tuple[Observation, ...]:
        seen = decode.decode(frame, at, interface)
        if not seen and (answer := decode.answer(frame, at, interface)) is not None:
            self._on_answer(answer)
        return seen

    def send_frame(self, network: Network, frame: bytes) -> None:
        """Send a frame. Raises OSError if the interface refuses."""
        try:
            self._send_socket(network.index).send(frame)
        except OSError as refused:
            if refused.errno not in _FULL:
                self._close_send_socket(network.index)
            raise

    def wake(self, network: Network, mac: Mac, number: int) -> None:
        """Send one of the magic packets for a device. Raises OSError."""
        self.send_frame(network, magic_packets(network, mac)[number])

    def send(self, probes: Sequence[Probe]) -> list[Probe]:
        """Send probes for at most 5 ms; return those not sent: of interfaces with a full queue, and the rest.

        Raises SendFailed if an interface refuses and no probe was sent before.
        """
        until = monotonic() + SLICE
        sent = 0
        unsent: list[Probe] = []
        full: set[int] = set()
        network, sender, template = None, None, None
        for position, probe in enumerate(probes):
            if probe.network.index in full:
                unsent.append(probe)
                continue
            try:
                if sender is None or template is None or probe.network is not network:
                    network = probe.network
                    sender = self._send_socket(network.index)
                    template = arp.request(network.mac, network.own)
                if probe.ip == probe.network.own:
                    sender.send(arp.probe(probe.network.mac, probe.ip).to(probe.ip, probe.mac))
                else:
                    sender.send(template.to(probe.ip, probe.mac) if len(probe.ip) == 4 else _by_ipv6(probe))
            except OSError as refused:
                if refused.errno in _FULL:
                    full.add(probe.network.index)
                    unsent.append(probe)
                    continue
                # The socket of a deleted interface never works again (ENXIO), even if the interface is created again.
                self._close_send_socket(probe.network.index)
                if sent:
                    return unsent + list(probes[position:])
                self.send_errors += 1
                raise SendFailed(probe.network.id, refused.strerror or str(refused)) from None
            sent += 1
            if not sent & 15 and monotonic() > until:
                return unsent + list(probes[position + 1 :])
        return unsent

    def _send_socket(self, index: int) -> socket.socket:
        """Return the socket bound to an interface; close the sockets of deleted interfaces."""
        sender = self._send_sockets.get(index)
        if sender is None:
            for closed in [
                known for known, send_socket in self._send_sockets.items() if not send_socket.getsockname()[0]
            ]:
                self._close_send_socket(closed)
            sender = bpf.packet_socket()
            try:
                bpf.bind(sender, index)
            except OSError:
                sender.close()
                raise
            self._send_sockets[index] = sender
        return sender

    def _close_send_socket(self, index: int) -> None:
        if sender := self._send_sockets.pop(index, None):
            sender.close()

    def _close_readers(self) -> None:
        self._is_open = False
        for reader in self._readers:
            reader.close()

    def close(self) -> None:
        """Close all sockets."""
        self._close_readers()
        for index in list(self._send_sockets):
            self._close_send_socket(index)


def _by_ipv6(probe: Probe) -> bytes:
    network = probe.network
    if network.own6 is None:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    if probe.ip == ALL_NODES:
        return ndp.echo(network.mac, network.own6)
    return ndp.solicitation(network.mac, network.own6, probe.ip, probe.mac)


def _arp(frame: bytes, at: float, interface: int) -> tuple[Observation, ...]:
    seen = arp.decode(frame, at, interface)
    return () if seen is None else (seen,)
