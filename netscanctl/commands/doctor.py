"""`netscanctl doctor`: checks what the daemon needs, and says how to fix it."""

import os
import sys
from collections.abc import Iterator

import click
import msgspec

from netscanctl.cli import Session
from netscanctl.client import CHECK_URL, Failure, Incompatible, NotPermitted, admin_hint
from netscanctl.connect_hint import service_state, start_hint
from netscanctl.doctor import daemon_checks, local_checks
from netscanctl.doctor.result import collect, format_results
from netscand.check_results import failed
from netscand.checkout import CHECKOUT
from netscand.protocol import CheckResult, DaemonStatus

OF_CONFIGURATION = ("configuration", "socket", "database")
"""Checks that depend on the configuration."""


@click.command("doctor", short_help="Check the daemon and this host.")
@click.option(
    "--config", metavar="FILE", envvar="NETSCANCTL_CONFIG",
    help="Configuration of the daemon, used if it is not running (default /etc/netscand/netscand.toml)."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help='Print an object with "ok" and the list "checks".')
@click.pass_obj
def command(session: Session, config: str | None, as_json: bool) -> None:
    """Check the daemon, and say how to fix problems; if it is not running, check what it needs to start on this host.

    Sends no frames itself, but makes a running daemon scan its gateways. Exits with 1 if a check failed.
    """
    report = collect(examine(session, config))
    terminal = session.terminal
    if as_json:
        terminal.json(msgspec.json.encode(report))
    else:
        terminal.write(format_results(report.checks, terminal.paint))
    sys.exit(0 if report.ok else 1)


def examine(session: Session, config: str | None) -> Iterator[CheckResult]:
    """Run the checks of the daemon, or if it does not answer, of this host."""
    client, daemon = session.client, session.daemon
    try:
        status = client.read(client.get("/api/status"), DaemonStatus)
    except Incompatible as failure:
        yield failed("versions", failure.cause, "install both in one version, then: systemctl restart netscand")
    except NotPermitted as failure:
        local = f"{admin_hint()}, set [access] others to scan, or use --token-file"
        yield failed("socket", failure.cause, failure.hint if daemon.url else local)
    except Failure as failure:
        if daemon.url:
            yield failed("daemon", failure.cause, failure.hint or CHECK_URL)
        else:
            state = service_state()
            yield failed("daemon", failure.cause, f"{state}; {state.fix()}" if state else start_hint())
            # The first ./dev run makes its configuration: until then, there is nothing to check.
            is_new = CHECKOUT in os.environ and config is not None and not os.path.exists(config)
            checks = local_checks.run_checks(config)
            yield from (one for one in checks if not (is_new and one.check in OF_CONFIGURATION))
            yield local_checks.check_clock()
    else:
        yield from daemon_checks.check_running(client, status)
        yield (daemon_checks.check_clock(status) if daemon.url else None) or local_checks.check_clock()
