"""`[access] loopback_admin` on the page: the kernel says whose browser it is."""

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web import selectors
from tests.web.chromium import Chromium
from tests.web.conftest import CONFIG, URL
from tests.web.test_annotate import MAC


@pytest.fixture(scope="module")
def daemon(shared_lab: Lab, chromium_is_there: None) -> Daemon:
    """A daemon whose page is admin for a browser of root, as that of these tests is."""
    shared_lab.crowd().populate(["10.77.0.21"], [MAC])
    return shared_lab.daemon(f"{CONFIG}\n[access]\nloopback_admin = true\n")


def test_on_loopback_the_page_of_an_admin_needs_no_token(browser: Chromium, daemon: Daemon) -> None:
    """The fields are open; what is entered is saved, and the stream scans."""
    page = browser.page(URL)
    page.until("document.querySelector('#token-role').innerText === 'role: admin'")
    page.until(selectors.row("10.77.0.21"))
    page.js(f"location.hash = '{MAC}'")
    page.until("document.querySelector('#device fieldset')?.disabled === false")
    page.js("document.querySelector('#d-label').select()")
    page.type("named without a token")
    page.js("document.querySelector('#device form .main').scrollIntoView()")
    page.click("#device fieldset .main")
    page.until("document.querySelector('.said').innerText === 'Saved.'")
    assert daemon.get(f"/api/devices/{MAC}")["label"] == "named without a token"
    page.close()
    assert not page.errors
