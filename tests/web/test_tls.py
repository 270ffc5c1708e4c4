"""The page over TLS: a browser's own handshakes, its many connections, and the stream."""

from pathlib import Path

import pytest

from tests.lab.lan import Lab
from tests.serve.certificate import certificate
from tests.web import selectors
from tests.web.chromium import Chromium


@pytest.mark.usefixtures("chromium_is_there")
def test_the_page_is_live_over_tls(lab: Lab, tmp_path: Path) -> None:
    """Chromium begins with a key share that netscand does not take, and is asked for another."""
    lab.gateway()
    lab.daemon({"listen": {"tcp": ["127.0.0.1:8443"], **certificate(tmp_path)}, "scan": {"interval": 3}})
    with Chromium(lab.watcher.space, "--ignore-certificate-errors") as browser:
        page = browser.page("https://localhost:8443/", width=1440, height=900)
        page.until("document.body.dataset.link === 'live'")
        lab.crowd().join("10.77.0.50", "3c:d9:2b:00:00:50")
        page.until(selectors.row("10.77.0.50"))
        page.close()
        assert not page.errors, page.errors
