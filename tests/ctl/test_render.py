"""Messages as lines and tables, for people."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from netscanctl import render
from netscanctl.event_lines import format_event
from netscanctl.text import SGR, width
from netscand.protocol import Coverage, Limit, PresenceDay, SameDevice, Traffic
from tests.ctl.messages import AT, HOME, LATER, address, conflict, device, event, network, scanned, status
from tests.ctl.test_text import HOSTILE

pytestmark = pytest.mark.usefixtures("in_tokyo")

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=timezone(timedelta(hours=9)))


def line(of: object, *, paint: render.Paint = render.plain) -> str:
    return format_event(of, paint=paint, now=NOW, columns=None)  # type: ignore[arg-type]


def listed(*devices: object, columns: int | None = None, paint: render.Paint = render.plain) -> str:
    return render.devices_table(devices, columns=columns, paint=paint, today=NOW if columns else None)  # type: ignore[arg-type]


def test_times_are_local_and_short_on_a_terminal() -> None:
    assert render.moment(AT) == "2026-11-24 07:02:11"
    assert render.moment(AT, NOW) == "07:02:11"
    assert render.moment(AT, NOW + timedelta(days=3)) == "Nov 24 07:02"
    assert render.moment(AT, NOW + timedelta(days=300)) == "Nov 24  2026"
    assert render.moment(None) == "-"
    assert render.moment("\x1bsoon") == "soon"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.012, "12 ms"), (0.4, "0.4 s"), (3, "3 s"), (59, "59 s"), (90, "90 s"), (120, "2 min"), (149.6, "2 min 30 s"),
     (300, "5 min"), (599.7, "10 min"), (900, "15 min"), (12_000, "3 h 20 min"), (86_400, "1 d"), (180_000, "2 d 2 h")],
)  # fmt: skip
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert render.span(seconds) == text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_in_any_field_does_not_break_a_line(text: str) -> None:
    evil = device(7, status=text, mac=text, ip=text, hostname=text, vendor=text, reason=text, kinds=[text], notes=text,
                  hostname_source=text, status_since=text, dhcp_vendor_class=text)  # fmt: skip
    shown = [
        line(event("online", evil, address=text, other=text, at=text)),
        line(event("address_conflict", evil, address=text, other=text)),
        line(event("labelled", evil, previous={text: text})),
        line(event(text, network=text, reason=text)),
        *listed(evil).splitlines(),
        *render.device_facts(evil, paint=render.coloured, now=NOW, today=None, presence="")
        .replace("\x1b", "ESC")
        .splitlines(),
        render.scan_summary(scanned(networks=(text,)), 1),
        *render.networks_table(
            [network(id_=text, gateway=text, why=text, state=text)], columns=None, paint=render.plain, today=None
        ).splitlines(),
    ]
    assert len(listed(evil).splitlines()) == 2
    for one in shown:
        assert one.isprintable(), one
        assert len(one) < 2000


def test_a_table_is_aligned_by_display_width() -> None:
    shown = listed(device(1, hostname="客厅电视"), device(2, hostname="tv", vendor="LG"), device(3, label="cafe\u0301"))
    column = [
        width(row[: row.index(vendor)])
        for row, vendor in zip(shown.splitlines()[1:], ("Apple", "LG", "Apple"), strict=True)
    ]
    assert len(set(column)) == 1


def test_a_table_is_complete_in_a_pipe_and_cut_on_a_terminal() -> None:
    long = device(
        7, hostname="a-name-of-more-than-forty-characters-by-far", vendor="A vendor of many, many words, Inc."
    )
    assert "a-name-of-more-than-forty-characters-by-far  A vendor of many, many words, Inc." in listed(long)
    shown = listed(long, columns=80)
    assert all(width(row) <= 80 for row in shown.splitlines())
    assert "a4:83:e7:00:00:07" in shown
    assert "192.168.1.7" in shown
    assert "…" in shown


@pytest.mark.parametrize(
    ("columns", "head"),
    [(90, "STATUS SINCE IP MAC NAME VENDOR KIND"), (80, "STATUS SINCE IP MAC NAME KIND"),
     (70, "STATUS SINCE IP MAC NAME"), (55, "STATUS SINCE IP NAME"), (40, "STATUS IP NAME"), (10, "STATUS IP NAME")],
)  # fmt: skip
def test_a_narrow_terminal_omits_the_least_useful_columns(columns: int, head: str) -> None:
    shown = listed(device(200, "offline", hostname="x" * 30, vendor="y" * 30, kinds=["gateway"]), columns=columns)
    assert shown.splitlines()[0].split() == head.split()
    assert columns < 34 or all(width(row) <= columns for row in shown.splitlines())


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
@pytest.mark.parametrize("name", ["Janes-MacBook-Pro-of-2026", "客厅电视📱客厅电视客厅"])
def test_a_name_has_16_columns_before_others_have_any(columns: int, name: str) -> None:
    """Vendor, kind and MAC give way first, also where the address is as long as one can be."""
    shown = listed(device(7, ip="192.168.100.100", hostname=name, kinds=["gateway", "randomized"]), columns=columns)
    assert all(width(row) <= columns for row in shown.splitlines())
    at = width(shown.partition("NAME")[0])
    row = shown.splitlines()[1]
    (begin,) = [cut for cut in range(len(row)) if width(row[:cut]) == at and row[cut - 1] == " "]
    assert width(row[begin:].partition("  ")[0]) >= 15


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_the_details_of_a_device_are_wrapped_and_not_cut(columns: int) -> None:
    """With wide characters, colours, and a value without a space."""
    notes = "behind the 客厅电视 " * 12
    told = device(
        7, notes=notes, reason="3 probes and 1 request unanswered, " * 5, label="x" * 64, conflicts=[conflict()]
    )
    told.addresses = [*told.addresses, address("2001:db8:1234:5678:9abc:def0:1234:5678", "2001:db8::/64@enp0s31f6")]
    shown = render.device_facts(
        told, paint=render.coloured, now=NOW, today=NOW, presence="█" * 7 + "  online 71 %", columns=columns
    )
    assert all(width(SGR.sub("", line)) <= columns for line in shown.splitlines())
    assert "…" not in shown
    assert " ".join(shown.split()).count("behind the 客厅电视") == 12
    assert "".join(shown.split()).count("x" * 64) == 2
    assert "2001:db8:1234:5678:9abc:def0:1234:5678" in "".join(shown.split())


@pytest.mark.parametrize("columns", [40, 80])
def test_the_problems_of_the_daemon_are_wrapped_and_not_cut(columns: int) -> None:
    problem = "cannot write the history (disk full): events are still delivered, but will be lost on restart"
    shown = render.status_facts(status(problems=[problem]), paint=render.coloured, today=NOW, columns=columns)
    assert problem in " ".join(shown.split())
    assert all(width(SGR.sub("", one)) <= columns for one in shown.splitlines())


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_networks_on_a_narrow_terminal_keep_state_and_reason(columns: int) -> None:
    """The whole reason: no other command shows it."""
    why = "interface docker0 is a bridge of containers; to scan it, name it in [scan] interfaces"
    listed = [network(), network(id="172.17.0.0/16@docker0", state="excluded", why=why)]
    shown = render.networks_table(listed, columns=columns, paint=render.plain, today=NOW)
    head, _, *rows = shown.splitlines()
    assert {"STATE", "NETWORK", "WHY"} <= set(head.split())
    assert all(width(row) <= columns for row in shown.splitlines())
    assert " ".join(row[head.index("WHY") :].strip() for row in rows).endswith(why)


def test_only_the_status_is_coloured_and_only_on_request() -> None:
    assert "\x1b" not in listed(device(1))
    assert listed(device(1), paint=render.coloured).count("\x1b[") == 2
    assert line(event("online", device(1)), paint=render.coloured).count("\x1b[32m") == 1


def test_an_empty_cell_is_a_dash() -> None:
    nobody = device(1, hostname=None, vendor=None, ip=None, addresses=[])
    assert listed(nobody).splitlines()[1].split() == [
        "online", "2026-11-24", "07:02:11", "-", "a4:83:e7:00:00:01", "-", "-", "-",
    ]  # fmt: skip


def test_a_randomized_mac_is_labelled() -> None:
    assert "(randomized MAC)" in listed(device(1, vendor=None, randomized_mac=True))


def test_a_label_takes_precedence_over_the_host_name() -> None:
    assert render.name_of(device(1, label="Jane's phone")) == "Jane's phone"


def test_addresses_sort_as_numbers_and_none_comes_last() -> None:
    many = [device(1, ip=None), device(20), device(7), device(3, ip="fe80::1")]
    assert [one.ip for one in sorted(many, key=render.ORDERS["ip"])] == ["192.168.1.7", "192.168.1.20", "fe80::1", None]


def test_the_latest_seen_sorts_first() -> None:
    many = [device(1), device(2, last_seen=LATER)]
    assert [one.mac[-2:] for one in sorted(many, key=render.ORDERS["seen"])] == ["02", "01"]


@pytest.mark.parametrize("order", render.ORDERS)
def test_every_sort_key_accepts_missing_values(order: str) -> None:
    many = [device(1), device(2, hostname=None, vendor=None, ip=None, status="unknown"), device(3, "offline")]
    assert len(sorted(many, key=render.ORDERS[order])) == 3


def test_a_network_shows_its_reason_and_coverage() -> None:
    networks = [
        network(),
        network("10.0.0.0/8@eth1", coverage=Coverage(fraction=0.023, seconds=1300)),
        network("172.17.0.0/16@docker0", "excluded", why="docker0 is this host's end of containers"),
    ]
    rows = render.networks_table(networks, columns=None, paint=render.plain, today=None).splitlines()
    assert "100%" in rows[1]
    assert "2.3% per scan, all in 22 min" in rows[2]
    assert rows[3].endswith("docker0 is this host's end of containers")


def test_a_network_that_is_down_has_no_coverage() -> None:
    down = network(state="down", coverage=Coverage(fraction=0, seconds=0))
    rows = render.networks_table([down], columns=None, paint=render.plain, today=None).splitlines()
    assert "  30 s      -         2026-" in rows[1]
    shown = render.status_facts(status(networks=[down]), paint=render.plain, today=None)
    assert " down, 2 online, coverage -\n" in shown


def test_a_network_that_is_not_swept_shows_what_is_scanned() -> None:
    """FIELD cases 10 and 16: of a large prefix, the addresses where devices were seen."""
    large = network("10.0.0.0/8@eth1", coverage=Coverage(fraction=0, seconds=0))
    rows = render.networks_table([large], columns=None, paint=render.plain, today=None).splitlines()
    assert "  30 s      seen addresses  2026-" in rows[1]


def test_the_dhcp_client_is_shown_if_known() -> None:
    for fields, lines in ({}, 0), ({"dhcp_vendor_class": None}, 0), ({"dhcp_vendor_class": "android-dhcp-14"}, 1):
        shown = render.device_facts(device(1, **fields), paint=render.plain, now=NOW, today=None, presence="")
        assert shown.count("\ndhcp client") == shown.count("\ndhcp client  android-dhcp-14\n") == lines


def test_status_shows_ignored_frames_if_any() -> None:
    """FAULTS T10: a flood of what is not ARP."""
    for ignored, text in ((0, "7 frames, 5 dropped\n"), (3, "7 frames, 5 dropped, 3 ignored\n")):
        frames = Traffic(received=7, dropped=5, broadcast=0, unicast=0, send_errors=0, ignored=ignored)
        assert text in render.status_facts(status(frames=frames), paint=render.plain, today=None)


def test_status_shows_the_problems() -> None:
    shown = render.status_facts(status(status="degraded", problems=["disk full"]), paint=render.plain, today=None)
    assert "status     degraded\nproblem    disk full\n" in shown
    assert "devices    2 online, 1 offline, 0 unknown (without this host)\n" in shown


def test_status_shows_the_limiting_budgets() -> None:
    limits = [Limit(name="newcomers", refused=1234, limiting=True), Limit(name="renames", refused=5, limiting=False)]
    shown = render.status_facts(status(limits=limits), paint=render.plain, today=None)
    assert "\nlimiting   newcomers, 1234 refused\n" in shown
    assert "renames" not in shown


def test_a_scan_summary_is_one_sentence() -> None:
    assert render.scan_summary(scanned(device(1)), 1) == (
        "1 device answered in 0.9 s, 237 broadcast and 17 unicast frames (192.168.1.0/24@eth0)"
    )


# ---- the last days as a small bar

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LONG_AGO = "2026-01-01T00:00:00.000Z"


def day(number: int, online: float, unknown: float = 0.0) -> PresenceDay:
    """One of November, in hours."""
    return PresenceDay(date=f"2026-11-{number}", online_seconds=online * 3600, unknown_seconds=unknown * 3600)


def test_the_bar_has_a_character_per_day_and_a_summary() -> None:
    bar = render.presence_bar([day(22, 24), day(23, 12), day(24, 0)], LONG_AGO, NOON)
    assert bar == f"█▅{render.NEVER}  online 60 % of the last 2 d 12 h"


def test_today_counts_until_now() -> None:
    assert render.presence_bar([day(24, 12)], LONG_AGO, NOON) == "█  online 100 % of the last 12 h"


def test_time_before_first_seen_does_not_count() -> None:
    bar = render.presence_bar([day(22, 0), day(23, 6), day(24, 12)], "2026-11-23T18:00:00.000Z", NOON)
    assert bar == f"{render.BEFORE}██  online 100 % of the last 18 h"


def test_a_mostly_unknown_day_is_a_question_mark() -> None:
    assert (
        render.presence_bar([day(23, 4, 20)], LONG_AGO, NOON)
        == f"{render.UNKNOWN}  online 17 %, unknown 83 % of the last 1 d"
    )
    assert render.presence_bar([day(23, 20, 4)], LONG_AGO, NOON)[0] in render.LEVELS


@pytest.mark.parametrize(("hours", "sign"), [(0.01, "▁"), (3, "▂"), (12, "▅"), (23.7, "▇"), (23.8, "█"), (30, "█")])
def test_only_a_whole_day_is_a_full_bar(hours: float, sign: str) -> None:
    assert render.presence_bar([day(23, hours)], LONG_AGO, NOON)[0] == sign


def test_every_character_has_an_ascii_form() -> None:
    days = [day(21, 0), *(day(22, hours) for hours in range(0, 25, 2)), day(23, 0, 24)]
    bar = render.presence_bar(days, "2026-11-22T00:00:00.000Z", NOON, plain=True)
    assert bar.partition(" ")[0] == "-_123345567778?"
    assert bar.isascii()


def test_no_data_yields_no_bar() -> None:
    assert render.presence_bar([], LONG_AGO, NOON) == ""
    assert render.presence_bar([day(23, 0)], "2026-11-24T13:00:00.000Z", NOON) == ""
    assert render.presence_bar([day(23, 1)], "\x1b[2J", NOON) == ""
    assert render.presence_bar([PresenceDay(date="\x1b[2J", online_seconds=1, unknown_seconds=0)], LONG_AGO, NOON) == ""


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"vendor": None, "vendor_hint": "AVM"},
            "vendor         probably AVM (a device with that prefix is on the LAN)",
        ),
        ({"last_unsolicited": LONG_AGO}, "last own frame  2026-01-01 09:00:00"),
        (
            {"probably_same_as": SameDevice(mac="a4:83:e7:00:00:02", label="NAS", reason="same host name")},
            "probably      the same as NAS (a4:83:e7:00:00:02): same host name; to take over its annotations: "
            "netscanctl label a4:83:e7:00:00:01 --from a4:83:e7:00:00:02",
        ),
        (
            {"probably_same_as": SameDevice(mac="a4:83:e7:00:00:02", label=None, reason="same name", annotated=False)},
            "probably      the same as a4:83:e7:00:00:02: same name; to remove that one, which has no annotations: "
            "netscanctl forget a4:83:e7:00:00:02",
        ),
    ],
    ids=["vendor", "own frame", "same device", "nothing to take over"],
)
def test_what_other_devices_show_is_shown(fields: dict[str, Any], line: str) -> None:
    """FIELD cases 13, 14 and 20; nothing of it where it is unknown."""
    shown, without = (
        render.device_facts(device(1, **more), paint=render.plain, now=NOW, today=None, presence="")
        for more in (fields, {})
    )
    assert re.sub(" {2,}", "  ", line) in re.sub(" {2,}", "  ", shown)
    assert line.split()[0] == "vendor" or f"\n{line.split('  ')[0]}  " not in without


def test_a_conflict_is_shown_in_each_view() -> None:
    """In both devices, in their rows of the list, and in `status` with a count of those that are not listed."""
    for number, other in ((7, "14"), (20, "07")):
        shown = render.device_facts(
            device(number, conflicts=[conflict()]), paint=render.plain, now=NOW, today=None, presence=""
        )
        also = f"192.168.1.7 is also used by a4:83:e7:00:00:{other}, on {HOME}, since 2026-11-24 07:02:11\n"
        assert re.search(rf"(?m)^conflict +{re.escape(also)}", shown)
    assert "conflict" not in render.device_facts(
        device(7, conflicts=[]), paint=render.plain, now=NOW, today=None, presence=""
    )
    rows = render.devices_table(
        [device(7, kinds=["gateway"]), device(8), device(20)],
        columns=None, paint=render.plain, today=None, conflicts=[conflict()],
    ).splitlines()[1:]  # fmt: skip
    assert [row.split()[-1] for row in rows] == ["gateway,conflict", "-", "conflict"]
    shown = render.status_facts(status(conflicts=[conflict()], conflict_count=9), paint=render.plain, today=None)
    assert re.search(r"(?m)^conflict +192.168.1.7 is used by a4:83:e7:00:00:07 and a4:83:e7:00:00:14, on 192", shown)
    assert re.search(r"(?m)^conflict +8 more: netscanctl events --kind address_conflict$", shown)


def test_a_foreign_address_is_marked() -> None:
    """FIELD case 6."""
    camera = device(1)
    for ip, note in (("192.168.0.64", " (foreign)  "), ("169.254.33.7", " (foreign, without DHCP)  ")):
        camera.addresses = [msgspec.structs.replace(camera.addresses[0], ip=ip, foreign=True)]
        shown = render.device_facts(camera, paint=render.plain, now=NOW, today=None, presence="")
        assert note in shown
        assert shown.endswith("\n\n(foreign): this host has no address in that network\n")
    camera.addresses[0].foreign = msgspec.UNSET
    assert "foreign" not in render.device_facts(camera, paint=render.plain, now=NOW, today=None, presence="")


def test_a_device_that_was_never_seen_has_no_times() -> None:
    """Its times are those of the annotation, which say nothing about it."""
    never = device(1, "unknown", kinds=["never_seen"], addresses=[], ip=None)
    shown = render.device_facts(never, paint=render.plain, now=NOW, today=None, presence="·  online 0 %")
    assert re.search(r"(?m)^status +unknown$", shown)
    assert re.search(r"(?m)^first seen +never\nlast seen +never$", shown)
    assert "online 0 %" not in shown
    assert listed(never).splitlines()[1].split()[:2] == ["unknown", "-"]
    seen = device(2, status_since=never.status_since, last_seen="2026-01-01T00:00:00.000Z")
    for order in ("seen", "since"):
        assert sorted([never, seen], key=render.ORDERS[order]) == [seen, never]


def test_a_network_that_stands_by_is_marked() -> None:
    """FIELD case 30."""
    other = network("192.168.1.0/24@wlan0", same_lan_as="192.168.1.0/24@eth0", coverage=Coverage(fraction=0, seconds=0))
    shown = render.status_facts(status(networks=[network(), other]), paint=render.plain, today=None)
    assert "coverage none, on the same LAN as 192.168.1.0/24@eth0\n" in shown
