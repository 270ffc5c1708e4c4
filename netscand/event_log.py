"""Where the daemon's words go: the systemd journal with fields, one entry an event; elsewhere stderr.

Journald speaks datagrams of fields (systemd.io/JOURNAL_NATIVE_PROTOCOL). It may restart, or hang, at any time (FAULTS
F17): a datagram that it does not take is counted, told later, and never waited for.
"""

import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from netscand.core.model import Device, Event, EventKind, Ip, Mac, ScanNews
from netscand.core.ratelimit import JOURNAL, Budgets

SOCKET = "/run/systemd/journal/socket"

EVENT_ID = "b04d2d9ff5c54a2c8e5dd6bb0d0ac3f4"
"""MESSAGE_ID of every event; NETSCAND_KIND tells them apart."""

PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Levels as syslog(3) counts them."""

LONGEST = 2000
"""Characters of a line; whoever sends more from the LAN has nothing to say."""

ODD = frozenset(
    (
        EventKind.ADDRESS_CONFLICT,
        EventKind.GATEWAY_CHANGED,
        EventKind.DHCP_SERVER_SEEN,
        EventKind.NETWORK_SILENT,
        EventKind.FLOOD,
    )
)
"""Told as warnings."""

AT_A_TIME = 32
"""Entries written at once: some 3 ms."""

log = logging.getLogger("netscand.events")


def one_line(text: str) -> str:
    """The text on one line, no control, bidi or zero-width character left (FAULTS T8, T9)."""
    if len(text) <= LONGEST and text.isprintable():
        return text
    kept = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:LONGEST])
    return kept if len(text) <= LONGEST else kept + "…"


class OneLine(logging.Formatter):
    """One line a record, whatever is in it; of a traceback every line is made safe for itself."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback after it."""
        said = f"{record.levelname} {record.name}: {one_line(record.getMessage())}"
        return "\n".join((said, *traceback_of(record)))


def traceback_of(record: logging.LogRecord) -> list[str]:
    """The lines of a record's traceback, where it has one."""
    if not record.exc_info:
        return []
    return [one_line(line) for line in logging.Formatter().formatException(record.exc_info).splitlines()]


class Journal(logging.Handler):
    """Writes records to journald. Raises OSError where there is no journald; later, what it does not take is lost."""

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
        """One entry; the attribute `fields` of the record becomes fields of the entry."""
        if self._lost and self._send(_datagram({"MESSAGE": f"{self._lost} entries were lost", "PRIORITY": "4"})):
            self._lost = 0
        if not self._send(_datagram(_fields(record))):
            self._lost += 1

    def _send(self, datagram: bytes) -> bool:
        try:
            self._socket.send(datagram)
        except OSError:
            return self._send_anew(datagram)
        return True

    def _send_anew(self, datagram: bytes) -> bool:
        """A journald that was restarted has another socket at the same path."""
        try:
            self._socket.connect(self._path)
            self._socket.send(datagram)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give the socket back."""
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
    """`NAME=value` a line; a value of several lines goes with its length, little-endian, before it."""
    parts: list[bytes] = []
    for name, value in fields.items():
        raw = value.encode(errors="replace")
        if b"\n" in raw:
            parts += [name.encode(), b"\n", len(raw).to_bytes(8, "little"), raw, b"\n"]
        else:
            parts += [name.encode(), b"=", raw, b"\n"]
    return b"".join(parts)


def open_log(level: str, environment: Mapping[str, str] = os.environ, path: str = SOCKET) -> None:
    """Send the log to the journal where stderr leads there (systemd.exec(5), JOURNAL_STREAM), else to stderr."""
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
    # Without a traceback of its own: whoever reads a full disk's stderr has enough to do.
    logging.raiseExceptions = False


def _stream() -> str | None:
    try:
        there = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    return f"{there.st_dev}:{there.st_ino}" if stat.S_ISSOCK(there.st_mode) else None


class Audience(Protocol):
    """Who is told events (serve/hub)."""

    def publish(self, cursor: str, event: Event, body: bytes) -> None:
        """Publish an event; `body` is what clients get."""

    def publish_scan(self, news: ScanNews) -> None:
        """Tell what becomes of a scan."""


class _Entry(NamedTuple):
    level: int
    sentence: str
    fields: dict[str, object]


class LoggedEvents:
    """Tells events to an audience, and then writes each down: one entry an event, no line a frame.

    `later` calls back in a moment: to write an entry takes as long as a fifth of telling, and clients come first.
    """

    def __init__(
        self,
        audience: Audience,
        mac: Callable[[Mac], str],
        address: Callable[[Ip], str],
        later: Callable[[Callable[[], None]], object] = lambda write: write(),
        budgets: Budgets | None = None,
    ) -> None:
        self._audience = audience
        self._later = later
        self._entries: list[_Entry] = []
        self._address = address
        self._mac = mac
        self.publish_scan = audience.publish_scan
        self._budgets = budgets or Budgets()
        self._left_out = 0

    def publish(self, cursor: str, event: Event, body: bytes) -> None:
        """Publish an event, and log it."""
        self._audience.publish(cursor, event, body)
        if event.kind not in ODD and not self._has_room(event.at):  # what is odd has budgets (core/ratelimit.py)
            return
        level = logging.WARNING if event.kind in ODD else logging.INFO
        if log.isEnabledFor(level):
            self._entries.append(_Entry(level, self._sentence(event), self._named(cursor, event)))
            if len(self._entries) == 1:
                self._later(self.write)

    def write(self, most: int = AT_A_TIME) -> None:
        """Write down what was told, the rest later."""
        entries, self._entries = self._entries[:most], self._entries[most:]
        for entry in entries:
            log.log(entry.level, "%s", entry.sentence, extra={"fields": entry.fields})
        if self._entries:
            self._later(self.write)

    def _has_room(self, now: float) -> bool:
        """Return whether journald would take one more: it drops what comes too fast, and other entries with it.

        A large LAN that is scanned for the first time has tens of thousands of events. The history has them all.
        """
        if not self._budgets.take(JOURNAL, None, now):
            self._left_out += 1
            return False
        if self._left_out and self._budgets.room(JOURNAL, None, now) > JOURNAL.at_once / 2:
            log.warning("%d events were not written down here; netscanctl events has them all", self._left_out)
            self._left_out = 0
        return True

    def _sentence(self, event: Event) -> str:
        device = event.device
        said = event.network or "netscand"
        if device is not None:
            ip = event.address or device.ip
            names = [device.label or device.hostname, self._address(ip) if ip else None, self._mac(device.mac)]
            said = " ".join(name for name in names if name)
        said = f"{said}: {event.kind}"
        if event.other:
            said += f", {self._mac(event.other)} too"
        return f"{said} ({event.reason})" if event.reason else said

    def _named(self, cursor: str, event: Event) -> dict[str, object]:
        device: Device | None = event.device
        address = event.address or (device.ip if device else None)
        return {
            "MESSAGE_ID": EVENT_ID,
            "NETSCAND_KIND": str(event.kind),
            "NETSCAND_CURSOR": cursor,
            "NETSCAND_NETWORK": event.network,
            "NETSCAND_MAC": self._mac(device.mac) if device else None,
            "NETSCAND_IP": self._address(address) if address else None,
            "NETSCAND_NAME": (device.label or device.hostname) if device else None,
            "NETSCAND_STATUS": str(device.status) if device else None,
            "NETSCAND_OTHER": self._mac(event.other) if event.other else None,
            "NETSCAND_REASON": event.reason or None,
        }
