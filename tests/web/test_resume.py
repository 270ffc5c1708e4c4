"""The daemon goes and comes back: the page says so, recovers by itself, and misses nothing."""

from collections.abc import Iterator

import pytest

from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web import selectors
from tests.web.chromium import Chromium, Page
from tests.web.conftest import CONFIG, SENT, URL

TRIES = """
window.tries = [];
window.WebSocket = class extends WebSocket { constructor(...how) { super(...how); tries.push(performance.now()) } }; 0
"""
"""Notes when, in ms, the page tried to connect."""


@pytest.fixture
def world(lab: Lab, chromium_is_there: None) -> Iterator[tuple[Daemon, Crowd, Page]]:
    """A daemon of one's own, to be killed, and the page, live."""
    crowd = lab.crowd()
    crowd.populate(["10.77.0.21", "10.77.0.22"])
    daemon = lab.daemon(CONFIG)
    with Chromium(lab.watcher.space) as browser:
        page = browser.page(URL, width=1440, height=900)
        page.until(f"{selectors.row('10.77.0.21')} && {selectors.row('10.77.0.22')}")
        yield daemon, crowd, page
        assert not page.errors, page.errors


def test_a_daemon_that_is_killed_and_started(world: tuple[Daemon, Crowd, Page]) -> None:
    """The page says connecting, in words why, tries again every 3 s, and shows who came meanwhile."""
    daemon, crowd, page = world
    page.js("window.stays = 'not loaded again'")
    page.js(TRIES)
    daemon.kill()
    page.until("/not connected/.test(document.querySelector('#link-words').innerText)")
    page.until("/does not answer.*every 3 s/.test(document.querySelector('#notice').innerText)")
    assert page.js(selectors.row("10.77.0.21")), "what was known stays in sight"
    page.until("tries.length > 1")
    assert page.js("tries[1] - tries[0]") >= 2990
    crowd.join("10.77.0.77", say="none")
    daemon.start()
    page.until("document.body.dataset.link === 'live'")
    page.until(f"{selectors.row('10.77.0.77')}.includes('online')")
    page.until(f"{selectors.row('10.77.0.21')}.includes('online')")
    assert not page.js("document.querySelector('#notice').checkVisibility()")
    crowd.join("10.77.0.78")
    page.until(selectors.row("10.77.0.78"))
    assert page.js("window.stays") == "not loaded again"


def test_a_restart_under_way_loses_no_event(world: tuple[Daemon, Crowd, Page]) -> None:
    """Resumed by the cursor: each event of the gap is shown, and once."""
    daemon, crowd, page = world
    daemon.restart()
    for number in range(80, 90):
        crowd.join(f"10.77.0.{number}")
    page.until("document.body.dataset.link === 'live'")
    for number in range(80, 90):
        page.until(selectors.row(f"10.77.0.{number}"))
        page.until(f"{selectors.events()}.filter(text => text.includes('Discovered 10.77.0.{number}')).length === 1")
    assert any("since=" in url for url in page.requested if url.startswith("ws:"))


def test_a_faster_interval_is_wished_for_again(world: tuple[Daemon, Crowd, Page]) -> None:
    """A lease ends with its connection; who watches goes on as before."""
    daemon, _, page = world
    page.js(SENT)
    page.click(".views [data-view=networks]")
    page.until("!document.querySelector('.lease select').disabled")
    page.choose(".lease select", "1")
    page.until("/Now every 1 s/.test(document.querySelector('#networks').innerText)")
    daemon.restart()
    page.until("sent.filter(one => one.type === 'set_interval' && one.seconds === 1).length === 2")
    page.until("/Now every 1 s/.test(document.querySelector('#networks').innerText)")


def test_a_network_that_goes_down_puts_its_devices_in_doubt(lab: Lab, world: tuple[Daemon, Crowd, Page]) -> None:
    """There is no event for each device: the page applies it, shows it in the networks, and ends it by each verdict."""
    _, _, page = world
    assert not page.js("document.querySelector('#chip-unknown').checkVisibility()")
    lab.watcher.unplug()
    for ip in ("10.77.0.21", "10.77.0.22"):
        page.until(f"{selectors.row(ip)}.includes('unknown')")
    page.until(f"{selectors.events()}[0].includes('Network down')")
    page.until("document.querySelector('#count-unknown').innerText === '2'")
    page.click(".views [data-view=networks]")
    page.until("document.querySelector('.card .state').innerText === 'down'")
    lab.watcher.replug()
    page.until("document.querySelector('.card .state').innerText === 'up'")
    page.until(f"{selectors.row('10.77.0.21')}.includes('online') && {selectors.row('10.77.0.22')}.includes('online')")


def test_a_daemon_that_takes_nobody_more_says_so(lab: Lab, chromium_is_there: None) -> None:
    """A WebSocket that is refused gives a browser no reason: the page asks again by HTTP, and has it in words."""
    lab.daemon(f"{CONFIG}\n[listen]\nmax_clients = 1\n")
    with Chromium(lab.watcher.space) as browser:
        first = browser.page(URL)
        first.until("document.body.dataset.link === 'live'")
        second = browser.page(URL)
        second.until("/busy.*Trying again every 3 s/.test(document.querySelector('#notice').innerText)")
        first.close()
        second.until("document.body.dataset.link === 'live'")
        assert not second.js("document.querySelector('#notice').checkVisibility()")
        assert not second.errors


def test_ages_are_told_by_the_daemons_clock(lab: Lab, chromium_is_there: None) -> None:
    """A browser whose clock is two hours fast sees devices that were heard seconds ago."""
    lab.daemon(CONFIG)
    lab.crowd().populate(["10.77.0.21"])
    with Chromium(lab.watcher.space) as browser:
        page = browser.page()
        fast = "const now = Date.now; Date.now = () => now() + 7200e3"
        page.call("Page.addScriptToEvaluateOnNewDocument", {"source": fast})
        page.go(URL)
        page.until(selectors.row("10.77.0.21"))
        page.until(f"{selectors.column('first_seen')}.every(text => / s ago|now/.test(text))")
