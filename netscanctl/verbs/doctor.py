"""`netscanctl doctor`: tries what the daemon needs, and says how to mend it."""

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

from netscanctl import ailments, probes
from netscanctl.cli import Session
from netscanctl.client import Daemon, Failure, Misfit, NotPermitted
from netscanctl.finding import Finding, bad, collected, good, odd, unseen, written
from netscanctl.starting import mend
from netscand.protocol import DaemonStatus

CONFIGURATION = "/etc/netscand/netscand.toml"
DATABASE = "/var/lib/netscand/netscand.db"
TCP = ("127.0.0.1:8000", "[::1]:8000")
"""Where netscand listens unless told otherwise."""
RESTART = "systemctl restart netscand, then journalctl -u netscand -n 20"
ENDS = {
    "69": "it lost what it works with",
    "75": "another one runs",
    "77": "a right is missing",
    "78": "its configuration",
}
"""Exit codes of netscand."""


@click.command("doctor", short_help="Try what the daemon needs.")
@click.option("--config", metavar="FILE", default=CONFIGURATION, show_default=True,
              help="The daemon's configuration, for when it does not run.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help='An object: "ok", and the list "checks".')
@click.pass_obj
def command(session: Session, config: str, as_json: bool) -> None:
    """Try what the daemon needs, and say how to mend what is wrong; where it does not run, what keeps it from starting.

    Sends nothing itself; a daemon that runs is asked for a scan of its gateways. Exits 1 where something failed.
    """
    found = collected(examine(session, Path(config)))
    terminal = session.terminal
    if as_json:
        terminal.json(msgspec.json.encode(found))
    else:
        terminal.write(written(found.checks, terminal.paint))
    sys.exit(0 if found.ok else 1)


def examine(session: Session, config: Path) -> Iterator[Finding]:
    """Everything that can be found out."""
    client, daemon = session.client, session.daemon
    try:
        status = client.read(client.get("/api/status"), DaemonStatus)
    except Misfit as failure:
        yield bad("versions", str(failure), "install both from one source, then systemctl restart netscand")
    except NotPermitted as failure:
        yield bad("socket", str(failure), f"{ailments.GROUP}; or let [access] others be scan, or use --token-file")
    except Failure as failure:
        yield bad("daemon", failure.cause, _service() or mend())
        if daemon.url is None:
            yield from of_this_host(daemon, config)
    else:
        yield from ailments.of_running(client, status)
        yield (ailments.of_clock(status) if daemon.url else None) or probes.of_clock()


def of_this_host(daemon: Daemon, config: Path) -> Iterator[Finding]:
    """What would keep a netscand from starting here."""
    tables = _tables(config)
    yield probes.of_versions()
    yield of_configuration(config)
    yield from probes.of_raw_sockets()
    yield probes.of_interfaces(probes.interfaces())
    yield probes.of_gateway()
    yield of_socket(Path(daemon.socket), tables)
    yield probes.of_clock()
    yield probes.of_database(Path(str(tables.get("history", {}).get("path", DATABASE))))


def _tables(config: Path) -> dict[str, Any]:
    """The configuration as far as it can be read; netscand itself says what is wrong with it."""
    try:
        tables = tomllib.loads(config.read_text())
    except (OSError, ValueError):
        return {}
    return {name: table for name, table in tables.items() if isinstance(table, dict)}


def of_configuration(config: Path) -> Finding:
    """What netscand says of its file."""
    if not config.exists():
        if config == Path(CONFIGURATION):
            return good("configuration", f"no {config}: the defaults hold")
        return bad("configuration", f"there is no {config}", "name the file that netscand reads, or leave --config out")
    if not os.access(config, os.R_OK):
        return unseen("configuration", f"you may not read {config}", probes.AS_ROOT)
    judge = [sys.executable, "-m", "netscand", "--check-config", str(config)]
    try:
        done = subprocess.run(judge, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - all ours
    except (OSError, subprocess.TimeoutExpired) as wrong:
        return unseen("configuration", f"cannot ask netscand: {wrong}")
    if done.returncode == 0:
        return good("configuration", f"{config} is good")
    if done.returncode == 78:  # EX_CONFIG
        faults = "; ".join(line.removeprefix("netscand: ") for line in done.stderr.splitlines())
        return bad("configuration", faults, f"man netscand.toml, then edit {config}")
    return unseen("configuration", f"netscand is not installed beside this netscanctl ({sys.executable})")


def of_socket(path: Path, tables: dict[str, Any]) -> Finding:
    """That netscand can make its sockets, and clients can find them."""
    try:
        if path.exists() and not path.is_socket():
            return bad("socket", f"{path} is there, and is no socket", f"remove it: rm {path}")
        if not path.parent.is_dir():
            return odd("socket", f"there is no folder {path.parent}", "systemctl enable --now netscand.socket makes it")
        if path.parent.stat().st_mode & 0o002 and not path.parent.stat().st_mode & 0o1000:
            return bad("socket", f"everybody may change {path.parent}", f"chmod 0755 {path.parent}")
    except PermissionError:
        return unseen("socket", f"you may not look into {path.parent}", probes.AS_ROOT)
    listen = tables.get("listen", {}).get("tcp", TCP)
    taken = (
        [text for text in listen if isinstance(text, str) and _taken(text)] if isinstance(listen, list | tuple) else []
    )
    if taken:
        said = f"another process listens on {', '.join(taken)}"
        return odd("socket", said, "end it (ss -ltnp tells which), or change [listen] tcp; the rest works without")
    return good("socket", f"{path} can be made")


def _taken(text: str) -> bool:
    """Whether somebody listens there. It is bound for a moment, and nobody can connect meanwhile."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]").replace("localhost", "127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trying:
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trying.bind((host, int(port)))
    except OSError as wrong:
        return wrong.errno == errno.EADDRINUSE
    except (ValueError, OverflowError):
        pass  # what is no address is the configuration's fault
    return False


def _service() -> str | None:
    """What systemd says of the service; None where it knows of none."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").is_dir():
        return None
    show = [systemctl, "show", "netscand.service", "--property=LoadState,ActiveState,ExecMainStatus"]
    try:
        told = subprocess.run(show, capture_output=True, text=True, timeout=5, check=False).stdout  # noqa: S603 - all ours
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    if words.get("LoadState") != "loaded":
        return None
    ended = words.get("ExecMainStatus", "0")
    why = f" (its exit code was {ended}: {ENDS[ended]})" if ended in ENDS else ""
    return f"it is {words.get('ActiveState', 'unknown')}{why}: {RESTART}"
