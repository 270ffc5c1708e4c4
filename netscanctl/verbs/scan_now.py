"""`netscanctl scan-now`: scan, show how it goes, list who answered."""

import click

from netscanctl.argument import complete_network
from netscanctl.cli import Session
from netscanctl.client import Failure, scan_wish
from netscanctl.render import ORDERS, devices_table, scan_summary
from netscand.protocol import ScanTicket, ScanUpdate

WAIT = "/api/scan?wait=1"


@click.command("scan-now", short_help="Scan now, and list who answered.")
@click.argument("targets", metavar="[TARGET]...", nargs=-1, shell_complete=complete_network)
@click.option("--no-wait", is_flag=True, help="Ask for it, and do not wait for its end.")
@click.option("--json", "as_json", is_flag=True, help="The daemon's answer as it came.")
@click.pass_obj
def command(session: Session, targets: tuple[str, ...], no_wait: bool, as_json: bool) -> None:
    """Scan now: every network, or each TARGET (an address, a prefix, a network's id), and list who answered."""
    client, terminal = session.client, session.terminal
    if no_wait:
        answer = client.post("/api/scan", scan_wish(targets))
        if as_json:
            terminal.json(answer)
        else:
            terminal.talk(f"scan {client.read(answer, ScanTicket).scan_id} is accepted")
        return
    if not as_json and (terminal.is_terminal or terminal.bar.possible):
        from netscanctl.progress import watched_post

        answer = watched_post(session.daemon, terminal, WAIT, scan_wish(targets))
    else:
        answer = client.post(WAIT, scan_wish(targets), patience=None)
    update = client.read(answer, ScanUpdate)
    answered = sorted(update.devices, key=ORDERS["ip"])
    if as_json:
        terminal.json(answer)
    else:
        if answered:
            terminal.write(
                devices_table(answered, columns=terminal.columns, paint=terminal.paint, today=terminal.today)
            )
        terminal.talk(scan_summary(update, len(answered)))
    if targets and not answered:
        raise Failure("no target answered")
