"""The event log: the systemd journal with fields, one entry for each event; elsewhere stderr.

Journald takes datagrams of fields (systemd.io/JOURNAL_NATIVE_PROTOCOL). It may restart or hang at any time (FAULTS
F17): a datagram that it does not accept is counted, and the count is reported later. The daemon never waits for it.
"""

import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from netscand.checkout import for_checkout
from netscand.core.model import Event, EventKind, Ip, Mac, ScanNews
from netscand.core.ratelimit import JOURNAL, Budgets

SOCKET = "/run/systemd/journal/socket"

EVENT_ID = "b04d2d9ff5c54a2c8e5dd6bb0d0ac3f4"
"""MESSAGE_ID of every event; NETSCAND_KIND is the kind."""

PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Python's levels as priorities of syslog(3)."""

LONGEST = 2000
"""Maximum characters of a line; longer text from the LAN is cut."""

WARNINGS = frozenset(
    (
        EventKind.ADDRESS_CONFLICT,
        EventKind.GATEWAY_CHANGED,
        EventKind.DHCP_SERVER_SEEN,
        EventKind.NETWORK_SILENT,
        EventKind.FLOOD,
    )
)
"""Events that are logged as warnings."""

OTHER_IS: Mapping[str, str] = {
    EventKind.ADDRESS_MOVED: "before", EventKind.ADDRESS_REMOVED: "now", EventKind.GATEWAY_CHANGED: "before",
}  # fmt: skip
"""What `other` is in an event: a former or the new holder of the address; else a device that also is what it says."""

BATCH = 32
"""Entries written in one go: about 3 ms."""

log = logging.getLogger("netscand.events")


def one_line(text: str) -> str:
    """Return a text as one line without control, bidi or zero-width characters (FAULTS T8, T9)."""
    if len(text) <= LONGEST and text.isprintable():
        return text
    kept = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:LONGEST])
    return kept if len(text) <= LONGEST else kept + "…"


class OneLine(logging.Formatter):
    """Formatter that gives one line for each record, and one for each line of its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback after it."""
        line = f"{record.levelname} {record.name}: {one_line(record.getMessage())}"
        return "\n".join((line, *traceback_of(record)))


def sentence(
    kind: str, reason: str, network: str | None, device: tuple[str | None, ...] | None, vendor: str | None,
    other: str | None,
) -> str:  # fmt: skip
    """Return an event as a sentence. `device`: its name, address and MAC; None: the event is about none."""
    subject = network or "netscand"
    if device is not None:
        subject = " ".join(part for part in (*device, vendor and f"({vendor})") if part)
    line = f"{subject}: {kind}"
    if other:
        line += f", {OTHER_IS.get(kind, 'also')} {other}"
    return f"{line} ({reason})" if reason else line


def traceback_of(record: logging.LogRecord) -> list[str]:
    """Return the lines of a record's traceback, if it has one."""
    if not record.exc_info:
        return []
    return [one_line(line) for line in logging.Formatter().formatException(record.exc_info).splitlines()]


class Journal(logging.Handler):
    """Handler that writes records to journald. Raises OSError if there is none; entries it refuses later are lost."""

    def __init__(self, path: str = SOCKET) -> None:
        super().__init__()
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._lost = 0
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry; the attribute `fields` of the record becomes fields of the entry."""
        if self._lost and self._send(
            _datagram({"MESSAGE": f"{self._lost} entries were lost: journald refused them", "PRIORITY": "4"})
        ):
            self._lost = 0
        if not self._send(_datagram(_fields(record))):
            self._lost += 1

    def _send(self, datagram: bytes) -> bool:
        try:
            self._socket.send(datagram)
        except OSError:
            return self._reconnect_and_send(datagram)
        return True

    def _reconnect_and_send(self, datagram: bytes) -> bool:
        """Connect again and send: a restarted journald has another socket at the same path."""
        try:
            self._socket.connect(self._path)
            self._socket.send(datagram)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def _fields(record: logging.LogRecord) -> dict[str, str]:
    extra: Mapping[str, object] = getattr(record, "fields", {})
    message = "\n".join((one_line(record.getMessage()), *traceback_of(record)))
    level = max((known for known in PRIORITIES if known <= record.levelno), default=logging.DEBUG)
    return {
        "MESSAGE": message,
        "PRIORITY": str(PRIORITIES[level]),
        "SYSLOG_IDENTIFIER": "netscand",
        "NETSCAND_ROOM": record.name,
        **{name: one_line(str(value)) for name, value in extra.items() if value is not None},
    }


def _datagram(fields: Mapping[str, str]) -> bytes:
    """Encode fields as lines `NAME=value`; a value of several lines follows its length (little-endian)."""
    parts: list[bytes] = []
    for name, value in fields.items():
        raw = value.encode(errors="replace")
        if b"\n" in raw:
            parts += [name.encode(), b"\n", len(raw).to_bytes(8, "little"), raw, b"\n"]
        else:
            parts += [name.encode(), b"=", raw, b"\n"]
    return b"".join(parts)


def open_log(level: str, environment: Mapping[str, str] = os.environ, path: str = SOCKET) -> None:
    """Send the log to the journal if stderr is connected to it (systemd.exec(5), JOURNAL_STREAM), else to stderr."""
    handler: logging.Handler | None = None
    if environment.get("JOURNAL_STREAM", "") == _stream():
        try:
            handler = Journal(path)
        except OSError:
            handler = None
    if handler is None:
        handler = logging.StreamHandler()
        handler.setFormatter(OneLine())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # No traceback when logging itself fails, for example on a full disk.
    logging.raiseExceptions = False


def _stream() -> str | None:
    try:
        there = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    return f"{there.st_dev}:{there.st_ino}" if stat.S_ISSOCK(there.st_mode) else None


class EventSink(Protocol):
    """Receiver of events (serve/hub)."""

    def publish(self, cursor: str, event: Event, body: bytes) -> None:
        """Publish an event; `body` is what clients get."""

    def publish_scan(self, news: ScanNews) -> None:
        """Publish a message about a scan."""


class _Entry(NamedTuple):
    level: int
    cursor: str
    event: Event
    name: str | None
    ip: Ip | None
    status: str | None


class LoggedEvents:
    """Publishes events to a sink, then logs each one: one entry for each event, none for a frame.

    `later` schedules the writing: an entry costs a fifth of publishing an event, and clients come first.
    """

    def __init__(
        self,
        sink: EventSink,
        mac: Callable[[Mac], str],
        address: Callable[[Ip], str],
        later: Callable[[Callable[[], None]], object] = lambda write: write(),
        budgets: Budgets | None = None,
        vendor: Callable[[Mac], str | None] = lambda mac: None,
    ) -> None:
        self._sink = sink
        self._later = later
        self._entries: list[_Entry] = []
        self._address = address
        self._mac = mac
        self._vendor = vendor
        self.publish_scan = sink.publish_scan
        self._budgets = budgets or Budgets()
        self._skipped = 0

    def publish(self, cursor: str, event: Event, body: bytes) -> None:
        """Publish an event, and log it."""
        self._sink.publish(cursor, event, body)
        if event.kind not in WARNINGS and not self._has_room(event.at):  # warnings have budgets of their own
            return
        level = logging.WARNING if event.kind in WARNINGS else logging.INFO
        if log.isEnabledFor(level):
            device = event.device  # as it is now: it will have changed when the entry is written
            shown = (device.label or device.hostname, device.ip, device.status) if device else (None, None, None)
            self._entries.append(_Entry(level, cursor, event, *shown))
            if len(self._entries) == 1:
                self._later(self.write)

    def write(self, most: int = BATCH) -> None:
        """Write up to `most` entries, and schedule the rest."""
        entries, self._entries = self._entries[:most], self._entries[most:]
        for entry in entries:
            log.log(entry.level, "%s", self._sentence(entry), extra={"fields": self._journal_fields(entry)})
        if self._entries:
            self._later(self.write)

    def _has_room(self, now: float) -> bool:
        """Return whether one more entry may be written: journald drops entries that come too fast, also of others.

        The first scan of a large LAN makes tens of thousands of events. The history has them all.
        """
        if not self._budgets.take(JOURNAL, None, now):
            self._skipped += 1
            return False
        if self._skipped and self._budgets.room(JOURNAL, None, now) > JOURNAL.at_once / 2:
            hint = for_checkout("to see them: netscanctl events")
            log.warning("%d events were not logged (too many at once); %s", self._skipped, hint)
            self._skipped = 0
        return True

    def _sentence(self, entry: _Entry) -> str:
        event, ip = entry.event, entry.event.address or entry.ip
        device: tuple[str | None, ...] | None = None
        if event.device is not None:
            device = entry.name, self._address(ip) if ip else None, self._mac(event.device.mac)
        elif event.person is not None:
            device = (event.person.name,)
        vendor = self._vendor(event.device.mac) if event.device is not None else None
        other = self._mac(event.other) if event.other else None
        return sentence(event.kind, event.reason, event.network, device, vendor, other)

    def _journal_fields(self, entry: _Entry) -> dict[str, object]:
        event, address = entry.event, entry.event.address or entry.ip
        return {
            "MESSAGE_ID": EVENT_ID,
            "NETSCAND_KIND": str(event.kind),
            "NETSCAND_CURSOR": entry.cursor,
            "NETSCAND_NETWORK": event.network,
            "NETSCAND_MAC": self._mac(event.device.mac) if event.device else None,
            "NETSCAND_IP": self._address(address) if address else None,
            "NETSCAND_NAME": event.person.name if event.person else entry.name,
            "NETSCAND_VENDOR": self._vendor(event.device.mac) if event.device else None,
            "NETSCAND_STATUS": entry.status and str(entry.status),
            "NETSCAND_OTHER": self._mac(event.other) if event.other else None,
            "NETSCAND_REASON": event.reason or None,
        }
