"""Files of other programs that have names of devices."""

import pytest

from netscanctl.export import as_csv
from netscanctl.name_files import LONGEST_LINE, BadLine, Entry, read
from tests.ctl.messages import device

MAC = "00:00:5e:00:53:99"

FILES = {
    "ethers": (
        f"# ethers(5)\n{MAC} freezer\n\n00:00:5E:00:53:9A 10.77.0.98  # by address\n00-00-5e-00-53-9b nas\n",
        [(MAC, "", "freezer"), (f"{MAC[:-2]}9a", "", ""), (f"{MAC[:-2]}9b", "", "nas")],
    ),
    "hosts": (
        "127.0.0.1 localhost\n::1 ip6-localhost\nff02::1 ip6-allnodes\n10.77.0.99 freezer freezer.lan # in the cellar\n"
        "FE80:0::1\tnas\n",
        [("", "10.77.0.99", "freezer"), ("", "fe80::1", "nas")],
    ),
    "dnsmasq": (
        f"1767225600 {MAC} 10.77.0.99 freezer *\n1767225600 {MAC[:-2]}9a 10.77.0.98 * 01:00\nduid 00:01:00:01\n"
        "1767225600 1398 fd00::99 freezer 00:01\n",
        [(MAC, "", "freezer"), (f"{MAC[:-2]}9a", "", "")],
    ),
    "arpwatch": (
        "0:0:5e:0:53:99\t10.77.0.99\t1767225600\tfreezer\teth0\n0:0:5e:0:53:9a\t10.77.0.98\t1767225601\t\teth0\n",
        [(MAC, "", "freezer"), (f"{MAC[:-2]}9a", "", "")],
    ),
    "dhcpd": (
        "# The format of this file is documented in the dhcpd.leases(5) manual page.\n"
        "lease 10.77.0.99 {\n  starts 4 2026/01/01 00:00:00;\n  binding state active;\n"
        f'  hardware ethernet {MAC};\n  uid "\\001}}{{";\n  on expiry {{ log("x"); }}\n'
        '  client-hostname "K\\303\\274hltruhe";\n}\nlease 10.77.0.97 {\n  binding state free;\n}\n'
        f"host nas {{ hardware ethernet {MAC[:-2]}9a; fixed-address 10.77.0.98; }}\n",
        [(MAC, "", "Kühltruhe"), (f"{MAC[:-2]}9a", "", "nas")],
    ),
    "csv": (
        f'\ufeffIP;MAC Address;Device Name\n10.77.0.99;{MAC.upper()};Freezer; cellar\n10.77.0.98;00005e00539a;"a;b"\n',
        [(MAC, "", "Freezer"), (f"{MAC[:-2]}9a", "", "a;b")],
    ),
}


def entries(text: str, form: str | None = None) -> tuple[str, list[Entry | BadLine]]:
    found, lines = read(text.encode().splitlines(keepends=True), form)
    return found, list(lines)


@pytest.mark.parametrize("form", FILES)
def test_a_file_is_recognised_and_read(form: str) -> None:
    text, expected = FILES[form]
    found, lines = entries(text)
    assert found == form
    assert [(line.mac, line.ip, line.name) for line in lines if isinstance(line, Entry)] == expected
    assert entries(text, form)[1] == lines


def test_the_csv_of_netscanctl_comes_back() -> None:
    """Only labels become labels, and no quote that protects a spreadsheet stays."""
    devices = [device(1, label="=nas", known=True, notes="-x"), device(2, hostname="printer"), device(3, label="a,b")]
    assert entries(as_csv(devices))[1] == [
        Entry(2, devices[0].mac, "", "=nas", True, "-x"), Entry(3, devices[1].mac), Entry(4, devices[2].mac, "", "a,b"),
    ]  # fmt: skip


def test_the_csv_of_netalertx_is_read() -> None:
    """Its uplink, "Internet", is no device; a device that is not new there is known."""
    text = (
        "devMac,devName,devOwner,devComments,devIsNew\r\nInternet,Internet,,,0\r\n"
        f'{MAC},Freezer,,"in the\ncellar",0\r\n{MAC[:-2]}9a,(name not found),,,1\r\n'
    )
    assert entries(text) == (
        "csv", [Entry(4, MAC, "", "Freezer", True, "in the\ncellar"), Entry(5, f"{MAC[:-2]}9a")]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("form", "line", "why"),
    [("ethers", "zz:00:5e:00:53:99 x", '"zz:00:5e:00:53:99" is not a MAC address such as a4:83:e7:12:34:56'),
     ("ethers", "01:00:5e:00:53:99 x", "01:00:5e:00:53:99 is not the address of one device (multicast, or zero)"),
     ("ethers", f"{MAC} {'x' * 129}", f'"{"x" * 63}…" has 129 characters, more than 128; shorten it'),
     ("hosts", "10.77.0 x", '"10.77.0" is not an IP address'), ("hosts", "10.77.0.1", "no name follows 10.77.0.1"),
     ("dnsmasq", "1767225600", '"" is not a MAC address such as a4:83:e7:12:34:56'),
     ("dhcpd", "host x { hardware ethernet 10.0.0.1; }", '"10.0.0.1" is not a MAC address such as a4:83:e7:12:34:56'),
     ("csv", "a,b", 'the header "a,b" has no column for the MAC; name it "mac", and another "name"'),
     ("ethers", "\x1b[31m x", '"[31m" is not a MAC address such as a4:83:e7:12:34:56')],
)  # fmt: skip
def test_a_bad_line_is_named(form: str, line: str, why: str) -> None:
    assert entries(line, form)[1] == [BadLine(1, why)]


@pytest.mark.parametrize("line", [b"\xff\xfe x\n", b"x" * (LONGEST_LINE + 1)])
@pytest.mark.parametrize("form", ["ethers", "csv"])
def test_a_line_that_is_no_text_is_named(form: str, line: bytes) -> None:
    """Whatever comes before it and after it is read."""
    good = [
        b"mac,name\n" if form == "csv" else b"# x\n",
        b"00:00:5e:00:53:99,a\n".replace(b",", b"," if form == "csv" else b" "),
    ]
    _, found = read([*good, line, *good[1:]], form)
    assert sorted(found) == [
        Entry(2, MAC, "", "a"), BadLine(3, "not UTF-8, or too long; save the file as UTF-8"), Entry(4, MAC, "", "a"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "hello\n", "a b c\n" * 100])
def test_an_unknown_format_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="unknown format"):
        entries(text)
