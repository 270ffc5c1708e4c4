"""The button that wakes a device: where it is, what it sends, and what it says."""

from collections.abc import Callable, Iterator

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web.chromium import Chromium, Page
from tests.web.conftest import CONFIG, URL

TOKENS = {role: f"{role}-0123456789abcdefghijklmnopqrstuvwxyz" for role in ("scan", "admin")}
AWAKE, ASLEEP = "a4:83:e7:00:00:21", "5c:aa:fd:00:00:22"
SAID = "document.querySelector('#device .said').innerText"
SHOWN = "document.querySelector('#device .wake').checkVisibility()"

ANOTHER_TOKEN = f"""
const fetched = window.fetch;
window.fetch = (url, how) => fetched(url, String(url).endsWith("/wake")
  ? {{ ...how, headers: {{ ...how.headers, Authorization: "Bearer {TOKENS["scan"]}" }} }} : how);
"""
"""A script for the browser: since the page was loaded, its token has lost the role `admin`."""


@pytest.fixture(scope="module")
def config(shared_lab: Lab) -> str:
    file = shared_lab.folder / "wake-tokens"
    file.write_text("".join(f"{role} {token}\n" for role, token in TOKENS.items()))
    file.chmod(0o640)
    return f'{CONFIG}\n[access]\ntoken_file = "{file}"\n'


@pytest.fixture(scope="module")
def guarded(shared_lab: Lab, config: str, chromium_is_there: None) -> Daemon:
    """A daemon that sees one device online, and one offline."""
    crowd = shared_lab.crowd()
    crowd.populate(["10.77.0.21", "10.77.0.22"], [AWAKE, ASLEEP])
    return shared_lab.daemon(config)


@pytest.fixture
def open_as(browser: Chromium, guarded: Daemon, shared_lab: Lab) -> Iterator[Callable[[str, str], Page]]:
    """Opens the page of a device with the token of a role."""
    opened: list[Page] = []

    def go(role: str, mac: str) -> Page:
        page = browser.page(URL, width=1360, height=900)
        opened.append(page)
        page.js(f"sessionStorage.setItem('netscand.token', '{TOKENS[role]}')")
        page.go(f"{URL}#{mac}")
        page.until(f"document.querySelector('#token')?.innerText.includes('{role}')")
        page.until(f"document.querySelector('#device dl').innerText.includes('{mac}')")
        return page

    yield go
    shared_lab.crowds[0].join("10.77.0.22", ASLEEP)
    for page in opened:
        page.until("document.querySelector('#device .verdict b').innerText.startsWith('online')")
        page.js("sessionStorage.clear()")
        page.close()


def asleep(lab: Lab, page: Page) -> None:
    """Let the device be offline."""
    lab.crowds[0].leave(ASLEEP)
    page.until("/^offline/.test(document.querySelector('#device .verdict b').innerText)")


def wake(page: Page) -> None:
    page.js("document.querySelector('#device .wake').scrollIntoView()")
    page.click("#device .wake")


def test_the_button_wakes_a_device_that_is_offline(open_as: Callable[[str, str], Page], shared_lab: Lab) -> None:
    """Another host sees both magic packets; once the device is online, there is no button any more."""
    page = open_as("admin", ASLEEP)
    assert not page.js(SHOWN)
    asleep(shared_lab, page)
    page.until(SHOWN)
    content = b"\xff" * 6 + 16 * bytes.fromhex(ASLEEP.replace(":", ""))
    with shared_lab.capture(shared_lab.host("10.77.0.40")) as capture:
        wake(page)
        page.until(f"{SAID} === 'Magic packet sent on 10.77.0.0/24@eth0.'")
        assert len([frame for frame in capture.frames() if content in frame.data]) == 2
    assert any(url.endswith("/wake") for url in page.requested)
    shared_lab.crowds[0].join("10.77.0.22", ASLEEP)
    page.until(f"!{SHOWN}")
    shared_lab.crowds[0].leave(ASLEEP)
    assert not page.errors


def test_only_an_admin_gets_the_button(open_as: Callable[[str, str], Page], shared_lab: Lab) -> None:
    page = open_as("scan", ASLEEP)
    asleep(shared_lab, page)
    page.until("/role admin; it has the role scan/.test(document.querySelector('#device .unlock').innerText)")
    assert not page.js(SHOWN)
    assert not page.errors


def test_a_refusal_is_shown_in_words(
    open_as: Callable[[str, str], Page], guarded: Daemon, config: str, shared_lab: Lab
) -> None:
    """The limits of frames are used up; then a token that is no longer an admin's."""
    page = open_as("admin", ASLEEP)
    asleep(shared_lab, page)
    page.until(SHOWN)
    guarded.configure(config.replace("[scan]", "[scan]\nbackground_rate = 0.1"))
    assert guarded.request("POST", "/api/reload")[0] == 204
    wake(page)
    used_up = "10.77.0.0/24@eth0: the limits of frames in [scan] are used up; try again later."
    page.until(f"{SAID} === 'netscand is busy: {used_up}'")
    guarded.configure(config)
    assert guarded.request("POST", "/api/reload")[0] == 204
    page.until("document.body.dataset.link === 'live'")
    page.js(ANOTHER_TOKEN)
    page.until("!document.querySelector('#device .wake').disabled")
    wake(page)
    page.until(f"/^Waking a device requires role .admin. .you have .scan./.test({SAID})")
