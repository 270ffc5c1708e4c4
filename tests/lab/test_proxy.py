"""Behind nginx, Caddy and HAProxy, by the samples of docs/proxy.md (FIELD cases 27 to 29); the page: tests/web."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.proxies import curl, proxy, sample, status
from tests.lab.test_daemon import wait_for
from tests.serve.house import TOKENS, token_file

PROGRAMS = ("nginx", "caddy", "haproxy")


@pytest.fixture(scope="module")
def daemon(shared_lab: Lab) -> Daemon:
    """Return the daemon that these tests share."""
    shared_lab.gateway()
    tokens = token_file(shared_lab.folder)
    return shared_lab.daemon({"access": {"allowed_hosts": ["scan.lan"], "token_file": tokens}})


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_sample_serves_netscand_below_a_path(shared_lab: Lab, daemon: Daemon, program: str) -> None:
    """FIELD case 27: page, API, stream, the path without its slash; for scan.lan alone, with the role of others."""
    with proxy(shared_lab, daemon, program) as url:
        assert "web/page.js" in curl(shared_lab, url).stdout
        found = curl(shared_lab, url.rstrip("/"), "--location", "--write-out", "%{url_effective}").stdout
        assert found.endswith(url), "redirected"
        assert "web/page.js" in found
        assert json.loads(curl(shared_lab, f"{url}api/status").stdout)["protocol"] == 1
        assert status(shared_lab, f"{url}api/backup") in (401, 403)
        elsewhere = "http://evil.example/lan/api/status"
        assert status(shared_lab, elsewhere, "--resolve", "evil.example:80:127.0.0.1") not in (200, 0)
        stream = (
            "import sys, ssl, json; from websockets.sync.client import connect; "
            "url = sys.argv[1]; context = ssl._create_unverified_context() if url[:5] == 'https' else None; "
            "host = ('127.0.0.1', 443 if context else 80); import socket; sock = socket.create_connection(host); "
            "origin = url.removesuffix('/lan/'); "
            "client = connect(url.replace('http', 'ws', 1) + 'ws', sock=sock, ssl=context, origin=origin, proxy=None); "
            "print(json.loads(client.recv())['role'])"
        )
        assert shared_lab.watcher.space.run([sys.executable, "-c", stream, url]).stdout == "scan\n"


@pytest.mark.parametrize("program", ["nginx", "haproxy"])
def test_netscanctl_works_below_a_path(shared_lab: Lab, daemon: Daemon, program: str) -> None:
    """FIELD case 27: requests, and the stream."""
    with proxy(shared_lab, daemon, program) as url:
        for args in (["status"], ["devices", "--json"], ["scan-now", "10.77.0.1"], ["wait-for", "10.77.0.1"]):
            argv = [sys.executable, "-m", "netscanctl", "--url", url, *args]
            hosts = 'printf "127.0.0.1 scan.lan\\n" >"$0" && mount --bind "$0" /etc/hosts && exec "$@"'
            shell = ["sh", "-c", hosts, str(shared_lab.folder / "hosts"), *argv]
            done = shared_lab.watcher.space.run(shell, check=False)
            assert done.returncode == 0, (args, done.stderr)


@pytest.mark.parametrize(("credentials", "role"), [("", "admin"), ("read", "read"), ("scan", "scan")])
def test_a_token_lessens_a_proxy_that_runs_as_root(
    shared_lab: Lab, daemon: Daemon, credentials: str, role: str
) -> None:
    """FIELD case 27, surprise 5: Caddy in a container is root, and so was each of its visitors."""
    text = sample("caddy")
    if credentials:
        upstream = "reverse_proxy unix//run/netscand/netscand.sock"
        assert upstream in text
        token = f'header_up Authorization "Bearer {TOKENS[credentials]}"'
        text = text.replace(upstream, f"{upstream} {{\n{token}\n}}")
    with proxy(shared_lab, daemon, "caddy", text, root=True) as url:
        assert (status(shared_lab, f"{url}api/backup") == 200) is (role == "admin")
        scanned = status(shared_lab, f"{url}api/scan", "--data", "", "--header", "Content-Type: application/json")
        assert (scanned == 202) is (role != "read")
        assert status(shared_lab, f"{url}api/devices") == 200


CHECK = "option httpchk GET /healthz"


@pytest.mark.parametrize("version", ["", " HTTP/1.0"], ids=["default", "1.0"])
def test_haproxy_finds_netscand_healthy(shared_lab: Lab, daemon: Daemon, version: str) -> None:
    """FIELD case 28: without `hdr Host`; it was DOWN (L7STS 400)."""
    text = sample("haproxy")
    assert CHECK in text
    with proxy(shared_lab, daemon, "haproxy", text.replace(CHECK, CHECK + version)):

        def checked() -> str:
            table = curl(shared_lab, "http://127.0.0.1:8404/haproxy?stats;csv;norefresh").stdout.lstrip("# ")
            head, *rows = (line.split(",") for line in table.splitlines())
            return next(dict(zip(head, row, strict=False)) for row in rows if row[1] == "netscand")["check_status"]

        wait_for("a health check", lambda: checked().startswith("L7"))
        assert checked() == "L7OK"


@pytest.mark.parametrize(
    "said",
    ["GET /healthz HTTP/1.0\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: a1b2c3:8000\r\nConnection: close\r\n\r\n"],
)
def test_health_by_any_name_and_by_none(shared_lab: Lab, daemon: Daemon, said: str) -> None:
    """FIELD case 28: `printf … | nc 127.0.0.1 8000`, and a container's name."""
    script = (
        "import socket, sys; sock = socket.create_connection(('127.0.0.1', 8000)); "
        "sock.sendall(sys.argv[1].encode()); print(sock.makefile().readline())"
    )
    assert " 200 " in shared_lab.watcher.space.run([sys.executable, "-c", script, said]).stdout


def test_a_mount_of_the_folder_outlives_the_socket(lab: Lab, tmp_path: Path) -> None:
    """FIELD case 29: without systemd, each start makes a new socket; a mount of the file is still the old one."""
    daemon = lab.daemon()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    script = (
        'mount --bind "$0" "$1/folder" && mount --bind "$0/netscand.sock" "$1/file" && echo mounted && read restarted; '
        'for at in "$1/folder/netscand.sock" "$1/file"; '
        'do curl --silent --output /dev/null --unix-socket "$at" http://x/healthz; echo $?; done'
    )
    process = lab.watcher.space.popen(
        ["sh", "-c", script, str(daemon.folder), str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "mounted\n"
    daemon.restart()
    by_folder, by_file = process.communicate("\n", timeout=60)[0].split()
    assert (by_folder, by_file) == ("0", "7"), "7: curl failed to connect"
