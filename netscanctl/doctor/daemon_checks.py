"""Checks of a running daemon for `netscanctl doctor`. They use its API only."""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime

from netscanctl.client import Client, Failure, admin_hint, scan_request
from netscanctl.doctor.access_checks import check_access, check_configuration
from netscanctl.render import conflict_sentences, span
from netscand import __version__
from netscand.check_results import CANNOT_LISTEN, failed, how_to_listen, ok, unknown, warning
from netscand.protocol import CheckResult, DaemonStatus, DeviceList, Network, ScanUpdate

GATEWAY_TIMEOUT = 15.0
"""Seconds to wait for a scan of a gateway; the daemon may have to finish another scan first."""
MAX_CLOCK_SKEW = 5.0
"""Seconds by which two clocks may differ."""
QUIET_AFTER = 300.0
"""Seconds after which a daemon on a LAN in use has received frames."""
HOW_TO_SCAN = "add the LAN to the configuration: a [[network]] table with its cidr; then systemctl reload netscand"
OWN_ADDRESS = ", an address of this host, is claimed by "
"""In a problem of the daemon that another device claims one of its addresses."""
MAX_LOSS = 0.01
"""Fraction of frames that the kernel may drop."""


def check_running(client: Client, status: DaemonStatus) -> Iterator[CheckResult]:
    """Run all checks, in the order in which a frame passes through the daemon."""
    yield check_daemon(status)
    yield check_versions(status)
    yield from check_configuration(status)
    yield from check_receiving(status)
    yield check_interfaces(status)
    yield from check_own_addresses(status)
    yield from check_conflicts(status)
    yield from check_gateways(client, status)
    yield check_socket(status)
    yield from check_access(status.access, is_local=client.daemon.url is None)
    yield check_database(status)


def check_daemon(status: DaemonStatus) -> CheckResult:
    """Report the version and uptime of the daemon."""
    uptime = _seconds(status.started_at, status.now)
    return ok("daemon", f"netscand {status.version} has been running for {span(uptime)}")


def check_versions(status: DaemonStatus) -> CheckResult:
    """Compare the versions of both programs; the client has already checked the protocol."""
    if status.version != __version__:
        return warning(
            "versions",
            f"netscand {status.version} is running, but netscanctl is {__version__}",
            "upgrade the older of the two; if both are installed: systemctl restart netscand",
        )
    return ok("versions", f"both are {__version__}, protocol {status.protocol}")


def check_receiving(status: DaemonStatus) -> Iterator[CheckResult]:
    """Check that frames arrive. A daemon without raw sockets or packet filter would not have started."""
    frames, uptime = status.frames, _seconds(status.started_at, status.now)
    yield ok("capability", "raw sockets are open")
    if frames.dropped > MAX_LOSS * max(frames.received, 100):
        yield warning(
            "filter",
            f"the kernel dropped {frames.dropped} of {frames.received + frames.dropped} frames",
            "give netscand more CPU time, or find the host that floods this LAN",
        )
    elif not frames.received and uptime > QUIET_AFTER:
        yield warning(
            "filter",
            f"no frame received in {span(uptime)}",
            "check that the interface is on the LAN; in a virtual machine, that its port is connected to the LAN",
        )
    else:
        yield ok("filter", f"{frames.received} frames received, {frames.dropped} dropped")


def check_interfaces(status: DaemonStatus) -> CheckResult:
    """Check that at least one network can be scanned."""
    errors = _starting_with(status.problems, "cannot send on ")
    if errors:
        return failed(
            "interfaces", "; ".join(errors), "see `ip -s link`; egress rules of a firewall also block raw frames"
        )
    scanned = [network for network in status.networks if network.state != "excluded"]
    if not scanned:
        reasons = "; ".join(f"{network.id}: {network.why}" for network in status.networks)
        return failed(
            "interfaces",
            f"no network is scanned ({reasons or 'no interface has an IPv4 address'})",
            HOW_TO_SCAN,
        )
    not_up = [f"{network.id} is {network.state}" for network in scanned if network.state != "up"]
    if not_up:
        verdict = warning if len(not_up) < len(scanned) else failed
        return verdict("interfaces", ", ".join(not_up), "check the cable, switch or Wi-Fi; see `ip link`")
    return ok("interfaces", ", ".join(network.id + _stands_by(network) for network in scanned))


def _stands_by(network: Network) -> str:
    """Return the note about a network that is not scanned because another one is the same LAN."""
    return f" (on the same LAN as {network.same_lan_as}, which is scanned instead)" if network.same_lan_as else ""


def check_own_addresses(status: DaemonStatus) -> Iterator[CheckResult]:
    """Report the devices that claim an address of this host."""
    claims = [problem for problem in status.problems if OWN_ADDRESS in problem]
    if claims:
        yield failed("addresses", "; ".join(claims), "give that device or this host another address")


def check_conflicts(status: DaemonStatus) -> Iterator[CheckResult]:
    """Report addresses that two devices use: netscand works, but these devices are hardly reachable."""
    if found := conflict_sentences(status.conflicts, status.conflict_count):
        hint = "give one of the two devices another address; to see each of them: netscanctl show MAC"
        yield warning("conflicts", "; ".join(found), hint)


NO_GATEWAY = "normal on an isolated LAN; otherwise see `ip route`. To check that others answer: netscanctl scan-now"


def check_gateways(client: Client, status: DaemonStatus) -> Iterator[CheckResult]:
    """Check each gateway: requests leave this host, and replies arrive."""
    up = [network for network in status.networks if network.state == "up" and network.gateway]
    networks = [network for network in up if not network.same_lan_as]
    for network in networks:
        try:
            yield check_gateway(client, status.role, network)
        except Failure as failure:
            yield unknown("gateway", f"{network.gateway}: {failure}", f"try: netscanctl scan-now {network.gateway}")
    if not networks:
        yield unknown("gateway", "no scanned network has a default gateway", NO_GATEWAY)


def check_gateway(client: Client, role: str, network: Network) -> CheckResult:
    """Scan the gateway, or with the role read, look it up. Raises Failure."""
    ip = network.gateway or ""
    hint = (
        f"check that it is on and in the same VLAN as {network.interface}, "
        "and that the access point does not isolate its clients"
    )
    can_scan = role in ("scan", "admin")
    if can_scan:
        answer = client.post("/api/scan?wait=1", scan_request([ip]), timeout=GATEWAY_TIMEOUT)
        devices = client.read(answer, ScanUpdate).devices
    else:
        devices = client.read(client.get("/api/devices", {"q": ip, "network": network.id}), DeviceList).devices
    found = [device for device in devices if any(address.ip == ip for address in device.addresses)]
    if can_scan:
        if not found:
            return failed("gateway", f"{ip} does not answer on {network.interface}", hint)
        rtt = f" in {found[0].rtt_ms:g} ms" if found[0].rtt_ms is not None else ""
        return ok("gateway", f"{ip} answered{rtt} on {network.interface}")
    if any(device.status == "online" for device in found):
        return ok("gateway", f"{ip} is online: {found[0].reason}")
    return failed("gateway", f"{ip} is not online: {found[0].reason if found else 'never seen'}", hint)


def check_socket(status: DaemonStatus) -> CheckResult:
    """Check that the daemon listens everywhere it should, and report the user's role."""
    errors = _starting_with(status.problems, CANNOT_LISTEN)
    if errors:
        return warning("socket", "; ".join(errors), "; ".join(dict.fromkeys(map(how_to_listen, errors))))
    if status.role == "admin":
        return ok("socket", "your role is admin: all commands are permitted")
    return ok("socket", f"your role is {status.role}", f"for the role admin, {admin_hint()}")


def check_database(status: DaemonStatus) -> CheckResult:
    """Check that the history is stored."""
    errors = [problem for problem in status.problems if _is_about_history(problem)]
    if not errors:
        return ok("database", "events are stored before they are published")
    if all("set aside" in problem for problem in errors):
        hint = "inspect or delete the file that was set aside, then: systemctl restart netscand"
        return warning("database", "; ".join(errors), hint)
    hint = "check free space and permissions of [history] path for the user netscand; see journalctl -u netscand"
    return failed("database", "; ".join(errors), hint)


def check_clock(status: DaemonStatus) -> CheckResult | None:
    """Compare the clock of a remote daemon with ours; None if they agree."""
    skew = abs(datetime.fromisoformat(status.now).timestamp() - time.time())
    if skew > MAX_CLOCK_SKEW:
        return warning(
            "clock", f"the clocks of this host and the daemon differ by {span(skew)}", "use NTP on both (timedatectl)"
        )
    return None


def _is_about_history(problem: str) -> bool:
    """Return whether the subject of a problem is the history; the detail after the colon may mention anything."""
    subject = problem.partition(":")[0]
    return "history" in subject or "disk" in subject


def _starting_with(problems: Sequence[str], prefix: str) -> list[str]:
    return [problem for problem in problems if problem.startswith(prefix)]


def _seconds(earlier: str, later: str) -> float:
    return max(0.0, datetime.fromisoformat(later).timestamp() - datetime.fromisoformat(earlier).timestamp())
