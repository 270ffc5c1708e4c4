"""The administrator's connection to the NATS server; starting and reloading the server."""

import asyncio
import logging
import os
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from netscand import nats_settings, sites
from netscand.hub import settings
from netscand.hub.places import SERVICE, Places

T = TypeVar("T")

ANSWER = 10.0
"""Seconds for an answer."""
START = 20.0
"""Seconds for the server to start, or to take a new configuration."""
FULL = f"if its disk was full: systemctl restart {SERVICE}"
"""What to do after that: the server ends JetStream then, and does not begin it again."""
STREAM_NOT_FOUND, STREAM_EXISTS = 10059, 10058
"""Error codes of JetStream."""


class ServerError(Exception):
    """The server cannot be reached, or refuses; the sentence says what to do."""


class Refused(ServerError):
    """The server does not accept the key."""


class LogServer:
    """A connection with the administrator's key, or another."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - nats-py is imported late
        self.client = client

    async def request(self, subject: str, content: object = None) -> dict[str, Any]:
        """Send a request to JetStream's API; return the answer, which may have an `error`. Raises ServerError."""
        answer = await self.raw(f"$JS.API.{subject}", b"" if content is None else msgspec.json.encode(content))
        found: dict[str, Any] = msgspec.json.decode(answer.data)
        return found

    async def raw(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> Any:  # noqa: ANN401
        """Send a request; return the message. Raises ServerError."""
        from nats.errors import Error, NoRespondersError

        try:
            return await self.client.request(subject, payload, timeout=ANSWER, headers=headers)
        except NoRespondersError:
            raise ServerError(
                f"the server does not run JetStream for this key: {FULL}; else netscand-hub init"
            ) from None
        except (Error, TimeoutError) as error:
            raise ServerError(f"no answer to {subject}: {error or 'timed out'}; {journal()}") from None

    async def make_stream(self, stream: dict[str, Any]) -> str:
        """Make a stream, or give it this configuration; return what was done. Raises ServerError."""
        name = stream["name"]
        found = await self.request(f"STREAM.INFO.{name}")
        if "error" in found:
            verb, done = "CREATE", "made"
        elif differences(found["config"], stream):
            verb, done = "UPDATE", "corrected"
        else:
            return "ready"
        if (answer := await self.request(f"STREAM.{verb}.{name}", stream)).get("error"):
            raise ServerError(f"stream {name}: the server refuses it: {answer['error'].get('description')}")
        return done


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return the keys of a stream's configuration that differ from what we want; the server adds others."""

    def same(key: str) -> bool:
        if key != "sources":
            return bool(found.get(key) == wanted[key])
        mine = [(one["name"], one.get("subject_transforms")) for one in wanted[key]]
        return [(one["name"], one.get("subject_transforms")) for one in found.get(key) or ()] == mine

    return [key for key in wanted if not same(key)]


def journal() -> str:
    """Return where to look."""
    return f"see journalctl -u {SERVICE}"


@asynccontextmanager
async def connect(
    table: settings.Hub, seed: str, *, inbox: str = "_INBOX", patience: float = 0
) -> AsyncIterator[LogServer]:
    """Connect with a key, tried again for so many seconds. Raises ServerError, Refused if it is the key."""
    from nats.aio.client import Client
    from nats.errors import Error

    until = time.monotonic() + patience
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it would warn at the end of each connection with TLS
    errors: list[Exception] = []

    async def keep(error: Exception) -> None:
        errors.append(error)

    while True:
        errors.clear()
        client = Client()
        try:
            async with asyncio.timeout(ANSWER):
                await client.connect(
                    nats_settings.with_port(table.server), name="netscand-hub administrator", allow_reconnect=False,
                    max_reconnect_attempts=1, reconnect_time_wait=0, connect_timeout=int(ANSWER), nkeys_seed_str=seed,
                    tls=nats_settings.tls("[hub]", table.server, table.ca_file), inbox_prefix=inbox, error_cb=keep,
                )  # fmt: skip
            break
        except (OSError, TimeoutError, Error) as error:
            await nats_settings.close(client)
            if time.monotonic() >= until:
                raise _why(table, [error, *errors]) from None
            await asyncio.sleep(0.2)
    try:
        yield LogServer(client)
    finally:
        await nats_settings.close(client)


def _why(table: settings.Hub, errors: list[Exception]) -> ServerError:
    """Return one sentence about a connection that failed."""
    text = "; ".join(str(error).removeprefix("nats: ").strip("'") for error in errors if str(error))
    if "authorization violation" in text.lower():
        return Refused(f"{table.server} refuses the key: netscand-hub init gives the server our keys again")
    if any(isinstance(error, ssl.SSLError) for error in errors) or "certificate" in text.lower():
        return ServerError(f"{table.server}: {text}; netscand-hub init makes the certificate again")
    if any(isinstance(error, ConnectionRefusedError) for error in errors) or "Connect call failed" in text:
        return ServerError(f"no NATS server runs at {table.server}: systemctl start {SERVICE}; {journal()}")
    return ServerError(f"cannot connect to {table.server}: {text or 'no answer'}; {journal()}")


def with_server(
    places: Places, table: settings.Hub, work: Callable[[LogServer], Awaitable[T]], *, patience: float = 0
) -> T:
    """Do this with the administrator's key. Raises ConfigError or ServerError."""
    seed = places.seed(places.file("admin.key"))

    async def run() -> T:
        async with connect(table, seed, patience=patience) as server:
            return await work(server)

    return asyncio.run(run())


async def make_streams(server: LogServer, size: int) -> dict[str, str]:
    """Make all streams; return what was done, by stream."""
    return {stream["name"]: await server.make_stream(stream) for stream in sites.streams(size=size)}


# ---- the process


def booted() -> bool:
    """Return whether systemd runs here (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def systemctl(*words: str) -> None:
    """Run systemctl. Raises ServerError."""
    program = shutil.which("systemctl") or "systemctl"
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if done.returncode:
        (*_, last) = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ServerError(f"systemctl {' '.join(words)}: {last}; see journalctl -u {words[-1]}")


def is_enabled(unit: str) -> bool:
    """Return whether a unit starts with this host."""
    program = shutil.which("systemctl") or "systemctl"
    done = subprocess.run([program, "is-enabled", "--quiet", unit], check=False)  # noqa: S603 - no shell
    return done.returncode == 0


def process(places: Places) -> int | None:
    """Return the process of the server; None if it does not run."""
    try:
        number = int(places.pid.read_text())
        name = Path(f"/proc/{number}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return number if name == "nats-server" else None  # the file may be older than the last start of this host


def reload(places: Places, table: settings.Hub, probe: str) -> None:
    """Let a running server read its configuration again; proved by the new key `probe`. Raises ServerError."""
    if (number := process(places)) is not None:
        os.kill(number, signal.SIGHUP)

    async def prove() -> None:
        async with connect(table, probe, patience=START):
            pass

    try:
        asyncio.run(prove())
    except Refused:
        raise ServerError(f"the server did not take its new configuration within {START:g} s; {journal()}") from None
