"""What a daemon that runs says of itself, judged. All it takes is the API."""

import time
from collections.abc import Iterable, Iterator
from datetime import datetime

from netscanctl.client import Client, Failure, scan_wish
from netscanctl.finding import Finding, bad, good, odd, unseen
from netscanctl.render import span
from netscand import __version__
from netscand.protocol import DaemonStatus, DeviceList, Network, ScanUpdate

PATIENCE = 15.0
"""Seconds that a gateway's answer is waited for; the daemon may have to finish a scan first."""
SKEW = 5.0
"""Seconds that two clocks may differ."""
QUIET = 300.0
"""Seconds after which a LAN with people on it has been heard."""
LOSSES = 0.01
"""The part of the frames that may be dropped."""

GROUP = "usermod -aG netscan USER, then log in anew"


def of_running(client: Client, status: DaemonStatus) -> Iterator[Finding]:
    """Everything, in the order in which a frame meets it."""
    yield of_daemon(status)
    yield of_versions(status)
    yield from of_receiving(status)
    yield of_interfaces(status)
    yield from of_gateways(client, status)
    yield of_socket(status)
    yield of_database(status)


def of_daemon(status: DaemonStatus) -> Finding:
    """That it runs."""
    up = _seconds(status.started_at, status.now)
    return good("daemon", f"netscand {status.version} has run for {span(up)}")


def of_versions(status: DaemonStatus) -> Finding:
    """That both ends are of one version; that they speak one protocol was found out on the way here."""
    if status.version != __version__:
        return odd(
            "versions",
            f"netscand {status.version} runs, netscanctl is {__version__}",
            "systemctl restart netscand, if the other is installed already; else upgrade the older",
        )
    return good("versions", f"both are {__version__}, and speak protocol {status.protocol}")


def of_receiving(status: DaemonStatus) -> Iterator[Finding]:
    """That it hears: it would not have started without raw sockets and the kernel's filter."""
    frames, up = status.frames, _seconds(status.started_at, status.now)
    yield good("capability", "raw sockets are open")
    if frames.dropped > LOSSES * max(frames.received, 100):
        yield odd(
            "filter",
            f"the kernel dropped {frames.dropped} of {frames.received + frames.dropped} frames",
            "give netscand more of a processor, or look for whoever floods this LAN",
        )
    elif not frames.received and up > QUIET:
        yield odd(
            "filter",
            f"no frame was heard in {span(up)}",
            "is this interface on the LAN? In a virtual machine: is its port connected, and to the right network?",
        )
    else:
        yield good("filter", f"{frames.received} frames heard, {frames.dropped} dropped")


def of_interfaces(status: DaemonStatus) -> Finding:
    """That there is a network to scan, and that it can be."""
    refused = _with(status.problems, "cannot send on ")
    if refused:
        return bad(
            "interfaces", "; ".join(refused), "see `ip -s link`; a firewall's egress rules refuse raw frames, too"
        )
    scanned = [network for network in status.networks if network.state != "excluded"]
    if not scanned:
        why = (
            "; ".join(f"{network.id}: {network.why}" for network in status.networks)
            or "no interface has an IPv4 address"
        )
        return bad("interfaces", f"no network is scanned ({why})", "name the interface in [scan] interfaces")
    away = [f"{network.id} is {network.state}" for network in scanned if network.state != "up"]
    if away:
        verdict = odd if len(away) < len(scanned) else bad
        return verdict("interfaces", ", ".join(away), "look at the cable, the switch or the Wi-Fi; see `ip link`")
    return good("interfaces", ", ".join(network.id for network in scanned))


def of_gateways(client: Client, status: DaemonStatus) -> Iterator[Finding]:
    """That what we send arrives and is answered: the daemon asks each gateway."""
    networks = [network for network in status.networks if network.state == "up" and network.gateway]
    for network in networks:
        try:
            yield of_gateway(client, status.role, network)
        except Failure as failure:
            yield unseen("gateway", f"{network.gateway}: {failure}")
    if not networks:
        yield unseen("gateway", "no network that is scanned has a default gateway")


def of_gateway(client: Client, role: str, network: Network) -> Finding:
    """That this one answers. Raises Failure."""
    ip = network.gateway or ""
    mend = f"is it on, and in the same VLAN as {network.interface}? Does the access point isolate its stations?"
    if role in ("scan", "admin"):
        answer = client.post("/api/scan?wait=1", scan_wish([ip]), patience=PATIENCE)
        found = client.read(answer, ScanUpdate).devices
        answered = [device for device in found if any(held.ip == ip for held in device.addresses)]
        if not answered:
            return bad("gateway", f"{ip} does not answer on {network.interface}", mend)
        took = f" in {answered[0].rtt_ms:g} ms" if answered[0].rtt_ms is not None else ""
        return good("gateway", f"{ip} answered{took} on {network.interface}")
    listed = client.read(client.get("/api/devices", {"q": ip, "network": network.id}), DeviceList).devices
    known = [device for device in listed if any(held.ip == ip for held in device.addresses)]
    if any(device.status == "online" for device in known):
        return good("gateway", f"{ip} is online: {known[0].reason}")
    why = known[0].reason if known else "it was never heard"
    return bad("gateway", f"{ip} is not online: {why}", mend)


def of_socket(status: DaemonStatus) -> Finding:
    """That clients can come, and what this one may."""
    unbound = _with(status.problems, "cannot listen on ")
    if unbound:
        return odd("socket", "; ".join(unbound), "end what listens there (ss -ltnp), or change [listen] tcp")
    if status.role == "admin":
        return good("socket", "you may do everything")
    return good("socket", f"your role is {status.role}", f"for more, join the group: {GROUP}")


def of_database(status: DaemonStatus) -> Finding:
    """That what happens is kept."""
    troubles = [problem for problem in status.problems if problem.startswith(("the history ", "the disk "))]
    if not troubles:
        return good("database", "events are stored before they are told")
    said = "; ".join(troubles)
    mend = (
        "is there room on the disk of [history] path, and may the user netscan write there? See journalctl -u netscand"
    )
    if all("set aside" in problem for problem in troubles):
        return odd(
            "database", said, "look at the file that was set aside, or delete it; then systemctl restart netscand"
        )
    return bad("database", said, mend)


def of_clock(status: DaemonStatus) -> Finding | None:
    """That both clocks agree, where the daemon is elsewhere."""
    skew = abs(datetime.fromisoformat(status.now).timestamp() - time.time())
    if skew > SKEW:
        return odd("clock", f"the daemon's clock and ours differ by {span(skew)}", "let both follow NTP (timedatectl)")
    return None


def _with(problems: Iterable[str], beginning: str) -> list[str]:
    return [problem for problem in problems if problem.startswith(beginning)]


def _seconds(earlier: str, later: str) -> float:
    return max(0.0, datetime.fromisoformat(later).timestamp() - datetime.fromisoformat(earlier).timestamp())
