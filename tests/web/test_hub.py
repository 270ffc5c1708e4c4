"""The page of a hub: devices of two simulated sites over a real NATS server; one of the sites becomes silent."""

import asyncio
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from nats.aio.client import Client

from netscand import sites
from netscand.protocol import encode
from tests.ctl.conftest import ROOT, environment
from tests.engines.hub_process import Hub
from tests.engines.mosquitto import wait
from tests.engines.nats_server import AILING, NatsServer, publish_ailing
from tests.engines.simulated_site import SimulatedSite
from tests.lab.lan import Lab
from tests.lab.spaces import temporary_folder
from tests.web import selectors
from tests.web.chromium import Chromium, Page

PHONE = "a4:83:e7:00:00:01"
SILENT = 5.0
"""Seconds without a sign of life, instead of 90."""
HUB = f"import netscand.hub.site as site; site.SILENT = {SILENT}; from netscand.hub.__main__ import main; main()"


class ImpatientHub(Hub):
    """A hub that also serves a socket of a namespace, and reports a site as silent soon."""

    def __init__(self, folder: Path, server: NatsServer, listening: socket.socket) -> None:
        super().__init__(folder, server, more='[access]\nothers = "read"\n')
        self._listening = listening

    def start(self) -> None:
        """Start it; the socket is passed on as by systemd."""
        number = self._listening.fileno()
        script = f'exec env LISTEN_PID=$$ LISTEN_FDS=1 "$@" 3<&{number}'
        argv = ["bash", "-c", script, "bash", sys.executable, "-c", HUB, "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, env=environment(), cwd=ROOT, stdout=log, stderr=log, pass_fds=[number]
            )


class Sites:
    """Two sites that publish, on an event loop of their own."""

    def __init__(self, server: NatsServer, folder: Path) -> None:
        self.server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.barn, self.cabin = (
            SimulatedSite(server.url, name, server.keys[name], folder, commands=name == "barn")
            for name in ("barn", "cabin")
        )
        self._running = {site.name: self._start(site) for site in (self.barn, self.cabin)}

    def _start(self, site: SimulatedSite) -> "asyncio.Future[None]":
        async def run() -> None:
            await site.run(None)  # type: ignore[arg-type]

        return asyncio.run_coroutine_threadsafe(run(), self._loop)  # type: ignore[return-value]

    def cut_off(self, name: str) -> None:
        """Let nothing come of a site any more."""
        self._running.pop(name).cancel()

    def happen(self, site: SimulatedSite, mac: str) -> None:
        """Let the status of a device change."""
        asyncio.run_coroutine_threadsafe(site.change(mac), self._loop).result(60)

    def close(self) -> None:
        """End both."""
        for name in list(self._running):
            self.cut_off(name)

        async def end_all() -> None:
            ending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            if ending:
                await asyncio.wait(ending)

        asyncio.run_coroutine_threadsafe(end_all(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    made = temporary_folder("hub-page")
    yield made
    shutil.rmtree(made)


@pytest.fixture
def scene(folder: Path, shared_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Sites, str]]:
    """A server, two sites, and a hub whose address only the browser's namespace reaches."""
    monkeypatch.setattr(sites, "ALIVE_INTERVAL", 0.2)
    server = NatsServer(folder, "barn", "cabin")
    listening = shared_lab.watcher.space.within(lambda: socket.create_server(("127.0.0.1", 0)))
    published = Sites(server, folder)
    hub = ImpatientHub(folder, server, listening)
    try:
        hub.start()
        asyncio.run(hub.ready())
        yield published, f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        hub.close()
        published.close()
        server.kill()
        listening.close()


@pytest.fixture
def page(browser: Chromium, scene: tuple[Sites, str]) -> Iterator[Page]:
    made = browser.page(scene[1], width=1600, height=900)
    made.until("document.body.dataset.link === 'live'")
    yield made
    made.close()
    assert not made.errors, made.errors


def until(page: Page, *rows: str) -> None:
    """Wait until the table has exactly these."""
    shown = f"""JSON.stringify({selectors.ROWS}.map(row => [row.querySelector('.c-site').innerText,
        row.dataset.mac.slice(-2), row.querySelector('.word').textContent].join(' ')).sort())"""
    wanted = "[" + ",".join(f'"{row}"' for row in sorted(rows)) + "]"
    page.until(f"{shown} === {wanted!r}")


async def _publish(subject: str, payload: bytes, client: Client) -> None:
    await client.request(subject, payload)


def test_the_page_of_a_hub(page: Page, scene: tuple[Sites, str]) -> None:
    """Devices of all sites, by site; a MAC of two sites is two devices; a silent site's are unknown, never offline."""
    published, url = scene
    barn = ["barn 01 online", "barn 02 online", "barn 03 online"]
    cabin = [row.replace("barn", "cabin") for row in barn]
    until(page, *barn, *cabin)
    assert page.js(f"{selectors.COUNT}") == 6
    assert page.js("document.querySelector('#scan').hidden")  # which site?

    page.choose("#site", "cabin")
    until(page, *cabin)
    assert "site=cabin" in page.js("document.location.search")
    assert page.js("document.querySelector('#scan').hidden")  # it takes no commands
    page.choose("#site", "barn")
    until(page, *barn)
    assert not page.js("document.querySelector('#scan').hidden")
    page.choose("#site", "")
    page.click("#search")
    page.type("cabin host2")
    until(page, "cabin 02 online")
    page.go(url)
    page.until("document.body.dataset.link === 'live'")
    until(page, *barn, *cabin)

    page.js(f"location.hash = '#cabin/{PHONE}'")
    page.until("document.querySelector('#device dl')?.innerText.includes('cabin')")
    published.happen(published.barn, PHONE)
    until(page, "barn 01 offline", *barn[1:], *cabin)
    assert "online for" in page.js("document.querySelector('#device .verdict').innerText")

    published.cut_off("cabin")
    silent = [row.replace("online", "unknown") for row in cabin]
    until(page, "barn 01 offline", *barn[1:], *silent)
    why = "site cabin is silent; its last report was online"
    page.until(f"document.querySelector('#device .verdict').innerText.includes({why!r})")
    page.until(f"{selectors.events()}.some(text => text.includes('Site silent') && text.includes('cabin'))")
    page.js("location.hash = ''")
    page.click(".views [data-view=networks]")
    cards = "[...document.querySelectorAll('#networks .card')].map(card => card.innerText.replaceAll('\\n', ' '))"
    page.until(f"{cards}[1]?.includes('silent') && {cards}[1].includes('0 online, 0 offline, 3 unknown')")
    assert "connected" in page.js(f"{cards}[0]")
    shed = f"{cards}.find(card => card.startsWith('shed'))"

    def is_ailing() -> bool:
        published.server.ask(partial(publish_ailing, site="shed"))
        text = page.js(f"{shed} || ''")
        return all(words in text for words in ("connected", *AILING.values()))

    wait("the card of a site with problems", is_ailing)
    published.server.ask(partial(_publish, sites.site_subject("shed"), encode(sites.SiteRemoved())))
    page.until(f"!{shed}")
    page.until("![...document.querySelectorAll('#site option')].some(option => option.value === 'shed')")
    again = f"{url}?site=cabin#cabin/{PHONE}"
    page.go(again)
    page.until(f"document.querySelector('#device .verdict')?.innerText.includes({why!r})")
    until(page, *silent)
