"""`netscanctl status`: state of the daemon."""

import click

from netscanctl.cli import Session
from netscanctl.render import status_facts
from netscanctl.service_status import read_statuses, service_line
from netscand.protocol import DaemonStatus


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as received.")
@click.pass_obj
def command(session: Session, as_json: bool) -> None:
    """Show the daemon's health, load, coverage, drops and version."""
    answer = session.client.get("/api/status")
    terminal = session.terminal
    if as_json:
        terminal.json(answer)
        return
    status = session.client.read(answer, DaemonStatus)
    terminal.write(status_facts(status, paint=terminal.paint, today=terminal.today, columns=terminal.columns))
    for service in read_statuses(session.daemon.address):
        terminal.write(f"service    {service_line(service, terminal.today)}\n")
