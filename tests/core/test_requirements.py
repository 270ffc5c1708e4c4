"""Requirements are locked, fit pyproject.toml, and GitHub's checks run what `.ci/run` runs."""

import re
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests import newest
from tests.newest import Differs, blame, differing, fail_twice, failures, normalised

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETS = ("build", "run", "test", "oldest", "home-assistant")
ENTRY = re.compile(r"^([\w.-]+)==(\S+?)(?: ; .*?)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    """Package → version; every line of the file belongs to an entry with hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not ENTRY.sub("", text), "each package needs an exact version and hashes: run ./dev lock"
    return {name: version for name, version, _ in ENTRY.findall(text)}


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)][:3]


def calls(name: str) -> list[str]:
    """What pyproject.toml asks for in that set."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    run, test = project["dependencies"] + extras["mqtt"], extras["sites"] + extras["test"]
    wanted: list[str] = {
        "build": groups["build"],
        "run": run,
        "oldest": run + test,
        "test": run + test + groups["lint"],
        "home-assistant": groups["home-assistant"],
    }[name]
    return wanted


@pytest.mark.parametrize("name", SETS)
def test_the_lock_fits_pyproject(name: str) -> None:
    """`./dev lock` was run after the last change of a dependency."""
    there = locked(name)
    for need in calls(name):
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
    for need in calls("run"):
        package, bound = re.match(r"([\w.-]+)>=([\d.]+)", need).groups()  # type: ignore[union-attr]
        assert numbers(there[package])[: len(numbers(bound))] == numbers(bound), need


def unexplained(pyproject: str) -> list[str]:
    """Return the dependencies that keep newer versions out, and have no sentence beside it that says why."""
    there = re.search(r"^dependencies = \[\n(.*?)^\]", pyproject, re.MULTILINE | re.DOTALL)
    assert there is not None
    lines = [re.fullmatch(r'\s*"(.*)",(?:\s*#(.*))?', line) for line in there[1].splitlines()]
    found = [(line[1], line[2] or "") for line in lines if line]
    assert [need for need, _ in found] == tomllib.loads(pyproject)["project"]["dependencies"], "one a line"
    return [need for need, why in found if re.search(r"<|==|~=|!=", need) and len(why.split()) < 4]


def test_an_upper_bound_has_its_reason_beside_it() -> None:
    """An upper bound needs a reason: with any operator, and not by an unrelated comment."""
    text = (ROOT / "pyproject.toml").read_text()
    assert unexplained(text) == []
    why = re.search(r'^    "(aiohttp.*<.*)",(\s*#.*)$', text, re.MULTILINE)
    assert why is not None, "there is nothing to explain: remove this half of the test"
    assert unexplained(text.replace(why[2], "")) == [why[1]]
    assert unexplained(text.replace(why[2], "  # sorry")) == [why[1]]
    for sign in ("<=1", "~=0.19", "==0.23", "!=0.20"):
        assert unexplained(text.replace('"msgspec>=0.19"', f'"msgspec{sign}"')) == [f"msgspec{sign}"]


def jobs(workflow: str) -> dict[str, str]:
    """Return the jobs of a file in .github/workflows: name -> what is below it, without comments."""
    lines = (ROOT / ".github/workflows" / workflow).read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found = re.split(r"^  ([\w-]+):$", text.partition("\njobs:\n")[2], flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def steps(job: str) -> list[str]:
    """Return what a job runs."""
    return re.findall(r"^      - run: (.*)$", job, re.MULTILINE)


def pythons(job: str) -> list[str]:
    """Return the Pythons that a job sets up."""
    calls = re.search(r"^ +python-version: (.*)$", job, re.MULTILINE)
    matrix = re.search(r"^ +python: \[(.*)\]$", job, re.MULTILINE)
    assert calls is not None
    where = matrix[1] if calls[1] == "${{ matrix.python }}" and matrix else calls[1]
    return re.findall(r"3\.\d+", where)


def test_github_tries_every_python_from_the_oldest() -> None:
    """Those that the lock is made for, with no gap; the ends of the range with the oldest and newest libraries."""
    locked_for = re.search(r"for version in (.*); do", (ROOT / "dev").read_text())
    assert locked_for is not None
    check, weekly = jobs("check.yml"), jobs("newest.yml")
    tried = pythons(check["fast"])
    assert tried == locked_for[1].split()
    assert PROJECT["project"]["requires-python"] == f">={tried[0]}"
    minors = [int(version.partition(".")[2]) for version in tried]
    assert minors == list(range(minors[0], minors[0] + len(minors)))
    assert (pythons(check["oldest"]), pythons(weekly["newest"])) == ([tried[0]], [tried[-1]])


def test_github_runs_what_the_documents_promise() -> None:
    """All of it as root, where nothing is skipped; and the fast tests as an ordinary user, who skips some."""
    check, weekly = jobs("check.yml"), jobs("newest.yml")
    as_root = 'sudo env "PATH=$PATH" CI=true ./dev test '
    assert steps(check["everything"]) == ["sudo --preserve-env=CI bash .ci/run"]
    assert steps(check["fast"])[-1] == f"{as_root}fast"
    assert steps(check["oldest"])[-1] == f"{as_root}--oldest"
    assert steps(weekly["newest"])[-1] == f"{as_root}--newest"
    assert steps(check["user"]) == ["env --unset=CI ./dev test fast"]
    assert "needs no root" in (ROOT / "dev").read_text()
    assert not re.search(r"^ +if: |continue-on-error", "".join((*check.values(), *weekly.values())), re.MULTILINE)


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

    def trial(new: set[Differs], calls: Sequence[str]) -> list[str]:
        return list(calls) if breaks(new) else []

    found = blame(
        [A, B, C],
        ["mypy"],
        lambda each, calls: trial({A, B, C} - {each}, calls),
        lambda each, calls: trial({each}, calls),
    )
    assert found == {named: ["mypy"]}


def test_what_fails_once_is_nobodys_fault() -> None:
    """A test is blamed on a library only if it fails again: each run has its races."""
    runs = iter([["race", "broken"], ["broken"]])
    calls = []

    def run(tests: Sequence[str]) -> list[str]:
        calls.append(list(tests))
        return next(runs)

    assert fail_twice(run, ["race", "broken", "good"]) == ["broken"]
    assert calls == [["race", "broken", "good"], ["race", "broken"]]
    assert fail_twice(run, []) == []


def test_the_report_names_what_breaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From the first run to the last line, with stand-ins for pip and pytest; races, and what is known, are apart."""
    locked, latest = {"a": "1", "b": "1", "d": "1"}, {"a": "2", "b": "2", "c": "1", "d": "1"}
    there, races = dict(locked), ["race"]

    def pip(*words: str) -> None:
        there.update(latest if "--upgrade" in words else dict(word.split("==") for word in words if "==" in word))

    def run(argv: list[str], **_: object) -> None:
        if "uninstall" in argv:
            del there[argv[-1]]

    def tests(which: Sequence[str]) -> list[str]:
        failed = ["known", *(races and [races.pop()]), *(["x"] if there["a"] == there["b"] == "2" else [])]
        return [*failed, *(["y"] if "c" in there else [])]

    for name, stand_in in {"_pip": pip, "_tests": tests, "_types": list, "_versions": lambda: dict(there)}.items():
        monkeypatch.setattr(newest, name, stand_in)
    monkeypatch.setattr(subprocess, "run", run)
    assert newest.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        "newest: newer than locked: a 1 -> 2, b 1 -> 2, c none -> 1",
        "newest: failed once, and passed when run again: race",
        "newest: fails with the locked set as well: known",
        "newest: a 1 -> 2 and b 1 -> 2 break 1: x",
        "newest: c none -> 1 breaks 1: y",
    ]


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
