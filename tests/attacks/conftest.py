"""Fixtures of the attacks: a household on a LAN, partly annotated by its user, and a daemon that knows it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.attacks.account import Account, Outcome, connected
from tests.attacks.monitor import WATCHED, monitored
from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Host, Lab
from tests.lab.test_daemon import wait_for
from tests.lab.test_own_faults import jump_to

REAL = 20
"""Devices of the household."""

QUICK: dict[str, Any] = {
    "scan": {"interval": 3600, "tries": 8},
    "presence": {"probe_interval": 1, "patience": [2, 4]},
    "names": {"sources": []},
}
"""A device that leaves is reported within seconds, and nothing but the attack happens."""


@dataclass(repr=False)
class Scene:
    """A LAN with a household, and the daemon on it."""

    lab: Lab
    crowd: Crowd
    gateway: Host
    daemon: Daemon
    macs: dict[str, str]
    """IP → MAC of the household."""

    def alive(self) -> set[str]:
        """The household's addresses that are online."""
        devices = self.daemon.devices()
        return {ip for ip in self.macs if devices.get(ip, {}).get("status") == "online"}


@contextmanager
def household(
    config: Mapping[str, Any] | Callable[[Lab], Mapping[str, Any]] | None = None,
    *,
    network: str = "10.77.0.0/24",
    count: int = REAL,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    site: str = "",
) -> Iterator[Scene]:
    """Make one, with `config` over QUICK. `site`: Python that the daemon runs first, in a folder that has `jump`."""
    with Lab(network) as lab:
        tables = QUICK | dict(config(lab) if callable(config) else config or {})
        gateway = lab.gateway()
        crowd = lab.crowd(seed=3)
        macs = crowd.populate(lab.addresses(count, start=20))
        environment = WATCHED | dict(env or {})
        if site:
            (folder := lab.folder / "site").mkdir()
            (folder / "sitecustomize.py").write_text(site)
            jump_to(folder, 0)
            environment["PYTHONPATH"] = str(folder)
        daemon = lab.daemon(tables, as_user=True, env=environment, files=files)
        scene = Scene(lab, crowd, gateway, daemon, macs)
        if count > 254:  # more than the first scan asks for at once
            assert daemon.request("POST", "/api/scan?wait=1", {})[0] == 200
        wait_for("the household", lambda: scene.alive() == set(macs))
        for number, mac in enumerate(list(macs.values())[:3]):
            words = {"label": f"label {number}", "known": True, "notes": f"notes {number}"}
            assert daemon.request("PATCH", f"/api/devices/{mac}", words)[0] == 200
        yield scene


def attacked(daemon: Daemon, seconds: float, *accounts: Account, **bounds: float) -> list[Outcome]:
    """Let them all talk for so many seconds, and check that no harm is done; what each came to."""
    with monitored(daemon) as measured, connected(seconds, *accounts) as fire:
        outcomes = fire()
    print(*outcomes, sep="\n")
    measured.check(**bounds)  # type: ignore[arg-type]
    return outcomes


@pytest.fixture(scope="module")
def shared(root: None) -> Iterator[Scene]:
    """A household for the attacks of a file that leave nothing behind."""
    with household() as made:
        yield made


@pytest.fixture
def attack_seconds(request: pytest.FixtureRequest) -> float:
    """How long an attack lasts: some seconds, and with --long as long as it took to do harm at first."""
    return 12.0 if request.config.getoption("--long") else 1.5
