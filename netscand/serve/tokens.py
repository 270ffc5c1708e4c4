"""Tokens: where they are kept, how they travel, how they are compared (FAULTS T2, T18).

Only their digests are kept here. A token never stands in a message, an error or the log.
"""

import base64
import binascii
import hmac
import os
import re
import stat
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Protocol

from netscand.serve.answers import Refused
from netscand.serve.rights import Role

SHORTEST, LONGEST = 32, 512
"""Characters of a token. 32 of them, made at random, are not found by trying."""

MOST = 1024
"""Tokens; each request is compared with every one."""

LARGEST = 1 << 20
"""Bytes of the file."""

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What may follow `Bearer` (RFC 6750, section 2.1)."""

CREDENTIAL = "tokens"
"""The systemd credential (systemd.exec(5), LoadCredential=)."""

SUBPROTOCOL = "netscand"
"""What a WebSocket's client may ask for, and is answered (RFC 6455, section 1.9)."""

CARRIER = f"{SUBPROTOCOL}.token."
"""Followed by a token in base64url: a browser's WebSocket can send no other header."""


class TokensRefused(Exception):
    """Tokens that cannot be used; one line that names the file and the mend, and no token."""


class Token(NamedTuple):
    """As much of a token as is kept."""

    digest: bytes
    role: Role


class Tokens:
    """Who holds one of these has its role."""

    def __init__(self, held: tuple[Token, ...] = ()) -> None:
        self._held = held

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._held)

    def find(self, token: str) -> Token | None:
        """The token, if it is one of ours. Takes as long for one as for the other."""
        digest = sha256(token.encode()).digest()
        found: Token | None = None
        for held in self._held:
            if hmac.compare_digest(held.digest, digest):
                found = held
        return found


def read_tokens(file: str | None, environment: Mapping[str, str] = os.environ) -> Tokens:
    """The tokens of `[access] token_file` and of the systemd credential. Raises TokensRefused."""
    held: list[Token] = []
    if file is not None:
        held += _parsed(Path(file), f"[access] token_file: {file}")
    if folder := environment.get("CREDENTIALS_DIRECTORY"):
        credential = Path(folder, CREDENTIAL)
        if credential.exists():
            held += _parsed(credential, f"credential {CREDENTIAL}")
    if len({token.digest for token in held}) < len(held):
        raise TokensRefused(f"{file or f'credential {CREDENTIAL}'}: a token is given twice")
    if len(held) > MOST:
        raise TokensRefused(f"{file}: more than {MOST} tokens")
    return Tokens(tuple(held))


def _parsed(path: Path, place: str) -> list[Token]:
    held = []
    for number, line in enumerate(_text(path, place).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        wrong = _what_is_wrong(words)
        if wrong:
            raise TokensRefused(f"{place}: line {number}: {wrong}")
        held.append(Token(sha256(words[1].encode()).digest(), Role[words[0].upper()]))
    if not held:
        raise TokensRefused(f"{place}: no token in it; expected lines of a role and a token")
    return held


def _what_is_wrong(words: list[str]) -> str:
    if len(words) != 2:
        return "expected a role and a token, with a blank between them"
    role, token = words
    if role not in ("read", "scan", "admin"):
        return "expected the role read, scan or admin at its beginning"
    if not SHORTEST <= len(token) <= LONGEST:
        return (
            f"the token has {len(token)} characters, expected {SHORTEST} to {LONGEST}: make one by openssl rand -hex 32"
        )
    if not TOKEN.fullmatch(token):
        return "the token may hold letters, digits and . _ ~ + / - only, and = at its end"
    return ""


def _text(path: Path, place: str) -> str:
    """The file, if nobody else may read or change it."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise TokensRefused(f"{place}: not a file")
            if stat.S_IMODE(found.st_mode) & ~0o640:
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise TokensRefused(f"{place}: its mode is {mode}, so others may use its tokens: chmod 0640 {path}")
            if found.st_uid not in (0, os.geteuid()):
                raise TokensRefused(
                    f"{place}: it belongs to the user {found.st_uid}, who may add a token: chown root {path}"
                )
            if found.st_size > LARGEST:
                raise TokensRefused(f"{place}: larger than {LARGEST} bytes")
            return file.read(LARGEST).decode("ascii")
    except OSError as wrong:
        raise TokensRefused(f"{place}: {wrong.strerror}") from None
    except UnicodeDecodeError:
        raise TokensRefused(f"{place}: expected letters of ASCII only") from None


# ---- on their way ---------------------------------------------------------------------------------------------------


class Headers(Protocol):
    """Headers of a request, by name in whatever case: what is used of aiohttp's type, which is another package's."""

    def get(self, key: str, /) -> str | None:
        """The first of that name."""

    def getall(self, key: str, default: tuple[()], /) -> Sequence[str]:
        """All of that name, in order."""


def token_in(headers: Headers) -> str | None:
    """The token that a request carries; None where it carries none. Refuses one that is carried otherwise."""
    carried = [_of_header(text) for text in headers.getall("Authorization", ())]
    protocols = headers.getall("Sec-WebSocket-Protocol", ())
    if len(protocols) > 1:  # aiohttp reads the first, and would tell its log of it
        raise Refused("bad_request", "Sec-WebSocket-Protocol: given twice")
    offered = [name.strip() for line in protocols for name in line.split(",")]
    if offered and SUBPROTOCOL not in offered:
        raise Refused("bad_request", f"Sec-WebSocket-Protocol: expected {SUBPROTOCOL}, or none")
    carried += [_of_subprotocol(name) for name in offered if name.startswith(CARRIER)]
    if len(carried) > 1:
        raise Refused("bad_request", "a token is given twice")
    return carried[0] if carried else None


def _of_header(text: str) -> str:
    scheme, _, token = text.strip().partition(" ")
    if scheme.lower() != "bearer" or not TOKEN.fullmatch(token.strip()):
        raise unknown()
    return token.strip()


def _of_subprotocol(name: str) -> str:
    code = name.removeprefix(CARRIER)
    try:
        return base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise unknown() from None


def unknown() -> Refused:
    """The answer to a token that is none of ours."""
    return Refused(
        "unauthorized",
        "this token is not accepted here",
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )
