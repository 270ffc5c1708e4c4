"""What would keep a daemon from starting on this host, looked at from here. Nothing is sent, nothing is changed.

Each probe is a small one of its own: netscanctl must run where neither scapy nor the daemon's other libraries are.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from netscanctl.finding import Finding, bad, good, odd, unseen

CAP_NET_RAW = 13
"""linux/capability.h"""
SOL_PACKET, PACKET_VERSION, TPACKET_V2 = 263, 10, 1
"""packet(7): the ring that netscand hears by."""
SO_ATTACH_FILTER = 26
REJECT_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""`ret #0` in classic BPF."""
SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFNETMASK = 0x8913, 0x8915, 0x891B
"""netdevice(7)"""
IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40
ARPHRD_ETHER = "1"
RTF_UP, RTF_GATEWAY = 0x1, 0x2
ATF_COM = 0x2
"""net/if_arp.h: an answer came."""
TIME_ERROR = 5
"""adjtimex(2): the clock follows nothing."""
LEAST_ROOM = 16 * 2**20
"""Bytes on the history's disk."""
MAGIC = b"SQLite format 3\x00"

AS_ROOT = "sudo netscanctl doctor can tell"
UNIT = "the unit gives it: AmbientCapabilities=CAP_NET_RAW; in a container: --cap-add NET_RAW"


# ---- rights ---------------------------------------------------------------------------------------------------------


def of_raw_sockets() -> Iterator[Finding]:
    """That frames can be heard, through a filter in the kernel. The socket that is made for it hears nothing."""
    try:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        yield _without_raw_sockets()
        yield unseen("filter", "no raw socket to try it on")
        return
    except OSError as wrong:
        said = "AF_PACKET sockets are forbidden here" if wrong.errno == errno.EAFNOSUPPORT else str(wrong.strerror)
        yield bad("capability", said, "allow AF_PACKET (RestrictAddressFamilies=, or the container's seccomp profile)")
        yield unseen("filter", "no raw socket to try it on")
        return
    with raw:
        yield good("capability", "raw sockets can be opened")
        yield _of_filter(raw)


def _without_raw_sockets() -> Finding:
    bounds = _capabilities("CapBnd")
    if bounds is not None and not bounds >> CAP_NET_RAW & 1:
        return bad(
            "capability", "CAP_NET_RAW is out of reach for every process in here", "container: --cap-add NET_RAW"
        )
    if os.geteuid() == 0:
        return bad("capability", "root may not open a raw socket: CAP_NET_RAW is missing", UNIT)
    return unseen("capability", "you may not open raw sockets, which does not say whether netscand may", AS_ROOT)


def _capabilities(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1], 16) for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration, ValueError):
        return None


def _of_filter(raw: socket.socket) -> Finding:
    program = ctypes.create_string_buffer(REJECT_ALL)
    try:
        raw.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
        raw.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
    except OSError as wrong:
        return bad(
            "filter",
            f"this kernel cannot filter packets: {wrong.strerror}",
            "netscand does not work here; a real Linux kernel does (gVisor and some other sandboxes do not)",
        )
    return good("filter", "the kernel filters packets, and has a ring for them")


# ---- the network ----------------------------------------------------------------------------------------------------


class Held(NamedTuple):
    """An interface that has an IPv4 address."""

    name: str
    address: str
    running: bool
    ethernet: bool


def interfaces() -> list[Held]:
    """Interfaces with an IPv4 address, without loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                (flags,) = struct.unpack_from("H", fcntl.ioctl(asking, SIOCGIFFLAGS, request), 16)
                ip = fcntl.ioctl(asking, SIOCGIFADDR, request)[20:24]
                mask = fcntl.ioctl(asking, SIOCGIFNETMASK, request)[20:24]
            except OSError:
                continue  # it has none, or is gone
            if flags & IFF_LOOPBACK:
                continue
            length = int.from_bytes(mask).bit_count()
            running = flags & IFF_UP and flags & IFF_RUNNING
            found.append(Held(name, f"{socket.inet_ntoa(ip)}/{length}", bool(running), _is_ethernet(name)))
    return found


def _is_ethernet(name: str) -> bool:
    try:
        return Path("/sys/class/net", name, "type").read_text().strip() == ARPHRD_ETHER
    except OSError:
        return False


def of_interfaces(held: list[Held]) -> Finding:
    """That there is a network to scan."""
    fit = [one for one in held if one.running and one.ethernet]
    if fit:
        return good("interfaces", ", ".join(f"{one.name} {one.address}" for one in fit))
    down = [one.name for one in held if one.ethernet]
    if down:
        return bad("interfaces", f"{', '.join(down)} has no carrier", "look at the cable, the switch or the Wi-Fi")
    return bad("interfaces", "no Ethernet interface has an IPv4 address", "see `ip address`")


def of_gateway(proc: Path = Path("/proc/net")) -> Finding:
    """What the kernel knows of the gateway: nothing is sent from here to find out more."""
    try:
        ip, interface = next(_default_routes((proc / "route").read_text()))
    except (OSError, StopIteration):
        return unseen("gateway", "no default gateway")
    for line in (proc / "arp").read_text().splitlines()[1:]:
        words = line.split()
        if words[0] == ip and words[5] == interface and int(words[2], 16) & ATF_COM:
            return good("gateway", f"the kernel knows {ip} on {interface} as {words[3]}")
    return unseen("gateway", f"{ip} on {interface}: nobody asked it of late", "netscand will, once it runs")


def _default_routes(table: str) -> Iterator[tuple[str, str]]:
    """Gateways and their interfaces, the best first."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if words[1] == "00000000" and int(words[3], 16) & RTF_UP and int(words[3], 16) & RTF_GATEWAY:
            ip = socket.inet_ntoa(struct.pack("=I", int(words[2], 16)))
            found.append((int(words[6]), ip, words[0]))
    yield from ((ip, interface) for _, ip, interface in sorted(found))


# ---- the rest -------------------------------------------------------------------------------------------------------


def of_clock() -> Finding:
    """That somebody sets it. Presence does not hang on it, times that people read do."""
    timex = ctypes.create_string_buffer(512)  # all zero: read only
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    if state == TIME_ERROR:
        return odd("clock", "it follows nothing (NTP)", "timedatectl set-ntp true; presence does not depend on it")
    if state < 0:
        return unseen("clock", f"the kernel does not tell: {os.strerror(ctypes.get_errno())}")
    return good("clock", "it follows NTP")


def of_database(path: Path) -> Finding:
    """That the history can be kept where it should be."""
    try:
        if path.exists():
            with path.open("rb") as file:
                begin = file.read(len(MAGIC))
            if begin not in (MAGIC, b""):
                return odd("database", f"{path} is no database", "netscand will set it aside, and begin a new one")
        elif not path.parent.is_dir():
            return odd("database", f"there is no folder {path.parent}", "the unit makes it (StateDirectory=netscand)")
        room = os.statvfs(path.parent)
    except PermissionError:
        return unseen("database", f"you may not look into {path.parent}", AS_ROOT)
    except OSError as wrong:
        return bad("database", f"{path}: {wrong.strerror}", "look at that disk; netscand keeps nothing meanwhile")
    free = room.f_bavail * room.f_frsize
    if free < LEAST_ROOM:
        return bad("database", f"{free // 2**20} MiB are free for {path}", "make room, or move [history] path")
    if room.f_flag & os.ST_RDONLY:
        return bad("database", f"{path.parent} is read-only", "mount it writable, or move [history] path")
    return good("database", f"{path}, {free // 2**20:,} MiB free")


def of_versions() -> Finding:
    """That what the daemon imports is installed, in versions that it can use."""
    try:
        needs = metadata.requires("netscand") or []
        version = metadata.version("netscand")
    except metadata.PackageNotFoundError:
        return unseen("versions", "netscand is not installed beside this netscanctl")
    wrong = []
    for need in needs:
        if ";" in need:
            continue  # for tests only
        name, _, least = need.partition(">=")
        try:
            there = metadata.version(name.strip())
        except metadata.PackageNotFoundError:
            wrong.append(f"{name.strip()} is missing")
            continue
        if least and _numbers(there) < _numbers(least):
            wrong.append(f"{name.strip()} is {there}, expected {least} or newer")
    if wrong:
        return bad("versions", f"netscand {version}: {'; '.join(wrong)}", "install netscand anew, from one source")
    return good("versions", f"netscand {version} has all that it imports")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]
