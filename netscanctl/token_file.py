"""The token file of netscand: read, and changed line by line. It contains digests, so a token is shown only once."""

import errno
import fcntl
import os
import pwd
import re
import secrets
import stat
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from netscanctl.atomic_file import write_atomically
from netscanctl.client import Failure, NoDaemon, NotPermitted
from netscanctl.connect_hint import start_hint
from netscanctl.text import clean

CONFIG = Path("/etc/netscand/netscand.toml")
SERVICE_USER = "netscan"
"""User of the unit (systemd/netscand.sysusers)."""
ROLES = ("read", "scan", "admin")
LINE = re.compile(rf"\s*({'|'.join(ROLES)})\s+(\S+)(?:\s+sites=\S+)?(?:\s+#\s*(.*?))?\s*")
"""`ROLE TOKEN # DATE NAME`, or `sha256:` and the digest instead of the token; on a hub, perhaps then `sites=NAMES`."""
DATED = re.compile(r"(\d{4}-\d\d-\d\d) (.+)")
HEAD = "# Tokens of netscand. To create, list and revoke them: netscanctl token --help\n"
LONGEST_NAME = 64
LARGEST = 1 << 20
"""Maximum bytes that netscand reads."""
ID_DIGITS = 8


class TokenFile(NamedTuple):
    """Path of the token file, and the user and group of netscand, which reads it."""

    path: Path
    uid: int
    gid: int


class Entry(NamedTuple):
    """Line of a token file with a token."""

    line: int
    """Index in the list of lines."""
    role: str
    name: str
    """"" for a token without a comment."""
    added: str
    """Date; "" if it is not known."""
    digest: str

    @property
    def id(self) -> str:
        """Return the first digits of the digest."""
        return self.digest[:ID_DIGITS]


def token_file_of_config(given: str | None = None) -> TokenFile:
    """Return the token file of a netscand that is not running, by its configuration; None: the service's.

    Raises Failure if there is no such service or file.
    """
    config = Path(os.path.abspath(given)) if given else CONFIG
    path = config_key(config, "access", "token_file")
    if given and not config.exists():
        raise NoDaemon(f"netscand is not running, and there is no {config}", start_hint())
    return TokenFile(Path(path) if path else config.parent / "tokens", *_user_of(config, is_service=not given))


def _user_of(config: Path, *, is_service: bool) -> tuple[int, int]:
    """Return the user and group of the netscand with this configuration. ./dev run gives its folder to that user."""
    folder = os.stat(config.parent) if not is_service else None
    if folder is not None and folder.st_uid != 0:
        return folder.st_uid, folder.st_gid
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        if folder is not None:
            return 0, 0
        raise NoDaemon("netscand is not running, and not installed as a service", "start it first") from None
    return user.pw_uid, user.pw_gid


def config_key(config: Path, table: str, key: str) -> str:
    """Return the text of a key of a configuration; "" if it is missing. Raises Failure."""
    try:
        found = tomllib.loads(config.read_text()).get(table, {}) if config.exists() else {}
    except PermissionError:
        raise _denied(config) from None
    except (OSError, ValueError) as error:
        raise Failure(f"{config}: {error}", "to check it: netscand --check-config FILE") from None
    text = found.get(key) if isinstance(found, dict) else None
    return text if isinstance(text, str) else ""


def entries(lines: list[str]) -> list[Entry]:
    """Return the tokens of the lines of a file."""
    found = []
    for number, line in enumerate(lines):
        if (match := LINE.fullmatch(line)) is None:
            continue
        role, token, comment = match.groups(default="")
        digest = token.removeprefix("sha256:") if token.startswith("sha256:") else sha256(token.encode()).hexdigest()
        dated = DATED.fullmatch(comment)
        found.append(Entry(number, role, dated[2] if dated else comment, dated[1] if dated else "", digest))
    return found


def read_lines(path: Path) -> list[str]:
    """Return the lines of a token file; none if there is no file. Raises Failure."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Failure(f"{path} is not a file", "set [access] token_file to a file")
            return file.read(LARGEST).decode().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except PermissionError:
        raise _denied(path) from None
    except UnicodeDecodeError:
        raise Failure(f"{path}: expected UTF-8 text") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Failure(f"{path} is a link", "set [access] token_file to the file that it leads to") from None
        raise Failure(f"cannot read {path}: {error.strerror}") from None


def add_token(file: TokenFile, role: str, name: str | None) -> tuple[str, str]:
    """Add a new token to the file, which is created if it is missing; return its name and the token. Raises Failure."""
    token = secrets.token_urlsafe(32)
    added = ""

    def add(lines: list[str]) -> list[str]:
        nonlocal added
        names = {entry.name for entry in entries(lines)}
        added = checked_name(name, names) if name is not None else _free_name(role, names)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        today = datetime.now(UTC).date().isoformat()
        return [*(lines or [HEAD]), f"{role} sha256:{sha256(token.encode()).hexdigest()} # {today} {added}\n"]

    change(file, add)
    return added, token


def revoke_token(file: TokenFile, which: str) -> tuple[Entry, int]:
    """Remove the token with a name or id; return it, and how many are left. Raises Failure."""
    removed: list[Entry] = []
    left = 0

    def remove(lines: list[str]) -> list[str]:
        nonlocal left
        found = entries(lines)
        matches = [each for each in found if which in (each.name, each.id)]
        if len(matches) != 1:
            many = "no token" if not matches else f"{len(matches)} tokens"
            have = "have" if len(matches) > 1 else "has"
            raise Failure(f'{many} {have} the name or id "{which}"', "to see them: netscanctl token list; use the id")
        removed.extend(matches)
        left = len(found) - 1
        rest = lines[: matches[0].line] + lines[matches[0].line + 1 :]
        return rest if any(line.strip() for line in rest) else [HEAD]  # netscand refuses an empty file

    change(file, remove)
    return removed[0], left


def checked_name(name: str, taken: set[str]) -> str:
    """Return a name as it is stored. Raises Failure."""
    kept = " ".join(clean(name, LONGEST_NAME + 1).split())
    if not kept or len(kept) > LONGEST_NAME:
        raise Failure(f'--name "{name}": expected 1 to {LONGEST_NAME} printable characters')
    if kept in taken:
        raise Failure(f'there is a token "{kept}"', "use another name, or revoke that one first")
    return kept


def _free_name(role: str, taken: set[str]) -> str:
    return next(name for number in range(1, 2 + len(taken)) if (name := f"{role}-{number}") not in taken)


def change(file: TokenFile, edit: Callable[[list[str]], list[str]]) -> None:
    """Replace the file by its edited lines, with the owner and mode that netscand requires. Raises Failure."""
    if os.geteuid() not in (0, file.uid):
        raise _denied(file.path)
    try:
        with _locked(file.path.parent) as folder:
            lines = edit(read_lines(file.path))
            if (size := len("".join(lines).encode())) > LARGEST:
                raise Failure(f"{file.path} would have {size} bytes; netscand reads {LARGEST}", "revoke old tokens")
            owner = folder.st_uid if os.geteuid() == 0 else file.uid
            if owner not in (0, file.uid):
                raise Failure(
                    f"{file.path.parent} belongs to user {owner}, who could add a token", "use another folder"
                )
            # Group and mode let netscand read it, and no other user.
            write_atomically(
                file.path, lambda out: out.write("".join(lines).encode()), 0o600 if owner == file.uid else 0o640,
                owner=(owner, file.gid),
            )  # fmt: skip
    except PermissionError:
        raise _denied(file.path) from None
    except OSError as error:
        raise Failure(f"cannot write {file.path}: {error.strerror}") from None


@contextmanager
def _locked(folder: Path) -> Iterator[os.stat_result]:
    """Keep other processes that change a token file in this folder waiting; yield the state of the folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _denied(path: Path) -> NotPermitted:
    return NotPermitted(f"no permission to change {path}", "run it as root: sudo netscanctl token …")
