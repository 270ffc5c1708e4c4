"""TLS on the TCP sockets: the certificate, and the way from a TCP connection to one that is encrypted."""

import asyncio
import os
import ssl
import stat
from contextlib import ExitStack
from pathlib import Path

from netscand import config
from netscand.serve.connection import READ, Connection
from netscand.serve.fair import FairTurns
from netscand.serve.listen import ListenError

HANDSHAKE = 5.0
"""Seconds within which a client must have done its part."""

FAREWELL = 1.0
"""Seconds that it has to close in order."""

LARGEST = 1 << 20
"""Bytes of a certificate or key that are looked at."""


_first = memoryview(bytearray(READ))
"""Filled and emptied within one call of the loop, so all connections share it."""


class BadCertificate(ListenError):
    """A certificate or key that cannot be used."""


def tls_context(listen: config.Listen) -> ssl.SSLContext | None:
    """TLS as `[listen]` wants it; None where it wants none. Raises BadCertificate."""
    if listen.tls_certificate is None and listen.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, listen)
    return context


def load_certificate(context: ssl.SSLContext, listen: config.Listen) -> None:
    """Take certificate and key; connections that come from now on get them. Raises BadCertificate."""
    certificate, key = listen.tls_certificate, listen.tls_key
    if certificate is None or key is None:
        missing = "tls_key" if key is None else "tls_certificate"
        raise BadCertificate(f"[listen] {missing}: missing; tls_certificate and tls_key go together")
    with ExitStack() as open_files:
        held = _open("tls_certificate", Path(certificate), b"-----BEGIN CERTIFICATE-----", open_files)
        held_key = _open("tls_key", Path(key), b"PRIVATE KEY-----", open_files)
        pem = os.pread(held_key, LARGEST, 0)
        if b"ENCRYPTED" in pem:
            raise BadCertificate(
                f"[listen] tls_key: {key}: has a password, and a daemon cannot type it: store it without"
            )
        # By their descriptors: what is loaded is what was looked at, whatever the paths lead to by now.
        pair = f"/proc/self/fd/{held}", f"/proc/self/fd/{held_key}", ""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)  # a bad pair must not stay half
            context.load_cert_chain(*pair)
        except ssl.SSLError as wrong:
            if wrong.reason == "KEY_VALUES_MISMATCH":
                raise BadCertificate(f"[listen] tls_key: {key}: is not the key of {certificate}") from None
            said = (wrong.reason or "not understood").lower().replace("_", " ")
            raise BadCertificate(f"[listen] tls_certificate: {certificate}, or tls_key: {key}: {said}") from None
        except OSError as wrong:
            raise BadCertificate(f"[listen] tls_certificate: {certificate}: {wrong.strerror}") from None


def _open(name: str, path: Path, mark: bytes, open_files: ExitStack) -> int:
    """A descriptor of a file that holds what it should, and that others may not use."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        open_files.callback(os.close, file)
        found = os.fstat(file)
        pem = os.pread(file, LARGEST, 0) if stat.S_ISREG(found.st_mode) else b""
    except OSError as wrong:
        raise BadCertificate(f"[listen] {name}: {path}: {wrong.strerror}") from None
    if mark not in pem:
        raise BadCertificate(f"[listen] {name}: {path}: expected PEM, with a line {mark.decode()}")
    mode = stat.S_IMODE(found.st_mode)
    if name == "tls_key" and mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise BadCertificate(f"[listen] tls_key: {path}: its mode is {mode:04o}, others may use it: chmod 0640 {path}")
    return file


class Entrance:
    """Leads connections that the lobby admitted through their handshakes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._tasks: asyncio.TaskGroup | None = None
        self._early: list[tuple[asyncio.Transport, Connection, bytes]] = []

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for transport, connection, said in self._early:
                self.greet(transport, connection, said)
            self._early.clear()
            await asyncio.Event().wait()

    def greet(self, transport: asyncio.Transport, connection: Connection, said: bytes) -> None:
        """Begin a handshake of which `said` came already."""
        if self._tasks is None:
            self._early.append((transport, connection, said))
        else:
            self._tasks.create_task(self._shake_hands(transport, connection, said))

    async def _shake_hands(self, transport: asyncio.Transport, connection: Connection, said: bytes) -> None:
        loop = asyncio.get_running_loop()
        secure = None
        vestibule = transport.get_protocol()
        try:
            # Twice later: behind the beginning of TLS, and before anything else is read.
            loop.call_soon(loop.call_soon, _hand_on, transport, vestibule, said)
            secure = await loop.start_tls(
                transport,
                connection,
                self._context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE,
                ssl_shutdown_timeout=FAREWELL,
            )
        except OSError:  # ssl.SSLError and a handshake that takes too long are such, too
            pass
        finally:
            if secure is None:
                transport.abort()
                connection.leave()
        if secure is not None:
            connection.connection_made(secure)


def _hand_on(transport: asyncio.Transport, vestibule: asyncio.BaseProtocol, said: bytes) -> None:
    """Give TLS what was read before it began."""
    protocol = transport.get_protocol()
    if protocol is vestibule or transport.is_closing():
        return
    assert isinstance(protocol, asyncio.BufferedProtocol)
    while said:
        buffer = memoryview(protocol.get_buffer(len(said)))
        size = min(len(buffer), len(said))
        buffer[:size], said = said[:size], said[size:]
        protocol.buffer_updated(size)


class Vestibule(asyncio.BufferedProtocol):
    """A TCP connection before its TLS. It is counted from here on: nobody hides in a handshake (FAULTS T16).

    A handshake costs a third of a millisecond, for which it waits its turn, with what came first.
    """

    def __init__(self, connection: Connection, entrance: Entrance, turns: FairTurns) -> None:
        self._connection = connection
        self._entrance = entrance
        self._turns = turns
        self._transport: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or close it at once."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._connection.enter(transport, tls=True):
            self._late = asyncio.get_running_loop().call_later(HANDSHAKE, transport.abort)
        else:
            transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport reads to."""
        return _first

    def buffer_updated(self, nbytes: int) -> None:
        """Its first bytes came: they are for TLS, in a fair turn."""
        said, transport = bytes(_first[:nbytes]), self._transport
        if self._late is None or transport is None:
            return
        self._late.cancel()
        self._late = None
        transport.pause_reading()
        self._turns.do(self._connection.account, lambda: self._greet(transport, said))

    def _greet(self, transport: asyncio.Transport, said: bytes) -> bool:
        if transport.is_closing():
            self._connection.leave()
            return False
        self._entrance.greet(transport, self._connection, said)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone before its TLS began."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._connection.leave()
