"""netscand-uplink with a real NATS server: exact logs, whatever is killed, rolled back or refused."""

import asyncio
import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from netscanctl.services.uplink.sender import START, Place, find_place
from netscanctl.services.uplink.server import Server, Stored
from netscand import protocol, sites
from tests.ctl.conftest import ROOT
from tests.ctl.fake_daemon import DEADLINE
from tests.ctl.messages import device, event
from tests.engines.hub_process import until
from tests.engines.mosquitto import wait
from tests.engines.nats_server import SITE, Alive, History, NatsServer, is_event, key, view
from tests.engines.service_process import Running
from tests.engines.simulated_site import SimulatedSite
from tests.serve.certificate import CERTIFICATE, KEY

Start = Callable[..., Running]
MAC = "a4:83:e7:00:00:07"
PHONE = f"{sites.PREFIX}.{SITE}.device.a483e7000007"


class Uplink(Running):
    """netscand-uplink."""

    name = "uplink"


@pytest.fixture
def server(folder: Path) -> Iterator[NatsServer]:
    made = NatsServer(folder)
    yield made
    made.kill()


@pytest.fixture
def daemon(folder: Path) -> Iterator[History]:
    made = History(folder / "netscand.sock")
    made.start()
    assert made.socket is not None
    made.socket.chmod(0o666)
    yield made
    made.stop()


@pytest.fixture
def start(folder: Path, daemon: History, server: NatsServer) -> Iterator[Start]:
    """Start the service, with keys of [uplink], each in a folder of its own."""
    with ExitStack() as stack:

        def begin(site: str = SITE, place: str = "one", **keys: Any) -> Running:  # noqa: ANN401
            assert daemon.socket is not None
            (where := folder / place).mkdir(exist_ok=True)
            where.chmod(0o755)
            if "key_file" not in keys:
                (secret := where / "key").write_text(server.keys.get(site, ""))
                secret.chmod(0o644)
                keys["key_file"] = str(secret)
            fixed: dict[str, Any] = {"server": server.url, "site": site, "instance": place, "spread": 0.2}
            made = Uplink(where, daemon.socket, **fixed | keys)
            stack.callback(made.close)
            made.start()
            return made

        yield begin


def program(config: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    """The program with a command."""
    argv = [sys.executable, "-m", "netscanctl.services.uplink", "--config", str(config), *args]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)


def until_in_log(server: NatsServer, *cursors: str) -> None:
    wait("events in the log", lambda: set(cursors) <= set(server.cursors()))


def exact(server: NatsServer, daemon: History) -> None:
    """The view has every event since the first snapshot once, in order, and the devices as they are."""
    shown, statuses = view(server.entries())
    assert shown == [one.cursor for one in daemon.events]
    assert statuses == {one.mac: one.status for one in daemon.devices}


def test_a_first_start_publishes_a_snapshot_and_then_events(start: Start, server: NatsServer, daemon: History) -> None:
    """Unchanged bytes, with id, cursor, the cursor before it, protocol and instance."""
    running = start()
    daemon.until_watched()
    (cursor,) = daemon.happen()
    until_in_log(server, cursor)
    entries = server.entries()
    assert [one.content["type"] for one in entries] == [
        "snapshot_began", "event", "event", "event", "snapshot_ended", "event",
    ]  # fmt: skip
    assert {one.subject for one in entries} == {
        f"{sites.PREFIX}.{SITE}.site", *(f"{sites.PREFIX}.{SITE}.device.a483e70000{at}" for at in ("07", "08", "14")),
    }  # fmt: skip
    last = entries[-1]
    assert last.content == json.loads(protocol.encode(daemon.events[0]))
    assert {name: last.headers[name] for name in (sites.CURSOR_HEADER, sites.PREVIOUS, sites.PROTOCOL)} == {
        sites.CURSOR_HEADER: "k3f9-2", sites.PREVIOUS: "k3f9-1", sites.PROTOCOL: "1",
    }  # fmt: skip
    assert last.headers[sites.INSTANCE] == "one"
    assert last.headers[sites.MESSAGE_ID].startswith("house-k3f9-2-")
    wait("accepted", lambda: running.status().accepted == 1 and not running.status().problems)
    assert running.end() == 0


def test_derived_streams_have_the_last_state(start: Start, server: NatsServer, daemon: History) -> None:
    start()
    daemon.until_watched()
    daemon.happen(6)
    wait("state", lambda: [one.cursor for one in server.entries(sites.CURSOR)] == ["k3f9-7"])
    found = {one.subject: one for one in server.entries(sites.STATE)}
    assert len(found) == 4
    log = {one.sequence: one.headers[sites.MESSAGE_ID] for one in server.entries()}
    assert all(
        log[int(one.headers[sites.SOURCE].split()[1])] == one.headers[sites.MESSAGE_ID] for one in found.values()
    )


def test_what_users_wrote_stays_here_unless_configured(start: Start, server: NatsServer, daemon: History) -> None:
    """Labels and notes, in devices and in what they were before."""
    daemon.devices[0] = device(7, label="Jane's phone", notes="secret", tags=["jane-secret"], known=True)
    running = start()
    daemon.until_watched()
    labelled = event("labelled", daemon.devices[0], "k3f9-2", previous={"label": "Jane's old phone", "known": False})
    daemon.events.append(labelled)
    daemon.send(labelled)
    until_in_log(server, "k3f9-2")
    everything = json.dumps([one.content for one in server.entries()])
    assert "Jane" not in everything
    assert "secret" not in everything
    assert server.entries()[-1].content["previous"] == {"label": None, "known": False}
    running.end()
    running = start(words=True)
    daemon.until_watched(2)
    labelled = event("labelled", daemon.devices[0], "k3f9-3", previous={"label": "x"})
    daemon.events.append(labelled)
    daemon.send(labelled)
    until_in_log(server, "k3f9-3")
    assert server.entries()[-1].content == json.loads(protocol.encode(labelled))


def test_it_resumes_behind_the_servers_last_cursor(start: Start, server: NatsServer, daemon: History) -> None:
    """A week without a connection: from the history, paced; no file of its own is needed."""
    running = start()
    daemon.until_watched()
    until_in_log(server, *daemon.happen())
    wait("the cursor", lambda: [one.cursor for one in server.entries(sites.CURSOR)] == ["k3f9-2"])
    running.end(signal.SIGKILL)
    shutil.rmtree(running.state)
    running.state.mkdir(mode=0o777)
    daemon.happen(1500, publish=False)
    begun = daemon.greeted
    start(rate=1000)
    wait("following", lambda: daemon.greeted > begun)
    until_in_log(server, *daemon.happen())
    exact(server, daemon)
    assert [one.content["type"] for one in server.entries()].count("snapshot_began") == 1
    assert len(server.cursors()) == 1502, "none twice in the log"
    since = [query["since"] for _, path, query, _ in daemon.requests if path == "/api/events"]
    assert since == ["k3f9-2", "k3f9-502", "k3f9-1002"]


def test_another_epoch_begins_with_a_snapshot(start: Start, server: NatsServer, daemon: History) -> None:
    """A daemon whose history was lost or restored: devices that it does not name are gone from the view."""
    running = start()
    daemon.until_watched()
    until_in_log(server, *daemon.happen(3))
    running.end()
    daemon.epoch, daemon.devices = "zz11", [device(9)]
    daemon.events.clear()
    begun = daemon.greeted
    start()
    wait("following", lambda: daemon.greeted > begun)
    until_in_log(server, *daemon.happen(2))
    shown, statuses = view(server.entries())
    assert shown == ["k3f9-2", "k3f9-3", "k3f9-4", "zz11-2", "zz11-3"]
    assert set(statuses) == {"a4:83:e7:00:00:09"}


def test_an_incomplete_snapshot_is_made_again(start: Start, server: NatsServer, daemon: History) -> None:
    daemon.devices = [device(number) for number in range(1, 201)]
    running = start(rate=40)
    wait("a part", lambda: 20 < len(server.entries()) < 150)
    running.end(signal.SIGKILL)
    daemon.devices = daemon.devices[:30]
    start(rate=1000)
    wait("the end", lambda: "snapshot_ended" in [one.content["type"] for one in server.entries()])
    assert len(view(server.entries())[1]) == 30


def test_kills_and_roll_backs_lose_no_event(
    start: Start, server: NatsServer, daemon: History, request: pytest.FixtureRequest
) -> None:
    """Of the server and of the service, at any moment; twice the server's disk is rolled back; with --long, more."""
    chance = random.Random(7)
    running = start(rate=100_000)
    daemon.until_watched()
    until_in_log(server, *daemon.happen())
    copy = server.folder / "copy"
    for step in range(60 if request.config.getoption("--long") else 12):
        daemon.happen(chance.randrange(1, 120))
        if step % 3 != 2:
            server.kill()
        if step % 3 != 0:
            running.end(signal.SIGKILL)
        if step % 5 == 1:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(server.store, copy)
        if step % 5 == 4:
            shutil.rmtree(server.store)
            shutil.copytree(copy, server.store)
        daemon.happen(chance.randrange(0, 40))
        if step % 3 != 2:
            server.start()
        if step % 3 != 0:
            running.start()
        if step % 2:
            until_in_log(server, daemon.events[-1].cursor)
    until_in_log(server, *daemon.happen(2))
    exact(server, daemon)
    state = {one.subject: one.content for one in server.entries(sites.STATE)}
    for one in daemon.devices:
        subject = f"{sites.PREFIX}.{SITE}.device.{one.mac.replace(':', '')}"
        assert state[subject]["device"]["status"] == one.status


def test_streams_that_were_rolled_back_differently_are_noticed(
    start: Start, server: NatsServer, daemon: History
) -> None:
    """The stream of cursors is ahead of the log: the log counts."""
    running = start()
    daemon.until_watched()
    until_in_log(server, *daemon.happen(3))
    running.end()
    copy = server.folder / "copy"
    server.kill()
    shutil.copytree(server.store, copy)
    server.start()
    running.start()
    until_in_log(server, *daemon.happen(9))
    wait("the cursor", lambda: [one.cursor for one in server.entries(sites.CURSOR)] == ["k3f9-13"])
    running.end()
    server.kill()
    (log,) = server.store.rglob(sites.LOG)
    shutil.rmtree(log)
    shutil.copytree(next(copy.rglob(sites.LOG)), log)
    server.start()
    assert "k3f9-13" not in server.cursors()
    running.start()
    until_in_log(server, *daemon.happen())
    exact(server, daemon)


@pytest.mark.parametrize("kept", [0, 7], ids=["all", "the last ones"])
def test_the_log_lost_what_it_had_acknowledged(start: Start, server: NatsServer, daemon: History, kept: int) -> None:
    """While the connection stays: one of a cluster with less becomes the leader, or the stream is made again."""
    start()
    daemon.until_watched()
    until_in_log(server, *daemon.happen(5))

    async def lose(client: Any) -> None:  # noqa: ANN401
        messages = []
        for number in range(1, kept + 1):
            body = json.dumps({"seq": number}).encode()
            messages.append(await client.request(f"$JS.API.DIRECT.GET.{sites.LOG}", body))
        for stream in (sites.LOG, sites.STATE, sites.CURSOR):
            await client.request(f"$JS.API.STREAM.DELETE.{stream}", b"")
        await server.make_streams(client)
        for one in messages:
            headers = {name: value for name, value in one.headers.items() if name.startswith("Netscan-")}
            await client.request(one.headers["Nats-Subject"], one.data, headers=headers)

    server.ask(lose)
    assert len(server.entries()) == kept
    until_in_log(server, *daemon.happen(1))
    wait("all devices", lambda: view(server.entries())[1] == {one.mac: one.status for one in daemon.devices})
    daemon.happen(2)
    wait("all devices", lambda: view(server.entries())[1] == {one.mac: one.status for one in daemon.devices})
    if kept:
        exact(server, daemon)


def test_a_hole_in_the_log_is_filled_in_order(start: Start, server: NatsServer, daemon: History) -> None:
    """JetStream stored a message and not the one before it, and the service was killed before it knew."""
    running = start()
    daemon.until_watched()
    until_in_log(server, *daemon.happen(3))
    wait("the cursor", lambda: [one.cursor for one in server.entries(sites.CURSOR)] == ["k3f9-4"])
    running.end(signal.SIGKILL)
    run = server.entries()[-1].headers[sites.RUN]
    daemon.happen(3, publish=False)
    late = daemon.events[-1]
    assert late.device is not None

    async def publish(client: Any) -> None:  # noqa: ANN401
        await client.jetstream().publish(
            sites.subject(SITE, late), protocol.encode(late),
            headers={
                sites.MESSAGE_ID: f"{SITE}-{late.cursor}-{run}", sites.CURSOR_HEADER: late.cursor, sites.RUN: run,
                sites.PREVIOUS: "k3f9-6", sites.ACKNOWLEDGED: "k3f9-4", sites.SUBJECT: sites.subject(SITE, late),
            },
        )  # fmt: skip

    server.ask(publish)
    wait("the cursor", lambda: [one.cursor for one in server.entries(sites.CURSOR)] == ["k3f9-7"])
    running.start()
    until_in_log(server, *daemon.happen())
    assert server.cursors()[-5:] == ["k3f9-7", "k3f9-5", "k3f9-6", "k3f9-7", "k3f9-8"]
    exact(server, daemon)


def test_a_second_machine_of_the_same_name_is_refused(start: Start, server: NatsServer, daemon: History) -> None:
    """It says so and publishes nothing; after --take-over it is the first one that is refused."""
    first = start()
    daemon.until_watched()
    until_in_log(server, *daemon.happen())
    second = start(place="two")
    wait("refused", lambda: "server: site house belongs to" in "".join(second.status().problems))
    daemon.happen()
    until_in_log(server, "k3f9-3")
    assert {one.headers[sites.INSTANCE] for one in server.entries()} == {"one"}
    done = program(second.config, "--take-over")
    assert (done.stdout, done.returncode) == ("site house belongs to this machine now\n", 0), done.stderr
    first.end()
    first.start()
    wait("refused", lambda: "(instance two, since " in "".join(first.status().problems))
    assert server.request(f"$JS.API.STREAM.INFO.KV_{sites.OWNER}")["state"]["messages"] == 1


def test_the_first_machine_is_the_owner_of_an_empty_entry(start: Start, server: NatsServer, daemon: History) -> None:
    """As netscand-hub add-site makes it; the second machine is refused."""
    server.request(sites.owner_subject("house"))
    start()
    daemon.until_watched()
    until_in_log(server, *daemon.happen())
    (entry,) = server.entries(f"KV_{sites.OWNER}")
    assert entry.content["instance"] == "one"
    second = start(place="two")
    wait("refused", lambda: "server: site house belongs to" in "".join(second.status().problems))


def test_a_message_that_is_too_large_is_put_aside(start: Start, server: NatsServer, daemon: History) -> None:
    """Counted and reported; the next one follows the one before it."""
    running = start()
    daemon.until_watched()
    daemon.happen()
    huge = event("renamed", device(7, hostname="x" * 70_000), "k3f9-3")
    daemon.events.append(huge)
    daemon.send(huge)
    until_in_log(server, *daemon.happen())
    assert server.cursors() == ["k3f9-2", "k3f9-4"]
    assert server.entries()[-1].headers[sites.PREVIOUS] == "k3f9-2"
    wait("put aside", lambda: running.status().put_aside == 1)
    assert "k3f9-3 is not published" in str(running.status().last_error)


def test_a_key_reaches_only_its_own_site(folder: Path, start: Start, daemon: History) -> None:
    """Not another site's subjects, not the streams; the server's refusal is reported."""
    (folder / "two").mkdir()
    (folder / "two").chmod(0o755)
    server = NatsServer(folder / "two", "house", "school")
    try:
        wrong = start("school", "thief", server=server.url, key_file=_write(folder / "wrong", server.keys["house"]))
        wait("refused", lambda: "permissions violation" in "".join(wrong.status().problems).lower())
        stranger = start(place="stranger", server=server.url, key_file=_write(folder / "new", key()[0]))
        wait("refused", lambda: "cannot connect" in "".join(stranger.status().problems))
        assert server.entries() == []
        assert server.entries(f"KV_{sites.OWNER}") == []
    finally:
        server.kill()


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def test_the_rights_of_a_key_forbid_everything_else() -> None:
    """No API of JetStream but single messages of its own, no wildcard but below its own name."""
    rights = sites.rights("house")
    for subject in (*rights["publish"], *rights["subscribe"]):
        assert "house" in subject
        assert not subject.startswith("$JS.API") or subject.startswith("$JS.API.DIRECT.GET.")


def test_tls(folder: Path, start: Start, daemon: History) -> None:
    """With the authority's certificate; without it, the reason is reported."""
    chain, private = _write(folder / "chain.pem", CERTIFICATE), _write(folder / "key.pem", KEY)
    (folder / "tls").mkdir()
    (folder / "tls").chmod(0o755)
    server = NatsServer(folder / "tls")
    server.kill()
    server._tls = f'tls {{ cert_file: "{chain}", key_file: "{private}" }}'
    server.start()
    keys = {"server": server.url.replace("nats:", "tls:"), "key_file": _write(folder / "key", server.keys[SITE])}
    try:
        good = start(**keys, ca_file=chain)
        daemon.until_watched()
        daemon.happen()
        wait("accepted", lambda: good.status().accepted == 1)
        good.end()
        bad = start(**keys)
        wait("refused", lambda: "certificate verify failed" in "".join(bad.status().problems))
    finally:
        server.kill()


def test_alive_is_published_and_not_stored(start: Start, server: NatsServer, daemon: History) -> None:
    alive = Alive(server)
    try:
        start()
        wait("alive", lambda: alive.messages)
    finally:
        alive.close()
    subject, content = alive.messages[0]
    assert subject == f"{sites.PREFIX}.{SITE}.alive"
    assert (content["instance"], content["backlog"], content["commands"]) == ("one", 0, False)
    assert not [one for one in server.entries() if one.subject == subject]


def test_commands_are_obeyed_only_if_configured(start: Start, server: NatsServer, daemon: History) -> None:
    """scan_now and resend; anything else is answered with what is wrong."""
    subject = sites.command_subject(SITE)
    running = start()
    daemon.until_watched()
    until_in_log(server, *daemon.happen(3))
    with pytest.raises(Exception, match="no responders"):
        server.request(subject, {"type": "scan_now"})
    running.end()
    begun = daemon.greeted
    start(commands=True)
    wait("following", lambda: daemon.greeted > begun)
    until_in_log(server, *daemon.happen())
    assert server.request(subject, {"type": "scan_now", "targets": ["192.168.1.7"]}) == {"ok": True}
    assert protocol.ScanRequest(targets=["192.168.1.7"]) in daemon.received
    answer = server.request(subject, {"type": "reboot"})
    assert answer["error"]["code"] == "bad_request"
    assert server.request(subject, {"type": "resend", "after": "k3f9-3"}) == {"ok": True}
    wait("again", lambda: server.cursors().count("k3f9-5") == 2)
    assert server.cursors() == ["k3f9-2", "k3f9-3", "k3f9-4", "k3f9-5", "k3f9-4", "k3f9-5"]
    exact(server, daemon)


def test_a_server_without_streams_is_reported(start: Start, server: NatsServer, daemon: History) -> None:
    server.request(f"$JS.API.STREAM.DELETE.{sites.LOG}")
    server.request(f"$JS.API.STREAM.DELETE.KV_{sites.OWNER}")
    running = start()
    wait("reported", lambda: "netscand-uplink streams" in "".join(running.status().problems))
    assert "restarts it if its disk was full" in "".join(running.status().problems)


def test_the_administrator_makes_the_streams(start: Start, server: NatsServer, daemon: History, folder: Path) -> None:
    """Those that are missing; those that differ get the right configuration. A site's key may not."""
    secret, public = key()
    server.kill()
    server.users.append({"nkey": public})
    server.start()
    server.request(f"$JS.API.STREAM.DELETE.{sites.LOG}")
    (config := folder / "admin.toml").write_text(
        f'[uplink]\nserver = "{server.url}"\nsite = "admin"\nkey_file = "{_write(folder / "admin.key", secret)}"\n'
    )
    large = program(config, "streams", "--size", "99999999")
    assert large.returncode == 69
    assert large.stderr == (
        "netscand-uplink: cannot make stream NETSCAN: insufficient storage resources available; give it less: "
        "--size GIB\n"
    )
    assert "--size 0.001: expected 0.01 or more GiB" in program(config, "streams", "--size", "0.001").stderr
    done = program(config, "streams", "--size", "0.0625")
    assert (done.stdout.count(": ready\n"), done.stderr, done.returncode) == (4, "", 0)
    found = server.request(f"$JS.API.STREAM.INFO.{sites.LOG}")["config"]
    assert (found["subjects"], found["compression"], found["max_age"]) == (
        sites.streams()[0]["subjects"], "s2", 90 * 86_400 * 10**9,
    )  # fmt: skip
    running = start()
    refused = program(running.config, "streams")
    assert refused.returncode == 69
    assert "permissions violation" in refused.stderr.lower()
    until_in_log(server, *_after_snapshot(daemon))


def _after_snapshot(daemon: History) -> list[str]:
    daemon.until_watched()
    return daemon.happen()


def test_a_dry_run_prints_what_a_first_start_publishes(start: Start, server: NatsServer, daemon: History) -> None:
    """Without a server."""
    running = start()
    wait("the snapshot", lambda: len(server.entries()) == 5)
    running.end()
    server.kill()
    done = program(running.config, "--dry-run")
    shown = [line.partition(" ")[::2] for line in done.stdout.splitlines()]
    server.start()
    assert [(subject, json.loads(content)) for subject, content in shown] == [
        (one.subject, one.content) for one in server.entries()
    ]


def test_a_key_is_made_once(folder: Path, start: Start, daemon: History) -> None:
    """Only its owner may read it; it is not overwritten; its public half is printed."""
    (config := folder / "services.toml").write_text("")
    done = program(config, "key", str(folder / "new/key"))
    assert (done.returncode, done.stdout[0], len(done.stdout.strip())) == (0, "U", 56), done.stderr
    assert (folder / "new/key").stat().st_mode & 0o777 == 0o600
    again = program(config, "key", str(folder / "new/key"))
    assert (again.returncode, again.stderr) == (
        78, f"netscand-uplink: {folder}/new/key exists; delete it first if its key is to be replaced\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '[uplink] site: not set; give this site a name of its own, such as site = "home"'),
        ('site = "a.b"', "[uplink] site 'a.b': expected 1 to 32 letters, digits, - or _"),
        (
            'site = "a"\nserver = "nats://x/y"',
            "[uplink] server 'nats://x/y': expected nats://HOST:PORT or tls://HOST:PORT",
        ),
        ('site = "a"\nkey_file = "/nonexistent"', "[uplink] key_file '/nonexistent': cannot be read: No such file"),
        ('site = "a"\nkey_file = "/etc/hostname"', "'/etc/hostname': expected a key made by netscand-uplink key"),
        ('site = "a"\nca_file = "/etc/hostname"', "[uplink] server 'nats://localhost:4222': ca_file needs tls://"),
        ('site = "a"\nrate = 0', "[uplink] rate: expected"),
        ('site = "a"\nsiet = 1', "[uplink] siet: unknown key"),
    ],
)
def test_invalid_configuration_is_refused(folder: Path, text: str, expected: str) -> None:
    """By --check-config and at the start, with the same words."""
    (config := folder / "services.toml").write_text(f"[uplink]\n{text}\n")
    for args in (("--check-config", str(config)), ()):
        done = program(config, *args)
        assert done.returncode == 78
        assert expected in done.stderr
        assert "Traceback" not in done.stderr


def test_at_most_64_messages_are_unacknowledged(start: Start, server: NatsServer, daemon: History) -> None:
    """A server that does not answer: no more is sent than it may lose; then a new connection."""
    running = start(rate=100_000)
    daemon.until_watched()
    until_in_log(server, *daemon.happen())
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    daemon.happen(200)
    wait("full", lambda: running.status().behind == sites.WINDOW)
    wait("late", lambda: "no acknowledgement in 10 s" in "".join(running.status().problems))
    server.process.send_signal(signal.SIGCONT)
    until_in_log(server, daemon.events[-1].cursor)
    exact(server, daemon)


def test_the_log_has_no_event_of_a_snapshot_twice(start: Start, server: NatsServer, daemon: History) -> None:
    """Events that arrive while the snapshot is being sent come after it."""
    start(rate=1000)
    daemon.until_watched()
    until_in_log(server, *daemon.happen(50))
    entries = server.entries()
    kinds = [is_event(one) for one in entries]
    assert kinds == sorted(kinds)
    exact(server, daemon)


async def test_the_place_to_continue_if_the_stream_of_cursors_is_of_another_age() -> None:
    """It names a device of which the log has only the snapshot: the log's last message about the site counts."""
    device_subject, about = f"{sites.PREFIX}.{SITE}.device.a483e7000007", sites.site_subject(SITE)
    ended = Stored({sites.CURSOR_HEADER: "k3f9-4", sites.RUN: "r", sites.SEQUENCE: "7"}, b"")
    messages = {sites.cursor_subject(SITE): Stored({sites.SUBJECT: device_subject, sites.CURSOR_HEADER: "k3f9-9"}, b"")}

    class Streams:
        async def last(self, stream: str, subject: str) -> Stored | None:
            return messages.get(subject)

    async def place() -> Place:
        return await find_place(Streams(), SITE)  # type: ignore[arg-type]

    messages |= {device_subject: Stored({sites.SEQUENCE: "6"}, b""), about: Stored({sites.SEQUENCE: "5"}, b"")}
    assert await place() == START, "the snapshot is not complete"
    messages |= {about: ended}
    assert await place() == Place("k3f9-4", "r")
    del messages[device_subject]
    assert await place() == Place("k3f9-4", "r")
    event = {sites.CURSOR_HEADER: "k3f9-5", sites.ACKNOWLEDGED: "k3f9-5"}
    messages[device_subject] = Stored(event | {sites.SEQUENCE: "10"}, b"")
    assert await place() == Place("k3f9-5", None)
    messages[device_subject] = Stored(event | {sites.SEQUENCE: "3"}, b"")  # of an earlier history
    assert await place() == Place("k3f9-4", "r")
    del messages[sites.cursor_subject(SITE)]
    assert await place() == Place("k3f9-4", "r"), "a snapshot would leave out the events since"
    messages.clear()
    assert await place() == START


class Watched(SimulatedSite):
    """A site whose connections are known."""

    def __init__(self, *args: Any) -> None:  # noqa: ANN401
        super().__init__(*args)
        self.servers: list[Server] = []

    async def _serve(self, server: Server) -> None:
        self.servers.append(server)
        await super()._serve(server)


async def ends(site: Watched, cause: Callable[[Server], Awaitable[None]]) -> None:
    """Cancel the service of a site after `cause`; it ends."""

    async def is_followed() -> bool:
        await site.happen()
        return site._report.status.accepted > 0

    async with asyncio.TaskGroup() as group:
        running = group.create_task(site.run(None))  # type: ignore[arg-type]
        await until(is_followed)
        await cause(site.servers[-1])
        running.cancel()
        await asyncio.wait([running], timeout=DEADLINE)
        assert running.cancelled()


async def test_a_service_that_is_cancelled_as_its_connection_ends(folder: Path, server: NatsServer) -> None:
    """A group of tasks raises the error of a child, and not that it was cancelled."""
    for turns in range(6):

        async def lose(connection: Server, turns: int = turns) -> None:
            connection.end("the connection ended")
            for _ in range(turns):
                await asyncio.sleep(0)

        await ends(Watched(server.url, SITE, server.keys[SITE], folder), lose)


async def test_a_service_that_is_cancelled_as_it_publishes(folder: Path, server: NatsServer) -> None:
    """nats-py swallows that, while its queue is full."""
    site = Watched(server.url, SITE, server.keys[SITE], folder)

    async def fill(connection: Server) -> None:
        publishing = asyncio.Event()

        async def publish(*_args: Any, **_keys: Any) -> None:  # noqa: ANN401
            publishing.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        connection.client.publish = publish  # type: ignore[method-assign]
        await site.happen()
        await publishing.wait()

    await ends(site, fill)
