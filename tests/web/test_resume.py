"""The daemon goes and comes back: the page says so, recovers by itself, and misses nothing."""

from collections.abc import Iterator

import pytest

from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web import eye
from tests.web.chromium import Chromium, Page
from tests.web.conftest import CONFIG, URL


@pytest.fixture
def world(lab: Lab, chromium_is_there: None) -> Iterator[tuple[Daemon, Crowd, Page]]:
    """A daemon of one's own, to be killed, and the page, live."""
    crowd = lab.crowd()
    crowd.populate(["10.77.0.21", "10.77.0.22"])
    daemon = lab.daemon(CONFIG)
    with Chromium(lab.watcher.space) as browser:
        page = browser.page(URL, width=1440, height=900)
        page.until(f"{eye.row('10.77.0.21')} && {eye.row('10.77.0.22')}")
        yield daemon, crowd, page
        assert not page.errors, page.errors


def test_a_daemon_that_is_killed_and_started(world: tuple[Daemon, Crowd, Page]) -> None:
    """The page says connecting, in words why, tries again every 3 s, and shows who came meanwhile."""
    daemon, crowd, page = world
    page.js("window.stays = 'not loaded again'")
    daemon.kill()
    page.until("/connecting…/.test(document.querySelector('#link-words').innerText)")
    page.until("/does not answer.*every 3 s/.test(document.querySelector('#notice').innerText)")
    assert page.js(eye.row("10.77.0.21")), "what was known stays in sight"
    crowd.join("10.77.0.77", say="none")
    daemon.start()
    page.until("document.body.dataset.link === 'live'")
    page.until(f"{eye.row('10.77.0.77')}.includes('online')")
    page.until(f"{eye.row('10.77.0.21')}.includes('online')")
    assert not page.js("document.querySelector('#notice').checkVisibility()")
    crowd.join("10.77.0.78")
    page.until(eye.row("10.77.0.78"))
    assert page.js("window.stays") == "not loaded again"


def test_a_restart_under_way_loses_no_event(world: tuple[Daemon, Crowd, Page]) -> None:
    """Resumed by the cursor: each event of the gap is shown, and once."""
    daemon, crowd, page = world
    sockets = "[...performance.getEntriesByType('resource')].length"
    assert page.js(sockets)
    daemon.restart()
    for number in range(80, 90):
        crowd.join(f"10.77.0.{number}")
    page.until("document.body.dataset.link === 'live'")
    for number in range(80, 90):
        page.until(eye.row(f"10.77.0.{number}"))
        page.until(f"{eye.events()}.filter(text => text.includes('New 10.77.0.{number}')).length === 1")
    assert any("since=" in url for url in page.requested if url.startswith("ws:"))
