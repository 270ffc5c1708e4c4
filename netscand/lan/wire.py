"""Raw sockets: one ring that hears every interface, and one socket for each interface that we ask on."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from time import monotonic

from netscand.core.model import Ask, Observation, SendFailed
from netscand.lan import filters, lightly, packet_socket, packets
from netscand.lan.ring import Ring

log = logging.getLogger(__name__)

BATCH = 128
"""Frames read in one turn of the loop; while more wait, it calls again, and everyone else has their turn in between."""

SLICE = 0.005
"""Seconds that one call of `send` holds the loop at most."""

TICK = 1.0
"""Seconds between looks at the ring's count of drops, which are signs of life as well."""

BACK_OFF = (1.0, 30.0)
"""Seconds before a receive path that died is made anew: at first, and at most."""

IN_VAIN = 10_000
"""Times that the ring may call us to a slot that is not ready; then we have lost our place in it."""

_FULL = frozenset([errno.EAGAIN, errno.ENOBUFS])
"""The interface's queue takes no more just now."""


class WireError(Exception):
    """Frames cannot be heard; the text is a sentence with the mend. `not_permitted`: a right is missing."""

    def __init__(self, message: str, *, not_permitted: bool = False) -> None:
        super().__init__(message)
        self.not_permitted = not_permitted


class Wire:
    """Hears ARP on all interfaces, and sends requests and probes.

    `hear` gets what was heard, oldest first, in batches of at most 256 observations of *every* Ethernet interface,
    ports of bridges included: the one who knows the networks keeps those whose `interface` carries the address.
    """

    def __init__(self, hear: Callable[[list[Observation]], None]) -> None:
        self._hear = hear
        self._ring: Ring | None = None
        self._outlets: dict[int, socket.socket] = {}
        self.received = 0
        """Frames heard since the start."""
        self.dropped = 0
        """Frames the kernel had no room for."""
        self.send_errors = 0
        self._in_vain = 0
        self.behind = False
        """The last turn ended with frames unheard: whoever asks should ask less."""
        self.ticked_at = monotonic()
        """When the receive path last showed that it lives (monotonic; every second)."""

    def open(self) -> None:
        """Begin to hear; what comes before `run` waits in the ring. Raises WireError."""
        lightly.ethernet_arp()  # 0.2 s, and now is better than at the first request
        try:
            self._ring = Ring(filters.arp)
        except PermissionError as refused:
            raise WireError(
                f"not permitted to open a raw socket ({refused.strerror}): run as root, or give CAP_NET_RAW",
                not_permitted=True,
            ) from None
        except OSError as refused:
            if refused.errno == errno.EAFNOSUPPORT:
                raise WireError(
                    "AF_PACKET sockets are forbidden here: allow AF_PACKET (RestrictAddressFamilies=, seccomp)",
                    not_permitted=True,
                ) from None
            raise WireError(f"this kernel cannot hear ARP through a filtered ring: {refused}") from None

    async def run(self) -> None:
        """Read until cancelled. A receive path that dies is made anew; what `hear` raises ends this."""
        wait = BACK_OFF[0]
        while True:
            began = monotonic()
            try:
                if self._ring is None:
                    self.open()
                    log.info("hearing again")
                await self._listen()
            except WireError as broken:
                if monotonic() - began > BACK_OFF[1]:
                    wait = BACK_OFF[0]
                if wait == BACK_OFF[0]:
                    log.error("cannot hear the LAN, trying again: %s", broken)
            finally:
                self._close_ring()
            await asyncio.sleep(wait)
            wait = min(2 * wait, BACK_OFF[1])

    async def _listen(self) -> None:
        """Until the ring breaks (WireError), or `hear` does."""
        assert self._ring is not None
        ring = self._ring
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def read() -> None:
            try:
                self._read(ring)
            except Exception as wrong:  # from here it would only be logged
                loop.remove_reader(ring)
                ended.set_exception(wrong)

        loop.add_reader(ring, read)
        try:
            while not ended.done():
                await asyncio.wait([ended], timeout=TICK)
                self.dropped += ring.drops()
                self.ticked_at = monotonic()
            ended.result()
        finally:
            loop.remove_reader(ring)

    def _read(self, ring: Ring) -> None:
        frames = ring.read(BATCH)
        self.behind = len(frames) == BATCH
        if not frames:
            self._look_why(ring)
            return
        self._in_vain = 0
        self.received += len(frames)
        decode = packets.decode
        heard = [seen for frame in frames if (seen := decode(*frame)) is not None]
        if heard:
            self._hear(heard)

    def _look_why(self, ring: Ring) -> None:
        """Readable, and no frame: an error, or a slot that another processor is still writing."""
        if wrong := ring.error():
            raise WireError(wrong)
        self._in_vain += 1
        if self._in_vain > IN_VAIN:
            raise WireError("the ring says that it has frames, and has none")

    def send(self, asks: Sequence[Ask]) -> int:
        """Send from the front, for 5 ms at most or until an interface's queue is full; how many went.

        Raises SendFailed where an interface refuses the very first: so none of `asks` went.
        """
        until = monotonic() + SLICE
        sent = 0
        network, outlet, template = None, None, None
        for ask in asks:
            try:
                if outlet is None or template is None or ask.network is not network:
                    network = ask.network
                    outlet = self._outlet(network.index)
                    template = packets.request(network.mac, network.own)
                outlet.send(template.to(ask.ip, ask.mac))
            except OSError as refused:
                if refused.errno in _FULL:
                    break
                # A socket of a deleted interface stays dead (ENXIO), also when the interface is made again.
                self._shut(ask.network.index)
                if sent:
                    break
                self.send_errors += 1
                raise SendFailed(ask.network.id, refused.strerror or str(refused)) from None
            sent += 1
            if not sent & 15 and monotonic() > until:
                break
        return sent

    def _outlet(self, index: int) -> socket.socket:
        """The socket bound to that interface. One whose interface was deleted never sends again: it is closed here."""
        outlet = self._outlets.get(index)
        if outlet is None:
            for gone in [known for known, held in self._outlets.items() if not held.getsockname()[0]]:
                self._shut(gone)
            outlet = packet_socket.packet_socket()
            try:
                packet_socket.bind(outlet, index)
            except OSError:
                outlet.close()
                raise
            self._outlets[index] = outlet
        return outlet

    def _shut(self, index: int) -> None:
        if outlet := self._outlets.pop(index, None):
            outlet.close()

    def _close_ring(self) -> None:
        if self._ring:
            self._ring.close()
            self._ring = None

    def close(self) -> None:
        """Give every socket back."""
        self._close_ring()
        for index in list(self._outlets):
            self._shut(index)
