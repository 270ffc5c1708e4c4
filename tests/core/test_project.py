"""Project files: decisions, forms, versions and the wheel are consistent."""

import email
import re
import shutil
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
SHOW_THE_VERSION = ("README.md", "docs/container.md", "docs/service.md", "packaging/compose.yaml")
"""Files that name a package or an image."""
LONGEST = 40
"""Lines of a decision."""


def test_the_index_lists_every_decision() -> None:
    """docs/adr/README.md has a row for each page, in order: number, title, link."""
    rows = re.findall(r"^\| (\d+) \| \[(.*)\]\((\S+)\) \|$", (ADR / "README.md").read_text(), re.MULTILINE)
    titles = [re.match(r"# (\d+)\. (.*)\n", path.read_text()) for path in DECISIONS]
    assert rows == [(*title.groups(), path.name) for title, path in zip(titles, DECISIONS, strict=True) if title]
    numbers = [int(number) for number, _, _ in rows]
    assert numbers == sorted(set(numbers))  # one may be missing: that of a decision under way
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
    """RELEASING.md, section 1: the places."""
    releasing = (ROOT / "RELEASING.md").read_text()
    assert not [name for name in SHOW_THE_VERSION if f"`{name}`" not in releasing]
    changelog = re.search(r"^## (\S+) \(.*\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    package = re.match(r"netscand \((\S+)\) ", (ROOT / "packaging/debian/changelog").read_text())
    assert [found and found[1] for found in (changelog, package)] == [__version__] * 2
    for name in SHOW_THE_VERSION:
        shown = re.findall(r"netscand[_:](\d[\d.]*\d)", (ROOT / name).read_text())
        assert shown, name
        assert set(shown) == {__version__}, name


def test_the_package_has_the_upper_bounds_of_the_project() -> None:
    """debian/control, for building and for running: a release that was not tried is not installed beneath netscand."""
    wanted = {
        f"python3-{name} (<< {most}~)"  # ~: nor a release candidate of it
        for name, most in re.findall(r"^([\w-]+)>=[\d.]+,<([\d.]+)$", "\n".join(PROJECT["dependencies"]), re.MULTILINE)
    }
    assert wanted
    source, netscand, _ = (ROOT / "packaging/debian/control").read_text().split("\nPackage:")
    for part in (source, netscand):  # netscand-hub depends on netscand
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


def built(target: str, checkout: Path, folder: Path) -> Path:
    """Build without a network, as RELEASING.md says."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(build, cwd=checkout, check=True, capture_output=True)
    (made,) = folder.iterdir()
    return made


def test_the_source_archive_is_complete(tmp_path: Path) -> None:
    """Every file of the repository is in it, and the wheel built from it is the one built from the checkout."""
    (tmp_path / "sources").mkdir()
    archive = built("sdist", ROOT, tmp_path / "sdist")
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", tmp_path / "sources"], check=True)
    (sources,) = (tmp_path / "sources").iterdir()
    there = {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    assert {"dev", "packaging/deb", "systemd/netscand.service", "tests/core/test_project.py"} <= there
    assert {name for name in listed if (ROOT / name).is_file()} <= there
    wheels = [built("wheel", where, tmp_path / name) for name, where in (("a", sources), ("b", ROOT))]
    assert wheels[0].read_bytes() == wheels[1].read_bytes()


def test_a_package_index_shows_a_complete_page(tmp_path: Path) -> None:
    """The metadata: README.md as Markdown, without links to files; license, Python, keywords and programs are named."""
    wheel = zipfile.ZipFile(built("wheel", ROOT, tmp_path))
    folder = f"netscand-{__version__}.dist-info"
    metadata = email.message_from_string(wheel.read(f"{folder}/METADATA").decode())
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = str(metadata.get_payload())
    assert text.splitlines()[0] == "# netscand"
    assert text.count("\n") == (ROOT / "README.md").read_text().count("\n")
    assert not re.search(r"\]\((?!https?:|#)", text)
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("MIT", ">=3.11")
    assert len(metadata["Summary"]) < 140
    assert metadata["Keywords"]
    programs = wheel.read(f"{folder}/entry_points.txt").decode()
    assert re.findall(r"(?m)^(\w+) = ", programs) == ["netscanctl", "netscand"]


def test_links_in_a_package_index_lead_to_the_source(tmp_path: Path) -> None:
    """Once `[project.urls]` names it: files, headings and pictures; links of other kinds stay."""
    for name in ("README.md", "LICENSE", "pyproject.toml", "netscand/__init__.py", "packaging/index_page.py"):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)
    (project := tmp_path / "checkout/pyproject.toml").write_text(
        project.read_text().replace(
            "[project.scripts]", '[project.urls]\nSource = "https://a.example/n/"\n\n[project.scripts]'
        )
    )
    page = "[a](docs/a.md#b) ![c](docs/c.png) [d](#e) <http://f/> [g](https://h/)\n"
    (tmp_path / "checkout/README.md").write_text(page)
    (tmp_path / "checkout/netscanctl").mkdir()
    wheel = zipfile.ZipFile(built("wheel", tmp_path / "checkout", tmp_path / "wheel"))
    metadata = wheel.read(f"netscand-{__version__}.dist-info/METADATA").decode()
    at = "https://a.example/n"
    links = f"[a]({at}/blob/HEAD/docs/a.md#b) ![c]({at}/raw/HEAD/docs/c.png) [d](#e) <http://f/> [g](https://h/)\n"
    assert metadata.endswith(f"\n\n{links}")
    assert f"\nProject-URL: Source, {at}/\n" in metadata


def test_the_wheel_has_its_license_types_and_page(tmp_path: Path) -> None:
    """Built without a network, as RELEASING.md says, in both packages."""
    names = zipfile.ZipFile(built("wheel", ROOT, tmp_path)).namelist()
    for name in ("netscand/py.typed", "netscanctl/py.typed", "netscand/serve/web/index.html"):
        assert name in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"netscand", "netscanctl", f"netscand-{__version__}.dist-info"}
