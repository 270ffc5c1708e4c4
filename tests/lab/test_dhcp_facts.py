"""Leases of real clients, and a second DHCP server that the configuration does not expect."""

from tests.lab.lan import Lab
from tests.lab.test_daemon import until, wait_for
from tests.lab.test_passive import NO_SCANS, dhclient, dnsmasq


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
