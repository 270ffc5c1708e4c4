"""Options for the daemon, and every exit code with its message."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from netscanctl.client import Daemon, NotPermitted, Usage, find_daemon
from netscanctl.connect_hint import start_hint
from tests.ctl.conftest import Ctl, environment
from tests.ctl.fake import FakeDaemon, refusal
from tests.ctl.words import snapshot, status

ONE_SHOTS = (
    ["devices"],
    ["networks"],
    ["status"],
    ["show", "host7"],
    ["scan-now", "--no-wait"],
    ["scan-now", "--json"],
)
STREAMS = (["watch"], ["watch", "--json"], ["wait-for", "host7"])
ALL = (*ONE_SHOTS, *STREAMS)
EACH = pytest.mark.parametrize("args", ALL, ids=" ".join)
BOTH = pytest.mark.parametrize("args", [["devices"], ["watch"]], ids=" ".join)
"""A request and a stream: the two kinds of connections."""


def one_line(text: str) -> str:
    """Return the message on stderr, which must be one line."""
    assert text.startswith("netscanctl: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
    return text.removeprefix("netscanctl: ").rstrip("\n")


# ---- the options


def test_the_default_is_the_socket_of_the_service() -> None:
    assert find_daemon(None, None, None) == Daemon("/run/netscand/netscand.sock")


@pytest.mark.parametrize(
    "url",
    ["ftp://a:1", "localhost:8000", "http://", "http://a:99999", "http://a:x", "http://user:pass@a:1", "http://a:1/?token=x",
     "http://a:1/path", "http://a:1/#x", "http://[::1", ""],
)  # fmt: skip
def test_a_url_has_only_a_host_and_a_port(url: str) -> None:
    with pytest.raises(Usage, match="--url: expected"):
        find_daemon(None, url or " ", None)


@pytest.mark.parametrize("url", ["http://localhost:8000", "https://nas.lan", "http://[::1]:8000/"])
def test_a_url_selects_tcp(url: str) -> None:
    assert find_daemon(None, url, None).origin == url.rstrip("/")


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
    assert (
        content.decode().strip() not in str(failure.value).removeprefix(f"--token-file: {file}") or not content.strip()
    )


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
    [[], ["devices", "--bogus"], ["nonsense"], ["devices", "--sort", "luck"], ["watch", "--kind", "luck"],
     ["watch", "--interval", "0"], ["watch", "--since", "soon"],
     ["watch", "--since", ""], ["show"], ["wait-for", "x", "--timeout", "soon"], ["completion", "tcsh"],
     ["--socket", "/a", "--url", "http://b:1", "devices"], ["--url", "b:1", "devices"],
     ["--token-file", "/none", "status"], ["devices", "--online", "--format", "xml"]],
    ids=" ".join,
)  # fmt: skip
def test_invalid_arguments_are_a_usage_error(ctl: Ctl, args: list[str]) -> None:
    done = ctl.run(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("devcies", 'did you mean "devices"?'),
        ("scan_now", 'did you mean "scan-now"?'),
        ("Status", 'did you mean "status"?'),
        ("xyzzy", "the commands are watch, scan-now, devices,"),
    ],
)
def test_an_unknown_command_gets_a_suggestion(ctl: Ctl, typed: str, hint: str) -> None:
    done = ctl.run(typed)
    assert (done.returncode, done.stdout) == (2, "")
    assert f'unknown command "{typed}"; {hint}' in " ".join(done.stderr.split())


def test_socket_and_url_together_are_a_usage_error(ctl: Ctl) -> None:
    assert ctl.run("devices", NETSCANCTL_URL="http://localhost:1").returncode == 2


def test_options_take_precedence_over_the_environment(ctl: Ctl, daemon: FakeDaemon) -> None:
    done = ctl.run(
        "--socket", str(daemon.socket), "status", NETSCANCTL_URL="http://localhost:1", NETSCANCTL_SOCKET="/none"
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    "args", [["--help"], ["-h"], ["watch", "--help"], ["scan-now", "-h"], ["--version"]], ids=" ".join
)
def test_help_and_version_need_no_daemon(ctl: Ctl, args: list[str]) -> None:
    done = ctl.run(*args, NETSCANCTL_SOCKET="/none")
    assert (done.returncode, done.stderr) == (0, "")


# ---- exit 3


@EACH
def test_a_missing_socket_is_exit_code_3(ctl: Ctl, args: list[str], tmp_path: Path) -> None:
    done = ctl.run(*args, NETSCANCTL_SOCKET=str(tmp_path / "none.sock"))
    assert done.returncode == 3
    assert done.stdout == ""
    assert one_line(done.stderr) == f"netscand is not running (no socket {tmp_path}/none.sock); {start_hint()}"


@BOTH
def test_a_stale_socket_is_exit_code_3(ctl: Ctl, args: list[str], tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(stale))
    done = ctl.run(*args, NETSCANCTL_SOCKET=str(stale))
    assert done.returncode == 3
    assert one_line(done.stderr) == f"netscand is not running (nothing listens on the socket {stale}); {start_hint()}"


@BOTH
def test_a_refused_tcp_connection_is_exit_code_3(ctl: Ctl, args: list[str]) -> None:
    with socket.socket() as bound:  # bound, so that nobody else takes it, and not listening
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        done = ctl.run("--url", url, *args)
    assert done.returncode == 3
    assert one_line(done.stderr) == (
        f"netscand does not answer at {url} (connection refused); {start_hint()}; or check its [listen] tcp"
    )


@BOTH
def test_tls_to_a_plain_port_is_explained(ctl: Ctl, args: list[str]) -> None:
    there = FakeDaemon()
    there.start()
    try:
        address = f"127.0.0.1:{there.port}"
        done = ctl.run("--url", f"https://{address}", *args)
    finally:
        there.stop()
    assert done.returncode == 3
    assert one_line(done.stderr) == f"the server at https://{address} does not use TLS; use http://{address}"


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
        done = ctl.run("--url", f"http://{address}", *args)
        socket.create_connection(there.getsockname()).close()
        thread.join()
    assert done.returncode == 3
    assert one_line(done.stderr).endswith(f"; if it uses TLS, try https://{address}")


@BOTH
def test_another_server_is_exit_code_3(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    for path in ("/ws", "/api/status", "/api/devices", "/api/scan"):
        daemon.answers[path] = (404, b"<h1>nginx</h1>")
    done = ctl.run(*args)
    assert done.returncode == 3
    assert "is not netscand" in one_line(done.stderr)


# ---- exit 4


@BOTH
@pytest.mark.parametrize(("code", "word"), [(401, "unauthorized"), (403, "forbidden")])
def test_missing_permission_is_exit_code_4(ctl: Ctl, daemon: FakeDaemon, args: list[str], code: int, word: str) -> None:
    body = refusal(code, word, "this needs the role scan").body
    assert isinstance(body, bytes)
    for path in ("/ws", "/api/status"):
        daemon.answers[path] = (code, body)
    done = ctl.run(*args)
    assert done.returncode == 4
    assert "--token-file FILE" in one_line(done.stderr)


@BOTH
def test_a_rejected_token_is_exit_code_4(ctl: Ctl, daemon: FakeDaemon, args: list[str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-s3cret-s3cret-s3cret-s3cret")
    for path in ("/ws", "/api/status"):
        daemon.answers[path] = (401, b"")
    done = ctl.run("--token-file", str(tmp_path / "token"), *args)
    assert done.returncode == 4
    assert "is not accepted" in one_line(done.stderr)
    assert "s3cret" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@BOTH
def test_a_socket_without_permission_is_exit_code_4(daemon: FakeDaemon, args: list[str], tmp_path: Path) -> None:
    assert daemon.socket is not None
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    daemon.socket.chmod(0o600)
    # All is imported before: the interpreter itself may lie where nobody else may read.
    run = "import os, aiohttp; from netscanctl.__main__ import main; from netscanctl.commands import devices, watch; "
    run += "os.setgroups([]); os.setgid(65534); os.setuid(65534); main()"
    done = subprocess.run(
        [sys.executable, "-c", run, "--socket", str(daemon.socket), *args], env=environment(), capture_output=True,
        text=True, timeout=20, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 4
    assert "usermod -aG netscan USER" in one_line(done.stderr)


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
    done = ctl.run(*args)
    assert done.returncode == 5
    assert done.stdout == ""
    assert "netscand 9.1 at" in one_line(done.stderr)
    assert "uses protocol 2" in done.stderr
    assert "upgrade netscanctl" in done.stderr


@pytest.mark.parametrize("args", [["devices"], ["networks"], ["show", "a4:83:e7:00:00:07"], ["scan-now"]], ids=" ".join)
def test_an_invalid_answer_is_exit_code_5(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    for path in ("/api/devices", "/api/networks", "/api/devices/a4:83:e7:00:00:07", "/api/scan"):
        daemon.answers[path] = (200, b'{"devices":7,"networks":7}')
    done = ctl.run(*args)
    assert done.returncode == 5
    assert "invalid message" in one_line(done.stderr)


# ---- exit 1


@pytest.mark.parametrize("args", [["devices"], ["status"], ["scan-now"], ["watch"]], ids=" ".join)
def test_a_refusal_of_a_busy_daemon_is_exit_code_1(ctl: Ctl, daemon: FakeDaemon, args: list[str]) -> None:
    body = refusal(503, "busy", "256 clients are connected").body
    assert isinstance(body, bytes)
    for path in ("/ws", "/api/status"):
        daemon.answers[path] = (503, body)
    done = ctl.run(*args)
    assert done.returncode == 1
    assert one_line(done.stderr) == "256 clients are connected"


def test_a_refused_handshake_keeps_its_message(ctl: Ctl, daemon: FakeDaemon) -> None:
    body = refusal(400, "bad_request", "since: given twice").body
    assert isinstance(body, bytes)
    daemon.answers["/ws"] = (400, body)
    done = ctl.run("watch")
    assert (done.returncode, one_line(done.stderr)) == (1, "since: given twice")


# ---- exit 6, and the rest


def test_a_hanging_daemon_is_a_timeout(tmp_path: Path) -> None:
    from netscanctl import client

    path = str(tmp_path / "hung.sock")
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(path)
        hung.listen()
        client_ = client.Client(Daemon(path))
        with pytest.raises(client.TimedOut, match="did not answer in time"):
            client_._request("GET", "/api/status", timeout=0.05)
        client_.close()


def test_a_closed_connection_is_reported(tmp_path: Path) -> None:
    from netscanctl import client

    path = str(tmp_path / "dying.sock")
    with socket.socket(socket.AF_UNIX) as dying:
        dying.bind(path)
        dying.listen()

        def die() -> None:
            connection, _ = dying.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=die)
        thread.start()
        client_ = client.Client(Daemon(path))
        with pytest.raises(client.NoDaemon, match="closed the connection"):
            client_.get("/api/devices")
        thread.join()
        client_.close()


def test_tcp_works_like_the_unix_socket(ctl: Ctl, tmp_path: Path) -> None:
    there = FakeDaemon()
    there.start()
    try:
        url = f"http://127.0.0.1:{there.port}"
        assert ctl.run("--url", url, "devices").stdout == ctl.run("devices").stdout
        assert ctl.run("wait-for", "host7", NETSCANCTL_URL=url, NETSCANCTL_SOCKET="").returncode == 0
    finally:
        there.stop()


def test_the_protocol_is_checked_once_per_connection(ctl: Ctl, daemon: FakeDaemon) -> None:
    ctl.run("devices")
    assert [path for _, path, _, _ in daemon.requests] == ["/api/status", "/api/devices"]
