"""Undocumented parts of libraries that netscand uses, each by its name; and netscand without them.

aiohttp's part is in serve/test_selftest_library.py.
"""

import asyncio
import importlib.metadata
import json
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
import sdnotify
from sdnotify import SystemdNotifier

from netscand import nats_settings
from netscand.check import OPTIONAL
from netscand.hub.connection import RawClient
from netscand.service import notifier
from tests.lab.spaces import DEADLINE

ROOT = Path(__file__).parents[2]

WORK = """
import json, logging, struct, sys
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("netscand").addHandler(handler)
from netscand.__main__ import _incompatible_library
from netscand.core.model import Mac, Ip
from netscand.lan import arp, libraries
from netscand.lan import vendors
vendors.IEEE_FOLDER = vendors.PACKAGED = vendors.Path("/nonexistent")
link = struct.pack("=IHHIIBxHiII", 32, 16, 0, 0, 0, 0, 1, 7, 1, 0)  # RTM_NEWLINK, with no attribute
found = {}
try:
    (message,) = libraries.rtnetlink()().parse(link)
    found["index"] = message["index"]
except ImportError as wrong:
    found["lacking"] = f"{_incompatible_library(wrong)}: {wrong}"
frame = arp.request(Mac(b"\\2\\0\\0\\0\\0\\1"), Ip(b"\\x0a\\0\\0\\1")).to(Ip(b"\\x0a\\0\\0\\2"), None)
found["asks"] = frame.hex()
found["apple"] = vendors.Vendors().of(Mac(bytes.fromhex("a483e7123456")))
print(json.dumps(found | {"said": said, "whole": "pyroute2.iproute" in sys.modules or "scapy.packet" in sys.modules}))
"""
ASKS = "ffffffffffff020000000001080600010800060400010200000000010a0000010000000000000a000002"

Change = Callable[[str], str]


def altered(folder: Path, changes: Mapping[str, Change | None]) -> None:
    """Make packages as another release may have them: links to the files that are installed, but for those changed."""
    for file, change in changes.items():
        spec = find_spec(file.partition("/")[0])
        assert spec is not None
        assert spec.submodule_search_locations
        source, path = Path(spec.submodule_search_locations[0]).parent, folder
        *parents, name = file.split("/")
        for parent in parents:
            source, path = source / parent, path / parent
            if path.is_symlink():
                path.unlink()
            if not path.exists():
                path.mkdir()
                for entry in source.iterdir():
                    if entry.name != "__pycache__":
                        (path / entry.name).symlink_to(entry)
        (path / name).unlink()
        if change is not None:
            text = (source / name).read_text()
            assert change(text) != text, f"{file} has another text now: adapt this test"
            (path / name).write_text(change(text))


def work(folder: Path) -> dict[str, object]:
    """What the libraries in `folder`, and where there is none, the ones installed, are good for."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{folder}:{ROOT}", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", WORK], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "tcmsg" not in done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def replaced(old: str, new: str) -> Change:
    return lambda text: text.replace(old, new)


# ---- scapy and pyroute2 ---------------------------------------------------------------------------------------------


def test_scapy_and_pyroute2_can_be_imported_in_part(tmp_path: Path) -> None:
    """A canary: pyroute2.netlink.rtnl.marshal.MarshalRtnl.parse, and the text scapy.libs.manuf.DATA.

    The one without pyroute2's __init__, the other without scapy's layers.
    """
    assert work(tmp_path) == {"index": 7, "asks": ASKS, "apple": "Apple, Inc.", "said": [], "whole": False}


LOADED = "from scapy.libs.manuf import DATA"
TABLE = {
    "scapy/libs/manuf.py": replaced("DATA = ", "TABLE = "),
    "scapy/data.py": replaced(LOADED, "from scapy.libs.manuf import TABLE as DATA"),
}
NO_TABLE = {"scapy/libs/manuf.py": None, "scapy/data.py": replaced(LOADED, 'DATA = ""')}
NO_LOADER = {
    "scapy/libs/manuf.py": None,
    "scapy/data.py": lambda text: text.replace(LOADED, 'DATA = ""').replace("load_manuf", "load_vendors"),
}
NEEDS_ALL = {"pyroute2/netlink/rtnl/marshal.py": lambda text: "import pyroute2\npyroute2.__file__\n" + text}
MOVED = {"pyroute2/netlink/rtnl/marshal.py": replaced("class MarshalRtnl", "class Moved")}
HIDDEN = {"pyroute2/netlink/rtnl/tcmsg/common.py": replaced("/proc/net/psched", "/proc/none")}
RENAMED = {"pyroute2/netlink/rtnl/marshal.py": lambda text: text + "\nMarshalRtnl.parse = None\n"}


def test_without_scapy_nothing_is_missing(tmp_path: Path) -> None:
    """As in the Debian package: the same request; `--check` reports no missing library, the log says nothing."""
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["scapy"] = None\n')
    assert work(tmp_path) == {"index": 7, "asks": ASKS, "apple": None, "said": [], "whole": False}


@pytest.mark.parametrize(
    ("changes", "apple"), [(TABLE, "Apple, Inc."), (NO_TABLE, None), (NO_LOADER, None)],
    ids=["another name", "no table", "no loader"],
)  # fmt: skip
def test_another_table_of_vendors_stops_nothing(
    tmp_path: Path, changes: Mapping[str, Change], apple: str | None
) -> None:
    """Names by scapy's own dictionary, or none; the log says which release it is."""
    altered(tmp_path, changes)
    found = work(tmp_path)
    assert (found["index"], found["asks"], found["apple"]) == (7, ASKS, apple)
    release = f"scapy {importlib.metadata.version('scapy')}: "
    assert found["said"]
    assert all(str(line).startswith(release) for line in found["said"])  # type: ignore[attr-defined]


def test_a_hidden_file_of_traffic_control_is_not_logged(tmp_path: Path) -> None:
    """As in the unit (ProcSubset=pid): two lines of pyroute2 at every start said nothing about netscand (FIELD)."""
    altered(tmp_path, HIDDEN)
    assert work(tmp_path)["said"] == []


def test_a_pyroute2_that_wants_to_be_whole_is(tmp_path: Path) -> None:
    altered(tmp_path, NEEDS_ALL)
    found = work(tmp_path)
    assert (found["index"], found["asks"], found["whole"]) == (7, ASKS, True)
    assert "imported completely" in str(found["said"])


@pytest.mark.parametrize("changes", [MOVED, RENAMED], ids=["moved", "no parse"])
def test_a_pyroute2_without_its_parser_is_named(tmp_path: Path, changes: Mapping[str, Change]) -> None:
    """The error is one that netscand's start makes a sentence of (exit code 69), not a traceback."""
    altered(tmp_path, changes)
    lacking = str(work(tmp_path)["lacking"])
    assert lacking.startswith(f"pyroute2 {importlib.metadata.version('pyroute2')}: ")
    assert "MarshalRtnl" in lacking


# ---- sdnotify -------------------------------------------------------------------------------------------------------


def test_sdnotify_has_its_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A canary: SystemdNotifier.socket, which netscand makes one that never blocks; and text leaves it as UTF-8."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        library = SystemdNotifier()
        assert isinstance(library.socket, socket.socket)
        library.socket.close()
        ours = SystemdNotifier()
        monkeypatch.setattr(sdnotify, "SystemdNotifier", lambda: ours)
        notify = notifier()
        assert not ours.socket.getblocking()
        notify("STATUS=größer")
        assert systemd.recv(100) == "STATUS=größer".encode()
        ours.socket.close()


def test_an_sdnotify_without_that_socket_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service manager that does not listen is waited for then, and that is all."""

    class Another:
        def notify(self, state: str) -> None:
            said.append(state)

    said: list[str] = []
    monkeypatch.setattr(sdnotify, "SystemdNotifier", Another)
    notifier()("READY=1")
    assert said == ["READY=1"]


# ---- msgspec --------------------------------------------------------------------------------------------------------


class Shape(msgspec.Struct):
    """A message."""

    name: str
    numbers: list[int] = []


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("{}", "Object missing required field `name`"),
        ('{"name": 5}', "Expected `str`, got `int` - at `$.name`"),
        ('{"name": "x", "numbers": [1, "y"]}', "Expected `int`, got `str` - at `$.numbers[1]`"),
    ],
)
def test_msgspec_words_its_errors_as_we_read_them(raw: str, said: str) -> None:
    """A canary: validation_messages.py reads place and missing field from the text of ValidationError."""
    with pytest.raises(msgspec.ValidationError) as wrong:
        msgspec.json.decode(raw, type=Shape)
    assert str(wrong.value) == said


# ---- asyncio --------------------------------------------------------------------------------------------------------


def test_asyncio_listens_by_readers_of_the_loop() -> None:
    """A canary: a Server's sockets are readers of the loop, and accept no more connections once these are removed.

    serve/server.py does so at its end: who comes from then on waits for the next netscand, and is not lost.
    """

    async def play() -> None:
        loop = asyncio.get_running_loop()
        accepted: list[asyncio.BaseTransport] = []

        class Client(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.append(transport)

        server = await loop.create_server(Client, "127.0.0.1", 0)
        (listening,) = server.sockets
        with socket.socket() as first, socket.socket() as second:
            first.connect(listening.getsockname())
            async with asyncio.timeout(DEADLINE):
                while not accepted:
                    await asyncio.sleep(0.001)
            assert loop.remove_reader(listening.fileno()), "asyncio listens by another way"
            second.connect(listening.getsockname())
            await asyncio.sleep(0.05)
            assert len(accepted) == 1
            accepted[0].close()
        server.close()

    asyncio.run(play())


# ---- what is declared -----------------------------------------------------------------------------------------------

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, BUILD = PYPROJECT["project"], PYPROJECT["dependency-groups"]["build"]
BY_AIOHTTP = {"multidict", "yarl"}
"""Types of aiohttp's own manual, in tests alone."""


def declared(needs: list[str]) -> set[str]:
    """Return the modules of packages."""
    return {re.match(r"[\w.-]+", need)[0].replace("-", "_").lower() for need in needs}  # type: ignore[index]


EXTRAS = PROJECT["optional-dependencies"]
SERVICES = declared([need for name in ("mqtt", "sites", "apprise") for need in EXTRAS[name]])
"""What only the services need that follow the stream."""
MODULES = {"paho_mqtt": {"paho"}, "nats_py": {"nats", "nkeys"}}
"""Names of their modules, if they have others."""
NOT_IN_DEBIAN = {"nats_py"}


def imported(*folders: str) -> set[str]:
    """Return the modules that files import, but for the standard library and our own."""
    texts = [path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py")]
    pattern = re.compile(r"^ *(?:from ([a-z]\w*)[\w.]* import |import ([a-z]\w*)[\w.]*(?: as \w+)?$)", re.MULTILINE)
    names = {first or second for text in texts for first, second in pattern.findall(text)}
    return names - set(sys.stdlib_module_names) - {"netscand", "netscanctl", "tests"}


def test_what_is_imported_is_declared() -> None:
    """And what is declared is imported: nothing comes along by another's need, or for none."""
    run = declared(PROJECT["dependencies"])
    services = {module for name in SERVICES for module in MODULES.get(name, {name})}
    assert imported("netscand", "netscanctl") == run | services
    tests = declared(PROJECT["optional-dependencies"]["test"]) | declared(BUILD)
    assert imported("tests", "packaging") <= run | services | tests | BY_AIOHTTP | {"homeassistant"}  # in its own tree
    assert imported("docs") == set()


def test_the_package_of_debian_declares_the_same() -> None:
    """But for scapy, which recommends X11 and a compiler (docs/adr/0072)."""
    control = (ROOT / "packaging/debian/control").read_text()
    depends, _, suggests = control.partition("\nDepends:")[2].partition("\nSuggests:")
    assert declared(re.findall(r"python3-([\w-]+) \(>= ", depends)) == declared(PROJECT["dependencies"]) - OPTIONAL
    assert (
        declared(re.findall(r"(?:python3-)?([\w-]+)", suggests.partition("\nDescription")[0]))
        >= SERVICES - NOT_IN_DEBIAN
    )
    assert not re.search(r"(Depends|Recommends):[^:]*python3-scapy", control)


def test_nats_py_passes_each_message_to_the_method_that_a_hub_overrides() -> None:
    """netscand/hub/connection.py takes the bytes of a stream there, by the number of the subscription.

    And closing is complete when it is cancelled (netscand/nats_settings.py).
    """

    async def play() -> None:
        taken: list[tuple[bytes, ...]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b'INFO {"headers":true,"max_payload":1048576}\r\n')
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
                elif line.startswith(b"SUB"):
                    number = line.split()[-1]
                    writer.write(b"HMSG a.b %b c 20 24\r\nNATS/1.0\r\nA: bcd\r\n\r\nbody\r\n" % number)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            client = RawClient()
            port = server.sockets[0].getsockname()[1]
            await client.connect(f"nats://127.0.0.1:{port}", allow_reconnect=False)
            subscription = await client.subscribe("x")
            client.takers[subscription._id] = lambda *given: taken.append(given)
            async with asyncio.timeout(DEADLINE):
                while not taken:
                    await asyncio.sleep(0.001)
            async with asyncio.TaskGroup() as group:
                closing = group.create_task(nats_settings.close(client))
                await asyncio.sleep(0)
                closing.cancel()
            assert client._transport._io_writer.is_closing()  # type: ignore[union-attr]
        assert taken[0] == (b"a.b", b"c", b"body", b"NATS/1.0\r\nA: bcd\r\n\r\n")

    asyncio.run(play())
