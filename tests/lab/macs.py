"""The MACs of the lab: deterministic, from the blocks of known vendors, and some of them locally administered."""

from ipaddress import IPv4Address

BLOCKS = (
    "b8:27:eb",  # Raspberry Pi Foundation
    "00:17:88",  # Philips Lighting
    "24:0a:c4",  # Espressif
    "a4:83:e7",  # Apple
    "5c:aa:fd",  # Sonos
    "3c:d9:2b",  # Hewlett Packard
    "00:11:32",  # Synology
    "3c:a6:2f",  # AVM
    "",  # a randomised one, as phones make them
    "",
)


def pack_mac(text: str) -> bytes:
    """`a4:83:e7:12:34:56` as six bytes. Raises ValueError for anything else."""
    packed = bytes.fromhex(text.replace(":", ""))
    if len(packed) != 6:
        raise ValueError(f"{text!r} is no MAC")
    return packed


def mac_of(ip: IPv4Address, seed: int = 0) -> bytes:
    """The default MAC of the device at `ip`: no two of a /16 are the same."""
    number = int(ip)
    block = BLOCKS[((number + seed) * 2_654_435_761 >> 13) % len(BLOCKS)]
    if block:
        return pack_mac(block + ":00:00:00")[:3] + bytes([seed & 0xFF, number >> 8 & 0xFF, number & 0xFF])
    return bytes([0x02 | number * 97 & 0xFC, 0x6E, number * 31 & 0xFF, seed & 0xFF, number >> 8 & 0xFF, number & 0xFF])
