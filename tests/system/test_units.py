"""The units: as hardened as promised on the systemd of Debian 12 and 13, and understood by both."""

import re
import shutil
from pathlib import Path

import pytest

from tests.lab.spaces import ROOT, command
from tests.system.machine import tree

UNITS = ROOT / "systemd"
SERVICES = ("netscand-mqtt.service", "netscand-notify.service", "netscand-uplink.service", "netscand-hub.service")
SERVER = "netscand-nats.service"


@pytest.fixture(params=["bookworm", "trixie"])
def offline(request: pytest.FixtureRequest, machines: None, tmp_path: Path) -> "Offline":
    """The systemd-analyze of a Debian, and a folder of units that it sees as /."""
    return Offline(tree(request.param), tmp_path)


class Offline:
    """systemd-analyze on units that are not installed anywhere."""

    def __init__(self, system: Path, root: Path) -> None:
        self.system = system
        self.units = root / "usr/lib/systemd/system"
        self.own = root / "etc/systemd/system"
        self.root = root
        self.units.mkdir(parents=True)
        self.own.mkdir(parents=True)
        for unit in ("netscand.service", "netscand.socket", "netscand-failed.target", *SERVICES, SERVER):
            shutil.copy(UNITS / unit, self.units)

    def analyze(self, verb: str, *words: str) -> str:
        """What it says; its own binary with its own libraries."""
        line = (
            f'mount --bind "{self.root}" "{self.system}/mnt" && exec chroot "{self.system}" systemd-analyze "$@" 2>&1'
        )
        argv = [verb, "--root=/mnt", "--offline=true", "--no-pager", *words] if verb == "security" else [verb, *words]
        return command("unshare", "--mount", "--propagation", "private", "sh", "-c", line, "sh", *argv)

    def exposure(self, unit: str = "netscand.service") -> float:
        """Of a unit."""
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", self.analyze("security", unit))
        assert found is not None
        return float(found[1])


def test_the_exposure_is_at_most_1_6(offline: Offline) -> None:
    """`systemd-analyze security`, as a host would show it."""
    assert offline.exposure() <= 1.6


def test_the_exposure_of_a_service_is_at_most_1_5(offline: Offline) -> None:
    """It needs no capability, no raw socket, and no file of others."""
    for unit in (*SERVICES, SERVER):
        assert offline.exposure(unit) <= 1.5


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_has_no_capability_and_a_user_of_its_own(unit: str) -> None:
    """Law 10; its status can be read by every user, as a private runtime folder could not (systemd.exec(5))."""
    service = (UNITS / unit).read_text()
    assert {
        "DynamicUser=yes", "CapabilityBoundingSet=", "AmbientCapabilities=",
        f"RuntimeDirectory={unit.removesuffix('.service')}",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "Type=notify", "WatchdogSec=30s",
    } <= set(service.splitlines())  # fmt: skip
    assert "RuntimeDirectoryPreserve" not in service


def test_the_address_list_makes_it_1_5(offline: Offline) -> None:
    """The drop-in that we ship as an example, its comments taken away."""
    example = (UNITS / "addresses.conf").read_text()
    lines = [line[1:] for line in example.splitlines() if re.match(r"#(\[|[A-Z]\w+=)", line)]
    assert lines[0] == "[Service]"
    folder = offline.own / "netscand.service.d"
    folder.mkdir()
    (folder / "addresses.conf").write_text("\n".join(lines) + "\n")
    assert offline.exposure() <= 1.5


def test_both_understand_every_line(offline: Offline) -> None:
    """No option that one of them does not know: it would only warn, and the sandbox be weaker than it reads.

    But for RestartMode: systemd 252 restarts as `direct` does, and does not know the other mode.
    """
    binary = offline.root / "netscand"
    binary.write_text("")
    binary.chmod(0o755)
    service = (offline.units / "netscand.service").read_text()
    (offline.units / "netscand.service").write_text(
        re.sub(r"(?m)^(Documentation|ExecReload|RestartMode)=.*\n", "", service).replace(
            "/usr/bin/netscand", "/mnt/netscand"
        )
    )
    for unit in (*SERVICES, SERVER):
        text = re.sub(r"(?m)^(Documentation|ExecReload)=.*\n", "", (offline.units / unit).read_text())
        program = r"/usr/bin/netscand-\w+|/usr/sbin/nats-server"
        (offline.units / unit).write_text(re.sub(program, "/mnt/netscand", text))
    socket = (offline.units / "netscand.socket").read_text()
    (offline.units / "netscand.socket").write_text(re.sub(r"(?m)^Documentation=.*\n", "", socket))
    for unit in ("netscand.service", *SERVICES, SERVER):
        assert offline.analyze("verify", f"/mnt/usr/lib/systemd/system/{unit}") == ""


def test_the_daemon_has_one_capability_and_no_restart_loop() -> None:
    """What the exposure does not count."""
    service = (UNITS / "netscand.service").read_text()
    assert re.findall(r"(?m)^(?:Ambient|CapabilityBounding).*=(.*)$", service) == ["CAP_NET_RAW", "CAP_NET_RAW"]
    (prevented,) = re.findall(r"(?m)^RestartPreventExitStatus=(.*)$", service)
    assert {"77", "78", "217", "218", "226", "228", "243"} <= set(prevented.split())
    assert {"OnFailure=netscand-failed.target", "RestartMode=direct"} <= set(service.splitlines())
    assert "Conflicts=netscand.socket" in (UNITS / "netscand-failed.target").read_text()
    assert "Type=notify\nNotifyAccess=main" in service


def test_one_that_hangs_or_crashes_is_back_within_two_seconds() -> None:
    """What systemd waits, beside WatchdogSec, until it starts another (FAULTS F1, F3); and it never gives up before."""
    service = (UNITS / "netscand.service").read_text()
    found = dict(re.findall(r"(?m)^(\w+)=(\S+)$", service))
    seconds = {"500ms": 0.5, "1s": 1.0}
    assert seconds[found["TimeoutAbortSec"]] + seconds[found["RestartSec"]] <= 1.5
    assert seconds[found["RestartSec"]] <= 0.5
    assert found["Restart"] == "always"
    assert int(found["StartLimitBurst"]) >= 100
