"""docs/phone.md: from another host of the LAN to the page, without a restart."""

import json
import re
import socket
from pathlib import Path

from tests.lab.lan import Host, Lab
from tests.lab.ordinary import NOBODY
from tests.lab.test_daemon import wait_for

BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
PAGE = (Path(__file__).parents[2] / "docs/phone.md").read_text()


def status_of(phone: Host, url: str, *headers: str, resolve: str = "") -> tuple[int, str]:
    """Return status and body of a GET from another host."""
    argv = ["curl", "--silent", "--noproxy", "*", "--max-time", "20", "--write-out", "\n%{http_code}", url]
    argv += [word for header in headers for word in ("--header", header)]
    argv += ["--resolve", resolve] if resolve else []
    body, _, code = phone.run(argv).stdout.rpartition("\n")
    return int(code), body


def test_from_another_host_to_the_page_as_the_docs_say(lab: Lab) -> None:
    """T2, T5, T6: one edit and one command; own names are accepted, others are refused with a page; then revoked."""
    daemon = lab.daemon(as_user=True)
    phone = lab.host("10.77.0.30")
    ctl = daemon.ctl_argv()
    found = json.loads(lab.watcher.run([*ctl, "doctor", "--json"]).stdout)["checks"]
    assert next(one for one in found if one["check"] == "access")["found"] == "only this host can open the page"

    (listen,) = re.findall(r"^tcp = (\[.*\])$", PAGE, re.MULTILINE)
    daemon.configure({"listen": {"tcp": json.loads(listen)}})
    given = json.loads(lab.watcher.run([*ctl, "token", "add", "admin", "--name", "phone", "--json"]).stdout)
    file = daemon.folder / "tokens"
    assert (file.stat().st_uid, file.stat().st_gid, file.stat().st_mode & 0o777) == (NOBODY, NOBODY, 0o600)
    assert given["links"] == [f"http://10.77.0.2:8000/#token={given['token']}"]

    name = socket.gethostname().partition(".")[0].lower()
    bearer = f"Authorization: Bearer {given['token']}"
    assert status_of(phone, "http://10.77.0.2:8000/")[0] == 200
    for host in (name, f"{name}.local"):
        resolve = f"{host}:8000:10.77.0.2"
        code, body = status_of(phone, f"http://{host}:8000/api/status", bearer, resolve=resolve)
        assert (code, json.loads(body)["role"]) == (200, "admin")
    code, body = status_of(phone, "http://evil.example:8000/", BROWSER, resolve="evil.example:8000:10.77.0.2")
    assert code == 421
    assert "<h1>" in body
    assert "allowed_hosts" in body
    for host in (f"{name}.lan", f"{name}.home.arpa", "vm.lan"):  # of the router, which the host need not know
        code, body = status_of(phone, f"http://{host}:8000/", BROWSER, resolve=f"{host}:8000:10.77.0.2")
        assert (code, "allowed_hosts" in body) == (421, True)
    daemon.configure({"listen": {"tcp": json.loads(listen)}, "access": {"allowed_hosts": ["vm.lan", "x.lan:8001"]}})
    lab.watcher.run([*ctl, "reload"])
    for host, expected in (("vm.lan", 200), ("VM.lan", 200), ("x.lan", 421), (name, 200)):
        origin = f"Origin: http://{host}:8000"
        url, resolve = f"http://{host}:8000/api/status", f"{host}:8000:10.77.0.2"
        assert status_of(phone, url, bearer, origin, resolve=resolve)[0] == expected, host
    daemon.configure({"listen": {"tcp": json.loads(listen)}})
    lab.watcher.run([*ctl, "reload"])
    code, body = status_of(phone, "http://10.77.0.2:8000/api/devices", BROWSER)
    assert (code, "netscanctl token add" in body) == (401, True)
    assert status_of(phone, "http://10.77.0.2:8000/api/devices", "Authorization: Bearer " + "x" * 43)[0] == 401

    found = json.loads(lab.watcher.run([*ctl, "doctor", "--json"], check=False).stdout)["checks"]
    access = next(one for one in found if one["check"] == "access")
    assert access["verdict"] == "ok", access
    names = f"by the names {name}, {name}.local, with 1 token"
    assert f"other hosts can open http://10.77.0.2:8000, {names}" in access["found"]
    assert "unencrypted" in access["mend"]

    lab.watcher.run([*ctl, "token", "revoke", "phone"])
    assert status_of(phone, "http://10.77.0.2:8000/api/status", bearer)[0] == 401
    assert given["token"] not in daemon.log()
    assert daemon.healthy()


def test_the_token_command_needs_no_running_daemon_to_fail_clearly(lab: Lab) -> None:
    """A listener without a token is refused, and the command that creates one says what is still wrong."""
    daemon = lab.daemon()
    wait_for("the first scan", lambda: daemon.get("/api/status")["last_scan"])
    daemon.configure({"listen": {"tcp": ["0.0.0.0:8000"]}, "scan": {"rate": -1}})
    done = lab.watcher.run([*daemon.ctl_argv(), "token", "add", "read"], check=False)
    assert done.returncode == 1
    assert "[scan] rate" in done.stderr
    found = lab.watcher.run([*daemon.ctl_argv(), "doctor"], check=False).stdout
    assert re.search(r"^warning +configuration +the configuration was not reloaded.*\[scan\] rate", found, re.MULTILINE)
    daemon.configure({"listen": {"tcp": ["0.0.0.0:8000"]}})
    lab.watcher.run([*daemon.ctl_argv(), "token", "add", "read"])
    assert daemon.get("/api/status")["access"]["listening"] == ["0.0.0.0:8000"]


def test_a_page_that_does_not_open_is_found(lab: Lab) -> None:
    """Rules of this host, such as those of a firewall, also apply between it and itself."""
    daemon = lab.daemon()
    daemon.configure({"listen": {"tcp": ["10.77.0.2:8000"]}})
    lab.watcher.run([*daemon.ctl_argv(), "token", "add", "read"])
    lab.watcher.space.ip("rule add pref 1 to 10.77.0.2 prohibit", "rule add pref 2 lookup local", "rule del pref 0")
    found = json.loads(lab.watcher.run([*daemon.ctl_argv(), "doctor", "--json"], check=False).stdout)["checks"]
    access = next(one for one in found if one["check"] == "access")
    assert (access["verdict"], "http://10.77.0.2:8000/ does not open: " in access["found"]) == ("failed", True), access
