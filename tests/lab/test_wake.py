"""`netscanctl wake` on a real LAN: another host sees the magic packets."""

from tests.lab.lan import Lab
from tests.lab.test_daemon import wait_for
from tests.lab.test_passive import NO_SCANS


def test_another_host_sees_the_magic_packets_and_wait_ends(lab: Lab) -> None:
    """A host that answers is online, so `--wait` succeeds; the switch carries both frames to everyone."""
    sleeper, other = lab.host("10.77.0.20"), lab.host("10.77.0.21")
    daemon = lab.daemon({"scan": {"interval": 86400}, "names": NO_SCANS["names"]})
    wait_for("the device", lambda: "10.77.0.20" in daemon.devices())
    content = b"\xff" * 6 + 16 * bytes.fromhex(sleeper.mac.replace(":", ""))
    with lab.capture(other) as capture:
        done = daemon.ctl("wake", "10.77.0.20", "--wait", "--timeout", "60")
        assert done.returncode == 0, done.stderr
        assert "magic packet sent on 10.77.0.0/24@eth0" in done.stderr
        frames = [frame.data for frame in capture.frames() if content in frame.data]
    assert sorted(frame[12:14] for frame in frames) == [b"\x08\x00", b"\x08\x42"]
    unknown = daemon.ctl("wake", "02:00:00:00:99:99")
    assert unknown.returncode == 1
