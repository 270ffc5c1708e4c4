"""Leases of real clients, and a second DHCP server that the configuration does not expect."""

import time

from tests.lab.daemon import toml
from tests.lab.lan import Lab
from tests.lab.test_daemon import until, wait_for
from tests.lab.test_passive import NO_SCANS, avahi, dhclient, dnsmasq


def test_a_lease_is_shown_and_a_rogue_server_is_reported(lab: Lab) -> None:
    """The expected server causes no event; the other one does, at once, and is a problem in `status`."""
    network = {"cidr": "10.77.0.0/24", "expected_dhcp": ["10.77.0.1"]}
    daemon = lab.daemon({**NO_SCANS, "network": [network]})
    dnsmasq(lab.host("10.77.0.1"), "--dhcp-range=10.77.0.100,10.77.0.110,1h")
    laptop = lab.host(None)
    dhclient(laptop, "janes-laptop")

    def lease() -> dict[str, object]:
        found: dict[str, object] = daemon.get(f"/api/devices/{laptop.mac}")["dhcp"] or {}
        return found

    wait_for("the lease", lambda: lease().get("lease_seconds") == 3600)
    assert lease()["server"] == "10.77.0.1"
    shown = daemon.ctl("show", laptop.mac).stdout
    assert "from 10.77.0.1, for 1 h" in shown
    assert "(by DHCP)" in shown
    assert not [each for each in daemon.get("/api/events")["events"] if each["kind"] == "dhcp_server_seen"]
    with daemon.websocket() as stream:
        rogue = lab.host("10.77.0.66")
        dnsmasq(rogue, "--dhcp-range=10.77.0.200,10.77.0.210,1h")
        dhclient(lab.host(None), "other")
        event = until(stream, "event", kind="dhcp_server_seen")
    assert event["address"] == "10.77.0.66"
    assert event["reason"].endswith("not in expected_dhcp of 10.77.0.0/24")
    (problem,) = [each for each in daemon.get("/api/status")["problems"] if "DHCP" in each]
    assert f"10.77.0.66 ({rogue.mac}) serves DHCP, which is not expected there" in problem


def test_a_default_route_to_an_unexpected_router_is_reported(lab: Lab) -> None:
    """At once, each time, in the stream, in `status` and by netscanctl; no longer once the expected one is back."""
    gateway, router = lab.gateway(), lab.host("10.77.0.3")
    network = {"cidr": "10.77.0.0/24", "expected_gateway": [gateway.mac]}
    daemon = lab.daemon({**NO_SCANS, "network": [network]})
    for host in (gateway, router):
        host.announce()
        wait_for("the routers", lambda mac=host.mac: daemon.request("GET", f"/api/devices/{mac}")[0] == 200)  # type: ignore[misc]
    problem = f"10.77.0.0/24@eth0: 10.77.0.3 ({router.mac}) is the gateway, which is not expected there"
    for _ in range(2):
        assert daemon.get("/api/status")["problems"] == []
        with daemon.websocket() as stream:
            begun = time.monotonic()
            lab.watcher.space.ip(f"route replace default via {router.ip}")
            event = until(stream, "event", kind="gateway_changed")
            assert time.monotonic() - begun < 2, "it waited for a frame of the router"
        assert (event["address"], event["device"]["mac"]) == ("10.77.0.3", router.mac)
        assert event["reason"] == "not in expected_gateway of 10.77.0.0/24"
        assert daemon.get("/api/status")["problems"] == [problem]
        assert problem in daemon.ctl("status").stdout
        assert "not in expected_gateway" in daemon.ctl("events", "--kind", "gateway_changed").stdout
        lab.watcher.space.ip(f"route replace default via {gateway.ip}")
        wait_for("the end of the problem", lambda: not daemon.get("/api/status")["problems"])


def test_an_expectation_that_is_reloaded_ends_its_problem(lab: Lab) -> None:
    """A user who lists the new router need not wait for an hour; the same without the list."""
    gateway = lab.gateway()
    tables = [{"cidr": "10.77.0.0/24", "expected_gateway": [mac]} for mac in ("02:00:00:00:00:99", gateway.mac)]
    daemon = lab.daemon({**NO_SCANS, "network": tables[:1]})
    gateway.announce()
    for table in (tables[1], {"cidr": "10.77.0.0/24"}):
        wait_for("the problem", lambda: daemon.get("/api/status")["problems"])
        daemon.config.write_text(toml({**NO_SCANS, "network": [table]}))
        assert daemon.request("POST", "/api/reload", {})[0] == 204
        assert daemon.get("/api/status")["problems"] == []
        daemon.config.write_text(toml({**NO_SCANS, "network": tables[:1]}))
        assert daemon.request("POST", "/api/reload", {})[0] == 204


def test_real_clients_have_the_kind_of_their_evidence(lab: Lab) -> None:
    """Option sets of several makers, by dhclient; services, by Avahi. A maker alone says nothing."""
    daemon = lab.daemon(NO_SCANS)
    dnsmasq(lab.host("10.77.0.1"), "--dhcp-range=10.77.0.100,10.77.0.120,1h")
    clients = {
        ("DESKTOP-A1B2C3D", "MSFT 5.0", ""): "computer",
        ("LAPTOP-A1B2C3D4", "MSFT 5.0", "request subnet-mask, routers, domain-name-servers;"): "laptop",
        ("Janes-iPhone", "lab 1.0", ""): "phone",
        ("copier", "Mfg=DELL;Typ=Printer;Mod=Dell B2360dn;Ser=ABCDEF1;", ""): "printer",
        ("desk", "yealink", ""): "voip_phone",
        ("rack", "Meraki", ""): None,
        ("some-host", "udhcp 1.36.1", ""): None,
    }
    macs = {}
    for number, ((name, vendor_class, more), kind) in enumerate(clients.items()):
        host = lab.host(None, mac=f"a4:83:e7:00:00:{number:02x}")
        dhclient(host, name, vendor_class, more)
        macs[host.mac] = kind
    printer = lab.host("10.77.0.50", mac="a4:83:e7:00:00:50")
    avahi(printer, "office", service="_ipp._tcp", txt=["ty=Example 100", "rp=ipp/print"])
    macs[printer.mac] = "printer"

    def kinds() -> dict[str, object]:
        return {each["mac"]: each.get("kind") for each in daemon.get("/api/devices")["devices"] if each["mac"] in macs}

    wait_for("the kinds", lambda: kinds() == macs)
    shown = daemon.ctl("show", printer.mac).stdout
    assert "mDNS service _ipp._tcp" in shown
    assert {each["type"] for each in daemon.get(f"/api/devices/{printer.mac}")["services"]} == {"_ipp._tcp"}


def test_a_new_mac_of_a_real_client_is_suggested_and_the_merge_undone(lab: Lab) -> None:
    """By the identifier of its DHCP client; the undo knows its name, lease and kind without a frame from it."""
    daemon = lab.daemon(NO_SCANS)
    dnsmasq(lab.host("10.77.0.1"), "--dhcp-range=10.77.0.100,10.77.0.120,1h")
    wifi, dock = (lab.host(None, mac=f"a4:83:e7:00:00:6{number}") for number in (1, 2))
    same = 'send dhcp-client-identifier "laptop-of-jane";'
    dhclient(dock, "LAPTOP-A1B2C3D4", "MSFT 5.0", same)
    dhclient(wifi, "LAPTOP-A1B2C3D4", "MSFT 5.0", same)
    wait_for("the suggestion", lambda: daemon.get("/api/suggestions")["suggestions"])
    assert "same DHCP client identifier" in daemon.ctl("merge").stdout
    facts = ("hostname", "hostname_source", "kind", "kind_reason", "dhcp_vendor_class", "first_seen", "dhcp")
    before = daemon.get(f"/api/devices/{dock.mac}")
    assert (before["kind"], before["hostname"]) == ("laptop", "LAPTOP-A1B2C3D4")
    assert daemon.ctl("merge", wifi.mac, dock.mac).returncode == 0
    dock.unplug()
    for restart in (False, True):
        if restart:
            assert daemon.ctl("merge", wifi.mac, dock.mac).returncode == 0
            daemon.kill()
            daemon.start()
        assert daemon.ctl("merge", "--undo", dock.mac).returncode == 0
        after = daemon.get(f"/api/devices/{dock.mac}")
        kept = facts[:-1] if restart else facts  # no lease outlasts a restart
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
