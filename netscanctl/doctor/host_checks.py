"""Checks of this host for `netscanctl doctor`, when no daemon is running. They send and change nothing.

They use the standard library only: netscanctl must run without scapy and the other libraries of the daemon.
"""

import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from netscanctl.doctor.result import Finding, failed, ok, unknown, warning

CAP_NET_RAW = 13
"""linux/capability.h"""
SOL_PACKET, PACKET_VERSION, TPACKET_V2 = 263, 10, 1
"""packet(7): the ring from which netscand receives."""
SO_ATTACH_FILTER = 26
REJECT_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""`ret #0` in classic BPF."""
SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFNETMASK = 0x8913, 0x8915, 0x891B
"""netdevice(7)"""
IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40
ARPHRD_ETHER = "1"
RTF_UP, RTF_GATEWAY = 0x1, 0x2
ATF_COM = 0x2
"""net/if_arp.h: the entry is complete."""
TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""
MIN_FREE = 16 * 2**20
"""Bytes required on the disk of the history."""
MAGIC = b"SQLite format 3\x00"

AS_ROOT = "to check it: sudo netscanctl doctor"
ADD_CAPABILITY = "in the unit: AmbientCapabilities=CAP_NET_RAW; in a container: --cap-add NET_RAW"


# ---- privileges -----------------------------------------------------------------------------------------------------


def check_raw_sockets() -> Iterator[Finding]:
    """Check that raw sockets and the packet filter work. The socket used for it receives nothing."""
    try:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        yield _no_permission()
        yield unknown("filter", "cannot test without a raw socket")
        return
    except OSError as error:
        found = "AF_PACKET sockets are blocked" if error.errno == errno.EAFNOSUPPORT else str(error.strerror)
        yield failed("capability", found, "allow AF_PACKET (RestrictAddressFamilies=, or seccomp of the container)")
        yield unknown("filter", "cannot test without a raw socket")
        return
    with raw:
        yield ok("capability", "raw sockets can be opened")
        yield _check_filter(raw)


def _no_permission() -> Finding:
    bounding_set = _capabilities("CapBnd")
    if bounding_set is not None and not bounding_set >> CAP_NET_RAW & 1:
        return failed("capability", "this container does not permit CAP_NET_RAW", "start it with --cap-add NET_RAW")
    if os.geteuid() == 0:
        return failed("capability", "root lacks CAP_NET_RAW", ADD_CAPABILITY)
    return unknown("capability", "cannot test: you lack CAP_NET_RAW (the netscand service may have it)", AS_ROOT)


def _capabilities(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1], 16) for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration, ValueError):
        return None


def _check_filter(raw: socket.socket) -> Finding:
    program = ctypes.create_string_buffer(REJECT_ALL)
    try:
        raw.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
        raw.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
    except OSError as error:
        return failed(
            "filter",
            f"this kernel cannot filter packets: {error.strerror}",
            "run netscand on a Linux kernel; gVisor and some other sandboxes lack packet filters",
        )
    return ok("filter", "the kernel supports packet filters and receive rings")


# ---- the network ----------------------------------------------------------------------------------------------------


class Interface(NamedTuple):
    """Interface with an IPv4 address."""

    name: str
    address: str
    running: bool
    ethernet: bool


def interfaces() -> list[Interface]:
    """Return the interfaces with an IPv4 address, without loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                (flags,) = struct.unpack_from("H", fcntl.ioctl(control, SIOCGIFFLAGS, request), 16)
                ip = fcntl.ioctl(control, SIOCGIFADDR, request)[20:24]
                mask = fcntl.ioctl(control, SIOCGIFNETMASK, request)[20:24]
            except OSError:
                continue  # no IPv4 address, or just removed
            if flags & IFF_LOOPBACK:
                continue
            length = int.from_bytes(mask).bit_count()
            running = flags & IFF_UP and flags & IFF_RUNNING
            found.append(Interface(name, f"{socket.inet_ntoa(ip)}/{length}", bool(running), _is_ethernet(name)))
    return found


def _is_ethernet(name: str) -> bool:
    try:
        return Path("/sys/class/net", name, "type").read_text().strip() == ARPHRD_ETHER
    except OSError:
        return False


def check_interfaces(candidates: list[Interface]) -> Finding:
    """Check that at least one interface can be scanned."""
    ethernet = [one for one in candidates if one.ethernet]
    running = [one for one in ethernet if one.running]
    if running:
        return ok("interfaces", ", ".join(f"{one.name} {one.address}" for one in running))
    if ethernet:
        names = ", ".join(one.name for one in ethernet)
        return failed("interfaces", f"no carrier on {names}", "check the cable, switch or Wi-Fi")
    return failed("interfaces", "no Ethernet interface has an IPv4 address", "see `ip address`")


def check_gateway(proc: Path = Path("/proc/net")) -> Finding:
    """Look up the gateway in the kernel's ARP table; nothing is sent."""
    try:
        ip, interface = next(_default_routes((proc / "route").read_text()))
    except (OSError, StopIteration):
        return unknown("gateway", "no default gateway")
    for line in (proc / "arp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[0] == ip and fields[5] == interface and int(fields[2], 16) & ATF_COM:
            return ok("gateway", f"{ip} on {interface}: ARP entry {fields[3]}")
    return unknown("gateway", f"{ip} on {interface}: no recent ARP entry", "a running netscand scans it")


def _default_routes(table: str) -> Iterator[tuple[str, str]]:
    """Yield the gateways and their interfaces, lowest metric first."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000" and int(fields[3], 16) & RTF_UP and int(fields[3], 16) & RTF_GATEWAY:
            ip = socket.inet_ntoa(struct.pack("=I", int(fields[2], 16)))
            found.append((int(fields[6]), ip, fields[0]))
    yield from ((ip, interface) for _, ip, interface in sorted(found))


# ---- other checks --------------------------------------------------------------------------------------------------


def check_clock() -> Finding:
    """Check that the clock is synchronised. Presence does not depend on it, the displayed times do."""
    timex = ctypes.create_string_buffer(512)  # all zero: read only
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    if state == TIME_ERROR:
        return warning("clock", "not synchronised by NTP", "timedatectl set-ntp true; presence does not depend on it")
    if state < 0:
        return unknown("clock", f"cannot read the clock state: {os.strerror(ctypes.get_errno())}")
    return ok("clock", "synchronised by NTP")


def check_database(path: Path) -> Finding:
    """Check that the history can be stored at `path`."""
    try:
        if path.exists():
            with path.open("rb") as file:
                head = file.read(len(MAGIC))
            if head not in (MAGIC, b""):
                return warning(
                    "database", f"{path} is not a database", "netscand will set it aside and create a new one"
                )
        elif not path.parent.is_dir():
            return warning("database", f"no folder {path.parent}", "the unit creates it (StateDirectory=netscand)")
        disk = os.statvfs(path.parent)
    except PermissionError:
        return unknown("database", f"no permission to read {path.parent}", AS_ROOT)
    except OSError as error:
        return failed("database", f"{path}: {error.strerror}", "check the disk; netscand cannot store the history")
    free = disk.f_bavail * disk.f_frsize
    if free < MIN_FREE:
        return failed("database", f"only {free // 2**20} MiB free for {path}", "free space, or change [history] path")
    if disk.f_flag & os.ST_RDONLY:
        return failed("database", f"{path.parent} is read-only", "mount it writable, or change [history] path")
    return ok("database", f"{path}, {free // 2**20:,} MiB free")


def check_libraries() -> Finding:
    """Check that the libraries of the daemon are installed, in sufficient versions."""
    try:
        requirements = metadata.requires("netscand") or []
        version = metadata.version("netscand")
    except metadata.PackageNotFoundError:
        return unknown("versions", "netscand is not installed in the environment of this netscanctl")
    errors = []
    for requirement in requirements:
        if ";" in requirement:
            continue  # for tests only
        name, bounds = re.findall(r"[\w.-]+", requirement)[0], re.findall(r"(>=|<)\s*([\d.]+)", requirement)
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            errors.append(f"{name} is missing")
            continue
        if any((_numbers(installed) < _numbers(bound)) is (operator == ">=") for operator, bound in bounds):
            errors.append(f"{name} is {installed}, expected {' and '.join(map(''.join, bounds))}")
    if errors:
        return failed("versions", f"netscand {version}: {'; '.join(errors)}", "reinstall netscand")
    return ok("versions", f"netscand {version}: all libraries are installed")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]
