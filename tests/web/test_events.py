"""The list of events: older ones, a filter by kind and by day; settings; and what is shown while the daemon is away."""

from datetime import datetime, timedelta

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web import selectors
from tests.web.chromium import Chromium, Page
from tests.web.conftest import CONFIG, URL

TOKEN = "admin-0123456789abcdefghijklmnopqrstuvwxyz"
MAC = "a4:83:e7:00:00:21"
LABELLED = 230
"""Events that fill more than a page."""
ITEMS = "[...document.querySelectorAll('#event-list li')]"


@pytest.fixture(scope="module")
def daemon(shared_lab: Lab, chromium_is_there: None) -> Daemon:
    """A daemon with more events than the page shows at first."""
    file = shared_lab.folder / "event-tokens"
    file.write_text(f"admin {TOKEN}\n")
    file.chmod(0o640)
    crowd = shared_lab.crowd()
    addresses = shared_lab.addresses(LABELLED, start=11)
    crowd.populate([*addresses[1:]])
    crowd.join(addresses[0], MAC)
    return shared_lab.daemon(f'{CONFIG}\n[access]\ntoken_file = "{file}"\n')


@pytest.fixture
def filled(page: Page, daemon: Daemon) -> Page:
    """The page, once everybody was found."""
    page.until(f"{selectors.COUNT} >= {LABELLED}")
    page.go(URL)
    page.until(f"{ITEMS}.length >= 100 && {selectors.ROWS}.length > 3 && document.body.dataset.link === 'live'")
    return page


def test_older_events_are_read_by_a_button(filled: Page) -> None:
    """Until the first one; then there is no button any more; new ones still come."""
    filled.until("!document.querySelector('#older').hidden")
    before = filled.js(f"{ITEMS}.length")
    filled.js("document.querySelector('#older').click()")
    filled.until(f"{ITEMS}.length > {before}")
    for _ in range(5):
        if filled.js("document.querySelector('#older').hidden"):
            break
        shown = filled.js(f"{ITEMS}.length")
        filled.js("document.querySelector('#older').click()")
        filled.until(f"{ITEMS}.length > {shown} || document.querySelector('#older').hidden")
    assert filled.js("document.querySelector('#older').hidden")
    assert "Network up" in filled.js(f"{ITEMS}.at(-1).textContent")
    times = filled.js(f"{ITEMS}.map((item) => item.querySelector('time').dateTime)")
    assert times == sorted(times, reverse=True)


def test_events_of_one_kind(filled: Page, daemon: Daemon) -> None:
    """From the history and from the stream."""
    filled.choose("#event-kinds", "labelled")
    filled.until("/No such events/.test(document.querySelector('#no-events').innerText)")
    daemon.request("PATCH", f"/api/devices/{MAC}", {"notes": "seen"})
    filled.until(f"{ITEMS}.length === 1 && /Labelled/.test({ITEMS}[0].textContent)")
    filled.go(URL)
    filled.until(f"{ITEMS}.length > 100")
    filled.choose("#event-kinds", "renamed,kind_changed,labelled,merged,split")
    group = "/Labelled|Renamed|Kind changed|Merged|Separated/"
    filled.until(f"{ITEMS}.length >= 1 && {ITEMS}.every((item) => {group}.test(item.textContent))")
    daemon.request("PATCH", f"/api/devices/{MAC}", {"notes": None})


def test_events_until_a_day(filled: Page) -> None:
    """Of a day before the first event, none; new ones are not mixed in. Today, all."""
    yesterday = datetime.now().astimezone() - timedelta(days=1)
    filled.choose("#event-day", yesterday.strftime("%Y-%m-%d"))
    filled.until(f"{ITEMS}.length === 0")
    filled.choose("#event-day", datetime.now().astimezone().strftime("%Y-%m-%d"))
    filled.until(f"{ITEMS}.length >= 100")


def test_a_discovered_device_is_described(filled: Page) -> None:
    """By its vendor and MAC: an address says little."""
    filled.choose("#event-kinds", "discovered")
    filled.until(f"{ITEMS}.length >= 100 && {ITEMS}.every((item) => /Discovered/.test(item.textContent))")
    filled.until(f"{ITEMS}.every((item) => /([0-9a-f]{{2}}:){{5}}/.test(item.textContent))")


def test_the_settings_are_those_in_force(browser: Chromium, daemon: Daemon) -> None:
    """For an admin: each key, those that differ from their default marked; nobody else gets them."""
    page = browser.page(URL, width=1360, height=900)
    page.until("document.body.dataset.link === 'live'")
    page.click(".views [data-view=networks]")
    page.js("document.querySelector('#settings').open = true")
    page.until("/requires role/.test(document.querySelector('#settings').innerText)")
    page.js(f"sessionStorage.setItem('netscand.token', '{TOKEN}')")
    page.go(URL)
    page.until("document.querySelector('#token')?.innerText.includes('admin')")
    page.click(".views [data-view=networks]")
    page.js("document.querySelector('#settings summary').click()")
    page.until("/\\[scan\\]/.test(document.querySelector('#settings').innerText)")
    text = page.js("document.querySelector('#settings').innerText")
    assert "3 (default: 30)" in text
    assert "[history]" in text
    assert TOKEN not in text
    assert "3 (default: 30)" in page.js("[...document.querySelectorAll('#settings .chosen')].map((it) => it.innerText)")
    page.js("sessionStorage.clear()")
    page.close()
    assert not [error for error in page.errors if "403" not in error]


def test_rows_are_dimmed_while_the_daemon_is_away(filled: Page, daemon: Daemon) -> None:
    """Their status is that of the last update; when it is back, they are as before."""
    style = "getComputedStyle(document.querySelector('#table [data-mac]'))"
    look = f"{style}.opacity + {style}.filter"
    assert filled.js(look) == "1none"
    daemon.kill()
    try:
        filled.until("document.body.dataset.link !== 'live'")
        filled.until(f"{look} === '0.55grayscale(1)'")
        filled.until("document.querySelector('#link-words').innerText.includes('not connected')")
    finally:
        daemon.start()
    filled.until(f"document.body.dataset.link === 'live' && {look} === '1none'")
