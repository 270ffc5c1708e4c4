"""`netscanctl scan-now`: scans, shows progress, lists the devices that answered."""

import click

from netscanctl.cli import Session
from netscanctl.client import Failure, scan_request
from netscanctl.params import complete_network
from netscanctl.render import ORDERS, devices_table, scan_summary
from netscand.protocol import ScanTicket, ScanUpdate

WAIT = "/api/scan?wait=1"


@click.command("scan-now", short_help="Scan now, and list the devices that answered.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1, shell_complete=complete_network)
@click.option("--no-wait", is_flag=True, help="Request the scan, and do not wait for it.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as received.")
@click.pass_obj
def command(session: Session, targets: tuple[str, ...], no_wait: bool, as_json: bool) -> None:
    """Scan every network, or each TARGET (an address, a prefix, a network id), and list the devices that answered."""
    client, terminal = session.client, session.terminal
    if no_wait:
        answer = client.post("/api/scan", scan_request(targets))
        if as_json:
            terminal.json(answer)
        else:
            terminal.notice(f"scan {client.read(answer, ScanTicket).scan_id} accepted")
        return
    if not as_json and (terminal.is_terminal or terminal.bar.enabled):
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
                devices_table(answered, columns=terminal.columns, paint=terminal.paint, today=terminal.today)
            )
        terminal.notice(scan_summary(update, len(answered)))
    if targets and not answered:
        raise Failure("no target answered")
