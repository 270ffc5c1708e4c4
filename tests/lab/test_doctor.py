"""`netscanctl doctor` on a real LAN: beside a daemon, and where none runs."""

import json
import sys
from typing import Any

from tests.lab.lan import Lab
from tests.lab.test_daemon import wait_for


def findings(lab: Lab, *argv: str, code: int) -> dict[str, Any]:
    done = lab.watcher.run([*argv, "doctor", "--json"], check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return {one["check"]: one for one in json.loads(done.stdout)["checks"]}


def test_a_gateway_that_does_not_answer_is_reported(lab: Lab) -> None:
    gateway = lab.gateway()
    daemon = lab.daemon()
    wait_for("the first scan", lambda: daemon.get("/api/status")["last_scan"])
    ctl = daemon.ctl_argv()
    found = findings(lab, *ctl, code=0)
    assert {one["verdict"] for name, one in found.items() if name != "clock"} == {"ok"}, found
    assert found["gateway"]["found"].startswith("10.77.0.1 answered in ")
    gateway.down()
    found = findings(lab, *ctl, code=1)
    assert found["gateway"]["verdict"] == "failed"
    lab.watcher.down()
    wait_for("the interface", lambda: daemon.get("/api/networks")["networks"][0]["state"] == "down")
    assert findings(lab, *ctl, code=1)["interfaces"]["verdict"] == "failed"


def test_without_a_daemon_it_sends_nothing(lab: Lab) -> None:
    lab.gateway()
    daemon = lab.daemon(start=False)
    daemon.config.write_text("[scan]\nrate = -1\n")
    argv = [*daemon.ctl_argv(), "doctor", "--config", str(daemon.config), "--json"]
    with lab.capture() as capture:
        done = lab.watcher.run(argv, check=False)
        assert not [frame for frame in capture.frames() if frame.outgoing]
    assert done.returncode == 1
    found = {one["check"]: one for one in json.loads(done.stdout)["checks"]}
    assert found["daemon"]["verdict"] == "failed"
    assert "[scan] rate" in found["configuration"]["found"]
    assert found["interfaces"] == {"check": "interfaces", "verdict": "ok", "found": "10.77.0.0/24@eth0", "mend": None}
    assert found["gateway"]["found"].startswith("10.77.0.1 on eth0: no recent ARP entry")
    assert (found["capability"]["verdict"], found["filter"]["verdict"]) == ("ok", "ok")


def test_netscand_check_beside_a_running_daemon_finds_it(lab: Lab) -> None:
    """FAULTS F21: it says which process runs, and that one goes on."""
    daemon = lab.daemon()
    wait_for("the first scan", lambda: daemon.get("/api/status")["last_scan"])
    cursor = daemon.get("/api/status")["cursor"]
    argv = [sys.executable, "-m", "netscand", "--check", "--config", str(daemon.config)]
    done = lab.watcher.run(argv, check=False)
    found = {one["check"]: one for one in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, found
    assert {one["verdict"] for name, one in found.items() if name != "gateway"} == {"ok"}, found
    assert "netscand (process " in found["socket"]["found"]
    assert "netscand (process " in found["database"]["found"]
    assert daemon.get("/api/status")["cursor"].partition("-")[0] == cursor.partition("-")[0]
    assert daemon.healthy()


CONTAINER = """
ip link add eth0 type veth peer name p0
ip addr add 10.78.0.2/24 dev eth0
ip link set eth0 up
ip link set p0 up
"$1" -m netscand --check || true  # no folder of the service is there
"$1" -m netscand --once
"""


def test_root_of_a_user_namespace_is_enough(lab: Lab) -> None:
    """FIELD case 18b: an unprivileged container has users of its own, and its root no right outside of it."""
    argv = ["unshare", "--user", "--map-root-user", "--net", "sh", "-euc", CONTAINER, "sh", sys.executable]
    done = lab.watcher.run(argv, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["check"]: one for one in json.loads(done.stdout.splitlines()[0])["checks"]}
    assert {found[name]["verdict"] for name in ("capability", "filter", "interfaces")} == {"ok"}, found
    assert "10.78.0.0/24@eth0" in found["interfaces"]["found"]
