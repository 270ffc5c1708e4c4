"""Where netscanctl finds the documentation of its installation."""

import sys
from pathlib import Path

import pytest

from netscanctl.documentation import documentation
from tests.ctl.conftest import ROOT

PLACES = {
    "/usr": (
        "/usr/share/doc/netscand",
        "packaging/debian/rules",
        "documents.py debian/netscand/usr/share/doc/netscand ",
    ),
    "/opt/netscand": ("/opt/netscand/share/doc", "packaging/install", "documents.py $place/share/doc "),
}
"""Prefix of the Python → folder of the pages, and the script that puts them there."""


@pytest.mark.parametrize("prefix", PLACES)
def test_messages_name_the_page_that_is_installed(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the package, and of packaging/install; who has no page of it reads the path in a checkout."""
    folder, script, words = PLACES[prefix]
    assert words in (ROOT / script).read_text()
    monkeypatch.setattr(sys, "prefix", prefix)
    installed: set[str] = set()
    monkeypatch.setattr(Path, "exists", lambda path: str(path) in installed)
    assert documentation("phone.md") == "docs/phone.md"
    installed.add(f"{folder}/docs/phone.md")
    assert documentation("phone.md") == f"{folder}/docs/phone.md"


def test_no_message_names_a_page_without_asking() -> None:
    """An installation has no folder docs where a user is."""
    for file in (ROOT / "netscanctl").rglob("*.py"):
        for line in file.read_text().splitlines():
            if "docs/" in line and not line.lstrip().startswith(('"""', "#")):
                assert file.name == "documentation.py", f"{file.name}: {line.strip()}"
