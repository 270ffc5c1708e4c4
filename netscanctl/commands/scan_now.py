"""`netscanctl scan-now`: scans, shows progress, lists the devices that answered."""

from contextlib import suppress
from datetime import datetime
from ipaddress import ip_address, ip_network

import click

from netscanctl.cli import Session
from netscanctl.client import Client, Failure, scan_request
from netscanctl.params import as_ip, complete_target, scan_targets, site_option
from netscanctl.render import FOREIGN, ORDERS, devices_table, scan_summary, title
from netscand.protocol import Device, DeviceList, ScanTicket, ScanUpdate

WAIT = "/api/scan?wait=1"
MOST_EXPLAINED = 8
"""Refused targets that are looked up, and silent devices that are named."""
MOST_COMPARED = 4096
"""Devices that answered, above which those that did not are not looked up."""


@click.command("scan-now", short_help="Scan now, and list the devices that answered.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1, shell_complete=complete_target)
@site_option
@click.option("--no-wait", is_flag=True, help="Request the scan, and do not wait for it.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as received.")
@click.pass_obj
def command(session: Session, targets: tuple[str, ...], no_wait: bool, as_json: bool) -> None:
    """Scan every network, or each TARGET, and list the devices that answered.

    TARGET is an address, a range (192.168.1.10-50), a prefix, a network id, an interface, or a device: its MAC, name or
    label. A hub passes the request on to the site of --site, and does not wait.
    """
    try:
        targets = scan_targets(session.client, targets)
        _scan(session, targets, no_wait, as_json)
    except Failure as failure:
        if type(failure) is not Failure:
            raise
        with suppress(Failure):
            failure = _of_hub(session) or _foreign(session.client, targets) or failure
        raise failure from None


def _scan(session: Session, targets: tuple[str, ...], no_wait: bool, as_json: bool) -> None:
    client, terminal = session.client, session.terminal
    if no_wait or session.site:
        answer = client.post("/api/scan", scan_request(targets, session.site))
        if as_json:
            terminal.json(answer)
        elif session.site:
            hint = f"for what it finds: netscanctl watch --site {session.site}"
            terminal.notice(f"scan requested at site {session.site}; {hint}")
        else:
            terminal.notice(f"scan {client.read(answer, ScanTicket).scan_id} accepted")
        return
    if not as_json and not terminal.quiet and (terminal.is_terminal or terminal.bar.enabled):
        from netscanctl.progress import post_with_progress

        answer = post_with_progress(session.daemon, terminal, WAIT, scan_request(targets))
    else:
        answer = client.post(WAIT, scan_request(targets), timeout=None)
    if b'"devices":' not in answer:  # 202: the daemon waits for a limited time
        if as_json:
            terminal.json(answer)
        scan_id = client.read(answer, ScanTicket).scan_id
        terminal.notice(f"scan {scan_id} takes long, and continues; for what it finds: netscanctl watch")
        return
    update = client.read(answer, ScanUpdate)
    answered = sorted(update.devices, key=ORDERS["ip"])
    if as_json:
        terminal.json(answer)
    else:
        if answered:
            terminal.write(
                devices_table(answered, columns=terminal.columns, paint=terminal.paint, today=terminal.today,
                              now=datetime.now().astimezone())
            )  # fmt: skip
        terminal.notice(scan_summary(update, len(answered)))
        if not terminal.quiet and len(answered) <= MOST_COMPARED and (silent := _silent(client, update, targets)):
            more = f" and {len(silent) - MOST_EXPLAINED} more" if len(silent) > MOST_EXPLAINED else ""
            names = ", ".join(title(device) for device in silent[:MOST_EXPLAINED])
            terminal.notice(f"online, but did not answer this scan: {names}{more}")
    if targets and not answered:
        raise Failure("no target answered")


def _of_hub(session: Session) -> Failure | None:
    """Return the explanation if the scan of a hub was requested."""
    if session.site is not None or session.client.sites() is None:
        return None
    return Failure("a hub scans nothing itself", "name the site to scan: --site NAME")


def _foreign(client: Client, targets: tuple[str, ...]) -> Failure | None:
    """Return the explanation if a target is the foreign address of a known device, which no scan asks."""
    for ip in filter(None, map(as_ip, targets[:MOST_EXPLAINED])):
        for device in client.read(client.get("/api/devices", {"ip": ip}), DeviceList).devices:
            if any(address.ip == ip and address.foreign for address in device.addresses):
                hint = f"it is probed all the same: netscanctl show {device.mac}"
                return Failure(f"{ip} is a foreign address of {title(device)}, and not scanned: {FOREIGN}", hint)
    return None


def _silent(client: Client, update: ScanUpdate, targets: tuple[str, ...]) -> list[Device]:
    """Return the devices that are online at a scanned IPv4 address and did not answer; not this host."""
    scanned = [ip_network(target.partition("@")[0]) for target in targets or update.networks]
    answered = {device.mac for device in update.devices}
    online = client.read(client.get("/api/devices", {"status": "online"}), DeviceList).devices
    silent = [device for device in online if device.mac not in answered and "self" not in device.kinds]
    return [
        device
        for device in silent
        if any(
            ip_address(one.ip) in network
            for one in device.addresses
            if one.ip == device.ip and not one.foreign and "%" not in one.ip
            for network in scanned
        )
    ]
