"""`watch --table`: what stands on the screen. Pure: messages and a size in, lines out."""

from collections import Counter, deque
from datetime import datetime, timedelta

from msgspec.structs import replace

from netscanctl import render
from netscanctl.changes import MARKS, changes
from netscanctl.picture import Picture
from netscanctl.render import ORDERS, devices_table
from netscanctl.text import SENTENCE_LIMIT, clean
from netscand import protocol
from netscand.protocol import Device, Event, ServerMessage

FRESH = timedelta(seconds=8)
"""How long a mark stands before the device that changed."""
LAST = 5
"""Changes at the foot, where there is room."""
ROOMY = 18
"""Lines from which on there is."""
NO_MARK = "  "


class Board:
    """The devices, marked where they changed, and the last changes below."""

    def __init__(self, paint: render.Paint = render.plain) -> None:
        self.picture = Picture()
        self.note = "connecting…"
        """What there is to say: instead of standard error, which has no place on a full screen."""
        self._paint = paint
        self._last: deque[tuple[datetime, Event]] = deque(maxlen=LAST)
        self._changed: dict[str, tuple[datetime, str]] = {}
        self._scan: protocol.ScanProgress | None = None

    def hear(self, message: ServerMessage | None) -> list[Event]:
        """Fold one message in; return the changes."""
        match message:
            case protocol.InitialState() | protocol.Resumed():
                self.note = ""
                self._scan = None
            case protocol.ScanProgress():
                self._scan = None if message.done >= message.total else message
            case protocol.ScanUpdate():
                self._scan = None
            case protocol.ScanError():
                self.note = f"scan of {clean(message.network)}: {clean(message.message, SENTENCE_LIMIT)}"
        return self.picture.hear(message)

    def tell(self, event: Event, now: datetime) -> None:
        """A change that is wanted at the foot, and marked."""
        self._last.append((now, event))
        if event.device is not None:
            self._changed[event.device.mac] = (now, MARKS.get(event.kind, "~"))

    def fresh(self, now: datetime) -> bool:
        """Whether a mark stands that will go; forgets those that are gone."""
        self._changed = {mac: mark for mac, mark in self._changed.items() if now - mark[0] < FRESH}
        return bool(self._changed)

    def lines(self, columns: int, rows: int, now: datetime) -> list[str]:
        """At most `rows` lines; what is wider than `columns` is for the terminal to cut."""
        head = [self._counts(), self._networks()]
        foot = self._foot(columns, now) if rows >= ROOMY else []
        return [*head, *self._table(columns, max(2, rows - len(head) - len(foot)), now), *foot][:rows]

    def _counts(self) -> str:
        """How many are there, and what goes on."""
        devices = [device for device in self.picture.devices.values() if "self" not in device.kinds]
        counts = Counter(device.status for device in devices)
        told = ", ".join(f"{counts[status]} {status}" for status in ("online", "offline", "unknown"))
        scan = f"   scanning, {self._scan.done} of {self._scan.total} addresses" if self._scan else ""
        return told + scan + (f"   {self._paint(self.note, '!')}" if self.note else "")

    def _networks(self) -> str:
        """What is scanned, and how it is."""
        scanned = [network for network in self.picture.networks.values() if network.state != "excluded"]
        return "   ".join(f"{clean(one.id)} {self._paint(clean(one.state), one.state)}" for one in scanned)

    def _table(self, columns: int, room: int, now: datetime) -> list[str]:
        """The head and the devices: by address; where there is no room for all, the changed and the online first."""
        devices = list(self.picture.devices.values())
        fits = len(devices) < room
        devices.sort(key=ORDERS["ip"] if fits else lambda one: (one.mac not in self._changed, *ORDERS["status"](one)))
        shown = devices if fits else devices[: room - 2]
        table = devices_table(shown, columns=columns - len(NO_MARK), paint=self._paint, today=now).splitlines()
        marks = [NO_MARK, *(self._mark(device) for device in shown)]
        lines = [mark + line for mark, line in zip(marks, table, strict=True)]
        return lines if fits else [*lines, f"{NO_MARK}… and {len(devices) - len(shown)} more"]

    def _mark(self, device: Device) -> str:
        _, mark = self._changed.get(device.mac, (None, ""))
        return f"{self._paint(mark, mark)} " if mark else NO_MARK

    def _foot(self, columns: int, now: datetime) -> list[str]:
        """The last changes."""
        told = [event if event.at else replace(event, at=at.isoformat()) for at, event in self._last]
        lines = changes(told, paint=self._paint, now=now, columns=columns).splitlines()
        return ["", *lines] if lines else []
