"""Each way to send, against a real receiver: what arrives, and what a refusal or a fault means."""

import ast
import asyncio
import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from netscanctl.services.notify import senders
from netscanctl.services.notify.compose import Composer
from netscanctl.services.notify.senders import Refused, Thread, TryAgain, make_sender, retry_after
from netscanctl.services.notify.settings import Channel, Rule
from netscanctl.services.notify.state import Entry
from netscand.config import ConfigError
from tests.ctl.messages import device, event
from tests.ctl.notify_receivers import Mails, Ntfy, free_port, listening, mail_server, message
from tests.serve.certificate import certificate

KEYS = ["whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3)]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file for a secret."""
    return tmp_path / "secret"


def channel(**keys: object) -> Channel:
    fields: dict[str, Any] = {}
    fields.update(keys)
    return Channel(**fields)


# ---- webhook


async def test_a_webhook_is_signed_as_the_standard_says(secret: Path) -> None:
    """With both keys while they are rotated: a receiver with either one verifies it; the id is that of the message."""
    secret.write_text(f"{KEYS[0]}\n{KEYS[1]}\n")
    with listening() as hooks:
        await make_sender("ops", channel(webhook=hooks.url, secret_file=str(secret)), None).send(message())
        post = hooks.next()
    assert post.headers["webhook-id"] == "k3f9-1"
    for key in KEYS[:2]:
        found: Any = Verifier(key).verify(post.body, post.headers)
        assert found["type"] == "netscand.discovered"
        assert found["data"]["title"] == "New device: host1"
    with pytest.raises(WebhookVerificationError):
        Verifier(KEYS[2]).verify(post.body, post.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(KEYS[0]).verify(post.body + b" ", post.headers)


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (400, True), (401, True), (403, True), (404, True), (410, True), (413, True), (301, True), (308, True),
        (408, False), (425, False), (429, False), (500, False), (502, False), (503, False),
    ],
)  # fmt: skip
async def test_a_status_is_a_refusal_or_another_attempt(answer: int, refused: bool) -> None:
    with listening((answer, {"Location": "http://127.0.0.1:1/"})) as hooks:
        with pytest.raises(Refused if refused else TryAgain, match=f"answered {answer}"):
            await make_sender("ops", channel(webhook=hooks.url), None).send(message())
        assert hooks.posts.qsize() == 1, "no redirect is followed"


@pytest.mark.parametrize("ends", [True, False])
async def test_a_status_counts_without_its_whole_body(monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    """The receiver closes the connection early, or sends no more: the refusal holds up nothing else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 1000\r\n\r\n")
        await writer.drain()
        if not ends:
            await release.wait()
        writer.close()

    release = asyncio.Event()
    monkeypatch.setattr(senders, "TIMEOUT", 1.0)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(Refused, match="answered 410"):
            await make_sender("ops", channel(webhook=url), None).send(message())
        release.set()


async def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    with listening((429, {"Retry-After": "17"})) as hooks, pytest.raises(TryAgain) as failure:
        await make_sender("ops", channel(webhook=hooks.url), None).send(message())
    assert failure.value.pause == 17
    now = 1_800_000_000.0
    assert retry_after(format_datetime(datetime.fromtimestamp(now + 90, UTC), usegmt=True), now) == 90
    assert retry_after(format_datetime(datetime.fromtimestamp(now - 90, UTC), usegmt=True), now) == 0
    assert retry_after("9" * 400, now) == senders.LONGEST_PAUSE
    assert [retry_after(text, now) for text in (None, "", "soon", "-1", "٣٣")] == [None, None, None, None, 33.0]


async def test_a_receiver_that_is_slow_or_away_or_not_trusted_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sentence that says which; a certificate is trusted by `ca_file`."""
    with pytest.raises(TryAgain, match=r"connection failed: Cannot connect to host 127\.0\.0\.1:\d+ \["):
        await make_sender("ops", channel(webhook=f"http://127.0.0.1:{free_port()}/"), None).send(message())
    files = certificate(tmp_path)
    with listening(certificate=files) as hooks:
        url = f"https://localhost:{hooks.port}/"
        with pytest.raises(TryAgain, match="certificate verify failed"):
            await make_sender("ops", channel(webhook=url), None).send(message())
        await make_sender("ops", channel(webhook=url, ca_file=files["tls_certificate"]), None).send(message())
        assert hooks.next().path == "/"
    monkeypatch.setattr(senders, "TIMEOUT", 0.2)
    with listening() as hooks:
        hooks.delay.clear()
        with pytest.raises(TryAgain, match=r"no answer within 0\.2 s"):
            await make_sender("ops", channel(webhook=hooks.url), None).send(message())


@pytest.mark.parametrize("text", ["x", "whsec_!", "whsec_AAAA", "\n".join(KEYS), KEYS[0].removeprefix("whsec_")])
def test_a_key_that_is_none_is_refused(secret: Path, text: str) -> None:
    secret.write_text(text)
    with pytest.raises(ConfigError, match=r"\[notify.channel.ops\] secret_file: expected one or two lines whsec_"):
        make_sender("ops", channel(webhook="https://x.example/", secret_file=str(secret)), None)


# ---- ntfy


@pytest.fixture
def ntfy(tmp_path: Path) -> Iterator[Ntfy]:
    server = Ntfy(tmp_path)
    server.start()
    yield server
    server.stop()


async def test_ntfy_shows_title_text_priority_and_link(ntfy: Ntfy) -> None:
    """In ntfy's own server; a name from the LAN is text, whatever is in it."""
    url = f"http://127.0.0.1:{ntfy.port}/netscand"
    hostile = 'Jörg\'s 📱 "x": a, b'
    for text in (hostile, "x" * 3500):
        title = f"New device: {hostile}"
        await make_sender("phone", channel(ntfy=url), None).send(message(title=title, text=text, priority="urgent"))
    first, second = ntfy.messages("netscand")
    assert (first["title"], first["message"]) == (f"New device: {hostile}", hostile)
    assert (first["priority"], first["click"]) == (5, "https://scan.lan/#a4:83:e7:00:00:07")
    assert first["tags"] == ["discovered"]
    assert len(second["message"]) == 3500


@pytest.mark.parametrize("letter", ["客", "📱", '"', "x"])
async def test_a_long_text_stays_a_message_of_ntfy(ntfy: Ntfy, letter: str) -> None:
    """No attachment, and no refusal: its limit is 4,096 bytes, not characters."""
    text = letter * 3500
    await make_sender("phone", channel(ntfy=f"http://127.0.0.1:{ntfy.port}/long"), None).send(
        message(title=letter * 250, text=text)
    )
    (found,) = ntfy.messages("long")
    assert "attachment" not in found
    assert text.startswith(found["message"].removesuffix("…"))
    assert len(found["message"].encode()) > 3300


async def test_ntfy_takes_a_token(ntfy: Ntfy, secret: Path) -> None:
    """A topic that only a user may write: refused without, accepted with the token."""
    ntfy.command("user", "add", "--role=admin", "netscand", NTFY_PASSWORD="for-a-test")
    ntfy.command("access", "everyone", "private", "deny")
    token = next(word for word in ntfy.command("token", "add", "netscand").split() if word.startswith("tk_"))
    url = f"http://127.0.0.1:{ntfy.port}/private"
    with pytest.raises(Refused, match="answered 403"):
        await make_sender("phone", channel(ntfy=url), None).send(message())
    secret.write_text(token.strip(","))
    await make_sender("phone", channel(ntfy=url, secret_file=str(secret)), None).send(message())


# ---- mail


def mail(port: int, **more: object) -> Channel:
    to = ("me@example.org", "you@example.org")
    keys = {"smtp": f"localhost:{port}", "sender": "netscand@example.org", "to": to, "tls": "none"}
    return channel(**keys | more)


async def test_a_mail_has_the_same_id_in_each_attempt() -> None:
    """A mail server, or its reader, sees that it is one mail."""
    mails = Mails("451 try later")
    with mail_server(mails) as port:
        sender = make_sender("mail", mail(port), None)
        with pytest.raises(TryAgain, match=r"answered 451 \(try later\)"):
            await sender.send(message(title="New device: Jörg's 📱\r\nBcc: x@example.org"))
        await sender.send(message(title="New device: Jörg's 📱"))
    found = mails.next()
    assert (found["Subject"], found["To"]) == ("New device: Jörg's 📱", "me@example.org, you@example.org")
    assert found["Message-ID"].startswith("<k3f9-1@netscand.")
    assert found["Date"] == "Mon, 23 Nov 2026 22:05:00 +0000"
    assert found["Auto-Submitted"] == "auto-generated"
    assert found.get_content().replace("\r\n", "\n") == "Apple, Inc.\n\nhttps://scan.lan/#a4:83:e7:00:00:07\n"


@pytest.mark.parametrize(
    "name", ["x\r\nBcc: all@example.org\r\n\r\nhello", "\x1b]0;owned\x07\u202eevil", "é" * 500, "客厅"]
)
def test_a_name_cannot_inject_headers_or_lines(name: str) -> None:
    """No header of its own, no line of its own."""
    about = event("discovered", device(9, hostname=name, vendor=name, reason=name))
    entry = Entry(event=about, at=0, channels=("mail",))
    found = senders.mail_of(Composer().message(Rule(), entry), mail(25))
    assert set(found.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type", "Content-Transfer-Encoding",
        "MIME-Version",
    }  # fmt: skip
    assert len(found.get_content().splitlines()) == 3
    assert found["Subject"].isprintable()


async def test_a_mail_that_is_refused_is_not_tried_again() -> None:
    with mail_server(Mails("554 no")) as port, pytest.raises(Refused, match=r"answered 554 \(no\)"):
        await make_sender("mail", mail(port), None).send(message())


async def test_a_mail_that_one_receiver_may_not_get_reaches_the_other() -> None:
    """The other one gets it once; the refusal is an error, or the attempt is repeated for the one that is missing."""
    mails = Mails()
    with mail_server(mails) as port:
        sender = make_sender("mail", mail(port), None)
        mails.recipients = {"you@example.org": ["451 greylisted", "451 greylisted"]}
        for _ in range(2):
            with pytest.raises(TryAgain, match=r"you@example\.org: answered 451 \(greylisted\)"):
                await sender.send(message())
        await sender.send(message())
        assert [mails.sent.pop(0) for _ in range(2)] == [["me@example.org"], ["you@example.org"]]
        mails.recipients = {"me@example.org": ["550 no such user"]}
        with pytest.raises(Refused, match=r"me@example\.org: answered 550 \(no such user\)"):
            await sender.send(message(2))
        assert mails.sent == [["you@example.org"]]
        await sender.send(message(3))
        assert mails.sent[1:] == [["me@example.org", "you@example.org"]]


async def test_mail_needs_tls_unless_it_is_switched_off(tmp_path: Path) -> None:
    """STARTTLS that is not offered, or a certificate that is not trusted, sends nothing."""
    import ssl

    files, mails = certificate(tmp_path), Mails()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files["tls_certificate"], files["tls_key"])
    with mail_server(mails) as port, pytest.raises(TryAgain, match="STARTTLS"):
        await make_sender("mail", mail(port, tls="starttls"), None).send(message())
    with mail_server(mails, tls_context=context) as port:
        with pytest.raises(TryAgain, match="certificate verify failed"):
            await make_sender("mail", mail(port, tls="starttls"), None).send(message())
        assert mails.mails.empty()
        trusted = mail(port, tls="starttls", ca_file=files["tls_certificate"])
        await make_sender("mail", trusted, None).send(message())
    assert mails.next()["Subject"] == "New device: host1"


# ---- in a thread


async def test_a_call_that_hangs_delays_only_its_channel() -> None:
    """No second thread is started beside one that hangs, and the loop is free."""
    import threading

    release, thread = threading.Event(), Thread(deadline=0.1)

    def hang() -> None:
        release.wait(60)

    with pytest.raises(TryAgain, match=r"no answer within 0\.1 s"):
        await thread.run(hang)
    with pytest.raises(TryAgain, match="has not ended yet"):
        await thread.run(lambda: None)
    release.set()
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        try:
            await thread.run(lambda: None)
            return
        except TryAgain:
            await asyncio.sleep(0.01)
    raise AssertionError("timeout")


async def test_the_next_call_may_follow_at_once() -> None:
    """Even before the thread of the one before is gone."""
    calls, thread = [], Thread()
    for number in range(2000):
        await thread.run(lambda number=number: calls.append(number))  # type: ignore[misc]
    assert calls == list(range(2000))


async def test_apprise_sends_to_its_urls(secret: Path) -> None:
    """A failure of any is another attempt: Apprise does not say whether it is permanent."""
    pytest.importorskip("apprise")
    with listening(204, 500) as hooks:
        secret.write_text(f"json://127.0.0.1:{hooks.port}/x\n")
        sender = make_sender("chat", channel(apprise=True, secret_file=str(secret)), None)
        await sender.send(message())
        assert hooks.next().data["title"] == "New device: host1"
        with pytest.raises(TryAgain, match="Apprise reports a failure"):
            await sender.send(message())
    secret.write_text("bogus://x\n")
    with pytest.raises(ConfigError, match="line 1 is not a URL that Apprise supports"):
        make_sender("chat", channel(apprise=True, secret_file=str(secret)), None)


def test_no_certificate_check_is_switched_off() -> None:
    """In no way to send."""
    tree = ast.parse(Path(senders.__file__).read_text())
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"CERT_NONE", "_create_unverified_context", "check_hostname", "verify_mode"}
