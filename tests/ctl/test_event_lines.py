"""One change, one line: columns that stay where they are, and fit the terminal."""

import re
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import msgspec
import pytest

from netscanctl.event_lines import format_event, format_events, head_line
from netscanctl.params import KINDS
from netscanctl.render import plain
from netscanctl.text import width
from tests.ctl.messages import came, device, event, left

pytestmark = pytest.mark.usefixtures("in_tokyo")

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=timezone(timedelta(hours=9)))
LONG = "14 probes and 1 request unanswered, silent for 90.0 s"


def line(of: object, columns: int | None = None) -> str:
    return format_event(of, paint=plain, now=NOW, columns=columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "mark"),
    [("discovered", "+"), ("online", "+"), ("offline", "-"), ("forgotten", "-"), ("renamed", "~"), ("network_up", "~"),
     ("network_recovered", "~"), ("address_conflict", "!"), ("gateway_changed", "!"), ("network_silent", "!"),
     ("flood", "!"), ("something_new", "~")],
)  # fmt: skip
def test_each_kind_has_its_mark(kind: str, mark: str) -> None:
    assert line(event(kind, device(7))).split()[2:4] == [mark, kind]


def test_a_line_has_time_kind_device_and_reason() -> None:
    gone = left(device(7, "offline", reason="3 probes and 1 request unanswered, silent for 11.2 s"))
    assert line(gone) == (
        "2026-11-24 07:05:00  - offline           192.168.1.7      a4:83:e7:00:00:07  host7                 "
        "Apple, Inc.               3 probes and 1 request unanswered, silent for 11.2 s"
    )
    assert line(gone, 80) == "07:05:00 - offline           192.168.1.7      host7              3 probes and 1…"


def test_an_event_without_a_time_is_shown_with_the_current_time() -> None:
    assert line(event("renamed", device(7), at="")).startswith("2026-11-24 08:00:00 ")


@pytest.mark.parametrize(
    ("event_", "detail"),
    [(event("address_added", device(7), address="192.168.1.70"), "+192.168.1.70"),
     (event("address_removed", device(7), address="192.168.1.70"), "-192.168.1.70"),
     (event("address_moved", device(7), other="aa:bb:cc:00:00:01"), "192.168.1.7 moved here from aa:bb:cc:00:00:01"),
     (event("address_conflict", device(7), other="aa:bb:cc:00:00:01"),
      "192.168.1.7 is also claimed by aa:bb:cc:00:00:01"),
     (event("same_host", device(7), other="aa:bb:cc:00:00:01"), "on two interfaces, also aa:bb:cc:00:00:01"),
     (event("renamed", device(7), previous={"hostname": None}), "was -"),
     (event("labelled", device(7, label="new", known=True), previous={"label": "old", "known": False}),
      "label 'old' → 'new', known no → yes"),
     (event("labelled", device(7, patience=5.0), previous={"patience": 90.0, "notes": "a"}),
      "notes 'a' → -, patience 90 s → 5 s"),
     (event("gateway_changed", device(7), other="aa:bb:cc:00:00:01"), "was aa:bb:cc:00:00:01")],
)  # fmt: skip
def test_a_line_has_the_old_and_new_values(event_: object, detail: str) -> None:
    assert f"  {detail}; answered a probe" in line(event_)
    assert f"  {detail[:14]}" in line(event_, 80)


def test_an_event_of_a_network_shows_its_id() -> None:
    assert line(event("network_down", reason="the interface is down")) == (
        "2026-11-24 07:05:00  ! network_down      192.168.1.0/24@eth0  the interface is down"
    )


MIXED = [
    event("discovered", device(110, hostname=None, vendor=None, randomized_mac=True), reason="announced its address"),
    left(device(7, "offline", hostname="a-name-of-more-than-twenty-characters", reason=LONG)),
    came(device(8, hostname=None)),
    event("address_added", device(9), address="192.168.1.70"),
    event("address_conflict", device(5), other="aa:bb:cc:00:00:01"),
]


def test_in_a_pipe_columns_are_the_same_for_every_kind() -> None:
    for one in MIXED:
        cells = line(one)
        assert cells[41:56].strip() == one.address
        assert cells[58:75] == one.device.mac  # type: ignore[union-attr]
        assert cells[40] == cells[57] == cells[76] == " "


def test_in_a_pipe_nothing_is_cut() -> None:
    assert "a-name-of-more-than-twenty-characters" in line(MIXED[1])
    assert line(MIXED[1]).endswith(LONG)


@pytest.mark.parametrize("columns", [60, 80, 100, 119, 120, 200])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    for one in MIXED:
        assert width(line(one, columns)) <= columns
    assert width(line(event("network_silent", reason=LONG, network="192.168.1.0/24@eth0"), columns)) <= columns


@pytest.mark.parametrize(("columns", "at"), [(60, 29), (80, 46), (100, 46)])
def test_on_a_terminal_one_column_identifies_the_device(columns: int, at: int) -> None:
    cells = [line(one, columns)[at : at + 17].strip() for one in MIXED[:4]]
    vendor = "Apple, Inc." if columns > 60 else "192.168.1.8"
    name = "a-name-of-more-than-twenty-characters"[:16]
    first = "a4:83:e7:00:00:6e" if columns > 60 else "192.168.1.110"
    assert cells[0] == first
    assert cells[1].startswith(name)
    assert cells[2:] == [vendor, "host9"]


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 200])
def test_no_kind_and_no_address_moves_a_column(columns: int) -> None:
    """The longest kinds have as many columns as `online`; a network has those of a device; wide characters count."""
    every = [event(kind, device(9, hostname="客厅电视📱" * 9)) for kind in KINDS]
    every += [event("network_recovered"), came(device(5, ip="2001:db8:1234:5678:9abc:def0:1:2"))]
    head = head_line(8, columns)
    assert ("ADDRESS" in head, "MAC" in head) == (columns >= 80, columns >= 120)
    for name in re.findall(r"KIND|ADDRESS|MAC|NAME|REASON", head):
        for one in every if name in ("KIND", "ADDRESS", "REASON") else every[:-2]:
            before, after = parted(line(msgspec.structs.replace(one, reason="R"), columns), head.index(name))
            assert before.endswith(" "), (name, before)
            assert after[:1].strip(), (name, before)


def parted(text: str, columns: int) -> tuple[str, str]:
    """Return the part of a line before a column, and from it on."""
    at = next(at for at in range(len(text) + 1) if width(text[:at]) >= columns)
    return text[:at], text[at:]


def test_a_wide_terminal_cuts_no_name() -> None:
    """At 200 columns, a name has 40 characters and more."""
    name = "Besucher (Wohnzimmer, hinten links)"
    assert f"  {name}  " in line(event("online", device(7, label=name)), 200)


def test_an_event_shows_the_address_that_it_is_about() -> None:
    """A stored `discovered` shows what the live one showed: its device has no address yet."""
    found = event("discovered", device(30, ip=None, addresses=[]), address="192.168.1.30")
    for columns in (None, 80, 200):
        assert "  192.168.1.30  " in line(found, columns)


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_the_events_of_one_device_are_wrapped_and_not_cut(columns: int) -> None:
    other = event("address_moved", device(9, label="Drucker 客厅电视"), other="a4:83:e7:00:00:07", reason=LONG)
    events = [left(device(7, "offline"))] + [event(kind, device(7), reason=LONG) for kind in KINDS] + [other]
    shown = format_events(events, paint=plain, now=NOW, columns=columns, of="a4:83:e7:00:00:07")
    assert "…" not in shown
    assert all(width(one) <= columns for one in shown.splitlines())
    words = " ".join(shown.split())
    assert words.count(LONG) == len(KINDS) + 1
    assert "Drucker 客厅电视 (a4:83:e7:00:00:09): 192.168.1.9 moved here from a4:83:e7:00:00:07;" in words


def test_a_wide_terminal_shows_the_mac() -> None:
    assert "a4:83:e7:00:00:07" not in line(MIXED[1], 119)
    assert line(MIXED[1], 120)[46:63] == "a4:83:e7:00:00:07"


def test_times_of_all_days_have_the_same_width() -> None:
    days = [event("online", device(1)), event("online", device(2), at="2026-11-20T22:00:00.000Z")]
    lines = format_events(days, paint=plain, now=NOW, columns=80).splitlines()
    assert [one.index("+") for one in lines] == [13, 13]
    assert all(len(one) <= 80 for one in lines)
    assert all(first.index("192.") == second.index("192.") for first, second in pairwise(lines))


def test_no_events_are_no_lines() -> None:
    assert format_events([], paint=plain, now=NOW, columns=80) == ""
