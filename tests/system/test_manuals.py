"""The manual pages and the shipped configuration cannot lie: they come out of the code, or are held against it."""

import importlib.util
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import click
import msgspec
import pytest

from netscanctl.cli import QUIET, cli
from netscanctl.services import program, services_file
from netscanctl.services.mqtt.__main__ import PROGRAM as MQTT
from netscanctl.services.mqtt.settings import Mqtt
from netscanctl.services.notify.__main__ import PROGRAM as NOTIFY
from netscanctl.services.services_file import Settings
from netscanctl.services.settings import Connection
from netscanctl.services.uplink.__main__ import PROGRAM as UPLINK
from netscand import __main__ as daemon
from netscand import __version__, config, event_log
from netscand.check import OPTIONAL
from tests.lab.spaces import ROOT

SHIPPED = ROOT / "packaging" / "netscand.toml"
SERVICES = ROOT / "packaging" / "services.toml"


@pytest.fixture(scope="module")
def manuals() -> ModuleType:
    """packaging/manuals.py, which is no package."""
    spec = importlib.util.spec_from_file_location("manuals", ROOT / "packaging" / "manuals.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def pages(manuals: ModuleType) -> dict[str, str]:
    """Each page, as plain words."""
    return {name: plain("\n".join(page())) for name, page in manuals.PAGES.items()}


def plain(roff: str) -> str:
    """Without the marks of roff(7)."""
    words = re.sub(r"\\f[BIR]|\\&", "", roff).replace(r"\-", "-").replace(r"\(aq", "'").replace(r"\e", "\\")
    return words.replace(r"\(ga", "`")


def keys(root: type[config.Table] = config.Config) -> Iterator[tuple[str, str, Any]]:
    """Every table, key and default of a configuration."""
    for table in msgspec.structs.fields(root):
        struct = config.NetworkRule if table.name == "network" else table.type
        for field in msgspec.structs.fields(struct):
            if (inner := config.table_of(field.type)) is None:
                yield table.name, field.encode_name, field.default
            else:  # tables that have names
                for key in msgspec.structs.fields(inner):
                    yield f"{table.name}.{field.name}.NAME", key.encode_name, key.default


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command of netscanctl."""
    context = click.Context(cli, **cli.context_settings)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command


def test_every_key_is_in_the_manual(pages: dict[str, str]) -> None:
    """netscand.toml(5), services.toml(5): each table a section, each key with words of its own."""
    roots: dict[str, type[config.Table]] = {"netscand.toml.5": config.Config, "services.toml.5": Settings}
    for name, root in roots.items():
        found = re.findall(r'\.SH "(\[+[\w.]+\]+)"\n(.*?)(?=\n\.SH)', pages[name], re.DOTALL)
        sections = {name.strip("[]"): text for name, text in found}
        for table, key, _ in keys(root):
            assert re.search(rf"\.TP\n{key} = .*\n[^.\n].*", sections[table]), f"[{table}] {key} is not explained"


def test_exit_codes_are_those_of_the_help(pages: dict[str, str]) -> None:
    """netscanctl(1) gives each exit code the meaning that `netscanctl --help` gives it."""
    listed = re.findall(r"(\d) (\w+)", (cli.help or "").partition("Exit codes: ")[2])
    section = pages["netscanctl.1"].partition(".SH EXIT STATUS")[2].partition(".SH")[0]
    meanings = dict(re.findall(r"\.TP\n(\d)\n(.*)", section))
    assert len(listed) >= 7
    assert [(code, word) for code, word in listed if word not in meanings[code].lower()] == []


def test_the_shipped_file_shows_every_default() -> None:
    """Its comments taken away it is the default configuration; only what has no default is an example."""
    text = re.sub(r"(?m)^#(?=\[|\w+ = )", "", SHIPPED.read_text())
    tables = tomllib.loads(text)
    shown = msgspec.convert(tables, config.Config)
    for table, key, default in keys():
        place = tables[table][0] if table == "network" else tables[table]
        assert key in place, f"[{table}] {key} is missing in {SHIPPED.name}"
        if table != "network" and default is not None:
            assert getattr(getattr(shown, table), key) == default, f"[{table}] {key}"
    assert config.load(SHIPPED) == config.Config()


def test_the_shipped_file_of_the_services_shows_every_default() -> None:
    """Its comments taken away it is valid, and the default where there is one."""
    tables = tomllib.loads(re.sub(r"(?m)^#(?=\[|\w+ = )", "", SERVICES.read_text()))
    msgspec.convert(tables, Settings)
    for table, key, default in keys(Settings):
        shown = tables
        for part in table.split("."):
            shown = shown[part]
        assert key in shown, f"[{table}] {key} is missing in {SERVICES.name}"
        if default is not None:
            assert shown[key] == (list(default) if isinstance(default, tuple) else default), f"[{table}] {key}"
    assert services_file.load(SERVICES, Mqtt) == (Connection(), Mqtt())


def test_every_option_of_a_service_is_in_its_manual(pages: dict[str, str]) -> None:
    """netscand-mqtt(8), netscand-notify(8): options and exit codes."""
    for service in (MQTT, NOTIFY, UPLINK):
        page = pages[f"netscand-{service.name}.8"]
        for action in service.parser()._actions:
            for option in [*action.option_strings, *(action.choices or ())]:
                assert option in page
        for code in {0, 2, *(value for name, value in vars(program).items() if name.startswith("EX_"))}:
            assert f".TP\n{code}\n" in page


def test_every_option_of_the_daemon_is_in_its_manual(pages: dict[str, str]) -> None:
    """netscand(8): options, exit codes, fields of the journal."""
    page = pages["netscand.8"]
    for action in daemon.parser()._actions:
        for option in action.option_strings:
            assert option in page
    codes = {value for name, value in vars(daemon).items() if name.startswith("EX_")}
    assert codes
    for code in {0, 2, *codes}:
        assert f".TP\n{code}\n" in page
    for field in {
        event_log.EVENT_ID,
        *re.findall(r'"(NETSCAND_\w+|MESSAGE_ID)"', Path(event_log.__file__).read_text()),
    }:
        assert field in page


def test_every_command_is_in_the_manual(pages: dict[str, str]) -> None:
    """netscanctl(1): commands, their options, exit codes, environment."""
    page = pages["netscanctl.1"]
    for name, command in [("", cli), *commands()]:
        section = page.split(f".SS {name}", 1)[1].split("\n.SS", 1)[0] if name else page
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                assert option in (page if parameter is QUIET else section), f"{name} {option}"
    source = "".join(path.read_text() for path in (ROOT / "netscanctl").rglob("*.py"))
    for code in {0, 2, *map(int, re.findall(r"exit_code = (\d+)", source))}:
        assert f".TP\n{code}\n" in page
    for variable in set(re.findall(r'environ(?:\.get\(|\[)"((?:NETSCANCTL|NO)_\w+)"', source)):
        assert variable in page


def test_every_choice_is_in_the_manual(pages: dict[str, str]) -> None:
    """The words that a key may hold."""
    for field in msgspec.structs.fields(config.Log) + msgspec.structs.fields(config.Access):
        for word in get_args(field.type):
            if isinstance(word, str):
                assert f'"{word}"' in pages["netscand.toml.5"]


def test_every_page_has_its_parts(pages: dict[str, str]) -> None:
    """NAME, SYNOPSIS, DESCRIPTION, SEE ALSO; the version; nothing beyond ASCII, which old terminals spoil."""
    for page in pages.values():
        for part in ("NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"):
            assert f".SH {part}" in page
        assert f"netscand {__version__}" in page
        assert page.isascii()


def test_the_pages_are_written_where_told(manuals: ModuleType, tmp_path: Path) -> None:
    """As the package and packaging/install call it."""
    import sys

    subprocess.run([sys.executable, ROOT / "packaging" / "manuals.py", tmp_path / "pages"], check=True)
    assert {path.name for path in (tmp_path / "pages").iterdir()} == set(manuals.PAGES)


def test_the_package_has_the_version_of_the_code() -> None:
    """debian/changelog and netscand.__version__."""
    first = (ROOT / "packaging/debian/changelog").read_text().split("\n", 1)[0]
    assert first.startswith(f"netscand ({__version__}) ")


def test_the_package_asks_for_what_the_project_asks_for() -> None:
    """debian/control and pyproject.toml name the same libraries, from the same versions on, but for optional ones."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    project = table["dependencies"] + table["optional-dependencies"]["mqtt"]
    control = (ROOT / "packaging/debian/control").read_text().split("\nPackage:")[1]
    needed = [line for line in project if re.match(r"[\w-]+", line)[0] not in OPTIONAL]  # type: ignore[index]
    asked = {f"python3-{line.partition(',')[0].replace('>=', ' (>= ')})" for line in needed}
    assert set(re.findall(r"python3-[\w-]+ \(>= [\d.]+\)", control)) == asked
