"""What `./dev` installs is locked, the lock fits pyproject.toml, and GitHub's checks run what `.ci/run` runs."""

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.newest import Differs, blame, differing, fail_twice, failures, normalised

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETS = ("build", "run", "test", "oldest")
ENTRY = re.compile(r"^([\w.-]+)==(\S+?)(?: ; .*?)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    """Package → version; every line of the file belongs to an entry with hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not ENTRY.sub("", text), "each package needs an exact version and hashes: run ./dev lock"
    return {name: version for name, version, _ in ENTRY.findall(text)}


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)][:3]


def asked(name: str) -> list[str]:
    """What pyproject.toml asks for in that set."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    run, test = project["dependencies"], project["optional-dependencies"]["test"]
    wanted: list[str] = {
        "build": groups["build"],
        "run": run,
        "oldest": run + test,
        "test": run + test + groups["lint"],
    }[name]
    return wanted


@pytest.mark.parametrize("name", SETS)
def test_the_lock_fits_pyproject(name: str) -> None:
    """`./dev lock` was run after the last change of a dependency."""
    there = locked(name)
    for need in asked(name):
        package, rule = re.fullmatch(r"([\w.-]+)(.*)", need).groups()  # type: ignore[union-attr]
        assert package in there, f"{need} is not locked: run ./dev lock"
        for sign, bound in re.findall(r"(==|>=|<)([\d.]+)", rule):
            version, limit = numbers(there[package]), numbers(bound)
            fits = {"==": version == limit, ">=": version >= limit, "<": version < limit}[sign]
            assert fits, f"{package} {there[package]} is locked, {need} asked for: run ./dev lock"


def test_a_run_and_a_test_use_the_same_versions() -> None:
    both = locked("test")
    assert locked("run").items() <= both.items()


def test_the_oldest_are_what_pyproject_allows() -> None:
    """`./dev test --oldest` tries the lower bounds themselves."""
    there = locked("oldest")
    for need in asked("run"):
        package, bound = re.match(r"([\w.-]+)>=([\d.]+)", need).groups()  # type: ignore[union-attr]
        assert numbers(there[package])[: len(numbers(bound))] == numbers(bound), need


def test_an_upper_bound_has_its_reason_beside_it() -> None:
    """Nobody is kept from a newer library without a word."""
    text = (ROOT / "pyproject.toml").read_text()
    lines = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert lines is not None
    for line in lines[1].splitlines():
        assert "<" not in line.partition("#")[0] or "#" in line, line


def test_github_tries_every_python_from_the_oldest() -> None:
    workflow = (ROOT / ".github/workflows/check.yml").read_text()
    assert 'python: ["3.11", "3.12", "3.13", "3.14"]' in workflow
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert "bash .ci/run" in workflow


def test_what_differs_is_named_with_both_versions() -> None:
    found = differing({"aiohttp": "3.14", "yarl": "1.0"}, {"aiohttp": "3.15", "yarl": "1.0", "brand-new": "0.1"})
    assert list(map(str, found)) == ["aiohttp 3.14 -> 3.15", "brand-new none -> 0.1"]


A, B, C = (Differs(name, "1", "2") for name in "abc")


@pytest.mark.parametrize(
    ("breaks", "named"),
    [
        (lambda new: A in new, (A,)),
        (lambda new: {A, B} <= new, (A, B)),  # neither alone
        (lambda new: A in new or B in new, (A, B)),  # each by itself
        (lambda new: (A in new) != (B in new) or C in new, (C,)),  # A and B must move together, which is no fault
        (lambda new: len(new) == 2 or len(new) == 3, ()),
    ],
)
def test_the_packages_that_break_a_test_are_named_together(
    breaks: Callable[[set[Differs]], bool], named: tuple[Differs, ...]
) -> None:
    """All without which it passes; else each that breaks it alone; no other."""

    def trial(new: set[Differs], asked: Sequence[str]) -> list[str]:
        return list(asked) if breaks(new) else []

    found = blame(
        [A, B, C],
        ["mypy"],
        lambda each, asked: trial({A, B, C} - {each}, asked),
        lambda each, asked: trial({each}, asked),
    )
    assert found == {named: ["mypy"]}


def test_what_fails_once_is_nobodys_fault() -> None:
    """A test is blamed on a library only if it fails again: each run has its races."""
    runs = iter([["race", "broken"], ["broken"]])
    asked = []

    def run(tests: Sequence[str]) -> list[str]:
        asked.append(list(tests))
        return next(runs)

    assert fail_twice(run, ["race", "broken", "good"]) == ["broken"]
    assert asked == [["race", "broken", "good"], ["race", "broken"]]
    assert fail_twice(run, []) == []


@pytest.mark.parametrize("name", ["Typing_Extensions", "typing.extensions", "typing-_.extensions"])
def test_a_package_has_one_name(name: str) -> None:
    """However pip and the lock spell it (PEP 503)."""
    assert normalised(name) == "typing-extensions"


def test_what_failed_is_read_from_pytests_report() -> None:
    """A test by its id; a file that cannot be imported by its name; no report has none."""
    report = b"""<testsuites><testsuite>
        <testcase classname="tests.core.test_x" name="test_good" file="tests/core/test_x.py"/>
        <testcase classname="tests.core.test_x" name="test_bad[1]" file="tests/core/test_x.py"><failure/></testcase>
        <testcase classname="" name="tests.core.test_y" file="tests/core/test_y.py"><error/></testcase>
        <testcase classname="" name="tests.core.test_z"><error/></testcase></testsuite></testsuites>"""
    found = ["tests/core/test_x.py::test_bad[1]", "tests/core/test_y.py", "tests/core/test_z.py"]
    assert failures(report) == found
    assert failures(b"") == []
