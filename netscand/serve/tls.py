"""TLS on the TCP sockets: the certificate, and a transport that encrypts in bounded pieces (docs/adr/0042)."""

import asyncio
import os
import ssl
import stat
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from netscand import config
from netscand.serve.connection import PIECE, UNDECRYPTED, Connection
from netscand.serve.fair_turns import FairTurns
from netscand.serve.listen import ListenError

HANDSHAKE_TIMEOUT = 5.0
"""Seconds until the first bytes of a client, and again until its handshake is complete."""

LARGEST = 1 << 20
"""Maximum bytes read of a certificate or key."""

GROUP = "prime256v1"
"""The group for key exchange: each TLS 1.3 client has it (RFC 8446, section 9.1). OpenSSL's own list has ffdhe8192,
which costs 100 ms for each handshake of a client that asks for it; Python before 3.15 can set one group or all."""

RECORD = 16 * 1024
"""Maximum plaintext bytes in a record (RFC 8446, section 5.1)."""

FRAGMENT = 64
"""Minimum bytes of each part but the last of a ClientHello that is split into records: what the smallest clients send
(RFC 8449, section 4). Smaller ones would cost a turn each."""

CHANGE_CIPHER_SPEC, HANDSHAKE_RECORD = 20, 22
CLIENT_HELLO = 1

RETRY = sha256(b"HelloRetryRequest").digest()
"""Random value of a ServerHello that requests another ClientHello (RFC 8446, section 4.1.3)."""

_ciphertext = memoryview(bytearray(PIECE))
"""Filled and emptied within one call from the loop, so all connections share it."""


class BadCertificate(ListenError):
    """Certificate or key that cannot be used."""


def tls_context(listen: config.Listen) -> ssl.SSLContext:
    """Return the TLS settings of `[listen]`. Raises BadCertificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ecdh_curve(GROUP)
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, listen)
    return context


def load_certificate(context: ssl.SSLContext, listen: config.Listen) -> None:
    """Load certificate and key for connections from now on. Raises BadCertificate."""
    certificate, key = listen.tls_certificate, listen.tls_key
    if certificate is None or key is None:
        missing = "tls_key" if key is None else "tls_certificate"
        raise BadCertificate(f"[listen] {missing}: missing; tls_certificate and tls_key go together")
    with ExitStack() as open_files:
        certificate_file = _open("tls_certificate", Path(certificate), b"-----BEGIN CERTIFICATE-----", open_files)
        key_file = _open("tls_key", Path(key), b"PRIVATE KEY-----", open_files)
        pem = os.pread(key_file, LARGEST, 0)
        if b"ENCRYPTED" in pem:
            raise BadCertificate(f"[listen] tls_key: {key}: is encrypted; provide an unencrypted key")
        # By their descriptors: the files that were checked are loaded, even if the paths were replaced.
        pair = f"/proc/self/fd/{certificate_file}", f"/proc/self/fd/{key_file}", ""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)  # a bad pair must not be loaded in part
            context.load_cert_chain(*pair)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise BadCertificate(f"[listen] tls_key: {key}: is not the key of {certificate}") from None
            reason = (error.reason or "not understood").lower().replace("_", " ")
            raise BadCertificate(f"[listen] tls_certificate: {certificate}, or tls_key: {key}: {reason}") from None
        except OSError as error:
            raise BadCertificate(f"[listen] tls_certificate: {certificate}: {error.strerror}") from None


def _open(name: str, path: Path, mark: bytes, open_files: ExitStack) -> int:
    """Return a descriptor of a PEM file that other users may not use. Raises BadCertificate."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        open_files.callback(os.close, file)
        found = os.fstat(file)
        pem = os.pread(file, LARGEST, 0) if stat.S_ISREG(found.st_mode) else b""
    except OSError as error:
        raise BadCertificate(f"[listen] {name}: {path}: {error.strerror}") from None
    if mark not in pem:
        raise BadCertificate(f"[listen] {name}: {path}: expected PEM with a line {mark.decode()}")
    mode = stat.S_IMODE(found.st_mode)
    if name == "tls_key" and mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise BadCertificate(f"[listen] tls_key: {path}: mode {mode:04o} lets other users use it: chmod 0640 {path}")
    return file


def hello_record(start: bytes, rest: int) -> tuple[int, int]:
    """Return the size of the record that `start` begins, and how many bytes of the ClientHello follow it.

    `rest`: bytes of the ClientHello that the records before it left over; 0: it begins here, or another record comes
    before it. A size of 0: too few bytes to decide. OpenSSL allocates the size that a ClientHello claims, up to 128
    KiB, before the rest has come; so it may claim 16 KiB. Raises ValueError for more, and for anything else.
    """
    kind, size = start[0], int.from_bytes(start[3:5])
    if kind == CHANGE_CIPHER_SPEC and not rest:
        if len(start) < 5:
            return 0, 0
        if size == 1:
            return 6, 0
    elif kind == HANDSHAKE_RECORD:
        if len(start) < (5 if rest else 9):
            return 0, rest
        if not rest and start[5] == CLIENT_HELLO:
            rest = 4 + int.from_bytes(start[6:9])
        if min(rest, FRAGMENT) <= size <= rest <= RECORD:
            return 5 + size, rest - size
    raise ValueError("no ClientHello of at most 16 KiB")


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """TLS over a TCP transport: the protocol of that transport, and the transport of a Connection.

    The connection is counted from its beginning, including the handshake (FAULTS T16). OpenSSL gets a piece of at most
    PIECE bytes in a fair turn, of the handshake as of data. Until then, and while the connection does not read or the
    client does not take what it was sent, the rest waits in the kernel.
    """

    def __init__(self, context: ssl.SSLContext, connection: Connection, turns: FairTurns) -> None:
        super().__init__()
        self._context = context
        self._connection = connection
        self._turns = turns
        self._raw: asyncio.Transport
        self._timeout: asyncio.TimerHandle | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl: ssl.SSLObject | None = None
        """Set from the first bytes on."""
        self._established = False
        """The handshake is complete."""
        self._hello = True
        """The client has to send a ClientHello next."""
        self._left = self._rest = 0
        """Bytes of its record that OpenSSL has not got; and those in records that follow."""
        self._waiting = b""
        """Ciphertext that OpenSSL has not got."""
        self._undecrypted = 0
        """Bytes that OpenSSL got since it last returned plaintext: part of a record."""
        self._queued = self._raw_paused = self._reading_paused = self._slow = False

    # ---- protocol of the TCP transport ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start, unless the connection was aborted meanwhile."""
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        if self._connection.attach(transport):
            self._expect_handshake()

    def _expect_handshake(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        self._timeout = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT, self._raw.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything, without a reference cycle: memory is free at once."""
        if self._timeout is not None:
            self._timeout.cancel()
        self._waiting, self._ssl = b"", None
        if self._established:
            self._connection.connection_lost(exc)
        else:
            self._connection.leave()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the TCP transport."""
        return _ciphertext

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that were read, in a fair turn."""
        self._waiting += _ciphertext[:nbytes]
        self._schedule_next(at_once=True)

    def eof_received(self) -> None:
        """Close, like a plain connection, with or without the client's close_notify."""
        if self._established:
            self._connection.eof_received()
        self.close()

    def pause_writing(self) -> None:
        """Stop reading, too: the answers of TLS itself (key updates) must not pile up either."""
        self._slow = True
        if self._established:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Read again."""
        self._slow = False
        if self._established:
            self._connection.resume_writing()
        self._schedule_next()

    # ---- ciphertext to plaintext ------------------------------------------------------------------------------------

    def _schedule_next(self, *, at_once: bool = False) -> None:
        """Queue the next piece if there is one; read more only if there is none."""
        if self._raw.is_closing():
            return
        if self._hello and self._waiting and not self._left:
            try:
                self._left, self._rest = hello_record(self._waiting, self._rest)
            except ValueError:
                self._raw.abort()
                return
        if self._is_ready and not self._queued:
            self._queued = True
            (self._turns.do if at_once else self._turns.later)(self._connection.account, self._feed)
        if (paused := self._is_ready or self._reading_paused) != self._raw_paused:
            self._raw_paused = paused
            (self._raw.pause_reading if paused else self._raw.resume_reading)()

    @property
    def _is_ready(self) -> bool:
        """Return whether there is a piece for OpenSSL."""
        return bool(self._waiting) and (self._left > 0 or not self._hello)

    def _feed(self) -> bool:
        """Pass a piece to OpenSSL, and its plaintext to the connection."""
        self._queued = False
        if self._raw.is_closing() or self._reading_paused or self._slow:
            return False
        if self._ssl is None:
            self._ssl = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
            self._expect_handshake()
        size = self._left if self._hello else PIECE
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        if self._hello:
            self._left -= len(piece)
        self._undecrypted = len(piece) + (self._undecrypted if self._established else 0)
        self._incoming.write(piece)
        try:
            if not self._established:
                self._handshake(self._ssl)
            if self._established:
                self._read(self._ssl)
        except ssl.SSLError:  # caused by the client; OpenSSL has written an alert
            self._flush()
            self._raw.close()
        self._schedule_next()
        return True

    def _handshake(self, tls: ssl.SSLObject) -> None:
        with suppress(ssl.SSLWantReadError):
            tls.do_handshake()
            self._established = True
        if answer := self._outgoing.read():
            self._hello = answer[11:43] == RETRY
            self._raw.write(answer)
        if self._established and self._timeout is not None:
            self._timeout.cancel()
            self._connection.connection_made(self)

    def _read(self, tls: ssl.SSLObject) -> None:
        """Decrypt everything: a piece, and the record that it completes."""
        pieces, ended = [], False
        try:
            while not ended:
                pieces.append(tls.read(RECORD))
                ended = not pieces[-1]
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        self._flush()
        if plaintext := b"".join(pieces):
            self._undecrypted = 0
        while plaintext and not self._raw.is_closing():
            buffer = self._connection.get_buffer(-1)
            size = min(len(buffer), len(plaintext))
            buffer[:size], plaintext = plaintext[:size], plaintext[size:]
            self._connection.buffer_updated(size)
        if ended:
            self.eof_received()

    def _flush(self) -> None:
        if (ciphertext := self._outgoing.read()) and not self._raw.is_closing():
            self._raw.write(ciphertext)

    # ---- transport of the connection --------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as asyncio has it
        """Return the information of TLS, or of the TCP transport."""
        ours = {
            "sslcontext": self._context,
            "ssl_object": self._ssl,
            UNDECRYPTED: len(self._waiting) + self._undecrypted,
        }
        return ours[name] if name in ours else self._raw.get_extra_info(name, default)

    def is_reading(self) -> bool:
        """Return whether the connection reads."""
        return not (self._reading_paused or self._raw.is_closing())

    def pause_reading(self) -> None:
        """Pass nothing more to the connection."""
        self._reading_paused = True
        self._schedule_next()

    def resume_reading(self) -> None:
        """Pass bytes to the connection again."""
        self._reading_paused = False
        self._schedule_next()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt, record by record: OpenSSL's buffer never shrinks."""
        if self._ssl is None or self._raw.is_closing():
            return
        records = []
        try:
            for at in range(0, len(data), RECORD):
                self._ssl.write(data[at : at + RECORD])
                records.append(self._outgoing.read())
        except ssl.SSLError:
            self.abort()
        else:
            self._raw.write(records[0] if len(records) == 1 else b"".join(records))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write several pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return False: HTTP does not use half-closed connections."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set those of the TCP transport: no plaintext waits to be encrypted."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return those of the TCP transport."""
        return self._raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Return the encrypted bytes that the client has not taken."""
        return self._raw.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Return whether it is closed, or about to be."""
        return self._raw.is_closing()

    def close(self) -> None:
        """Send close_notify after what was written; the client's own is not awaited (RFC 8446, section 6.1)."""
        if self._established and self._ssl is not None and not self._raw.is_closing():
            with suppress(ssl.SSLError):  # it wants to read the client's, or finds data instead
                self._ssl.unwrap()
            self._flush()
        self._raw.close()

    def abort(self) -> None:
        """Close at once."""
        self._raw.abort()
