"""A browser at the watcher of a lab, where the daemon is."""

from collections.abc import Iterator

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web.chromium import Chromium, Page, installed

CONFIG = """
[scan]
interval = 3
[presence]
patience = [10, 10]
[names]
sources = ["dhcp", "mdns", "dns"]
"""
"""Without NBNS: to ask by it, the kernel asks who is there, and knows it then, which is another evidence."""
URL = "http://127.0.0.1:8000/"

SENT = """
window.sent = [];
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (text) { sent.push(JSON.parse(text)); return send.call(this, text) };
"""
"""A script for the browser: notes what the page says on its stream."""


@pytest.fixture(scope="session")
def chromium_is_there() -> None:
    """For tests that need one."""
    if installed() is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def browser(shared_lab: Lab, chromium_is_there: None) -> Iterator[Chromium]:
    """A browser that reaches the lab and nothing else."""
    with Chromium(shared_lab.watcher.space) as made:
        yield made


@pytest.fixture(scope="module")
def daemon(shared_lab: Lab) -> Daemon:
    """The daemon that the tests of a file share."""
    shared_lab.gateway()
    return shared_lab.daemon(CONFIG)


@pytest.fixture
def page(browser: Chromium, daemon: Daemon) -> Iterator[Page]:
    """The page, live. A test that leaves an error in its console has failed."""
    made = browser.page(URL, width=1440, height=900)
    made.until("document.body.dataset.link === 'live'")
    yield made
    made.close()
    assert not made.errors, made.errors
