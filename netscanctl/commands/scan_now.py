"""`netscanctl scan-now`: scans, shows progress, lists the devices that answered."""

from contextlib import suppress
from datetime import datetime

import click

from netscanctl.cli import Session
from netscanctl.client import Client, Failure, scan_request
from netscanctl.params import as_ip, complete_network
from netscanctl.render import FOREIGN, ORDERS, devices_table, scan_summary, title
from netscand.protocol import DeviceList, ScanTicket, ScanUpdate

WAIT = "/api/scan?wait=1"
MOST_EXPLAINED = 8
"""Refused targets that are looked up."""


@click.command("scan-now", short_help="Scan now, and list the devices that answered.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1, shell_complete=complete_network)
@click.option("--no-wait", is_flag=True, help="Request the scan, and do not wait for it.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as received.")
@click.pass_obj
def command(session: Session, targets: tuple[str, ...], no_wait: bool, as_json: bool) -> None:
    """Scan every network, or each TARGET (an address, a prefix, a network id), and list the devices that answered."""
    try:
        _scan(session, targets, no_wait, as_json)
    except Failure as failure:
        if type(failure) is not Failure:
            raise
        with suppress(Failure):
            failure = _foreign(session.client, targets) or failure
        raise failure from None


def _scan(session: Session, targets: tuple[str, ...], no_wait: bool, as_json: bool) -> None:
    client, terminal = session.client, session.terminal
    if no_wait:
        answer = client.post("/api/scan", scan_request(targets))
        if as_json:
            terminal.json(answer)
        else:
            terminal.notice(f"scan {client.read(answer, ScanTicket).scan_id} accepted")
        return
    if not as_json and not terminal.quiet and (terminal.is_terminal or terminal.bar.enabled):
        from netscanctl.progress import post_with_progress

        answer = post_with_progress(session.daemon, terminal, WAIT, scan_request(targets))
    else:
        answer = client.post(WAIT, scan_request(targets), timeout=None)
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
    if targets and not answered:
        raise Failure("no target answered")


def _foreign(client: Client, targets: tuple[str, ...]) -> Failure | None:
    """Return the explanation if a target is the foreign address of a known device, which no scan asks."""
    for ip in filter(None, map(as_ip, targets[:MOST_EXPLAINED])):
        for device in client.read(client.get("/api/devices", {"ip": ip}), DeviceList).devices:
            if any(address.ip == ip and address.foreign for address in device.addresses):
                hint = f"it is probed all the same: netscanctl show {device.mac}"
                return Failure(f"{ip} is a foreign address of {title(device)}, and not scanned: {FOREIGN}", hint)
    return None
