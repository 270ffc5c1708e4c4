"""Table `[uplink]` of services.toml."""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from netscanctl.services.settings import COMMON_CHECKS, ServiceTable, file_fault
from netscand.config import Checks, ConfigError
from netscand.sites import NAME

KEY = "netscand-uplink.key"
"""Credential of systemd that has the key if there is no `key_file`."""
SEED = re.compile(r"SU[A-Z2-7]{56}")
"""Private half of an NKey of a user."""
MACHINE = Path("/etc/machine-id")


def _server(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("nats", "tls") and parts.hostname and (parts.port is None or parts.port > 0)
        if not valid or parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
            raise ValueError
    except ValueError:
        yield f"server {url!r}: expected nats://HOST:PORT or tls://HOST:PORT; see key_file"


def _site(site: str | None) -> Iterator[str]:
    if site is not None and not NAME.fullmatch(site):
        yield f"site {site!r}: expected 1 to 32 letters, digits, - or _"


CHECKS: Checks = {**COMMON_CHECKS, "server": _server, "site": _site}


class Uplink(ServiceTable, frozen=True):
    """`[uplink]`."""

    checks = CHECKS

    server: str = "nats://localhost:4222"
    site: str | None = None
    key_file: str | None = None
    ca_file: str | None = None
    words: bool = False
    commands: bool = False
    rate: Annotated[int, Meta(ge=1, le=100_000)] = 200
    spread: Annotated[float, Meta(ge=0.1, le=3600)] = 2.0
    instance: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[!-~]+$")] | None = None

    @property
    def name(self) -> str:
        """Return the site. Raises ConfigError if it is not set."""
        if self.site is None:
            raise ConfigError('[uplink] site: not set; give this site a name of its own, such as site = "home"')
        return self.site

    @property
    def url(self) -> str:
        """Return the server with its port."""
        return self.server if urlsplit(self.server).port else f"{self.server.rstrip('/')}:4222"

    @property
    def uses_tls(self) -> bool:
        """Return whether the connection is encrypted."""
        return urlsplit(self.server).scheme == "tls"

    def seed(self, credentials: Path | None) -> str | None:
        """Return the private key in the file or credential; None: there is none. Raises ConfigError."""
        path = Path(self.key_file) if self.key_file else credentials and credentials / KEY
        if path is None or (self.key_file is None and not path.exists()):
            return None
        try:
            text = path.read_bytes().decode(errors="replace").strip()
        except OSError as error:
            raise ConfigError(f"[uplink] key_file {str(path)!r}: cannot be read: {error.strerror}") from None
        if not SEED.fullmatch(text):
            raise ConfigError(f"[uplink] key_file {str(path)!r}: expected a key made by netscand-uplink key")
        return text

    def identity(self, machine: Path = MACHINE) -> str:
        """Return the identity of this machine: `instance`, else derived from machine-id(5). Raises ConfigError."""
        if self.instance is not None:
            return self.instance
        try:
            secret = machine.read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"[uplink] instance: not set, and {machine}: {error.strerror}; set it") from None
        if not secret:
            raise ConfigError(f"[uplink] instance: not set, and {machine} is empty; set it")
        # As sd_id128_get_machine_app_specific(3) asks: the machine-id itself is not to be published.
        return hmac.new(secret, b"netscand-uplink", hashlib.sha256).hexdigest()[:16]


def faults(table: Uplink, credentials: Path | None) -> Iterable[str]:
    """Yield a line for each combination and each file of the table that cannot be used."""
    for key in ("key_file", "ca_file"):
        yield from file_fault(key, getattr(table, key))
    reads: tuple[Callable[[], object], ...] = (lambda: table.name, table.identity, lambda: table.seed(credentials))
    for read in reads:
        try:
            read()
        except ConfigError as wrong:
            yield from (fault.removeprefix("[uplink] ") for fault in wrong.faults if "cannot be read" not in fault)
    if table.ca_file and not table.uses_tls:
        yield f"server {table.server!r}: ca_file needs tls://"
