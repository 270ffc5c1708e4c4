"""What a start does not import, and what is imported all the same once something needs it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.core.test_libraries import NEEDS_ALL, ROOT, Change, altered

START = """
import json, logging, sys
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger().addHandler(handler)
from netscand.partial_imports import import_partly, reveal_openssl
import_partly(openssl={openssl})
import netscand.daemon
reveal_openssl()
from netscand.lan.libraries import rtnetlink
rtnetlink()
loaded = sorted(name for name, module in sys.modules.items() if module is not None)
from hashlib import sha1, sha256
found = {{"loaded": loaded, "said": said, "digests": [each(b"").hexdigest()[:8] for each in (sha1, sha256)]}}
from prometheus_client import CollectorRegistry  # at the first scrape; it needs ssl
import aiohttp
from netscand.serve.selftest import check
check()
found["later"] = [aiohttp.ClientSession.__name__, aiohttp.__version__, aiohttp.web.Response.__name__]
print(json.dumps(found))
"""
UNUSED = {
    "aiohttp.client", "aiohttp.connector", "aiohttp.cookiejar", "aiohttp.resolver", "aiohttp.tracing",
    "cryptography", "scapy.all", "pyroute2.iproute", "pyroute2.conntrack", "prometheus_client", "netscand.check",
    "netscand.once",
}  # fmt: skip
"""What no start needs. Each costs memory for as long as the daemon runs."""
OPENSSL = {"ssl", "_ssl", "_hashlib"}


def started(folder: Path, *, openssl: bool = False) -> dict[str, list[str]]:
    """Import what the service imports, with the libraries in `folder` before those that are installed."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{folder}:{ROOT}", "HOME": "/nonexistent"}
    argv = [sys.executable, "-c", START.format(openssl=openssl)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    assert found["digests"] == ["da39a3ee", "e3b0c442"]
    assert found["later"][0::2] == ["ClientSession", "Response"]
    return found


def test_a_start_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    """Memory of a daemon with 254 devices: at most 50 MiB. And no fallback was needed."""
    found = started(tmp_path)
    assert not (UNUSED | OPENSSL) & set(found["loaded"])
    assert found["said"] == []


def test_tls_brings_openssl(tmp_path: Path) -> None:
    assert {"ssl", "_ssl"} <= set(started(tmp_path, openssl=True)["loaded"])


NEEDS_CLIENT = {"aiohttp/web.py": lambda text: "import aiohttp\naiohttp.ClientSession\n" + text}


@pytest.mark.parametrize(
    ("changes", "loaded"), [(NEEDS_CLIENT, {"aiohttp.client"}), (NEEDS_ALL, {"pyroute2.iproute", "ssl"})],
    ids=["aiohttp", "pyroute2"],
)  # fmt: skip
def test_a_library_of_another_layout_is_imported_whole(
    tmp_path: Path, changes: Mapping[str, Change], loaded: set[str]
) -> None:
    """With a warning; OpenSSL is there again for one that may need it."""
    altered(tmp_path, changes)
    found = started(tmp_path)
    assert loaded <= set(found["loaded"])
    assert "imported completely" in str(found["said"])
