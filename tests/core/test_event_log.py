"""The event log: one entry for each event; nothing from the LAN forges one; journald may restart."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netscand.core.model import Device, Event, EventKind, Ip, Mac, ScanNews
from netscand.core.presence import Presence, Rules
from netscand.core.ratelimit import Budgets
from netscand.event_log import BATCH, EVENT_ID, Journal, LoggedEvents, OneLine, one_line, open_log
from netscand.serve.encode import ip_text, mac_text


class Journald:
    """What journald is to us: a datagram socket at a path, and its protocol (JOURNAL_NATIVE_PROTOCOL)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def entries(self) -> list[dict[str, str]]:
        """What came since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._read(self.socket.recv(1 << 20)))
        return found

    @staticmethod
    def _read(raw: bytes) -> dict[str, str]:
        fields: dict[str, str] = {}
        while raw:
            line, _, raw = raw.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                length = int.from_bytes(raw[:8], "little")
                value, raw = raw[8 : 8 + length], raw[8 + length + 1 :]
            assert name.decode() not in fields, "a field stands twice"
            fields[name.decode()] = value.decode()
        return fields

    def stop(self) -> None:
        """As journald ends."""
        self.socket.close()
        self.path.unlink()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    """One that runs."""
    made = Journald(tmp_path / "socket")
    yield made
    made.socket.close()


@pytest.fixture
def log(journald: Journald) -> Iterator[logging.Logger]:
    """A logger that writes there."""
    logger = logging.getLogger("netscand.events")
    handler = Journal(str(journald.path))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger
    logger.removeHandler(handler)
    handler.close()
    logger.setLevel(logging.NOTSET)


class Nobody:
    """An audience that only counts."""

    published = 0

    def publish(self, cursor: str, event: Event, body: bytes) -> None:
        self.published += 1

    def publish_scan(self, news: ScanNews) -> None:
        self.published += 1


def event(kind: EventKind = EventKind.ONLINE, hostname: str | None = "nas", **more: object) -> Event:
    """Of one device."""
    device = Device(Mac(bytes(range(6))), 0.0, 0.0, Presence(0.0, Rules(10, 10, 3600)), hostname=hostname)
    whole = {"network": "10.0.0.0/24@eth0", "device": device, "address": Ip(bytes((10, 0, 0, 5)))} | more
    return Event(kind, 1.0, **whole)  # type: ignore[arg-type]


def test_an_event_is_one_entry_with_its_fields(journald: Journald, log: logging.Logger) -> None:
    """`journalctl NETSCAND_MAC=…` finds it, and a person can read it."""
    audience = Nobody()
    logged = LoggedEvents(audience, mac_text, ip_text, vendor=lambda mac: "Apple, Inc.")
    logged.publish("e-7", event(reason="answered a probe"), b"")
    (entry,) = journald.entries()
    assert audience.published == 1
    assert entry["MESSAGE"] == "nas 10.0.0.5 00:01:02:03:04:05 (Apple, Inc.): online (answered a probe)"
    assert entry["MESSAGE_ID"] == EVENT_ID
    assert entry["PRIORITY"] == "6"
    assert {name: value for name, value in entry.items() if name.startswith("NETSCAND_")} == {
        "NETSCAND_ROOM": "netscand.events",
        "NETSCAND_KIND": "online",
        "NETSCAND_CURSOR": "e-7",
        "NETSCAND_NETWORK": "10.0.0.0/24@eth0",
        "NETSCAND_MAC": "00:01:02:03:04:05",
        "NETSCAND_IP": "10.0.0.5",
        "NETSCAND_NAME": "nas",
        "NETSCAND_VENDOR": "Apple, Inc.",
        "NETSCAND_STATUS": "online",
        "NETSCAND_REASON": "answered a probe",
    }


def test_clients_come_before_the_journal(caplog: pytest.LogCaptureFixture) -> None:
    """An event is published at once, and logged later, as it was; many do not block the loop."""
    caplog.set_level(logging.INFO)
    audience, waiting = Nobody(), list[Callable[[], None]]()
    logged = LoggedEvents(audience, mac_text, ip_text, waiting.append)
    for number in range(BATCH + 5):
        published = event()
        logged.publish(f"e-{number}", published, b"")
        assert published.device
        published.device.hostname = "another by now"
    assert (audience.published, len(waiting), caplog.messages) == (BATCH + 5, 1, [])
    waiting.pop()()
    assert len(caplog.messages) == BATCH
    assert all(message.startswith("nas ") for message in caplog.messages)
    waiting.pop()()
    assert len(caplog.messages) == BATCH + 5
    assert not waiting


@pytest.mark.parametrize("kind", list(EventKind))
def test_every_kind_of_event_can_be_logged(kind: EventKind, journald: Journald, log: logging.Logger) -> None:
    """With and without a device."""
    logged = LoggedEvents(Nobody(), mac_text, ip_text)
    logged.publish("e-1", event(kind, other=Mac(bytes(6))), b"")
    logged.publish("e-2", event(kind, device=None, address=None), b"")
    assert [entry["NETSCAND_KIND"] for entry in journald.entries()] == [kind, kind]


@pytest.mark.parametrize(
    "name", ["a\nPRIORITY=0\nMESSAGE=all is well", "\x1b]0;x\x07", "a\u202eb", "x" * 10_000, "\ud800", "a\0b"]
)
def test_a_name_forges_nothing(name: str, journald: Journald, log: logging.Logger) -> None:
    """Newlines, escapes, bidi and length stay within their field: one entry, every field once (FAULTS T8, T9)."""
    LoggedEvents(Nobody(), mac_text, ip_text).publish("e-1", event(hostname=name), b"")
    (entry,) = journald.entries()
    assert entry["PRIORITY"] == "6"
    assert all(value.isprintable() and len(value) <= 2100 for value in entry.values())


def test_a_line_on_stderr_is_one_line() -> None:
    """The same where there is no journal; a traceback keeps its lines, and nothing else."""
    try:
        raise ValueError("a\x1b[2Jb")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "a\nERROR x: %s", ("b\r",), sys.exc_info())
    lines = OneLine().format(record).split("\n")
    assert lines[0].startswith("ERROR x: a\N{REPLACEMENT CHARACTER}ERROR x: b")
    assert lines[1].startswith("Traceback")
    assert all(line.isprintable() for line in lines)
    assert one_line("Zoë 本") == "Zoë 本"


def test_a_traceback_is_one_entry(journald: Journald, log: logging.Logger) -> None:
    """A value of several lines goes as the protocol wants it."""
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("lost")
    (entry,) = journald.entries()
    assert entry["MESSAGE"].startswith("lost\nTraceback")
    assert entry["MESSAGE"].endswith("ValueError: why")
    assert entry["PRIORITY"] == "3"


def test_a_restarted_journald_gets_entries_again(journald: Journald, log: logging.Logger) -> None:
    """Missed entries are counted and reported; nothing raises (FAULTS F17)."""
    journald.stop()
    log.info("one")
    log.info("two")
    again = Journald(journald.path)
    log.info("three")
    said = [entry["MESSAGE"] for entry in again.entries()]
    again.socket.close()
    assert said == ["2 entries were lost: journald refused them", "three"]


def test_a_journald_that_hangs_is_not_waited_for(journald: Journald, log: logging.Logger) -> None:
    """Its queue is full: entries are lost, the loop is not."""
    for _ in range(5000):
        log.info("x" * 1000)
    queued = len(journald.entries())
    assert 0 < queued < 5000
    log.info("after")
    lost = f"{5000 - queued} entries were lost: journald refused them"
    assert [entry["MESSAGE"] for entry in journald.entries()] == [lost, "after"]


def test_without_a_journal_stderr_is_the_log(journald: Journald) -> None:
    """If JOURNAL_STREAM does not name our stderr (it was redirected), stderr is used (systemd.exec(5))."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        open_log("info", {}, str(journald.path))
        assert isinstance(root.handlers[-1], logging.StreamHandler)
        open_log("info", {"JOURNAL_STREAM": "1:2"}, str(journald.path))
        assert isinstance(root.handlers[-1], logging.StreamHandler)
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def test_with_a_journal_stderr_is_left_alone(journald: Journald, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where JOURNAL_STREAM names our stderr, entries go by its protocol; with no journald there, to stderr."""
    ours, theirs = socket.socketpair()
    there = os.fstat(ours.fileno())
    environment = {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"}
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    with ours, theirs, ours.makefile("w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        try:
            open_log("info", environment, str(journald.path))
            logging.getLogger("netscand").info("hello")
            assert [entry["MESSAGE"] for entry in journald.entries()] == ["hello"]
            root.handlers[-1].close()
            journald.stop()
            open_log("info", environment, str(journald.path))
            assert isinstance(root.handlers[-1], logging.StreamHandler)
        finally:
            root.handlers[:] = before
            root.setLevel(level)


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (EventKind.ADDRESS_MOVED, "before 00:10:20:30:40:50"),
        (EventKind.ADDRESS_REMOVED, "now 00:10:20:30:40:50"),
        (EventKind.GATEWAY_CHANGED, "before 00:10:20:30:40:50"),
        (EventKind.ADDRESS_CONFLICT, "also 00:10:20:30:40:50"),
        (EventKind.SAME_HOST, "also 00:10:20:30:40:50"),
    ],
)
def test_an_entry_says_what_the_other_device_is(
    journald: Journald, log: logging.Logger, kind: EventKind, other: str
) -> None:
    """FIELD: "also" says the contrary of a move."""
    moved = event(kind, other=Mac(bytes(range(0, 0x60, 0x10))), reason="announced its address")
    LoggedEvents(Nobody(), mac_text, ip_text).publish("e-7", moved, b"")
    (entry,) = journald.entries()
    assert entry["MESSAGE"].endswith(f": {kind}, {other} (announced its address)")


def test_tens_of_thousands_of_events_leave_room_for_other_words(journald: Journald, log: logging.Logger) -> None:
    """A first scan of a /16: the journal gets the first thousand, and later how many it did not get."""
    audience = Nobody()
    budgets = Budgets()
    logged = LoggedEvents(audience, mac_text, ip_text, budgets=budgets)
    written: list[logging.LogRecord] = []
    count = logging.Handler()
    count.emit = written.append  # type: ignore[method-assign, assignment]
    events = logging.getLogger("netscand.events")
    events.addHandler(count)
    try:
        for number in range(20_000):
            logged.publish(f"e-{number}", event()._replace(at=100.0 + number * 0.0001), b"")
        assert 1000 <= len(written) < 1100
        assert budgets.refused == {"journal": 20_000 - len(written)}
        written.clear()
        logged.publish("e-20000", event()._replace(at=200.0), b"")
        assert "events were not logged" in written[0].getMessage()
        assert audience.published == 20_001
        for number in range(20_000):
            logged.publish(f"e-{number}", event()._replace(at=300.0), b"")
        written.clear()
        logged.publish("e-40001", event()._replace(at=300.0, kind=EventKind.GATEWAY_CHANGED), b"")
        assert "gateway_changed" in written[0].getMessage(), "no flood of others hides it"
    finally:
        events.removeHandler(count)
