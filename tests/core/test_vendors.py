"""Vendor lookup, and the memory of the libraries behind it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from netscand.core.model import Mac
from netscand.lan import libraries
from netscand.lan.vendors import Vendors

MEASURE = """
import json, os, sys
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 10
import asyncio, logging, netscand.core.model
before = resident()
from netscand.lan import libraries
libraries.rtnetlink()
libraries.ethernet_arp()
from netscand.lan.vendors import Vendors
vendors = Vendors()
grown = resident() - before
import pyroute2
print(json.dumps({
    "kib": grown,
    "apple": vendors.of(bytes.fromhex("a483e7123456")),
    "whole": hasattr(pyroute2, "IPRoute"),
    "xdg": [name for name in os.environ if name.startswith("XDG_")],
}))
"""


@pytest.fixture(scope="module")
def vendors() -> Vendors:
    return Vendors()


@pytest.mark.parametrize(
    ("mac", "vendor"),
    [
        ("a483e7123456", "Apple, Inc."),  # MA-L, 24 bits
        ("0055da0abcde", "Shinko Technos co.,ltd."),  # MA-M, 28 bits
        ("0055da1abcde", "KoolPOS Inc."),  # its neighbour in the same 24
        ("001bc5000123", "Converging Systems Inc."),  # MA-S, 36 bits
        ("001bc5001123", "OpenRB.com, Direct SIA"),
        ("00035f000000", "Prüftechnik Condition Monitoring GmbH & Co. KG"),
    ],
)
def test_the_longest_prefix_names_the_vendor(vendors: Vendors, mac: str, vendor: str) -> None:
    """MA-S wins over MA-M, and MA-M over MA-L (FIELD R5)."""
    assert vendors.of(Mac(bytes.fromhex(mac))) == vendor


def test_a_made_up_address_has_no_vendor_whatever_its_prefix(vendors: Vendors) -> None:
    assert vendors.of(Mac(bytes.fromhex("a683e7123456"))) is None
    assert vendors.of(Mac(bytes.fromhex("020701000001"))) is None  # in the table, from before the bit meant this


def test_an_unknown_prefix_has_no_vendor(vendors: Vendors) -> None:
    assert vendors.of(Mac(bytes.fromhex("0055daf00000"))) is None  # in a block given away in parts, this one not yet
    assert vendors.of(Mac(bytes.fromhex("fcffff000000"))) is None
    assert vendors.of(Mac(b"\xff" * 6)) is None


def test_every_line_of_the_table_is_found(vendors: Vendors) -> None:
    """From the first to the last address of its block."""
    found = 0
    for line in libraries.vendor_table().splitlines():
        prefix, *names = line.split("\t")
        digits, _, bits = prefix.strip().partition("/")
        width = int(bits or 24)
        first = int(digits.replace(":", "").ljust(12, "0"), 16)
        last = first | (1 << 48 - width) - 1
        if not first >> 40 & 2:
            expected = names[-1].strip()
            assert vendors.of(Mac(first.to_bytes(6))) == vendors.of(Mac(last.to_bytes(6))) == expected, line
            found += 1
    assert found > 30_000


@pytest.mark.parametrize("home", ["", "none"], ids=["a HOME", "no HOME"])
def test_partial_imports_save_memory_and_leave_home_alone(tmp_path: Path, home: str) -> None:
    """With or without a writable HOME, both libraries and the vendors cost less than 22 MiB (of 60)."""
    root = str(Path(__file__).parents[2])
    environment = {"HOME": str(tmp_path / home), "PATH": "/usr/bin:/bin", "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURE], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kib"] < 22 * 1024
    assert found["apple"] == "Apple, Inc."
    assert found["whole"]
    assert not found["xdg"]
    assert not list(tmp_path.iterdir())
