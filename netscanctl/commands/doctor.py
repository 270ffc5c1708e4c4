"""`netscanctl doctor`: checks what the daemon needs, and says how to fix it."""

import errno
import os
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from netscanctl.cli import Session
from netscanctl.client import JOIN_GROUP, Daemon, Failure, Incompatible, NotPermitted
from netscanctl.connect_hint import start_hint
from netscanctl.doctor import daemon_checks, host_checks
from netscanctl.doctor.result import Finding, collect, failed, format_findings, ok, unknown, warning
from netscand.protocol import DaemonStatus

CONFIGURATION = "/etc/netscand/netscand.toml"
DATABASE = "/var/lib/netscand/netscand.db"
TCP = ("127.0.0.1:8000", "[::1]:8000")
"""Default of [listen] tcp."""
RESTART = "systemctl restart netscand, then journalctl -u netscand -n 20"
EXIT_CODES = {
    "69": "a component failed",
    "75": "already running",
    "77": "a permission is missing",
    "78": "invalid configuration",
}
"""Exit codes of netscand."""


@click.command("doctor", short_help="Check the daemon and this host.")
@click.option("--config", metavar="FILE", default=CONFIGURATION, show_default=True,
              help="Configuration of the daemon, used if it is not running.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help='Print an object with "ok" and the list "checks".')
@click.pass_obj
def command(session: Session, config: str, as_json: bool) -> None:
    """Check the daemon, and say how to fix problems; if it is not running, check what it needs to start on this host.

    Sends no frames itself, but asks a running daemon to scan its gateways. Exits with 1 if a check failed.
    """
    findings = collect(examine(session, Path(config)))
    terminal = session.terminal
    if as_json:
        terminal.json(msgspec.json.encode(findings))
    else:
        terminal.write(format_findings(findings.checks, terminal.paint))
    sys.exit(0 if findings.ok else 1)


def examine(session: Session, config: Path) -> Iterator[Finding]:
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
            yield from check_host(daemon, config)
    else:
        yield from daemon_checks.check_running(client, status)
        yield (daemon_checks.check_clock(status) if daemon.url else None) or host_checks.check_clock()


def check_host(daemon: Daemon, config: Path) -> Iterator[Finding]:
    """Check what netscand needs to start on this host."""
    tables = _tables(config)
    yield host_checks.check_libraries()
    yield check_configuration(config)
    yield from host_checks.check_raw_sockets()
    yield host_checks.check_interfaces(host_checks.interfaces())
    yield host_checks.check_gateway()
    yield check_socket(Path(daemon.socket), tables)
    yield host_checks.check_clock()
    yield host_checks.check_database(Path(str(tables.get("history", {}).get("path", DATABASE))))


def _tables(config: Path) -> dict[str, Any]:
    """Return the tables of the configuration; empty if it is invalid, which `check_configuration` reports."""
    try:
        tables = tomllib.loads(config.read_text())
    except (OSError, ValueError):
        return {}
    return {name: table for name, table in tables.items() if isinstance(table, dict)}


def check_configuration(config: Path) -> Finding:
    """Check the configuration by netscand itself."""
    if not config.exists():
        if config == Path(CONFIGURATION):
            return ok("configuration", f"no {config}: defaults are used")
        return failed("configuration", f"no file {config}", "give the file that netscand reads, or omit --config")
    if not os.access(config, os.R_OK):
        return unknown("configuration", f"no permission to read {config}", host_checks.AS_ROOT)
    argv = [sys.executable, "-m", "netscand", "--check-config", str(config)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - fixed words
    except (OSError, subprocess.TimeoutExpired) as error:
        return unknown("configuration", f"cannot run netscand --check-config: {error}")
    if done.returncode == 0:
        return ok("configuration", f"{config} is valid")
    if done.returncode == 78:  # EX_CONFIG
        errors = "; ".join(line.removeprefix("netscand: ") for line in done.stderr.splitlines())
        return failed("configuration", errors, f"edit {config}; see man netscand.toml")
    return unknown("configuration", f"netscand is not installed in the environment of netscanctl ({sys.executable})")


def check_socket(path: Path, tables: dict[str, Any]) -> Finding:
    """Check that netscand can create its sockets."""
    try:
        if path.exists() and not path.is_socket():
            return failed("socket", f"{path} exists, but is not a socket", f"remove it: rm {path}")
        if not path.parent.is_dir():
            return warning("socket", f"no folder {path.parent}", "to create it: systemctl enable --now netscand.socket")
        if path.parent.stat().st_mode & 0o002 and not path.parent.stat().st_mode & 0o1000:
            return failed("socket", f"every user can write to {path.parent}", f"chmod 0755 {path.parent}")
    except PermissionError:
        return unknown("socket", f"no permission to read {path.parent}", host_checks.AS_ROOT)
    listen = tables.get("listen", {}).get("tcp", TCP)
    addresses = listen if isinstance(listen, list | tuple) else ()
    if in_use := [address for address in addresses if isinstance(address, str) and _is_in_use(address)]:
        found = f"another process listens on {', '.join(in_use)}"
        return warning("socket", found, "stop it (to find it: ss -ltnp), or change [listen] tcp")
    return ok("socket", f"{path} can be created")


def _is_in_use(address: str) -> bool:
    """Return whether a process listens there: binds for a moment, without accepting connections."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]").replace("localhost", "127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    except (ValueError, OverflowError):
        pass  # an invalid address is reported by `check_configuration`
    return False


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
