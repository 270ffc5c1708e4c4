"""What was on a wire: a receive ring that need not be read while the test runs."""

import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from tests.lab.ring import Frame, Ring
from tests.lab.spaces import Space


class Capture:
    """Every frame of one interface, both ways, from now on. The kernel keeps them, so it costs no process and no turn.

    It has `slots` places, and says so when they did not do: a capture with gaps proves nothing.
    """

    def __init__(self, space: Space, interface: str, *, slots: int = 65_536, size: int = 256) -> None:
        sock = space.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._ring = Ring(sock, interface, slots=slots, size=size, outgoing=True)

    def frames(self) -> Iterator[Frame]:
        """What came since the last call. Raises BufferError where the ring was full."""
        if lost := self._ring.dropped():
            raise BufferError(f"the capture lost {lost} frames: give it more slots")
        yield from self._ring.take()

    def arp(self, *, outgoing: bool | None = None) -> list["Arp"]:
        """The ARP frames among `frames()`: all, or only those sent, or only those received."""
        return [
            Arp(frame)
            for frame in self.frames()
            if frame.data[12:14] == b"\x08\x06" and len(frame.data) >= 42 and outgoing in (None, frame.outgoing)
        ]

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Arp:
    """An ARP frame, read (RFC 826); addresses as text."""

    def __init__(self, frame: Frame) -> None:
        data = frame.data
        self.at = frame.at
        self.outgoing = frame.outgoing
        self.destination = data[0:6].hex(":")
        self.source = data[6:12].hex(":")
        self.operation = {1: "request", 2: "reply"}.get(int.from_bytes(data[20:22]), "other")
        self.sender_mac = data[22:28].hex(":")
        self.sender_ip = socket.inet_ntoa(data[28:32])
        self.target_mac = data[32:38].hex(":")
        self.target_ip = socket.inet_ntoa(data[38:42])

    @property
    def broadcast(self) -> bool:
        """Whether it was meant for all."""
        return self.destination == "ff:ff:ff:ff:ff:ff"

    def __repr__(self) -> str:
        return f"<ARP {self.operation} {self.sender_mac} {self.sender_ip} → {self.target_ip} to {self.destination}>"
