"""`netscanctl doctor`: checks what the daemon needs, and says how to fix it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from netscanctl.cli import Session
from netscanctl.client import JOIN_GROUP, Failure, Incompatible, NotPermitted
from netscanctl.connect_hint import start_hint
from netscanctl.doctor import daemon_checks, local_checks
from netscanctl.doctor.result import collect, failed, format_results
from netscand.protocol import CheckResult, DaemonStatus

RESTART = "systemctl restart netscand, then journalctl -u netscand -n 20"
EXIT_CODES = {
    "69": "a component failed",
    "75": "already running",
    "77": "a permission is missing",
    "78": "invalid configuration",
}
"""Exit codes of netscand."""


@click.command("doctor", short_help="Check the daemon and this host.")
@click.option(
    "--config", metavar="FILE",
    help="Configuration of the daemon, used if it is not running (default /etc/netscand/netscand.toml)."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help='Print an object with "ok" and the list "checks".')
@click.pass_obj
def command(session: Session, config: str | None, as_json: bool) -> None:
    """Check the daemon, and say how to fix problems; if it is not running, check what it needs to start on this host.

    Sends no frames itself, but asks a running daemon to scan its gateways. Exits with 1 if a check failed.
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
        yield failed("socket", failure.cause, f"{JOIN_GROUP}, set [access] others to scan, or use --token-file")
    except Failure as failure:
        yield failed("daemon", failure.cause, _service() or start_hint())
        if daemon.url is None:
            yield from local_checks.run_checks(config)
            yield local_checks.check_clock()
    else:
        yield from daemon_checks.check_running(client, status)
        yield (daemon_checks.check_clock(status) if daemon.url else None) or local_checks.check_clock()


def _service() -> str | None:
    """Return the state of the service and a hint; None without systemd or the unit."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").is_dir():
        return None
    show = [systemctl, "show", "netscand.service", "--property=LoadState,ActiveState,ExecMainStatus"]
    try:
        output = subprocess.run(show, capture_output=True, text=True, timeout=5, check=False).stdout  # noqa: S603 - fixed
    except (OSError, subprocess.TimeoutExpired):
        return None
    properties = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if properties.get("LoadState") != "loaded":
        return None
    code = properties.get("ExecMainStatus", "0")
    reason = f" (exit code {code}: {EXIT_CODES[code]})" if code in EXIT_CODES else ""
    return f"netscand.service is {properties.get('ActiveState', 'unknown')}{reason}; {RESTART}"
