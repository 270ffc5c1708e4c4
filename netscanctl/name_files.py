"""Names of devices in files of other programs: ethers(5), hosts(5), leases, arp.dat, CSV. Pure, and line by line."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from itertools import chain, islice
from typing import NamedTuple

from netscanctl.export import FORMULA
from netscanctl.params import TAG_RULE, as_ip, as_mac, is_tag
from netscanctl.text import clean
from netscand.protocol import MOST_TAGS

LONGEST_LINE = 64 * 1024
"""Bytes of a line; what is longer is no file of names."""
LOOKED_AT = 50
"""Lines that show the format of a file."""
LONGEST_LABEL, LONGEST_NOTES = 128, 4096
"""Characters that the daemon accepts (`DeviceUpdate` in netscand/protocol.py)."""
NO_NAMES = {"", "*", "-", "?", "unknown", "(unknown)", "(name not found)", "null", "none"}
"""What other programs write if they know no name."""


class Entry(NamedTuple):
    """What one line says of a device. `mac` is empty if only `ip` names the device."""

    line: int
    mac: str
    ip: str = ""
    name: str = ""
    known: bool = False
    notes: str = ""
    tags: tuple[str, ...] = ()
    at: int = 0
    """Of several entries of a device, the one with the highest number counts, and of equal ones the last."""


class BadLine(NamedTuple):
    """Line that cannot be used, and why."""

    line: int
    why: str


Line = tuple[int, str]
Found = Iterator[Entry | BadLine]


def read(lines: Iterable[bytes], form: str | None) -> tuple[str, Found]:
    """Return the format of a file (`form`, or what its first lines show), and its entries. Raises ValueError."""
    numbered = _decoded(lines)
    first = list(islice(numbered, LOOKED_AT))
    found = form or next(filter(None, (_format_of(text) for _, text in first if isinstance(text, str))), None)
    if found is None:
        raise ValueError("unknown format")
    return found, _entries(chain(first, numbered), FORMATS[found])


def _entries(lines: Iterable[tuple[int, str | None]], parse: Callable[[Iterator[Line]], Found]) -> Found:
    """Parse a file; lines that are no text are bad ones of any format."""
    bad: list[BadLine] = []

    def readable() -> Iterator[Line]:
        for number, text in lines:
            if text is None:
                bad.append(BadLine(number, "not UTF-8, or too long; save the file as UTF-8"))
            else:
                yield number, text

    for found in parse(readable()):
        yield from bad
        bad.clear()
        yield found
    yield from bad


def _decoded(lines: Iterable[bytes]) -> Iterator[tuple[int, str | None]]:
    for number, line in enumerate(lines, 1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8") if len(line) <= LONGEST_LINE else None
        except UnicodeDecodeError:
            yield number, None


def _format_of(text: str) -> str | None:
    """Return the format that a line has; None if the line does not show it."""
    if _columns(text):
        return "csv"
    if _BLOCK.match(text):
        return "dhcpd"
    words = _words(text)
    if len(words) < 2:
        return None
    if words[0] == "duid" or (words[0].isdigit() and _mac(words[1])):
        return "dnsmasq"
    if _mac(words[0]):
        return "arpwatch" if len(words) > 2 and as_ip(words[1]) and words[2].isdigit() else "ethers"
    return "hosts" if as_ip(words[0]) else None


# ---- lines of words ------------------------------------------------------------------------------------------------


def _ethers(lines: Iterator[Line]) -> Found:
    """Read lines of `mac name` or `mac ip`."""
    for number, text in lines:
        if words := _words(text):
            yield _entry(number, words[0], words[1] if len(words) > 1 else "")


def _arpwatch(lines: Iterator[Line]) -> Found:
    """Read lines of `mac ip time name interface`, separated by tabs; arpwatch(8) writes MACs without leading zeros."""
    for number, text in lines:
        words = text.rstrip().split("\t") if "\t" in text else text.split()
        if any(words):
            at = int(words[2]) if len(words) > 2 and words[2].isdigit() else 0
            yield _entry(number, words[0], words[3] if len(words) > 3 else "", at=at)


def _dnsmasq(lines: Iterator[Line]) -> Found:
    """Read lines of `time mac ip name client-id`; after a line `duid`, the leases are of IPv6, and have no MAC."""
    for number, text in lines:
        words = _words(text)
        if words and words[0] == "duid":
            return
        if words:
            mac = re.sub(r"^[0-9a-f]{2}-(?=[0-9a-f]{2}:)", "", words[1].lower()) if len(words) > 1 else ""
            yield _entry(number, mac, words[3] if len(words) > 3 else "")


def _hosts(lines: Iterator[Line]) -> Found:
    """Read lines of `ip name …`."""
    for number, text in lines:
        words = _words(text)
        if not words:
            continue
        ip = as_ip(words[0])
        if ip is None:
            yield BadLine(number, f'"{clean(words[0])}" is not an IP address')
        elif len(words) < 2:
            yield BadLine(number, f"no name follows {clean(ip)}")
        elif not (ip_address(ip).is_loopback or ip_address(ip).is_multicast or ip_address(ip).is_unspecified):
            yield _checked(Entry(number, "", ip, words[1]))


def _words(text: str) -> list[str]:
    return text.partition("#")[0].split()


# ---- dhcpd ---------------------------------------------------------------------------------------------------------

_BLOCK = re.compile(r"\s*(?:lease|host)\s+\S+\s*\{")
_TOKEN = re.compile(
    r"#.*|(?P<block>lease|host)\s+(?P<of>[^\s{]+)\s*\{|(?P<open>\{)|(?P<close>\})"
    r"|hardware\s+ethernet\s+(?P<mac>[^\s;]+)|client-hostname\s+(?P<name>\"(?:[^\"\\]|\\.)*\")|\"(?:[^\"\\]|\\.)*\""
)


def _dhcpd(lines: Iterator[Line]) -> Found:
    """Read the leases of ISC dhcpd (dhcpd.leases(5)), and the `host` declarations of its configuration."""
    depth, number, mac, name = 0, 0, "", ""
    for line, text in lines:
        for token in _TOKEN.finditer(text):
            if token["block"] and depth == 0:
                depth, mac, name = 1, "", token["of"] if token["block"] == "host" else ""
            elif token["block"] or token["open"]:
                depth += 1
            elif token["mac"]:
                number, mac = line, token["mac"]
            elif token["name"]:
                name = _unescaped(token["name"][1:-1])
            elif token["close"]:
                depth = max(0, depth - 1)
                if depth == 0 and mac:
                    yield _entry(number, mac, name)
                    mac = ""


def _unescaped(text: str) -> str:
    r"""Return a quoted text of dhcpd, which writes bytes that are not ASCII as `\303\244`."""
    octal = re.sub(r"\\([0-3][0-7]{2})", lambda found: chr(int(found[1], 8)), text)
    return octal.encode("latin-1", "replace").decode(errors="replace")


# ---- CSV -----------------------------------------------------------------------------------------------------------

_MAC_COLUMNS = ("mac", "macaddress", "macaddr", "devmac", "hwaddr", "hwaddress", "hardwareaddress", "physicaladdress")
_NAME_COLUMNS = ("label", "devname", "name", "devicename", "alias", "hostname", "host", "client")
_NOTES_COLUMNS = ("notes", "devcomments", "comments", "comment")
_NEW_COLUMNS = ("devisnew", "devnewdevice")
"""NetAlertX and Pi.Alert: 0 for a device that the user has acknowledged."""
_YES = ("yes", "true", "1")


def _columns(header: str) -> tuple[str, Mapping[str, int]] | None:
    """Return the separator and the columns of a header, by their name in lower case; None if it has no MAC column."""
    for separator in ",;\t":
        cells = next(csv.reader([header], delimiter=separator), [])
        names = {re.sub(r"[^a-z]", "", cell.lower()): at for at, cell in reversed([*enumerate(cells)])}
        if len(names) > 1 and any(name in names for name in _MAC_COLUMNS):
            return separator, names
    return None


def _csv(lines: Iterator[Line]) -> Found:
    """Read CSV with a header: that of netscanctl itself, of NetAlertX, or any with a MAC and a name column."""
    number, header = next(((number, text) for number, text in lines if text.strip()), (1, ""))
    found = _columns(header)
    if found is None:
        yield BadLine(
            number, f'the header "{clean(header)}" has no column for the MAC; name it "mac", and another "name"'
        )
        return
    separator, names = found

    def text_of(numbered: Iterator[Line]) -> Iterator[str]:
        nonlocal number
        for line in numbered:
            number = line[0]
            yield line[1]

    rows = csv.reader(text_of(lines), delimiter=separator)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(number, f"not CSV ({error})")
            continue
        if any(cell.strip() for cell in row) and (entry := _of_row(number, row, names)):
            yield entry


def _of_row(number: int, row: list[str], names: Mapping[str, int]) -> Entry | BadLine | None:
    """Return the entry of a row; None if it is about no device."""

    def cell(columns: Iterable[str]) -> str:
        at = next((names[column] for column in columns if column in names), len(row))
        return FORMULA_QUOTE.sub(r"\1\2", row[at]).strip() if at < len(row) else ""

    mac = cell(_MAC_COLUMNS)
    if "devmac" in names and mac.lower() == "internet":  # NetAlertX lists its uplink as a device
        return None
    known = cell(["known"]).lower() in _YES or cell(_NEW_COLUMNS) == "0"
    tags = tuple(cell(["tags"]).lower().replace(",", " ").split())
    if bad := next((tag for tag in tags if not is_tag(tag)), ""):
        return BadLine(number, f'"{clean(bad)}" is not a tag; {TAG_RULE}')
    if len(tags) > MOST_TAGS:
        return BadLine(number, f"{len(tags)} tags are more than a device may have ({MOST_TAGS}); remove some")
    return _entry(number, mac, cell(_NAME_COLUMNS), known=known, notes=cell(_NOTES_COLUMNS), tags=tags)


FORMULA_QUOTE = re.compile(FORMULA.pattern.replace(r"(?=", r"'(?="))
"""The quote that `devices --format csv` puts before what a spreadsheet would run."""


# ---- entries -------------------------------------------------------------------------------------------------------


def _entry(
    number: int, mac: str, name: str, *, known: bool = False, notes: str = "", tags: tuple[str, ...] = (), at: int = 0
) -> Entry | BadLine:
    """Return an entry of a MAC, or why the line is a bad one."""
    found = _mac(mac)
    if found is None:
        return BadLine(number, f'"{clean(mac)}" is not a MAC address such as a4:83:e7:12:34:56')
    if int(found[1], 16) & 1 or found == "00:00:00:00:00:00":
        return BadLine(number, f"{found} is not the address of one device (multicast, or zero)")
    return _checked(Entry(number, found, "", "" if as_ip(name) else name, known, notes, tags, at))


def _checked(entry: Entry) -> Entry | BadLine:
    name = entry.name.strip()
    if len(name) > LONGEST_LABEL:
        return BadLine(entry.line, f'"{clean(name)}" has {len(name)} characters, more than {LONGEST_LABEL}; shorten it')
    return entry._replace(name="" if name.lower() in NO_NAMES else name, notes=entry.notes[:LONGEST_NOTES])


def _mac(text: str) -> str | None:
    """Return a MAC as the API writes it, also of one without leading zeros; None if it is none."""
    parts = re.fullmatch(r"([0-9a-f]{1,2})" + r"[:-]([0-9a-f]{1,2})" * 5, text.lower())
    return ":".join(f"{part:0>2}" for part in parts.groups()) if parts else as_mac(text)


FORMATS: Mapping[str, Callable[[Iterator[Line]], Found]] = {
    "ethers": _ethers, "hosts": _hosts, "dnsmasq": _dnsmasq, "dhcpd": _dhcpd, "csv": _csv, "arpwatch": _arpwatch,
}  # fmt: skip
