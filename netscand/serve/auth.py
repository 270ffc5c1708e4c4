"""Authentication and roles: peers, tokens, Host and Origin."""

import base64
import binascii
import grp
import hmac
import logging
import os
import re
import socket
import stat
import struct
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from netscand import config
from netscand.serve.fair_turns import Account
from netscand.serve.http import Refused

# ---- peer uid ------------------------------------------------------------------------------------------------------
# The uid of the peer of a connection on loopback: TCP does not know it, but the kernel does (sock_diag(7)).

SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG, linux/netlink.h; Python has no name for it."""

BY_FAMILY = 20
REQUEST = 1

_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBBI")
"""inet_diag_req_v2: family, protocol, extensions, padding, states."""

_SOCKET = struct.Struct("!HH16s16s4sQ")
"""inet_diag_sockid: ports, addresses, interface, and a cookie of ones, for unknown."""

_OWNER = struct.Struct("=II")
"""Uid and inode; the socket of a program always has an inode."""

_OWNER_AT = _HEADER.size + 4 + _SOCKET.size + 12
"""Offset in inet_diag_msg: after family, states, socket, timer and both queues."""

CLOSE_WAIT = 8
"""TCP_CLOSE_WAIT, linux/tcp_states.h"""

EVERY_STATE = 0xFFFFFFFF


CLOSED = "closed by the other end"


def peer_uid(sock: socket.socket) -> int | None:
    """Return the uid that created the socket at the other end of a connection on this host.

    None if the kernel has no sock_diag. Raises ConnectionError if that socket is closed: it has no user any more, and
    most kernels show it as root's.
    """
    ours, theirs = sock.getsockname(), sock.getpeername()
    side = _SOCKET.pack(
        theirs[1], ours[1], ip_address(theirs[0]).packed, ip_address(ours[0]).packed, bytes(4), 2**64 - 1
    )
    question = _QUESTION.pack(sock.family, socket.IPPROTO_TCP, 0, 0, EVERY_STATE) + side
    header = _HEADER.pack(_HEADER.size + len(question), BY_FAMILY, REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, SOCK_DIAG) as diag:
            diag.setblocking(False)  # the kernel has answered when sendto returns
            diag.sendto(header + question, (0, 0))
            answer = diag.recv(4096)
    except OSError:
        return None
    if len(answer) < _OWNER_AT + _OWNER.size or _HEADER.unpack_from(answer)[1] != BY_FAMILY:
        if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT:  # the other end is closed
            raise ConnectionResetError(CLOSED)
        return None
    uid, inode = _OWNER.unpack_from(answer, _OWNER_AT)
    if not inode:
        raise ConnectionResetError(CLOSED)
    return int(uid)


# ---- subordinates --------------------------------------------------------------------------------------------------
# Accounts of subordinate uids (subuid(5)): a user of this host can use all of them (newuidmap(1)).
#
# Only /etc/subuid counts. Other uids above 65,535 are accounts of their own: directories (LDAP, AD) give them to
# people, and a container has them only if root permits it. So are those of DynamicUser= (61184 to 65519), which only
# root gives out, one to each service. Groups do not matter here: connections are counted by uid, and a subordinate
# gid is never that of `[access] group`.

SUBUID, PASSWD = Path("/etc/subuid"), Path("/etc/passwd")

LARGEST = 1 << 20
"""Maximum bytes read of each file."""

MAX_LINES = 4096
"""Maximum lines read of each file."""

FIRST = 1 << 16
"""Uids below this are real accounts, whatever the file says."""


class _Range(NamedTuple):
    start: int
    stop: int
    account: Hashable


class Subordinates:
    """Subordinate uids, each with the account that it belongs to."""

    def __init__(self, ranges: tuple[_Range, ...] = ()) -> None:
        self._ranges = ranges
        """Ascending, not overlapping."""
        self._starts = [each.start for each in ranges]

    def account(self, uid: int) -> Hashable:
        """Return the account that connections of a uid are counted for."""
        number = bisect_right(self._starts, uid) - 1
        if number >= 0 and uid < self._ranges[number].stop:
            return self._ranges[number].account
        return "uid", uid


def read_subordinates(subuid: Path = SUBUID, passwd: Path = PASSWD) -> Subordinates:
    """Read the ranges of all users. Lines that cannot be read are left out: a bad line takes no connection away."""
    uids = {name: int(uid) for name, _, uid, *_ in _lines(passwd, 7) if uid.isascii() and uid.isdigit()}
    ranges: list[_Range] = []
    for found in sorted(_ranges(subuid, uids), key=lambda each: each.start):
        start = max(found.start, ranges[-1].stop if ranges else FIRST)
        if start < found.stop:
            ranges.append(found._replace(start=start))
    return Subordinates(tuple(ranges))


def _ranges(path: Path, uids: dict[str, int]) -> Iterator[_Range]:
    for name, start, count in _lines(path, 3):
        if not all(text.isascii() and text.isdigit() and len(text) <= 10 for text in (start, count)):
            continue
        uid = int(name) if name.isascii() and name.isdigit() and len(name) <= 10 else uids.get(name)
        # Root's are those of its containers, which are not counted with root itself.
        account = ("subordinates of", name) if uid in (0, None) else ("uid", uid)
        yield _Range(int(start), min(int(start) + int(count), 1 << 32), account)


def _lines(path: Path, fields: int) -> Iterator[list[str]]:
    """Yield the lines with the given number of fields."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST).decode("utf-8", "replace")
    except OSError:
        return
    for line in islice(text.split("\n"), MAX_LINES):
        found = line.strip().split(":")
        if len(found) == fields and found[0]:
            yield found


# ---- roles ---------------------------------------------------------------------------------------------------------
# The role of each route is in routes.py.


class Role(IntEnum):
    """Role; each may do what the lower ones may."""

    NONE = 0
    READ = 1
    SCAN = 2
    ADMIN = 3

    @property
    def on_wire(self) -> str:
        """Name in the wire contract."""
        return self.name.lower()


MESSAGES: Mapping[str, tuple[Role, str]] = {
    "scan_now": (Role.SCAN, "scanning"),
    "set_interval": (Role.SCAN, "changing the scan interval"),
}
"""Message of a WebSocket client → lowest role that may send it, and what it does."""


def require(action: str, lowest: Role, role: Role, *, suggest_token: bool = False) -> None:
    """Refuse a role below the lowest one; `suggest_token`: by 401, because the client has sent no token."""
    if role >= lowest:
        return
    message = f'{action} requires role "{lowest.on_wire}" (you have "{role.on_wire}"); send a token with that role'
    if suggest_token:
        raise Refused("unauthorized", message, headers={"WWW-Authenticate": "Bearer"})
    raise Refused("forbidden", message)


def need(message: str, role: Role) -> None:
    """Refuse a message of a WebSocket client whose role is too low."""
    lowest, action = MESSAGES[message]
    require(action, lowest, role)


# ---- tokens --------------------------------------------------------------------------------------------------------
# Tokens: storage, transport, comparison (FAULTS T2, T18).
#
# Only their digests are kept. No message, error or log entry contains a token.

SHORTEST, LONGEST = 32, 512
"""Characters of a token. 32 random ones cannot be guessed."""

MAX_TOKENS = 1024
"""Maximum number of tokens; each request is compared with all of them."""

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""Syntax after `Bearer` (RFC 6750, section 2.1)."""

CREDENTIAL = "tokens"
"""Name of the systemd credential (systemd.exec(5), LoadCredential=)."""

SUBPROTOCOL = "netscand"
"""Subprotocol that a WebSocket client may request, and then gets (RFC 6455, section 1.9)."""

TOKEN_SUBPROTOCOL = f"{SUBPROTOCOL}.token."
"""Prefix of a token in base64url: a browser's WebSocket can send no other header."""


class TokensRefused(Exception):
    """Tokens that cannot be used; the message names the file and the remedy, and contains no token."""


class Token(NamedTuple):
    """Digest and role of a token."""

    digest: bytes
    role: Role


class Tokens:
    """Set of tokens."""

    def __init__(self, tokens: tuple[Token, ...] = ()) -> None:
        self._tokens = tokens

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._tokens)

    def find(self, token: str) -> Token | None:
        """Return the token, or None. Takes the same time for each token."""
        digest = sha256(token.encode()).digest()
        found: Token | None = None
        for each in self._tokens:
            if hmac.compare_digest(each.digest, digest):
                found = each
        return found


def read_tokens(file: str | None, environment: Mapping[str, str] = os.environ) -> Tokens:
    """Return the tokens of `[access] token_file` and of the systemd credential. Raises TokensRefused."""
    tokens: list[Token] = []
    if file is not None:
        tokens += _parsed(Path(file), f"[access] token_file: {file}")
    if folder := environment.get("CREDENTIALS_DIRECTORY"):
        credential = Path(folder, CREDENTIAL)
        if credential.exists():
            tokens += _parsed(credential, f"credential {CREDENTIAL}")
    if len({token.digest for token in tokens}) < len(tokens):
        raise TokensRefused(f"{file or f'credential {CREDENTIAL}'}: the same token is in it twice")
    if len(tokens) > MAX_TOKENS:
        raise TokensRefused(f"{file}: more than {MAX_TOKENS} tokens")
    return Tokens(tuple(tokens))


def _parsed(path: Path, place: str) -> list[Token]:
    tokens = []
    for number, line in enumerate(_text(path, place).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        error = _line_error(words)
        if error:
            raise TokensRefused(f"{place}: line {number}: {error}")
        tokens.append(Token(sha256(words[1].encode()).digest(), Role[words[0].upper()]))
    if not tokens:
        raise TokensRefused(f"{place}: contains no token; expected lines `ROLE TOKEN`")
    return tokens


def _line_error(words: list[str]) -> str:
    if len(words) != 2:
        return "expected `ROLE TOKEN`, separated by a space"
    role, token = words
    if role not in ("read", "scan", "admin"):
        return "expected the role read, scan or admin"
    if not SHORTEST <= len(token) <= LONGEST:
        expected = f"expected {SHORTEST} to {LONGEST}"
        return f"the token has {len(token)} characters, {expected}; to create one: openssl rand -hex 32"
    if not TOKEN.fullmatch(token):
        return "invalid character in the token; expected letters, digits, . _ ~ + / -, and = at its end"
    return ""


def _text(path: Path, place: str) -> str:
    """Return the content of a file that no other user may read or change. Raises TokensRefused."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise TokensRefused(f"{place}: not a file")
            if stat.S_IMODE(found.st_mode) & ~0o640:
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise TokensRefused(f"{place}: mode {mode} lets other users use its tokens: chmod 0640 {path}")
            if found.st_uid not in (0, os.geteuid()):
                raise TokensRefused(f"{place}: owned by user {found.st_uid}, who could add a token: chown root {path}")
            if found.st_size > LARGEST:
                raise TokensRefused(f"{place}: larger than {LARGEST} bytes")
            return file.read(LARGEST).decode("ascii")
    except OSError as error:
        raise TokensRefused(f"{place}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TokensRefused(f"{place}: expected ASCII text") from None


# ---- on their way ---------------------------------------------------------------------------------------------------


class Headers(Protocol):
    """Headers of a request, case-insensitive: the part of aiohttp's type (of package multidict) that is used here."""

    def get(self, key: str, /) -> str | None:
        """Return the first one of a name."""

    def getall(self, key: str, default: tuple[()], /) -> Sequence[str]:
        """Return all of a name, in order."""


def token_in(headers: Headers) -> str | None:
    """Return the token of a request, or None. Raises Refused for one that is sent in another way.

    Credentials of another scheme are none of ours: a proxy passes on those that it has checked itself (Basic).
    """
    found = [_of_header(text) for text in headers.getall("Authorization", ()) if _is_bearer(text)]
    protocols = headers.getall("Sec-WebSocket-Protocol", ())
    if len(protocols) > 1:  # aiohttp uses the first, and logs a warning
        raise Refused("bad_request", "Sec-WebSocket-Protocol: given twice")
    offered = [name.strip() for line in protocols for name in line.split(",")]
    if offered and SUBPROTOCOL not in offered:
        raise Refused("bad_request", f"Sec-WebSocket-Protocol: expected {SUBPROTOCOL}, or none")
    found += [_of_subprotocol(name) for name in offered if name.startswith(TOKEN_SUBPROTOCOL)]
    if len(found) > 1:
        raise Refused("bad_request", "more than one token in the request")
    return found[0] if found else None


def _is_bearer(text: str) -> bool:
    return text.lower().split(maxsplit=1)[:1] == ["bearer"]


def _of_header(text: str) -> str:
    token = text.strip()[len("bearer") :].strip()
    if not TOKEN.fullmatch(token):
        raise rejected_token()
    return token


def _of_subprotocol(name: str) -> str:
    code = name.removeprefix(TOKEN_SUBPROTOCOL)
    try:
        return base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise rejected_token() from None


def rejected_token() -> Refused:
    """Return the refusal of an unknown token."""
    return Refused(
        "unauthorized",
        "unknown token",
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )


# ---- access --------------------------------------------------------------------------------------------------------
# Peers, Host, Origin and tokens of a request.

log = logging.getLogger(__name__)

SO_PEERGROUPS = 59
"""linux/socket.h; Python has no name for it."""

MAX_GROUPS = 256
"""Groups that Python's getsockopt can return; of a user with more, only the primary group counts."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Peer of a connection."""

    key: Hashable
    """What its connections are counted for: a uid with its subordinates (Unix socket, loopback), or a TCP address."""
    role: Role
    unix: bool
    privileged: bool
    """Root or the group, on the Unix socket: no limit of its own, and reserved descriptors."""
    address: str = ""
    """Our address that a TCP client connected to."""
    port: int = 0
    tls: bool = False


class Checks(Enum):
    """What is checked of a request, apart from its role."""

    NONE = "none"
    """Programs that check the health of a service send any Host, or none (HTTP/1.0)."""
    HOST = "host"
    """Browsers send Origin with the page's own scripts, and a proxy may change Host; then the page must say so."""
    ALL = "all"


class Admitted(NamedTuple):
    """Role of a request, and the account that its turns and budgets are charged to."""

    role: Role
    account: Account


UNAUTHENTICATED: Account = "unauthenticated"
"""Account shared by all connections without a role."""

ORIGIN = re.compile(r"(https?)://((?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)")
"""RFC 6454, section 6.2, without anything that a lenient parser could take for another host."""

HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")

LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))


class Guard:
    """Checks connections and requests by `[access]`. Raises TokensRefused if its tokens cannot be used."""

    def __init__(self, access: config.Access) -> None:
        self.tokens = read_tokens(access.token_file)
        self._others = Role[access.others.upper()]
        self._hosts = frozenset(host.lower() for host in access.allowed_hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in access.allowed_origins)
        self._subordinates = read_subordinates()
        self.group = _gid(access.group)
        """Gid of `[access] group`; None if there is no such group."""

    def peer(self, sock: socket.socket, *, tls: bool = False) -> Peer:
        """Return the peer of a connection. Raises OSError if it is closed already."""
        if sock.family == socket.AF_UNIX:
            _, uid, gid = struct.unpack("3I", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            privileged = uid == 0 or (self.group is not None and self.group in (gid, *_groups(sock)))
            key = self._subordinates.account(uid)
            return Peer(key, Role.ADMIN if privileged else self._others, True, privileged)
        ours, theirs = _normalized(sock.getsockname()[0]), _normalized(sock.getpeername()[0])
        local = _is_loopback(ours) and _is_loopback(theirs)
        role = self._others if local else Role.NONE
        key = theirs
        if local:  # a user can connect from 16 million addresses of 127.0.0.0/8
            uid = peer_uid(sock)
            key = self._subordinates.account(uid) if uid is not None else "loopback"
        return Peer(key, role, False, False, ours, int(sock.getsockname()[1]), tls)

    def admit(self, peer: Peer, headers: Headers, checks: Checks = Checks.ALL) -> Admitted:
        """Return the role of a request (that of its token; without one, that of its peer) and its account.

        Refuses requests from a page of another site (FAULTS T5, T6), and unknown tokens. Without ALL checks, a token is
        not read.
        """
        hosts = [host.strip().lower() for host in headers.getall("Host", ())]
        if not peer.unix and checks is not Checks.NONE:
            self._check_host(peer, hosts)
        of_peer = Admitted(peer.role, peer.key if peer.role > Role.NONE else UNAUTHENTICATED)
        if checks is not Checks.ALL:
            return of_peer
        self._check_origin(peer, headers, hosts)
        token = token_in(headers)
        if token is None:
            return of_peer
        tokens = self.tokens.find(token)
        if tokens is None:
            raise rejected_token()
        # Another host can use any number of addresses, but only the tokens that it was given.
        return Admitted(tokens.role, peer.key if peer.role > Role.NONE else ("token", tokens.digest))

    def _check_origin(self, peer: Peer, headers: Headers, hosts: list[str]) -> None:
        origins = headers.getall("Origin", ())
        if origins and not (len(origins) == 1 and self._is_own_origin(peer, origins[0].strip().lower(), hosts)):
            raise Refused("forbidden", _foreign_origin(origins[0].strip().lower(), hosts))
        if (
            not origins
            and headers.get("Sec-Fetch-Site") == "cross-site"
            and headers.get("Sec-Fetch-Mode") != "navigate"
        ):
            # An image or script of another site's page: it can read no answer, but causes one (Fetch Metadata).
            raise Refused("forbidden", "cross-site requests are not allowed")

    def _check_host(self, peer: Peer, hosts: list[str]) -> None:
        found = HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            raise Refused("bad_request", "expected one valid Host header")
        name, port = found[1], int(found[2] or (443 if peer.tls else 80))
        ours = port == peer.port and (
            name == _bracketed(peer.address)
            or name in self._hosts
            or (_is_loopback(peer.address) and name in LOOPBACK_NAMES)
        )
        if not ours and hosts[0] not in self._hosts:
            raise Refused("bad_request", "unknown host name in the Host header ([access] allowed_hosts)", 421)

    def _is_own_origin(self, peer: Peer, origin: str, hosts: list[str]) -> bool:
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
        # Host is not checked on the Unix socket, and a reverse proxy may pass on any value.
        return authority in self._hosts or (name is not None and name[1] in self._hosts)


def _foreign_origin(origin: str, hosts: list[str]) -> str:
    if origin.partition("://")[2] in hosts:
        return f"this origin is not allowed: {origin[:64]!r} is not listed in [access] allowed_hosts or allowed_origins"
    return (
        f"this origin is not allowed: {origin[:64]!r} differs from the Host header {', '.join(hosts)[:64]!r}; a proxy "
        "must pass on Host unchanged; else add the origin to [access] allowed_origins"
    )


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        log.info("no group %s: only root has the role admin", group)
        return None


def _groups(sock: socket.socket) -> tuple[int, ...]:
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MAX_GROUPS * 4)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def _normalized(address: str) -> str:
    """Return an address without a zone, and a mapped one as IPv4."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return str(mapped or ip)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _is_loopback(address: str) -> bool:
    return bool(address) and ip_address(address).is_loopback
