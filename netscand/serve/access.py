"""Who is it, and may they? Peers, Host, Origin and tokens; what each role may do is in rights.py."""

import grp
import logging
import re
import socket
import struct
from collections.abc import Hashable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from netscand import config
from netscand.serve.answers import Refused
from netscand.serve.fair import Account
from netscand.serve.rights import Role
from netscand.serve.subordinates import read_subordinates
from netscand.serve.tokens import Headers, read_tokens, token_in, unknown
from netscand.serve.whose import owner

log = logging.getLogger(__name__)

SO_PEERGROUPS = 59
"""linux/socket.h; Python has no name for it."""

MOST_GROUPS = 256
"""Groups that one getsockopt of Python can give; who has more is judged by the primary group alone."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection."""

    key: Hashable
    """Whom its connections are counted for: a uid with its subordinates, by the Unix socket or on loopback, or a TCP
    address."""
    role: Role
    unix: bool
    privileged: bool
    """Root or the group, on the Unix socket: no cap of its own, and the last descriptors."""
    address: str = ""
    """Ours, that a TCP client connected to."""
    port: int = 0
    tls: bool = False


class Admitted(NamedTuple):
    """What a request may, and whose turns and budgets it takes."""

    role: Role
    account: Account


STRANGERS: Account = "strangers"
"""Whoever has no role: they share one account."""

ORIGIN = re.compile(r"(https?)://((?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)")
"""RFC 6454, section 6.2, and nothing that a lenient parser could take for another host."""

HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")

LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))


class Guard:
    """Judges connections and requests by `[access]`. Raises TokensRefused where its tokens cannot be used."""

    def __init__(self, access: config.Access) -> None:
        self.tokens = read_tokens(access.token_file)
        self._others = Role[access.others.upper()]
        self._hosts = frozenset(host.lower() for host in access.allowed_hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in access.allowed_origins)
        self._subordinates = read_subordinates()
        self.group = _gid(access.group)
        """The gid of `[access] group`; None where the system has no such group."""

    def peer(self, sock: socket.socket, *, tls: bool = False) -> Peer:
        """Tell who connected. Raises OSError where it is gone already."""
        if sock.family == socket.AF_UNIX:
            _, uid, gid = struct.unpack("3I", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            privileged = uid == 0 or (self.group is not None and self.group in (gid, *_groups(sock)))
            key = self._subordinates.account(uid)
            return Peer(key, Role.ADMIN if privileged else self._others, True, privileged)
        ours, theirs = _plain(sock.getsockname()[0]), _plain(sock.getpeername()[0])
        local = _is_loopback(ours) and _is_loopback(theirs)
        role = self._others if local else Role.NONE
        key = theirs
        if local:  # an account may connect from each of the 16 million addresses of 127.0.0.0/8
            uid = owner(sock)
            key = self._subordinates.account(uid) if uid is not None else "loopback"
        return Peer(key, role, False, False, ours, int(sock.getsockname()[1]), tls)

    def admit(self, peer: Peer, headers: Headers) -> Admitted:
        """The role of a request: its peer's, raised by its token; and whose it is.

        Refuses what a page of another site made (FAULTS T5, T6), and a token that is none of ours.
        """
        hosts = [host.strip().lower() for host in headers.getall("Host", ())]
        if not peer.unix:
            self._judge_host(peer, hosts)
        origins = headers.getall("Origin", ())
        if origins and not (len(origins) == 1 and self._own(peer, origins[0].strip().lower(), hosts)):
            raise Refused("forbidden", "pages of this origin may not use netscand ([access] allowed_origins)")
        if (
            not origins
            and headers.get("Sec-Fetch-Site") == "cross-site"
            and headers.get("Sec-Fetch-Mode") != "navigate"
        ):
            # An image or a script of another site's page: it reads no answer, but made us give one (Fetch Metadata).
            raise Refused("forbidden", "pages of other sites may not use netscand")
        token = token_in(headers)
        if token is None:
            return Admitted(peer.role, peer.key if peer.role > Role.NONE else STRANGERS)
        held = self.tokens.find(token)
        if held is None:
            raise unknown()
        # Another host has as many addresses as it likes, but no more tokens than it was given.
        return Admitted(max(held.role, peer.role), peer.key if peer.role > Role.NONE else ("token", held.digest))

    def _judge_host(self, peer: Peer, hosts: list[str]) -> None:
        found = HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            raise Refused("bad_request", "expected one Host header")
        name, port = found[1], int(found[2] or (443 if peer.tls else 80))
        ours = port == peer.port and (
            name == _bracketed(peer.address)
            or name in self._hosts
            or (_is_loopback(peer.address) and name in LOOPBACK_NAMES)
        )
        if not ours and hosts[0] not in self._hosts:
            raise Refused("bad_request", "this host is not served here ([access] allowed_hosts)", 421)

    def _own(self, peer: Peer, origin: str, hosts: list[str]) -> bool:
        if origin in self._origins:
            return True
        found = ORIGIN.fullmatch(origin)
        if found is None or (peer.tls and found[1] != "https"):
            return False
        authority = found[2]
        name = HOST.fullmatch(authority)
        local = name is not None and name[1] in LOOPBACK_NAMES
        if authority not in hosts:
            return local and _is_loopback(peer.address)
        if not peer.unix or not self._hosts or local:
            return True
        # Host is not judged on the Unix socket, and a reverse proxy may pass on whatever it was sent.
        return authority in self._hosts or (name is not None and name[1] in self._hosts)


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        log.info("there is no group %s: only root has the role admin", group)
        return None


def _groups(sock: socket.socket) -> tuple[int, ...]:
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS * 4)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def _plain(address: str) -> str:
    """An address without zone, and as IPv4 where it is a mapped one."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return str(mapped or ip)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _is_loopback(address: str) -> bool:
    return bool(address) and ip_address(address).is_loopback
