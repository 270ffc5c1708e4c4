"""`netscanctl reload`: makes the daemon read its configuration and tokens again."""

import click

from netscanctl.cli import Session
from netscanctl.render import pending_restart
from netscand.check_results import CANNOT_LISTEN, how_to_listen
from netscand.protocol import DaemonStatus


@click.command("reload", short_help="Read the configuration and the tokens again.")
@click.pass_obj
def command(session: Session) -> None:
    """Read the configuration and the tokens again, as systemctl reload netscand does.

    If they are invalid, prints why and exits with 1; the old ones stay in force. Says which changes need a restart,
    and which addresses cannot be used.
    """
    client, terminal = session.client, session.terminal
    client.post("/api/reload", b"")
    status = client.read(client.get("/api/status"), DaemonStatus)
    terminal.notice("configuration reloaded")
    for problem in status.problems:
        if problem.startswith(CANNOT_LISTEN):
            terminal.notice(f"warning: {problem}; {how_to_listen(problem)}")
    if pending := pending_restart(status):
        terminal.notice(pending)
