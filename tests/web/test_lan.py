"""The page's pure modules, run where they live: in the browser."""

import json
from pathlib import Path
from typing import Any

import pytest

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
    assert run(page, body) == [["promoted"], "made coffee"]


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


def test_the_counts_leave_this_host_out_and_follow_the_filters(page: Page) -> None:
    """By presence, of those that fit search and network."""
    body = """
    const devices = [device(1, { kinds: ['self'] }), device(2), device(3, { status: 'offline' }),
      device(4, { networks: [OTHER] })];
    const view = new View();
    const counts = (query) => {
      Object.assign(view.query, { text: '', status: '', network: '' }, query);
      view.make(new Map(devices.map((one) => [one.mac, one])));
      return [view.counts.online, view.counts.offline, view.rows.length];
    };
    return [counts({}), counts({ status: 'offline' }), counts({ network: OTHER }), counts({ text: '10.0.0.3' })];
    """
    assert run(page, body) == [[2, 1, 4], [2, 1, 1], [1, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("text", "found"),
    [("jane", [1]), ("PRINTER", [2]), ("attic", [3]), ("gateway", [4]), ("10.0.0.3", [3]), ("00:00:02", [2]),
     ("jane apple", [1]), ("jane printer", []), ("apple", [1, 2, 3, 4])],
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
    [(0.44, "0.4 s"), (12, "12 s"), (300, "5 min"), (12000, "3 h 20 min"), (7200, "2 h"), (352800, "4 d 2 h")],
)
def test_spans_as_netscanctl_says_them(page: Page, seconds: float, said: str) -> None:
    """The same words on a terminal and here."""
    from netscanctl.render import span

    assert run(page, f"return words.span({json.dumps(seconds)});") == said == span(seconds)


def test_the_week_is_told_as_well_as_drawn(page: Page) -> None:
    """Seven days, the oldest first; shares of a day as heights; a sentence for who cannot see it."""
    body = """
    const { week } = await import('/web/week.js');
    const now = Date.parse('2026-03-08T12:00:00Z');
    const picture = week([{ date: '2026-03-07', online_seconds: 43200, unknown_seconds: 21600 },
      { date: '2026-03-08', online_seconds: 99999, unknown_seconds: 0 }], Date.parse('2026-03-06T06:00:00Z'), now);
    const all = (selector) => [...picture.querySelectorAll(selector)];
    const heights = (kind) => all(`.${kind}`).map((bar) => Number(bar.getAttribute('height')));
    const said = picture.getAttribute('aria-label');
    return [heights('was-online'), heights('was-unknown'), heights('passed'), said, all('g').length];
    """
    online, unknown, passed, said, days = run(page, body)
    assert online == [0, 0, 0, 0, 0, 32, 32]
    assert unknown == [0, 0, 0, 0, 0, 16, 0]
    assert passed == [0, 0, 0, 0, 0, 64, 32], "not before it was first seen, nor beyond now"
    assert "Sat: online 12 h, unknown 6 h; Sun: online 12 h" in said
    assert days == 7
