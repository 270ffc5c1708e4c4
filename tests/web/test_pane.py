"""The pane of a device: edits that are not saved, its presence on a direct link, its older events."""

from collections.abc import Iterator

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web import selectors
from tests.web.chromium import Chromium, Page
from tests.web.conftest import CONFIG, URL
from tests.web.past import write_past

TOKEN = "admin-0123456789abcdefghijklmnopqrstuvwxyz"
MAC, OTHER, OLD = "a4:83:e7:00:00:21", "5c:aa:fd:00:00:22", "b8:27:eb:00:00:23"
"""The last one has a past of four weeks."""

SLOW_STREAM = """
const add = WebSocket.prototype.__lookupSetter__('onmessage');
Object.defineProperty(WebSocket.prototype, 'onmessage', {
  set(heard) { add.call(this, heard && ((event) => setTimeout(() => heard.call(this, event), 1500))) },
  get() { return null },
});
"""
"""A script for the browser: the stream is slower than REST."""


@pytest.fixture(scope="module")
def guarded(shared_lab: Lab, chromium_is_there: None) -> Daemon:
    """A daemon with a token for admins."""
    file = shared_lab.folder / "admin-tokens"
    file.write_text(f"admin {TOKEN}\n")
    file.chmod(0o640)
    shared_lab.crowd().populate(["10.77.0.21", "10.77.0.22"], [MAC, OTHER])
    daemon = shared_lab.daemon(f'{CONFIG}\n[access]\ntoken_file = "{file}"\n', start=False)
    write_past(daemon.history, OLD, [], {OLD: "10.77.0.23"}, "10.77.0.0/24@eth0")
    daemon.start()
    return daemon


@pytest.fixture
def admin(browser: Chromium, guarded: Daemon) -> Iterator[Page]:
    """The page with every right, one device open."""
    page = browser.page(URL, width=1360, height=900)
    page.js(f"sessionStorage.setItem('netscand.token', '{TOKEN}')")
    page.go(URL)
    page.until("document.querySelector('#token')?.innerText.includes('admin')")
    page.until(f"{selectors.row('10.77.0.21')} && {selectors.row('10.77.0.22')}")
    show(page, MAC)
    yield page
    page.js(
        "sessionStorage.clear(); [...document.querySelectorAll('#device .draft button')].forEach((it) => it.click())"
    )
    page.close()
    assert not page.errors, page.errors


def show(page: Page, mac: str) -> None:
    """Open a device."""
    page.js(f"location.hash = '{mac}'")
    page.until(f"document.querySelector('#device dl').innerText.includes('{mac}')")


def value(page: Page, selector: str) -> str:
    return str(page.js(f"document.querySelector('{selector}').value"))


def type_label(page: Page, text: str) -> None:
    page.js("document.querySelector('#d-label').focus(), document.querySelector('#d-label').select()")
    page.type(text)


def test_edits_survive_a_look_at_another_device(admin: Page, guarded: Daemon) -> None:
    """They are kept, a notice leads back to them, and nothing of them reaches the other device or the daemon."""
    type_label(admin, "half a lab")
    admin.until("/Not saved yet: label/.test(document.querySelector('#device .draft').innerText)")
    show(admin, OTHER)
    assert value(admin, "#d-label") == ""
    assert admin.js("document.querySelector('#device .draft').hidden")
    admin.until("/not saved/.test(document.querySelector('#notice').innerText)")
    admin.click("#notice-act")
    admin.until(f"location.hash === '#{MAC}'")
    admin.until("document.querySelector('#d-label').value === 'half a lab'")
    admin.key("Escape")
    admin.js("location.hash = ''")
    show(admin, MAC)
    assert value(admin, "#d-label") == "half a lab"
    assert guarded.get(f"/api/devices/{MAC}")["label"] is None


def test_edits_are_discarded_on_request(admin: Page) -> None:
    """And a field that is put back as it was is no edit."""
    type_label(admin, "nonsense")
    admin.js("document.querySelector('#device .draft button').click()")
    admin.until("document.querySelector('#device .draft').hidden")
    assert value(admin, "#d-label") == ""
    admin.click("#device [name=known]")
    admin.until("/known/.test(document.querySelector('#device .draft').innerText)")
    admin.click("#device [name=known]")
    admin.until("document.querySelector('#device .draft').hidden")


def test_leaving_the_page_asks_while_edits_are_not_saved(admin: Page, guarded: Daemon) -> None:
    """The browser asks, by the page's wish; once they are saved it does not."""
    asked = "!dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    assert not admin.js(asked)
    type_label(admin, "Desk")
    assert admin.js(asked)
    admin.js("document.querySelector('#device form').requestSubmit()")
    admin.until("/Saved/.test(document.querySelector('#device .said').innerText)")
    assert not admin.js(asked)
    assert guarded.get(f"/api/devices/{MAC}")["label"] == "Desk"
    guarded.request("PATCH", f"/api/devices/{MAC}", {"label": None})


def test_no_field_sticks_out(admin: Page) -> None:
    """With the rights to edit, too, at every width."""
    for width in (320, 390, 960, 1360):
        admin.resize(width, 800, mobile=width < 960)
        admin.until(f"innerWidth === {width}")
        out = admin.js(
            "(() => { const pane = document.querySelector('#device').getBoundingClientRect();"
            " return [...document.querySelectorAll('#device > :not(header) *')].filter((it) => it.checkVisibility()"
            " && it.getBoundingClientRect().right > pane.right - 15.5).map((it) => it.outerHTML.slice(0, 60)) })()"
        )
        assert out == [], width


def test_forget_says_what_stays(admin: Page) -> None:
    """Past events stay."""
    admin.click("#device .danger")
    admin.until("document.querySelector('#ask-forget').open")
    assert "events stay in the history" in admin.js("document.querySelector('#forget-why').innerText")
    admin.click("#ask-forget [value=cancel]")


def test_forget_deletes_past_events_on_request(admin: Page, guarded: Daemon, shared_lab: Lab) -> None:
    """From the history, and from what the page shows of it."""
    crowd = shared_lab.crowds[-1]
    mac = crowd.join("10.77.0.70", "3c:d9:2b:00:00:70")
    admin.until(selectors.row("10.77.0.70"))
    shown = f"[...document.querySelectorAll('#event-list li')].some((item) => item.textContent.includes('{mac}'))"
    admin.until(shown)
    crowd.leave(mac)
    show(admin, mac)
    admin.js("document.querySelector('#device .danger').scrollIntoView()")
    admin.click("#device .danger")
    admin.until("document.querySelector('#ask-forget').open")
    assert not admin.js("document.querySelector('#forget-history').checked")
    admin.click("#forget-history")
    admin.click("#ask-forget [value=forget]")
    admin.until("/events? deleted from the history/.test(document.querySelector('#notice').innerText)")
    admin.until(f"!{shown}")
    assert not [
        each for each in guarded.get("/api/events?last=500")["events"] if (each["device"] or {}).get("mac") == mac
    ]


def test_a_label_that_another_device_has_is_reported(admin: Page, guarded: Daemon) -> None:
    """What the daemon warns of stands beside "Saved"."""
    guarded.request("PATCH", f"/api/devices/{OTHER}", {"label": "Twin"})
    type_label(admin, "Twin")
    admin.js("document.querySelector('#device form').requestSubmit()")
    admin.until("/Saved. .*Twin/.test(document.querySelector('#device .said').innerText)")
    for mac in (MAC, OTHER):
        guarded.request("PATCH", f"/api/devices/{mac}", {"label": None})


def test_the_week_is_right_on_a_direct_link(browser: Chromium, guarded: Daemon) -> None:
    """Whichever comes first, the stream or the answer about presence: no day before it was first seen is offline."""
    page = browser.page()
    page.call("Page.addScriptToEvaluateOnNewDocument", {"source": SLOW_STREAM})
    page.go(f"{URL}#{MAC}")
    page.until("!!document.querySelector('#device .week')")
    text = page.js("document.querySelector('#device .week').ariaLabel")
    assert text.count("nothing known") >= 5, text
    assert page.js("document.querySelectorAll('#device .hours rect').length") <= 2
    page.close()


def test_what_the_charts_mean_is_written_below(admin: Page) -> None:
    """A legend with every colour."""
    admin.until("!!document.querySelector('#device .hours')")
    legend = admin.js("document.querySelector('#device .legend').innerText")
    assert [word.strip() for word in legend.splitlines() if word.strip()] == [
        "online",
        "offline",
        "unknown",
        "not seen yet",
    ]
    assert admin.js("document.querySelector('#device .hours').getAttribute('role')") == "img"


def test_older_events_of_a_device(admin: Page, guarded: Daemon) -> None:
    """Fifty at first, all by the button."""
    stored = len(guarded.get(f"/api/devices/{OLD}/events?last=500")["events"])
    assert 50 < stored < 100
    show(admin, OLD)
    count = "document.querySelectorAll('#device ol li').length"
    admin.until(f"{count} === 50")
    admin.js("document.querySelector('#device .older').click()")
    admin.until(f"{count} === {stored}")
    assert "Discovered" in admin.js("document.querySelector('#device ol').lastElementChild.textContent")
    assert admin.js("document.querySelector('#device .older').hidden")


def test_the_patience_has_the_unit_of_netscanctl(admin: Page, guarded: Daemon) -> None:
    """90 s are 90 s, not 2 min."""
    guarded.request("PATCH", f"/api/devices/{MAC}", {"patience": 90})
    admin.until("/Patience\\s+90 s/.test(document.querySelector('#device dl').innerText)")
    guarded.request("PATCH", f"/api/devices/{MAC}", {"patience": None})
