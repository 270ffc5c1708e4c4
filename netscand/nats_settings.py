"""A connection to a NATS server, for both ends: the server's address, the key, the authority; and its end."""

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from netscand.config import ConfigError

if TYPE_CHECKING:
    from ssl import SSLContext

SEED = re.compile(r"SU[A-Z2-7]{56}")
"""Private half of an NKey of a user."""
PORT = 4222
CLOSE = 2.0
"""Seconds to close a connection; nats-py does not end where TLS failed."""
LIBRARIES = ("/usr/share/netscand/libraries", "/opt/netscand-sites")
"""Where nats-py is, which Debian lacks: that of the Debian package, or one of the administrator's."""
MISSING = {"nats", "nkeys", "nacl"}


def server_faults(url: str) -> Iterator[str]:
    """Yield a line if a value of `server` cannot be used."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("nats", "tls") and parts.hostname and (parts.port is None or parts.port > 0)
        if not valid or parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
            raise ValueError
    except ValueError:
        yield f"server {url!r}: expected nats://HOST:PORT or tls://HOST:PORT; see key_file"


def with_port(server: str) -> str:
    """Return the server with its port."""
    return server if urlsplit(server).port else f"{server.rstrip('/')}:{PORT}"


def find_library() -> None:
    """Let nats-py be found, behind everything else."""
    sys.path += [folder for folder in LIBRARIES if folder not in sys.path]


def host_and_port(server: str) -> tuple[str, int]:
    """Return the host and the port of a server."""
    parts = urlsplit(with_port(server))
    return parts.hostname or "", parts.port or PORT


def uses_tls(server: str) -> bool:
    """Return whether the connection is encrypted."""
    return urlsplit(server).scheme == "tls"


def seed(heading: str, key_file: str | None, credential: Path | None, made_by: str) -> str | None:
    """Return the private key in the file, else in the credential; None: there is none. Raises ConfigError."""
    path = Path(key_file) if key_file else credential
    if path is None or (key_file is None and not path.exists()):
        return None
    try:
        text = path.read_bytes().decode(errors="replace").strip()
    except OSError as error:
        raise ConfigError(f"{heading} key_file {str(path)!r}: cannot be read: {error.strerror}") from None
    if not SEED.fullmatch(text):
        raise ConfigError(f"{heading} key_file {str(path)!r}: expected a key made by {made_by}")
    return text


def tls(heading: str, server: str, ca_file: str | None) -> "SSLContext | None":
    """Return the TLS settings; None: no TLS. Raises ConfigError."""
    if not uses_tls(server):
        if ca_file:
            raise ConfigError(f"{heading} server {server!r}: ca_file needs tls://")
        return None
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigError(f"{heading} ca_file {ca_file!r}: cannot be used: {error.strerror or error}") from None
    except OSError as error:
        raise ConfigError(f"{heading} ca_file {ca_file!r}: cannot be read: {error.strerror}") from None


async def close(client: Any) -> None:  # noqa: ANN401 - nats-py is imported late
    """Close a connection, even if this task is cancelled meanwhile, which interrupts nats-py."""
    try:
        with suppress(Exception):
            async with asyncio.timeout(CLOSE):
                await client.close()
    finally:
        if client._transport is not None:  # undocumented; held by tests/core/test_libraries.py
            client._transport.close()
