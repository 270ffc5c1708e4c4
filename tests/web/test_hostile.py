"""Hostile text and hostile pages (FAULTS T3, T5, T6, T7), in a real browser."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer

import pytest

from tests.core.built_frames import dhcp, mdns
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.web import selectors
from tests.web.chromium import BrowserFailed, Chromium, Page
from tests.web.conftest import URL

EVIL = "<img src=x onerror=\"window.hacked='it ran'\"><script>window.hacked='it ran'</script>"

REWRITE = f"""
const parse = JSON.parse, evil = {json.dumps(EVIL)};
Response.prototype.json = async function () {{ return JSON.parse(await this.text()) }};
JSON.parse = text => {{
  const told = parse(text);
  for (const device of [...(told.devices || []), told.device].filter(Boolean)) {{
    Object.assign(device, {{hostname: evil, hostname_source: evil, notes: evil, vendor: evil, reason: evil}});
    if (device.ip === '10.77.0.21') device.label = evil;
  }}
  for (const network of told.networks || []) network.why = evil;
  if (told.type === 'event') told.reason = evil;
  return told;
}};
"""
"""The daemon cleans names where they enter. This acts as one that does not."""


@pytest.fixture
def lan(shared_lab: Lab, daemon: Daemon) -> Lab:
    if not shared_lab.crowds:
        shared_lab.crowd().populate(["10.77.0.21", "10.77.0.22"])
    return shared_lab


def test_a_script_in_a_name_is_letters(browser: Chromium, lan: Lab) -> None:
    """In the table, the pane of a device, events and networks: text nodes only (T7)."""
    page = browser.page(width=1440, height=900)
    page.call("Page.addScriptToEvaluateOnNewDocument", {"source": REWRITE})
    page.go(URL)
    page.until(selectors.row("10.77.0.21"))
    mac = lan.crowds[0].join("10.77.0.60")
    page.until("document.querySelectorAll('#event-list li').length")
    for view in ("networks", "events"):
        page.click(f".views [data-view={view}]")
        page.until(f"document.querySelector('#{view}').innerText.includes('<img src=x')")
    page.js(f"location.hash = '{mac}'")
    page.until("document.querySelector('#device').innerText.includes('<script>')")
    assert page.js(selectors.row("10.77.0.21")).count("<img src=x") >= 2
    assert page.js("document.querySelectorAll('[onerror], img[src=x], body script').length") == 0
    assert page.js("window.hacked ?? null") is None
    lan.crowds[0].leave(mac)
    page.close()


@pytest.mark.parametrize("way", ["dhcp", "mdns"])
def test_a_device_that_names_itself_a_script_shows_letters(browser: Chromium, lan: Lab, way: str) -> None:
    """From the wire to the page, by a real daemon: the letters of its name, and nothing runs (T7)."""
    said = "<img src=x onerror=alert(1)>"
    mac, ip = ("a4:83:e7:00:00:61", "10.77.0.61") if way == "dhcp" else ("a4:83:e7:00:00:62", "10.77.0.62")
    page = browser.page(width=1440, height=900)
    page.go(URL)
    lan.crowds[0].join(ip, mac)
    page.until(selectors.row(ip))
    if way == "dhcp":
        lan.crowds[0].send(dhcp("request", ("requested_addr", ip), ("hostname", said), mac=mac))
    else:
        lan.crowds[0].send(mdns((f"{said}.local.", "A", ip), source=ip, mac=mac))
    page.until(f"({selectors.row(ip)}).includes('<img src=x')")
    assert page.js("document.querySelectorAll('[onerror], img[src=x]').length") == 0
    assert not page.errors
    lan.crowds[0].leave(mac)
    page.close()


def test_the_policy_forbids_what_the_code_never_does(page: Page, lan: Lab) -> None:
    """Were a line of the page to parse text as markup, or run it, the browser would refuse (T7)."""
    for attempt in ("document.body.innerHTML = '<b>x</b>'", "setTimeout('window.hacked = 1', 0)", "eval('1')"):
        with pytest.raises(BrowserFailed, match=r"TrustedHTML|TrustedScript|Content Security Policy"):
            page.js(attempt)
    page.js("{ const s = document.createElement('script'); s.append('window.hacked = 1'); document.head.append(s) }")
    page.js("fetch('http://10.77.0.1/').catch(() => 0)")
    page.js("{ const i = new Image(); i.src = 'http://10.77.0.1/x.png'; document.body.append(i) }")
    for refusal in ("connect-src", "img-src"):
        page.until_told(lambda refusal=refusal: any(refusal in error for error in page.errors))  # type: ignore[misc]
    assert page.js("window.hacked ?? null") is None
    page.errors.clear()


ATTEMPTS = Path(__file__).with_name("attempts.js").read_text()


@contextmanager
def site(lab: Lab, ip: str, port: int) -> Iterator[str]:
    """Somebody else's web site at the watcher: one empty page."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><link rel=icon href=data:,><body>")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingTCPServer((ip, port), Site, bind_and_activate=False)  # an HTTPServer would look its own name up
    server.daemon_threads = True
    server.allow_reuse_address = True
    server.socket.close()
    server.socket = lab.watcher.space.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.server_bind()
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{ip}:{port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_page_of_another_origin_gets_nothing(browser: Chromium, lan: Lab, daemon: Daemon) -> None:
    """It reads no answer, hears no stream, starts no scan, frames no page (T5)."""
    with site(lan, "10.77.0.2", 9000) as url:
        page = browser.page(url)
        got = page.js(ATTEMPTS)
        page.close()
    assert got == dict.fromkeys(("fetch", "blind", "scan", "module", "changes", "full", "frame"), "refused")


def test_a_page_of_this_host_may_listen(browser: Chromium, lan: Lab, daemon: Daemon) -> None:
    """As the push document has it: a page of localhost, on any port, and the stream only."""
    with site(lan, "127.0.0.1", 3000) as url:
        page = browser.page(url)
        got = page.js(ATTEMPTS)
        page.close()
    assert json.loads(got["changes"])["type"] == "initial_state"
    assert json.loads(got["full"])["type"] == "initial_state"
    assert got["fetch"] == "refused"


def test_a_name_that_leads_to_loopback_gets_nothing(lan: Lab, daemon: Daemon) -> None:
    """DNS rebinding: the page that evil.example is served is a refusal (T6)."""
    with Chromium(lan.watcher.space, "--host-resolver-rules=MAP evil.example 127.0.0.1") as browser:
        page = browser.page()
        page.call("Page.setBypassCSP", {"enabled": True})  # the evil page was there before its name led here
        page.go("http://evil.example:8000/")
        page.until("document.body.innerText")
        assert "nknown host name" in page.js("document.body.innerText")
        assert page.js("fetch('/api/devices').then(answer => answer.status)") == 421
        page.js(
            "window.socket = new WebSocket('ws://evil.example:8000/ws'), socket.onmessage = () => window.heard = 1, 0"
        )
        page.until("socket.readyState === 3")
        assert page.js("window.heard ?? null") is None
