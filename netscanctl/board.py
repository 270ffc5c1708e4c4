"""Contents of `watch --table`. Pure: messages and a terminal size in, lines out."""

from collections import Counter, deque
from datetime import datetime, timedelta

from msgspec.structs import replace

from netscanctl import render
from netscanctl.changes import MARKS, format_events
from netscanctl.picture import Picture
from netscanctl.render import ORDERS, devices_table
from netscanctl.text import clean
from netscand import protocol
from netscand.protocol import Device, Event, ServerMessage

MARK_LIFETIME = timedelta(seconds=8)
"""Duration of the mark in front of a changed device."""
LAST_EVENTS = 5
"""Events listed below the table."""
MIN_ROWS_FOR_EVENTS = 18
"""Rows of the terminal from which on events are listed."""
NO_MARK = "  "


class Board:
    """Table of devices with recent changes marked, and the last events below."""

    def __init__(self, paint: render.Paint = render.plain) -> None:
        self.picture = Picture()
        self.notice = "connecting…"
        """Message to the user: standard error is not visible on a full screen."""
        self._paint = paint
        self._events: deque[tuple[datetime, Event]] = deque(maxlen=LAST_EVENTS)
        self._marks: dict[str, tuple[datetime, str]] = {}
        """MAC → time of the change, mark."""
        self._scan: protocol.ScanProgress | None = None

    def on_message(self, message: ServerMessage | None) -> list[Event]:
        """Apply one message; return the events to show."""
        match message:
            case protocol.InitialState() | protocol.Resumed():
                self.notice = ""
                self._scan = None
            case protocol.ScanProgress():
                self._scan = None if message.done >= message.total else message
            case protocol.ScanUpdate():
                self._scan = None
            case protocol.ScanError():
                self.notice = render.scan_error(message)
        return self.picture.on_message(message)

    def add_event(self, event: Event, now: datetime) -> None:
        """List an event below the table, and mark its device."""
        self._events.append((now, event))
        if event.device is not None:
            self._marks[event.device.mac] = (now, MARKS.get(event.kind, "~"))

    def expire_marks(self, now: datetime) -> bool:
        """Remove expired marks; return whether others are left."""
        self._marks = {mac: mark for mac, mark in self._marks.items() if now - mark[0] < MARK_LIFETIME}
        return bool(self._marks)

    def lines(self, columns: int, rows: int, now: datetime) -> list[str]:
        """Return at most `rows` lines; the terminal cuts lines wider than `columns`."""
        head = [self._counts(), self._networks()]
        foot = self._event_lines(columns, now) if rows >= MIN_ROWS_FOR_EVENTS else []
        return [*head, *self._table(columns, max(2, rows - len(head) - len(foot)), now), *foot][:rows]

    def _counts(self) -> str:
        """Return the devices by status, the progress of a scan, and the notice."""
        devices = [device for device in self.picture.devices.values() if "self" not in device.kinds]
        counts = Counter(device.status for device in devices)
        text = ", ".join(f"{counts[status]} {status}" for status in ("online", "offline", "unknown"))
        scan = f"   scanning, {self._scan.done} of {self._scan.total} addresses" if self._scan else ""
        return text + scan + (f"   {self._paint(self.notice, '!')}" if self.notice else "")

    def _networks(self) -> str:
        """Return the scanned networks and their states."""
        scanned = [network for network in self.picture.networks.values() if network.state != "excluded"]
        return "   ".join(f"{clean(one.id)} {self._paint(clean(one.state), one.state)}" for one in scanned)

    def _table(self, columns: int, rows: int, now: datetime) -> list[str]:
        """Return the table by address; if it does not fit, changed and online devices first."""
        devices = list(self.picture.devices.values())
        fits = len(devices) < rows
        devices.sort(key=ORDERS["ip"] if fits else lambda one: (one.mac not in self._marks, *ORDERS["status"](one)))
        shown = devices if fits else devices[: rows - 2]
        table = devices_table(shown, columns=columns - len(NO_MARK), paint=self._paint, today=now).splitlines()
        marks = [NO_MARK, *(self._mark(device) for device in shown)]
        lines = [mark + line for mark, line in zip(marks, table, strict=True)]
        return lines if fits else [*lines, f"{NO_MARK}… and {len(devices) - len(shown)} more"]

    def _mark(self, device: Device) -> str:
        _, mark = self._marks.get(device.mac, (None, ""))
        return f"{self._paint(mark, mark)} " if mark else NO_MARK

    def _event_lines(self, columns: int, now: datetime) -> list[str]:
        events = [event if event.at else replace(event, at=at.isoformat()) for at, event in self._events]
        lines = format_events(events, paint=self._paint, now=now, columns=columns).splitlines()
        return ["", *lines] if lines else []
