"""The table of `watch --table`: messages and a size in, lines out."""

from datetime import datetime, timedelta

import pytest

from netscanctl.table_view import LAST_EVENTS, MARK_LIFETIME, MIN_ROWS_FOR_EVENTS, TableView
from netscanctl.text import width
from netscand.protocol import Device, InitialState, Message, Resumed, ScanError, ScanProgress
from tests.ctl.messages import HOME, LATER, OFFICE, device, event, left, network, resumed, scanned, snapshot
from tests.ctl.test_text import HOSTILE

NOW = datetime.fromisoformat(LATER).astimezone()


def showing(*devices: Device, networks: object = None) -> TableView:
    table = TableView()
    receive(table, snapshot(*devices, networks=networks))  # type: ignore[arg-type]
    return table


def receive(table: TableView, *messages: Message, at: datetime = NOW) -> None:
    for message in messages:
        for change in table.on_message(message):  # type: ignore[arg-type]
            table.add_event(change, at)


def lines(table: TableView, rows: int = 24, columns: int = 100, now: datetime = NOW) -> list[str]:
    return table.lines(columns, rows, now)


def test_counts_and_networks_are_above_the_devices() -> None:
    table = showing(
        device(1), device(2, "offline"), device(3, kinds=["self"]),
        networks=[network(), network(OFFICE, "down"), network("172.17.0.0/16@docker0", "excluded")],
    )  # fmt: skip
    shown = lines(table)
    assert shown[0] == "1 online, 1 offline, 0 unknown"
    assert shown[1] == f"{HOME} up   {OFFICE} down"
    assert [(line.split()[0], *(word for word in line.split() if "192" in word)) for line in shown[2:6]] == [
        ("STATUS",), ("online", "192.168.1.1"), ("offline", "192.168.1.2"), ("online", "192.168.1.3"),
    ]  # fmt: skip


def test_a_change_is_marked_for_a_while_and_listed_below() -> None:
    table = showing(device(1), device(2))
    receive(table, left(device(2, "offline")), event("discovered", device(3)))
    shown = lines(table)
    assert [line[:9] for line in shown[3:6]] == ["  online ", "- offline", "+ online "]
    assert [line.split()[1:3] for line in shown[-2:]] == [["-", "offline"], ["+", "discovered"]]
    later = NOW + MARK_LIFETIME
    assert table.expire_marks(later - timedelta(seconds=1))
    assert not table.expire_marks(later)
    assert [line[:9] for line in lines(table, now=later)[3:6]] == ["  online ", "  offline", "  online "]


def test_only_the_last_events_are_listed() -> None:
    table = showing()
    receive(table, *(event("discovered", device(number)) for number in range(1, 9)))
    assert len([line for line in lines(table, 40) if "discovered" in line]) == LAST_EVENTS
    assert not [line for line in lines(table, MIN_ROWS_FOR_EVENTS - 1) if "discovered" in line]


@pytest.mark.parametrize("rows", [3, 5, 10, MIN_ROWS_FOR_EVENTS, 24, 50])
def test_the_table_fits_the_screen(rows: int) -> None:
    table = showing(*(device(number) for number in range(1, 40)))
    receive(table, *(left(device(number, "offline")) for number in range(1, 9)))
    assert len(lines(table, rows)) <= rows


def test_a_small_screen_shows_changed_and_online_devices() -> None:
    """The others are counted in the last line."""
    table = showing(*(device(number, "offline" if number % 2 else "online") for number in range(1, 21)))
    receive(table, left(device(18, "offline")))
    shown = lines(table, 10)
    assert shown[3].startswith("- offline")
    assert all(line.startswith("  online") for line in shown[4:-1])
    assert shown[-1] == f"  … and {20 - len(shown[3:-1])} more"


def test_progress_is_shown_during_a_scan() -> None:
    table = showing(device(1))
    receive(table, ScanProgress(scan_id=1, done=180, total=254, found=1))
    assert lines(table)[0].endswith("scanning, 180 of 254 addresses")
    receive(table, scanned(device(1)))
    assert "scanning" not in lines(table)[0]
    receive(table, ScanError(scan_id=2, network=HOME, message="the interface is down"))
    assert lines(table)[0].endswith(f"scan of {HOME} failed: the interface is down")


@pytest.mark.parametrize("again", [snapshot(device(1)), resumed("a-1")])
def test_a_notice_is_shown_until_the_stream_resumes(again: InitialState | Resumed) -> None:
    table = TableView()
    assert "connecting…" in lines(table)[0]
    receive(table, again)
    assert "connecting" not in lines(table)[0]
    table.notice = "connection lost; reconnecting…"
    assert lines(table)[0].endswith("connection lost; reconnecting…")
    receive(table, again)
    assert "connecting" not in lines(table)[0]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_does_not_break_a_line(text: str) -> None:
    evil = device(7, hostname=text, label=text, vendor=text, reason=text, kinds=[text], notes=text)
    table = showing(evil, networks=[network(why=text, gateway=text)])
    receive(table, event("discovered", evil, reason=text), ScanError(scan_id=1, network=text, message=text))
    shown = lines(table)
    assert all(line.isprintable() for line in shown)
    assert len(shown) == 6
    assert width(shown[3]) < 200
