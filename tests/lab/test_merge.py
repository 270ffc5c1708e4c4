"""One machine with two MACs, merged by its user: one row, over a restart, and the undo."""

from tests.lab.lan import Lab
from tests.lab.test_daemon import IMPATIENT, until, until_scanned

QUIET = {"scan": {"interval": 3600}}


def test_a_laptop_with_dock_and_wifi_is_one_device(lab: Lab) -> None:
    wifi, dock = lab.host("10.77.0.50"), lab.host("10.77.0.51")
    daemon = lab.daemon(IMPATIENT | QUIET)
    with daemon.websocket() as stream:
        until_scanned(stream)
        assert daemon.request("PATCH", f"/api/devices/{dock.mac}", {"label": "laptop", "tags": ["work"]})[0] == 200
        done = daemon.ctl("merge", wifi.mac, dock.mac)
        assert done.returncode == 0, done.stderr
        assert [until(stream, "event")["kind"] for _ in range(3)] == ["labelled", "forgotten", "merged"]
        one = daemon.get(f"/api/devices/{dock.mac}")  # by any of its MACs
        assert (one["mac"], one["merged_macs"], one["label"]) == (wifi.mac, [dock.mac], "laptop")
        wifi.unplug()
        dock.announce()
    for stop in (daemon.stop, daemon.kill):
        stop()
        daemon.start()
        assert daemon.ctl("wait-for", "laptop", "--timeout", "30").returncode == 0
        devices = {device["mac"]: device for device in daemon.get("/api/devices")["devices"]}
        assert dock.mac not in devices
        assert devices[wifi.mac]["merged_macs"] == [dock.mac]
    with daemon.websocket() as stream:
        until(stream, "initial_state")
        dock.unplug()
        gone = until(stream, "event")
        while gone["kind"] != "offline":
            gone = until(stream, "event")
        assert gone["device"]["mac"] == wifi.mac
    past = daemon.get(f"/api/devices/{wifi.mac}/events")["events"]
    assert {event["device"]["mac"] for event in past if event["kind"] == "discovered"} == {wifi.mac, dock.mac}
    assert daemon.ctl("merge", "--undo", dock.mac).returncode == 0
    back = daemon.get(f"/api/devices/{dock.mac}")
    assert (back["mac"], back["label"], back["tags"]) == (dock.mac, "laptop", ["work"])
    dock.replug()
    dock.announce()
    assert daemon.ctl("wait-for", dock.mac, "--timeout", "30").returncode == 0
