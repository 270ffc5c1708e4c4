"""`hub.toml`: the server with the log, and the tables of netscand.toml for those who connect to the hub."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import structs

from netscand import config, nats_settings
from netscand.config import Checks, ConfigError, Log, Reading, Table, Texts

DEFAULT = Path("/etc/netscand/hub.toml")
TOKENS = "hub-tokens"
"""Default token file, beside the configuration: a netscand on the same host has tokens of its own."""
KEY = "netscand-hub.key"
"""Credential of systemd that has the key if there is no `key_file`."""


def _address(address: str | None) -> Iterator[str]:
    if address is not None:
        yield from (fault.replace("server", "address", 1) for fault in nats_settings.server_faults(address))


CHECKS: Checks = {"server": nats_settings.server_faults, "address": _address}


class Hub(Table, frozen=True):
    """`[hub]`: the server with the log of all sites."""

    checks = CHECKS

    server: str = "nats://localhost:4222"
    key_file: str | None = None
    ca_file: str | None = None
    address: str | None = None
    """The server as the sites reach it, for add-site."""

    def seed(self, credentials: Path | None) -> str | None:
        """Return the private key in the file or credential; None: there is none. Raises ConfigError."""
        return nats_settings.seed("[hub]", self.key_file, credentials and credentials / KEY, "netscand-hub init")


class Listen(config.Listen, frozen=True):
    """`[listen]`, with addresses of its own: a netscand may run on the same host."""

    unix: str = "/run/netscand-hub/netscand-hub.sock"
    tcp: Texts = ("127.0.0.1:8010", "[::1]:8010")


class Access(config.Access, frozen=True):
    """`[access]`; without a token, other users of this host see nothing."""

    others: Literal["scan", "read", "none"] = "none"


class Config(Table, frozen=True):
    """The whole file."""

    hub: Hub = Hub()
    listen: Listen = Listen()
    access: Access = Access()
    log: Log = Log()


def load(path: Path, *, required: bool = True) -> Config:
    """Return the configuration in `path`; defaults if it is missing and not `required`. Raises ConfigError."""
    reading = read(path, required=required)
    if reading.faults:
        raise ConfigError(*(f"{path}: {fault}" for fault in reading.faults))
    found = msgspec.convert(reading.by_name(), Config)
    return structs.replace(found, access=config.with_token_file(found.access, path, TOKENS))


def read(path: Path, *, required: bool = True) -> Reading:
    """Parse the file, valid or not. Raises ConfigError where it cannot be parsed at all."""
    return config.read(path, required=required, root=Config)


def faults(table: Hub, credentials: Path | None) -> Iterable[str]:
    """Yield a line for each file of the table that cannot be used."""
    for find in (lambda: table.seed(credentials), lambda: nats_settings.tls("[hub]", table.server, table.ca_file)):
        try:
            find()
        except ConfigError as wrong:
            yield from wrong.faults
