"""The base of the services: at least once, in order, resumed by cursor; what they report; how they are checked."""

import asyncio
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from netscanctl.service_status import ServiceStatus, missing_services, read_statuses, service_line, timestamp
from netscanctl.services.backoff import Backoff
from netscanctl.services.ledger import Ledger
from netscanctl.services.program import serve_metrics
from netscanctl.services.report import Report
from netscanctl.services.services_file import load
from netscanctl.services.settings import ServiceTable
from netscand.config import ConfigError
from tests.ctl.conftest import ROOT, environment
from tests.ctl.fake_daemon import DEADLINE, FakeDaemon
from tests.ctl.messages import came, device, event, resumed


class Running:
    """The recorder as a process, with folders of its own as systemd would make them."""

    def __init__(self, daemon: FakeDaemon, folder: Path) -> None:
        self.folder = folder
        self.target, self.hold = folder / "target", folder / "hold"
        self.cursor, self.status_file = folder / "state/cursor", folder / "run/netscand-recorder/status.json"
        self.config = folder / "services.toml"
        self.config.write_text(f'[daemon]\nsocket = "{daemon.socket}"\n')
        for made in (self.cursor.parent, self.status_file.parent):
            made.mkdir(parents=True, exist_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._messages: queue.Queue[str] = queue.Queue()
        # Always read, as systemd reads: the service would wait for us at the eleventh unread message.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.process: subprocess.Popen[str] | None = None

    def start(self, *args: str) -> "subprocess.Popen[str]":
        """Start it."""
        env = environment(
            RECORDER_TARGET=str(self.target), STATE_DIRECTORY=str(self.cursor.parent),
            RUNTIME_DIRECTORY=str(self.status_file.parent), NOTIFY_SOCKET=str(self.folder / "notify"),
            WATCHDOG_USEC="400000", PYTHONPATH=str(ROOT),
        )  # fmt: skip
        argv = [sys.executable, "-m", "tests.ctl.recorder_service", *(args or ("--config", str(self.config)))]
        self.process = subprocess.Popen(argv, env=env, cwd=ROOT, text=True, stderr=subprocess.PIPE)
        return self.process

    def notified(self, wanted: str) -> str:
        """Wait for a message to systemd that contains this."""
        while wanted not in (message := self._messages.get(timeout=DEADLINE)):
            pass
        return message

    def _read(self) -> None:
        while message := self._notify.recv(4096):
            self._messages.put(message.decode())

    def close(self) -> None:
        """Kill it, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.folder / "notify"))  # an empty message ends the reading
        self._reader.join()
        self._notify.close()

    def kinds(self) -> list[str]:
        """The kinds and cursors of what it recorded."""
        lines = self.target.read_bytes().splitlines() if self.target.exists() else []
        return [f"{found['kind']} {found['cursor']}" for found in map(json.loads, lines)]

    def status(self) -> ServiceStatus:
        """What `netscanctl status` reads."""
        return msgspec.json.decode(self.status_file.read_bytes(), type=ServiceStatus)

    def end(self, number: int) -> int:
        """Send it a signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate(timeout=DEADLINE)
        return self.process.returncode


@pytest.fixture
def recorder(daemon: FakeDaemon, tmp_path: Path) -> Iterator[Running]:
    made = Running(daemon, tmp_path)
    yield made
    made.close()


def wait(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < ends, "timeout"
        time.sleep(0.01)


def test_an_event_is_accepted_before_its_cursor_is_saved(recorder: Running, daemon: FakeDaemon) -> None:
    """Killed before the target accepted it, the service gets the event again after its next start."""
    recorder.start()
    daemon.until_watched(2)  # the state, and the events
    wait(recorder.cursor.exists)
    recorder.hold.touch()
    daemon.send(came(device(7), cursor="k3f9-2"))
    wait(lambda: recorder.status().behind == 1)
    assert recorder.cursor.read_text() == "k3f9-1\n"
    assert recorder.end(signal.SIGKILL) == -signal.SIGKILL
    recorder.hold.unlink()
    daemon.resumed = [resumed(), came(device(7), cursor="k3f9-2")]
    recorder.start()
    wait(lambda: recorder.kinds() == ["online k3f9-2"])
    wait(lambda: recorder.cursor.read_text() == "k3f9-2\n")
    assert [query.get("since") for _, path, query, _ in daemon.requests if path == "/ws"].count("k3f9-1") == 1
    assert recorder.end(signal.SIGTERM) == 0


def test_the_first_start_delivers_nothing_old(recorder: Running, daemon: FakeDaemon) -> None:
    """It begins at the cursor of the snapshot."""
    recorder.start()
    daemon.until_watched(2)
    daemon.send(event("network_down", cursor="k3f9-2"))
    wait(lambda: recorder.kinds() == ["network_down k3f9-2"])


def test_a_damaged_cursor_is_reported_and_replaced(recorder: Running, daemon: FakeDaemon) -> None:
    """No service ends for it, and again at each start: it begins at the snapshot, and shows what is lost."""
    recorder.cursor.write_bytes(b"\0\xff k3f9-1")
    recorder.start()
    daemon.until_watched(2)
    daemon.send(event("network_down", cursor="k3f9-2"))
    wait(lambda: recorder.kinds() == ["network_down k3f9-2"])
    wait(lambda: recorder.cursor.read_text() == "k3f9-2\n")
    wait(lambda: "cursor is damaged; events since the last run are lost" in (recorder.status().last_error or ""))


def test_it_reports_to_systemd_and_to_status(recorder: Running, daemon: FakeDaemon) -> None:
    """READY, the watchdog, STATUS; the status file, gone after a clean end."""
    recorder.start()
    recorder.notified("READY=1")
    recorder.notified("WATCHDOG=1")
    daemon.until_watched(2)
    daemon.send(came(device(7)))
    wait(lambda: recorder.status().accepted == 1)
    (shown,) = read_statuses(str(daemon.socket), recorder.folder / "run")
    assert service_line(shown, None) == "recorder running, up to date, 1 events delivered"
    assert read_statuses("/another.sock", recorder.folder / "run") == []
    daemon.stop()
    recorder.notified("daemon: connection lost")
    assert recorder.end(signal.SIGTERM) == 0
    assert not recorder.status_file.exists()


def test_a_missing_daemon_is_waited_for(recorder: Running, daemon: FakeDaemon) -> None:
    daemon.stop()
    recorder.start()
    recorder.notified("READY=1")
    recorder.notified("daemon: netscand is not running")
    daemon.start()
    daemon.until_watched(2)
    recorder.notified("STATUS=up to date")


async def test_metrics_are_served_on_loopback() -> None:
    """And a port that is taken is an error of the configuration."""
    report = Report("mqtt", "d", lambda text: None, {})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{1}".format(*free.getsockname()[:2])
        free.listen()
        with pytest.raises(ConfigError, match=r"cannot listen: .*; use another port"):
            async with serve_metrics(address, report):
                pass
    async with serve_metrics(address, report):
        answer = await asyncio.to_thread(urllib.request.urlopen, f"http://{address}/metrics")
        assert b'netscand_service_working{service="mqtt"} 1.0' in answer.read()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[daemon]\nsokcet = 1\n", "[daemon] sokcet: unknown key; known keys: socket, url, token_file"),
        ("[dameon]\n", "[dameon]: unknown table; known tables: [daemon]"),
        ('[daemon]\nurl = "scan.lan"\n', "[daemon] url 'scan.lan': expected http://HOST:PORT or https://HOST:PORT"),
        ('[daemon]\ntoken_file = "/nonexistent"\n', "[daemon] token_file: /nonexistent: No such file or directory"),
        ("[daemon", "not TOML"),
    ],
)
def test_an_invalid_file_is_refused_with_what_to_do(recorder: Running, text: str, expected: str) -> None:
    """By --check-config and at the start, with the same words: table, key, value and what was expected."""
    recorder.config.write_text(text)
    config = str(recorder.config)
    for args in (("--check-config", config), ("--config", config, "--check-config"), ("--config", config)):
        process = recorder.start(*args)
        errors = process.communicate(timeout=DEADLINE)[1]
        assert process.returncode == 78
        assert errors.startswith("netscand-recorder: ")
        assert expected in errors


def test_a_metrics_address_must_be_loopback(tmp_path: Path) -> None:
    for address in ("0.0.0.0:9477", "9477", "localhost", "[::]:9477", "127.0.0.1"):
        with pytest.raises(msgspec.ValidationError, match="expected a loopback address with a port"):
            msgspec.convert({"metrics": address}, ServiceTable)
    assert msgspec.convert({"metrics": "[::1]:9477"}, ServiceTable).metrics == "[::1]:9477"
    assert load(tmp_path / "missing", ServiceTable, required=False)[1] == ServiceTable()
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "missing", ServiceTable)


# ---- its parts


async def test_a_cursor_is_saved_once_all_before_it_are_accepted() -> None:
    """Out of order, skipped, cancelled."""
    saved: list[str] = []
    ledger = Ledger(saved.append)
    ledger.skip("0")
    futures = [asyncio.get_running_loop().create_future() for _ in range(4)]
    for number, future in enumerate(futures, 1):
        ledger.add(str(number), future)
    ledger.skip("4b")
    futures[1].set_result(None)
    await asyncio.sleep(0)
    assert (saved, ledger.behind) == (["0"], 4)
    futures[0].set_result(None)
    await ledger.wait_below(3)
    assert (saved, ledger.behind) == (["0", "2"], 2)
    futures[2].cancel()
    futures[3].set_result(None)
    await asyncio.sleep(0)
    assert saved == ["0", "2"], "what was cancelled is not accepted, nor what follows it"


def test_delays_double_with_jitter_up_to_a_limit() -> None:
    shortest, longest = Backoff(1, 60, lambda: 0.0), Backoff(1, 60, lambda: 1.0)
    assert [shortest.next_delay() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [longest.next_delay() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    longest.reset()
    assert longest.next_delay() == 1


def status(**more: object) -> ServiceStatus:
    fields: dict[str, object] = {"name": "mqtt", "version": "1", "daemon": "d", "updated_at": timestamp()}
    return msgspec.convert(fields | more, ServiceStatus)


def test_a_line_shows_problems_errors_and_silence() -> None:
    """Cleaned of what would act on a terminal, and what a target said."""
    line = service_line(status(problems=["target: \x1b[31mrefused"], behind=12, accepted=3), None)
    assert line == "mqtt target: [31mrefused, behind by 12 events, 3 events delivered"
    line = service_line(status(last_error="x", last_error_at="2026-11-30T10:00:00.000Z", put_aside=2), None)
    assert re.fullmatch(r"mqtt running, up to date, 0 events delivered, 2 refused, last error 2026-11-30 .*: x", line)
    late = datetime.now(UTC) + timedelta(seconds=31)
    assert "mqtt does not respond (last report " in service_line(status(), None, late)
    assert service_line(status(updated_at="x"), None).startswith("mqtt does not respond")


def test_status_files_of_any_content_are_survived(tmp_path: Path) -> None:
    for number, content in enumerate(
        (b"", b"{", b"[]", b'{"name": 1}', os.urandom(100), msgspec.json.encode(status()))
    ):
        (folder := tmp_path / f"netscand-{number}").mkdir()
        (folder / "status.json").write_bytes(content)
    (tmp_path / "netscand-folder/status.json").mkdir(parents=True)
    assert [one.name for one in read_statuses("d", tmp_path)] == ["mqtt"]


def test_a_service_run_by_hand_has_a_status_for_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the user's own folder; without one, as in cron, there is none."""
    report = Report("mqtt", "d", lambda text: None, {"XDG_RUNTIME_DIR": str(tmp_path)})

    async def play() -> None:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(report.run())
            while not (tmp_path / "netscand-mqtt/status.json").exists():
                await asyncio.sleep(0.01)
            assert (tmp_path / "netscand-mqtt").stat().st_mode & 0o077 == 0
            monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
            assert [one.name for one in read_statuses("d", tmp_path / "none")] == ["mqtt"]
            monkeypatch.delenv("XDG_RUNTIME_DIR")
            assert read_statuses("d", tmp_path / "none") == []
            running.cancel()
        assert not (tmp_path / "netscand-mqtt/status.json").exists()

    asyncio.run(play())


def test_an_enabled_service_without_a_status_does_not_run(tmp_path: Path) -> None:
    """Those of a hub have none."""
    others = ("netscand.service", "ssh.service", "netscand-hub.service", "netscand-nats.service")
    for name in ("netscand-mqtt.service", "netscand-notify.service", *others):
        (tmp_path / name).touch()
    expected = ["notify is not running; see journalctl -u netscand-notify -n 20"]
    assert missing_services([status()], tmp_path) == expected


def test_a_problem_is_logged_and_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    report = Report("mqtt", "d", lambda text: None, {})
    caplog.set_level("INFO")
    for sentence in ("refused", "refused", None, None):
        report.problem("target", sentence)
    assert caplog.messages == ["target: refused", "target: works again"]
    assert b'netscand_service_errors_total{service="mqtt"} 1.0' in report.metrics
    assert (report.status.problems, report.status.last_error) == ([], "target: refused")


def test_netscanctl_status_has_a_line_for_each_service(recorder: Running, daemon: FakeDaemon, tmp_path: Path) -> None:
    """From the files below /run, which only root can make there."""
    recorder.start()
    daemon.until_watched(2)
    wait(recorder.status_file.exists)
    program = (
        "import sys; from netscanctl import service_status; from pathlib import Path; "
        f"service_status.read_statuses.__defaults__ = (Path({str(tmp_path / 'run')!r}),); "
        f"sys.argv = ['netscanctl', '--socket', {str(daemon.socket)!r}, 'status']; "
        "from netscanctl.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert done.stdout.splitlines()[-1] == "service    recorder running, up to date, 0 events delivered"
