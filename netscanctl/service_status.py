"""Status files of the services: each service writes one in /run, and `netscanctl status` reads them.

systemd makes the folder for the service alone (`RuntimeDirectory=`) and removes it when the service ends. Only root can
make such a folder, so other users cannot add lines; and the daemon makes no connections (law 10). A service that a user
runs by hand writes in that user's own folder (`XDG_RUNTIME_DIR`, of pam_systemd(8)), and only that user reads it.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from netscanctl.render import moment
from netscanctl.text import SENTENCE_LIMIT, clean

RUN = Path("/run")
ENABLED = Path("/etc/systemd/system/multi-user.target.wants")
"""Folder with a link for each enabled unit."""
OF_HUB = {"hub", "nats"}
"""Units that follow no daemon and have no status file: `netscand-hub doctor` is about them."""
FILE = "status.json"
LARGEST = 64 * 1024
"""Maximum bytes of a status file."""
LATE = 30.0
"""Seconds after which a service that has not written its status hangs."""
WRITE_INTERVAL = 5.0
"""Seconds between two writes of an unchanged status."""


class ServiceStatus(msgspec.Struct, kw_only=True):
    """Status of one service."""

    name: str
    version: str
    daemon: str
    """Socket or URL of the daemon that it follows."""
    updated_at: str
    behind: int = 0
    """Events received and not yet accepted by the target."""
    accepted: int = 0
    """Events that the target accepted since the start."""
    put_aside: int = 0
    """Events that the target refused permanently, since the start."""
    problems: list[str] = []
    """Reasons why it does not work at the moment."""
    last_error: str | None = None
    last_error_at: str | None = None


def timestamp() -> str:
    """Return the time as in the protocol: RFC 3339 in UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def own_run(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder for files of this user's running programs; None without a session of systemd."""
    folder = environment.get("XDG_RUNTIME_DIR", "")
    return Path(folder) if os.path.isabs(folder) else None


def read_statuses(daemon: str, run: Path = RUN) -> list[ServiceStatus]:
    """Return the status of each service on this host that follows the daemon at this address, by name.

    Of the services of systemd, in `run`, and of those that this user runs by hand.
    """
    found = []
    folders = [run, *filter(None, [own_run()])]
    for path in sorted((path for folder in folders for path in folder.glob(f"netscand-*/{FILE}")), key=_by_name):
        with suppress(OSError, msgspec.MsgspecError), path.open("rb") as file:
            found.append(msgspec.json.decode(file.read(LARGEST), type=ServiceStatus))
    return [status for status in found if status.daemon == daemon]


def _by_name(path: Path) -> tuple[str, Path]:
    return path.parent.name, path


def missing_services(running: Iterable[ServiceStatus], enabled: Path = ENABLED) -> list[str]:
    """Return a line for each service that is enabled on this host and has no status: it does not run."""
    names = {path.stem.removeprefix("netscand-") for path in enabled.glob("netscand-*.service")}
    missing = sorted(names - OF_HUB - {status.name for status in running})
    return [f"{name} is not running; see journalctl -u netscand-{name} -n 20" for name in map(clean, missing)]


def service_line(status: ServiceStatus, today: datetime | None, now: datetime | None = None) -> str:
    """Return one line about a service: works or not, how far behind, the last error. All text is cleaned."""
    name = clean(status.name)
    if _is_late(status, now or datetime.now(UTC)):
        last = moment(status.updated_at, today)
        return f"{name} does not respond (last report {last}); see journalctl -u netscand-{name} -n 20"
    parts = [clean("; ".join(status.problems), SENTENCE_LIMIT) or "running"]
    parts.append(f"behind by {status.behind} events" if status.behind else "up to date")
    parts.append(f"{status.accepted} events delivered")
    if status.put_aside:
        parts.append(f"{status.put_aside} refused")
    if status.last_error and not status.problems:
        parts.append(f"last error {moment(status.last_error_at, today)}: {clean(status.last_error, SENTENCE_LIMIT)}")
    return f"{name} {', '.join(parts)}"


def _is_late(status: ServiceStatus, now: datetime) -> bool:
    try:
        return (now - datetime.fromisoformat(status.updated_at)).total_seconds() > LATE
    except (ValueError, TypeError):
        return True
