"""The documentation is complete: every key, message, kind and code is in it."""

import errno
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from netscanctl.services.mqtt.settings import Mqtt
from netscanctl.services.notify.compose import TITLES
from netscanctl.services.notify.settings import Channel, Notify, Rule
from netscanctl.services.notify.templates import FIELDS
from netscanctl.services.services_file import Settings
from netscanctl.services.settings import Connection
from netscanctl.services.uplink.settings import Uplink
from netscand import __main__, config, protocol, sites
from netscand.core import ratelimit
from netscand.core.claims import TRUST
from netscand.core.model import Evidence, NetworkState, Status
from netscand.hub import settings as hub
from netscand.hub.serving import PROBLEMS, STATES

DOCS = Path(__file__).parents[2] / "docs"


def blocks(text: str) -> list[str]:
    """The TOML of a page."""
    return [part.split("```")[0] for part in text.split("```toml\n")[1:]]


def test_the_configuration_page_has_every_key_with_its_default() -> None:
    """Its TOML, read as a configuration, is the default one; the keys that are commented out stand there too."""
    text = (DOCS / "configuration.md").read_text()
    defaults, network = blocks(text)
    assert msgspec.convert(tomllib.loads(defaults), config.Config) == config.Config()
    rules = msgspec.convert(tomllib.loads(network), config.Config).network
    assert len(rules) == 1
    for table in msgspec.structs.fields(config.Config):
        if table.name == "network":
            continue
        assert f"[{table.name}]" in defaults
        for key in msgspec.structs.fields(table.type):
            assert f"\n{key.name} =" in defaults or f"\n# {key.name} =" in defaults, f"[{table.name}] {key.name}"
    for key in msgspec.structs.fields(config.NetworkRule):
        assert f"\n{key.name} =" in network


def test_the_mqtt_page_has_every_key_with_its_default() -> None:
    """Its TOML, read as services.toml, is the default one; the keys that are commented out stand there too."""
    (shown,) = blocks((DOCS / "mqtt.md").read_text())
    assert msgspec.convert(tomllib.loads(shown), Settings) == Settings()
    for table in (Connection, Mqtt):
        for key in msgspec.structs.fields(table):
            assert f"\n{key.name} =" in shown or f"\n# {key.name} =" in shown, key.name


def test_the_sites_page_has_every_key_subject_and_stream() -> None:
    """Its configuration with each default; what readers of the log need; the rights of a key, exactly."""
    page = (DOCS / "sites.md").read_text()
    (shown,) = blocks(page)
    assert msgspec.convert(tomllib.loads(shown), Settings).uplink == Uplink(site="home")
    for key in msgspec.structs.fields(Uplink):
        assert f"\n{key.name} =" in shown or f"\n# {key.name} =" in shown, key.name
    for name in (sites.CURSOR_HEADER, sites.PREVIOUS, sites.ACKNOWLEDGED, sites.RUN, sites.SUBJECT, sites.PROTOCOL,
                 sites.INSTANCE, sites.MESSAGE_ID, sites.LOG, sites.STATE, sites.CURSOR, sites.OWNER):  # fmt: skip
        assert f"`{name}`" in page, name
    for message in (sites.SnapshotBegan, sites.SnapshotEnded, sites.SiteUp, sites.Alive, sites.Resend):
        assert f"`{message.__struct_config__.tag}`" in page
    permissions = re.search(r"permissions: (\{.*?\})\s*\}", page, re.DOTALL)
    assert permissions is not None
    assert json.loads(permissions[1]) == sites.rights("home")


def test_the_hub_page_has_every_key_and_the_rights_of_a_hub() -> None:
    """Its configuration with each default; the rights of a key, exactly."""
    page = (DOCS / "hub.md").read_text()
    (shown,) = blocks(page)
    assert msgspec.convert(tomllib.loads(shown), hub.Config) == hub.Config()
    for key in msgspec.structs.fields(hub.Hub):
        assert f"\n{key.name} =" in shown or f"\n# {key.name} =" in shown, key.name
    assert json.loads(page.split("```json\n")[1].split("```")[0]) == sites.hub_rights()
    for state in (*STATES, *PROBLEMS):
        assert f"`{state}`" in (DOCS / "protocol.md").read_text()


def test_the_notify_page_has_every_key_with_its_default() -> None:
    """Its TOML is the default one; with the comments taken away, it is valid, and has every key and every field."""
    page = (DOCS / "notify.md").read_text()
    (shown,) = blocks(page)
    assert msgspec.convert(tomllib.loads(shown), Settings) == Settings()
    tables = tomllib.loads(re.sub(r"(?m)^# ", "", shown))["notify"]
    found = msgspec.convert(tables, Notify)
    for table, place, default in (
        (Notify, tables, None), (Channel, tables["channel"]["NAME"], Channel()), (Rule, tables["rule"]["NAME"], Rule()),
    ):  # fmt: skip
        for key in msgspec.structs.fields(table):
            assert key.encode_name in place, key.encode_name
            if default is not None and getattr(default, key.name) is not None and key.name not in ("ntfy", "webhook"):
                inner = found.channel["NAME"] if table is Channel else found.rule["NAME"]
                assert getattr(inner, key.name) == getattr(default, key.name)
    for field in FIELDS:
        assert f"`{{{field}}}`" in page
    for kind in get_args(protocol.EventKind):
        assert kind in TITLES


@pytest.mark.parametrize("message", [*get_args(protocol.ServerMessage), *get_args(protocol.ClientMessage)])
def test_the_protocol_page_has_every_message(message: type[msgspec.Struct]) -> None:
    tag = message.__struct_config__.tag
    text = (DOCS / "protocol.md").read_text()
    assert f"`{tag}`" in text or f'"{tag}"' in text


@pytest.mark.parametrize(
    "word", [*get_args(protocol.EventKind), *protocol.ERROR_STATUS, *Evidence, *NetworkState, *Status, *TRUST]
)
def test_the_protocol_page_has_every_word_of_the_wire(word: str) -> None:
    assert f"`{word}`" in (DOCS / "protocol.md").read_text()


def test_the_protocol_page_names_the_protocol() -> None:
    assert f"Protocol number: {protocol.PROTOCOL}." in (DOCS / "protocol.md").read_text()


def test_every_test_that_a_page_names_is_there() -> None:
    for page in DOCS.rglob("*.md"):
        for test in re.findall(r"`((?:core|ctl|lab|serve|store|system|web)/test_\w+\.py)`", page.read_text()):
            assert (DOCS.parent / "tests" / test).exists(), f"{page.name} names {test}"


SAID_BY_OTHERS = {"operation not permitted", os.strerror(errno.EADDRINUSE), os.strerror(errno.EADDRNOTAVAIL)}
"""Messages of a container's runtime and of the kernel, which a page explains."""
PAGES = sorted({*DOCS.parent.glob("*.md"), *DOCS.rglob("*.md"), *(DOCS.parent / ".github").rglob("*.md")})
TESTS_PAGES = sorted((DOCS.parent / "tests").rglob("*.md"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Return the links of a page to a file that does not exist, or to a heading that is not in it."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", [*PAGES, *TESTS_PAGES], ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link names a file that exists and, after #, a heading in it."""
    assert broken_links(page) == []


def installed_documents(folder: Path, code: Path, place: Path | None = None) -> list[Path]:
    """Copy the pages as an installation has them at `place`; return the pages."""
    script = DOCS.parent / "packaging" / "documents.py"
    subprocess.run([sys.executable, script, folder, place or folder, code], check=True)
    return sorted(folder.rglob("*.md"))


def test_every_link_leads_somewhere_when_installed(tmp_path: Path) -> None:
    """Also for those who have no checkout: nothing leads out of the installed folder, except to the code."""
    pages = installed_documents(tmp_path / "doc", DOCS.parent)
    assert len(pages) > 50
    for page in pages:
        assert broken_links(page) == [], page.name
        assert not re.search(r"\]\(/(?!.*/netscand/protocol\.py\))", page.read_text()), page.name
        assert not re.search(r"\]\([./]*(CONTRIBUTING|tests|packaging)", page.read_text()), page.name
    recipes = "".join(page.read_text() for page in (tmp_path / "doc/docs/recipes").glob("*.md"))
    commands = re.findall(r"\S*docs/recipes/\w+\.py", recipes)
    assert commands
    for script in commands:
        assert os.access(script.lstrip("'\"`"), os.X_OK), script


def test_the_index_lists_every_page() -> None:
    """docs/README.md links each page of docs, and the recipes."""
    index = (DOCS / "README.md").read_text()
    assert not [page.name for page in DOCS.glob("*.md") if f"]({page.name}" not in index and page.name != "README.md"]
    assert "](recipes/README.md)" in index


def test_the_readme_begins_with_the_ways_to_install() -> None:
    """Each with a command, upgrade and removal; and it says what netscand cannot see, and what it is not."""
    text = (DOCS.parent / "README.md").read_text()
    sections = dict(re.findall(r"^## (.*?)$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert next(iter(sections)) == "Install"
    assert {"What it cannot see", "What it is not"} <= sections.keys()
    ways = sections["Install"].split("\n### ")[1:]
    assert len(ways) == 3
    for way in ways:
        assert re.search(r"```sh\nsudo .*```.*\n- To upgrade: .*\n- To remove: ", way, re.DOTALL), way


def test_the_glossary_is_in_order() -> None:
    """Each term once, sorted."""
    terms = re.findall(r"^\| ([^|]+) \| ", (DOCS / "glossary.md").read_text(), re.MULTILINE)[1:]
    assert len(terms) > 30
    assert terms == sorted(set(terms), key=str.lower)


def test_every_exit_code_of_a_failed_start_has_its_remedy() -> None:
    """docs/troubleshooting.md, which names those of netscand."""
    text = (DOCS / "troubleshooting.md").read_text()
    for name, code in vars(__main__).items():
        if name.startswith("EX_") and code > 1:
            assert f"\n| {code} |" in text, name


@pytest.mark.parametrize("page", ["phone.md", "troubleshooting.md"])
def test_the_messages_that_a_page_explains_are_those_of_the_code(page: str) -> None:
    """Otherwise a user searches the page for a message, and does not find it."""
    code = "".join(
        path.read_text() for folder in ("netscand", "netscanctl") for path in (DOCS.parent / folder).rglob("*.*[sy]")
    )
    columns = re.findall(r"^\| ([^|]+) \|", (DOCS / page).read_text(), re.MULTILINE)
    messages = {text for cell in columns for _, text in re.findall(r"([`*])([^`*]+ [^`*]+ [^`*]+)\1", cell)}
    assert messages
    assert {text for text in messages - SAID_BY_OTHERS if text not in code} == set()


def test_the_house_page_names_every_room_of_the_core() -> None:
    """A newcomer finds what each file answers."""
    text = (DOCS / "house.md").read_text()
    rooms = {path.name for path in (DOCS.parent / "netscand" / "core").glob("*.py")} - {"__init__.py"}
    assert not {room for room in rooms if room not in text}


def row_of(budget: ratelimit.Budget) -> str:
    """A budget as its row in the page: what it grants at once, and in an hour."""
    granted = (budget.at_once, 3_600 * budget.per_second)
    for_each = (budget.for_each_address[0], 3_600 * budget.for_each_address[1])
    cells = [
        (f"{most:.9g}" if most else "–") + (f", or {each:.3g} for each address" if each else "")
        for most, each in zip(granted, for_each, strict=True)
    ]
    return f"| `{budget.name}` | {budget.spender} | {budget.limits} | {' | '.join(cells)} |"


def test_the_security_page_has_every_budget() -> None:
    """The table there is the table of netscand/core/ratelimit.py, in its order."""
    text = (DOCS / "security.md").read_text()
    listed = [
        line for line in text.partition("## Budgets")[2].partition("\n## ")[0].splitlines() if line.startswith("| `")
    ]
    assert listed == [row_of(budget) for budget in ratelimit.table()]
