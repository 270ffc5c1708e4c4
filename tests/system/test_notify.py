"""netscand-notify in its unit: set up as docs/notify.md says, with the server of ntfy."""

import json
import re
from pathlib import Path
from typing import Any

from tests.ctl.notify_receivers import find_program
from tests.lab.asking import soon
from tests.lab.spaces import ROOT
from tests.system.conftest import Installed

CONFIG = "/etc/netscand/services.toml"
SERVER = "http://127.0.0.1:2586"
POLL = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=9).read().decode())"


def set_up_of_the_page() -> tuple[str, str]:
    """Return the lines of configuration, and the command, that the page says are all."""
    page = (ROOT / "docs/notify.md").read_text()
    lines = re.search(r"   ```\n(   \[notify\]\n.*?)   ```", page, re.DOTALL)
    command = re.search(r"^3\. `(.*)`$", page, re.MULTILINE)
    assert lines is not None
    assert command is not None
    return re.sub(r"(?m)^ {3}", "", lines[1]), command[1]


def test_a_phone_shows_a_new_device(installed: Installed) -> None:
    """Two lines of configuration and one command, in the sandbox; every user sees in the status that it works."""
    machine = installed.machine
    program = Path(find_program("ntfy"))
    unpacked = program.parents[1] / "usr/bin/ntfy"  # the program itself, not our wrapper around it
    machine.put(unpacked if unpacked.exists() else program, "/usr/local/bin")
    lines, command = set_up_of_the_page()
    assert len(lines.splitlines()) == 2
    topic = lines.rpartition("/")[2].strip().strip('"')
    installed.ready()
    before = machine.path(CONFIG).read_text()
    options = {
        "listen-http": "127.0.0.1:2586", "base-url": SERVER, "cache-file": "/run/ntfy.db",
        "visitor-request-limit-exempt-hosts": "127.0.0.1",
    }  # fmt: skip
    server = machine.popen("ntfy", "serve", *(f"--{name}={value}" for name, value in options.items()))

    def messages() -> list[dict[str, Any]]:
        argv = ("python3", "-c", POLL, f"{SERVER}/{topic}/json?poll=1&since=all")
        done = machine.run(*argv, check=False)
        return [json.loads(line) for line in done.stdout.splitlines()]

    mac = ""
    try:
        machine.write(CONFIG, lines.replace("https://ntfy.sh", SERVER))
        machine.run(*command.split())
        assert soon(lambda: "notify running, up to date" in machine.run("netscanctl", "status", user="ann").stdout)
        assert not messages(), "what is there already is not new"
        mac = installed.crowd.join("10.77.0.253", "02:00:00:00:77:02")
        assert soon(messages)
        (found,) = messages()
        assert found["title"] == f"New device: {mac}"
        assert "10.77.0.253" in found["message"]
        assert machine.show("netscand-notify", "NRestarts", "DynamicUser") == {"NRestarts": "0", "DynamicUser": "yes"}
        assert machine.run("netscand-notify", "test", "ntfy").stdout == "ntfy: accepted\n"
    finally:
        machine.run("systemctl", "disable", "--now", "netscand-notify", check=False)
        machine.write(CONFIG, before)
        server.kill()
        server.communicate()
        if mac:
            installed.crowd.leave(mac)
