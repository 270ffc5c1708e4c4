"""A real daemon against those who mean it ill: FAULTS T1 to T4, T10 and T18."""

import base64
import http.client
import json
import signal
import socket
import sqlite3
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from netscand.serve.page import PATHS
from netscand.serve.routes import API, ROUTES
from tests.bench.measure import asked, memory
from tests.lab.arp_flood import arp_flood
from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.spaces import DEADLINE
from tests.lab.test_daemon import wait_for
from tests.lab.trace import Trace
from tests.serve.certificate import CERTIFICATE, certificate
from tests.serve.house import TOKENS, token_file

PHONE = "a4:83:e7:12:34:56"
NASTY = (
    "../../../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "....//etc/passwd",
    "%252e%252e%252fetc%252fpasswd", "/etc/passwd", "file:///etc/passwd", "..%5c..%5cetc%5cpasswd", "%00", "a%00.js",
    "%ff%fe", "x" * 8000, "%2e" * 2700, "$(touch%20/tmp/netscand-owned)", "%60touch%20/tmp/netscand-owned%60",
    ";touch%20/tmp/netscand-owned;", "%0d%0aX:%20y", "__import__('os').system('true')", "%7B%7B7*7%7D%7D",
)  # fmt: skip
"""FAULTS T3, and what template and shell engines fall for."""
FREE = ("network", "q", "name", "person", "tag")
"""Parameters that take any text: a search for `../` finds nothing."""


def exchange(daemon: Daemon, request: bytes, then: Callable[[], object] = lambda: None) -> tuple[int, bytes]:
    """Bytes there, `then`, and the answer to its end; status 0 where there was none."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(str(daemon.socket))
        sock.sendall(request)
        then()
        answer = b""
        try:
            while b" 101 " not in answer and (piece := sock.recv(65536)):
                answer += piece
        except ConnectionResetError:
            pass
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 else 0, answer


def ask(daemon: Daemon, method: str, target: str, body: bytes = b"", extra: str = "") -> tuple[int, bytes]:
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{extra}"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return exchange(daemon, f"{head}\r\n".encode() + body)


def on_the_phone(path: str) -> str:
    """A target of the route."""
    return path.replace("{mac}", PHONE).replace("{name}", "Jane")


def with_query(path: str) -> str:
    """A target of the route that is answered at once, whatever is added to its query."""
    return f"{on_the_phone(path)}?{'seconds=1' if path == '/api/capture' else ''}"


@pytest.fixture
def daemon(lab: Lab) -> Daemon:
    """One that has heard the phone."""
    made = lab.daemon({"log": {"level": "debug"}, "scan": {"interval": 3600}, "names": {"sources": []}})
    lab.crowd().join("10.77.0.99", PHONE)
    wait_for("the phone", lambda: "10.77.0.99" in made.devices())
    return made


# ---- T1, T3 ---------------------------------------------------------------------------------------------------------


def barrage() -> Iterator[tuple[str, bytes, str, tuple[int, ...]]]:
    """Something nasty in each place of every route: target, body, method, and the answers that are right."""
    no = (400, 404, 405, 414)
    for nasty in NASTY:
        for path in ("/", "/web/", "/api/", "/api/devices/", "/metrics/", "/ws/"):
            yield f"{path}{nasty}", b"", "GET", no
        for page in PATHS[1:3]:
            yield f"{page}/{nasty}", b"", "GET", no
            yield f"{page}?v={nasty}", b"", "GET", no
        for route in API:
            method, path = route.method, route.path
            for part in ("{mac}", "{name}"):
                if part in path:
                    yield path.replace(part, nasty), b"", method, no
            for query in route.query or () if method == "GET" and path != "/ws" else ():
                right = (200, 400) if query.name in FREE else (400,)
                yield f"{on_the_phone(path)}?{query.name}={nasty}", b"", method, right
            yield f"{on_the_phone(path)}?{nasty}=1", b"", method, no
        text = json.dumps(nasty).encode()
        yield "/api/scan", b'{"targets": [' + text + b"]}", "POST", (400,)
        for field in ("label", "notes"):
            yield f"/api/devices/{PHONE}", b'{"' + field.encode() + b'": ' + text + b"}", "PATCH", (200, 400, 503)


def test_nothing_a_client_sends_starts_a_process_or_opens_a_file(daemon: Daemon, lab: Lab) -> None:
    """FAULTS T1, T3: not over the API, not by a name on the LAN, not by a reload."""
    for method, path, *_ in ROUTES:  # once each, so that what is read late is read
        if method == "GET" and path != "/ws":
            assert ask(daemon, "GET", with_query(path))[0] == (307 if path == "/api" else 200), path
    with Trace(daemon.pid, lab.folder / "trace") as trace:
        for target, body, method, right in barrage():
            status, answer = ask(daemon, method, target, body)
            while status == 503 and method == "POST":  # more scan requests than an account may make at once
                time.sleep(0.5)
                status, answer = ask(daemon, method, target, body)
            assert status in right, (method, target[:60], status)
            assert b"root:" not in answer
        ask(daemon, "POST", "/api/scan?wait=1", b'{"targets": ["10.77.0.99"]}')
        assert ask(daemon, "GET", "/metrics")[0] == 200
    opened = {call.path for call in trace.calls()}
    assert "/proc/self/statm" in opened, "the trace saw nothing: it proves nothing"
    on_the_way = {str(parent) for parent in daemon.folder.parents}  # SQLite resolves the path of the history
    inside = (str(daemon.folder), "/proc/self/")
    assert {path for path in opened - on_the_way if path and not path.startswith(inside)} == set()
    with Trace(daemon.pid, lab.folder / "trace again") as again:
        daemon.signal(signal.SIGHUP)
        wait_for("the reload", lambda: "configuration reloaded" in daemon.log(2000))
    assert str(daemon.config) in {call.path for call in again.calls()}
    started = [
        call for call in (*trace.calls(), *again.calls()) if call.name in ("execve", "execveat", "fork", "vfork")
    ]
    assert not started
    assert not Path("/tmp/netscand-owned").exists()


# ---- T4 -------------------------------------------------------------------------------------------------------------


def content(daemon: Daemon) -> dict[str, list[Any]]:
    """All that is kept, but for when a device was heard last."""
    with closing(sqlite3.connect(f"file:{daemon.history}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        left_out = ("seen", "state")
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in tables if name not in left_out}


def test_no_get_changes_anything(daemon: Daemon) -> None:
    """FAULTS T4: each twice, with words that would change something if they could, and the history is the same."""
    assert ask(daemon, "GET", "/api/backup")[0] == 200  # writes out what waits
    before = content(daemon)
    assert before["event"]
    words = "label=x&known=1&_method=DELETE"
    for method, path, *_ in ROUTES:
        if method != "GET":
            continue
        for sent in ("GET", "GET", "HEAD"):
            ask(daemon, sent, with_query(path))
            ask(daemon, sent, f"{with_query(path)}&{words}")
            ask(daemon, sent, with_query(path), b'{"label": "x"}', "X-HTTP-Method-Override: PATCH\r\n")
    assert ask(daemon, "GET", "/api/backup")[0] == 200
    assert content(daemon) == before


# ---- T2 -------------------------------------------------------------------------------------------------------------


def refused(lab: Lab, config: dict[str, Any]) -> str:
    """What a daemon says that must not start."""
    daemon = lab.daemon(config, start=False)
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(DEADLINE) == 78, daemon.log()
    said = [line for line in daemon.log().splitlines() if line.startswith("netscand: ")]
    assert len(said) == 1, daemon.log()
    assert not daemon.socket.exists()
    return said[0]


def test_it_does_not_start_with_what_would_not_protect(shared_lab: Lab, tmp_path: Path) -> None:
    """FAULTS T2: exit 78, and a sentence."""
    lab = shared_lab
    beyond = {"listen": {"tcp": ["10.77.0.2:8000"]}}
    assert "there is no token" in refused(lab, beyond)
    assert "chmod 0640" in refused(lab, {"access": {"token_file": token_file(tmp_path, 0o644)}})
    (tmp_path / "short").write_text("admin 0123456789012345678901234567890\n")
    (tmp_path / "short").chmod(0o600)
    assert "expected 32 to 512" in refused(lab, {"access": {"token_file": str(tmp_path / "short")}})
    assert "No such file" in refused(lab, {**beyond, "access": {"token_file": "/nowhere"}})
    given = certificate(tmp_path)
    assert "go together" in refused(lab, {"listen": {"tls_certificate": given["tls_certificate"]}})
    assert "chmod 0640" in refused(lab, {"listen": certificate(tmp_path, mode=0o644)})


def test_another_host_needs_a_token_with_the_role(lab: Lab, tmp_path: Path) -> None:
    """Over TLS, from a machine of the LAN, with what a stranger there can send."""
    access = {"token_file": token_file(tmp_path), "allowed_hosts": ["scan.lan"]}
    listen = {"tcp": ["10.77.0.2:8443"], **certificate(tmp_path)}
    lab.daemon({"listen": listen, "access": access})
    stranger = lab.host("10.77.0.66")
    context = ssl.create_default_context(cadata=CERTIFICATE)

    def tried(path: str, *, method: str = "GET", **headers: str) -> int:
        def there() -> int:
            connection = http.client.HTTPSConnection("10.77.0.2", 8443, timeout=DEADLINE, context=context)
            try:
                connection.request(method, path, headers=headers)
                return connection.getresponse().status
            finally:
                connection.close()

        return stranger.space.within(there)

    def bearing(role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {TOKENS[role]}"}

    assert tried("/healthz") == 200
    assert tried("/") == 200
    for path in ("/api/devices", "/api/status", "/metrics", "/api/openapi.json", "/ws"):
        assert tried(path) == 401, path
    assert tried("/api/devices", Authorization="Bearer " + "x" * 40) == 401
    assert tried("/api/devices", **bearing("read")) == 200
    assert tried("/api/devices", Host="scan.lan:8443", **bearing("read")) == 200
    assert tried("/api/devices", Host="evil.example:8443", **bearing("read")) == 421
    assert tried("/api/devices", Origin="https://evil.example", **bearing("read")) == 403
    assert tried("/api/scan", method="POST", **bearing("read")) == 403
    assert tried("/api/scan", method="POST", **bearing("scan")) == 202
    assert tried("/api/backup", **bearing("scan")) == 403
    assert tried("/api/backup", **bearing("admin")) == 200


# ---- T10 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "quantile", "bound"), [(4, 0.5, 250.0), pytest.param(60, 0.99, 100.0, marks=pytest.mark.long)]
)
def test_a_flood_of_arp_holds_nobody_up(lab: Lab, seconds: int, quantile: float, bound: float) -> None:
    """FAULTS T10, T11: 100,000 frames a second from a million MACs, or as many as this machine can send.

    Who asks meanwhile is answered (`bound` in milliseconds: far from what is so, but with --long), the watchdog is
    content, the real devices stay, memory too, and the next newcomer is published for its own announcement.
    """
    crowd = lab.crowd()
    real = crowd.populate(lab.addresses(200, start=50))
    daemon = lab.daemon(
        {"scan": {"interval": 3600, "tries": 8}, "presence": {"probe_interval": 1, "patience": [2, 4]}}, as_user=True,
        env={"WATCHDOG_USEC": "10000000"},
    )  # fmt: skip
    wait_for("all of them", lambda: real.keys() <= daemon.devices().keys())
    source = arp_flood(lab, 100_000, seconds, 1_000_000, "10.0.0.0/8")
    before, _ = memory(daemon)
    daemon.signal(signal.SIGSTOP)
    source.go()
    time.sleep(1)
    wish = b"GET /api/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    _, answer = exchange(daemon, wish, lambda: daemon.signal(signal.SIGCONT))  # asked before it reads anything
    first = json.loads(answer.partition(b"\r\n\r\n")[2])["frames"]
    assert first["received"] < 10_000, "the ring was read to its end before the answer"
    fed = daemon.notified.count("WATCHDOG=1")
    with asked(daemon) as took:
        flood = source.result()
    slowest = sorted(took)[int(len(took) * quantile)]
    print(f"{flood['frames'] / flood['seconds']:.0f} frames/s, /healthz {quantile:.0%}: {slowest:.1f} ms")
    assert flood["frames"] * 0.9 > 9000 * seconds
    wait_for("what came", lambda: came(daemon) > flood["frames"] * 0.9)  # some of it is in the ring still
    assert slowest < bound
    assert daemon.notified.count("WATCHDOG=1") - fed >= seconds // 4
    assert "hangs" not in daemon.log(10_000)
    assert memory(daemon)[0] - before < 32
    wait_for("the newcomer", lambda: told_by_its_own_word(daemon, crowd))
    wait_for("no doubt", lambda: {daemon.devices()[ip]["status"] for ip in real} == {"online"})
    told = daemon.get("/api/events?limit=5000")["events"]
    of_networks = [event["kind"] for event in told if event["device"] is None]
    assert of_networks in (["network_up", "flood"], ["network_up", "flood", "flood"])  # one a minute
    assert not [event for event in told if event["kind"] == "offline" and event["device"]["mac"] in real.values()]


def came(daemon: Daemon) -> int:
    """Frames that the daemon read, or had no room for."""
    frames: dict[str, int] = daemon.get("/api/status")["frames"]
    return frames["received"] + frames["dropped"]


def told_by_its_own_word(daemon: Daemon, crowd: Crowd) -> bool:
    """Somebody new, or the same again, announces itself; nothing else would find it."""
    time.sleep(0.5)
    mac = crowd.join("10.77.0.40")
    return daemon.request("GET", f"/api/devices/{mac}")[0] == 200


# ---- T18 ------------------------------------------------------------------------------------------------------------


def test_a_token_is_nowhere_to_be_found(lab: Lab, tmp_path: Path) -> None:
    """FAULTS T18: sent rightly and in every wrong way, it is in no log, argument, environment, answer or file."""
    config = {"log": {"level": "debug"}, "access": {"token_file": token_file(tmp_path)}}
    daemon = lab.daemon(config)
    admin, wrong = TOKENS["admin"], "wrong-0123456789abcdef0123456789abcdef"
    answers = b""
    for token in (admin, wrong):
        code = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        carried = f"Sec-WebSocket-Protocol: netscand, netscand.token.{code}\r\n"
        heads = [
            f"Authorization: Bearer {token}\r\n",
            f"Authorization: {token}\r\n",
            f"Authorization: Basic {token}\r\n",
            f"Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n",
            f"Authorization: Bearer {token}\x00\r\n",
            f"Authorization Bearer {token}\r\n",
            f" Authorization: Bearer {token}\r\n",
            f"Cookie: token={token}\r\n",
            f"Authorization: Bearer {token}\r\nContent-Length: x\r\n",
            f"Authorization: Bearer {token}\r\nHost: y\r\n",
            f"{upgrade}{carried}",
            f"{upgrade}{key}{carried}Sec-WebSocket-Version: 99\r\n",
            f"{upgrade}{key}Sec-WebSocket-Protocol: netscand.token.{code}\r\nSec-WebSocket-Protocol: netscand\r\n",
            f"{upgrade}{key}Sec-WebSocket-Protocol: {token}\r\n",
            f"{upgrade}{key}{carried}Origin: http://evil\r\n",
        ]
        told_back = f"/api/devices/{token}", f"/{token}", f"/api/status?{token}", f"/ws?updates={token}"
        for target in ("/api/status", "/ws", f"/api/status?token={token}", f"/ws?token={token}", *told_back):
            for head in heads:
                request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n"
                _, answer = exchange(daemon, request.encode())
                answers += answer if target not in told_back else b""  # there it is sent back
        for broken in (f"{token}\r\n\r\n", f"GET / HTTP/{token}\r\n\r\n", f"GET {token} HTTP/1.1\r\nHost: x\r\n\r\n"):
            answers += exchange(daemon, broken.encode())[1]
    with daemon.websocket(additional_headers={"Authorization": f"Bearer {admin}"}) as stream:
        stream.send(json.dumps({"type": admin, "request": 7}))
        assert admin not in str(stream.recv(10))
    (tmp_path / "tokens").write_text(f"admin {admin}\nadmin {admin}\n")
    daemon.signal(signal.SIGHUP)
    wait_for("the reload", lambda: "not reloaded" in daemon.log())
    process = Path(f"/proc/{daemon.pid}")
    places = {
        "the log": daemon.log_file.read_bytes(),
        "the arguments": (process / "cmdline").read_bytes(),
        "the environment": (process / "environ").read_bytes(),
        "an answer": answers,
        "the history": b"".join(path.read_bytes() for path in daemon.folder.glob("netscand.db*")),
        "the status line": "\n".join(daemon.notified).encode(),
    }
    assert b"netscand" in places["the log"], "it said nothing: this proves nothing"
    for token in (admin, wrong):
        for form in (token, base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")):
            for place, text in places.items():
                assert form.encode() not in text, f"{form} is in {place}"
