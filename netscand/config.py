"""Configuration: a TOML file as frozen tables. Every key is optional; an error names file, key, value and remedy."""

import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from netscand.validation_messages import expected, shown

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Rate = Annotated[float, Meta(ge=0, le=10_000_000)]
Patience = tuple[Seconds, Seconds]
"""Minimum and maximum."""


HOST_PATTERN = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
"""Valid Host header (RFC 9110, 7.2), without wildcards."""


NAME_PATTERN = re.compile(r"(?!\.{1,2}$)[^\s/:*?\[\]]{1,15}|(?=.*[*?\[])[^\s/:]{1,64}")
"""Valid interface name (the kernel's dev_valid_name), or a glob that can match one."""

MAC_PATTERN = re.compile(r"(?:[0-9A-Fa-f]{2}([:-]))(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}")

ADDRESS_PATTERN = re.compile(r"\d[\d*?-]*(?:\.[\d*?-]*)+")
"""Addresses in a notation that is not supported: `300.1.1.1`, `192.168.1.*`, `192.168.1.10-20`."""


LARGEST = 1 << 20
"""Maximum bytes of the file."""

MOST = 256
"""Maximum number of `[[network]]` tables, and of entries in a list: each network is compared with each of them."""

Texts = Annotated[tuple[str, ...], Meta(max_length=MOST)]

CREDENTIAL = "tokens"
"""Name of the systemd credential with tokens (systemd.exec(5), LoadCredential=)."""

FAULTS_SHOWN = 20
"""Maximum number of errors in one message."""


class ConfigError(Exception):
    """A configuration that cannot be used; each of `faults` is a line that names the key, the value and the remedy."""

    def __init__(self, *faults: str) -> None:
        more = [f"and {len(faults) - FAULTS_SHOWN} more"] if len(faults) > FAULTS_SHOWN else []
        super().__init__("; ".join([*faults[:FAULTS_SHOWN], *more]))
        self.faults = faults


_network = lru_cache(maxsize=MOST)(IPv4Network)
"""A prefix, parsed once: each rule is compared with each network whenever an interface changes."""


def is_prefix(text: str) -> bool:
    """Return whether a text is an IPv4 prefix or address; `192.168.1.7/24` stands for 192.168.1.0/24."""
    try:
        IPv4Network(text, strict=False)
    except ValueError:
        return False
    return True


def _is_interface(text: str) -> bool:
    return bool(NAME_PATTERN.fullmatch(text)) and not ADDRESS_PATTERN.fullmatch(text)


# ---- checks of values that have the right type but cannot match anything


def _interfaces(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if not _is_interface(name):
            hint = "; for a prefix, use a [[network]]" if is_prefix(name) else ""
            yield f"interfaces {name!r}: expected an interface or a glob such as eth*{hint}"


def _exclude(entries: Iterable[str]) -> Iterator[str]:
    for entry in entries:
        if not is_prefix(entry) and not _is_interface(entry):
            yield (
                f"exclude {entry!r}: expected an IPv4 prefix such as 192.168.1.128/25, an interface, "
                "or a glob such as docker*"
            )


def _cidr(cidr: str) -> Iterator[str]:
    try:
        IPv4Network(cidr)
    except ValueError as wrong:
        yield f"cidr {cidr!r}: expected an IPv4 prefix such as 192.168.1.0/24 ({wrong})"


def _interface(name: str | None) -> Iterator[str]:
    if name is not None and not _is_interface(name):
        yield f"interface {name!r}: expected an interface or a glob such as eth*"


def _expected(key: str) -> Callable[[Iterable[str]], Iterator[str]]:
    def check(entries: Iterable[str]) -> Iterator[str]:
        for entry in entries:
            if expected_bytes(entry) is None:
                example = "an IPv4 address such as 192.168.1.1, or a MAC such as 52:54:00:77:00:02"
                yield f"{key} {entry!r}: expected {example}"

    return check


def expected_bytes(entry: str) -> bytes | None:
    """Return an IPv4 address or a MAC as the bytes of the wire; None for anything else."""
    if MAC_PATTERN.fullmatch(entry):
        return bytes.fromhex(re.sub("[:-]", "", entry))
    try:
        return IPv4Address(entry).packed
    except ValueError:
        return None


def _patience(patience: Patience | None) -> Iterator[str]:
    if patience and patience[0] > patience[1]:
        yield f"patience {list(patience)}: expected the minimum first, then the maximum"


def _allowed_hosts(hosts: Iterable[str]) -> Iterator[str]:
    for host in hosts:
        if not HOST_PATTERN.fullmatch(host):
            yield f"allowed_hosts {host!r}: expected a name such as scan.lan, or with a port scan.lan:8443"


def _allowed_origins(origins: Iterable[str]) -> Iterator[str]:
    for origin in origins:
        scheme, _, host = origin.rstrip("/").partition("://")
        if scheme not in ("http", "https") or not HOST_PATTERN.fullmatch(host):
            yield f"allowed_origins {origin!r}: expected an origin such as https://dash.lan or http://dash.lan:3000"


Checks = Mapping[str, Callable[..., Iterator[str]]]
CHECKS: Checks = {
    "interfaces": _interfaces,
    "exclude": _exclude,
    "cidr": _cidr,
    "interface": _interface,
    "patience": _patience,
    "expected_dhcp": _expected("expected_dhcp"),
    "expected_gateway": _expected("expected_gateway"),
    "allowed_hosts": _allowed_hosts,
    "allowed_origins": _allowed_origins,
}
"""Key → check that yields a line, which begins with the key, for each error in a value of the right type."""


# ---- the tables


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Table of the file: frozen; unknown keys are errors."""

    checks = CHECKS  # without a type, for it is no key

    def __post_init__(self) -> None:
        """Raise ValueError with the errors that its `checks` find."""
        keys = (key for key in self.__struct_fields__ if key in self.checks)
        if faults := [fault for key in keys for fault in self.checks[key](getattr(self, key))]:
            raise ValueError("; ".join(faults))


class Scan(Table, frozen=True):
    """`[scan]`."""

    interval: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    rate: Rate = 1000.0
    background_rate: Rate = 50.0
    tries: Annotated[int, Meta(ge=1, le=20)] = 3
    interfaces: Texts = ()
    exclude: Texts = ()


class NetworkRule(Table, frozen=True):
    """`[[network]]`: settings of one network that differ from the others."""

    cidr: str
    interface: str | None = None
    interval: Annotated[float, Meta(ge=1, le=86_400)] | None = None
    rate: Rate | None = None
    background_rate: Rate | None = None
    patience: Patience | None = None
    expected_dhcp: Texts = ()
    expected_gateway: Texts = ()
    enabled: bool = True

    def fits(self, cidr: IPv4Network, interface: str) -> bool:
        """Return whether this rule applies to a network."""
        return _network(self.cidr) == cidr and (self.interface is None or fnmatchcase(interface, self.interface))


class Presence(Table, frozen=True):
    """`[presence]`."""

    probe_interval: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    patience: Patience = (10.0, 3600.0)


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
    tcp: Texts = ("127.0.0.1:8000", "[::1]:8000")
    max_clients: Annotated[int, Meta(ge=1)] = 256
    max_per_peer: Annotated[int, Meta(ge=1)] = 64
    tls_certificate: str | None = None
    tls_key: str | None = None

    @property
    def tls(self) -> bool:
        """Return whether TLS is configured, perhaps in part."""
        return self.tls_certificate is not None or self.tls_key is not None


class Access(Table, frozen=True):
    """`[access]`."""

    group: str = "netscan"
    others: Literal["scan", "read", "none"] = "scan"
    loopback_admin: bool = False
    device_metrics: bool = False
    token_file: str | None = None
    allowed_hosts: Texts = ()
    allowed_origins: Texts = ()


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


# ---- the file


class ParsedTable(NamedTuple):
    """One table of the file: its keys with their values (None where invalid), and whether all are valid."""

    heading: str
    """`[scan]`, or `[[network]] no. 2`."""
    kind: type[Table]
    keys: dict[str, object]
    is_valid: bool


T = TypeVar("T", bound=Table)


class Reading(NamedTuple):
    """Tables of a file, and all errors in it, in order; each error is a line that names key, value and remedy."""

    tables: tuple[ParsedTable, ...] = ()
    faults: tuple[str, ...] = ()

    def table(self, kind: type[T]) -> T | None:
        """Return the table of a kind; None where something in it is invalid."""
        found = next((table for table in self.tables if table.kind is kind), None)
        if found is None:
            return kind()
        return msgspec.convert(found.keys, kind) if found.is_valid else None

    def config(self) -> Config:
        """Return the whole configuration; call it only where there are no faults."""
        rules = [table.keys for table in self.tables if table.kind is NetworkRule]
        return msgspec.convert({**self.by_name(), "network": rules}, Config)

    def by_name(self) -> dict[str, dict[str, object]]:
        """Return the keys of each table that is there once, by the table's name in the file."""
        return {table.kind.__name__.lower(): table.keys for table in self.tables if table.kind is not NetworkRule}


def load(path: Path, *, required: bool = True) -> Config:
    """Return the configuration in `path`; defaults if it is missing and not `required`. Raises ConfigError."""
    reading = read(path, required=required)
    if reading.faults:
        raise ConfigError(*(f"{path}: {fault}" for fault in reading.faults))
    config = reading.config()
    return msgspec.structs.replace(config, access=with_token_file(config.access, path))


class FileInForce:
    """The file of the configuration in force, to notice that it was changed, and not reloaded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.read()

    def read(self) -> None:
        """Remember the file as it is now, before it is read."""
        self._as_read = self._stamp()

    @property
    def changed(self) -> bool:
        """Return whether the file is another one than at the last `read`."""
        return self._stamp() != self._as_read

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


TOKENS = "tokens"
"""Default token file, beside the configuration."""

AnyAccess = TypeVar("AnyAccess", bound=Access)


def default_token_file(path: Path, name: str = TOKENS) -> Path:
    """Return the token file of a configuration without `[access] token_file`: the one of this name beside it."""
    return Path(os.path.abspath(path)).parent / name


def with_token_file(access: AnyAccess, path: Path, name: str = TOKENS) -> AnyAccess:
    """Return `[access]` of the configuration in `path` with the token file that applies: the default, if it exists.

    Not if systemd passes tokens as a credential, whose source may be just that file.
    """
    default, credentials = default_token_file(path, name), os.environ.get("CREDENTIALS_DIRECTORY")
    has_credential = credentials is not None and os.path.lexists(Path(credentials, CREDENTIAL))
    if access.token_file is not None or has_credential or not os.path.lexists(default):
        return access
    return msgspec.structs.replace(access, token_file=str(default))


def _syntax_fault(text: str) -> str:
    """Return what tomllib reports; of a table that was added at the end and is there already, what to do."""
    found = re.fullmatch(r"Cannot declare \((.*)\) twice \(at line (\d+), .*\)", text)
    if found is None:
        return f"not TOML: {text}"
    table = ".".join(re.findall(r"'([^']*)'", found[1]))
    return f"not TOML: [{table}] is there twice (line {found[2]}); write all of its keys below the first [{table}]"


def read(path: Path, *, required: bool = True, root: type[Table] = Config) -> Reading:
    """Parse `path` as the tables of `root`, valid or not. Raises ConfigError where it cannot be parsed at all."""
    try:
        text = _read_text(path)
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such file") from None
        return Reading()
    except (OSError, UnicodeDecodeError) as wrong:
        raise ConfigError(f"{path}: cannot be read: {wrong}") from None
    try:
        found = tomllib.loads(text)
    except ValueError as wrong:  # TOMLDecodeError, or a number with thousands of digits
        raise ConfigError(f"{path}: {_syntax_fault(str(wrong))}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML: nested too deeply") from None
    tables: list[ParsedTable] = []
    faults: list[str] = []
    for part in _parts(found, root):
        if isinstance(part, str):
            faults.append(part)
        else:
            heading, kind, table = part
            keys: dict[str, object] = {}
            wrong_here = list(_faults(table, kind, heading, keys))
            tables.append(ParsedTable(heading, kind, keys, not wrong_here))
            faults += wrong_here
    return Reading(tuple(tables), tuple(faults))


def _read_text(path: Path) -> str:
    """Return the text of a regular file of bounded size. Raises ConfigError, OSError, UnicodeDecodeError."""
    with open(path, "rb", opener=lambda name, how: os.open(name, how | os.O_NONBLOCK)) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise ConfigError(f"{path}: cannot be read: not a regular file")
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ConfigError(f"{path}: larger than {LARGEST} bytes, the maximum for a configuration")
    return text.decode()


def _parts(found: dict[str, object], root: type[Table]) -> Iterator[tuple[str, type[Table], object] | str]:
    """Yield the tables, each with its heading and kind; an error line for anything else."""
    known: dict[str, object] = get_type_hints(root)
    headings = {name: f"[{name}]" if isinstance(kind, type) else f"[[{name}]]" for name, kind in known.items()}
    for name, table in found.items():
        kind = known.get(name)
        if kind is None:
            yield f"[{name}]: unknown table; known tables: {', '.join(headings.values())}"
        elif isinstance(kind, type) and issubclass(kind, Table):
            yield headings[name], kind, table
        elif isinstance(table, list) and len(table) > MOST:
            yield f"{headings[name]}: expected at most {MOST} tables, not {len(table)}"
        elif isinstance(table, list):
            for number, entry in enumerate(table, 1):
                heading = headings[name] if len(table) == 1 else f"{headings[name]} no. {number}"
                yield heading, get_args(kind)[0], entry
        else:
            yield f"[{name}]: expected {headings[name]}, with two brackets"


def _faults(table: object, kind: type[Table], heading: str, keys: dict[str, object]) -> Iterator[str]:
    """Yield all errors in one table (msgspec itself stops at the first), and fill `keys`."""
    if not isinstance(table, dict):
        yield f"{heading}: expected a table, not {shown(table)}"
        return
    types = get_type_hints(kind, include_extras=True)
    known = {field.encode_name: types[field.name] for field in msgspec.structs.fields(kind)}
    yield from (f"{heading} {name}: unknown key; known keys: {', '.join(known)}" for name in table if name not in known)
    for name, value in table.items():
        if name in known and (inner := table_of(known[name])) is not None:
            yield from _inner_faults(value, inner, f"{heading.strip('[]')}.{name}", keys.setdefault(name, {}))
        elif name in known:
            keys[name] = None
            try:
                taken = msgspec.convert(value, known[name])
            except msgspec.ValidationError:
                yield f"{heading} {name}: expected {expected(known[name])}, not {shown(value)}"
                continue
            wrong = list(kind.checks[name](taken)) if name in kind.checks else []
            yield from (f"{heading} {fault}" for fault in wrong)
            keys[name] = None if wrong else taken
    for field in msgspec.structs.fields(kind):
        if field.required and field.encode_name not in table:
            yield f"{heading} {field.encode_name} is missing"


def table_of(kind: object) -> type[Table] | None:
    """Return the kind of the tables that a key holds by name (`dict[str, Channel]`)."""
    inner = get_args(kind)[-1] if get_origin(kind) is dict else None
    return inner if isinstance(inner, type) and issubclass(inner, Table) else None


def _inner_faults(tables: object, kind: type[Table], prefix: str, keys: object) -> Iterator[str]:
    """Yield all errors in tables that have names, such as [notify.channel.phone]."""
    assert isinstance(keys, dict)
    if not isinstance(tables, dict) or len(tables) > MOST:
        yield f"[{prefix}]: expected up to {MOST} tables such as [{prefix}.NAME]"
        return
    for name, table in tables.items():
        yield from _faults(table, kind, f"[{prefix}.{name}]", keys.setdefault(name, {}))
