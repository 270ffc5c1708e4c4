"""netscanctl with a hub of sites: `sites`, `--site`, devices of several sites, and a netscand that is no hub."""

import json
from typing import Any

import pytest

from netscanctl.state import ClientState
from netscand import protocol
from netscand.protocol import Device, Site
from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import AT, HOME, device, event, left, network, snapshot

PHONE = "a4:83:e7:00:00:07"


def site(name: str, state: str = "connected", **more: object) -> Site:
    fields: dict[str, Any] = {
        "site": name, "state": state, "problems": [], "why": [], "since": AT, "cursor": None, "version": "0.1.0",
        "instance": None, "backlog": 0, "clock_offset": 0.0, "commands": True, "networks": 1, "received_at": AT,
        "devices": protocol.Counts(online=1, offline=2, unknown=3),
    }  # fmt: skip
    return Site(**(fields | more))


@pytest.fixture
def hub(daemon: FakeDaemon) -> FakeDaemon:
    """A hub of two sites; the phone was seen at both, the printer at one."""
    daemon.sites = [site("barn"), site("cabin", "silent", why=["140 events wait at the site"], backlog=140)]
    daemon.devices = [
        device(7, site="barn"),
        device(7, "unknown", site="cabin", status_at_site="online"),
        device(9, label="printer", site="barn"),
    ]
    daemon.networks = [network(site="barn"), network(site="cabin")]
    return daemon


def test_sites_are_listed_with_their_condition(ctl: Ctl, hub: FakeDaemon) -> None:
    lines = ctl.run("sites").stdout.splitlines()
    assert lines[0].split() == [
        "STATE", "SITE", "ONLINE", "OFFLINE", "UNKNOWN", "LAST", "SIGN", "BACKLOG", "VERSION", "WHY",
    ]  # fmt: skip
    assert lines[1].split() == ["connected", "barn", "1", "2", "3", "2026-11-24", "07:02:11", "0", "0.1.0", "-"]
    assert lines[2].endswith("140      0.1.0    140 events wait at the site")
    assert [each["site"] for each in json.loads(ctl.run("sites", "--json").stdout)["sites"]] == ["barn", "cabin"]


def test_lists_have_the_column_site_and_are_limited(ctl: Ctl, hub: FakeDaemon) -> None:
    every, one = ctl.run("devices").stdout.splitlines(), ctl.run("devices", "--site", "barn").stdout.splitlines()
    assert every[0].split()[:2] == ["STATUS", "SITE"]
    assert [line.split()[1] for line in every[1:]] == ["barn", "cabin", "barn"]
    assert [line.split()[1] for line in one[1:]] == ["barn", "barn"]
    assert ctl.run("networks").stdout.splitlines()[2].split()[:2] == ["up", "cabin"]
    assert ctl.run("devices", "--format", "csv").stdout.splitlines()[0].endswith(",notes,kind,tags,site")
    assert "choose one with --site" in ctl.fails(2, "devices", "--format", "hosts")
    assert ctl.run("devices", "--format", "hosts", "--site", "barn").returncode == 0


def test_a_device_of_several_sites_needs_the_site(ctl: Ctl, hub: FakeDaemon) -> None:
    """The error names them; a name of only one site limits what follows to it."""
    for args in (("show", PHONE), ("label", PHONE, "x"), ("forget", "--yes", PHONE)):
        assert f"{PHONE} is at several sites: barn, cabin; choose one with --site NAME" in ctl.fails(1, *args)
    assert "host7 (a4:83:e7:00:00:07) at site cabin; choose one with --site" in ctl.fails(1, "show", "host7")
    shown = ctl.run("show", PHONE, "--site", "cabin")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "site        cabin\n" in shown.stdout
    assert "site cabin is silent; its last report was online: answered a probe\n" in shown.stdout
    labelled = ctl.run("label", "printer", "y").stderr
    assert labelled == 'netscanctl: printer (a4:83:e7:00:00:09) at site barn: label set to "y"\n'
    assert hub.requests[-1][2] == {"site": "barn"}
    refusal = "site barn accepts no commands; set it at site barn itself"
    hub.refuse(403, "forbidden", refusal, f"/api/devices/{PHONE}")
    assert ctl.fails(4, "label", PHONE, "x", "--site", "barn") == refusal


def test_a_scan_needs_a_site_and_is_not_waited_for(ctl: Ctl, hub: FakeDaemon) -> None:
    assert "scan requested at site barn" in ctl.run("scan-now", "192.168.1.7", "--site", "barn").stderr
    assert hub.received == [protocol.ScanRequest(targets=["192.168.1.7"], site="barn")]
    hub.refuse(400, "bad_request", "wait: …", "/api/scan")
    assert ctl.fails(1, "scan-now") == "a hub scans nothing itself; name the site to scan: --site NAME"


def test_events_have_the_site(ctl: Ctl, hub: FakeDaemon) -> None:
    hub.events = [
        left(device(9, "offline", site="barn")),
        event("site_silent", cursor="k3f9-3", site="cabin", network=None, state=site("cabin", "silent")),
    ]
    hub.events[0].site = "barn"
    lines = ctl.run("events").stdout.splitlines()
    assert lines[0].split()[3:6] == ["offline", "barn", "192.168.1.9"]
    assert lines[1].split()[2:5] == ["!", "site_silent", "cabin"]
    assert ctl.run("events", "--device", "printer").returncode == 0
    assert hub.requests[-1][2] == {"last": "500", "mac": "a4:83:e7:00:00:09", "site": "barn"}


def test_waiting_takes_a_mac_at_any_site_and_an_address_at_one(ctl: Ctl, hub: FakeDaemon) -> None:
    assert ctl.run("wait-for", PHONE, "--timeout", "0").returncode == 0
    assert "matches 2 devices" in ctl.fails(1, "wait-for", "192.168.1.7", "--timeout", "0")
    hub.snapshot = [snapshot(hub.devices[1])]
    assert ctl.run("wait-for", "192.168.1.7", "--site", "cabin", "--timeout", "0").returncode == 6
    assert hub.requests[-1][2]["site"] == "cabin"


def test_a_site_that_is_not_there_is_an_error(ctl: Ctl, daemon: FakeDaemon) -> None:
    """Of a netscand of one host, and of a hub, whose sites are named."""
    address = f"netscand at {daemon.socket} is one host, not a hub of sites, and has no"
    for args in (("devices",), ("watch",), ("show", PHONE), ("wait-for", PHONE), ("scan-now",), ("networks",)):
        assert f"{address} site barn; omit --site" in ctl.fails(1, *args, "--site", "barn")
    assert f"{address} sites; connect to a hub" in ctl.fails(1, "sites")
    daemon.sites = [site("barn"), site("cabin")]
    assert ctl.fails(1, "devices", "--site", "home") == 'no site "home"; the sites are barn, cabin'
    assert "expected 1 to 32 letters" in ctl.run("devices", "--site", "a b").stderr


def online(of: ClientState) -> dict[str, str]:
    return {key: one.status for key, one in of.devices.items()}


def hub_device(number: int, status: str, name: str) -> Device:
    return device(number, status, site=name)


def test_devices_of_a_silent_site_are_unknown_never_offline() -> None:
    """Its other devices keep their status, and all have it again with the site; also after a resumed stream."""
    state = ClientState()
    devices = hub_device(7, "online", "barn"), hub_device(7, "online", "cabin"), hub_device(8, "offline", "cabin")
    networks = [network(site="barn"), network(site="cabin")]
    state.on_message(snapshot(*devices, networks=networks))
    before = online(state)
    silent = event("site_silent", site="cabin", network=None, state=site("cabin", "silent"))
    assert state.on_message(silent) == [silent]
    assert online(state) == {
        f"barn/{PHONE}": "online",
        f"cabin/{PHONE}": "unknown",
        "cabin/a4:83:e7:00:00:08": "unknown",
    }
    assert state.devices[f"cabin/{PHONE}"].status_at_site == "online"
    state.on_message(event("site_up", site="cabin", network=None, state=site("cabin")))
    assert online(state) == before
    resumed = protocol.Resumed(
        cursor="k3f9-2", version="0.1.0", protocol=1, interval=0, scanning=False, role="read", networks=networks,
        sites=[site("barn", "silent"), site("cabin")],
    )  # fmt: skip
    state.on_message(resumed)
    assert online(state) == {**before, f"barn/{PHONE}": "unknown"}


def test_a_removed_site_has_no_devices_and_networks() -> None:
    """Also without an event for each device, as after a resumed stream."""
    state = ClientState()
    networks = [network(site="barn"), network(site="cabin")]
    state.on_message(snapshot(hub_device(7, "online", "barn"), hub_device(7, "online", "cabin"), networks=networks))
    removed = event("site_removed", site="cabin", network=None)
    assert state.on_message(removed) == [removed]
    assert online(state) == {f"barn/{PHONE}": "online"}
    assert [each.site for each in state.networks.values()] == ["barn"]


def test_this_host_is_not_one_of_those_that_fell_silent() -> None:
    """It is unknown only while its network is down."""
    state = ClientState()
    state.on_message(snapshot(device(7, kinds=["self"]), device(8)))
    shown = []
    for kind in ("network_silent", "network_down", "network_up"):
        state.on_message(event(kind))
        shown.append([one.status for one in state.devices.values()])
    assert shown == [["online", "unknown"], ["unknown", "unknown"], ["online", "unknown"]]


def test_a_network_that_goes_down_is_of_one_site() -> None:
    """Two sites have the same id; so has the device that goes offline there."""
    state = ClientState()
    state.on_message(
        snapshot(hub_device(7, "online", "barn"), hub_device(7, "online", "cabin"),
                 networks=[network(site="barn"), network(site="cabin")])
    )  # fmt: skip
    state.on_message(event("network_down", site="barn", network=HOME))
    assert online(state) == {f"barn/{PHONE}": "unknown", f"cabin/{PHONE}": "online"}
    gone = left(hub_device(7, "offline", "cabin"))
    gone.site = "cabin"
    state.on_message(gone)
    assert online(state) == {f"barn/{PHONE}": "unknown", f"cabin/{PHONE}": "offline"}
