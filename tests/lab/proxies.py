"""Real reverse proxies at the watcher, with the samples of docs/proxy.md."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.ordinary import NOBODY
from tests.lab.spaces import DEADLINE, ROOT, temporary_folder

NGINX = """
user nobody nogroup;
daemon off;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/sample;
}}
"""
CADDY = "{{\n    admin off\n    skip_install_trust\n    storage file_system {folder}\n}}\nimport {folder}/sample\n"
HAPROXY = "global\n    stats socket {folder}/stats mode 666\nfrontend stats\n    mode http\n    bind 127.0.0.1:8404\n    timeout client 1m\n    stats enable\n"  # noqa: E501
ARGV = {
    "nginx": (NGINX, ["nginx", "-e", "stderr", "-p", "{folder}", "-c", "{folder}/main"]),
    "caddy": (CADDY, ["caddy", "run", "--adapter", "caddyfile", "--config", "{folder}/main"]),
    "haproxy": (HAPROXY, ["haproxy", "-db", "-f", "{folder}/main", "-f", "{folder}/sample"]),
}
"""Program → its main configuration, and its command line."""

URLS = {"nginx": "http://scan.lan/lan/", "caddy": "https://scan.lan/lan/", "haproxy": "http://scan.lan/lan/"}

AT_RUN = 'mount -t tmpfs tmpfs /run && mkdir /run/netscand && mount --bind "$0" /run/netscand && cd / && exec "$@"'
"""Let the socket be at the path that the samples name: in this process's mounts alone (ip-netns(8), exec). HAProxy must
be able to enter its working directory."""


def sample(program: str) -> str:
    """Return the configuration of a proxy, as it is printed in docs/proxy.md."""
    language = {"caddy": "caddyfile"}.get(program, program)
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "docs/proxy.md").read_text(), re.DOTALL)
    assert found, f"docs/proxy.md: no sample for {program}"
    return found[1]


@contextmanager
def proxy(lab: Lab, daemon: Daemon, program: str, text: str | None = None, *, root: bool = False) -> Iterator[str]:
    """Run a proxy in front of the daemon, with its sample or another configuration; yield the URL of the page.

    As an ordinary user, or as root.
    """
    if shutil.which(program) is None:
        pytest.skip(f"not installed: {program}; sudo ./dev setup --test fetches it")
    folder = temporary_folder(program)
    main, argv = ARGV[program]
    (folder / "sample").write_text(text or sample(program))
    (folder / "main").write_text(main.format(folder=folder))
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, NOBODY, NOBODY)
    lab.watcher.space.sysctl("ipv4.ip_unprivileged_port_start", 0)
    as_user = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --".split()
    line = [*([] if root or program == "nginx" else as_user), *(word.format(folder=folder) for word in argv)]
    with (folder / "log").open("wb") as log:
        process = lab.watcher.space.popen(
            ["sh", "-c", AT_RUN, str(daemon.folder), *line], stdout=log, stderr=log, env={"HOME": str(folder)}
        )
    try:
        ends = time.monotonic() + DEADLINE
        while not answers(lab, URLS[program]):
            assert process.poll() is None and time.monotonic() < ends, (folder / "log").read_text()[-3000:]
            time.sleep(0.05)
        yield URLS[program]
    finally:
        lab.watcher.space.end(process)
        shutil.rmtree(folder, ignore_errors=True)


def answers(lab: Lab, url: str) -> bool:
    """Return whether a server answers at the URL, whatever it says."""
    return curl(lab, url).returncode == 0


def curl(lab: Lab, url: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Request a URL of scan.lan at the watcher."""
    to = ["--resolve", "scan.lan:80:127.0.0.1", "--resolve", "scan.lan:443:127.0.0.1"]
    return lab.watcher.space.run(["curl", "--silent", "--insecure", "--noproxy", "*", *to, *options, url], check=False)


def status(lab: Lab, url: str, *options: str) -> int:
    """Return the status of the answer."""
    return int(curl(lab, url, "--output", "/dev/null", "--write-out", "%{http_code}", *options).stdout)
