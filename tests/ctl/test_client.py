"""Options for the daemon, and every exit code with its message."""

import asyncio
import grp
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netscanctl import client, stream
from netscanctl.client import Daemon, NotPermitted, Usage, admin_hint, find_daemon
from netscanctl.connect_hint import start_hint
from tests.ctl.conftest import ROOT, Ctl, environment
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import snapshot, status

EACH = pytest.mark.parametrize(
    "args", [["devices"], ["networks"], ["status"], ["show", "host7"], ["scan-now", "--no-wait"],
             ["scan-now", "--json"], ["watch"], ["watch", "--json"], ["wait-for", "host7"]], ids=" ".join,
)  # fmt: skip
BOTH = pytest.mark.parametrize("args", [["devices"], ["watch"]], ids=" ".join)
"""A request and a stream: the two kinds of connections."""


# ---- the options


def test_the_default_is_the_socket_of_the_service() -> None:
    assert find_daemon(None, None, None) == Daemon("/run/netscand/netscand.sock")


@pytest.mark.parametrize(
    "url",
    ["ftp://a:1", "localhost:8000", "http://", "http://a:99999", "http://a:x", "http://user:pass@a:1", "http://a:1/?token=x",
     "http://a:1//path", "http://a:1/a b", "http://a:1/ä", "http://a:1/#x", "http://[::1", ""],
)  # fmt: skip
def test_a_url_has_only_a_host_a_port_and_a_path(url: str) -> None:
    with pytest.raises(Usage, match=r"^--url.*: expected http://HOST:PORT") as refused:
        find_daemon(None, url or " ", None)
    assert (repr(url or " ") in str(refused.value)) is not any(mark in url for mark in ("pass", "token", "#x"))


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("http://localhost:8000", ""), ("https://nas.lan", ""), ("http://[::1]:8000/", ""), ("http://nas/lan", "/lan"),
     ("https://nas.lan:8443/tools/lan/", "/tools/lan"), ("http://nas/~lan;v=%201", "/~lan;v=%201")],
)  # fmt: skip
def test_a_url_selects_tcp(url: str, prefix: str) -> None:
    """FIELD case 27: with the path at which a proxy serves netscand."""
    found = find_daemon(None, url, None)
    assert (found.origin, found.prefix) == (url.rstrip("/"), prefix)


def test_a_socket_path_that_is_too_long_is_a_usage_error() -> None:
    with pytest.raises(Usage, match="at most 107"):
        find_daemon("/" + "x" * 107, None, None)


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"read TOKEN\n", b"a\nb\n", b"caf\xc3\xa9", b"a\x00b"])
def test_a_token_file_contains_only_a_token(tmp_path: Path, content: bytes) -> None:
    """The message for another file does not quote its content."""
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(Usage, match="only a token") as failure:
        find_daemon(None, None, str(file))
    text = content.decode().strip()
    assert not text or text not in str(failure.value).removeprefix(f"--token-file: {file}")


def test_a_token_is_read_without_the_line_feed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    daemon = find_daemon(None, None, str(tmp_path / "token"))
    assert daemon.headers["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(daemon)


def test_a_missing_token_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="No such file"):
        find_daemon(None, None, str(tmp_path / "none"))


# ---- exit 2


@pytest.mark.parametrize(
    "args",
    [[], ["devices", "--bogus"], ["nonsense"], ["devices", "--sort", "luck"], ["devices", "--format", "xml"], ["show"],
     ["completion", "tcsh"], ["--socket", "/a", "--url", "http://b:1", "devices"], ["--url", "b:1", "devices"],
     ["--token-file", "/none", "status"], ["wait-for", "x", "--timeout", "soon"], ["watch", "--kind", "luck"],
     ["watch", "--interval", "0"], ["watch", "--since", "soon"], ["watch", "--since", ""], ["watch", "--exec", ""],
     ["watch", "--exec", "no-such-command"], ["watch", "--exec", "'"], ["watch", "--exec", "true", "--json"],
     ["watch", "--table"], ["watch", "--table", "--json"], ["events", "--since", "soon"], ["events", "--since", ""],
     ["events", "--limit", "0"], ["events", "--kind", "luck"], ["events", "--kind", "online,luck"]],
    ids=" ".join,
)  # fmt: skip
def test_invalid_arguments_are_a_usage_error(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    """Nothing is sent to the daemon before."""
    done = ctl.run(*args)
    assert (done.returncode, done.stdout, daemon.requests) == (2, "", [])
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("devcies", 'did you mean "devices"?'), ("scan_now", 'did you mean "scan-now"?'),
     ("Status", 'did you mean "status"?'), ("xyzzy", "the commands are watch, scan-now, devices,")],
)  # fmt: skip
def test_an_unknown_command_gets_a_suggestion(ctl: Ctl, typed: str, hint: str) -> None:
    done = ctl.run(typed)
    assert (done.returncode, done.stdout) == (2, "")
    assert f'unknown command "{typed}"; {hint}' in " ".join(done.stderr.split())


def test_options_take_precedence_over_the_environment(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Two addresses in the environment are an error."""
    both = {"NETSCANCTL_URL": "http://localhost:1", "NETSCANCTL_SOCKET": "/none"}
    assert ctl.run("status", **both).returncode == 2
    assert ctl.run("--socket", str(daemon.socket), "status", **both).returncode == 0


@pytest.mark.parametrize(
    "args", [["--help"], ["-h"], ["watch", "--help"], ["scan-now", "-h"], ["--version"]], ids=" ".join
)
def test_help_and_version_need_no_daemon(ctl: Ctl, args: list[str]) -> None:
    done = ctl.run(*args, NETSCANCTL_SOCKET="/none")
    assert (done.returncode, done.stderr) == (0, "")


# ---- exit 3


@EACH
def test_a_missing_socket_is_exit_code_3(ctl: Ctl, args: list[str], tmp_path: Path) -> None:
    failure = ctl.fails(3, *args, NETSCANCTL_SOCKET=f"{tmp_path}/none.sock")
    assert failure == f"netscand is not running (no socket {tmp_path}/none.sock); {start_hint()}"


@BOTH
def test_a_stale_socket_is_exit_code_3(ctl: Ctl, args: list[str], tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(stale))
    failure = ctl.fails(3, *args, NETSCANCTL_SOCKET=str(stale))
    assert failure == f"netscand is not running (nothing listens on the socket {stale}); {start_hint()}"


@BOTH
def test_a_refused_tcp_connection_is_exit_code_3(ctl: Ctl, args: list[str]) -> None:
    with socket.socket() as bound:  # bound, so that no process takes it, and not listening
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        failure = ctl.fails(3, "--url", url, *args, NETSCANCTL_SOCKET="")
    assert failure == (
        f"netscand does not answer at {url} (connection refused); {start_hint()}; or check its [listen] tcp"
    )


@BOTH
def test_tls_to_a_plain_port_is_explained(ctl: Ctl, far: FakeDaemon, args: list[str]) -> None:
    https = far.url.replace("http", "https")
    assert ctl.fails(3, "--url", https, *args) == f"the server at {https} does not use TLS; use {far.url}"


@BOTH
def test_https_is_suggested_if_plain_http_is_closed(ctl: Ctl, args: list[str]) -> None:
    """As one with TLS does."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        address = f"127.0.0.1:{there.getsockname()[1]}"

        def hang_up() -> None:
            while True:
                connection, _ = there.accept()
                with connection:
                    if not connection.recv(65_536):
                        return

        thread = threading.Thread(target=hang_up)
        thread.start()
        failure = ctl.fails(3, "--url", f"http://{address}", *args)
        socket.create_connection(there.getsockname()).close()
        thread.join()
    assert failure.endswith(f"; if it uses TLS, try https://{address}")


@BOTH
def test_another_server_is_exit_code_3(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    for path in ("/ws", "/api/status", "/api/devices", "/api/scan"):
        daemon.answers[path] = (404, b"<h1>nginx</h1>")
    assert "is not netscand" in ctl.fails(3, *args)


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [((302, b""), 3, "redirects requests"), ((308, b"<h1>moved</h1>"), 3, "redirects requests"),
     ((401, b"<h1>who are you</h1>"), 4, "a proxy at http://127.0.0.1:")],
    ids=["302", "308", "401"],
)  # fmt: skip
def test_a_proxy_that_answers_itself_is_named(
    ctl: Ctl, far: FakeDaemon, answer: tuple[int, bytes], code: int, words: str
) -> None:
    """FIELD case 27: netscanctl cannot log in, and follows no redirect with a token."""
    far.answers["/api/status"] = answer
    assert words in ctl.fails(code, "--url", far.url, "devices", NETSCANCTL_SOCKET="")


# ---- exit 4


@BOTH
@pytest.mark.parametrize(("code", "word"), [(401, "unauthorized"), (403, "forbidden")])
def test_missing_permission_is_exit_code_4(ctl: Ctl, daemon: FakeDaemon, args: list[str], code: int, word: str) -> None:
    daemon.refuse(code, word, "this needs the role scan", "/ws", "/api/status")
    assert "--token-file FILE" in ctl.fails(4, *args)


@BOTH
def test_a_rejected_token_is_exit_code_4(ctl: Ctl, daemon: FakeDaemon, args: list[str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-s3cret-s3cret-s3cret-s3cret")
    daemon.answers |= dict.fromkeys(("/ws", "/api/status"), (401, b""))
    failure = ctl.fails(4, "--token-file", f"{tmp_path}/token", *args)
    assert failure.startswith("the token in --token-file is unknown to the daemon at ")
    assert "netscanctl token add ROLE" in failure
    assert "s3cret" not in failure


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@BOTH
def test_a_socket_without_permission_is_exit_code_4(daemon: FakeDaemon, args: list[str], tmp_path: Path) -> None:
    assert daemon.socket is not None
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    daemon.socket.chmod(0o600)
    # All is imported before: the interpreter itself may lie where no other user may read.
    run = "import grp, os, aiohttp; from netscanctl.__main__ import main; "
    run += "from netscanctl.commands import devices, watch; "
    run += "os.setgroups([]); os.setgid(65534); os.setuid(65534); main()"
    done = subprocess.run(
        [sys.executable, "-c", run, "--socket", str(daemon.socket), *args], env=environment(), capture_output=True,
        text=True, timeout=20, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n"), admin_hint() in done.stderr) == (4, 1, True)


def test_what_gives_the_role_admin_exists_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that does not exist, as with `./dev run`, cannot be joined."""
    monkeypatch.setattr(client, "GROUP", grp.getgrall()[0].gr_name)
    assert f"usermod -aG {grp.getgrall()[0].gr_name} USER" in admin_hint()
    monkeypatch.setattr(client, "GROUP", "no-such-group-here")
    assert admin_hint() == "run it with sudo"


def test_an_unreadable_token_file_is_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(NotPermitted, match="no permission to read /secret"):
        find_daemon(None, None, "/secret")


# ---- exit 5


@EACH
def test_another_protocol_is_exit_code_5(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    daemon.status = status(protocol=2, version="9.1")
    daemon.snapshot = [snapshot(protocol=2, version="9.1")]
    failure = ctl.fails(5, *args)
    assert [each for each in ("netscand 9.1 at", "uses protocol 2", "upgrade netscanctl") if each not in failure] == []


@pytest.mark.parametrize("args", [["devices"], ["networks"], ["show", "a4:83:e7:00:00:07"], ["scan-now"]], ids=" ".join)
def test_an_invalid_answer_is_exit_code_5(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    for path in ("/api/devices", "/api/networks", "/api/devices/a4:83:e7:00:00:07", "/api/scan"):
        daemon.answers[path] = (200, b'{"devices":7,"networks":7}')
    assert "invalid message" in ctl.fails(5, *args)


# ---- exit 1


@pytest.mark.parametrize("args", [["devices"], ["status"], ["scan-now"], ["watch"]], ids=" ".join)
def test_a_refusal_of_a_busy_daemon_is_exit_code_1(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    daemon.refuse(503, "busy", "256 clients are connected", "/ws", "/api/status")
    assert ctl.fails(1, *args) == "256 clients are connected"


def test_a_refused_handshake_keeps_its_message(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.refuse(400, "bad_request", "since: given twice", "/ws")
    assert ctl.fails(1, "watch") == "since: given twice"


# ---- exit 6, and the rest


def read_and_close(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.close()


@pytest.mark.parametrize(
    ("peer", "error", "message"),
    [(lambda listener: None, client.TimedOut, "did not answer in time"),
     (read_and_close, client.NoDaemon, "closed the connection")], ids=["hangs", "closes"],
)  # fmt: skip
def test_a_daemon_that_never_answers_is_reported(
    tmp_path: Path, peer: Callable[[socket.socket], None], error: type[Exception], message: str
) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=peer, args=[listener])
        thread.start()
        made = client.Client(Daemon(path))
        with pytest.raises(error, match=message):
            made._request("GET", "/api/status", timeout=0.05 if error is client.TimedOut else 20.0)
        made.close()
        thread.join()


def test_tcp_works_like_the_unix_socket(ctl: Ctl, far: FakeDaemon) -> None:
    assert ctl.run("--url", far.url, "devices").stdout == ctl.run("devices").stdout
    assert ctl.run("wait-for", "host7", NETSCANCTL_URL=far.url, NETSCANCTL_SOCKET="").returncode == 0


def test_the_protocol_is_checked_once_per_connection(ctl: Ctl, daemon: FakeDaemon) -> None:
    ctl.run("devices")
    assert [path for _, path, _, _ in daemon.requests] == ["/api/status", "/api/devices"]


# ---- a full queue of connections

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@contextmanager
def busy(path: Path, seconds: float) -> Iterator[Daemon]:
    """A daemon whose queue is full; after so many seconds it answers the queue, until the end of the block."""
    over = threading.Event()

    def answer() -> None:
        over.wait(seconds)
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(0.2)
                try:
                    if connection.recv(65536):
                        connection.sendall(ANSWER)
                except OSError:
                    pass  # one of those that fill the queue

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(path))
        listener.listen(0)
        listener.settimeout(0.05)
        waiting.connect(str(path))
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield Daemon(str(path))
        finally:
            over.set()
            thread.join()


def by_request(daemon: Daemon) -> bytes:
    made = client.Client(daemon)
    try:
        return made._request("GET", "/api/status")
    finally:
        made.close()


def by_stream(daemon: Daemon) -> bytes:
    return asyncio.run(stream.post(daemon, "/api/scan", b"{}"))


@pytest.mark.parametrize("ask", [by_request, by_stream])
def test_a_full_queue_is_tried_again(tmp_path: Path, ask: Callable[[Daemon], bytes]) -> None:
    """connect(2) fails with EAGAIN, which asyncio takes for success."""
    with busy(tmp_path / "s", 0.3) as daemon:
        assert ask(daemon) == b"{}"


@pytest.mark.parametrize("ask", [by_request, by_stream])
def test_a_queue_that_stays_full_is_reported(
    tmp_path: Path, ask: Callable[[Daemon], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exit code 3, and the reason."""
    for module in (client, stream):
        monkeypatch.setattr(module, "CONNECT", 0.1)
    with (
        busy(tmp_path / "s", 60.0) as daemon,
        pytest.raises(client.NoDaemon, match="too many connections wait"),
    ):
        ask(daemon)
