"""docs/recipes: each command, as it stands on its page, sends what the page says."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netscand.protocol import encode
from tests.ctl.conftest import ROOT, environment
from tests.ctl.fake_daemon import DEADLINE, FakeDaemon
from tests.ctl.messages import HOME, came, device, event, left
from tests.ctl.sinks import Broker, Hooks, Mails, listening

PAGES = sorted(path for path in (ROOT / "docs/recipes").glob("*.md") if "```sh\nnetscanctl" in path.read_text())
Recipe = Callable[..., None]


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where a program that a recipe calls is not installed; in CI it has to be."""
    missing = shutil.which(program) is None
    return pytest.mark.skipif(missing, reason=f"not installed: {program}; sudo ./dev setup --test installs it")


def command_of(page: Path) -> str:
    """The first command on a page."""
    found = re.search(r"```sh\n(netscanctl .*?)\n```", page.read_text(), re.DOTALL)
    assert found, f"{page.name}: no command"
    return found[1]


@pytest.fixture
def recipe(daemon: FakeDaemon, tmp_path: Path) -> Iterator[Recipe]:
    """Run the command of a page with other words in place of its own, in a folder of its own."""
    running: list[subprocess.Popen[bytes]] = []
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin/netscanctl"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m netscanctl "$@"\n')
    shim.chmod(0o755)
    env = environment(NETSCANCTL_SOCKET=str(daemon.socket), PYTHONPATH=str(ROOT))
    env["PATH"] = f"{tmp_path}/bin:{Path(sys.executable).parent}:{env['PATH']}"

    def run(name: str, **words: str) -> None:
        command = command_of(ROOT / f"docs/recipes/{name}.md")
        for old, new in words.items():
            assert old in command, f"{name}.md does not say {old}"
            command = command.replace(old, new)
        command = command.replace("docs/recipes/", f"{ROOT}/docs/recipes/")
        running.append(subprocess.Popen(["sh", "-c", command], cwd=tmp_path, env=env, start_new_session=True))
        daemon.until_watched(len(running))

    yield run
    for process in running:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(DEADLINE)


def test_each_recipe_has_a_test_and_a_line_in_the_list() -> None:
    listed = set(re.findall(r"\]\((\S+?\.md)\)", (ROOT / "docs/recipes/README.md").read_text()))
    assert {page.name for page in PAGES} == listed - {
        "../protocol.md",
        "../mqtt.md",
        "../notify.md",
        "home-assistant.md",
    }
    here = Path(__file__).read_text()
    assert not [page.name for page in PAGES if f'recipe("{page.stem}"' not in here]


# ---- a mail


def test_a_mail_for_a_new_device(recipe: Recipe, daemon: FakeDaemon) -> None:
    mails = Mails()
    with listening(mails.session) as port:
        recipe("mail", **{"mail.example.org": f"127.0.0.1:{port}"})
        named = event("renamed", device(9, hostname="janes-phone"), "k3f9-3", previous={"hostname": None})
        daemon.send(left(device(7, "offline")), event("discovered", device(9, hostname=None)), named)
        mail = mails.next()
    assert mail["Subject"] == "new device: janes-phone (Apple, Inc.), 192.168.1.9"
    assert (mail["From"], mail["To"]) == ("netscand@example.org", "me@example.org")
    assert mail.get_content().splitlines() == [
        "janes-phone, Apple, Inc.", "MAC      a4:83:e7:00:00:09", f"address  192.168.1.9 on {HOME}",
        "since    2026-11-24 07:05:00, answered a probe",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["x\r\nBcc: all@example.org\r\n\r\nhello", "\x1b]0;owned\x07\u202eevil", "é" * 500, "客厅"]
)
def test_a_name_cannot_inject_headers_or_lines(name: str) -> None:
    """No header of its own, no line of its own."""
    mails = Mails()
    about = event("discovered", device(9, hostname=name, vendor=name, reason=name))
    with listening(mails.session) as port:
        done = mail_of(encode(about), port)
        assert (done.returncode, done.stderr) == (0, b"")
        mail = mails.next()
    assert mail.keys() == ["From", "To", "Subject", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    assert len(mail.get_content().splitlines()) == 4
    assert mail["Subject"].isprintable()


def test_a_mail_has_a_link_to_the_page() -> None:
    mails = Mails()
    with listening(mails.session) as port:
        assert mail_of(encode(event("discovered", device(9))), port, "--page", "http://nas:8000/").returncode == 0
        assert "page     http://nas:8000/#a4:83:e7:00:00:09" in mails.next().get_content().splitlines()


def mail_of(event: bytes, port: int, *more: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "docs/recipes/mail.py", "--smtp", f"127.0.0.1:{port}", "--from", "a@b.example", "--to",
         "c@d.example", *more], cwd=ROOT, input=event, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def test_an_event_of_a_network_sends_no_mail() -> None:
    assert mail_of(encode(event("network_down")), 1).returncode == 0


def test_a_device_known_before_it_was_seen_sends_no_mail() -> None:
    """FIELD case 26."""
    assert mail_of(encode(event("discovered", device(1, known=True))), 1).returncode == 0


# ---- a webhook


@needs("curl")
def test_a_webhook(recipe: Recipe, daemon: FakeDaemon) -> None:
    """Also where the first attempt is turned away for a while."""
    hooks = Hooks(503)
    sent = left(device(7, "offline", hostname="$(reboot)"))
    with listening(hooks.request) as port:
        recipe("webhook", **{"https://hooks.example.org": f"http://127.0.0.1:{port}"})
        daemon.send(sent)
        posts = [hooks.came.get(timeout=DEADLINE) for _ in range(2)]
    assert [(post.path, post.kind, post.body.rstrip()) for post in posts] == [
        ("/netscand", "application/json", encode(sent))
    ] * 2


# ---- ntfy


@needs("curl")
def test_a_message_by_ntfy(recipe: Recipe, daemon: FakeDaemon, tmp_path: Path) -> None:
    """With the name that arrived later; a shell runs nothing of it."""
    hooks = Hooks()
    evil = f'$(touch {tmp_path}/owned)"; touch {tmp_path}/owned; `touch {tmp_path}/owned`'
    named = event("renamed", device(9, hostname=evil), "k3f9-3", previous={"hostname": None})
    with listening(hooks.request) as port:
        recipe("ntfy", **{"https://ntfy.example.org": f"http://127.0.0.1:{port}"})
        daemon.send(event("discovered", device(9, hostname=None)), named)
        post = hooks.came.get(timeout=DEADLINE)
    assert (post.path, post.body.decode()) == ("/my-topic", f"{evil} (Apple, Inc.) at 192.168.1.9")
    assert not (tmp_path / "owned").exists()


# ---- MQTT


@pytest.fixture
def broker() -> Iterator[tuple[Broker, str]]:
    """A broker, and the options of mosquitto_pub for it."""
    made = Broker()
    with listening(made.session) as port:
        yield made, f"127.0.0.1 -p {port}"


@needs("mosquitto_pub")
def test_an_mqtt_message(recipe: Recipe, daemon: FakeDaemon, broker: tuple[Broker, str]) -> None:
    made, address = broker
    sent = came(device(8))
    recipe("mqtt", **{"broker.example.org": address})
    daemon.send(sent)
    (message,) = made.messages(1).items()
    assert (message[0], message[1].rstrip()) == ("netscand/events", encode(sent))


@needs("mosquitto_pub")
def test_options_in_a_file_reach_the_broker_from_a_service(
    recipe: Recipe, daemon: FakeDaemon, broker: tuple[Broker, str], tmp_path: Path
) -> None:
    """A user of DynamicUser= has no home: the lines of the page lead mosquitto_pub to the folder of the credentials."""
    made, address = broker
    page = (ROOT / "docs/recipes/mqtt.md").read_text()
    (credential,) = re.findall(r"^LoadCredential=(\w+):", page, re.MULTILINE)
    (variable,) = re.findall(r"^Environment=(\w+)=%d$", page, re.MULTILINE)
    (tmp_path / credential).write_text(f"-p {address.split()[-1]}\n")
    recipe("mqtt", **{"mosquitto_pub -h broker.example.org": f"env {variable}={tmp_path} mosquitto_pub -h 127.0.0.1"})
    daemon.send(came(device(8)))
    assert made.messages(1)
