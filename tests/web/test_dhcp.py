"""What DHCP shows of a device, and another DHCP server or gateway than the configuration expects, on the page."""

import json
from collections.abc import Iterator

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Host, Lab
from tests.lab.test_daemon import wait_for
from tests.lab.test_passive import NO_SCANS, dhclient, dnsmasq
from tests.web import selectors
from tests.web.chromium import Chromium, Page
from tests.web.conftest import URL
from tests.web.test_lan import run

EXPECTED = {"cidr": "10.77.0.0/24", "expected_dhcp": ["10.77.0.1"], "expected_gateway": ["02:00:00:00:00:99"]}
FACTS = "document.querySelector('#device dl').innerText.replace(/\\s+/g, ' ')"


@pytest.fixture(scope="module")
def laptop(shared_lab: Lab, chromium_is_there: None) -> Host:
    """A host that has no lease yet."""
    return shared_lab.host(None)


@pytest.fixture(scope="module")
def daemon(shared_lab: Lab, laptop: Host) -> Daemon:
    """A daemon with one lease on its LAN, a DHCP server and a gateway that are not expected."""
    gateway = shared_lab.gateway()
    daemon = shared_lab.daemon({**NO_SCANS, "network": [EXPECTED]})
    dnsmasq(gateway, "--dhcp-range=10.77.0.100,10.77.0.110,1h")
    dhclient(laptop, "janes-laptop")
    wait_for("the lease", lambda: (daemon.get(f"/api/devices/{laptop.mac}")["dhcp"] or {}).get("lease_seconds"))
    dnsmasq(shared_lab.host("10.77.0.66"), "--dhcp-range=10.77.0.200,10.77.0.210,1h")
    dhclient(shared_lab.host(None), "other")
    wait_for("both problems", lambda: len(daemon.get("/api/status")["problems"]) == 2)
    return daemon


@pytest.fixture
def phone(browser: Chromium, daemon: Daemon) -> Iterator[Page]:
    """The page on the narrowest screen."""
    page = browser.page(URL, width=320, height=640)
    page.resize(320, 640, mobile=True)
    page.go(URL)
    page.until("document.body.dataset.link === 'live'")
    yield page
    page.close()
    assert not page.errors, page.errors


def fits(page: Page, part: str) -> None:
    """Nothing scrolls sideways, and nothing in this part of the page is cut off."""
    assert page.js("document.documentElement.scrollWidth") == 320
    out = "it.getBoundingClientRect().right > innerWidth + 0.5 || it.clientWidth && it.scrollWidth > it.clientWidth + 1"
    seen = f"[...document.querySelectorAll('{part}, {part} *')].filter((it) => it.checkVisibility())"
    assert page.js(f"{seen}.filter((it) => {out}).map((it) => it.outerHTML.slice(0, 80))") == []


def test_the_lease_of_a_device_is_shown_in_words(phone: Page, laptop: Host) -> None:
    """Its server, address and length; and that its address is that of the lease."""
    phone.js(f"location.hash = '{laptop.mac}'")
    phone.until(f"{FACTS}.includes('(by DHCP)')")
    facts = phone.js(FACTS)
    ip = facts.split(" (by DHCP)")[0].split()[-1]
    assert f"DHCP lease {ip} from 10.77.0.1, for 1 h, received" in facts
    fits(phone, "#device > :not(header)")


@pytest.mark.parametrize(
    ("lease", "text"),
    [
        ({"lease_seconds": None}, "10.0.0.9 from 10.0.0.1, length not received, received 5 min ago"),
        ({"lease_seconds": 0xFFFFFFFF}, "10.0.0.9 from 10.0.0.1, without end, received 5 min ago"),
        (
            {"address": None, "client_id": "ff12"},
            "no address from 10.0.0.1, for 1 d, received 5 min ago; client id ff12",
        ),
    ],
)
def test_a_lease_in_words(phone: Page, lease: dict[str, object], text: str) -> None:
    """As `netscanctl show` has it."""
    whole = {
        "address": "10.0.0.9",
        "server": "10.0.0.1",
        "lease_seconds": 86400,
        "client_id": None,
        "received": "",
    } | lease
    assert run(phone, f"return (await import('/web/words.js')).leaseOf({json.dumps(whole)}, () => 300)") == text


def test_a_device_without_a_lease_has_none_on_the_page(phone: Page, shared_lab: Lab) -> None:
    rogue = next(host for host in shared_lab.hosts if host.address and host.ip == "10.77.0.66")
    phone.js(f"location.hash = '{rogue.mac}'")
    phone.until(f"{FACTS}.includes('{rogue.mac}')")
    phone.until(f"{FACTS}.includes('Last own frame')")  # only the answer about this device has it
    assert "DHCP lease" not in phone.js(FACTS)
    assert "by DHCP" not in phone.js(FACTS)


def test_what_is_not_expected_is_an_event_and_a_problem(phone: Page) -> None:
    """At once; the expected server is neither."""
    phone.click(".views [data-view=events]")
    phone.until(
        f"{selectors.events()}.some(text => /DHCP server seen.*not in expected_dhcp of 10.77.0.0.24/.test(text))"
    )
    phone.until(f"{selectors.events()}.some(text => /Gateway changed.*not in expected_gateway/.test(text))")
    shown = phone.js(selectors.events())
    assert len([text for text in shown if "DHCP server" in text]) == 1
    fits(phone, "#event-list")
    phone.click(".views [data-view=networks]")
    problems = "document.querySelector('.problems').innerText"
    phone.until(f"/10.77.0.66 .* serves DHCP, which is not expected there/.test({problems})")
    phone.until(f"/10.77.0.1 .* is the gateway, which is not expected there/.test({problems})")
    fits(phone, "#networks")
