"""A NATS server that netscand-hub has set up, with TLS and an account for each site."""

import io
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import nats
import nkeys
from nats.aio.client import Client

from netscanctl.services.uplink import __main__ as uplink
from netscand import nats_settings, sites
from netscand.hub import __main__ as hub_program
from netscand.hub import settings
from netscand.hub.log_server import LogServer, with_server
from netscand.hub.places import Places
from tests.engines.mosquitto import wait
from tests.engines.nats_server import find_program


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def in_process(main: Callable[[], None], *argv: str) -> tuple[int, str, str]:
    """A program without the start of a Python: its exit code, and what it prints."""
    said, errors, before, code = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = list(argv)
    try:
        with redirect_stdout(said), redirect_stderr(errors):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        sys.argv = before
    return code, said.getvalue(), errors.getvalue()


class HubServer:
    """The server, its hub's files in `folder`, and its sites with their private keys."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder, self.port = folder, free_port()
        self.config = folder / "hub.toml"
        self.places = Places(self.config)
        self.process: subprocess.Popen[bytes] | None = None
        self.said = self.hub("init", "localhost", "--port", str(self.port), "--size", "1")
        with self.config.open("a") as out:
            out.write(f'[listen]\nunix = "{folder / "hub.sock"}"\ntcp = []\n')
        self.start()
        self.hub("init")
        for name in names:
            self.join(name)

    def hub(self, *words: str, code: int = 0) -> str:
        """netscand-hub with these words, in this process; what it prints, both together."""
        found, said, errors = in_process(hub_program.main, "netscand-hub", "--config", str(self.config), *words)
        assert found == code, said + errors
        return said + errors

    def start(self) -> None:
        """Start the server, and wait until it takes clients."""
        with (self.folder / "nats.log").open("ab") as out:
            argv = [find_program(), "-c", str(self.places.file("server.conf"))]
            self.process = subprocess.Popen(argv, stdout=out, stderr=out)
        wait("nats-server listens", self._listens)

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "nats.log").read_text()
        with socket.socket() as client:
            return bool(client.connect_ex(("127.0.0.1", self.port)) == 0)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def site(self, name: str) -> Path:
        """The services.toml of a site."""
        (folder := self.folder / name).mkdir(exist_ok=True)
        return folder / "services.toml"

    def at_site(self, name: str, *words: str, code: int = 0) -> tuple[str, str]:
        """netscand-uplink at a site; what it prints."""
        found, said, errors = in_process(uplink.main, "netscand-uplink", "--config", str(self.site(name)), *words)
        assert found == code, said + errors
        return said, errors

    def join(self, name: str) -> None:
        """As on the page: what one end prints is what the other runs."""
        first = self.hub("add-site", name).split()
        assert first[:2] == ["sudo", "netscand-uplink"]
        second = self.at_site(name, *first[2:], "--no-start")[0].split()
        assert second[:2] == ["sudo", "netscand-hub"]
        self.hub(*second[2:])

    def uplink(self, name: str) -> dict[str, Any]:
        """The table [uplink] of a site."""
        found: dict[str, Any] = tomllib.loads(self.site(name).read_text())["uplink"]
        return found

    async def connect(self, name: str, errors: list[str] | None = None) -> Client:
        """A connection with the key of a site, or of `hub`."""
        is_hub = name == "hub"
        table = settings.load(self.config).hub
        seed = (self.places.hub_key if is_hub else Path(self.uplink(name)["key_file"])).read_text().strip()
        told = errors if errors is not None else []

        async def tell(error: Exception) -> None:
            told.append(str(error).lower())

        return await nats.connect(
            f"tls://localhost:{self.port}", nkeys_seed_str=seed, tls=nats_settings.tls("", table.server, table.ca_file),
            inbox_prefix=sites.HUB_INBOX if is_hub else sites.inbox(name), allow_reconnect=False, error_cb=tell,
            max_reconnect_attempts=1, connect_timeout=5,
        )  # fmt: skip

    def request(self, subject: str, content: object = None) -> dict[str, Any]:
        """A request to JetStream's API by the administrator."""

        async def work(server: LogServer) -> dict[str, Any]:
            return await server.request(subject, content)

        return with_server(self.places, settings.load(self.config).hub, work)

    def subjects(self, stream: str = sites.LOG) -> dict[str, int]:
        """How many messages a stream has, by subject."""
        answer = self.request(f"STREAM.INFO.{stream}", {"subjects_filter": ">"})
        return dict(answer["state"].get("subjects") or {})


def new_public_key() -> str:
    """A public key."""
    seed = nkeys.encode_seed(b"\1" * 32, nkeys.PREFIX_BYTE_USER)
    return str(nkeys.from_seed(bytearray(seed)).public_key.decode())
