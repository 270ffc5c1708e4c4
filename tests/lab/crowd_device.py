"""One device of the crowd, and the ARP it speaks (RFC 826)."""

from dataclasses import dataclass, field

from tests.lab.ring import FRAME

BROADCAST = b"\xff" * 6
ARP = bytes.fromhex("0806 0001 0800 06 04".replace(" ", ""))
REQUEST, REPLY = ARP + b"\x00\x01", ARP + b"\x00\x02"
PADDING = bytes(FRAME - 42)
NOBODY = bytes(6)
ANY = bytes(4)

Delay = tuple[float, float]


@dataclass(slots=True)
class Device:
    """One of the crowd. None: as the crowd's."""

    mac: bytes
    ips: list[bytes] = field(default_factory=list)
    asleep: bool = False
    loss: float | None = None
    delay: Delay | None = None
    deaf: str = ""
    via: bytes | None = None

    @property
    def plain(self) -> bool:
        return not self.asleep and self.loss is None and self.delay is None and not self.deaf and self.via is None

    def reply(self, ip: bytes) -> bytes:
        """The middle of its reply for `ip`: between the destination and the target."""
        return (self.via or self.mac) + REPLY + self.mac + ip

    def request(self, sender: bytes, target: bytes) -> bytes:
        return BROADCAST + (self.via or self.mac) + REQUEST + self.mac + sender + NOBODY + target + PADDING
