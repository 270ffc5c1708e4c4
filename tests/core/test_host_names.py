"""Host names as hosts send them: in any encoding, in any field, or saying nothing (FIELD case 23)."""

import struct

import pytest

from netscand.lan import decode, dns, nbns, text
from netscand.lan.mdns import own_name
from tests.core import built_frames

OVERLOAD = 52
PLAIN, ENCODED = b"\0\0\0", b"\x04\0\0"
"""Flags of option 81."""


def option(number: int, content: bytes) -> bytes:
    return bytes([number, len(content)]) + content


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"B\xfcro-Drucker", "Büro-Drucker"),  # W1, Latin-1
        (b"\xff\xfe", None),  # W6
        (bytes(8), None),  # W4
        (b"nas-2\0", "nas-2"),  # W5
        ("Büro-Drucker".encode(), "Büro-Drucker"),
        ("Küche-Süd".encode()[:-2], "Küche-S"),  # truncated within a character
        ("Küche".encode() + b"\xe9\xff", "Küche"),
        (b"B\x81ro-PC", "Büro-PC"),  # the OEM code page: 0x80 to 0x9F are letters there alone
        (b"M\x81\xe1ig", "Müßig"),
        (b"ESPA\xa5A", "ESPAÑA"),  # a letter in the OEM code page, the sign of the yen in Latin-1
        (b"Caf\xe9", "Café"),
        (b"Gar\xe7on \xbd", "Garçon ½"),
        (b"printer\xff\xff\xff\xff", "printer"),  # erased flash memory
        (b"\xff" * 16, None),
        (b"\xc4\xd6\xdc", None),  # may be Cyrillic or Greek as well; without ASCII letters
        (b"\x8f\x8a1", None),
        (b"*", None),
        (b"-", None),
        (b"._.", None),
        (b"*.lan", None),
        (b"localhost", None),
        (b"LocalHost.localdomain", None),
        (b"localhost6.localdomain6", None),
        (b"(none)", None),
        (b"unknown", None),
        (b"localhost-of-jane", "localhost-of-jane"),
        (b"7", "7"),
        ("Küchentisch ☕".encode(), "Küchentisch ☕"),
        ("☕".encode(), None),
    ],
)
def test_option_12_is_read_as_hosts_send_it(sent: bytes, name: str | None) -> None:
    """The right encoding, or no name at all: a name of signs would hide a better one of another source."""
    (seen,) = decode.decode(built_frames.dhcp("discover", (12, sent)), 0.0, 2)
    assert (seen.name, seen.name_source) == (name, name and "dhcp")
    assert name is None or name.encode().decode() == name


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (ENCODED + b"printer-5", "printer-5"),  # W2
        (ENCODED + b"3com-printer", "3com-printer"),  # its first byte might be a length
        (ENCODED + b"\x09printer-5\x03lan\0", "printer-5.lan"),
        (ENCODED + b"\x09printer-5", "printer-5"),  # a partial name has no root (RFC 4702, 2.3.1)
        (ENCODED + b"\x09printer-5\xc0\x0c", "printer-5"),  # compressed
        (ENCODED + b"\x09printer-5\x20lan", "printer-5"),  # a label longer than the option
        (ENCODED + b"\x0cB\xfcro-Drucker\0", "Büro-Drucker"),
        (ENCODED + b"\x01*\0", None),
        (ENCODED + b"\x09localhost\0", None),
        (ENCODED, None),
        (PLAIN + b"printer-5.lan.", "printer-5.lan"),
        (PLAIN + b"B\xfcro", "Büro"),
        (PLAIN + b"\x09printer-5\x03lan\0", "printer-5.lan"),  # encoded, without the flag
        (b"\x04", None),
        (b"", None),
    ],
)
def test_option_81_is_read_whatever_its_flags(sent: bytes, name: str | None) -> None:
    """The flag E and the encoding do not always agree."""
    (seen,) = decode.decode(built_frames.dhcp("request", (81, sent)), 0.0, 2)
    assert seen.name == name


@pytest.mark.parametrize(
    ("overload", "fields", "name"),
    [
        (2, {"sname": option(12, b"kiosk-7") + b"\xff"}, "kiosk-7"),  # W3
        (1, {"file": option(12, b"kiosk-7") + b"\xff"}, "kiosk-7"),
        (3, {"file": option(12, b"kiosk"), "sname": option(12, b"-7")}, "kiosk-7"),  # file first (RFC 2131, 4.1)
        (3, {"file": b"\xff", "sname": option(81, ENCODED + b"\x05kiosk\0")}, "kiosk"),
        (1, {"sname": option(12, b"no-options")}, None),
        (2, {"sname": option(12, b"*") + option(81, PLAIN + b"kiosk-7")}, "kiosk-7"),
        (0, {"sname": b"boot.example", "file": b"pxelinux.0"}, None),
    ],
)
def test_options_are_read_in_overloaded_fields(overload: int, fields: dict[str, bytes], name: str | None) -> None:
    """RFC 2132, 9.3."""
    sname, file = fields.get("sname", b""), fields.get("file", b"")
    frame = built_frames.dhcp("discover", (OVERLOAD, bytes([overload])), sname=sname, file=file)
    (seen,) = decode.decode(frame, 0.0, 2)
    assert seen.name == name


@pytest.mark.parametrize("option_12", [b"*", b"localhost", bytes(8), b"\xff\xfe", b""])
def test_a_name_that_says_nothing_hides_no_option_81(option_12: bytes) -> None:
    (seen,) = decode.decode(built_frames.dhcp("request", (12, option_12), (81, PLAIN + b"printer-5")), 0.0, 2)
    assert seen.name == "printer-5"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (b"B\xfcro", "Büro"), (b"B\x81ro", "Büro"), ("Büro".encode(), "Büro"), (b"*", None), (b"-", None),
        (b"localhost", None), (b"\xff\xfe", None),
    ],
)  # fmt: skip
def test_names_of_mdns_and_dns_are_read_likewise(label: bytes, name: str | None) -> None:
    encoded = bytes([len(label)]) + label + b"\x05local\0"
    address = bytes([10, 77, 0, 9])
    record = encoded + struct.pack("!HHIH", dns.A, 0x8001, 120, 4) + address
    message = dns.read(struct.pack("!HHHHHH", 0, 0x8400, 0, 1, 0, 0) + record)
    assert message and own_name(message, address) == (name, False)
    assert text.clean_labels([label, b"lan"]) == (f"{name}.lan" if name else None)


@pytest.mark.parametrize(
    ("sent", "name"),
    [(b"B\x9aRO", "BÜRO"), (b"ESPA\xa5A", "ESPAÑA"), (b"\x8e\x99\x9a", "ÄÖÜ"), (b"\xb5RBOL", "ÁRBOL"), (b"-", None),
     (b"LOCALHOST", None)],
)  # fmt: skip
def test_names_of_nbns_are_in_the_oem_code_page(sent: bytes, name: str | None) -> None:
    """Code page 850, which has the letters of 437 where names use them, and the capitals that 437 lacks."""
    assert nbns.host_name(sent.ljust(15) + b"\0") == name
