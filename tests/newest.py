"""`./dev test --newest`: the fast tests and the types with the newest release of every library.

A release of somebody else's library is to be noticed here first, not by a user. The locked set is not touched: this
works in `.venv-newest`. Upper bounds of pyproject.toml are ignored, for what lies behind them is what is to be learned.
Where something breaks, each package that differs is tried alone, so that the report can name the one that did it.
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


def blame(
    differs: Iterable[Differs], failed: Sequence[str], fails_with: Callable[[Differs], Sequence[str]]
) -> dict[Differs, list[str]]:
    """Return the packages that make tests of `failed` fail when they alone are the newest, each with those tests."""
    found = ((each, [test for test in fails_with(each) if test in failed]) for each in differs)
    return {each: tests for each, tests in found if tests}


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
    failed = [*_tests(FAST), *_types()]
    if not differs or not failed:
        _say("everything passes" if not failed else f"fails with the locked set as well: {' '.join(failed)}")
        return bool(failed)
    _put_back(differs)
    known = _again(failed)
    broken = [test for test in failed if test not in known]
    if known:
        _say(f"fails with the locked set as well: {' '.join(known)}")
    if not broken:
        return 0

    def fails_with(each: Differs) -> Sequence[str]:
        _pip("--no-deps", f"{each.name}=={each.newest}")
        try:
            return _again(broken)
        finally:
            _put_back([each])

    guilty = blame(differs, broken, fails_with)
    for each, tests in guilty.items():
        _say(f"{each} breaks {len(tests)}: {' '.join(tests)}")
    unexplained = [test for test in broken if not any(test in tests for tests in guilty.values())]
    if unexplained:
        _say(f"no package alone breaks, but all of them together do: {' '.join(unexplained)}")
    return 1


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
    return dict(line.split("==", 1) for line in lines if not line.startswith("pip="))


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
