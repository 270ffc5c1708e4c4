"""The page behind real proxies: by the samples of docs/proxy.md, and what it says if a proxy is configured wrongly.

FIELD case 27: it said "connecting…" for ever.
"""

from collections.abc import Iterator

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.proxies import proxy, sample
from tests.serve.house import TOKENS, token_file
from tests.web.chromium import Chromium, Page

LIVE = "document.body.dataset.link === 'live'"
NOTICE = "document.querySelector('#notice').innerText"
SOCKET, TCP = "http://unix:/run/netscand/netscand.sock:/", "http://127.0.0.1:8000/"
HOST = "proxy_set_header Host $http_host;"
UPGRADE = "proxy_set_header Upgrade $http_upgrade;"
CONNECTION = "proxy_set_header Connection $connection_upgrade;"
VERSION = "proxy_http_version 1.1;"


@pytest.fixture(scope="module")
def browser(shared_lab: Lab, chromium_is_there: None) -> Iterator[Chromium]:
    flags = "--host-resolver-rules=MAP scan.lan 127.0.0.1", "--ignore-certificate-errors"
    with Chromium(shared_lab.watcher.space, *flags) as made:
        yield made


@pytest.fixture(scope="module")
def daemon(shared_lab: Lab) -> Daemon:
    shared_lab.gateway()
    return shared_lab.daemon({"access": {"allowed_hosts": ["scan.lan"]}, "scan": {"interval": 3}})


@pytest.fixture(scope="module")
def guarded(shared_lab: Lab, daemon: Daemon) -> Daemon:
    """Return a daemon that shows nothing without a token."""
    access = {"others": "none", "token_file": token_file(shared_lab.folder), "allowed_hosts": ["scan.lan"]}
    made = shared_lab.daemon({"access": access, "listen": {"tcp": ["127.0.0.1:8001"]}, "scan": {"interval": 3}})
    made.socket.chmod(0o666)  # that the kernel refuses www-data is another obstacle
    return made


@pytest.fixture
def page(browser: Chromium) -> Iterator[Page]:
    made = browser.page(width=1440, height=900)
    yield made
    made.call("Network.clearBrowserCookies")
    made.close()
    # Over plain HTTP, browsers ignore it, and say so.
    assert not [error for error in made.errors if "Cross-Origin-Opener-Policy" not in error]


def changed(**changes: str | None) -> str:
    """Return nginx's sample with other text in place of some constants of this module."""
    text = sample("nginx")
    for name, new in changes.items():
        old = globals()[name]
        assert old in text, f"the sample has no {old!r}"
        text = text.replace(old, new or "")
    return text


def complete(page: Page, role: str = "scan") -> None:
    """Wait until the stream and REST work: the events of the past, the health, and a scan."""
    page.until(LIVE)
    page.until(f"document.querySelector('#token-role').innerText === 'role: {role}'")
    page.until("document.querySelectorAll('#event-list li').length")
    page.click(".views [data-view=networks]")
    page.until("/frames/.test(document.querySelector('#networks').innerText)")
    for path in ("api/status", "api/events", "api/networks"):
        assert page.js(f"fetch(location.origin + '/lan/{path}').then(answer => answer.status)") == 200


@pytest.mark.parametrize("program", ["nginx", "caddy", "haproxy"])
def test_the_page_is_live_by_the_sample(shared_lab: Lab, daemon: Daemon, page: Page, program: str) -> None:
    """Under /lan/, and under /lan, which is redirected; Caddy with TLS."""
    with proxy(shared_lab, daemon, program) as url:
        page.go(url)
        complete(page)
        page.choose(".lease select", "1")
        page.until("/Now every 1 s/.test(document.querySelector('#networks').innerText)")
        page.go(url.rstrip("/"))
        complete(page)


WRONG = {
    "n1: the least that people write": (
        {"SOCKET": TCP, "HOST": "", "UPGRADE": "", "CONNECTION": "", "VERSION": ""},
        r"origin is not allowed.*scan\.lan.*127\.0\.0\.1:8000.*pass on Host",
    ),
    "n2: Host is rewritten": ({"SOCKET": TCP, "HOST": ""}, r"origin is not allowed.*pass on Host"),
    "n8: Host is rewritten for the socket": ({"HOST": ""}, r"origin is not allowed.*'localhost'.*pass on Host"),
    "the port is dropped": ({"HOST": "proxy_set_header Host $host:81;"}, "origin is not allowed.*pass on Host"),
    "n16: no Upgrade": ({"UPGRADE": "", "CONNECTION": ""}, "HTTP/1.1 and pass Upgrade and Connection"),
    "no Connection": ({"CONNECTION": ""}, "HTTP/1.1 and pass Upgrade and Connection"),
    "a token of another service": (
        {"HOST": f'{HOST} proxy_set_header Authorization "Bearer of-another-service";'},
        "a proxy sends a token that netscand does not know",
    ),
    "the API goes elsewhere": (
        {"HOST": f"{HOST} }} location /lan/ws {{ return 200 hello;"},
        "a proxy answered instead of netscand, with HTTP 200: does it require a login",
    ),
    "netscand is not there": (
        {"HOST": f"{HOST} }} location /lan/ws {{ proxy_pass http://127.0.0.1:9;"},
        "with HTTP 502: is netscand running.*max_per_peer",
    ),
}


@pytest.mark.parametrize(("changes", "notice"), WRONG.values(), ids=WRONG.keys())
def test_the_page_says_what_is_wrong(
    shared_lab: Lab, daemon: Daemon, page: Page, changes: dict[str, str], notice: str
) -> None:
    """Origin, Upgrade, a token of the proxy: each by its name, with the remedy; and no token is asked for."""
    with proxy(shared_lab, daemon, "nginx", changed(**changes)) as url:
        page.go(url)
        page.until(f"/{notice.replace('/', chr(92) + '/')}.*every 3 s/is.test({NOTICE})")
        assert not page.js("document.querySelector('#ask-token').open")


def test_an_unknown_host_is_named(shared_lab: Lab, daemon: Daemon, page: Page) -> None:
    """n3, c1: over TCP with Host passed on, and without `allowed_hosts`."""
    text = changed(SOCKET=TCP, HOST="proxy_set_header Host other.lan;")
    with proxy(shared_lab, daemon, "nginx", text) as url:
        page.go(url)
        page.until("/nknown host name in the Host header/.test(document.body.innerText)")


def test_a_path_without_its_slash_is_named(shared_lab: Lab, daemon: Daemon, page: Page) -> None:
    """n9: the links of the page lead past the proxy's location; neither style nor script is there."""
    text = sample("nginx").replace("location /lan/ {", "location = /bare {")  # the browser keeps redirects of /lan
    with proxy(shared_lab, daemon, "nginx", text) as url:
        page.go(url.replace("/lan/", "/bare"))
        page.until("/have not been loaded.*end with a slash/.test(document.body.innerText)")
        page.errors.clear()  # the browser's own: a style sheet that is HTML


def test_scripts_that_do_not_come_are_named(shared_lab: Lab, daemon: Daemon, page: Page) -> None:
    """The style hides the words for some seconds, so that they do not flash; then nothing else can show anything."""
    text = changed(HOST=f"{HOST} }} location /lan/web/lan.js {{ return 403;")
    with proxy(shared_lab, daemon, "nginx", text) as url:
        page.go(url)
        page.until("document.querySelector('#unloaded').checkVisibility({visibilityProperty: true})")
        page.errors.clear()


# ---- logins ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passed_on", [True, False])
def test_behind_basic_authentication(shared_lab: Lab, daemon: Daemon, page: Page, passed_on: bool) -> None:
    """n11, n12: nginx passes the credentials on unless it is configured otherwise; REST and the stream need them."""
    users = shared_lab.folder / "users"
    users.write_text("user:{PLAIN}word\n")
    removed = "" if passed_on else 'proxy_set_header Authorization "";'
    text = changed(HOST=f'{HOST} auth_basic "scan"; auth_basic_user_file {users}; {removed}')
    with proxy(shared_lab, daemon, "nginx", text) as url:
        page.go(url.replace("http://", "http://user:word@"))
        complete(page)


LOGIN = 'if ($cookie_login != "yes") { return 302 $scheme://$http_host/login; }'


@pytest.mark.parametrize(
    "refusal", [LOGIN, LOGIN.replace("302 $scheme://$http_host/login", "401"), LOGIN.replace("/login", ":81/login")],
    ids=["redirect", "401", "another origin"],
)  # fmt: skip
def test_behind_a_login_with_a_cookie(shared_lab: Lab, daemon: Daemon, page: Page, refusal: str) -> None:
    """n13: REST sends the cookie as the stream does; once it has expired, the page says so."""
    text = changed(HOST=f"{HOST} {refusal}").replace(
        "location /lan/", "location /login { return 200 x; } location /lan/"
    )
    with proxy(shared_lab, daemon, "nginx", text) as url:
        page.call("Network.setCookie", {"name": "login", "value": "yes", "url": url, "httpOnly": True})
        page.go(url)
        complete(page)
        page.call("Network.clearBrowserCookies")
        page.js("window.stays = 1")
        daemon.restart()
        page.until(f"/a proxy requires a login: reload this page/.test({NOTICE}.toLowerCase())")
        assert page.js("window.stays") == 1
        assert not page.js("document.querySelector('#ask-token').open")


# ---- tokens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["read", "admin"])
def test_a_token_of_the_proxy(shared_lab: Lab, guarded: Daemon, page: Page, role: str) -> None:
    """n14: with `others = "none"`."""
    text = changed(HOST=f'{HOST} proxy_set_header Authorization "Bearer {TOKENS[role]}";')
    with proxy(shared_lab, guarded, "nginx", text) as url:
        page.go(url)
        complete(page, role)


@pytest.mark.parametrize("program", ["nginx", "caddy"])
def test_a_token_entered_in_the_page(shared_lab: Lab, guarded: Daemon, page: Page, program: str) -> None:
    """n15: by REST in a header, for the stream as a subprotocol."""
    with proxy(shared_lab, guarded, program) as url:
        page.go(url)
        enter(page, TOKENS["scan"])
        page.until(LIVE)
        page.until("document.querySelector('#token-role').innerText === 'role: scan'")
        page.until("document.querySelectorAll('#event-list li').length")


def enter(page: Page, token: str) -> None:
    page.until("document.querySelector('#ask-token').open")
    page.js("document.querySelector('#token-text').focus()")
    page.type(token)
    page.key("Enter")
