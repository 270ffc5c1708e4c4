"""Table `[uplink]` of services.toml."""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from netscanctl.services.settings import COMMON_CHECKS, ServiceTable, file_fault
from netscand import nats_settings
from netscand.config import Checks, ConfigError
from netscand.sites import NAME

if TYPE_CHECKING:
    from ssl import SSLContext

KEY = "netscand-uplink.key"
"""Credential of systemd that has the key if there is no `key_file`."""
MACHINE = Path("/etc/machine-id")


def _site(site: str | None) -> Iterator[str]:
    if site is not None and not NAME.fullmatch(site):
        yield f"site {site!r}: expected 1 to 32 letters, digits, - or _"


CHECKS: Checks = {**COMMON_CHECKS, "server": nats_settings.server_faults, "site": _site}


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
        return nats_settings.with_port(self.server)

    def seed(self, credentials: Path | None) -> str | None:
        """Return the private key in the file or credential; None: there is none. Raises ConfigError."""
        return nats_settings.seed("[uplink]", self.key_file, credentials and credentials / KEY, "netscand-uplink key")

    def tls(self) -> "SSLContext | None":
        """Return the TLS settings; None: no TLS. Raises ConfigError."""
        return nats_settings.tls("[uplink]", self.server, self.ca_file)

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
    reads: tuple[Callable[[], object], ...] = (
        lambda: table.name, table.identity, lambda: table.seed(credentials), table.tls,
    )  # fmt: skip
    for read in reads:
        try:
            read()
        except ConfigError as wrong:
            yield from (fault.removeprefix("[uplink] ") for fault in wrong.faults if "cannot be read" not in fault)
