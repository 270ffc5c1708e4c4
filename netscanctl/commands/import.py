"""`netscanctl import FILE`: labels from files of other programs."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

import click
from msgspec import UNSET

from netscanctl.annotate import update_device, warnings_of
from netscanctl.cli import Session
from netscanctl.client import Client, Failure, Usage
from netscanctl.name_files import FORMATS, LONGEST_LINE, BadLine, Entry, read
from netscanctl.terminal import Terminal
from netscanctl.text import clean
from netscand.protocol import Device, DeviceList, DeviceUpdate

PAGE = "1000"
"""Devices per request."""
MOST_ENTRIES = 65_536
"""Devices of one file."""
MOST_REPORTED = 20
"""Lines that are reported; the rest is counted."""
LABELLED, KNOWN, NOTES, TAGGED, UNSEEN, UNCHANGED, KEPT, NAMELESS, SKIPPED = OUTCOMES = (
    "labelled", "marked as known", "with new notes", "with new tags", "not seen yet", "unchanged",
    "with another label, kept (--overwrite replaces it)", "without a name (--known marks them)", "skipped",
)  # fmt: skip
"""Words of the summary, in order."""


@click.command("import", short_help="Set labels from a file of another program.")
@click.argument("file", type=click.File("rb"))
@click.option("--format", "form", type=click.Choice(list(FORMATS)),
              help="Format of FILE.  [default: recognised from its first lines]")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
@click.option("--overwrite", is_flag=True, help="Replace labels and notes that differ. Default: keep them.")
@click.option("--known", is_flag=True, help="Mark every device in FILE as known.")
@click.pass_obj
def command(session: Session, file: IO[bytes], form: str | None, dry_run: bool, overwrite: bool, known: bool) -> None:
    """Set the labels of devices, seen or not, from FILE ("-": stdin).

    FILE is ethers(5), hosts(5), the leases of dnsmasq or ISC dhcpd, arp.dat of arpwatch, or CSV with a header that
    names a column for the MAC and one for the name, such as that of NetAlertX or of netscanctl devices --format csv.
    Lines that cannot be used are reported and skipped; then the exit code is 1.
    """
    report = Report(session.terminal)
    try:
        found, lines = read(_lines(file), form)
    except ValueError:
        raise Usage(
            f"cannot recognise the format of {clean(file.name)}; name it with --format {', '.join(FORMATS)}"
        ) from None
    entries = collect(lines, report)
    devices, holders = fetch(session.client, entries)
    by_mac: dict[str, Entry] = {}
    for entry in entries:
        if mac := entry.mac or report.holder(entry, holders.get(entry.ip, [])):
            report.keep(by_mac, mac, entry)
    for at, (mac, entry) in enumerate(by_mac.items()):
        update = report.plan(entry, devices.get(mac), overwrite, known)
        if update and (dry_run or apply(session.client, entry.line, mac, update, report)):
            report.changed(mac, devices.get(mac), update, show=dry_run)
        session.terminal.bar.set(at + 1, len(by_mac), f"{at + 1}/{len(by_mac)} devices")
    session.terminal.bar.end()
    summary = f"{'dry run: ' if dry_run else ''}{found}: {report.summary()}"
    if report.counts[SKIPPED]:
        raise Failure(summary)
    session.terminal.notice(summary)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield lines; of one that is too long, only the beginning."""
    while line := file.readline(LONGEST_LINE + 2):
        yield line
        while not line.endswith(b"\n") and (line := file.readline(LONGEST_LINE)):
            pass


def collect(lines: Iterable[Entry | BadLine], report: "Report") -> list[Entry]:
    """Return one entry per device, in the order of the lines. Raises Failure if there are too many."""
    entries: dict[str, Entry] = {}
    for line in lines:
        if isinstance(line, BadLine):
            report.skip(line.line, line.why)
            continue
        report.keep(entries, line.mac or line.ip, line)
        if len(entries) > MOST_ENTRIES:
            raise Failure(f"the file has more than {MOST_ENTRIES:,} devices; import it in parts")
    return sorted(entries.values())


class Before(NamedTuple):
    """Annotations of a device before the import."""

    label: str | None
    known: bool
    notes: str | None
    tags: frozenset[str] = frozenset()


def fetch(client: Client, entries: Iterable[Entry]) -> tuple[dict[str, Before], dict[str, list[str]]]:
    """Return the annotations of the devices in the file, by MAC, and the MACs at its addresses. Raises Failure."""
    wanted = {entry.mac for entry in entries}
    addresses = {entry.ip for entry in entries if not entry.mac}
    devices: dict[str, Before] = {}
    main: dict[str, list[str]] = {}
    other: dict[str, list[str]] = {}
    query = {"limit": PAGE}
    while True:
        page = client.read(client.get("/api/devices", query), DeviceList)
        for device in page.devices:
            mine = addresses.intersection(_ips(device))
            for ip in mine:
                (main if ip == device.ip else other).setdefault(ip, []).append(device.mac)
            if mine or device.mac in wanted:
                devices[device.mac] = Before(device.label, device.known, device.notes, frozenset(device.tags))
        if not page.more:
            return devices, other | main
        query["after"] = page.devices[-1].mac


def _ips(device: Device) -> list[str]:
    return [] if device.status == "offline" else [address.ip for address in device.addresses]


def apply(client: Client, line: int, mac: str, update: DeviceUpdate, report: "Report") -> bool:
    """Send a change; return whether it was accepted. Raises Failure if no other one would be, either."""
    try:
        _, device = update_device(client, mac, update, minimal=True)
    except Failure as failure:
        if failure.exit_code != Failure.exit_code:
            raise
        report.skip(line, str(failure))
        return False
    for warning in warnings_of(device):
        report.line(line, f"warning: {warning}")
    return True


class Report:
    """What an import does: counted, and lines that need attention reported."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.counts: Counter[str] = Counter()
        self._reported = 0

    def line(self, number: int, text: str) -> None:
        """Report a line on stderr; of many, the first ones."""
        self._reported += 1
        if self._reported <= MOST_REPORTED:
            self._terminal.notice(f"line {number}: {text}")

    def skip(self, number: int, why: str) -> None:
        """Report a line that was skipped."""
        self.counts[SKIPPED] += 1
        self.line(number, why)

    def keep(self, entries: dict[str, Entry], device: str, entry: Entry) -> None:
        """Add the entry of a device; of two, keep the one that counts, and report a second name."""
        old = entries.get(device, entry)
        counts = entry if entry.at >= old.at and (entry.name or not old.name) else old
        entries[device] = counts
        if old.name and entry.name and old.name != entry.name:
            names = f'"{clean(old.name)}" (line {old.line}) and "{clean(entry.name)}"'
            self.line(entry.line, f"{device} has two names, {names}; line {counts.line} counts")

    def holder(self, entry: Entry, macs: list[str]) -> str | None:
        """Return the MAC of the one device at the address of an entry; report that there is none, or several."""
        if len(macs) == 1:
            return macs[0]
        what = f"{len(macs)} devices use {entry.ip}" if macs else f"no device has the address {entry.ip} now"
        self.skip(entry.line, f"{what}; use a file that has MAC addresses")
        return None

    def plan(self, entry: Entry, before: Before | None, overwrite: bool, known: bool) -> DeviceUpdate | None:
        """Return what an entry changes; None if nothing."""
        was = before or Before(None, False, None)
        label = entry.name if entry.name and entry.name != was.label and (overwrite or not was.label) else UNSET
        notes = entry.notes if entry.notes and entry.notes != was.notes and (overwrite or not was.notes) else UNSET
        mark = True if (known or entry.known) and not was.known else UNSET
        new_tags = [tag for tag in entry.tags if tag not in was.tags] or UNSET
        if entry.name and label is UNSET and entry.name != was.label:
            self.counts[KEPT] += 1
        elif label is UNSET and notes is UNSET and mark is UNSET and new_tags is UNSET:
            self.counts[UNCHANGED if entry.name or was.known else NAMELESS] += 1
        changes = DeviceUpdate(label=label, known=mark, notes=notes, add_tags=new_tags)
        return None if changes == DeviceUpdate() else changes

    def changed(self, mac: str, before: Before | None, update: DeviceUpdate, *, show: bool) -> None:
        """Count a change; print it, if it is only to be shown."""
        was = f' (was "{clean(before.label)}")' if before and before.label else ""
        parts = {
            LABELLED: f'label "{clean(update.label)}"{was}' if update.label else "",
            KNOWN: "known" if update.known is True else "",
            NOTES: "notes" if update.notes else "",
            TAGGED: " ".join(("tags", *map(clean, update.add_tags))) if update.add_tags else "",
        }
        self.counts.update(name for name, text in parts.items() if text)
        self.counts[UNSEEN] += before is None
        if show:
            self._terminal.write(f"{mac}  {', '.join(filter(None, parts.values()))}\n")

    def summary(self) -> str:
        """Return the counts in words."""
        if (more := self._reported - MOST_REPORTED) > 0:
            self._terminal.notice(f"… and {more} more")
        return ", ".join(f"{self.counts[what]} {what}" for what in OUTCOMES if self.counts[what]) or "no devices"
