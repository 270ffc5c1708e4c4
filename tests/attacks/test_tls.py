"""Strangers of other hosts that have no token, and speak TLS."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.attacks.account import NICE
from tests.attacks.conftest import Scene, household
from tests.attacks.monitor import monitored
from tests.lab.lan import Host, Lab
from tests.lab.ordinary import NOBODY
from tests.lab.program import Program
from tests.lab.test_daemon import wait_for
from tests.serve.house import token_file

HOSTS, ADDRESSES = (100, 110), 8
"""The last bytes of the attackers' first addresses; how many each has."""

SITE = """
import gc, sys, threading, time
from pathlib import Path

def watch():
    while not hasattr(sys.modules.get("netscand.garbage_collection"), "Collector"):  # it has run to its end
        time.sleep(0.001)
    sys.modules["netscand.garbage_collection"].EVERY = 0.5

def note(phase, found):
    if phase == "stop" and found["generation"] == 2 and gc.get_freeze_count():
        with Path(__file__).with_name("collected").open("a") as file:
            file.write("x")

gc.callbacks.append(note)
threading.Thread(target=watch, daemon=True).start()
"""


def with_tls(lab: Lab) -> dict[str, Any]:
    """A certificate with a long RSA key: the dearest handshakes that are common."""
    tokens = token_file(lab.folder, 0o600)
    certificate, key = str(lab.folder / "certificate.pem"), str(lab.folder / "key.pem")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:4096", "-nodes", "-days", "9", "-subj", "/CN=localhost"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    os.chmod(key, 0o640)
    for path in (tokens, certificate, key):
        os.chown(path, NOBODY, NOBODY)
    listen = {"tcp": ["10.77.0.2:8000"], "tls_certificate": certificate, "tls_key": key}
    return {"listen": listen, "access": {"token_file": tokens}}


@pytest.fixture(scope="module")
def guarded(root: None) -> Iterator[tuple[Scene, list[Host]]]:
    """A household that is served over TLS, and two hosts with several addresses each."""
    with household(with_tls, count=4) as scene:
        hosts = [scene.lab.host(f"10.77.0.{first}") for first in HOSTS]
        for host, first in zip(hosts, HOSTS, strict=True):
            for more in range(1, ADDRESSES):
                host.add_address(f"10.77.0.{first + more}")
        yield scene, hosts


@pytest.mark.parametrize(("mode", "count"), [("half", 160), ("late", 100), ("idle", 160), ("full", 160), ("tiny", 60)])
def test_strangers(guarded: tuple[Scene, list[Host]], attack_seconds: float, mode: str, count: int) -> None:
    """FAULTS T50: they shake hands or do not, and send requests that they do not read, or byte by byte."""
    scene, hosts = guarded
    with monitored(scene.daemon) as measured:
        strangers = []
        try:
            for host, first in zip(hosts, HOSTS, strict=True):
                sources = [f"10.77.0.{first + more}" for more in range(ADDRESSES)]
                options = {"where": ("10.77.0.2", 8000), "sources": sources, "nice": NICE, "mode": mode, "count": count}
                options["seconds"] = attack_seconds
                strangers.append(Program(host.space, "tests.attacks.tls_process", options=options))
            for each in strangers:
                each.ready()
            for each in strangers:
                each.go()
            outcomes = [each.result() for each in strangers]
        finally:
            for each in strangers:
                each.close()
    print(*outcomes, sep="\n")
    assert all(outcome["connections"] >= count for outcome in outcomes)
    assert mode not in ("full", "tiny") or all(outcome["sent"] > 100_000 for outcome in outcomes)
    measured.check()


def test_old_cycles_are_collected(root: None) -> None:
    """The daemon collects what outlived the young generations, again and again (here every half second)."""
    with household(count=4, site=SITE) as scene:
        collected = scene.lab.folder / "site" / "collected"
        os.chmod(collected.parent, 0o777)
        wait_for("two full collections", lambda: collected.exists() and collected.stat().st_size >= 2)
