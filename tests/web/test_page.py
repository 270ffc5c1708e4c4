"""The page against a real daemon: what a person would do with it."""

import json
import signal
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest

from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web import selectors
from tests.web.chromium import Chromium, Page
from tests.web.conftest import URL

APPLE, SONOS, PI = "a4:83:e7:00:00:21", "5c:aa:fd:00:00:22", "b8:27:eb:00:00:23"


@pytest.fixture(scope="module")
def crowd(shared_lab: Lab, daemon: Daemon) -> Crowd:
    made = shared_lab.crowd()
    made.populate(["10.77.0.21", "10.77.0.22", "10.77.0.123"], [APPLE, SONOS, PI])
    return made


@pytest.fixture
def full(page: Page, crowd: Crowd) -> Page:
    """The page with everybody on it."""
    for ip in ("10.77.0.1", "10.77.0.21", "10.77.0.22", "10.77.0.123"):
        page.until(selectors.row(ip))
    return page


def search(page: Page, text: str) -> None:
    page.js("document.querySelector('#search').focus(), document.querySelector('#search').select()")
    page.key("Delete") if not text else page.type(text)


def test_devices_appear_with_all_that_is_known_of_them(full: Page) -> None:
    """Presence, name, address, vendor, MAC, network, ages."""
    seen = full.js(selectors.row("10.77.0.21"))
    assert "online" in seen
    assert "Apple, Inc." in seen
    assert APPLE in seen
    assert "10.77.0.0/24@eth0" in seen
    assert "now" in seen or "ago" in seen
    assert "this host" in full.js(selectors.row("10.77.0.2"))
    assert "gateway" in full.js(selectors.row("10.77.0.1"))


def test_a_device_joins_and_leaves_before_ones_eyes(full: Page, crowd: Crowd) -> None:
    """Without a reload: a new row and an event, then offline, with the reason."""
    before = full.js(selectors.COUNT)
    mac = crowd.join("10.77.0.50", "3c:d9:2b:00:00:50")
    full.until(selectors.row("10.77.0.50"))
    full.until(f"{selectors.COUNT} === {before + 1}")
    full.until(f"{selectors.events()}.some(text => /Discovered 10.77.0.50/.test(text))")
    crowd.leave(mac)
    full.until(f"{selectors.row('10.77.0.50')}.includes('offline')")
    full.until(f"{selectors.events()}.some(text => /Offline 10.77.0.50.*unanswered/.test(text))")


def test_ages_tick(full: Page, crowd: Crowd, daemon: Daemon) -> None:
    """Nothing needs to happen for time to pass; of who has just come, a second makes a difference."""
    crowd.join("10.77.0.51", "3c:d9:2b:00:00:51")
    full.until(selectors.row("10.77.0.51"))
    age = f"{selectors.ROWS}.find(row => /51$/.test(row.dataset.mac)).querySelector('.c-first_seen').innerText"
    daemon.signal(signal.SIGSTOP)  # a device that is heard again is drawn again
    try:
        first = full.js(age)
        assert first
        full.until(f"{age} !== {json.dumps(first)}")
    finally:
        daemon.signal(signal.SIGCONT)


@pytest.mark.parametrize("text", ["10.77.0.21", "apple", "A4-83-E7-00", "APPLE inc", "a4:83:e7:00:00:21"])
def test_a_device_is_found(full: Page, text: str) -> None:
    """By address, vendor, MAC in either spelling, words in any case; the address bar remembers."""
    search(full, text)
    full.until(f"JSON.stringify({selectors.column('mac')}) === JSON.stringify(['{APPLE}'])")
    full.until(f"new URLSearchParams(location.search).get('q') === {json.dumps(text)}")


def test_what_is_not_there_is_not_found_in_words(full: Page) -> None:
    """An empty list says why it is empty, and Escape brings everybody back."""
    search(full, "no such thing")
    full.until("document.querySelector('#empty').checkVisibility()")
    full.key("Escape")
    full.until(selectors.row("10.77.0.21"))
    full.until("location.search === ''")


def test_the_address_bar_searches(browser: Chromium, crowd: Crowd) -> None:
    """?q=, ?status= and ?sort= open the view they name."""
    page = browser.page(f"{URL}?q=sonos&status=online&sort=-mac")
    page.until(f"JSON.stringify({selectors.column('mac')}) === JSON.stringify(['{SONOS}'])")
    assert page.js("document.querySelector('#search').value") == "sonos"
    assert page.js("document.querySelector('[name=status]:checked').value") == "online"
    assert page.js("document.querySelector('.c-mac[aria-sort]').ariaSort") == "descending"
    page.close()


@pytest.mark.parametrize("name", ["status", "name", "ip", "vendor", "mac", "network", "last_seen", "first_seen"])
def test_every_column_sorts_both_ways(full: Page, name: str) -> None:
    """A press on its head sorts by it, a second one turns it round; a screen reader gets it."""
    head = f"th.c-{name}"
    press = f"document.querySelector('{head} button').click()"  # the one of the network shows with a second network
    if name != "ip":  # which is how it begins
        full.js(press)
    full.until(f"document.querySelector('{head}').ariaSort === 'ascending'")
    keys: dict[str, Callable[[str], Any]] = {"ip": IPv4Address, "mac": str, "vendor": str.casefold}
    if key := keys.get(name):
        up = sorted(full.js(selectors.column(name)), key=key)
        full.until(f"JSON.stringify({selectors.column(name)}) === JSON.stringify({up})")
    full.js(press)
    full.until(f"document.querySelector('{head}').ariaSort === 'descending'")
    if name in ("ip", "mac"):
        full.until(f"JSON.stringify({selectors.column(name)}) === JSON.stringify({up[::-1]})")
    assert sorted(full.js(selectors.column("mac"))) == sorted(set(full.js(selectors.column("mac"))))


def test_presence_filters(full: Page) -> None:
    """A press on Offline leaves only them."""
    full.click("#presence input[value=offline] + span")
    full.until(f"{selectors.column('status')}.every(text => text === 'offline')")
    full.click("#presence input[value='online'] + span")
    full.until(f"{selectors.row('10.77.0.21')} && {selectors.column('status')}.every(text => text === 'online')")


def test_one_device_is_opened_by_mouse_and_closed_by_escape(full: Page) -> None:
    """Its pane shows addresses and evidence; the address bar names it; Back works too."""
    full.click(f"[data-mac='{APPLE}'] .c-ip")
    full.until("document.querySelector('#device').checkVisibility()")
    text = full.js("document.querySelector('#device').innerText")
    assert "10.77.0.21" in text
    assert APPLE in text
    assert "ARP reply" in text
    assert full.js("location.hash") == f"#{APPLE}"
    full.key("Escape")
    full.until("!document.querySelector('#device').checkVisibility()")
    full.js("history.back()")
    full.until("document.querySelector('#device').checkVisibility()")


def test_the_keyboard_is_enough(full: Page) -> None:
    """Slash searches, arrows walk, Enter opens, Escape closes and leads back to where one was."""
    full.key("/")
    assert full.js("document.activeElement.id") == "search"
    full.key("ArrowDown")
    full.key("ArrowDown")
    second = full.js("document.activeElement.closest('tr').dataset.mac")
    assert second == full.js(f"{selectors.ROWS}[1].dataset.mac")
    full.key("Enter")
    full.until("document.querySelector('#device').checkVisibility()")
    full.key("Escape")
    full.until(f"document.activeElement.closest('tr')?.dataset.mac === '{second}'")


def test_a_change_of_order_does_not_take_the_keyboard_away(full: Page) -> None:
    """The row that has the focus keeps it while rows move around it."""
    full.js(f"document.querySelector('[data-mac=\"{PI}\"] a').focus()")
    full.click("th.c-mac button")
    full.js(f"document.querySelector('[data-mac=\"{PI}\"] a').focus()")
    full.choose("#sort", "first_seen")
    time.sleep(0.5)
    assert full.js("document.activeElement.closest('tr')?.dataset.mac") == PI


def test_scan_now_shows_that_it_runs_and_what_came_of_it(full: Page, daemon: Daemon) -> None:
    """The button, its progress, the result in a sentence."""
    full.until("!document.querySelector('#scan').disabled")
    full.js(
        "window.labels = new Set(); new MutationObserver(() => labels.add(document.querySelector('#scan').textContent))"
        ".observe(document.querySelector('#scan'), {childList: true, characterData: true, subtree: true})"
    )
    full.click("#scan")
    full.until("[...labels].some(text => text !== 'Scan now')")
    full.until("/answered/.test(document.querySelector('#notice').innerText)")
    full.until("document.querySelector('#scan').textContent === 'Scan now'")


def test_the_networks_are_told_with_their_health(full: Page, daemon: Daemon) -> None:
    """State, why, coverage, a scan of one, the interval."""
    full.click(".views [data-view=networks]")
    full.until("/virtual Ethernet/.test(document.querySelector('#networks').innerText)")
    text = full.js("document.querySelector('#networks').innerText")
    assert "10.77.0.0/24@eth0" in text
    assert "of 254 addresses" in text
    for name in ("Coverage", "Interval", "Last scan", "Gateway", "Online"):  # the columns of netscanctl
        assert name in text
    assert "broadcast, " in text
    assert "unicast, 0 errors" in text
    assert "frames" in text
    full.choose(".lease select", "1")
    full.until("/Now every 1 s/.test(document.querySelector('#networks').innerText)")
    full.choose(".lease select", "0")
    full.until("/Now every 3 s/.test(document.querySelector('#networks').innerText)")


def test_a_phone_sees_the_same_one_view_at_a_time(full: Page) -> None:
    """Nothing is wider than the screen; names, addresses and ages are in sight."""
    full.resize(320, 640, 2, mobile=True)
    full.until("innerWidth === 320")
    for view in ("devices", "events", "networks"):
        full.click(f".views [data-view={view}]")
        full.until(f"document.body.dataset.view === '{view}'")
        assert full.js("document.documentElement.scrollWidth") == 320
    full.click(".views [data-view=devices]")
    full.until(f"{selectors.ROWS}.length > 3")
    assert full.js(f"{selectors.ROWS}.every(row => row.getBoundingClientRect().right <= 320)")
    full.click(f"[data-mac='{APPLE}']")
    full.until("document.querySelector('#device').checkVisibility()")
    assert full.js("document.querySelector('#device').getBoundingClientRect().right") <= 320


def test_what_assistive_technology_is_told(full: Page) -> None:
    """Every control has a name; no cell is without a head; the table has its length."""
    tree = full.call("Accessibility.getFullAXTree")["nodes"]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    for role in ("button", "link", "textbox", "searchbox", "combobox", "radio", "checkbox", "table", "navigation"):
        assert all(name for found, name in roles if found == role), (role, [r for r in roles if r[0] == role])
    assert sum(role == "columnheader" for role, _ in roles) == 7, "with one network, its column is left out"
    assert int(full.js("document.querySelector('#table').ariaRowCount")) == full.js(selectors.COUNT) + 2


def test_it_asks_nothing_of_anybody_else(browser: Chromium, crowd: Crowd) -> None:
    """All comes from the daemon itself."""
    page = browser.page(URL)
    page.until(f"{selectors.ROWS}.length > 3")
    assert all(url.startswith((URL, "ws://127.0.0.1:8000/", "data:")) for url in page.requested), page.requested
    page.close()


@pytest.mark.parametrize("width", [1000, 1100, 1280, 1440])
def test_the_table_fills_its_width_whatever_columns_are_left_out(browser: Chromium, daemon: Daemon, width: int) -> None:
    """No room stays empty at its right while names are cut."""
    page = browser.page(width=width, height=800)
    page.go(URL)
    page.until("document.querySelectorAll('#table tbody tr').length > 1")
    empty = page.js(
        "document.querySelector('#table').getBoundingClientRect().right - Math.max(...[...document.querySelectorAll("
        "'#table thead th')].map(cell => cell.getBoundingClientRect().right))"
    )
    assert abs(empty) <= 2
    page.close()
