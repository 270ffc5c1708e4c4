"""The table of `watch --table`: messages and a size in, lines out."""

from datetime import datetime, timedelta

import pytest

from netscanctl import render
from netscanctl.table_view import LAST_EVENTS, MARK_LIFETIME, MIN_ROWS_FOR_EVENTS, MORE, SORT_KEYS, TableView
from netscanctl.text import SGR, width
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
    assert shown[0] == "1 online, 1 offline, 0 unknown (without this host)"
    assert shown[1] == f"{HOME} up   {OFFICE} down"
    assert [(line.split()[0], *(word for word in line.split() if "192" in word)) for line in shown[2:6]] == [
        ("STATUS",), ("online", "192.168.1.1"), ("offline", "192.168.1.2"), ("online", "192.168.1.3"),
    ]  # fmt: skip


def test_a_change_is_marked_for_a_while_and_listed_below() -> None:
    table = showing(device(1), device(2))
    receive(table, left(device(2, "offline")), event("discovered", device(3)))
    shown = lines(table)
    assert [line[:9] for line in shown[3:6]] == ["  online ", "- offline", "+ online "]
    assert [line.split()[1:3] for line in shown[-3:-1]] == [["-", "offline"], ["+", "discovered"]]
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
    """The line below says which ones they are."""
    table = showing(*(device(number, "offline" if number % 2 else "online") for number in range(1, 21)))
    receive(table, left(device(18, "offline")))
    shown = lines(table, 10)
    assert shown[3].startswith("- offline")
    assert all(line.startswith("  online") for line in shown[4:-2])
    assert shown[-2] == "  1 to 5 of 20"


def test_progress_is_shown_during_a_scan() -> None:
    table = showing(device(1))
    receive(table, ScanProgress(scan_id=1, done=180, total=254, found=1))
    assert lines(table)[0].endswith("scanning, 180 of 254 addresses")
    receive(table, scanned(device(1)))
    assert "scanning" not in lines(table)[0]
    receive(table, ScanError(scan_id=2, network=HOME, message="the interface is down"))
    assert lines(table)[0].endswith(f"scan of {HOME} failed: the interface is down")


@pytest.mark.parametrize("columns", [20, 40, 50, 58, 70])
def test_no_address_is_wider_than_the_screen(columns: int) -> None:
    """The terminal cuts a wider line itself, and nobody sees that there is more."""
    ip = "2001:db8:1234:5678:9abc:def0:1234:5678"
    table = showing(device(1, ip=ip), device(2))
    shown = lines(table, columns=columns)
    assert all(width(line) <= columns for line in shown)
    row = next(line for line in shown if "2001:" in line)
    assert ip in row or row.endswith("…")


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
    assert len(shown) == 7
    assert all(width(line) <= 100 for line in shown)


# ---- keys


def press(table: TableView, *keys: str, rows: int = 10) -> list[str]:
    """Press keys, and return the lines."""
    lines(table, rows)
    for key in keys:
        assert not table.on_key(key)
        lines(table, rows)
    return lines(table, rows)


def numbers(shown: list[str]) -> list[int]:
    """Last parts of the addresses of the devices."""
    rows = [line for line in shown[3:] if "192.168.1." in line and not line.startswith("/")]
    return [int(row.split("192.168.1.")[1].split()[0]) for row in rows]


MANY = [device(number) for number in range(1, 21)]


@pytest.mark.parametrize(
    ("keys", "first"),
    [("", 1), ("j", 2), ("jjk", 2), ("k", 1), (" ", 6), ("  b", 6), ("G", 16), ("Gj", 16), ("Gg", 1), ("    j", 16)],
)  # fmt: skip
def test_keys_scroll_the_devices(keys: str, first: int) -> None:
    shown = press(showing(*MANY), *keys)
    assert numbers(shown) == [*range(first, first + 5)]
    assert shown[-2] == f"  {first} to {first + 4} of 20"


@pytest.mark.parametrize(
    ("letter", "codes"),
    [("j", ("\x1b[B", "\x1bOB")), (" ", ("\x1b[6~",)), ("G", ("\x1b[F", "\x1bOF", "\x1b[4~"))],
)  # fmt: skip
def test_terminals_send_the_keys_in_different_ways(letter: str, codes: tuple[str, ...]) -> None:
    expected = press(showing(*MANY), letter)
    assert all(press(showing(*MANY), code) == expected for code in codes)


def test_a_larger_screen_ends_at_the_last_device() -> None:
    table = showing(*MANY)
    press(table, "G")
    assert numbers(lines(table, 40)) == [*range(1, 21)]
    assert "of 20" not in "".join(lines(table, 40))


def test_a_search_finds_a_merged_mac() -> None:
    table = showing(device(1), device(2, merged_macs=["7a:0c:52:e1:88:6e"]))
    for text in ("7a:0c", "7A0C52", "7a-0c-52"):
        assert numbers(press(table, "/", *text)) == [2], text
        press(table, "\x1b")


def test_a_change_does_not_move_what_is_scrolled_to() -> None:
    table = showing(*MANY)
    before = numbers(press(table, " "))
    receive(table, event("renamed", device(20, hostname="x"), previous={"hostname": None}))
    assert numbers(lines(table, 10)) == before


@pytest.mark.parametrize(
    ("text", "found"),
    [("host2", [2, 20]), ("HOST20", [20]), ("192.168.1.1", [1, *range(10, 20)]), ("a4:83:e7:00:00:0a", [10]),
     ("a4-83-e7-00-00-0a", [10]), ("a483.e700.000a", [10]), ("a483e700000a", [10]), ("0000:14", [20]), ("nobody", [])],
)  # fmt: skip
def test_a_search_shows_matching_devices(text: str, found: list[int]) -> None:
    """In names, addresses, and MACs in any notation."""
    shown = press(showing(*MANY), "/", *text, rows=40)
    assert numbers(shown) == found
    assert shown[-1] == f"/{text}_   {len(found)} of 20 match   Enter: keep   Esc: end"


def test_a_search_is_edited_kept_and_ended() -> None:
    table = showing(*MANY)
    assert numbers(press(table, "/", *"host2q", "\x7f", "\r")) == [2, 20]  # q is a letter here
    assert lines(table, 10)[-1] == "/host2   2 of 20 match   Esc: end   / change"
    assert len(numbers(press(table, "/", "\x15"))) == 5
    press(table, *"客厅")
    assert lines(table, 10)[-1].startswith("/客厅_   0 of 20")
    assert len(numbers(press(table, "\x1b"))) == 5
    assert table.on_key("q")


def test_keys_sort_the_devices() -> None:
    table = showing(device(1, hostname="zebra"), device(2, hostname="ant"), device(3, "offline", hostname="bee"))
    orders = []
    for _ in SORT_KEYS:
        shown = press(table, "s", rows=24)
        orders.append((shown[-1].partition("(")[2].partition(")")[0], numbers(shown)))
    assert orders == [
        ("ip", [1, 2, 3]), ("mac", [1, 2, 3]), ("name", [2, 3, 1]), ("vendor", [1, 2, 3]), ("status", [1, 2, 3]),
        ("since", [1, 2, 3]), ("seen", [1, 2, 3]), ("auto", [1, 2, 3]),
    ]  # fmt: skip
    assert numbers(press(table, "s", "r", rows=24)) == [3, 2, 1]
    assert "s sort (ip, reversed)" in lines(table)[-1]
    assert "(auto, reversed)" in press(table, "S", rows=24)[-1]


def test_the_keys_are_listed() -> None:
    table = showing()
    first = press(table, rows=24)[-1]
    assert first.startswith("q quit  / search  s sort (auto)")
    assert press(table, "?", rows=24)[-1] == MORE
    assert press(table, "?", rows=24)[-1] == first


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_what_is_cut_ends_in_an_ellipsis(columns: int) -> None:
    """The lines above the table too, with wide characters, and in colour."""
    table = TableView(render.coloured)
    names = ["客厅电视" * 9, "📱" * 30, "x" * 64]
    nets = [network(f"192.168.{number}.0/24@enp0s31f6", "silent") for number in range(9)]
    devices = [device(number, hostname=name, vendor=name, kinds=["gateway"]) for number, name in enumerate(names, 1)]
    receive(table, snapshot(*devices, networks=nets))
    receive(table, ScanProgress(scan_id=1, done=150, total=254, found=1), left(devices[0]))
    table.notice = "connection lost; reconnecting… " * 6
    for _ in range(2):
        shown = [SGR.sub("", line) for line in lines(table, columns=columns)]
        assert all(width(line) <= columns for line in shown)
        assert shown[0].endswith("…")
        assert shown[1].endswith("…") or columns > 300
        assert shown[-1].endswith("…") or columns >= 80
        table.on_key("?")
    assert "\x1b[1;33m" in lines(table, columns=columns)[0] or columns < 80
