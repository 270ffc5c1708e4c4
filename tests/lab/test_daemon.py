"""The main job, whole: a real daemon on a real LAN, its clients, and what happens to either."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.lab.lan import Lab
from tests.lab.spaces import DEADLINE

IMPATIENT = {"presence": {"probe_interval": 1, "patience": [2, 3]}}
"""A device that is silent for 3 s is offline: tests cannot wait as long as people should."""


def messages(stream: ClientConnection, seconds: float) -> Iterator[dict[str, Any]]:
    """What arrives within so many seconds."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        try:
            yield json.loads(stream.recv(timeout=left))
        except TimeoutError:
            return


def until(stream: ClientConnection, wanted: str, seconds: float = DEADLINE, **fields: object) -> dict[str, Any]:
    """The first message of a type that has these fields."""
    seen = []
    for message in messages(stream, seconds):
        if message["type"] == wanted and all(message.get(name) == value for name, value in fields.items()):
            return message
        seen.append((message["type"], message.get("kind")))
    raise AssertionError(f"no {wanted} {fields} within {seconds} s, but {seen[-20:]}")


def until_scanned(stream: ClientConnection) -> None:
    """Wait for the end of the first scan, with its events; it may be over already."""
    if until(stream, "initial_state")["last_scan"] is None:
        until(stream, "scan_update")
    else:
        list(messages(stream, 1.0))


def wait_for(what: str, true: Callable[[], object]) -> None:
    ends = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < ends, f"not within {DEADLINE:g} s: {what}"
        time.sleep(0.02)


def test_the_devices_are_there_with_the_first_scan(lab: Lab) -> None:
    """A scan begins with READY; it asks often here, so that a crowd that has no turn for a second answers too."""
    crowd = lab.crowd()
    crowd.populate(addresses := lab.addresses(34, start=100))
    daemon = lab.daemon({"scan": {"interval": 3600, "tries": 8}})
    with daemon.websocket() as stream:
        found = {device["ip"] for device in until(stream, "initial_state")["devices"]}
        while not found >= set(addresses):
            found.add(until(stream, "event", kind="discovered")["address"])


def test_joining_is_published_at_once_and_leaving_with_a_reason(lab: Lab) -> None:
    """A gratuitous ARP alone is enough, without any scan; *offline* comes after probes and patience."""
    crowd = lab.crowd()
    daemon = lab.daemon(IMPATIENT)
    with daemon.websocket() as stream:
        until_scanned(stream)
        mac = crowd.join("10.77.0.99")
        joined = until(stream, "event", kind="discovered", address="10.77.0.99")
        assert joined["device"]["mac"] == mac
        assert joined["device"]["status"] == "online"
        assert joined["evidence"] == "arp_announcement"
        assert joined["seen_at"] <= joined["sent_at"]
        crowd.leave(mac)
        left = until(stream, "event", kind="offline")
        assert left["device"]["mac"] == mac
        assert "unanswered, silent for" in left["reason"]
        assert left["previous"]["status"] == "online"
        crowd.join("10.77.0.99", mac)
        until(stream, "event", kind="online", address="10.77.0.99")


PUSH_DOCUMENT_CLIENT = """
import json, sys, threading, time
from websockets.sync.client import connect

shown = []
def setDevices(devices):
    shown.append({device["ip"]: device["status"] for device in devices})
    print(json.dumps(shown[-1]), flush=True)

class Event:
    def __init__(self, data):
        self.data = data

def onmessage(event):
    message = json.loads(event.data)
    setDevices(message["devices"])

# The address is given as well: a bare Debian 12 has no /etc/hosts that knows the name.
with connect("ws://localhost:8000/ws", address=("127.0.0.1", 8000), max_size=None) as ws:
    def scanNow():
        ws.send(json.dumps({"type": "scan_now"}))
    threading.Thread(target=lambda: [scanNow() for line in sys.stdin], daemon=True).start()
    for data in ws:
        onmessage(Event(data))
"""
"""The front end of the push document, line for line, with another WebSocket library: a message without `devices`
is a KeyError, and the end of it."""


def test_the_push_documents_client_works_unchanged(lab: Lab) -> None:
    """It sees a device join and leave, and its `scan_now` works."""
    crowd = lab.crowd()
    crowd.populate(["10.77.0.50"])
    daemon = lab.daemon(IMPATIENT | {"scan": {"interval": 3600}})
    client = lab.watcher.popen(
        [sys.executable, "-c", PUSH_DOCUMENT_CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    shown: list[dict[str, str]] = []
    assert client.stdout is not None
    assert client.stdin is not None
    lines = client.stdout
    reader = threading.Thread(target=lambda: shown.extend(json.loads(line) for line in lines), daemon=True)
    reader.start()
    wait_for("the first list", lambda: shown and shown[-1].get("10.77.0.50") == "online")
    mac = crowd.join("10.77.0.99")
    wait_for("the joining", lambda: shown[-1].get("10.77.0.99") == "online")
    crowd.leave(mac)
    wait_for("the leaving", lambda: shown[-1].get("10.77.0.99") == "offline")
    crowd.join("10.77.0.77", say="none")
    time.sleep(1)
    assert "10.77.0.77" not in shown[-1]
    client.stdin.write("\n")
    client.stdin.flush()
    wait_for("what scan_now finds", lambda: shown[-1].get("10.77.0.77") == "online")
    assert client.poll() is None, "a message without `devices` ended it"
    assert daemon.healthy()
    lab.watcher.space.end(client)


def test_ten_clients_scan_at_once(lab: Lab) -> None:
    """Every one gets its `scan_update`, from one scan, or two where a target had been passed."""
    lab.crowd().populate(lab.addresses(10, start=100))
    daemon = lab.daemon()
    scans = set()
    with ExitStack() as stack:
        streams = [stack.enter_context(daemon.websocket()) for _ in range(10)]
        until_scanned(streams[0])
        time.sleep(5)
        for number, stream in enumerate(streams):
            stream.send(json.dumps({"type": "scan_now", "request": f"r{number}"}))
        for number, stream in enumerate(streams):
            accepted = until(stream, "scan_accepted", request=f"r{number}")
            until(stream, "scan_update", scan_id=accepted["scan_id"])
            scans.add(accepted["scan_id"])
    assert 1 <= len(scans) <= 2


def test_a_client_that_stops_reading_disturbs_nobody(root: None) -> None:
    """Law 4: one `lagged` with its last good cursor, then close 4000; read within the 30 s that a client has for it."""
    with Lab("10.77.0.0/16") as lab, ThreadPoolExecutor(1) as reader:
        lab.crowd().populate(lab.addresses(20_000, start=256))
        daemon = lab.daemon({"scan": {"rate": 10_000, "tries": 4}})  # no more than `good` can read on a busy machine
        with daemon.websocket(max_queue=1) as slow, daemon.websocket(max_queue=None) as good:
            good.send(json.dumps({"type": "scan_now"}))
            told: list[str] = []
            while len(told) < 19_900:
                told.append(until(good, "event")["cursor"])
                if len(told) == 5_000:  # more than all buffers on the way to `slow` hold
                    ending = reader.submit(read_to_the_end, slow)
            assert told == sorted(told, key=lambda cursor: int(cursor.split("-")[1]))
            last, closed = ending.result()
    assert closed.rcvd is not None
    assert closed.rcvd.code == 4000
    assert last["type"] == "lagged"
    assert last["cursor"] in told[:5_000]


def read_to_the_end(stream: ClientConnection) -> tuple[dict[str, Any], ConnectionClosed]:
    """Read a stream until it is closed; return its last message, and how it was closed."""
    last: dict[str, Any] = {}
    try:
        while True:
            last = json.loads(stream.recv(timeout=DEADLINE))
    except ConnectionClosed as closed:
        return last, closed


def test_sigterm_ends_it_cleanly(lab: Lab) -> None:
    """With clients connected; READY and a STATUS before, STOPPING then; exit 0."""
    daemon = lab.daemon()
    with daemon.websocket() as stream:
        until(stream, "initial_state")
        assert daemon.stop() == 0
    wait_for("its last word", lambda: "STOPPING=1" in "\n".join(daemon.notified))
    said = "\n".join(daemon.notified)
    assert max(said.index("READY=1"), said.index("STATUS=1 network, ")) < said.index("STOPPING=1")
    assert not daemon.socket.exists()


def test_once_does_what_arp_scan_does(lab: Lab) -> None:
    """Beside a running one too: no listener, no history."""
    addresses = lab.addresses(10, start=95)
    for address in addresses:
        lab.host(address)  # a kernel's answer comes in time, whatever else this machine does
    daemon = lab.daemon()
    argv = [sys.executable, "-m", "netscand", "--once"]
    plain = lab.watcher.run([*argv, "--config", str(daemon.config)])
    assert [line.split()[0] for line in plain.stdout.splitlines()] == sorted(addresses, key=ip_address)
    as_json = lab.watcher.run([*argv, "--json", "--config", str(daemon.config)])
    assert {device["ip"] for device in json.loads(as_json.stdout)} == set(addresses)
    line = " ".join([*argv, "--config", str(daemon.config)])
    for sink, code in (("| true", "0"), (">/dev/full", "69")):
        written = lab.watcher.run(["sh", "-c", f"{{ {line}; echo $? >&2; }} {sink}"], check=False)
        assert written.stderr.splitlines()[-1] == code, written.stderr
        assert "Traceback" not in written.stderr
    assert daemon.healthy()


def test_a_second_daemon_says_who_is_first(lab: Lab) -> None:
    """FAULTS F21."""
    daemon = lab.daemon()
    second = lab.watcher.run([sys.executable, "-m", "netscand", "--config", str(daemon.config)], check=False)
    assert second.returncode == 75
    assert str(daemon.pid) in second.stderr
    assert daemon.healthy()


def test_without_the_capability_it_says_what_is_missing(lab: Lab, tmp_path: Any) -> None:  # noqa: ANN401
    """FAULTS F18: one clear sentence, exit 77."""
    (tmp_path / "c.toml").write_text(f'[listen]\nunix = "{tmp_path}/s"\ntcp = []\n')
    argv = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw", sys.executable, "-m", "netscand"]
    refused = lab.watcher.run([*argv, "--config", str(tmp_path / "c.toml")], check=False)
    assert refused.returncode == 77
    assert "CAP_NET_RAW" in refused.stderr
    assert len([line for line in refused.stderr.splitlines() if line.startswith("netscand: ")]) == 1


@pytest.mark.parametrize(
    ("text", "place"),
    [("[scan]\ninterval = 0", "[scan] interval"), ("[scan]\nintervall = 3", "[scan] intervall"),
     ("[[network]]\ncidr = 'x'", "cidr"), ("nonsense", "not TOML"),
     ("[listen]\nmax_clients = 'many'", "[listen] max_clients"), ("[listen]\ntcp = ['127.0.0.1']", "[listen] tcp"),
     ("[listen]\ntcp = ['0.0.0.0:8123']", "[access] token_file"),
     ("[access]\ntoken_file = '/nowhere/tokens'", "/nowhere/tokens")],
)  # fmt: skip
def test_a_bad_configuration_names_the_place(tmp_path: Any, text: str, place: str) -> None:  # noqa: ANN401
    """Exit 78, one line: the file, the key, what was expected."""
    path = tmp_path / "netscand.toml"
    path.write_text(text)
    checked = subprocess.run(
        [sys.executable, "-m", "netscand", "--check-config", str(path)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 78
    assert str(path) in checked.stderr
    assert place in checked.stderr
    path.write_text("[scan]\ninterval = 5\n")
    assert subprocess.call([sys.executable, "-m", "netscand", "--check-config", str(path)]) == 0


def test_an_interface_is_followed_without_restart(lab: Lab) -> None:
    """It goes down and comes back, changes its address, is deleted and made again, and another appears."""
    lab.crowd().populate(["10.77.0.50", "10.77.0.51"])
    daemon = lab.daemon()
    watcher = lab.watcher
    with daemon.websocket() as stream:
        until_scanned(stream)
        watcher.down()
        down = until(stream, "event", kind="network_down")
        assert down["network"] == "10.77.0.0/24@eth0"
        assert {device["status"] for device in daemon.devices().values()} == {"unknown"}
        watcher.up()
        until(stream, "event", kind="network_up")
        for _ in range(2):
            back = until(stream, "event", kind="online")
            assert back["previous"]["status"] == "unknown"
        watcher.set_address("10.77.0.3")
        wait_for("our new address", lambda: "10.77.0.3" in daemon.get("/api/networks")["networks"][0]["why"])
        watcher.set_address("10.77.0.3/25")
        until(stream, "event", kind="network_up", network="10.77.0.0/25@eth0")
        watcher.remove_interface()
        until(stream, "event", kind="network_down", network="10.77.0.0/25@eth0")
        watcher.plug()
        until(stream, "event", kind="network_up", network="10.77.0.0/25@eth0")
        until(stream, "event", kind="online", address="10.77.0.50")
        told = [event["kind"] for event in daemon.get("/api/events?limit=5000")["events"]]
        offline = [event for event in daemon.get("/api/events?limit=5000")["events"] if event["kind"] == "offline"]
        assert {(event["device"]["mac"], event["reason"]) for event in offline} == {
            (watcher.mac, "this host no longer has this MAC")
        }
        assert told.count("discovered") == 2
        lab.watcher.space.ip("link add lan1 type bridge")
        lab.watcher.space.ip("addr add 10.88.0.1/24 dev lan1")
        lab.watcher.space.ip("link set lan1 up")
        wait_for(
            "the bridge", lambda: "10.88.0.0/24@lan1" in {n["id"] for n in daemon.get("/api/networks")["networks"]}
        )


def test_a_scan_that_fails_is_told_and_the_next_one_runs(lab: Lab) -> None:
    """The interface goes in the midst of it: a `scan_error` of this scan, its end, and the loop goes on."""
    lab.crowd().populate(["10.77.0.50"])
    daemon = lab.daemon({"scan": {"interval": 2, "rate": 50}})
    with daemon.websocket() as stream:
        stream.send(json.dumps({"type": "scan_now", "request": "r"}))
        wish = until(stream, "scan_accepted", request="r")["scan_id"]
        until(stream, "scan_started", scan_id=wish)
        lab.watcher.space.ip("link set eth0 down")
        error = until(stream, "scan_error", scan_id=wish)
        assert error["network"] == "10.77.0.0/24@eth0"
        assert error["message"]
        until(stream, "scan_update", scan_id=wish)
        lab.watcher.space.ip("link set eth0 up")
        assert until(stream, "scan_update")["scan_id"] > wish
    assert daemon.healthy()


def test_a_change_that_needs_a_restart_is_reported_until_then(lab: Lab) -> None:
    """By `reload`, with its key, and by `status`; not if it was taken back."""
    daemon = lab.daemon({"scan": {"interval": 20}})
    good = daemon.config.read_text()
    assert daemon.get("/api/status")["config_changed"] is False
    daemon.config.write_text(good.replace("[listen]", "[listen]\nmax_clients = 100"))
    assert daemon.get("/api/status")["config_changed"] is True
    asked = daemon.ctl("reload")
    assert (asked.returncode, "[listen] max_clients changed; to apply it: " in asked.stderr) == (0, True), asked.stderr
    state = daemon.get("/api/status")
    assert (state["needs_restart"], state["config_changed"]) == (["[listen] max_clients"], False)
    daemon.config.write_text(good)
    assert daemon.ctl("reload").stderr == "netscanctl: configuration reloaded\n"
    assert daemon.get("/api/status")["needs_restart"] == []


def test_sighup_with_a_bad_file_keeps_the_old_configuration(lab: Lab) -> None:
    """FAULTS F19: the error names key and position."""
    daemon = lab.daemon({"scan": {"interval": 20}})
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace("interval = 20", "interval = -1"))
    daemon.signal(signal.SIGHUP)
    wait_for("the refusal in the log", lambda: "[scan] interval" in daemon.log())
    status = daemon.get("/api/status")
    assert status["interval"] == 20
    assert status["status"] == "degraded"
    assert "[scan] interval" in status["problems"][0]
    daemon.config.write_text(good.replace("interval = 20", "interval = 7"))
    daemon.signal(signal.SIGHUP)
    wait_for("the new interval", lambda: daemon.get("/api/status")["interval"] == 7)
    assert daemon.get("/api/status")["problems"] == []
    wait_for("the network's", lambda: daemon.get("/api/networks")["networks"][0]["interval"] == 7)


@pytest.mark.parametrize("fate", ["gone", "empty"])
def test_a_reload_without_its_file_takes_no_defaults(lab: Lab, fate: str) -> None:
    """FAULTS T63: by them, everybody on this host may listen, and what is excluded is scanned."""
    daemon = lab.daemon({"scan": {"interval": 20}, "access": {"others": "none"}})
    good = daemon.config.read_text()
    if fate == "gone":
        daemon.config.unlink()
    else:
        daemon.config.write_text("")  # what a full disk leaves of a file that is saved
    daemon.signal(signal.SIGHUP)
    wait_for("the refusal", lambda: daemon.get("/api/status")["problems"])
    assert str(daemon.config) in daemon.get("/api/status")["problems"][0]
    assert daemon.get("/api/status")["interval"] == 20
    assert daemon.socket.stat().st_mode & 0o777 == 0o660
    asked = daemon.ctl("reload")
    assert (asked.returncode, str(daemon.config) in asked.stderr) == (1, True)
    daemon.config.write_text(good)
    daemon.signal(signal.SIGHUP)
    wait_for("its return", lambda: not daemon.get("/api/status")["problems"])
