"""`netscanctl status`: state of the daemon."""

import click

from netscanctl.cli import Session
from netscanctl.client import DEFAULT_SOCKET
from netscanctl.params import site_option
from netscanctl.render import status_facts
from netscanctl.service_status import missing_services, read_statuses, service_line
from netscand.protocol import DaemonStatus


@click.command("status")
@site_option
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
    terminal.write(
        status_facts(
            status,
            paint=terminal.paint,
            today=terminal.today,
            columns=terminal.columns,
            is_local=not session.daemon.url,
        )
    )
    services = read_statuses(session.daemon.address)
    lines = [service_line(service, terminal.today) for service in services]
    if session.daemon.address == DEFAULT_SOCKET:
        lines += missing_services(services)
    terminal.write("".join(f"service    {line}\n" for line in lines))
