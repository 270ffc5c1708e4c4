"""netscand-hub init, add-site, remove-site and doctor, with a real NATS server: what each key may do, and what not."""

import asyncio
import gc
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import Error, NoRespondersError

from netscand import __version__, nats_settings, protocol, sites
from netscand.hub import administration, doctor, log_server
from netscand.hub.places import Places, make_authority
from netscand.hub.server_config import Keys, accounts
from tests.ctl.fake_daemon import DEADLINE
from tests.engines.hub_process import Follower, Hub, until
from tests.engines.hub_server import HubServer, free_port, new_public_key
from tests.engines.mosquitto import wait
from tests.engines.simulated_site import SimulatedSite
from tests.lab.spaces import ROOT, temporary_folder

# nats-py leaves the socket of a connection that the server refused to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

MINE, OTHERS = "netscan.v1.house.device.a483e7000007", "netscan.v1.school.device.a483e7000008"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect within the test what it leaves."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    """A server with the sites house and school, for tests that change neither."""
    folder = temporary_folder("hub")
    made = HubServer(folder, "house", "school")
    yield made
    made.kill()
    shutil.rmtree(folder)


@pytest.fixture
def own(folder: Path) -> Iterator[HubServer]:
    """A server with the site house, for one test."""
    made = HubServer(folder, "house")
    yield made
    made.kill()


def run(work: Awaitable[Any]) -> Any:  # noqa: ANN401
    """To its end."""

    async def limited() -> Any:  # noqa: ANN401
        return await asyncio.wait_for(work, DEADLINE)

    return asyncio.run(limited())


async def request(client: Client, subject: str, content: object = None) -> dict[str, Any]:
    """One request; an answer without content is {}."""
    answer = await client.request(subject, b"" if content is None else json.dumps(content).encode(), timeout=5)
    found: dict[str, Any] = json.loads(answer.data or b"{}")
    return found


async def refused(errors: list[str], words: str) -> None:
    """Wait until the server has refused something with these words."""
    while not any(words in one for one in errors):
        await asyncio.sleep(0.01)


def test_the_server_is_set_up_by_two_commands(hub: HubServer) -> None:
    """TLS, an fsync for each message, bounds; private files are private; the public ones have no private key."""
    text = hub.places.file("server.conf").read_text()
    assert {"sync_interval: always", 'min_version: "1.2"', "max_payload: 131072"} < {
        line.partition("#")[0].strip() for line in text.splitlines()
    }
    secret = {path.name for path in hub.places.folder.iterdir() if path.is_file() and not path.stat().st_mode & 0o077}
    assert secret >= {"admin.key", "hub.key", "ca.key", "server.key", "keys.json"}
    public = hub.places.file("accounts.conf").read_text() + hub.config.read_text()
    assert not nats_settings.SEED.search(public)
    assert hub.request(f"STREAM.INFO.{sites.LOG}")["config"]["max_bytes"] == 2**30
    assert "next, start the server" in hub.said


def test_a_site_joins_by_one_command_at_each_end(hub: HubServer) -> None:
    """The private key stays there; the file of the services keeps everything else."""
    table = hub.uplink("house")
    assert (table["server"], table["site"]) == (f"tls://localhost:{hub.port}", "house")
    assert Path(table["key_file"]).stat().st_mode & 0o777 == 0o600
    assert Path(table["ca_file"]).read_text() == hub.places.file("ca.pem").read_text()
    shipped = (
        '# mine\n[daemon]\nsocket = "/x"\n\n[uplink]\n# The server.\n#server = "nats://localhost:4222"\nwords = true\n'
        '[mqtt]\nsite = "m"\n'
    )
    hub.site("office").write_text(shipped)
    hub.at_site("office", *hub.hub("add-site", "office").split()[2:], "--no-start")
    text = hub.site("office").read_text()
    assert [line for line in shipped.splitlines() if line not in text.splitlines()] == [
        '#server = "nats://localhost:4222"'
    ]
    found = tomllib.loads(text)
    assert (found["mqtt"], found["uplink"]["words"], found["uplink"]["site"]) == ({"site": "m"}, True, "office")


def test_a_key_does_what_an_uplink_does(hub: HubServer) -> None:
    """Publish with an acknowledgement, read its own cursor, become the owner, live, and obey the hub."""

    async def work() -> None:
        site, reader = await hub.connect("house"), await hub.connect("hub")
        heard: asyncio.Queue[str] = asyncio.Queue()

        async def alive(message: Any) -> None:  # noqa: ANN401
            heard.put_nowait(message.subject)

        async def obey(message: Any) -> None:  # noqa: ANN401
            await message.respond(b'{"ok":true}')

        await reader.subscribe(sites.alive_subject("*"), cb=alive)
        await reader.flush()
        assert "seq" in await request(site, MINE, {})
        assert "error" not in await request(site, sites.owner_subject("house"), {})
        for subject in sites.rights("house")["publish"]:
            if subject.startswith("$JS."):
                await request(site, subject.replace(".>", f".{MINE.removeprefix('netscan.v1.house.')}"))
        await site.publish(sites.alive_subject("house"), b"{}")
        assert await heard.get() == sites.alive_subject("house")
        await site.subscribe(sites.command_subject("house"), cb=obey)
        await site.flush()
        assert await request(reader, sites.command_subject("house"), {}) == {"ok": True}
        await site.close()
        await reader.close()

    run(work())


FORBIDDEN = (
    OTHERS, sites.site_subject("school"), sites.alive_subject("school"), sites.command_subject("school"),
    sites.owner_subject("school"), f"$JS.API.DIRECT.GET.{sites.LOG}.{OTHERS}", f"$JS.API.DIRECT.GET.{sites.LOG}",
    f"$JS.API.DIRECT.GET.{sites.CURSOR}.{sites.cursor_subject('school')}", f"$JS.API.DIRECT.GET.{sites.STATE}.{OTHERS}",
    f"$JS.API.DIRECT.GET.KV_{sites.OWNER}.{sites.owner_subject('school')}",
    *(f"$JS.API.STREAM.{verb}.{sites.LOG}" for verb in ("INFO", "PURGE", "DELETE", "UPDATE", "MSG.GET", "MSG.DELETE")),
    f"$JS.API.CONSUMER.CREATE.{sites.LOG}", f"$JS.API.CONSUMER.CREATE.{sites.LOG}.x.{MINE}", "$JS.API.INFO",
    "$JS.API.STREAM.NAMES", "$JS.API.STREAM.CREATE.OTHER", "$SYS.REQ.SERVER.PING",
    "netscan.dead.house", "_INBOX_school.x",
)  # fmt: skip


def test_a_sites_key_publishes_nothing_else(hub: HubServer) -> None:
    """The server refuses each subject by name."""

    async def work() -> None:
        errors: list[str] = []
        site = await hub.connect("house", errors)
        for subject in FORBIDDEN:
            errors.clear()
            await site.publish(subject, b"{}")
            await refused(errors, "permissions violation for publish")
        await site.close()

    run(work())


def test_a_sites_key_hears_nothing_else(hub: HubServer) -> None:
    """Neither the log, nor another site, nor its inbox, nor its signs of life."""

    async def work() -> None:
        errors: list[str] = []
        site = await hub.connect("house", errors)
        for subject in (
            ">",
            "netscan.>",
            "netscan.v1.*.alive",
            "netscan.v1.school.command",
            "_INBOX_school.>",
            "$KV.>",
        ):
            errors.clear()
            await site.subscribe(subject)
            await refused(errors, "permissions violation for subscription")
        await site.close()

    run(work())


def test_the_server_answers_a_site_nowhere_else(hub: HubServer) -> None:
    """Permissions do not limit where an answer goes: without accounts, one sent by a site purges or deletes the log."""

    async def work() -> None:
        site, school, reader = await hub.connect("house"), await hub.connect("school"), await hub.connect("hub")
        assert "seq" in await request(school, OTHERS, {"mine": True})
        heard: list[str] = []

        async def hear(message: Any) -> None:  # noqa: ANN401
            heard.append(message.subject)

        await reader.subscribe(sites.alive_subject("*"), cb=hear)
        await school.subscribe(sites.command_subject("school"), cb=hear)
        await school.subscribe(f"{sites.inbox('school')}.>", cb=hear)
        await reader.flush()
        await school.flush()
        api = "$JS.API.STREAM"
        for victim in (
            OTHERS, sites.site_subject("school"), sites.alive_subject("school"), sites.command_subject("school"),
            sites.owner_subject("school"), f"{sites.inbox('school')}.x", f"{api}.PURGE.{sites.LOG}",
            f"{api}.DELETE.{sites.LOG}", f"{api}.DELETE.{sites.STATE}", f"{api}.CREATE.OTHER",
        ):  # fmt: skip
            for subject in (MINE, f"$JS.API.DIRECT.GET.{sites.LOG}.{MINE}"):
                await site.publish(subject, b"", reply=victim)
        await site.flush()
        assert "seq" in await request(site, MINE, {})
        await reader.flush()
        await school.flush()
        assert heard == []
        for client in (site, school, reader):
            await client.close()

    before = hub.subjects()
    run(work())
    after = hub.subjects()
    assert after[OTHERS] == before.get(OTHERS, 0) + 1
    assert set(after) == {MINE, OTHERS}
    assert "error" not in hub.request(f"STREAM.INFO.{sites.STATE}")
    assert "error" in hub.request("STREAM.INFO.OTHER")


def test_the_hubs_key_reads_and_commands(hub: HubServer) -> None:
    """It cannot write an event, nor change a stream; a site's entry neither."""

    async def work() -> None:
        errors: list[str] = []
        reader = await hub.connect("hub", errors)
        assert "error" not in await request(reader, f"$JS.API.STREAM.INFO.{sites.LOG}")
        for subject in (
            MINE, sites.site_subject("house"), sites.alive_subject("house"), sites.owner_subject("house"),
            *(f"$JS.API.STREAM.{verb}.{sites.LOG}" for verb in ("PURGE", "DELETE", "UPDATE", "MSG.DELETE")),
        ):  # fmt: skip
            errors.clear()
            await reader.publish(subject, b"{}")
            await refused(errors, "permissions violation for publish")
        await reader.close()

    run(work())


def test_without_tls_or_our_authority_there_is_no_connection(hub: HubServer) -> None:
    """The server speaks only TLS, and clients trust only its authority."""
    with socket.create_connection(("127.0.0.1", hub.port)) as plain:
        info = json.loads(plain.recv(4096).partition(b" ")[2].partition(b"\r\n")[0])
        assert info["tls_required"] is True
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


def test_a_revoked_key_is_out_at_once_and_others_stay(own: HubServer) -> None:
    """Its connection ends; the other site and the hub notice nothing. Its data goes only with --purge."""
    own.join("school")

    async def work(step: Callable[[], Awaitable[None]]) -> None:
        house, school, reader = await own.connect("house"), await own.connect("school"), await own.connect("hub")
        assert "seq" in await request(house, MINE, {})
        assert "seq" in await request(school, OTHERS, {})
        await step()
        while house.is_connected:
            await asyncio.sleep(0.02)
        with pytest.raises(Error):
            await own.connect("house")
        assert "seq" in await request(school, OTHERS, {})
        assert "error" not in await request(reader, f"$JS.API.STREAM.INFO.{sites.LOG}")
        for client in (school, reader):
            assert client.is_connected
            await client.close()

    async def revoke() -> None:
        said = await asyncio.to_thread(own.hub, "remove-site", "house")
        assert "its key is revoked" in said

    run(work(revoke))
    removed = sites.site_subject("house")
    assert own.subjects() == {MINE: 1, OTHERS: 2, removed: 1}
    assert "site house: 2 messages deleted" in own.hub("remove-site", "house", "--purge")
    for stream, left in ((sites.LOG, 2), (sites.STATE, 1)):
        assert own.subjects(stream) == {OTHERS: left, removed: 1}
    for name in ("house", "hause"):
        assert f"NAME {name}: no such site; known: school" in own.hub("remove-site", name, "--purge", code=78)
    own.join("house")


def test_a_purge_that_cannot_be_complete_deletes_nothing(own: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A derived stream that does not follow the log would keep, or get later, what is deleted in the log."""

    async def publish() -> None:
        house = await own.connect("house")
        assert "seq" in await request(house, MINE, {})
        await house.close()

    run(publish())
    (state,) = (stream for stream in sites.streams(size=2**30) if stream["name"] == sites.STATE)
    own.request(f"STREAM.UPDATE.{sites.STATE}", state | {"sources": []})
    monkeypatch.setattr(administration, "START", 0.5)
    said = own.hub("remove-site", "house", "--purge", code=69)
    assert f"stream {sites.STATE} does not copy the log, so nothing was deleted" in said
    assert own.subjects()[MINE] == 1
    own.hub("doctor", "--repair")
    monkeypatch.undo()
    assert "site house: 2 messages deleted" in own.hub("remove-site", "house", "--purge")
    assert MINE not in {**own.subjects(), **own.subjects(sites.STATE)}


class OwnHub(Hub):
    """The hub of a server that netscand-hub has set up."""

    def __init__(self, server: HubServer) -> None:
        self.folder, self.config = server.folder, server.config
        self.socket, self.log = server.folder / "hub.sock", server.folder / "hub.log"
        self.process = None


async def test_hubs_and_clients_notice_that_a_site_is_removed(own: HubServer) -> None:
    """At once; a client that resumes, and a hub that starts later; and that it is added again, and publishes."""
    await asyncio.to_thread(own.join, "school")
    hub, table = OwnHub(own), {name: own.uplink(name) for name in ("house", "school")}

    def published(name: str) -> SimulatedSite:
        url, seed = f"tls://localhost:{own.port}", Path(own.uplink(name)["key_file"]).read_text().strip()
        return SimulatedSite(url, name, seed, own.folder, ca_file=table[name]["ca_file"])

    async def names() -> list[str]:
        return [each["site"] for each in (await hub.get("/api/sites"))["sites"]]

    hub.start()
    client, later = Follower(), Follower()
    try:
        await hub.ready()
        async with asyncio.TaskGroup() as group:
            running = {name: group.create_task(published(name).run(None)) for name in table}  # type: ignore[arg-type]
            following = [group.create_task(each.follow(hub)) for each in (client, later)]
            await until(lambda: len(client.devices) == len(later.devices) == 6)
            following[1].cancel()
            await asyncio.to_thread(own.hub, "remove-site", "house")
            await until(lambda: client.events and client.events[-1].kind == "site_removed")
            assert {site for site, _ in client.devices} == {"school"}
            gone = [each for each in client.events if each.site == "house"][-4:]
            assert [each.kind for each in gone] == [*["forgotten"] * 3, "site_removed"]
            assert await names() == ["school"]
            assert {site for site, _ in await hub.devices()} == {"school"}
            hub.end()
            hub.start()
            await hub.ready()
            assert await names() == ["school"]
            following[1] = group.create_task(later.follow(hub))
            await until(lambda: len(later.devices) == 3)
            assert (later.snapshots, {site for site, _ in later.devices}) == (1, {"school"})
            running.pop("house").cancel()
            await asyncio.to_thread(own.join, "house")
            await until(lambda: "house" in later.sites)
            assert later.sites["house"].problems == ["never_published"]
            running["house"] = group.create_task(published("house").run(None))  # type: ignore[arg-type]
            await until(lambda: len(later.devices) == 6)
            assert await names() == ["house", "school"]
            for task in (*following, *running.values()):
                task.cancel()
    finally:
        hub.close()


def test_init_again_repairs(own: HubServer) -> None:
    """A stream, a certificate, the accounts; keys and authority stay, and sites need nothing new."""
    authority, keys = own.places.file("ca.pem").read_bytes(), own.places.file("keys.json").read_bytes()
    assert own.hub("init").count(": ready\n") == 4
    own.request(f"STREAM.DELETE.{sites.CURSOR}")
    own.places.file("accounts.conf").unlink()
    own.places.file("server.pem").write_bytes(b"")
    said = own.hub("init")
    assert f"stream {sites.CURSOR}: made" in said
    assert "the server's certificate, for localhost" in said
    assert own.places.file("ca.pem").read_bytes() == authority
    assert json.loads(keys) | {"probe": ""} == json.loads(own.places.file("keys.json").read_bytes()) | {"probe": ""}
    run(_closed(own, "house"))


async def _closed(server: HubServer, name: str) -> None:
    await (await server.connect(name)).close()


def test_the_doctor_finds_and_rebuilds_what_was_restored_differently(own: HubServer) -> None:
    """The streams that are made of the log are ahead of it; wrong configuration; wrong rights; each with the remedy."""

    async def publish(count: int) -> None:
        site = await own.connect("house")
        for number in range(count):
            message = await site.request(
                MINE, b"{}", timeout=5, headers={sites.MESSAGE_ID: f"{os.urandom(4).hex()}-{number}"}
            )
            assert b"seq" in message.data
        await site.close()

    run(publish(2))
    assert "failed" not in own.hub("doctor")
    own.kill()
    shutil.copytree(own.places.store, own.folder / "copy")
    own.start()
    run(publish(3))
    wait("derived", lambda: own.request(f"STREAM.INFO.{sites.STATE}")["state"]["last_seq"] >= 5)
    wait("derived", lambda: own.request(f"STREAM.INFO.{sites.CURSOR}")["state"]["last_seq"] >= 5)
    own.kill()
    (log,) = own.places.store.glob(f"**/streams/{sites.LOG}")
    shutil.rmtree(log)
    shutil.copytree(next((own.folder / "copy").glob(f"**/streams/{sites.LOG}")), log)
    own.start()
    config = own.request(f"STREAM.INFO.{sites.LOG}")["config"]
    own.request(f"STREAM.UPDATE.{sites.LOG}", config | {"max_age": 10**12})
    own.places.file("accounts.conf").write_text("x")
    said = own.hub("doctor", code=1)
    assert f"{sites.STATE} and {sites.CURSOR}: different from the log" in said
    assert "max_age is 1000000000000" in said
    assert "does not match keys.json" in said
    own.hub("doctor", "--repair")
    report = json.loads(own.hub("doctor", "--json"))
    assert report["ok"]
    assert {one["check"] for one in report["checks"] if one["verdict"] != "ok"} == {"hub"}
    assert own.subjects() == {MINE: 2}


def test_the_doctor_rebuilds_last_values_that_are_missing(own: HubServer) -> None:
    """One value is missing in the middle, which the ends of the streams do not show; the hub notices the repair."""
    own.join("school")

    async def publish() -> None:
        house, school = await own.connect("house"), await own.connect("school")
        assert "seq" in await request(house, MINE, {})
        assert "seq" in await request(school, OTHERS, {})
        await house.close()
        await school.close()

    run(publish())
    wait("derived", lambda: own.request(f"STREAM.INFO.{sites.STATE}")["state"]["messages"] == 2)
    own.request(f"STREAM.MSG.DELETE.{sites.STATE}", {"seq": 1})
    assert f"{sites.STATE}: different from the log" in own.hub("doctor", code=1)
    assert f"{sites.STATE}: created again from the log" in own.hub("doctor", "--repair")
    wait("derived", lambda: own.request(f"STREAM.INFO.{sites.STATE}")["state"]["messages"] == 2)
    assert "failed" not in own.hub("doctor")


def test_the_doctor_asks_the_hub_for_its_sites(own: HubServer) -> None:
    """A wrong clock, another version (whose text controls no terminal, T8), a silent site; and that no hub runs.

    The hub lists a site that published nothing, until it is removed.
    """
    own.join("school")
    said = own.hub("doctor")
    (line,) = [one for one in said.splitlines() if "netscand-hub is not running" in one]
    assert line.startswith("warning  hub ")
    assert str(own.folder / "hub.sock") in line
    argv = [sys.executable, "-m", "netscand.hub", "--config", str(own.config)]
    with (own.folder / "hub.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=ROOT)

    async def live() -> None:
        site = await own.connect("house")
        alive = sites.Alive(
            cursor=None, now="2001-02-03T04:05:06Z", instance="x", version="0.0.9\x1b[31m\n", backlog=0, commands=False
        )
        while "the site's clock" not in await asyncio.to_thread(own.hub, "doctor"):
            await site.publish(sites.alive_subject("house"), protocol.encode(alive))
            await site.flush()
        await site.close()

    try:
        run(live())
        said = own.hub("doctor")
        own.hub("remove-site", "school")
        assert own.request(f"STREAM.INFO.KV_{sites.OWNER}")["state"]["messages"] == 1
    finally:
        process.terminate()
        process.wait()
    assert "0 of 2 are connected, have this version" in said
    assert re.search(r"house: the site's clock is \d+ s behind\n.* set the clock there", said)
    assert f"house: the site has netscand 0.0.9\ufffd[31m\ufffd, this hub {__version__}\n" in said
    assert "school: it was added, and the log has no event of it\n" in said
    assert said.count("school") == 1


def test_silent_sites_are_named_in_one_line() -> None:
    """At most five of them, since when, and how many others."""
    counts = protocol.Counts(online=0, offline=0, unknown=1)
    found = [
        protocol.Site(
            site=f"s{number}", state="silent", problems=[], why=[], since="2026-11-30T08:09:10.5Z", cursor=None,
            version=None, instance=None, backlog=0, clock_offset=None, commands=False, devices=counts, networks=0,
        )
        for number in range(7)
    ]  # fmt: skip
    for expected in ([f"s{number}" for number in range(7)], None):  # None: the keys cannot be read
        ((word, by_site),) = doctor.problems(found, expected)
        assert (word, len(by_site), by_site["s6"]) == ("silent", 7, "silent since 2026-11-30 08:09 UTC")
    brought_back = dict(doctor.problems(found, [f"s{number}" for number in range(6)]))["no_key"]
    assert brought_back == {"s6": "it has no key; a restore of the server's disk brings it back"}


def test_errors_name_the_place_and_what_to_do(hub: HubServer, folder: Path) -> None:
    """Wrong names and keys, a name that is taken, another port; nothing is changed."""
    before = hub.places.file("keys.json").read_bytes()
    public, house = new_public_key(), json.loads(before)["sites"]["house"]
    for words, expected in (
        (("add-site", "a.b"), "NAME 'a.b': expected 1 to 32 letters, digits, - or _"),
        (("add-site", "x", "--key", "Uxx"), "--key 'Uxx': expected a public key, U and 55 characters"),
        (("add-site", "x", "--key", "SUAxx"), "--key (hidden): expected a public key, U and 55 characters; that is"),
        (("add-site", "x", "--key", house), f"--key {house}: already the key of house"),
        (("add-site", "house", "--key", public), f"NAME house: taken by the key {house}; choose another name"),
        (("init", "a b"), "HOST 'a b': expected a name or an address, such as hub.example.org"),
        (("init", "localhost", "--port", "70000"), "--port 70000: expected a number from 1 to 65535"),
        (("init", "localhost", "--port", "1"), "does not listen on port 1: correct it, or delete it"),
        (("init", "--certificate", "/x"), "--certificate and --key: set both, or none"),
        (("init", "--certificate", "/x", "--key", "/x"), "--certificate '/x': No such file or directory"),
    ):  # fmt: skip
        assert expected in hub.hub(*words, code=78)
    assert hub.places.file("keys.json").read_bytes() == before
    for words, expected in (
        (("join", "http://x", "a"), "SERVER 'http://x': expected nats://HOST:PORT or tls://HOST:PORT"),
        (("join", "tls://x", "a.b"), "NAME 'a.b': expected 1 to 32"),
        (("join", "nats://x", "a", "--ca", "/x"), "SERVER 'nats://x': --ca needs tls://"),
        (("join", "tls://x", "a", "--ca", "MIIB" * 80), "no certificate; copy the whole command"),
        (("join", "tls://x", "other", "--no-start"), "[uplink] site is already 'house'; to join as other instead"),
    ):  # fmt: skip
        assert expected in hub.at_site("house", *words, code=78)[1]


def test_a_server_that_is_not_there_or_not_ours_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Port in use, server not running, a certificate of another authority, a full disk."""
    port = free_port()
    config = folder / "hub.toml"
    made = HubServer.__new__(HubServer)
    made.folder, made.port, made.config, made.process = folder, port, config, None
    made.places = Places(config)
    assert "HOST is missing" in made.hub("init", code=78)
    assert "--size 999999: the streams need 1999998 GiB in" in made.hub(
        "init", "localhost", "--port", str(port), "--size", "999999", code=78
    )
    with socket.socket() as other:
        other.bind(("", port))
        assert f"port {port} is in use by another program" in made.hub(
            "init", "localhost", "--port", str(port), code=78
        )
    made.hub("init")
    assert "no NATS server runs at" in made.hub("doctor", code=1)
    made.start()
    try:
        made.hub("init")
        authority = made.places.file("ca.pem").read_bytes()
        monkeypatch.setattr(log_server, "ANSWER", 2.0)
        make_authority(made.places)  # as after a restore of the wrong backup
        assert "certificate verify failed" in made.hub("doctor", code=1)
        made.places.file("ca.pem").write_bytes(authority)
        assert "failed" not in made.hub("doctor")
    finally:
        made.kill()


async def test_a_server_whose_disk_was_full_is_to_be_restarted() -> None:
    """It has ended JetStream, and does not begin it again when there is space."""

    async def request(*given: Any, **more: Any) -> None:  # noqa: ANN401
        raise NoRespondersError

    with pytest.raises(log_server.ServerError, match="if its disk was full: systemctl restart netscand-nats"):
        await log_server.LogServer(SimpleNamespace(request=request)).request("INFO")


def test_a_new_key_is_good_once_its_account_is_complete(own: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two reloads, the account of a new site reaches no stream: its key is refused until then."""
    reloaded: list[str] = []

    async def publish() -> str:
        try:
            site = await own.connect("school")
        except Error:
            return "refused"
        try:
            return "stored" if "seq" in await request(site, OTHERS, {}) else "error"
        finally:
            await site.close()

    def reload(*arguments: Any) -> None:  # noqa: ANN401
        log_server.reload(*arguments)
        reloaded.append(run(publish()))

    monkeypatch.setattr(administration, "reload", reload)
    own.join("school")
    assert reloaded == ["refused", "stored"]


def test_a_change_that_the_server_does_not_take_is_undone(own: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration is invalid: the keys stay as they were, and the sentence names the journal."""
    own.places.file("server.conf").write_text(own.places.file("server.conf").read_text() + "\nbroken {\n")
    before = own.places.file("keys.json").read_bytes()
    monkeypatch.setattr(log_server, "START", 1.0)
    assert "the server did not take its new configuration" in own.hub(
        "add-site", "x", "--key", new_public_key(), code=69
    )
    assert own.places.file("keys.json").read_bytes() == before


def test_accounts_grow_with_sites_and_give_none_more(folder: Path) -> None:
    """What a site imports names the site, and is no interface of JetStream but single messages of its own."""
    keys = Keys(admin="A", hub="H", sites={f"s{number}": f"U{number}" for number in range(50)})
    found = accounts(keys)
    for name in keys.sites:
        account = found[f"site-{name}"]
        subjects = [one["service"]["subject"] for one in account["imports"]]
        assert all(f".{name}" in subject for subject in subjects)
        assert all(".DIRECT.GET." in subject for subject in subjects if subject.startswith("$JS"))
        assert "jetstream" not in account
    assert accounts(Keys(admin="A", hub="H", commands=False, sites={"a": "U"}))["NETSCAN"]["imports"] == []
