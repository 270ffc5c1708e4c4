"""Vendor lookup, and the memory of the libraries behind it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netscand.core.model import Mac
from netscand.lan import libraries
from netscand.lan import vendors as vendors_module
from netscand.lan.vendors import Vendors

ROOT = Path(__file__).parents[2]
IEEE = {
    "oui": [
        'MA-L,A483E7,"Apple, Inc.",1 Infinite Loop Cupertino CA US 95014 ',
        "MA-L,0055DA,IEEE Registration Authority,445 Hoes Lane Piscataway NJ US 08554 ",
        "MA-L,00035F,Prüftechnik  Condition Monitoring GmbH & Co. KG,Ismaning DE ",
    ],
    "mam": ["MA-M,0055DA0,Shinko Technos co.\u00a0ltd.,Osaka JP ", "MA-M,0055DA1,KoolPOS Inc.,"],
    "oui36": ['MA-S,001BC5000,"Converging Systems Inc.\nAudio",32710 Alta CA '],
    "iab": ["IAB,40D8550D7,Avant Technologies,Road 156 "],
}
"""Lines as in the package `ieee-data`."""

MEASURE = """
import json, os, sys
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 10
import asyncio, logging, netscand.core.model
before = resident()
from netscand.lan import libraries
libraries.rtnetlink()
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
def vendors() -> Iterator[Vendors]:
    """Use scapy's table, also where `ieee-data` is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vendors_module, "IEEE_FOLDER", Path("/nonexistent"))
        yield Vendors()


@pytest.fixture
def ieee(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed `ieee-data`; the table of our package is in the same folder, if a test writes it."""
    monkeypatch.setattr(vendors_module, "IEEE_FOLDER", tmp_path)
    monkeypatch.setattr(vendors_module, "PACKAGED", tmp_path / "vendors.tsv")
    for registry, lines in IEEE.items():
        rows = ["Registry,Assignment,Organization Name,Organization Address", *lines]
        (tmp_path / f"{registry}.csv").write_text("\r\n".join(rows))
    return tmp_path


def read(*macs: str) -> list[str | None]:
    found = Vendors()
    return [found.of(Mac(bytes.fromhex(mac))) for mac in macs]


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


IN_IEEE = {
    "a483e7123456": "Apple, Inc.",
    "0055da0abcde": "Shinko Technos co. ltd.",
    "0055dafabcde": None,  # assigned in parts, this one not yet
    "001bc5000123": "Converging Systems Inc. Audio",
    "40d8550d7001": "Avant Technologies",
    "00035f000000": "Prüftechnik Condition Monitoring GmbH & Co. KG",
    "000000000001": None,
}
"""MAC → vendor in the IEEE's files alone."""


def test_the_systems_own_registry_is_read_first(ieee: Path) -> None:
    """`ieee-data`, which its administrator can update; a subdivided block is no vendor."""
    (ieee / "vendors.tsv").write_text("A483E7\tof the package\n")
    assert read(*IN_IEEE) == list(IN_IEEE.values())


def test_the_packages_table_has_the_same_vendors(ieee: Path) -> None:
    """packaging/vendors.py writes it, sorted, so that the package is reproducible; it needs neither of the others."""
    script = f"""if True:
        import runpy, sys
        from pathlib import Path
        from netscand.lan import vendors
        vendors.IEEE_FOLDER = Path({str(ieee)!r})
        sys.argv = ["vendors.py", {str(ieee / "vendors.tsv")!r}]
        runpy.run_path({str(ROOT / "packaging/vendors.py")!r}, run_name="__main__")
    """
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    lines = (ieee / "vendors.tsv").read_text().splitlines()
    assert lines == sorted(lines)
    for registry in IEEE:
        (ieee / f"{registry}.csv").unlink()
    assert read(*IN_IEEE) == list(IN_IEEE.values())


@pytest.mark.parametrize("broken", [b"Registry\r\nMA-L,A483E7", b'a\r\nMA-L,XYZXYZ,"name"', b"a\r\n" + b"x" * 200_000])
def test_a_broken_registry_is_passed_over(ieee: Path, broken: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """And named in the log, whatever is in it."""
    (ieee / "oui.csv").write_bytes(broken)
    (ieee / "vendors.tsv").write_text("A483E7\tof the package\n")
    assert read("a483e7123456", "40d8550d7001") == ["of the package", None]
    assert "using the next one" in caplog.text


@pytest.mark.parametrize("home", ["", "none"], ids=["a HOME", "no HOME"])
def test_partial_imports_save_memory_and_leave_home_alone(tmp_path: Path, home: str) -> None:
    """With or without a writable HOME, both libraries and the vendors cost less than 15 MiB (9 measured)."""
    environment = {"HOME": str(tmp_path / home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURE], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kib"] < 15 * 1024
    assert found["apple"] == "Apple, Inc."
    assert found["whole"]
    assert not found["xdg"]
    assert not list(tmp_path.iterdir())
