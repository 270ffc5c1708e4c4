"""A token on the page: by a link, for the tab or for the device; what stands where one is missing or wrong."""

from collections.abc import Iterator

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web import selectors
from tests.web.chromium import Chromium, Page
from tests.web.conftest import CONFIG, URL
from tests.web.test_annotate import MAC, TOKENS, enter

ROLE = "document.querySelector('#token-role').innerText"
OPEN = "document.querySelector('#ask-token').open"


@pytest.fixture(scope="module")
def guarded(shared_lab: Lab, chromium_is_there: None) -> Daemon:
    """A daemon that serves nothing without a token."""
    file = shared_lab.folder / "tokens"
    file.write_text("".join(f"{role} {token}\n" for role, token in TOKENS.items()))
    file.chmod(0o640)
    shared_lab.crowd().populate(["10.77.0.21"], [MAC])
    return shared_lab.daemon(f'{CONFIG}\n[access]\nothers = "none"\ntoken_file = "{file}"\n')


@pytest.fixture
def tab(browser: Chromium, guarded: Daemon) -> Iterator[Page]:
    """A tab of its own, without a page."""
    made = browser.page(width=1440, height=900)
    yield made
    made.js("sessionStorage.clear(), localStorage.clear()")
    made.close()
    assert not made.errors, made.errors


def stored(page: Page) -> list[int]:
    """How much the tab and the device keep."""
    return [page.js(f"{name}.length") for name in ("sessionStorage", "localStorage")]


def test_a_link_hands_its_token_over_and_forgets_it(tab: Page) -> None:
    """T18: it asks, then uses it; no request and no address has it, and a stored one is not replaced unasked."""
    tab.go(f"{URL}#token={TOKENS['read']}")
    tab.until(OPEN)
    assert tab.js("document.querySelector('#token-text').value") == TOKENS["read"]
    assert tab.js("location.href") == URL
    tab.js("document.querySelector('#token-text').focus()")
    tab.key("Enter")
    tab.until(f"{ROLE} === 'role: read'")
    assert not any("token=" in url or TOKENS["read"][:20] in url for url in tab.requested)
    assert stored(tab) == [1, 0]
    tab.js(f"location.hash = '#token={TOKENS['admin']}'")
    tab.until(OPEN)
    tab.click("#ask-token [value=cancel]")
    assert tab.js("location.hash") == ""
    assert tab.js("sessionStorage.getItem('netscand.token')") == TOKENS["read"]
    assert tab.js("document.querySelector('#token-text').value") == ""


def test_a_device_remembers_a_token_only_if_it_is_asked_to(browser: Chromium, tab: Page) -> None:
    """For the tab, another tab asks again; for the device, it does not, until it is forgotten in any of them."""
    tab.go(URL)
    enter(tab, TOKENS["scan"])
    tab.until(f"{ROLE} === 'role: scan'")
    other = browser.page(URL)
    other.until(OPEN)
    other.click("#token-keep")
    enter(other, TOKENS["admin"])
    other.until(f"{ROLE} === 'role: admin'")
    assert stored(other) == [0, 1]
    third = browser.page(URL)
    third.until(f"{ROLE} === 'role: admin'")
    assert not third.js(OPEN)
    third.click("#token")
    third.until(OPEN)
    assert third.js("document.querySelector('#token-keep').checked")
    third.click("#token-drop")
    third.until("!document.querySelector('#locked').hidden")
    assert stored(third) == [0, 0]
    for page in (other, third):
        page.close()
        assert not page.errors


def test_without_a_token_it_says_so_and_how_to_get_one(tab: Page) -> None:
    """On a phone, too: a button in sight, and never "Looking…" without end."""
    tab.resize(320, 640)
    tab.go(URL)
    tab.until(OPEN)
    assert "sudo netscanctl token add admin" in tab.js("document.querySelector('#ask-token').innerText")
    tab.click("#ask-token [value=cancel]")
    tab.until("document.querySelector('#locked').checkVisibility()")
    assert "only with a token" in tab.js("document.querySelector('#notice').innerText")
    assert "Looking" not in tab.js("document.body.innerText")
    for button in ("#locked button", "#token"):
        label = f"document.querySelector('{button}').ariaLabel || document.querySelector('{button}').innerText"
        assert tab.js(label) == "Enter a token"
        assert tab.js(f"document.querySelector('{button}').getBoundingClientRect().right") <= 320
        tab.click(button)
        tab.until(OPEN)
        tab.click("#ask-token [value=cancel]")
    tab.click("#token")
    enter(tab, TOKENS["read"])
    tab.until(selectors.row("10.77.0.21"))
    assert tab.js("document.querySelector('#locked').hidden")
    assert tab.js(ROLE) == "role: read"
    assert tab.js("document.documentElement.scrollWidth") <= 320


def test_a_wrong_or_revoked_token_is_named(tab: Page) -> None:
    """And not kept, for tab or device."""
    tab.go(f"{URL}#token=wrong-0123456789-abcdefghijklmnopqrst")
    tab.until(OPEN)
    tab.click("#token-keep")
    tab.click("#ask-token [value=use]")
    tab.until(
        "/does not know this token: it was mistyped, or revoked/.test(document.querySelector('#token-why').innerText)"
    )
    assert stored(tab) == [0, 0]
    tab.click("#ask-token [value=cancel]")


def test_what_to_do_stands_before_the_fields(tab: Page) -> None:
    """Grey fields are explained above them, with the role that is missing and the way to it."""
    tab.go(f"{URL}#token={TOKENS['scan']}")
    tab.until(OPEN)
    tab.click("#ask-token [value=use]")
    tab.until(f"{ROLE} === 'role: scan'")
    assert tab.js("document.querySelector('#token-do').checkVisibility()")
    tab.js(f"location.hash = '{MAC}'")
    tab.until("document.querySelector('#device .unlock')?.checkVisibility()")
    words = tab.js("document.querySelector('#device .unlock').innerText")
    assert "needs the role admin; it has the role scan" in words
    assert "sudo netscanctl token add admin" in words
    top = "document.querySelector('#device {}').getBoundingClientRect().top"
    assert tab.js(f"{top.format('.unlock')} < {top.format('fieldset')}")
    tab.click("#device .unlock button")
    enter(tab, TOKENS["admin"])
    tab.until("document.querySelector('#device fieldset').disabled === false")
    assert not tab.js("document.querySelector('#device .unlock').checkVisibility()")
    assert not tab.js("document.querySelector('#token-do').checkVisibility()")
