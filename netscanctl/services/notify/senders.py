"""Ways to send a message. Each attempt is accepted, refused permanently, or repeated later."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec

from netscanctl.client import Failure
from netscanctl.services.notify.settings import Channel, secret
from netscanctl.services.notify.state import Message
from netscanctl.text import clean
from netscand import __version__
from netscand.config import ConfigError

if TYPE_CHECKING:
    import aiohttp

TIMEOUT = 30.0
"""Seconds for one attempt by HTTP, and for one step of SMTP."""
WORDS_TIMEOUT = 2.0
"""Seconds for the first words of an answer that is no success."""
DEADLINE = 120.0
"""Seconds for one attempt in a thread."""
TRANSIENT = {408, 421, 425, 429}
"""HTTP statuses from 400 to 499 after which another attempt may succeed."""
LONGEST_PAUSE = 86_400.0
"""Maximum seconds of Retry-After."""
KEY_LENGTHS = range(24, 65)
"""Bytes of a webhook's key (Standard Webhooks 1.0.0)."""
NTFY_TEXT = 3500
"""Maximum bytes of a text for ntfy, which makes an attachment of 4,096 and refuses JSON of 8,192 (a quote is two)."""
NTFY_PRIORITY = {"min": 1, "low": 2, "default": 3, "high": 4, "urgent": 5}
SMTP_PORT = {"starttls": 587, "tls": 465, "none": 25}
MAIL_PRIORITY = {"min": "5", "low": "4", "high": "2", "urgent": "1"}


class Refused(Failure):
    """The receiver refuses the message permanently."""


class TryAgain(Failure):
    """The message was not accepted; another attempt may succeed, after `pause` seconds if the receiver says so."""

    def __init__(self, cause: str, pause: float | None = None) -> None:
        super().__init__(cause)
        self.pause = pause


class Sender(Protocol):
    """One channel."""

    async def send(self, message: Message) -> None:
        """Make one attempt. Raises Refused or TryAgain."""


def make_sender(name: str, channel: Channel, credentials: Path | None) -> Sender:
    """Return the sender of a channel. Raises ConfigError."""
    text = secret(name, channel, credentials)
    if faults := list(sender_faults(channel, text)):
        raise ConfigError(*(f"[notify.channel.{name}] {fault}" for fault in faults))
    match channel.ways:
        case ["ntfy"]:
            return Ntfy(channel, text)
        case ["webhook"]:
            return Webhook(channel, webhook_keys(text or ""))
        case ["smtp"]:
            return Smtp(channel, text)
    return AppriseSender((text or "").splitlines())


def sender_faults(channel: Channel, text: str | None) -> Iterator[str]:
    """Yield a line for each key that is missing, and for a secret of another form."""
    match channel.ways:
        case ["ntfy"] if text and (len(text.split()) != 1 or not text.isascii()):
            yield "secret_file: expected one access token of ntfy, such as tk_…"
        case ["webhook"] if text:
            try:
                webhook_keys(text)
            except ValueError:
                yield (
                    "secret_file: expected one or two lines whsec_…, each with 24 to 64 bytes in base64; to make one: "
                    'echo "whsec_$(openssl rand -base64 32)"'
                )
        case ["smtp"]:
            yield from (
                f"{key} is missing" for key, value in (("from", channel.sender), ("to", channel.to)) if not value
            )
            if (channel.user is None) != (text is None):
                yield "user and secret_file (its password): set both, or none"
            if channel.user and channel.tls == "none":
                yield 'tls "none": the password would be readable on the network; use "starttls" or "tls"'
        case ["apprise"]:
            if not text:
                yield "secret_file is missing: a file with the URLs of Apprise, one on each line"
            try:
                import apprise  # noqa: F401
            except ImportError:
                yield "apprise is not installed; to install it: apt install apprise, or pip install apprise"


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the settings of TLS; certificates are always verified. Raises ConfigError."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise ConfigError(f"ca_file {ca_file!r}: expected certificates in PEM") from None


# ---- HTTP


async def post(url: str, body: bytes, headers: dict[str, str], tls: ssl.SSLContext) -> None:
    """Send POST. Raises Refused or TryAgain."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    headers = {"Content-Type": "application/json", "User-Agent": f"netscand-notify/{__version__}", **headers}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False, ssl=tls) as answer,
        ):
            status, pause = answer.status, retry_after(answer.headers.get("Retry-After"), time.time())
            words = await _read_words(answer.content) if status >= 300 else ""
    except TimeoutError:
        raise TryAgain(f"no answer within {TIMEOUT:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        words = re.sub(r" ssl:(<[^>]*>|\w+)", "", str(error))  # aiohttp names an object of Python there
        raise TryAgain(f"connection failed: {clean(words, 200)}") from None
    if status < 300:
        return
    sentence = f"answered {status}{f' ({words})' if words else ''}"
    if status < 400:
        raise Refused(f"{sentence}, a redirect", "use the URL to which it leads")
    if status < 500 and status not in TRANSIENT:
        raise Refused(sentence)
    raise TryAgain(sentence, pause)


async def _read_words(body: "aiohttp.StreamReader") -> str:
    """Return the first words of a body; "" if they do not arrive: the status counts all the same."""
    import aiohttp

    with suppress(aiohttp.ClientError, OSError):  # TimeoutError is an OSError
        async with asyncio.timeout(WORDS_TIMEOUT):
            return clean((await body.read(500)).decode(errors="replace"), 100)
    return ""


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds of Retry-After, which are a number or a date (RFC 9110, 10.2.3); None if there is none."""
    pause = None
    if value and value.strip().isdecimal():
        pause = float(value[:12])
    elif value:
        with suppress(ValueError, TypeError):
            pause = parsedate_to_datetime(value).timestamp() - now
    return None if pause is None else min(max(pause, 0.0), LONGEST_PAUSE)


class Ntfy:
    """Topic of an ntfy server, published as JSON: headers could not hold every name."""

    def __init__(self, channel: Channel, token: str | None) -> None:
        self._server, _, self._topic = (channel.ntfy or "").rpartition("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = tls_context(channel.ca_file)

    async def send(self, message: Message) -> None:
        """Publish."""
        body = {
            "topic": self._topic, "title": message.title, "message": _cut(message.text or message.title, NTFY_TEXT),
            "priority": NTFY_PRIORITY[message.priority], "tags": [message.kind], "sequence_id": message.id,
            **({"click": message.link} if message.link else {}),
        }  # fmt: skip
        await post(f"{self._server}/", msgspec.json.encode(body), self._headers, self._tls)


def _cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` bytes; a cut one ends in `…`."""
    raw = text.encode()
    return text if len(raw) <= limit else raw[: limit - 3].decode(errors="ignore") + "…"


def webhook_keys(text: str) -> list[bytes]:
    """Return the keys of a webhook, one from each line. Raises ValueError."""
    keys = []
    for line in text.split():
        try:
            keys.append(base64.b64decode(line.removeprefix("whsec_"), validate=True))
        except binascii.Error:
            raise ValueError(line) from None
        if not line.startswith("whsec_") or len(keys[-1]) not in KEY_LENGTHS:
            raise ValueError(line)
    if len(keys) > 2:
        raise ValueError(text)
    return keys


class Webhook:
    """Receiver of JSON, signed as Standard Webhooks 1.0.0 if there are keys."""

    def __init__(self, channel: Channel, keys: list[bytes], clock: Callable[[], float] = time.time) -> None:
        self._url = channel.webhook or ""
        self._keys = keys
        self._clock = clock
        self._tls = tls_context(channel.ca_file)

    async def send(self, message: Message) -> None:
        """Post."""
        facts = {"title": message.title, "text": message.text, "link": message.link, "events": message.events}
        body = msgspec.json.encode({"type": f"netscand.{message.kind}", "timestamp": message.at, "data": facts})
        await post(self._url, body, self._headers(message.id, body), self._tls)

    def _headers(self, identifier: str, body: bytes) -> dict[str, str]:
        stamp = str(int(self._clock()))
        signed = b".".join((identifier.encode(), stamp.encode(), body))
        signatures = [
            "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in self._keys
        ]
        headers = {"webhook-id": identifier, "webhook-timestamp": stamp}
        return {**headers, **({"webhook-signature": " ".join(signatures)} if signatures else {})}


# ---- in a thread


class Thread:
    """Caller of blocking functions, with a deadline. A call that hangs delays only its own channel, and no exit."""

    def __init__(self, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._is_working = False

    async def run(self, work: Callable[[], None]) -> None:
        """Call `work`; return at its end. Raises TryAgain after the deadline, and what `work` raises."""
        if self._is_working:
            raise TryAgain("the previous attempt has not ended yet")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

        def call() -> None:
            error: BaseException | None = None
            try:
                work()
            except Exception as wrong:  # it is raised again where it is awaited
                error = wrong
            self._is_working = False  # before the caller goes on, and may send the next message
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, error)

        self._is_working = True
        threading.Thread(target=call, daemon=True).start()
        try:
            async with asyncio.timeout(self._deadline):
                await done
        except TimeoutError:  # of `work`, too
            raise TryAgain(f"no answer within {self._deadline:g} s") from None


class Smtp:
    """Mail server."""

    def __init__(self, channel: Channel, password: str | None) -> None:
        parts = urlsplit(f"//{channel.smtp}")
        self._channel, self._password = channel, password
        self._host, self._port = parts.hostname or "", parts.port or SMTP_PORT[channel.tls]
        self._tls = tls_context(channel.ca_file)
        self._thread = Thread()
        self._reached: tuple[str, set[str]] = ("", set())
        """Message that the server accepted for some receivers, and these: the next attempt is for the others."""

    async def send(self, message: Message) -> None:
        """Send a mail."""
        mail = mail_of(message, self._channel)
        if self._reached[0] != message.id:
            self._reached = (message.id, set())
        try:
            await self._thread.run(partial(self._deliver, mail, self._reached[1]))
        except smtplib.SMTPRecipientsRefused as error:
            # One that may be accepted later decides: the refusal of another one is the same in the next attempt.
            receiver, (code, words) = min(error.recipients.items(), key=lambda one: one[1][0] // 100)
            raise _smtp_failure(code, words, f"{receiver}: ") from None
        except smtplib.SMTPResponseException as error:
            raise _smtp_failure(error.smtp_code, error.smtp_error) from None
        except (OSError, smtplib.SMTPException) as error:
            raise TryAgain(f"connection failed: {clean(error, 200)}") from None

    def _deliver(self, mail: EmailMessage, reached: set[str]) -> None:
        """Send to those that are not reached yet. Raises SMTPRecipientsRefused also if only some are refused."""
        left = [receiver for receiver in self._channel.to if receiver not in reached]
        with self._connect() as server:
            if self._channel.tls == "starttls":
                server.starttls(context=self._tls)
            if self._channel.user and self._password:
                server.login(self._channel.user, self._password)
            refused = server.send_message(mail, to_addrs=left)
        reached.update(receiver for receiver in left if receiver not in refused)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)

    def _connect(self) -> smtplib.SMTP:
        if self._channel.tls == "tls":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT, context=self._tls)
        return smtplib.SMTP(self._host, self._port, timeout=TIMEOUT)


def _smtp_failure(code: int, words: bytes | str, receiver: str = "") -> Failure:
    text = words.decode(errors="replace") if isinstance(words, bytes) else words
    sentence = f"{receiver}answered {code} ({clean(text, 100)})"
    return Refused(sentence) if 500 <= code < 600 else TryAgain(sentence)


def mail_of(message: Message, channel: Channel) -> EmailMessage:
    """Return the mail; its Message-ID is the same in each attempt."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = channel.sender, ", ".join(channel.to), clean(message.title, 250)
    with suppress(ValueError):
        mail["Date"] = format_datetime(datetime.fromisoformat(message.at).astimezone(UTC))
    mail["Message-ID"] = f"<{message.id}@netscand.{socket.gethostname()}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no reply by a machine
    if message.priority in MAIL_PRIORITY:
        mail["X-Priority"] = MAIL_PRIORITY[message.priority]
    mail.set_content("\n\n".join(part for part in (message.text, message.link) if part) + "\n")
    return mail


class AppriseSender:
    """All services of Apprise, where it is installed. It says only whether all of its URLs accepted the message."""

    def __init__(self, urls: list[str], deadline: float = DEADLINE) -> None:
        import apprise

        self._target: Any = apprise.Apprise()
        for number, url in enumerate(urls, 1):
            if url.strip() and not self._target.add(url.strip()):
                raise ConfigError(f"secret_file: line {number} is not a URL that Apprise supports")
        self._thread = Thread(deadline)

    async def send(self, message: Message) -> None:
        """Notify."""
        body = "\n\n".join(part for part in (message.text or message.title, message.link) if part)
        accepted: list[bool] = []

        def notify() -> None:
            accepted.append(bool(self._target.notify(body=body, title=message.title)))

        await self._thread.run(notify)
        if accepted != [True]:
            raise TryAgain("Apprise reports a failure; its own message may be in the log")
