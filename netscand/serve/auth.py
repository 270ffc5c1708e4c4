"""Authentication and roles: peers, tokens, Host and Origin."""

import base64
import binascii
import grp
import hmac
import logging
import os
import pwd
import re
import socket
import stat
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple, Protocol

from netscand import config
from netscand.checkout import for_checkout
from netscand.serve.fair_turns import Account
from netscand.serve.http import Refused
from netscand.serve.peer_uid import loopback_uid, read_subordinates, unix_peer

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
# Only their digests are kept, and a file may contain only these. No message, error or log entry contains a token.

LARGEST = 1 << 20
"""Maximum bytes of the token file."""

SHORTEST, LONGEST = 32, 512
"""Characters of a token. 32 random ones cannot be guessed."""

MAX_TOKENS = 1024
"""Maximum number of tokens; each request is compared with all of them."""

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""Syntax after `Bearer` (RFC 6750, section 2.1)."""

DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
"""Digest of a token, in place of the token: a copy of the file permits nothing."""

SITES = "sites="
"""Word after a token that is limited to sites of a hub: `sites=home,cabin`."""

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
    sites: frozenset[str] | None = None
    """Sites that it is limited to, on a hub of sites; None: all."""


class Tokens:
    """Set of tokens. `configured`: they have a file, which may be empty, because the last one was revoked."""

    def __init__(self, tokens: tuple[Token, ...] = (), *, configured: bool = False) -> None:
        self._tokens = tokens
        self.configured = configured or bool(tokens)

    def __len__(self) -> int:
        """Return their number."""
        return len(self._tokens)

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
    configured = file is not None
    if file is not None:
        tokens += _parsed(Path(file), f"[access] token_file: {file}")
    if folder := environment.get("CREDENTIALS_DIRECTORY"):
        credential = Path(folder, config.CREDENTIAL)
        if credential.exists():
            configured = True
            tokens += _parsed(credential, f"credential {config.CREDENTIAL}")
    if len({token.digest for token in tokens}) < len(tokens):
        raise TokensRefused(f"{file or f'credential {config.CREDENTIAL}'}: the same token is in it twice")
    if len(tokens) > MAX_TOKENS:
        raise TokensRefused(f"{file}: more than {MAX_TOKENS} tokens")
    return Tokens(tuple(tokens), configured=configured)


def _parsed(path: Path, place: str) -> list[Token]:
    tokens = []
    text = _text(path, place)
    if not text.strip():  # as after a full disk; a comment says that no token is wanted
        raise TokensRefused(f"{place}: empty; {for_checkout('to create a token: netscanctl token add ROLE')}")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        error = _line_error(words)
        if error:
            raise TokensRefused(f"{place}: line {number}: {error}")
        digest = DIGEST.fullmatch(words[1])
        known = bytes.fromhex(digest[1]) if digest else sha256(words[1].encode()).digest()
        tokens.append(Token(known, Role[words[0].upper()], _sites(words)))
    return tokens


def _sites(words: list[str]) -> frozenset[str] | None:
    """Return the sites that a line of the file limits its token to."""
    if len(words) > 2 and words[2].startswith(SITES):
        return frozenset(words[2].removeprefix(SITES).split(","))
    return None


def _line_error(words: list[str]) -> str:
    limited = len(words) > 2 and words[2].startswith(SITES)
    rest = words[3 if limited else 2 :]
    if len(words) < 2 or (rest and not rest[0].startswith("#")):
        return "expected `ROLE TOKEN`, separated by a space, and a comment after `#` if you like"
    if limited and not all(re.fullmatch(r"[A-Za-z0-9_-]{1,32}", site) for site in _sites(words) or ()):
        return f"expected names of sites, as in {SITES}home,cabin"
    role, token = words[:2]
    if role not in ("read", "scan", "admin"):
        return "expected the role read, scan or admin"
    if DIGEST.fullmatch(token):
        return ""
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
            return file.read(LARGEST).decode()
    except OSError as error:
        raise TokensRefused(f"{place}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TokensRefused(f"{place}: expected UTF-8 text") from None


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
    page_is_admin: bool = False
    """Root or a member of the group, on loopback, and `[access] loopback_admin`: our own page has the role admin."""


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
    sites: frozenset[str] | None = None
    """Sites of a hub that it may see; None: all."""


UNAUTHENTICATED: Account = "unauthenticated"
"""Account shared by all connections without a role."""

ORIGIN = re.compile(r"(https?)://((?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)")
"""RFC 6454, section 6.2, without anything that a lenient parser could take for another host."""

HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")

LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))

PROXY_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP")
"""Headers that a proxy adds: then the uid of the connection is not that of the browser."""


def own_names(name: str) -> frozenset[str]:
    """Return the names of a host called `name` that other hosts use: with its domain, without, and that of mDNS."""
    full = name.lower().rstrip(".")
    short = full.partition(".")[0]
    if short in ("", "localhost"):
        return frozenset()
    return frozenset(each for each in (full, short, f"{short}.local") if HOST.fullmatch(each))


class Guard:
    """Checks connections and requests by `[access]`. Raises TokensRefused if its tokens cannot be used."""

    def __init__(self, access: config.Access) -> None:
        self.tokens = read_tokens(access.token_file)
        self._others = Role[access.others.upper()]
        self._hosts = frozenset(host.lower() for host in access.allowed_hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in access.allowed_origins)
        self._own_names = own_names(socket.gethostname())
        self._subordinates = read_subordinates()
        self._own_uid = os.geteuid()
        """Uid of this process: it may change the process and its files anyway."""
        self._page_admins = {0, self._own_uid, *group_members(access.group)} if access.loopback_admin else frozenset()
        self.group = _gid(access.group)
        """Gid of `[access] group`; None if there is no such group."""

    @property
    def names(self) -> list[str]:
        """Host names in URLs that other hosts may use, beside the addresses of this one."""
        return sorted(self._own_names | self._hosts)

    def peer(self, sock: socket.socket, *, tls: bool = False) -> Peer:
        """Return the peer of a connection. Raises OSError if it is closed already."""
        if sock.family == socket.AF_UNIX:
            uid, groups = unix_peer(sock)
            privileged = uid in (0, self._own_uid) or (self.group is not None and self.group in groups)
            key = self._subordinates.account(uid)
            return Peer(key, Role.ADMIN if privileged else self._others, True, privileged)
        ours, theirs = _normalized(sock.getsockname()[0]), _normalized(sock.getpeername()[0])
        local = _is_loopback(ours) and _is_loopback(theirs)
        role = self._others if local else Role.NONE
        key, page_is_admin = theirs, False
        if local:  # a user can connect from 16 million addresses of 127.0.0.0/8
            owner = loopback_uid(sock)
            key = self._subordinates.account(owner) if owner is not None else "loopback"
            page_is_admin = owner in self._page_admins
        return Peer(key, role, False, False, ours, int(sock.getsockname()[1]), tls, page_is_admin)

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
            return Admitted(Role.ADMIN, peer.key) if self._is_admins_page(peer, headers, hosts) else of_peer
        tokens = self.tokens.find(token)
        if tokens is None:
            raise rejected_token()
        # Another host can use any number of addresses, but only the tokens that it was given.
        account = peer.key if peer.role > Role.NONE else ("token", tokens.digest)
        return Admitted(tokens.role, account, tokens.sites)

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

    def _is_admins_page(self, peer: Peer, headers: Headers, hosts: list[str]) -> bool:
        """Return whether a request comes from our own page, opened on this host by root or a member of the group.

        Only from that page: no other page of localhost, under no other name than those that always lead to loopback,
        and through no proxy.
        """
        if not peer.page_is_admin or any(headers.get(name) is not None for name in PROXY_HEADERS):
            return False
        if (name := HOST.fullmatch(hosts[0])) is None or name[1] not in LOOPBACK_NAMES:
            return False
        origin = headers.get("Origin")  # browsers send none with a GET to their own origin
        if origin is None:
            return headers.get("Sec-Fetch-Site") == "same-origin"
        return origin.strip().lower() == f"{'https' if peer.tls else 'http'}://{hosts[0]}"

    def _check_host(self, peer: Peer, hosts: list[str]) -> None:
        found = HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            raise Refused("bad_request", "expected one valid Host header")
        name, port = found[1], int(found[2] or (443 if peer.tls else 80))
        ours = port == peer.port and (
            name == _bracketed(peer.address)
            or name in self._hosts
            # Not on loopback, where a page has a role without a token: only DNS says that these names are ours.
            or name in (LOOPBACK_NAMES if _is_loopback(peer.address) else self._own_names)
        )
        if not ours and hosts[0] not in self._hosts:
            message = f"unknown host name in the Host header: {hosts[0][:64]!r} ([access] allowed_hosts)"
            raise Refused("bad_request", message, 421)

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
        log.info("no group %s: only root and the user of this process have the role admin", group)
        return None


def group_members(group: str) -> frozenset[int]:
    """Return the uids of the members of a group, also of those whose primary group it is."""
    try:
        found = grp.getgrnam(group)
    except KeyError:
        return frozenset()
    return frozenset(
        user.pw_uid for user in pwd.getpwall() if user.pw_gid == found.gr_gid or user.pw_name in found.gr_mem
    )


def _normalized(address: str) -> str:
    """Return an address without a zone, and a mapped one as IPv4."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return str(mapped or ip)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _is_loopback(address: str) -> bool:
    return bool(address) and ip_address(address).is_loopback
