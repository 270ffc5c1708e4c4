"""netscand-notify: at least once, in order, each channel for itself; what a kill, an hour away and a refusal do."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from netscanctl.client import Daemon
from netscanctl.service_status import ServiceStatus, service_line
from netscanctl.services.notify import outbox as module
from netscanctl.services.notify.__main__ import PROGRAM
from netscanctl.services.notify.outbox import Outbox, Store
from netscanctl.services.notify.senders import Refused, TryAgain
from netscanctl.services.notify.service import NotifyService
from netscanctl.services.notify.settings import Notify, Rule
from netscanctl.services.notify.state import Entry, Message, Rules, RuleState, Slot, Stored
from netscanctl.services.program import Context
from netscanctl.services.report import Report
from netscand.protocol import Event, PeopleList, encode
from tests.core.virtual_loop import VirtualLoop, run
from tests.ctl.conftest import ROOT, environment
from tests.ctl.fake_daemon import DEADLINE, FakeDaemon
from tests.ctl.messages import HOME, device, event, network, resumed, scanned, snapshot
from tests.ctl.notify_receivers import Hooks, Mails, free_port, listening, mail_server, message, until
from tests.ctl.notify_world import START

# ---- the queues, on a clock that jumps


class Receiver:
    """A channel that is away until `back` (loop time), or as `answers` say."""

    def __init__(self, back: float = 0.0, *answers: Exception | None) -> None:
        self.back, self.answers = back, list(answers)
        self.attempts: list[tuple[float, str]] = []
        self.accepted: list[tuple[float, str]] = []

    async def send(self, message: Message) -> None:
        now = asyncio.get_running_loop().time() - 1000
        self.attempts.append((now, message.id))
        answer = self.answers.pop(0) if self.answers else None
        if now < self.back:
            raise TryAgain("connection failed")
        if answer is not None:
            raise answer
        self.accepted.append((now, message.id))


def deliver(receivers: dict[str, Receiver], count: int, seconds: float, stored: Stored | None = None) -> Report:
    """Put messages into the queue of each channel, and let the time pass."""
    report = Report("notify", "d", lambda text: None, {})

    async def main() -> None:
        store = Store(None, report)
        store.stored = stored or store.stored
        box = Outbox(dict(receivers), store, report)
        box.put((name, message(number)) for number in range(count) for name in receivers)
        tasks = [asyncio.get_running_loop().create_task(box.deliver(name)) for name in receivers]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
            assert not task.done() or task.exception() is None

    run(VirtualLoop(), main())
    return report


def test_what_was_due_arrives_once_the_receiver_is_back() -> None:
    """An hour away: the same ids, in order, within a minute; and the other channel waited for nothing."""
    phone, mail = Receiver(back=3600), Receiver()
    report = deliver({"phone": phone, "mail": mail}, 5, 3700)
    ids = [f"k3f9-{number}" for number in range(5)]
    assert [one for _, one in phone.accepted] == ids
    assert 3600 <= phone.accepted[0][0] <= 3660
    assert {one for _, one in phone.attempts} == set(ids)
    assert len(phone.attempts) < 150, "the pauses grow to a minute"
    assert [one for _, one in mail.accepted] == ids
    assert mail.accepted[-1][0] == 0
    assert report.status.behind == 0


def test_five_hundred_three_times_is_three_attempts_more() -> None:
    phone = Receiver(0, *[TryAgain("answered 500")] * 3)
    report = deliver({"phone": phone}, 2, 60)
    assert [one for _, one in phone.attempts] == ["k3f9-0"] * 4 + ["k3f9-1"]
    assert (report.status.problems, report.status.put_aside) == ([], 0)


def test_retry_after_is_obeyed() -> None:
    """The next attempt is not earlier."""
    phone = Receiver(0, TryAgain("answered 429", 1000))
    deliver({"phone": phone}, 1, 2000)
    assert phone.attempts[1][0] >= 1000


@pytest.mark.parametrize("failure", [Refused("answered 410 (Gone)"), ValueError("a fault of ours")])
def test_a_refused_message_is_put_aside(failure: Exception) -> None:
    """It holds up nothing, is counted and shown, and is tried once more at the next start."""
    phone, stored = Receiver(0, failure), Stored()
    report = deliver({"phone": phone}, 3, 60, stored)
    assert [one for _, one in phone.accepted] == ["k3f9-1", "k3f9-2"]
    assert (report.status.put_aside, report.status.behind) == (1, 0)
    assert (report.status.last_error or "").startswith('phone refused "New device: host0": ')
    again = Receiver()
    deliver({"phone": again}, 0, 60, stored)
    assert [one for _, one in again.accepted] == ["k3f9-0"]
    assert (stored.queues, stored.refused) == ({"phone": []}, {})


def test_a_full_queue_becomes_one_message_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded, and no event is dropped without a trace."""
    monkeypatch.setattr(module, "MOST_QUEUED", 10)
    stored = Stored()
    deliver({"phone": Receiver(back=1e9)}, 500, 1, stored)
    last = stored.queues["phone"][-1]
    assert (len(stored.queues["phone"]), last.title, last.count) == (10, "491 notifications", 491)
    assert len(last.text) <= 3500


async def test_what_a_changed_configuration_drops_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Messages of a channel, and events of a rule, that are no longer there; what is still there is kept."""
    report = Report("notify", "d", lambda text: None, {})
    store = Store(None, report)
    waits = Slot(waiting=Entry(event=event("offline", device(7)), at=START, channels=("ntfy",)), ready_at=START + 60)
    store.stored.queues = {"ntfy": [message(1)], "mail": [message(2), message(3)]}
    store.stored.refused = {"mail": [message(4)]}
    store.stored.rules = Rules(now=START, rules={"gone": RuleState(slots={"a": waits}), "old": RuleState()})
    table = Notify(ntfy="https://ntfy.example/t", rule={"new": Rule()})
    NotifyService(table, Context(Daemon(), report, None), store, lambda: START, lambda: 0.0)
    assert caplog.messages == [
        'channel "mail" is no longer configured: 3 messages are dropped',
        'rule "gone" is no longer configured: 1 event that waited is dropped',
    ]
    assert [one.id for one in store.stored.queues["ntfy"]] == ["k3f9-1"]


# ---- the state file


async def test_a_damaged_state_file_is_reported(tmp_path: Path) -> None:
    """And the service starts anew."""
    for content in (b"", b"{", b"[]", b'{"queues": 1}'):
        (tmp_path / "state.json").write_bytes(content)
        report = Report("notify", "d", lambda text: None, {})
        assert Store(tmp_path, report).stored == Stored()
        assert "damaged" in (report.status.last_error or "")


async def test_a_disk_that_is_full_is_a_problem_while_it_lasts(tmp_path: Path) -> None:
    """The folder is gone, and comes back."""
    folder = tmp_path / "state"
    report = Report("notify", "d", lambda text: None, {})
    store = Store(folder, report)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.run())
        store.changed()
        while not report.status.problems:
            await asyncio.sleep(0.01)
        assert report.status.problems == [f"state: {folder}/state.json: cannot be written: No such file or directory"]
        folder.mkdir()
        while report.status.problems:
            await asyncio.sleep(0.01)
        task.cancel()
    assert (folder / "state.json").stat().st_mode & 0o777 == 0o600


# ---- its clocks


class Clocks:
    """A service whose wall clock and elapsed time the test moves; its rule is `for = "2m"`."""

    def __init__(self) -> None:
        self.wall, self.elapsed = START, 0.0
        self.report = Report("notify", "d", lambda text: None, {})
        self.store = Store(None, self.report)
        table = Notify(ntfy="https://ntfy.example/t", rule={"gone": Rule(kinds=("offline",), hold="2m")})
        context = Context(Daemon(), self.report, None)
        self.service = NotifyService(table, context, self.store, lambda: self.wall, lambda: self.elapsed)

    def status(self, status: str, seconds: float) -> None:
        """Give it an event that happened so many seconds after START."""
        stamp = datetime.fromtimestamp(START + seconds, UTC).isoformat(timespec="milliseconds")
        self.service._take(event(status, device(7, status), at=stamp.replace("+00:00", "Z")))

    def go_on(self, elapsed: float, wall: float | None = None) -> int:
        """Move the clocks; the number of messages in the queue."""
        self.elapsed += elapsed
        self.wall += elapsed if wall is None else wall
        self.service._tick_once()
        return len(self.store.stored.queues["ntfy"])


async def test_a_clock_that_is_set_moves_what_waits() -> None:
    """Years forward (a machine without a clock), and back: `for` is two minutes all the same."""
    for leap in (1e8, -1e8):
        clocks = Clocks()
        clocks.status("offline", 0)
        assert clocks.go_on(60, leap) == 0
        assert clocks.go_on(55) == 0
        clocks.go_on(10)
        assert clocks.go_on(10) == 1


async def test_missed_events_are_complete_before_time_goes_on() -> None:
    """An hour late, a device that was away for a minute is no message, however slowly the events arrive."""
    clocks = Clocks()
    clocks.go_on(3600)
    clocks.status("offline", 0)
    assert clocks.go_on(0.1) == 0
    clocks.status("online", 60)
    assert clocks.go_on(100) == 0
    clocks.status("offline", 3000)
    clocks.go_on(100)
    assert clocks.go_on(100) == 1


# ---- the process


class Running:
    """The service, with folders as systemd would make them."""

    def __init__(self, daemon: FakeDaemon, folder: Path) -> None:
        self.state, self.run = folder / "state", folder / "run"
        self.config = folder / "services.toml"
        self._daemon = daemon
        for made in (self.state, self.run):
            made.mkdir()
        self.process: subprocess.Popen[str] | None = None

    def configure(self, text: str) -> None:
        """Write the configuration."""
        self.config.write_text(f'[daemon]\nsocket = "{self._daemon.socket}"\n{text}')

    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "netscanctl.services.notify", "--config", str(self.config), *args]

    def start(self) -> None:
        """Start it, and wait until it follows the events."""
        watched = self._daemon.greeted
        env = environment(STATE_DIRECTORY=str(self.state), RUNTIME_DIRECTORY=str(self.run))
        self.process = subprocess.Popen(self.argv(), env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self._daemon.until_watched(watched + 2)

    def call(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        return subprocess.run(
            self.argv(*args), env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE
        )

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate(timeout=DEADLINE)
        return self.process.returncode

    def close(self) -> None:
        """Kill it, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)

    @property
    def status(self) -> ServiceStatus:
        """What `netscanctl status` reads."""
        return msgspec.json.decode((self.run / "status.json").read_bytes(), type=ServiceStatus)

    @property
    def stored(self) -> Stored:
        """The state file."""
        path = self.state / "state.json"
        return msgspec.json.decode(path.read_bytes(), type=Stored) if path.exists() else Stored()


@pytest.fixture
def service(daemon: FakeDaemon, tmp_path: Path) -> Iterator[Running]:
    made = Running(daemon, tmp_path)
    yield made
    made.close()


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    with listening() as made:
        yield made


def now(seconds: float = 0) -> str:
    """A time in the protocol, before now."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new(number: int, cursor: str, **more: object) -> Event:
    return event("discovered", device(number), cursor, at=now(), **more)


def channels(**urls: str) -> str:
    return "[notify]\n" + "".join(f'[notify.channel.{name}]\nwebhook = "{url}"\n' for name, url in urls.items())


def test_a_new_device_is_a_message(service: Running, daemon: FakeDaemon, hooks: Hooks) -> None:
    """Two lines of configuration; the status shows that it was delivered; the cursor is in the same file."""
    service.configure(f'[notify]\nntfy = "http://127.0.0.1:{hooks.port}/topic"\n')
    service.start()
    daemon.send(new(7, "k3f9-2"))
    found = hooks.next().data
    assert (found["topic"], found["title"], found["sequence_id"]) == ("topic", "New device: host7", "k3f9-2")
    until(lambda: service.stored.cursor == "k3f9-2" and service.status.accepted == 1)
    assert service_line(service.status, None) == "notify running, up to date, 1 events delivered"
    assert service.end() == 0


def test_the_first_start_reports_nobody(service: Running, daemon: FakeDaemon, hooks: Hooks) -> None:
    """Not the devices of the snapshot, nor what the first scan of a new daemon discovers."""
    daemon.snapshot = [snapshot(device(7), networks=[network(last_scan=None)])]
    service.configure(channels(ops=hooks.url) + '[notify.rule.all]\nkinds = ["discovered", "offline"]\n')
    service.start()
    daemon.send(new(8, "k3f9-2"), new(9, "k3f9-3"), scanned(networks=(HOME,)), new(10, "k3f9-10"))
    daemon.send(event("offline", device(7, "offline"), "k3f9-11", at=now(), previous={"status": "online"}))
    assert hooks.next().data["data"]["title"] == "host7 is offline"
    assert hooks.posts.empty()


def test_killed_before_the_channel_accepted_it_is_sent_again(
    service: Running, daemon: FakeDaemon, hooks: Hooks
) -> None:
    """With the same id; what was accepted before is not repeated once that was written."""
    service.configure(channels(ops=hooks.url))
    service.start()
    daemon.send(new(7, "k3f9-2"))
    assert hooks.next().headers["webhook-id"] == "k3f9-2"
    until(lambda: service.stored.cursor == "k3f9-2" and not service.stored.queues["ops"])
    hooks.delay.clear()  # the second one is received, and not answered
    daemon.send(new(8, "k3f9-3"))
    assert hooks.next().headers["webhook-id"] == "k3f9-3"
    until(lambda: service.stored.cursor == "k3f9-3")
    assert service.end(signal.SIGKILL) == -signal.SIGKILL
    hooks.delay.set()
    daemon.resumed = [resumed("k3f9-3"), new(9, "k3f9-4")]
    service.start()
    assert [hooks.next().headers["webhook-id"] for _ in range(2)] == ["k3f9-3", "k3f9-4"]
    assert [query["since"] for _, path, query, _ in daemon.requests if path == "/ws" and "since" in query] == ["k3f9-3"]


def test_killed_many_times_no_message_is_missing(service: Running, daemon: FakeDaemon, hooks: Hooks) -> None:
    """SIGKILL at any moment: each event arrives at least once. The daemon resumes at the cursor that it is given."""
    service.configure(channels(ops=hooks.url))
    daemon.resumed = [resumed()]
    service.start()
    until(lambda: service.stored.cursor)
    events, seen = [new(number, f"k3f9-{number}") for number in range(2, 42)], set()
    for begin in range(0, 40, 5):
        daemon.send(*events[begin : begin + 5])
        if begin % 10:  # some are killed with messages on their way
            seen.add(hooks.next().headers["webhook-id"])
        service.end(signal.SIGKILL)
        last = int((service.stored.cursor or "").rpartition("-")[2])
        daemon.resumed = [resumed(), *(one for one in events[: begin + 5] if int(one.cursor[5:]) > last)]
        service.start()
    wanted = {one.cursor for one in events}
    while seen != wanted:
        found = hooks.next()
        seen |= {found.headers["webhook-id"], *(one["cursor"] for one in found.data["data"]["events"])}


def test_a_channel_that_is_away_holds_up_no_other(service: Running, daemon: FakeDaemon, hooks: Hooks) -> None:
    """It is a problem in the status until it is back; then it gets what was due, with the same ids."""
    port, mails = free_port(), Mails()
    with mail_server(mails) as mail_port:
        service.configure(
            channels(ops=f"http://127.0.0.1:{port}/", other=hooks.url)
            + f'[notify.channel.mail]\nsmtp = "127.0.0.1:{mail_port}"\ntls = "none"\n'
            + 'from = "netscand@example.org"\nto = ["me@example.org"]\n'
        )
        service.start()
        daemon.send(new(7, "k3f9-2"))
        assert hooks.next().headers["webhook-id"] == "k3f9-2"
        assert mails.next()["Subject"] == "New device: host7"
        until(lambda: service.status.problems)
    assert service.status.problems[0].startswith("ops: connection failed: ")
    assert service.status.behind == 1
    with listening(port=port) as back:
        assert back.next().headers["webhook-id"] == "k3f9-2"
        until(lambda: not service.status.problems)


def test_a_receiver_that_is_gone_is_shown(service: Running, daemon: FakeDaemon, hooks: Hooks) -> None:
    """410 puts the message aside: counted, in the status; the next one is sent."""
    hooks.answers = [410]
    service.configure(channels(ops=hooks.url))
    service.start()
    daemon.send(new(7, "k3f9-2"))
    hooks.next()
    until(lambda: service.status.put_aside == 1)
    assert "1 refused, last error" in service_line(service.status, None)
    assert service.status.last_error == 'ops refused "New device: host7": answered 410'
    daemon.send(new(8, "k3f9-3"))
    assert hooks.next().headers["webhook-id"] == "k3f9-3"


def test_a_cursor_that_has_expired_is_an_error(service: Running, daemon: FakeDaemon, hooks: Hooks) -> None:
    """The snapshot then reports nobody."""
    (service.state / "state.json").write_bytes(msgspec.json.encode(Stored(cursor="old-1")))
    service.configure(channels(ops=hooks.url))
    service.start()
    until(lambda: service.stored.cursor == "k3f9-1")
    until(lambda: service.status.last_error)
    assert service.status.last_error == "cursor old-1 has expired: events since then are lost"
    assert hooks.posts.empty()


# ---- the other commands


def test_test_sends_one_message(service: Running, hooks: Hooks) -> None:
    hooks.answers = [204, 404]
    service.configure(channels(ops=hooks.url))
    done = service.call("test", "ops")
    assert (done.returncode, done.stdout, hooks.next().data["type"]) == (0, "ops: accepted\n", "netscand.test")
    done = service.call("test", "ops")
    assert (done.returncode, done.stderr) == (69, "netscand-notify: ops: answered 404\n")
    done = service.call("test", "phone")
    assert (done.returncode, done.stderr) == (78, 'netscand-notify: no channel "phone"; the channels are: ops\n')
    assert service.call("test").returncode == 2


def test_dry_run_prints_what_a_day_would_have_sent(service: Running, daemon: FakeDaemon, hooks: Hooks) -> None:
    """By the rules and the times of the events; nothing is sent."""
    daemon.events = [
        event("discovered", device(7), "k3f9-2", at=now(7200)),
        event("offline", device(8, "offline"), "k3f9-3", at=now(7000), previous={"status": "online"}),
        event("online", device(8), "k3f9-4", at=now(6970), previous={"status": "offline"}),
        event("offline", device(9, "offline"), "k3f9-5", at=now(30), previous={"status": "online"}),
    ]
    service.configure(channels(ops=hooks.url) + '[notify.rule.all]\nkinds = ["discovered", "offline"]\nfor = "1m"\n')
    done = service.call("--dry-run")
    assert done.stdout.splitlines()[0] == "ops: New device: host7"
    assert done.stdout.splitlines()[-1] == (
        "4 events of the last day: 1 messages, 1 events would still wait (for, cooldown, digest or quiet)"
    )
    assert hooks.posts.empty()
    (query,) = [query for _, path, query, _ in daemon.requests if path == "/api/events"]
    assert query["since"].endswith("Z")


def test_a_rule_that_fits_nothing_is_named(service: Running, daemon: FakeDaemon, hooks: Hooks) -> None:
    """A mistyped name is no silent rule: `--dry-run` names it, and so does the service, in its log."""
    daemon.devices[0].tags = ["iot"]
    rules = {
        "tags": '["ios", "IoT"]', "devices": '["printer*", "host*"]', "networks": '["eth7"]',
        "people": '["Jnae"]\nkinds = ["person_home"]',
    }  # fmt: skip
    text = "".join(f"[notify.rule.{key}]\n{key} = {value}\n" for key, value in rules.items())
    service.configure(channels(ops=hooks.url) + text)
    daemon.answers["/api/people"] = 200, encode(PeopleList(cursor="k3f9-1", people=[]))
    there = daemon.networks[0].id
    expected = [
        "[notify.rule.tags] tags 'ios': no device has this tag now; the tags are: iot",
        "[notify.rule.devices] devices 'printer*': there is no such device now; to list them: netscanctl devices",
        f"[notify.rule.networks] networks 'eth7': there is no such network now; the networks are: {there}",
        "[notify.rule.people] people 'Jnae': there is no such person now; the people are: none",
    ]
    found = service.call("--dry-run").stderr.splitlines()
    assert found == [f"netscand-notify: warning: {line}" for line in expected]
    service.start()
    assert service.process is not None
    assert service.process.stderr is not None
    logged = ""
    while expected[-1] not in logged:
        line = service.process.stderr.readline()
        assert line, logged
        logged += line
    assert all(line in logged for line in expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[notify]\n", "no channel: set ntfy, or add a [notify.channel.NAME]"),
        ('[notify]\nntfy = "https://ntfy.sh/"\n', "expected a URL that ends with a topic"),
        ('[notify]\nntfy = "https://u:p@ntfy.sh/x"\n', "put a password or token into secret_file"),
        ("[notify.channel.a]\n", "expected one of ntfy, webhook, smtp and apprise, not none"),
        ('[notify.channel.a]\nntfy = "https://n.sh/x"\nwebhook = "https://n.sh/x"\n', "not ntfy and webhook"),
        ('[notify.channel.a]\nsmtp = "mail"\n', "from is missing"),
        ('[notify.channel.a]\nsmtp = "mail:x"\n', "expected HOST or HOST:PORT"),
        ('[notify.channel.a]\nsmtp = "mail"\nfrom = "me"\n', "expected an address such as netscand@example.org"),
        ('[notify.channel.a]\nwebhook = "ftp://x"\n', "expected a URL such as https://hooks.example.org/netscand"),
        ('[notify.channel.a]\nsecret_file = "x"\nwebhook = "https://x"\n', "relative path: use an absolute one"),
        ('[notify.channel.a]\nsecret_file = "/nonexistent"\nwebhook = "https://x"\n', "cannot be read: No such file"),
        ("[notify.channel.a]\napprise = true\n", "secret_file is missing: a file with the URLs of Apprise"),
        ('[notify.rule.a]\nchannels = ["phone"]\n', "channels 'phone': no such channel; the channels are: none"),
        ('[notify.rule.a]\npeople = ["Jane"]\n', "rule.a: people ['Jane']: no kind is about people; add kinds, such"),
        ('[notify.rule.a]\npeople = ["J"]\nkinds = ["person_home"]\nknown = false\n', "people and known exclude"),
        ('[notify.rule.a]\nfor = "soon"\n', "[notify.rule.a] for 'soon': expected a duration of up to 30 days"),
        ('[notify.rule.a]\nquiet = ["7-8"]\n', "expected hours in local time, such as 22:00-07:00"),
        ('[notify.rule.a]\nquiet = ["07:00-22:00", "22:00-07:00"]\n', "covers the whole day"),
        ('[notify.rule.a]\nkinds = ["new"]\n', "[notify.rule.a] kinds: expected a list, each one of address_added"),
        ('[notify.rule.a]\ntitle = "{name.__class__}"\n', "unknown field {name.__class__}; known fields: name, label"),
        ('[notify.rule.a]\ntext = "{name!r}{time:>9}"\n', "unknown field {name!r}"),
        ('[notify.rule.a]\ntitle = "{name"\n', "a brace is not closed or not opened"),
        ('[notify.rule."a b"]\n', "expected a name of 1 to 32 letters"),
        ("[notify]\nrule = 1\n", "expected up to 256 tables such as [notify.rule.NAME]"),
    ],
)
def test_an_invalid_configuration_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    """With the key, its value, and what was expected."""
    (tmp_path / "services.toml").write_text(text)
    assert PROGRAM._check(tmp_path / "services.toml") == 78
    assert expected in capsys.readouterr().err


def test_no_service_starts_with_an_invalid_configuration(service: Running) -> None:
    """With the same words as --check-config."""
    service.configure('[notify.rule.a]\nchannels = ["phone"]\n')
    for done in (service.call(), service.call("--check-config", str(service.config))):
        assert done.returncode == 78
        assert "rule.a: channels 'phone': no such channel; the channels are: none" in done.stderr


def test_a_secret_may_be_a_credential(service: Running, hooks: Hooks, tmp_path: Path) -> None:
    """Of systemd: netscand-notify.CHANNEL; the environment names its folder."""
    (tmp_path / "netscand-notify.phone").write_text("tk_1\n")
    service.configure(f'[notify.channel.phone]\nntfy = "http://127.0.0.1:{hooks.port}/t"\n')
    subprocess.run(
        service.argv("test", "phone"), env=environment(CREDENTIALS_DIRECTORY=str(tmp_path)), cwd=ROOT, check=True,
        capture_output=True, timeout=DEADLINE,
    )  # fmt: skip
    assert hooks.next().headers["authorization"] == "Bearer tk_1"


def test_names_from_the_lan_are_cleaned(service: Running, daemon: FakeDaemon, hooks: Hooks) -> None:
    """No template, markup or control character takes effect."""
    service.configure(channels(ops=hooks.url) + '[notify.rule.a]\ntext = "{name} {{x}} {link}"\n')
    service.start()
    daemon.send(event("discovered", device(7, hostname="{mac}\x1b[31m\r\nBcc: x\u202e"), "k3f9-2", at=now()))
    found = json.loads(hooks.next().body)["data"]
    assert (found["title"], found["text"]) == ("New device: {mac}[31m Bcc: x", "{mac}[31m Bcc: x {x}")
