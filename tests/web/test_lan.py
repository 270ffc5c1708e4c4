"""The page's pure modules, run where they live: in the browser."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from netscanctl.render import is_new
from netscand import protocol
from tests.web.chromium import Page

BEGIN = Path(__file__).with_name("begin.js").read_text()


def run(page: Page, body: str) -> Any:  # noqa: ANN401 - JSON
    """What `body` returns."""
    return page.js(f"(async () => {{ {BEGIN}\n{body} }})()")


def test_half_a_snapshot_is_no_place_to_resume_from(page: Page) -> None:
    """The cursor counts once the last part is there; the first snapshot is shown as it comes."""
    body = """
    hear(begin([device(1)], { more: true }));
    const half = [lan.cursor, lan.devices.size, lan.whole];
    hear({ type: 'devices', devices: [device(2)], more: false });
    return [half, [lan.cursor, lan.devices.size, lan.whole]];
    """
    assert run(page, body) == [[None, 1, False], ["e-1", 2, True]]


def test_a_later_snapshot_replaces_the_picture_at_once(page: Page) -> None:
    """Until its last part the old one stays, so that nothing flickers; who is not in it is gone."""
    body = """
    hear(begin([device(1), device(2)]));
    hear(begin([device(2)], { more: true }));
    const half = Object.keys(statuses());
    hear({ type: 'devices', devices: [device(3)], more: false });
    return [half, Object.keys(statuses()), lan.changed.size];
    """
    assert run(page, body) == [["10.0.0.1", "10.0.0.2"], ["10.0.0.2", "10.0.0.3"], 3]


@pytest.mark.parametrize("kind", ["network_up", "network_down", "network_silent"])
def test_a_network_in_doubt_takes_its_devices_with_it(page: Page, kind: str) -> None:
    """Those that are online on no other network become unknown, without an event each; offline stays offline."""
    body = f"""
    hear(begin([device(1), device(2, {{ networks: [NET, OTHER] }}), device(3, {{ networks: [OTHER] }}),
      device(4, {{ status: 'offline' }})]));
    const told = hear(event('{kind}'));
    return [told, statuses(), lan.networks.get(NET).state];
    """
    told, statuses, state = run(page, body)
    assert told == [kind]
    assert statuses == {"10.0.0.1": "unknown", "10.0.0.2": "online", "10.0.0.3": "online", "10.0.0.4": "offline"}
    assert state == {"network_up": "up", "network_down": "down", "network_silent": "silent"}[kind]


def test_a_doubt_that_ends_as_it_began_is_no_news(page: Page) -> None:
    """Back to online: shown, without an event. Offline after a doubt: an event."""
    body = """
    hear(begin([device(1), device(2)]));
    hear(event('network_silent'));
    const previous = { status: 'unknown' };
    const told = hear(event('online', { device: device(1), previous }),
      event('offline', { device: device(2, { status: 'offline' }), previous }));
    return [told, statuses()];
    """
    assert run(page, body) == [["offline"], {"10.0.0.1": "online", "10.0.0.2": "offline"}]


def test_this_host_needs_nobodys_verdict(page: Page) -> None:
    """With its network it comes back at once."""
    body = """
    hear(begin([device(1, { kinds: ['self'] })]));
    hear(event('network_down'));
    const down = statuses();
    hear(event('network_up'));
    return [down, statuses()];
    """
    assert run(page, body) == [{"10.0.0.1": "unknown"}, {"10.0.0.1": "online"}]


def test_resuming_keeps_what_is_known(page: Page) -> None:
    """The devices stay; missed events follow and move the cursor; a device forgotten meanwhile goes."""
    body = """
    hear(begin([device(1), device(2)]));
    hear({ ...begin([]), type: 'resumed', role: 'admin' });
    const kept = lan.devices.size;
    const told = hear(event('forgotten', { device: device(1) }), event('discovered', { device: device(3) }));
    return [kept, told, Object.keys(statuses()), lan.cursor, lan.role];
    """
    assert run(page, body) == [2, ["forgotten", "discovered"], ["10.0.0.2", "10.0.0.3"], "e-3", "admin"]


def test_what_is_not_known_is_passed_over(page: Page) -> None:
    """New types, kinds and fields of a later netscand do no harm."""
    body = """
    hear(begin([device(1, { colour: 'green' })]), { type: 'weather', rain: true });
    const told = hear(event('promoted', { device: device(1, { status: 'dormant' }) }));
    return [told, words.titleOf({ kind: 'made_coffee' })];
    """
    assert run(page, body) == [["promoted"], "Made coffee"]


def test_history_tells_only_news(page: Page) -> None:
    """A restart put everybody in doubt, and most came out as they went in."""
    body = """
    const previous = { status: 'unknown' };
    const gone = device(2, { status: 'offline' });
    return newsIn([event('discovered', { device: device(1) }), event('network_up'),
      event('online', { device: device(1), previous }),
      event('offline', { device: gone, previous: { status: 'online' } }),
      event('online', { device: device(2), previous }),
      event('unknown', { device: device(4, { status: 'unknown' }), previous: { status: 'online' } }),
      event('online', { device: device(4), previous }),
      event('discovered', { device: device(3), previous })]).map((told) => told.kind);  // annotated before it was seen
    """
    assert run(page, body) == [
        "discovered", "network_up", "offline", "online", "unknown", "online", "discovered",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sort", "first", "last"),
    [("ip", "10.0.0.2", None), ("name", "10.0.0.9", "10.0.0.2"), ("vendor", "10.0.0.10", "10.0.0.9")],
)
def test_who_has_nothing_to_sort_by_goes_last_both_ways(page: Page, sort: str, first: str, last: str | None) -> None:
    """Addresses as numbers, names as people sort them, the empty at the end."""
    body = f"""
    const devices = [device(10, {{ vendor: 'AVM', label: 'printer 10' }}),
      device(2, {{ vendor: 'Zyxel' }}), device(9, {{ vendor: null, hostname: 'Printer 9' }}),
      device(7, {{ ip: null, addresses: [], vendor: null, label: 'zebra' }})];
    const view = new View();
    const order = (descending) => {{
      view.query = {{ ...view.query, sort: '{sort}', descending }};
      view.make(new Map(devices.map((one) => [one.mac, one])));
      return view.rows.map((one) => one.ip);
    }};
    return [order(false), order(true)];
    """
    up, down = run(page, body)
    assert up[0] == first
    if sort == "ip":
        assert up == ["10.0.0.2", "10.0.0.9", "10.0.0.10", None]
        assert down == ["10.0.0.10", "10.0.0.9", "10.0.0.2", None]
    elif sort == "name":
        assert up == ["10.0.0.9", "10.0.0.10", None, last]
        assert down == [None, "10.0.0.10", "10.0.0.9", last]
    else:
        assert up[:2] == ["10.0.0.10", "10.0.0.2"]
        assert down[:2] == ["10.0.0.2", "10.0.0.10"]


def test_a_device_that_was_never_seen_has_no_age(page: Page) -> None:
    """Its times are those of the annotation: in a row it is "never", sorted last both ways, and in no export."""
    body = """
    const { asCsv } = await import('/web/export.js');
    const at = '2026-01-01T09:00:00Z';
    const never = { kinds: ['never_seen'], status: 'unknown', ip: null, addresses: [], first_seen: at, last_seen: at,
      status_since: at };
    const devices = [device(1, never), device(2)];
    const view = new View();
    const order = (sort, descending) => {
      Object.assign(view.query, { sort, descending });
      view.make(new Map(devices.map((one) => [one.mac, one])));
      return view.rows.map((one) => one.ip);
    };
    return [order('last_seen', false), order('last_seen', true), order('first_seen', false), order('first_seen', true),
      asCsv(devices).includes('2026-01-01T09'), devices];
    """
    *orders, in_csv, devices = run(page, body)
    assert orders == [["10.0.0.2", None]] * 4
    assert not in_csv
    from netscanctl.export import as_csv

    assert "2026-01-01T09" not in as_csv(msgspec.convert(devices, list[protocol.Device]))


def test_a_search_finds_a_merged_mac(page: Page) -> None:
    body = """
    const devices = [device(1), device(2, { merged_macs: ['7a:0c:52:e1:88:6e'] })];
    return ['7a:0c:52', '7A0C52', '7a-0c-52', '7a0c.52e1', '7a0c53'].map((text) => {
      const view = new View();
      Object.assign(view.query, { text });
      view.make(new Map(devices.map((one) => [one.mac, one])));
      return view.rows.map((one) => one.ip).join();
    });
    """
    assert run(page, body) == ["10.0.0.2"] * 4 + [""]


def test_the_counts_leave_this_host_out_and_follow_the_filters(page: Page) -> None:
    """By presence, of those that fit search and network."""
    body = """
    const devices = [device(1, { kinds: ['self'] }), device(2), device(3, { status: 'offline' }),
      device(4, { networks: [OTHER], known: true })];
    const view = new View();
    const counts = (query) => {
      Object.assign(view.query, { text: '', status: '', network: '', notKnown: false }, query);
      view.make(new Map(devices.map((one) => [one.mac, one])));
      const { online, offline, notKnown, self } = view.counts;
      return [online, offline, notKnown, view.rows.length, self];
    };
    return [counts({}), counts({ status: 'offline' }), counts({ network: OTHER }), counts({ text: '10.0.0.3' }),
      counts({ notKnown: true }), counts({ notKnown: true, status: 'online' })];
    """
    assert run(page, body) == [
        [2, 1, 2, 4, 1], [2, 1, 1, 1, 1], [1, 0, 0, 1, 0], [0, 1, 1, 1, 0], [1, 1, 2, 2, 0], [1, 1, 1, 1, 0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [("jane", [1]), ("PRINTER", [2]), ("attic", [3]), ("gateway", [4]), ("10.0.0.3", [3]), ("00:00:02", [2]),
     ("jane apple", [1]), ("jane printer", []), ("apple", [1, 2, 3, 4]), ("A4-83-E7-00-00-02", [2]), ("00-03", [3]),
     ("a483.e700.0004", [4]), ("e700.0004", [4]), ("A483E7000001", [1]), ("e700000", [1, 2, 3, 4]), ("0002", [2]),
     ("83e7 jane", [1]), ("10.77.0.0004", []), ("3e70", [1, 2, 3, 4])],
)  # fmt: skip
def test_a_search_looks_into_all_that_names_a_device(page: Page, text: str, found: list[int]) -> None:
    """Label, host name, notes, what it is, address, MAC and vendor; of several words each must be there."""
    body = f"""
    const devices = [device(1, {{ label: "Jane's laptop", hostname: 'mac-17' }}), device(2, {{ hostname: 'printer' }}),
      device(3, {{ notes: 'in the attic' }}), device(4, {{ kinds: ['gateway'] }})];
    const view = new View();
    view.query.text = {json.dumps(text)};
    view.make(new Map(devices.map((one) => [one.mac, one])));
    return view.rows.map((one) => Number(one.ip.split('.')[3]));
    """
    assert run(page, body) == found


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "now"), (1, "now"), (12.9, "12 s ago"), (60, "1 min ago"), (3599, "59 min ago"), (7300, "2 h ago"),
     (86400 * 3, "3 d ago")],
)  # fmt: skip
def test_ages_in_one_unit(page: Page, seconds: float, said: str) -> None:
    """Rounded down: nothing is shown as older than it is."""
    assert run(page, f"return words.age({json.dumps(seconds)});") == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.44, "0.4 s"),
        (12, "12 s"),
        (300, "5 min"),
        (12000, "3 h 20 min"),
        (7200, "2 h"),
        (352800, "4 d 2 h"),
        (90, "90 s"),
        (150, "2 min 30 s"),
        (0.05, "50 ms"),
        (1e-3, "1 ms"),
        (599, "9 min 59 s"),
        (601, "10 min"),
    ],
)
def test_spans_as_netscanctl_says_them(page: Page, seconds: float, said: str) -> None:
    """The same words on a terminal and here."""
    from netscanctl.render import span

    assert run(page, f"return words.span({json.dumps(seconds)});") == said == span(seconds)


@pytest.mark.parametrize("kind", get_args(protocol.EventKind))
def test_an_event_has_one_word_everywhere(page: Page, kind: str) -> None:
    """Its title is its kind, as netscanctl and the documents have it, and the page can filter by it."""
    title, listed = run(
        page,
        f"const groups = [...words.KIND_GROUPS, words.KINDS_OF_SITES];"
        f"return [words.titleOf({{ kind: '{kind}' }}), groups.some(([, all]) => all.includes('{kind}'))];",
    )
    assert title.lower() == kind.replace("_", " ")
    assert listed


def test_a_randomized_mac_is_called_so(page: Page) -> None:
    """As netscanctl does: "private address" sounds like RFC 1918."""
    from netscanctl.render import vendor_of

    device = run(page, "return device(1, { vendor: null, randomized_mac: true });")
    shown = run(page, f"return words.vendorOf({json.dumps(device)});")
    assert shown == vendor_of(msgspec.convert(device, protocol.Device)) == "(randomized MAC)"


@pytest.mark.parametrize(
    ("more", "new"),
    [({}, True), ({"known": True}, False), ({"first_seen": "2025-12-30T00:00:00.000Z"}, False),
     ({"kinds": ["self"]}, False), ({"kinds": ["never_seen"]}, False), ({"kinds": ["gateway"]}, True)],
)  # fmt: skip
def test_a_device_is_new_for_a_day(page: Page, more: dict[str, Any], new: bool) -> None:
    """And never if it is known, this host, or was never seen."""
    body = f"return words.isNew(device(1, {json.dumps(more)}), Date.parse(AT) + 3_600_000);"
    device = run(page, f"return device(1, {json.dumps(more)});")
    at = datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert run(page, body) is is_new(msgspec.convert(device, protocol.Device), at) is new


def test_an_event_names_what_it_is_about(page: Page) -> None:
    """Discovered: MAC and vendor; renamed: both names; patience with its unit."""
    body = """
    return [event('discovered', { device: device(1) }),
      event('renamed',
        { device: device(1, { hostname: 'new' }), previous: { hostname: 'old' }, reason: 'named by dhcp' }),
      event('labelled', { device: device(1, { patience: 90 }), previous: { patience: 600, known: true } }),
    ].map(words.detailOf);
    """
    assert run(page, body) == [
        "a4:83:e7:00:00:01 · Apple, Inc. · because",
        "was old, now new, named by dhcp",
        "patience 10 min → 90 s, known yes → no",
    ]


def test_the_list_as_csv_is_that_of_netscanctl(page: Page) -> None:
    """Byte for byte, also for names that a spreadsheet would run."""
    from netscanctl.export import as_csv

    names = [
        "plain",
        "=cmd()",
        'say "hi", twice',
        "a;=b",
        "tab\there",
        "line\nbreak",
        "＝full",
        "-1",
        "🍓 Pi",
        "x\u200by",
    ]
    made = ", ".join(
        f"device({at}, {{ label: {json.dumps(name)}, hostname: {json.dumps(name)}, notes: {json.dumps(name)} }})"
        for at, name in enumerate(names)
    )
    body = f"""
    const {{ asCsv }} = await import('/web/export.js');
    const devices = [{made},
      device(77, {{ vendor: null, ip: null, addresses: [], known: true, kinds: ['self', 'gateway'] }})];
    return [devices, asCsv(devices)];
    """
    devices, text = run(page, body)
    assert text == as_csv(msgspec.convert(devices, list[protocol.Device]))
