"""Tables of `services.toml` that all services share."""

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from netscanctl.client import DEFAULT_SOCKET, Daemon, Failure, find_daemon
from netscand.config import Checks, ConfigError, Table


def _metrics(address: str | None) -> Iterator[str]:
    if address is None:
        return
    try:
        parts = urlsplit(f"//{address}")
        is_loopback = parts.port is not None and ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        yield f"metrics {address!r}: expected a loopback address with a port, such as 127.0.0.1:9477"


COMMON_CHECKS: Checks = {"metrics": _metrics}


class Connection(Table, frozen=True):
    """`[daemon]`: how to reach netscand."""

    checks = COMMON_CHECKS

    socket: str = DEFAULT_SOCKET
    url: str | None = None
    token_file: str | None = None

    def find(self) -> Daemon:
        """Return the address of the daemon. Raises ConfigError."""
        try:
            return find_daemon(self.socket, self.url, self.token_file)
        except Failure as failure:
            sentence = str(failure).replace("--token-file", "token_file").replace("--", "")
            raise ConfigError(f"[daemon] {sentence}") from None


class ServiceTable(Table, frozen=True):
    """Keys that each service has."""

    checks = COMMON_CHECKS

    metrics: str | None = None
    """Loopback address and port of its metrics."""


def file_fault(key: str, value: str | None) -> Iterator[str]:
    """Yield a line if the file that a key names cannot be read; the path must be absolute."""
    if value is None:
        return
    if not Path(value).is_absolute():
        yield f"{key} {value!r}: relative path: use an absolute one (a service starts in /)"
        return
    try:
        with open(value, "rb"):
            pass
    except OSError as error:
        yield f"{key} {value!r}: cannot be read: {error.strerror}"
