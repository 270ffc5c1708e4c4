"""Sockets that clients connect to: opened here, or inherited from systemd."""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

BACKLOG = 4096
"""Connections that may wait to be accepted, as many as net.core.somaxconn usually allows: after a restart, all clients
reconnect at once, and no client can fill it between two turns of the loop."""

FIRST_INHERITED = 3
"""sd_listen_fds(3)"""


class ListenError(Exception):
    """Socket that cannot be opened; the message says which one, and why."""


class AlreadyRunning(ListenError):
    """Another netscand listens on the address."""


class BadAddress(ListenError):
    """Address in `[listen]` that is invalid, or must not be served."""


class TcpAddress(NamedTuple):
    """IP address and port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Return whether only this host can reach it."""
        return ip_address(self.host).is_loopback

    @property
    def family(self) -> socket.AddressFamily:
        """IPv4 or IPv6."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def tcp_addresses(text: str) -> tuple[TcpAddress, ...]:
    """Return the addresses of `HOST:PORT`. Raises BadAddress."""
    host, _, port = text.rpartition(":")
    error = BadAddress(f"[listen] tcp: {text!r}: expected an address and a port such as 127.0.0.1:8000 or [::1]:8000")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise error
    if host == "localhost":
        return TcpAddress("127.0.0.1", int(port)), TcpAddress("::1", int(port))
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise error
    try:
        ip = ip_address(host)
    except ValueError:
        raise error from None
    return (TcpAddress(str(ip), int(port)),)


def bound_socket(address: TcpAddress) -> socket.socket:
    """Return a socket bound to an address that does not listen yet. Raises OSError."""
    sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
    except OSError:
        sock.close()
        raise
    return sock


def tcp_socket(address: TcpAddress) -> socket.socket:
    """Return a socket that listens on an address. Raises OSError."""
    sock = bound_socket(address)
    try:
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def is_socket(path: Path) -> bool:
    """Return whether there is a socket at a path; False if nothing is. Raises ListenError for another file, OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"[listen] unix: {path} exists, but is not a socket: remove it, or use another path")
    return True


def inode_of(path: Path | str) -> tuple[int, int] | None:
    """Return device and inode of a path; None if nothing is there."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@dataclass
class UnixSocket:
    """Unix socket at a path; a lock file beside it excludes a second process.

    The history has a lock of its own (store/lock.py).
    """

    path: Path
    sock: socket.socket = field(init=False)
    _lock: int = -1
    _ours: tuple[int, int] | None = None
    """Device and inode of the path that we created."""

    def open(self, mode: int, gid: int | None) -> None:
        """Listen at the path, replacing a socket that no process listens on.

        Raises AlreadyRunning if a process does, ListenError if the socket cannot be created.
        """
        try:
            self._take_lock()
            self._clear_way()
            self._listen(mode, gid)
        except OSError as error:
            self.close()
            raise ListenError(f"[listen] unix: {self.path}: {error.strerror}") from None
        except ListenError:
            self.close()
            raise

    def permit(self, mode: int, gid: int | None) -> None:
        """Set the permissions. Raises OSError, also if the path is not the socket that we created.

        Other users may be able to write to its folder, and replace it by a link: the file that was checked is changed.
        """
        file = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(file)
            if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
                raise OSError(errno.ESTALE, "another file replaced the socket")
            if self._ours is None:
                self._ours = found.st_dev, found.st_ino
            elif self._ours != (found.st_dev, found.st_ino):
                raise OSError(errno.ESTALE, "another socket replaced it")
            if gid is not None:  # the filter of the hub's unit refuses the call, even if it changes nothing
                os.chown(f"/proc/self/fd/{file}", -1, gid)
            os.chmod(f"/proc/self/fd/{file}", mode)
        finally:
            os.close(file)

    @property
    def in_place(self) -> bool:
        """Return whether the path is still that of this socket."""
        return inode_of(self.path) == self._ours

    def renew(self, mode: int, gid: int | None) -> None:
        """Listen by another socket, because the path was removed. Raises OSError, also if another file is there."""
        before = self.sock, self._ours
        self._ours = None
        try:
            self._listen(mode, gid)
        except OSError:
            self.sock, self._ours = before
            raise

    def close(self) -> None:
        """Remove the path, if it is still ours, and release the lock."""
        if self._ours is not None:
            try:
                if self.in_place:
                    self.path.unlink()
            except OSError:
                pass
            self.sock.close()
            self._ours = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take_lock(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._lock = os.open(f"{self.path}.lock", flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._lock, 16, 0).decode(errors="replace").strip()
            raise AlreadyRunning(f"another netscand (process {pid}) listens on {self.path}") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _clear_way(self) -> None:
        if not is_socket(self.path):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as caller:
            refused = caller.connect_ex(str(self.path))
        if refused not in (errno.ECONNREFUSED, errno.ENOENT):  # EAGAIN: a process listens, and is busy
            raise AlreadyRunning(f"another process listens on {self.path}")
        self.path.unlink(missing_ok=True)

    def _listen(self, mode: int, gid: int | None) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self.sock.bind(str(self.path))
            self.permit(mode, gid)
            self.sock.listen(BACKLOG)  # from now on clients can connect
        except OSError:
            self.sock.close()
            raise


def inherited_sockets(environment: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the sockets that systemd has opened (sd_listen_fds); the variables are removed, for child processes."""
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for number in range(FIRST_INHERITED, FIRST_INHERITED + int(count)):
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
        sock.setblocking(False)
        found.append(sock)
    return found


UNAVAILABLE: Mapping[int, str] = {
    errno.EADDRNOTAVAIL: "no such address on this host",
    errno.EAFNOSUPPORT: "no IPv6 on this host",
}
"""Errors that are no fault on loopback: a host without IPv6 has no ::1."""
