"""`netscand --check`: whether netscand can start on this host, by the steps of a start that change nothing.

Nothing is sent, written, locked, or listened on, so that a running daemon is not disturbed (FAULTS F21). A check that
needs a right of the service that the caller lacks is `unknown`, not `failed`.
"""

import errno
import os
import pwd
import re
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from netscand import __version__
from netscand.check_results import HOW_TO_LISTEN, failed, how_to_listen, ok, report, unknown, warning
from netscand.checkout import CHECKOUT
from netscand.config import Access, ConfigError, History, Listen, NetworkRule, Reading, Scan, read, with_token_file
from netscand.core.model import Ip, Network
from netscand.protocol import CheckReport, CheckResult

if TYPE_CHECKING:
    from netscand.serve.listen import TcpAddress

OPTIONAL = {"scapy"}
"""Libraries whose absence costs nothing: scapy has a vendor table, and the Debian package has another."""
SERVICE_USER = "netscan"
"""User of the unit (systemd/netscand.sysusers)."""
CAP_NET_RAW = 13
"""linux/capability.h"""
ATF_COM = 0x2
"""net/if_arp.h: the entry is complete."""
SO_ACCEPTCON = 0x10000
"""Flag in /proc/net/unix: the socket listens."""
MIN_FREE = 16 * 2**20
"""Bytes required on the disk of the history."""
HOW_TO_SCAN = "add the LAN to the configuration: a [[network]] table with its cidr; see `ip address`"
AS_ROOT = "to check it: sudo netscanctl doctor"
ADD_CAPABILITY = "in the unit: AmbientCapabilities=CAP_NET_RAW; in a container: --cap-add NET_RAW"
NO_RAW_SOCKET = "cannot test without a raw socket"
CREATE_SOCKET_FOLDER = "to create it: systemctl enable --now netscand.socket"
START_SOCKET = "systemctl start netscand starts it; at each boot: systemctl enable netscand.socket"
SYSTEMD = Path("/run/systemd/system")
"""Folder that exists if systemd runs (sd_booted(3))."""
SOCKET_OF_SYSTEMD = Path(Listen().unix)
"""The socket that netscand.socket creates, as root: netscand itself need not be able to."""


class Caller(NamedTuple):
    """What a denied permission means: the same for netscand, or nothing, because the service has another user."""

    is_netscand: bool

    def denied(self, check: str, found: str, hint: str) -> CheckResult:
        """Return the result of a check that lacked a permission."""
        if self.is_netscand:
            return failed(check, found, hint)
        return unknown(check, f"cannot test: {found} (the netscand service may have it)", AS_ROOT)


def run(path: Path, *, required: bool) -> CheckReport:
    """Run all checks, in the order in which a frame passes through the daemon."""
    return report(_all_checks(path, required=required))


def _all_checks(path: Path, *, required: bool) -> Iterator[CheckResult]:
    libraries = check_libraries()
    yield libraries
    if libraries.verdict == "failed":
        yield unknown("configuration", "cannot test without the libraries", "install them first")
        return
    raw_sockets = list(check_raw_sockets())  # before root's rights are dropped: the unit grants this one
    reading, _ = _read(path, required=required)
    history = Path(os.path.realpath((reading.table(History) or History()).path))
    caller = Caller(os.geteuid() == 0)
    become_service(history)
    reading, error = _read(path, required=required)
    yield check_configuration(path, reading, error, caller)
    yield from raw_sockets
    yield from check_networks(reading)
    daemon = lock_holder(history)
    yield check_socket(reading.table(Listen), daemon, caller)
    yield check_database(history, daemon, caller)


def become_service(history: Path) -> None:
    """As root, become the user of the service if the history belongs to it: root may use files that netscand may not.

    A history of another user is refused (netscand/store/paths.py), so root itself would find a fault in each. In a
    checkout, it belongs to the user of `./dev run`.
    """
    if os.geteuid() != 0:  # who may not even look at it
        return
    found = _stat(history) or _stat(history.parent)
    if found is None:
        return
    if CHECKOUT in os.environ and found.st_uid != 0:
        os.setgroups([])
        os.setgid(found.st_gid)
        os.setuid(found.st_uid)
        return
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return
    if found.st_uid == user.pw_uid:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


# ---- libraries -------------------------------------------------------------------------------------------------------


def check_libraries() -> CheckResult:
    """Check the versions of the libraries, and import all that a start imports, while it can still be read."""
    errors = list(_wrong_versions())
    if not errors:
        try:
            import netscand.daemon  # noqa: F401
            from netscand.lan.libraries import rtnetlink
            from netscand.serve.selftest import check

            rtnetlink()
            check()
        except Exception as error:  # an incompatible library raises anything
            errors = [str(error)]
    if errors:
        return failed("versions", f"netscand {__version__}: {'; '.join(errors)}", "reinstall netscand")
    return ok("versions", f"netscand {__version__}: all libraries are installed")


def _wrong_versions() -> Iterator[str]:
    try:
        requirements = metadata.requires("netscand") or []
    except metadata.PackageNotFoundError:  # a checkout
        return
    for requirement in requirements:
        if ";" in requirement:
            continue  # for tests only
        name, bounds = re.findall(r"[\w.-]+", requirement)[0], re.findall(r"(>=|<)\s*([\d.]+)", requirement)
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name not in OPTIONAL:
                yield f"{name} is missing"
            continue
        if any((_numbers(installed) < _numbers(bound)) is (operator == ">=") for operator, bound in bounds):
            yield f"{name} is {installed}, expected {' and '.join(map(''.join, bounds))}"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


# ---- configuration ---------------------------------------------------------------------------------------------------


def file_errors(path: Path, reading: Reading) -> Iterator[Exception]:
    """Yield what is wrong with the tokens, the certificate and the addresses that the valid configuration names."""
    from netscand.serve.auth import TokensRefused
    from netscand.serve.listen import ListenError
    from netscand.serve.server import check

    listen, access = reading.table(Listen), reading.table(Access)
    if listen and access:
        try:
            check(listen, with_token_file(access, path))
        except (ListenError, TokensRefused) as error:
            yield error


def _read(path: Path, *, required: bool) -> tuple[Reading, ConfigError | None]:
    try:
        return read(path, required=required), None
    except ConfigError as error:
        return Reading(), error


def check_configuration(path: Path, reading: Reading, error: ConfigError | None, caller: Caller) -> CheckResult:
    """Check the configuration, and the files that it names."""
    hint = f"edit {path}; see man netscand.toml"
    if error is not None:
        if _is_denied(error):
            return caller.denied("configuration", f"you may not read {path}", f"chmod 0644 {path}")
        return failed("configuration", "; ".join(error.faults), hint)
    errors = [*map(Exception, reading.faults), *file_errors(path, reading)]
    if len(errors) == 1 and _is_denied(errors[0]):
        return caller.denied("configuration", str(errors[0]), "let the user netscan read it")
    if errors:
        return failed("configuration", "; ".join(f"{path}: {one}" for one in errors), hint)
    if _stat(path) is None:
        return ok("configuration", f"no {path}: defaults are used")
    return ok("configuration", f"{path} is valid")


def _is_denied(error: Exception) -> bool:
    """Return whether an error of ours stands for a missing permission."""
    return isinstance(error.__context__, PermissionError)


# ---- raw sockets -----------------------------------------------------------------------------------------------------


def check_raw_sockets() -> Iterator[CheckResult]:
    """Open the receive rings with their filters, and close them again."""
    from netscand.lan.wire import Wire, WireError

    wire = Wire(lambda batch: None)
    try:
        wire.open()
    except WireError as error:
        if error.not_permitted:
            yield _no_raw_socket(error)
            yield unknown("filter", NO_RAW_SOCKET, 'see the result of the check "capability"')
        else:
            yield ok("capability", "raw sockets can be opened")
            hint = "run netscand on a Linux kernel; gVisor and some other sandboxes lack packet filters"
            yield failed("filter", str(error), hint)
        return
    wire.close()
    yield ok("capability", "raw sockets can be opened")
    yield ok("filter", "the kernel supports packet filters and receive rings")


def _no_raw_socket(error: Exception) -> CheckResult:
    if not _is_denied(error):
        hint = "allow AF_PACKET (RestrictAddressFamilies=, or seccomp of the container)"
        return failed("capability", "AF_PACKET sockets are blocked", hint)
    bounding_set = _capabilities("CapBnd")
    if bounding_set is not None and not bounding_set >> CAP_NET_RAW & 1:
        found = "this container does not permit CAP_NET_RAW"
        return failed("capability", found, "start it with --cap-add NET_RAW")
    if os.geteuid() == 0:
        return failed("capability", "root lacks CAP_NET_RAW", ADD_CAPABILITY)
    return Caller(False).denied("capability", "you lack CAP_NET_RAW", ADD_CAPABILITY)


def _capabilities(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1], 16) for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration, ValueError):
        return None


# ---- networks --------------------------------------------------------------------------------------------------------


def check_networks(reading: Reading) -> Iterator[CheckResult]:
    """Read the kernel's interfaces by netlink, and choose networks by the configuration, as a start does."""
    from netscand.lan.interfaces import Interfaces
    from netscand.lan.netlink import NetlinkError

    written = [table for table in reading.tables if table.kind is NetworkRule and table.is_valid]
    rules = tuple(msgspec.convert(table.keys, NetworkRule) for table in written)
    interfaces = Interfaces(lambda networks: None, reading.table(Scan) or Scan(), rules)
    try:
        networks = interfaces.open()
    except NetlinkError as error:
        hint = "allow AF_NETLINK (RestrictAddressFamilies=, or seccomp of the container)"
        yield failed("interfaces", str(error), hint)
        return
    finally:
        interfaces.close()
    yield check_interfaces(networks)
    yield check_gateway(networks)


def check_interfaces(networks: Iterable[Network]) -> CheckResult:
    """Check that at least one network is scanned, and up."""
    networks = tuple(networks)
    scanned = [network for network in networks if network.state != "excluded"]
    if not scanned:
        reasons = "; ".join(f"{network.id}: {network.why}" for network in networks)
        found = f"no network is scanned ({reasons or 'no interface has an IPv4 address'})"
        return failed("interfaces", found, HOW_TO_SCAN)
    not_up = [f"{network.id}: {network.why}" for network in scanned if network.state != "up"]
    if not_up:
        verdict = warning if len(not_up) < len(scanned) else failed
        return verdict("interfaces", "; ".join(not_up), "check the cable, switch or Wi-Fi; see `ip link`")
    return ok("interfaces", ", ".join(network.id for network in scanned))


def check_gateway(networks: Iterable[Network], table: Path = Path("/proc/net/arp")) -> CheckResult:
    """Look up the first gateway in the kernel's ARP table; nothing is sent."""
    for network in networks:
        if network.state == "up" and network.gateway:
            ip, interface = _text(network.gateway), network.interface
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[0] == ip and fields[5] == interface and int(fields[2], 16) & ATF_COM:
                    return ok("gateway", f"{ip} on {interface}: ARP entry {fields[3]}")
            found = f"{ip} on {interface}: no recent ARP entry"
            return unknown("gateway", found, "a running netscand scans it")
    hint = "normal on an isolated LAN; otherwise see `ip route`. To check that others answer: netscand --once"
    return unknown("gateway", "no scanned network has a default gateway", hint)


def _text(ip: Ip) -> str:
    return ".".join(map(str, ip))


# ---- socket ----------------------------------------------------------------------------------------------------------


def check_socket(listen: Listen | None, daemon: int | None, caller: Caller) -> CheckResult:
    """Check that netscand can listen everywhere it should; `daemon` is the process of a running one."""
    from netscand.serve.listen import BadAddress, ListenError, tcp_addresses

    if listen is None:
        return unknown("socket", "cannot test: [listen] is invalid", "fix the configuration first")
    path = Path(listen.unix)
    try:
        found = _check_unix(path, daemon, caller) if listen.unix else None
    except ListenError as error:
        return failed("socket", str(error), f"rm {path}")
    except PermissionError:
        return caller.denied("socket", f"you may not read {path.parent}", f"chmod 0755 {path.parent}")
    if found is not None and found.verdict != "ok":
        return found
    try:
        addresses = [address for text in listen.tcp for address in tcp_addresses(text)]
    except BadAddress:  # `check_configuration` reports it
        addresses = []
    errors = {str(address): failure for address in addresses if (failure := _bind_error(address)) is not None}
    if in_use := [address for address, error in errors.items() if error.errno == errno.EADDRINUSE and not daemon]:
        text = f"another process listens on {', '.join(in_use)}"
        return warning("socket", text, HOW_TO_LISTEN[os.strerror(errno.EADDRINUSE)])
    others = {address: error for address, error in errors.items() if error.errno != errno.EADDRINUSE}
    if others:
        if not caller.is_netscand and all(error.errno == errno.EACCES for error in others.values()):
            return caller.denied("socket", f"you may not listen on {', '.join(others)}", "change [listen] tcp")
        text = "; ".join(f"cannot listen on {address}: {error.strerror}" for address, error in others.items())
        return warning("socket", text, how_to_listen(text))
    return found or ok("socket", f"can listen on {', '.join(map(str, addresses)) or 'nothing'}")


def _check_unix(path: Path, daemon: int | None, caller: Caller) -> CheckResult:
    """Check the path of the Unix socket. Raises ListenError, PermissionError."""
    from netscand.serve.listen import is_socket

    managed = SYSTEMD.is_dir()
    folder = _stat(path.parent)
    if folder is None:
        found = f"no folder {path.parent}"
        return (warning if managed else failed)("socket", found, CREATE_SOCKET_FOLDER)
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        return failed("socket", f"every user can write to {path.parent}", f"chmod 0755 {path.parent}")
    if is_socket(path) and _is_listening(path):
        daemon = daemon or lock_holder(path)
        if daemon:
            return ok("socket", f"netscand (process {daemon}) listens on {path}")
        if managed:
            return ok("socket", f"netscand.socket or another process listens on {path}")
        return failed("socket", f"another process listens on {path}", "stop it (to find it: ss -lxp)")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        if managed and path == SOCKET_OF_SYSTEMD:
            return warning("socket", f"nothing listens on {path}: netscand.socket is not active", START_SOCKET)
        return caller.denied("socket", f"you may not write to {path.parent}", CREATE_SOCKET_FOLDER)
    return ok("socket", f"{path} can be created")


def _is_listening(path: Path) -> bool:
    """Look it up: a connection would start the service of a socket unit."""
    for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] == str(path) and int(fields[3], 16) & SO_ACCEPTCON:
            return True
    return False


def _bind_error(address: "TcpAddress") -> OSError | None:
    """Bind without listening, which takes nothing from a netscand that starts meanwhile."""
    from netscand.serve.listen import UNAVAILABLE, bound_socket

    try:
        bound_socket(address).close()
    except OSError as error:
        return None if error.errno in UNAVAILABLE and address.loopback else error
    return None


# ---- history ---------------------------------------------------------------------------------------------------------


def check_database(path: Path, daemon: int | None, caller: Caller) -> CheckResult:
    """Check that the history can be stored at `path`."""
    from netscand.store.database import HistoryBroken
    from netscand.store.paths import HistoryRefused

    if daemon:
        return ok("database", f"{path} is in use by netscand (process {daemon})")
    try:
        return _check_history(path, caller)
    except HistoryRefused as error:
        return failed("database", str(error), "change [history] path")
    except HistoryBroken as error:
        hint = "netscand will set it aside and create a new one"
        return warning("database", f"{path} is broken: {error}", hint)
    except PermissionError:
        return caller.denied("database", f"you may not read {path.parent}", "let the user netscan write to it")
    except (OSError, sqlite3.Error) as error:
        hint = "check the disk; netscand cannot store the history"
        return failed("database", f"{path}: {getattr(error, 'strerror', None) or error}", hint)


def _check_history(path: Path, caller: Caller) -> CheckResult:
    """Check the file and its disk. Raises HistoryRefused, HistoryBroken, OSError, sqlite3.Error."""
    from netscand.store.paths import refuse_open, refuse_remote

    refuse_remote(path)
    folder = next(parent for parent in path.parents if _stat(parent) is not None)
    if folder == path.parent:
        refuse_open(path)
        if _stat(path) is not None:
            _check_file(path)
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if disk.f_flag & os.ST_RDONLY:
        return failed("database", f"{folder} is read-only", "mount it writable, or change [history] path")
    if free < MIN_FREE:
        found = f"only {free // 2**20} MiB free for {path}"
        return failed("database", found, "free space, or change [history] path")
    if not os.access(folder, os.W_OK | os.X_OK) or (_stat(path) is not None and not os.access(path, os.W_OK)):
        hint = "let the user netscan write to it; the unit creates its folder (StateDirectory=netscand)"
        return caller.denied("database", f"you may not write to {path}", hint)
    return ok("database", f"{path}, {free // 2**20:,} MiB free")


def _check_file(path: Path) -> None:
    """Judge an existing database without a lock, and without the files that SQLite puts beside it.

    Raises HistoryRefused, HistoryBroken, OSError, sqlite3.Error.
    """
    from netscand.store.database import (
        HistoryBroken,
        check_header,
        is_broken,
        is_older,
        refuse_foreign,
    )
    from netscand.store.schema import what_is_missing

    refuse_foreign(path)
    check_header(path)
    log = _stat(Path(f"{path}-wal"))
    if not path.stat().st_size or is_older(path) or (log is not None and log.st_size):
        return  # nothing yet, or what counts is in the log
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as database:
            if missing := what_is_missing(database):
                raise HistoryBroken(missing)
    except sqlite3.DatabaseError as error:
        if is_broken(error):
            raise HistoryBroken(str(error)) from None
        raise


def lock_holder(path: Path | str) -> int | None:
    """Return the process that holds the lock of a history or socket, by proc_locks(5); None: no process that we see."""
    try:
        pid = Path(f"{path}.lock").read_text(errors="replace").partition("\n")[0]
        inode = os.stat(f"{path}.lock").st_ino
        locks = Path("/proc/locks").read_text()
    except OSError:
        return None
    for line in locks.splitlines():  # 1: FLOCK ADVISORY WRITE 708 00:1a:4711 0 EOF
        fields = line.split()
        if fields[1] == "FLOCK" and fields[4] == pid and fields[5].rpartition(":")[2] == str(inode):
            return int(pid)
    return None


def _stat(path: Path) -> os.stat_result | None:
    """Return what is at a path; None if nothing is. Raises OSError for anything else than that."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
