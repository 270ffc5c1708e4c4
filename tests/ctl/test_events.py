"""`events`, and `show`, which prints the last ones."""

import json

import pytest

from netscanctl.commands.events import PAGE
from netscand.protocol import PresenceDay, encode
from tests.ctl.conftest import Ctl, bare
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import device, event, left

SEVEN = "a4:83:e7:00:00:07"


@pytest.fixture
def eventful(daemon: FakeDaemon) -> FakeDaemon:
    """A daemon that remembers four events."""
    daemon.events = [
        event("network_up", cursor="k3f9-1"), event("discovered", device(7), cursor="k3f9-2"),
        event("discovered", device(8), cursor="k3f9-3"), left(device(8, "offline"), cursor="k3f9-4"),
    ]  # fmt: skip
    return daemon


def brief(text: str) -> list[str]:
    """Kind, and the last two digits of the MAC."""
    return [
        " ".join([line.split()[3], *(word[-2:] for word in line.split() if ":00:00:" in word)])
        for line in text.splitlines()
    ]


def test_events_are_printed_as_in_watch_oldest_first(ctl: Ctl, eventful: FakeDaemon) -> None:
    done = ctl.run("events")
    assert (done.returncode, done.stderr) == (0, "")
    assert brief(done.stdout) == ["network_up", "discovered 07", "discovered 08", "offline 08"]
    assert done.stdout.splitlines()[3] == (
        "2026-11-24 07:05:00  - offline           192.168.1.8      a4:83:e7:00:00:08  host8                 "
        "Apple, Inc.               answered a probe"
    )
    assert eventful.requests[-1][2] == {"last": "500"}


def test_a_limit_above_that_of_the_daemon_needs_since(ctl: Ctl, eventful: FakeDaemon) -> None:
    done = ctl.run("events", "--limit", "5001")
    assert done.returncode == 2
    assert "--limit 5001: expected at most 5000 without --since; use --since 1w" in done.stderr
    assert eventful.requests == []
    assert ctl.run("events", "--limit", "5000").returncode == 0
    assert ctl.run("events", "--limit", "5001", "--since", "k3f9-1").returncode == 0


@pytest.mark.parametrize(
    ("args", "query", "found"),
    [(["--limit", "1"], {"last": "1"}, ["offline 08"]),
     (["--since", "k3f9-2"], {"since": "k3f9-2", "limit": str(PAGE)}, ["discovered 08", "offline 08"]),
     (["--since", "k3f9-1", "--limit", "1"], {"since": "k3f9-1", "limit": "1"}, ["discovered 07"]),
     (["--kind", "offline", "--kind", "network_up"], {"kind": "offline,network_up", "last": "500"},
      ["network_up", "offline 08"]),
     (["--kind", "offline,network_up", "--kind", "offline"], {"kind": "offline,network_up", "last": "500"},
      ["network_up", "offline 08"]),
     (["--device", "host7"], {"mac": SEVEN, "last": "500"}, ["discovered 07"]),
     (["--device", "A483.E700.0063"], {"mac": "a4:83:e7:00:00:63", "last": "500"}, [])],
    ids=str,
)  # fmt: skip
def test_events_are_filtered_by_the_daemon(
    ctl: Ctl, eventful: FakeDaemon, args: list[str], query: dict[str, str], found: list[str]
) -> None:
    """A MAC also selects the events of a forgotten device."""
    assert brief(ctl.run("events", *args).stdout) == found
    assert [asked for _, path, asked, _ in eventful.requests if path == "/api/events"] == [query]


def test_a_mac_that_no_device_has_is_named(ctl: Ctl, eventful: FakeDaemon) -> None:
    """Only if there is no event of it; that is no error, for it may have been forgotten."""
    done = ctl.run("events", "--device", "a4:83:e7:00:00:63")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("netscanctl: no device")


def test_events_since_are_fetched_page_by_page(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.events = [event("flood", cursor=f"k3f9-{number}") for number in range(1, 2 * PAGE + 3)]
    assert len(ctl.run("events", "--since", "3d").stdout.splitlines()) == 2 * PAGE + 2
    assert [query.get("since") for _, path, query, _ in daemon.requests if path == "/api/events"][1:] == [
        f"k3f9-{PAGE}", f"k3f9-{2 * PAGE}",
    ]  # fmt: skip
    assert len(ctl.run("events", "--since", "k3f9-0", "--limit", str(PAGE + 1)).stdout.splitlines()) == PAGE + 1
    assert daemon.requests[-1][2]["limit"] == "1"


def test_events_json_is_one_line_per_answer(ctl: Ctl, eventful: FakeDaemon) -> None:
    odd = b'{ "events":[],\n "new":"\\u00e4\xc3\xa4", "cursor":"k3f9-4" }'
    eventful.answers["/api/events"] = (200, odd)
    assert ctl.run("events", "--json").stdout.encode() == odd.replace(b"\n", b" ") + b"\n"
    del eventful.answers["/api/events"]
    eventful.events = [event("flood", cursor=f"k3f9-{number}") for number in range(1, PAGE + 2)]
    lines = ctl.run("events", "--json", "--since", "2026-01-01").stdout.splitlines()
    assert [len(json.loads(line)["events"]) for line in lines] == [PAGE, 1]


def test_events_after_an_expired_cursor_are_refused(ctl: Ctl, daemon: FakeDaemon) -> None:
    message = "since=k3f9-1: the events after it are no longer kept"
    daemon.refuse(410, "cursor_gone", message, "/api/events")
    assert ctl.fails(1, "events", "--since", "k3f9-1") == message


def test_until_is_sent_in_utc_and_includes_a_whole_day(ctl: Ctl, daemon: FakeDaemon) -> None:
    for args, until in (
        (["--until", "2026-11-24"], "2026-11-24T14:59:59.999Z"),
        (["--until", "2026-11-24 10:00", "--since", "2026-11-24"], "2026-11-24T01:00:00.000Z"),
        (["--until", "k3f9-118"], "k3f9-118"),
    ):
        assert ctl.run("events", *args).returncode == 0
        assert daemon.requests[-1][2]["until"] == until
    assert ctl.fails(2, "events", "--until", "soon").startswith('--until "soon": expected a cursor')


def test_a_period_that_ends_before_it_begins_is_named(ctl: Ctl, eventful: FakeDaemon) -> None:
    """Or ages in the wrong order would look as if nothing had happened."""
    done = ctl.run("events", "--since", "1m", "--until", "1h")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        0, "netscanctl: warning: --until 1h is before --since 1m: no event can match",
    )  # fmt: skip
    for until in ("1s", "k3f9-118"):
        assert "warning" not in ctl.run("events", "--since", "1m", "--until", until).stderr


def test_no_events_are_reported(ctl: Ctl, daemon: FakeDaemon) -> None:
    """As `devices` does; a list that is printed is its own report."""
    assert ctl.run("events").stderr == "netscanctl: the history has no events\n"
    assert ctl.run("events", "--kind", "flood").stderr == "netscanctl: no event matches\n"
    assert ctl.run("events", "--json").stderr == ""


def test_on_a_terminal_the_columns_have_names(ctl: Ctl, eventful: FakeDaemon) -> None:
    """Above the first page only; not in a pipe."""
    code, shown = ctl.terminal("events", columns=80).end()
    lines = [bare(line) for line in shown.splitlines()]
    assert code == 0
    assert lines[0].split() == ["TIME", "KIND", "ADDRESS", "NAME", "REASON"]
    assert lines[0].index("ADDRESS") == lines[1].index("192.168.1.")
    assert "TIME" not in ctl.run("events").stdout


# ---- show


def test_show_prints_reason_presence_and_events(ctl: Ctl, eventful: FakeDaemon) -> None:
    eventful.devices[1].reason = "3 probes and 1 request unanswered, silent for 11.2 s"
    eventful.devices[1].first_seen = "2026-01-01T00:00:00.000Z"
    eventful.days = [
        PresenceDay(date="2026-02-01", online_seconds=86_400, unknown_seconds=0),
        PresenceDay(date="2026-02-02", online_seconds=0, unknown_seconds=0),
    ]
    answer = ctl.run("show", "host8").stdout
    lines = dict(line.split(maxsplit=1) for line in answer.partition("\n\n")[0].splitlines())
    assert lines["status"].startswith("offline since 2026-11-24 07:02:11 (")
    assert lines["reason"] == "3 probes and 1 request unanswered, silent for 11.2 s"
    assert lines["presence"] == "█_  online 50 % of the last 2 d"
    assert brief(answer.rpartition("\n\n")[2]) == ["discovered 08", "offline 08"]
    assert [(path, query) for _, path, query, _ in eventful.requests[-2:]] == [
        ("/api/devices/a4:83:e7:00:00:08/presence", {"days": "7"}),
        ("/api/devices/a4:83:e7:00:00:08/events", {"last": "10"}),
    ]


def test_show_works_without_the_history(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.refuse(503, "busy", "the history cannot be read", f"/api/devices/{SEVEN}/presence")
    done = ctl.run("show", "host7")
    assert (done.returncode, done.stderr) == (0, "netscanctl: the history cannot be read\n")
    assert "status      online since" in done.stdout


def test_show_json_is_one_request(ctl: Ctl, eventful: FakeDaemon) -> None:
    assert ctl.run("show", SEVEN, "--json").stdout.encode() == encode(eventful.devices[0]) + b"\n"
    assert [path for _, path, _, _ in eventful.requests] == ["/api/status", f"/api/devices/{SEVEN}"]
