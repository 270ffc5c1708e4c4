"""`./dev test --newest`: the fast tests and the types with the newest release of every library.

A release of somebody else's library is to be noticed here first, not by a user. The locked set is not touched: this
works in `.venv-newest`. Upper bounds of pyproject.toml are ignored, for what lies behind them is what is to be learned.
What fails is run again first. Then the report names the packages that did it: all that differ are taken but one, which
names those that break something together; where that names none, each is taken alone.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".venv-newest"
PYTHON = str(PLACE / "bin" / "python")
FAST = ("tests/core", "tests/serve", "tests/store", "tests/ctl")
OK, SOME_FAILED = 0, 1
"""Exit codes of pytest that say that it ran."""

TYPES = "mypy"
"""Stands for the types among the names of tests that failed."""

Versions = Mapping[str, str]
"""By names as PEP 503 normalises them."""


class Differs(NamedTuple):
    """A package of which the newest release is not the locked one."""

    name: str
    locked: str
    newest: str

    def __str__(self) -> str:
        return f"{self.name} {self.locked} -> {self.newest}"


def differing(locked: Versions, newest: Versions) -> list[Differs]:
    """Return what differs, by name; a package that only the newest set has counts as `none` before."""
    return [
        Differs(name, locked.get(name, "none"), version)
        for name, version in sorted(newest.items())
        if locked.get(name) != version
    ]


Trial = Callable[[Differs, Sequence[str]], Sequence[str]]
"""Run tests with other versions of one package; which fail."""


def blame(
    differs: Sequence[Differs], failed: Sequence[str], fails_without: Trial, fails_with: Trial
) -> dict[tuple[Differs, ...], list[str]]:
    """Return the packages to blame for tests of `failed`, each group with its tests; () has those nobody explains.

    `fails_without` has the newest of all but one, `fails_with` the newest of that one alone. All without which a test
    passes break it together; a test that fails without any of them has several causes, each of which breaks it alone.
    """
    without = {each: fails_without(each, failed) for each in differs}
    needed = {test: tuple(each for each in differs if test not in without[each]) for test in failed}
    open_ones = [test for test in failed if not needed[test]]
    alone = {each: fails_with(each, open_ones) for each in differs} if open_ones else {}
    found: dict[tuple[Differs, ...], list[str]] = {}
    for test in failed:
        found.setdefault(needed[test] or tuple(each for each in alone if test in alone[each]), []).append(test)
    return found


def fail_twice(run: Callable[[Sequence[str]], Sequence[str]], tests: Sequence[str]) -> list[str]:
    """Return the tests that fail, and fail again when they are run once more: a race is no library's doing."""
    failed = run(tests) if tests else []
    again = run(failed) if failed else []
    return [test for test in failed if test in again]


def normalised(name: str) -> str:
    """Return the one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Install, test, report; 1 if something breaks that holds with the locked set."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [re.match(r"[\w.-]+", need)[0] for need in project["dependencies"]]  # type: ignore[index]
    subprocess.run([sys.executable, "-m", "venv", "--clear", PLACE], check=True)
    _pip("--require-hashes", "--no-build-isolation", "-r", "requirements/build.txt")
    _pip("--require-hashes", "--no-build-isolation", "-r", "requirements/test.txt")
    _pip("--no-build-isolation", "--no-deps", "--editable", ".")
    locked = _versions()
    _pip("--upgrade", "--upgrade-strategy", "eager", *direct)
    differs = differing(locked, _versions())
    _say(f"newer than locked: {', '.join(map(str, differs))}" if differs else "every library is locked at its newest")
    once = [*_tests(FAST), *_types()]
    again = _again(once) if once else []
    if passing := [test for test in once if test not in again]:
        _say(f"failed once, and passed when run again: {' '.join(passing)}")
    failed = [test for test in once if test in again]
    if not differs or not failed:
        _say("everything passes" if not failed else f"fails with the locked set as well: {' '.join(failed)}")
        return bool(failed)
    _put_back(differs)
    known = fail_twice(_again, failed)
    broken = [test for test in failed if test not in known]
    if known:
        _say(f"fails with the locked set as well: {' '.join(known)}")
    if not broken:
        return 0

    def fails_without(each: Differs, tests: Sequence[str]) -> Sequence[str]:
        _take_newest(differs)
        _put_back([each])
        return fail_twice(_again, tests)

    def fails_with(each: Differs, tests: Sequence[str]) -> Sequence[str]:
        _put_back(differs)
        _take_newest([each])
        return fail_twice(_again, tests)

    for guilty, tests in blame(differs, broken, fails_without, fails_with).items():
        names = " and ".join(map(str, guilty)) or "no package that could be named, but all of them,"
        _say(f"{names} break{'s' if len(guilty) == 1 else ''} {len(tests)}: {' '.join(tests)}")
    return 1


def _take_newest(differs: Iterable[Differs]) -> None:
    _pip("--no-deps", "--no-build-isolation", *(f"{each.name}=={each.newest}" for each in differs))


def _put_back(differs: Iterable[Differs]) -> None:
    for each in differs:
        if each.locked == "none":
            subprocess.run([PYTHON, "-m", "pip", "--quiet", "uninstall", "--yes", each.name], check=True)
        else:
            _pip("--no-deps", "--no-build-isolation", f"{each.name}=={each.locked}")


def _pip(*words: str) -> None:
    pip = [PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, *words], check=True, cwd=ROOT)


def _versions() -> dict[str, str]:
    argv = [PYTHON, "-m", "pip", "--disable-pip-version-check", "list", "--format=freeze", "--exclude-editable"]
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    found = dict(line.split("==", 1) for line in lines if not line.startswith("pip="))
    return {normalised(name): version for name, version in found.items()}


def _again(tests: Sequence[str]) -> list[str]:
    found = [test for test in tests if test != TYPES]
    return [*(_tests(found) if found else []), *(_types() if TYPES in tests else [])]


def _tests(which: Sequence[str]) -> list[str]:
    """Run them; which fail. Where pytest itself fails, each file is run alone, and counts by its name."""
    code, failed = _pytest(which)
    if code in (OK, SOME_FAILED):
        return failed
    files = sorted({file for each in which for file in _files(each.partition("::")[0])})
    if len(files) == 1:
        return files
    return sorted({test for file in files for test in _tests([file])})


def _files(place: str) -> list[str]:
    path = ROOT / place
    return [place] if path.is_file() else [str(each.relative_to(ROOT)) for each in path.rglob("test_*.py")]


def _pytest(which: Sequence[str]) -> tuple[int, list[str]]:
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        argv = [PYTHON, "-m", "pytest", "--quiet", "--numprocesses=auto", "--dist=loadfile"]
        written = [f"--junitxml={report.name}", "--override-ini=junit_family=xunit1"]
        code = subprocess.run([*argv, *written, *which], check=False, cwd=ROOT).returncode
        return code, failures(report.read())


def failures(report: bytes) -> list[str]:
    """Return the ids of the tests that failed, from pytest's JUnit XML; b"" has none."""
    if not report:
        return []
    cases = ElementTree.fromstring(report).iter("testcase")
    return sorted({_id(case) for case in cases if {child.tag for child in case} & {"failure", "error"}})


def _id(case: ElementTree.Element) -> str:
    """A test file that cannot be imported has no class name, and its own dotted name as a name."""
    file, name = case.get("file"), case.get("name") or ""
    module = name.replace(".", "/") + ".py"
    if not case.get("classname"):
        return module if file is None or module == file else file
    return f"{file}::{name}"


def _types() -> list[str]:
    done = subprocess.run([PYTHON, "-m", "mypy", "--cache-dir=.mypy_cache/newest"], check=False, cwd=ROOT)
    return [TYPES] if done.returncode else []


def _say(line: str) -> None:
    print(f"newest: {line}", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as failed:
        _say(f"cannot install the newest libraries (is there a network?): {' '.join(map(str, failed.cmd))}")
        sys.exit(2)
