"""Devices that the user does not know: their filter, the mark of the others, and the badge of new ones."""

import json

import pytest

from tests.core import built_frames
from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web import selectors
from tests.web.chromium import Chromium, Page
from tests.web.conftest import URL

PI, TV = "b8:27:eb:00:00:23", "5c:aa:fd:00:00:22"
PI_IP, TV_IP = "10.77.0.23", "10.77.0.22"
NAME = "A very long label of a weather station in the garden"


@pytest.fixture(scope="module")
def crowd(shared_lab: Lab, daemon: Daemon) -> Crowd:
    """Two devices; one has a name, a label and the mark."""
    made = shared_lab.crowd()
    made.populate([PI_IP, TV_IP], [PI, TV])
    made.join("10.77.0.24")
    frame = built_frames.mdns(("a-long-host-name-of-a-raspberrypi.local.", "A", PI_IP), source=PI_IP, mac=PI)
    made.send(frame)
    return made


@pytest.fixture
def full(page: Page, crowd: Crowd, daemon: Daemon) -> Page:
    """The page, with the Pi known and named."""
    for ip in (PI_IP, TV_IP):
        page.until(selectors.row(ip))
    daemon.request("PATCH", f"/api/devices/{PI}", {"label": NAME, "known": True})
    page.until(f"/{NAME}/.test({selectors.row(PI_IP)})")
    return page


def test_the_chip_leaves_those_that_are_not_known(full: Page, daemon: Daemon) -> None:
    """With their number; a device that is marked leaves the list at once; the address bar remembers."""
    full.click("#not-known + span")
    full.until(f"!{selectors.row(PI_IP)} && !!{selectors.row(TV_IP)}")
    assert not full.js(selectors.row("10.77.0.2")), "this host needs no mark"
    rows = full.js(f"{selectors.ROWS}.length")
    assert int(full.js("document.querySelector('#count-not-known').textContent")) == rows
    full.until("new URLSearchParams(location.search).get('known') === 'false'")
    daemon.request("PATCH", f"/api/devices/{TV}", {"known": True})
    full.until(f"!{selectors.row(TV_IP)}")
    full.until(f"document.querySelector('#count-not-known').textContent === '{rows - 1}'")
    daemon.request("PATCH", f"/api/devices/{TV}", {"known": False})
    full.until(selectors.row(TV_IP))


def test_the_address_bar_filters(browser: Chromium, full: Page) -> None:
    """?known=false opens that view."""
    page = browser.page(f"{URL}?known=false")
    page.until(selectors.row(TV_IP))
    assert page.js("document.querySelector('#not-known').checked")
    assert not page.js(selectors.row(PI_IP))
    page.close()


@pytest.mark.parametrize("width", [320, 390, 960, 1024, 1360, 1920])
def test_the_kind_and_on_a_phone_the_tags_are_not_cut(full: Page, daemon: Daemon, width: int) -> None:
    """However long the name is: the name is cut, and keeps some letters."""
    daemon.request("PATCH", f"/api/devices/{PI}", {"tags": ["garden", "iot", "weather"], "kind": "access_point"})
    full.resize(width, 800, mobile=width < 960)
    full.until(f"innerWidth === {width}")
    cell = ".c-vendor" if width < 960 else ".c-name"
    full.until(
        f"""(() => {{
        const row = document.querySelector('[data-mac="{PI}"]');
        const whole = (it, {{ left, right }}) => it?.width > 9 && it.right <= right + .5 && it.left >= left - .5;
        const box = (of) => row?.querySelector(of)?.getBoundingClientRect();
        const seen = (at) => document.elementFromPoint(at.x + at.width / 2, at.y + at.height / 2);
        const kind = box('.kind .icon'), tags = [...(row?.querySelectorAll('{cell} .tag.own') || [])];
        const vendor = row?.querySelector('.c-vendor');
        return whole(kind, box('.c-name')) && seen(kind).closest('.kind') && box('.called').width >= 50
          && tags.length === 3 && (innerWidth >= 960 || vendor.scrollWidth <= vendor.clientWidth)
          && ({width} >= 960 || tags.every((it) => whole(it.getBoundingClientRect(), box('.c-vendor'))
            && seen(it.getBoundingClientRect()) === it));
        }})()"""
    )
    full.until("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [320, 390, 960, 1024, 1360, 1920])
def test_the_mark_is_never_cut(full: Page, width: int) -> None:
    """Nor covered: it stands before the name, at every width, however long the names are."""
    full.resize(width, 800, mobile=width < 960)
    full.until(f"innerWidth === {width}")
    full.until(
        f"""(() => {{
        const row = document.querySelector('[data-mac="{PI}"]');
        const mark = row?.querySelector('.known')?.getBoundingClientRect();
        const cell = row?.querySelector('.c-name').getBoundingClientRect();
        return mark && mark.width > 5 && mark.left >= cell.left && mark.right <= cell.right
          && row.querySelector('.known').ariaLabel === 'known'
          && document.elementFromPoint(mark.x + mark.width / 2, mark.y + mark.height / 2).closest('.c-name') !== null;
        }})()"""
    )
    full.until("document.documentElement.scrollWidth <= innerWidth")


def test_a_new_device_has_a_badge_until_it_is_known(full: Page) -> None:
    """First seen within a day, and not known."""
    assert "new" in full.js(f"document.querySelector('[data-mac=\"{TV}\"] .new').textContent")
    assert full.js(f"document.querySelector('[data-mac=\"{PI}\"] .new')") is None


@pytest.mark.parametrize("text", ["B827EB000023", "b827.eb00.0023", "b8-27-eb-00", "eb00.0023", "00:00:23", "b827eb"])
def test_a_mac_is_found_in_any_notation(full: Page, text: str) -> None:
    """With colons, dashes, dots or nothing; a part of it is enough."""
    full.js("document.querySelector('#search').focus(), document.querySelector('#search').select()")
    full.type(text)
    full.until(f"JSON.stringify({selectors.column('mac')}) === JSON.stringify(['{PI}'])")


@pytest.mark.parametrize("width", [960, 1024, 1360, 1440])
def test_ages_and_their_heads_are_not_cut(full: Page, width: int) -> None:
    """An age and a head with its arrow fit; the network column takes no room if there is one network."""
    full.resize(width, 800)
    full.click("th.c-last_seen button")
    full.until("document.querySelector('th.c-last_seen').ariaSort")
    cut = full.js(
        """(() => {
        const all = (selector) => [...document.querySelectorAll(selector)];
        for (const cell of all('td.c-last_seen, td.c-first_seen')) cell.textContent = '59 min ago';
        return all('.c-last_seen, .c-first_seen, .c-last_seen button, .c-first_seen button')
          .filter((it) => it.checkVisibility() && it.scrollWidth > it.clientWidth).map((it) => it.className);
        })()"""
    )
    assert cut == []
    assert not full.js("document.querySelector('th.c-network').checkVisibility()")
    assert full.js("document.querySelector('th.c-vendor').checkVisibility()")


def test_a_device_that_was_only_labelled_was_never_seen(full: Page, daemon: Daemon) -> None:
    """Its row says so, and not when it was labelled."""
    mac = "02:00:5e:00:53:99"
    daemon.request("PATCH", f"/api/devices/{mac}", {"label": "Freezer"})
    there = f"document.querySelector('[data-mac=\"{mac}\"]')"
    full.until(f"!!{there}")
    assert full.js(f"['last', 'first'].map((one) => {there}.querySelector(`.c-${{one}}_seen`).textContent)") == [
        "never", "never",
    ]  # fmt: skip
    full.click(f'[data-mac="{mac}"] a')
    full.until("document.querySelector('.verdict b')?.textContent === 'unknown'")
    daemon.request("DELETE", f"/api/devices/{mac}")


def test_the_counts_name_this_host_that_they_leave_out(full: Page) -> None:
    """With it, they are the rows of the list; a search that leaves it out leaves the sentence out."""
    full.until(
        "/^All \\d+ \\+ this host$/.test(document.querySelector('#presence label').innerText.replace(/\\s+/g, ' '))"
    )
    assert full.js(f"{selectors.ROWS}.length") == full.js(selectors.COUNT) + 1
    full.js("document.querySelector('#search').focus()")
    full.type("weather")
    full.until("!document.querySelector('#count-self').checkVisibility()")


def test_this_host_was_seen_now(full: Page) -> None:
    """It sends no frames to itself, and is here."""
    here = f"{selectors.ROWS}.find(row => /this host/.test(row.innerText))"
    full.until(f"/^([5-9]|\\d\\d) s|min/.test({here}.querySelector('.c-first_seen').innerText)")
    assert full.js(f"{here}.querySelector('.c-last_seen').innerText") == "now"


def test_the_shown_devices_are_saved_as_files(full: Page) -> None:
    """CSV and JSON of those that the filters leave, without a request."""
    full.js(
        "window.saved = []; URL.createObjectURL = (blob) => { saved.push(blob); return 'blob:x' };"
        "HTMLAnchorElement.prototype.click = function () { saved.push(this.download) }"
    )
    full.js("document.querySelector('#search').focus()")
    full.type("weather")
    full.until(f"{selectors.ROWS}.length === 1")
    before = len(full.requested)
    for value in ("csv", "json"):
        full.click("#actions summary")
        full.click(f"#actions [value={value}]")
    text, name, listed, other = full.js("Promise.all(saved.map((each) => each.text?.() ?? each))")
    assert name.endswith(".csv")
    assert other.endswith(".json")
    assert text.splitlines()[0].startswith("status,ip,mac,name")
    assert NAME in text.splitlines()[1]
    assert [device["mac"] for device in json.loads(listed)["devices"]] == [PI]
    assert len(full.requested) == before
    assert not full.js("document.querySelector('#actions').open")


def test_filter_and_export_need_no_mouse(full: Page) -> None:
    """Space sets the filter; Enter opens the menu, Tab reaches its entries, Escape closes it."""
    full.js("document.querySelector('#not-known').focus()")
    full.key(" ")
    full.until(f"!{selectors.row(PI_IP)} && !!{selectors.row(TV_IP)}")
    full.js("document.querySelector('#actions summary').focus()")
    full.key("Enter")
    full.until("document.querySelector('#actions').open")
    full.key("Tab")
    assert "CSV" in full.js("document.activeElement.innerText")
    full.key("Escape")
    full.until("!document.querySelector('#actions').open")
    assert full.js("document.activeElement.tagName") == "SUMMARY", "the focus is not lost"
