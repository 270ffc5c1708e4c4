"""Project files: decisions, forms, versions and the wheel are consistent."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import click
import pytest

from netscanctl.cli import cli
from netscand import __version__
from netscand.__main__ import parser

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADR = ROOT / "docs" / "adr"
DECISIONS = sorted(ADR.glob("[0-9]*.md"))
FORMS = [*(ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"), *ROOT.glob("*.md")]
LONGEST = 40
"""Lines of a decision."""


def test_the_index_lists_every_decision() -> None:
    """docs/adr/README.md has a row for each page, in order: number, title, link."""
    rows = re.findall(r"^\| (\d+) \| \[(.*)\]\((\S+)\) \|$", (ADR / "README.md").read_text(), re.MULTILINE)
    titles = [re.match(r"# (\d+)\. (.*)\n", path.read_text()) for path in DECISIONS]
    assert rows == [(*title.groups(), path.name) for title, path in zip(titles, DECISIONS, strict=True) if title]
    assert [int(number) for number, _, _ in rows] == list(range(1, len(DECISIONS) + 1))
    assert all(path.name.startswith(f"{int(row[0]):04}-") for row, path in zip(rows, DECISIONS, strict=True))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_is_one_page(page: Path) -> None:
    """At most 40 lines: status, context, decision, consequences; the code that it names exists."""
    text = page.read_text()
    assert text.count("\n") <= LONGEST
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    status = re.search(
        r"^Status: (accepted \(.*?\)|superseded by \[\d+\]\(\S+\))\.(?: Code: (.*))?$", text, re.MULTILINE
    )
    assert status is not None
    for name in re.findall(r"`(.*?)`", status[2] or ""):
        assert (ROOT / name).exists(), name


def test_every_law_is_named_by_a_test() -> None:
    """The laws of docs/house.md, each in a docstring or comment of a test (`Law 4`, `laws 2 and 3`)."""
    laws = re.findall(r"^(\d+)\. ", (ROOT / "docs/house.md").read_text().split("## Laws")[1], re.MULTILINE)
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"\blaws? (\d+(?:(?:, | and )\d+)*)", tests, re.IGNORECASE)
    assert set(laws) <= set(re.findall(r"\d+", " ".join(named)))


def test_the_version_is_the_same_everywhere() -> None:
    """RELEASING.md, section 1: the four places."""
    changelog = re.search(r"^## (\S+) \(.*\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    package = re.match(r"netscand \((\S+)\) ", (ROOT / "packaging/debian/changelog").read_text())
    shown = re.search(r"netscand_(\S+)_all\.deb", (ROOT / "docs/service.md").read_text())
    assert [found and found[1] for found in (changelog, package, shown)] == [__version__] * 3


def test_the_package_has_the_upper_bounds_of_the_project() -> None:
    """debian/control, for building and for running: a release that was not tried is not installed beneath netscand."""
    wanted = {
        f"python3-{name} (<< {most}~)"  # ~: nor a release candidate of it
        for name, most in re.findall(r"^([\w-]+)>=[\d.]+,<([\d.]+)$", "\n".join(PROJECT["dependencies"]), re.MULTILINE)
    }
    assert wanted
    for part in (ROOT / "packaging/debian/control").read_text().split("\nPackage:"):
        assert set(re.findall(r"python3-[\w-]+ \(<< [\d.]+~\)", part)) == wanted


def test_the_classifiers_name_the_pythons_that_are_tested() -> None:
    """Those of the workflow's matrix."""
    matrix = re.search(r"python: \[(.*)\]", (ROOT / ".github/workflows/check.yml").read_text())
    assert matrix is not None
    tested = re.findall(r"[\d.]+", matrix[1])
    assert re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"])) == tested


def test_commands_that_forms_and_pages_name_exist() -> None:
    """Each `netscanctl …` and `netscand …` in the issue forms and the pages beside README.md, with its options."""
    pattern = re.compile(r"`(netscanctl|netscand) (.*?)`")
    named = [(page.name, *found) for page in FORMS for found in pattern.findall(page.read_text())]
    assert len(named) > 20
    context = click.Context(cli, **cli.context_settings)
    for page, program, words in named:
        first, options = words.split()[0], re.findall(r"--[a-z-]+", words)
        if program == "netscand":
            known = parser().format_help().split()
        else:
            command = cli if first.startswith("-") else cli.get_command(context, first)
            assert command is not None, f"{page}: {program} {words}"
            known = [option for parameter in command.params for option in parameter.opts]
        assert set(options) <= set(known), f"{page}: {program} {words}"


def test_the_wheel_has_its_license_types_and_page(tmp_path: Path) -> None:
    """Built without a network, as RELEASING.md says, in both packages."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("netscand/py.typed", "netscanctl/py.typed", "netscand/serve/web/index.html"):
        assert name in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"netscand", "netscanctl", f"netscand-{__version__}.dist-info"}
