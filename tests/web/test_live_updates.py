"""What the page shows, and how softly: many devices, rows that change, progress, and words for what does not fit."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web import selectors
from tests.web.chromium import Chromium, Page
from tests.web.conftest import SENT, URL

APPLE, PI = "a4:83:e7:00:00:21", "b8:27:eb:00:00:23"
MANY = 10_000

HEARS = """
const parse = JSON.parse;
JSON.parse = text => {
  const told = parse(text);
  if (told.type === 'initial_state') begin(told);
  return told;
};
"""
"""Lets a script have a hand in the first message."""

CROWDED = f"""{HEARS}
function begin(told) {{
  for (let number = 0; number < {MANY}; number++) {{
    const ip = `10.9.${{number >> 8}}.${{number & 255}}`, mac = '02:09:00:00:' + number.toString(16)
      .padStart(4, '0').replace(/(..)(..)/, '$1:$2');
    const addresses = [{{...told.devices[0].addresses[0], ip}}];
    told.devices.push({{...told.devices[0], mac, ip, addresses, kinds: [], label: `made ${{number}}`}});
  }}
}}"""

NEWER = f"{HEARS} function begin(told) {{ told.protocol = 2 }}"


@pytest.fixture(scope="module")
def crowd(shared_lab: Lab, daemon: Daemon) -> Crowd:
    made = shared_lab.crowd()
    made.populate(["10.77.0.21", "10.77.0.123"], [APPLE, PI])
    return made


@contextmanager
def shown(browser: Chromium, script: str = "") -> Iterator[Page]:
    """The page, whose browser runs a script before all others."""
    page = browser.page(width=1440, height=900)
    page.call("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    page.go(URL)
    page.until("document.body.dataset.link === 'live'")
    yield page
    page.close()
    assert not page.errors, page.errors


def test_of_ten_thousand_devices_only_the_rows_in_sight_exist(browser: Chromium, crowd: Crowd) -> None:
    """They are counted, searched and walked through, and who comes is shown, with no more than a screen of rows."""
    with shown(browser, CROWDED) as page:
        page.until(f"{selectors.COUNT} > {MANY}")
        page.until(selectors.row("10.9.0.0"))
        assert page.js(f"{selectors.ROWS}.length") < 100
        page.js("document.querySelector('#search').focus()")
        page.type("made 9999")
        page.until(f"JSON.stringify({selectors.column('ip')}) === JSON.stringify(['10.9.39.15'])")
        page.key("Escape")
        page.until(selectors.row("10.9.0.0"))
        page.js("document.querySelector('#table [data-mac] a').focus()")
        page.key("End")
        page.until(selectors.row("10.77.0.123"))
        assert not page.js(selectors.row("10.9.0.0"))
        mac = crowd.join("10.77.0.70")
        page.until(selectors.row("10.77.0.70"))
        assert page.js(f"{selectors.ROWS}.length") < 100
        crowd.leave(mac)


def test_a_change_touches_its_own_row_only(browser: Chromium, crowd: Crowd) -> None:
    """No flicker: cells are changed in place, and nothing of another row is touched but its ages."""
    with shown(browser) as page:
        page.until(f"{selectors.row('10.77.0.21')} && {selectors.row('10.77.0.123')}")
        page.until(f"{selectors.ROWS}.every(row => !parseInt(row.style.getPropertyValue('--heat')))")
        page.js(f"""
        window.row = mac => document.querySelector(`[data-mac="${{mac}}"]`);
        window.watched = row('{APPLE}'); window.heats = []; window.touched = [];
        new MutationObserver(() => heats.push(parseInt(watched.style.getPropertyValue('--heat'))))
          .observe(watched, {{attributes: true, attributeFilter: ['style']}});
        const where = one => (one.target.closest ? one.target : one.target.parentElement).closest('td, tr').className;
        new MutationObserver(seen => touched.push(...seen.map(one => `${{where(one)}} ${{one.attributeName}}`)
          .filter(name => !/c-(last|first)_seen/.test(name))))
          .observe(row('{PI}'), {{attributes: true, childList: true, characterData: true, subtree: true}})
        """)
        crowd.move(APPLE, "10.77.0.24")
        page.until(selectors.row("10.77.0.24"))
        assert page.js(f"row('{APPLE}') === watched")
        page.until("heats.length > 3 && heats.at(-1) === 0")
        heats = page.js("heats")
        assert heats[0] == 100
        assert heats == sorted(heats, reverse=True)
        assert page.js("touched") == []
        crowd.move(APPLE, "10.77.0.21")


def test_with_two_networks_one_can_be_looked_at_alone(browser: Chromium, shared_lab: Lab, crowd: Crowd) -> None:
    """The choice appears with the second network; the address bar has it, and opens it again."""
    other, ours = "10.88.0.0/24@lan1", "02:88:00:00:00:01"
    space = shared_lab.watcher.space
    with shown(browser) as page:
        page.until(selectors.row("10.77.0.1"))
        assert not page.js("document.querySelector('#network').checkVisibility()")
        space.ip(f"link add lan1 address {ours} type veth peer name end1", "addr add 10.88.0.1/24 dev lan1")
        space.ip("link set end1 up", "link set lan1 up")
        page.until("document.querySelector('#network').checkVisibility()")
        page.choose("#network", other)
        page.until(f"!{selectors.row('10.77.0.1')}")
        again = page.js("location.href")
        page.choose("#network", "")
        page.until(selectors.row("10.77.0.1"))
        page.go(again)
        page.until(f"JSON.stringify({selectors.column('mac')}) === JSON.stringify(['{ours}'])")
    space.ip("link delete lan1")


def test_a_scan_of_one_network_shows_its_progress(browser: Chromium, crowd: Crowd) -> None:
    """The button of its card; the bar above moves, and a sentence says what came of it."""
    with shown(browser, SENT) as page:
        page.js(
            "window.bars = []; new MutationObserver(() => bars.push(document.querySelector('#scan-progress').value))"
            ".observe(document.querySelector('#scan-progress'), {attributes: true, attributeFilter: ['value']})"
        )
        page.click(".views [data-view=networks]")
        page.until("document.querySelector('.card button') && !document.querySelector('.card button').disabled")
        page.click(".card button")
        page.until("/Scanned 10.77.0.0.24@eth0 in .* answered/.test(document.querySelector('#notice').innerText)")
        (wish,) = [sent for sent in page.js("sent") if sent["type"] == "scan_now"]
        assert wish["targets"] == ["10.77.0.0/24@eth0"]
        assert any(0 < value <= 1 for value in page.js("bars"))
        page.until("document.querySelector('#scan-progress').hidden")


def test_a_screen_reader_is_told_what_happened(browser: Chromium, crowd: Crowd) -> None:
    """In the live region, a sentence for the last seconds."""
    with shown(browser) as page:
        assert page.js("document.querySelector('#herald').ariaLive") == "polite"
        mac = crowd.join("10.77.0.71")
        page.until("/Discovered: 10.77.0.71/.test(document.querySelector('#herald').textContent)")
        crowd.leave(mac)


def test_a_netscand_that_is_newer_than_the_page_is_told_in_words(browser: Chromium, crowd: Crowd) -> None:
    """With a button to reload."""
    with shown(browser, NEWER) as page:
        page.until("/newer than this page/.test(document.querySelector('#notice').innerText)")
        assert page.js("document.querySelector('#notice-act').innerText") == "Reload the page"


def test_the_last_update_is_told_with_its_age(browser: Chromium, daemon: Daemon, crowd: Crowd) -> None:
    """*live · last update 2 s ago*: while the daemon says nothing the seconds count up."""
    with shown(browser) as page:
        page.until("/^live · last update (now|[0-9]+ s ago)$/.test(document.querySelector('#link-words').innerText)")
        daemon.signal(signal.SIGSTOP)
        page.until("/ [3-9] s ago/.test(document.querySelector('#link-words').innerText)")
        daemon.signal(signal.SIGCONT)
        page.until("/now$/.test(document.querySelector('#link-words').innerText)")
