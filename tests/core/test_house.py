"""House rules: allowed imports, names, and sizes of files."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGE = 600
"""Lines after which a file surely holds two rooms."""

MAY = {
    "netscand/__init__.py": (set(), "so that naming the version costs nothing"),
    "netscand/protocol.py": ({"msgspec"}, "netscanctl imports it, and must start fast where no scapy is"),
    "netscand/check_results.py": ({"netscand.protocol"}, "netscanctl imports it"),
    "netscand/sites.py": ({"msgspec", "netscand.protocol"}, "both ends of the log import it"),
    "netscand/config.py": (
        {"msgspec", "netscand.validation_messages"}, "--check-config must work where nothing else does",
    ),
    "netscand/config_lint.py": (
        {"netscand.config", "netscand.serve.listen"}, "it judges what config has read, by the words that listen has",
    ),
    "netscand/validation_messages.py": ({"msgspec"}, "it words what is wrong with any value from outside"),
    "netscand/core/": ({"netscand.core"}, "the core knows no socket, no clock and no loop, so its tests need none"),
    "netscand/lan/anonymise.py": (
        {"netscand.core.kinds", "netscand.core.mac_ranges", "netscand.core.model", "netscand.lan"},
        "an anonymised name says the same kind of device",
    ),
    "netscand/lan/": (
        {"netscand.core.mac_ranges", "netscand.core.model", "netscand.core.ratelimit", "netscand.config",
         "netscand.lan", "scapy", "pyroute2"},
        "lan brings observations and carries asks, within the one table of budgets; what they mean is not its business",
    ),
    "netscand/store/": (
        {"netscand.core", "netscand.config", "netscand.off_loop", "netscand.store", "msgspec"},
        "store keeps what the engine gives it, and knows neither the network nor the clients",
    ),
    "netscand/serve/": (
        {"netscand.core", "netscand.config", "netscand.protocol", "netscand.validation_messages",
         "netscand.checkout", "netscand.off_loop", "netscand.__version__",
         "netscand.serve", "aiohttp", "msgspec", "prometheus_client"},
        "serve alone translates the domain into protocol; it sees the engine through serve/ports.py",
    ),
    "netscand/nats_settings.py": ({"netscand.config"}, "both ends of the log read it"),
    "netscand/hub/": (
        {"netscand.core.conflicts", "netscand.core.merged", "netscand.core.model", "netscand.core.people",
         "netscand.core.restore", "netscand.core.status",
         "netscand.check_results", "netscand.config", "netscand.event_log", "netscand.garbage_collection",
         "netscand.hub",
         "netscand.core.ratelimit", "netscand.core.request_limits", "netscand.nats_settings", "netscand.off_loop",
         "netscand.partial_imports", "netscand.protocol", "netscand.serve", "netscand.service", "netscand.sites",
         "netscand.validation_messages", "netscand.__version__", "aiohttp", "msgspec", "nats", "nkeys",
         "prometheus_client", "sdnotify"},
        "the hub reads the log and serves it; it knows no LAN, and what it serves with is that of the daemon",
    ),
    "netscand/engine.py": ({"netscand.core"}, "the engine knows the small interfaces of the rooms, not the rooms"),
    "netscanctl/services/": (
        {"netscanctl.atomic_file", "netscanctl.client", "netscanctl.cursor_file", "netscanctl.documentation",
         "netscanctl.service_status", "netscanctl.services", "netscanctl.state", "netscanctl.stream", "netscanctl.text",
         "netscand.config", "netscand.nats_settings", "netscand.protocol", "netscand.service",
         "netscand.__version__", "msgspec", "prometheus_client", "aiohttp", "sdnotify", "paho", "netscand.sites",
         "nats", "nkeys"},
        "a service follows the stream as any client does (law 10); it shares TOML and what systemd needs",
    ),
    "netscanctl/": (
        {"netscanctl", "netscand.check_results", "netscand.checkout", "netscand.protocol", "netscand.__version__",
         "click", "aiohttp", "msgspec"},
        "the client is thin: it starts fast and runs where no scapy is",
    ),
}  # fmt: skip
REACH_OUT = {"paho", "nats", "nkeys", "smtplib", "apprise"}
"""Libraries that connect to other systems."""
TAKEN = {"data_received", "get_extra_info"}
"""Names that asyncio gives."""


def modules(under: str = "netscan*") -> Iterator[Path]:
    return (path for top in ROOT.glob(under) for path in top.rglob("*.py"))


def imports(path: Path, *, top: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import hides which room it reaches into"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_allowed_modules(path: Path) -> None:
    """The import rules of each folder, each with its reason."""
    name = str(path.relative_to(ROOT))
    room = next((room for room in MAY if name.startswith(room)), None)
    if room is None:
        return  # daemon.py, __main__.py, once.py: the composition root may import everything
    allowed, reason = MAY[room]
    for imported in imports(path):
        outside = imported.split(".")[0] in {
            "netscand", "netscanctl", "scapy", "pyroute2", "aiohttp", "msgspec", "click", "rich", "sdnotify",
            "prometheus_client", "multidict", "yarl", "paho", "nats", "nkeys",
        }  # fmt: skip
        fits = any(imported == each or imported.startswith(f"{each}.") for each in allowed)
        assert fits or not outside, f"{name} imports {imported}: {reason}"


def test_only_a_service_reaches_out() -> None:
    """Law 10: the daemon imports no client of another system and no service, and the base of the services neither.

    netscand-hub is a process of its own, which the daemon does not import.
    """
    for path in modules():
        name = str(path.relative_to(ROOT))
        for imported in imports(path):
            if imported.split(".")[0] in REACH_OUT:
                assert re.match(r"netscanctl/services/\w+/|netscand/hub/", name), f"{name} imports {imported}"
            assert not (name.startswith("netscand/") and imported.startswith("netscanctl")), f"{name}: {imported}"
            assert name.startswith("netscand/hub/") or not imported.startswith("netscand.hub"), f"{name}: {imported}"


def test_the_client_imports_what_is_slow_only_where_it_is_needed() -> None:
    """70 ms to start, for the commands that scripts call."""
    program = """if True:
        import sys
        sys.argv = ["netscanctl", "--socket", "/nonexistent", "devices"]
        from netscanctl.__main__ import main
        try:
            main()
        except SystemExit as end:
            assert end.code == 3, end.code
        slow = {"asyncio", "aiohttp", "rich", "scapy", "pyroute2"} & set(sys.modules)
        assert not slow, slow
    """
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", sorted(modules("netscand/core")), ids=lambda path: path.name)
def test_the_core_uses_neither_clock_nor_loop(path: Path) -> None:
    """It gets the time as an argument (law 7), and decides without acting."""
    for imported in imports(path):
        assert imported.split(".")[0] not in {"time", "datetime", "asyncio", "socket", "logging", "threading", "os"}


def test_rooms_are_small() -> None:
    """A file that passes 600 lines usually holds two things; the wire contract is one, and is read as one."""
    large = {
        str(path.relative_to(ROOT)): lines
        for path in modules()
        if (lines := path.read_text().count("\n")) > LARGE and path.name != "protocol.py"
    }
    assert not large


def test_no_name_hides_two_things() -> None:
    """No manager, helper, util, common, base, handler, data, info in the name of a module or of what it defines."""
    for path in modules():
        names = [path.stem] + [
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for name in names:
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")
            bad = {"manager", "helper", "helpers", "util", "utils", "common", "base", "handler", "data", "info"} & set(
                words
            )
            assert not bad or name in TAKEN, f"{path.relative_to(ROOT)}: {name}"
