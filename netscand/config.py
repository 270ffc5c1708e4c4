"""TOML → a frozen Config. Every key is optional; an error names the file, the key and what was expected."""

import re
import tomllib
from fnmatch import fnmatchcase
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Rate = Annotated[float, Meta(ge=0, le=10_000_000)]
Patience = tuple[Seconds, Seconds]
"""The least and the most."""


HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
"""What a Host header may hold (RFC 9110, 7.2); no pattern stands for many."""


class ConfigError(Exception):
    """A configuration that cannot be used; the text is one line that names the place and the mend."""


def _ordered(patience: Patience | None) -> None:
    if patience and patience[0] > patience[1]:
        raise ValueError(f"patience {list(patience)}: expected the least first, then the most")


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of the file: frozen, and unknown keys are errors."""


class Scan(Table, frozen=True):
    """`[scan]`."""

    interval: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    rate: Rate = 1000.0
    background_rate: Rate = 50.0
    tries: Annotated[int, Meta(ge=1, le=20)] = 3
    interfaces: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class NetworkRule(Table, frozen=True):
    """`[[network]]`: what differs for one network."""

    cidr: str
    interface: str | None = None
    interval: Annotated[float, Meta(ge=1, le=86_400)] | None = None
    rate: Rate | None = None
    background_rate: Rate | None = None
    patience: Patience | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no prefix."""
        try:
            IPv4Network(self.cidr)
        except ValueError as wrong:
            raise ValueError(f"cidr {self.cidr!r}: expected an IPv4 prefix such as 192.168.1.0/24 ({wrong})") from None
        _ordered(self.patience)

    def fits(self, cidr: IPv4Network, interface: str) -> bool:
        """Whether this rule is about that network."""
        return IPv4Network(self.cidr) == cidr and (self.interface is None or fnmatchcase(interface, self.interface))


class Presence(Table, frozen=True):
    """`[presence]`."""

    probe_interval: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    patience: Patience = (10.0, 3600.0)

    def __post_init__(self) -> None:
        """Refuse a least above the most."""
        _ordered(self.patience)


class Names(Table, frozen=True):
    """`[names]`."""

    sources: tuple[Literal["dhcp", "mdns", "dns", "nbns"], ...] = ("dhcp", "mdns", "dns", "nbns")


class History(Table, frozen=True):
    """`[history]`."""

    path: str = "/var/lib/netscand/netscand.db"
    keep_days: Annotated[float, Meta(gt=0)] = 90.0
    max_mib: Annotated[float, Meta(ge=1)] = 256.0


class Listen(Table, frozen=True):
    """`[listen]`."""

    unix: str = "/run/netscand/netscand.sock"
    tcp: tuple[str, ...] = ("127.0.0.1:8000", "[::1]:8000")
    max_clients: Annotated[int, Meta(ge=1)] = 256
    max_per_peer: Annotated[int, Meta(ge=1)] = 64
    tls_certificate: str | None = None
    tls_key: str | None = None


class Access(Table, frozen=True):
    """`[access]`."""

    group: str = "netscan"
    others: Literal["scan", "read", "none"] = "scan"
    token_file: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no browser sends: it would let nobody in, or be meant to let everybody in."""
        for host in self.allowed_hosts:
            if not HOST.fullmatch(host):
                raise ValueError(
                    f"allowed_hosts {host!r}: expected a name such as scan.lan, or with a port scan.lan:8443"
                )
        for origin in self.allowed_origins:
            scheme, _, host = origin.rstrip("/").partition("://")
            if scheme not in ("http", "https") or not HOST.fullmatch(host):
                raise ValueError(
                    f"allowed_origins {origin!r}: expected one such as https://dash.lan or http://dash.lan:3000"
                )


class Log(Table, frozen=True):
    """`[log]`."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Table, frozen=True):
    """The whole file."""

    scan: Scan = Scan()
    network: tuple[NetworkRule, ...] = ()
    presence: Presence = Presence()
    names: Names = Names()
    history: History = History()
    listen: Listen = Listen()
    access: Access = Access()
    log: Log = Log()


def load(path: Path, *, required: bool = True) -> Config:
    """The configuration in `path`; the defaults where the file is missing and not `required`. Raises ConfigError."""
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such file") from None
        return Config()
    except (OSError, UnicodeDecodeError) as wrong:
        raise ConfigError(f"{path}: cannot be read: {wrong}") from None
    try:
        return msgspec.convert(tomllib.loads(text), Config)
    except tomllib.TOMLDecodeError as wrong:
        raise ConfigError(f"{path}: not TOML: {wrong}") from None
    except msgspec.ValidationError as wrong:
        raise ConfigError(f"{path}: {_place(str(wrong))}") from None


def _place(message: str) -> str:
    """What msgspec says, `Expected … - at `$.scan.interval`` as `[scan] interval: expected …`."""
    what, _, where = message.partition(" - at `$.")
    keys = where.rstrip("`").split(".") if where else []
    unknown = "Object contains unknown field `"
    if what.startswith(unknown):
        keys.append(what.removeprefix(unknown).rstrip("`"))
        what = "unknown key"
    if not keys:
        return what
    place = f"[{keys[0]}]" if len(keys) == 1 else f"[{keys[0]}] {'.'.join(keys[1:])}"
    return f"{place}: {what[0].lower()}{what[1:]}"
