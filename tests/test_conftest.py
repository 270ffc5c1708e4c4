"""The rules that every ring of tests keeps, each tried on a file of tests made for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.spaces import ROOT

ONE_OF_EACH = """
import pytest

def test_runs():
    pass

@pytest.mark.long
def test_long():
    pass

@pytest.mark.home_assistant
def test_home():
    pass
"""
SKIPS = """
import pytest

def test_skips():
    pytest.skip("for no good reason")
"""
FAILS_LATE = """
import asyncio
import pytest

@pytest.fixture
def one():
    return 1

async def test_runs(one):
    await asyncio.sleep(0)
    assert one == 2
"""
IS_ENDED = """
import os, pathlib, pytest, signal

@pytest.fixture
def tidied():
    yield
    pathlib.Path("tidied").touch()

def test_is_ended(tidied):
    os.kill(os.getpid(), signal.SIGTERM)

def test_does_not_begin():
    pathlib.Path("begun").touch()
"""
SKIPS_WHOLLY = 'import pytest\npytest.skip("all of it", allow_module_level=True)\n'


def outcome(folder: Path, tests: str, *how: str, ci: bool = False) -> tuple[int, str]:
    """What pytest, with our conftest, makes of these tests: its exit code and its last line."""
    code, output = run(folder, tests, *how, ci=ci)
    return code, output.splitlines()[-1]


def run(folder: Path, tests: str, *how: str, ci: bool = False) -> tuple[int, str]:
    """What pytest, with our conftest, makes of these tests: its exit code and its output."""
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  long: as in the project\n  home_assistant: the same\n")
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:asyncio", *how]
    plain = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = os.environ | plain | {"CI": "true" if ci else "false"}
    done = subprocess.run([*argv, str(folder)], cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("ci", [False, True])
def test_the_long_ones_are_left_out_unless_asked_for(tmp_path: Path, ci: bool) -> None:
    """Left out, in CI too, and not counted as skipped; with --long they run."""
    code, said = outcome(tmp_path, ONE_OF_EACH, ci=ci)
    assert (code, "1 passed, 2 deselected" in said) == (0, True), said
    code, said = outcome(tmp_path, ONE_OF_EACH, "--home-assistant", ci=ci)
    assert (code, "2 passed, 1 deselected" in said) == (0, True), said
    code, said = outcome(tmp_path, ONE_OF_EACH, "--long", ci=ci)
    assert (code, "3 passed" in said) == (0, True), said


@pytest.mark.parametrize(("how", "count"), [([], 1), (["--home-assistant"], 0)])
def test_it_is_reported_that_home_assistant_is_left_out(tmp_path: Path, how: list[str], count: int) -> None:
    """With the option that runs them: a deselected test has no reason of its own."""
    assert run(tmp_path, ONE_OF_EACH, *how)[1].count("1 tests with a real Home Assistant") == count


@pytest.mark.parametrize("tests", [SKIPS, SKIPS_WHOLLY])
def test_in_ci_nothing_may_be_skipped(tmp_path: Path, tests: str) -> None:
    """A test, or a whole file, that skips is a skip at home and a failure in CI."""
    code, said = outcome(tmp_path, SKIPS + "\ndef test_runs(): pass\n" if tests is SKIPS else tests)
    assert ("skipped" in said, "failed" in said or "error" in said) == (True, False), said
    code, said = outcome(tmp_path, tests, ci=True)
    assert code not in (0, 5), said
    assert "failed" in said or "error" in said, said


@pytest.mark.parametrize("args", [[], ["--long"]])
def test_a_closing_line_is_printed(tmp_path: Path, args: list[str]) -> None:
    """Whatever was asked for, the last line counts the tests."""
    _, said = outcome(tmp_path, ONE_OF_EACH, *args)
    assert "passed in" in said or "deselected in" in said


def test_an_async_test_runs_to_its_end(tmp_path: Path) -> None:
    """With its fixtures: what is wrong in it is seen."""
    code, said = outcome(tmp_path, FAILS_LATE)
    assert (code, "1 failed" in said) == (1, True), said
    code, said = outcome(tmp_path, FAILS_LATE.replace("== 2", "== 1"))
    assert (code, "1 passed" in said) == (0, True), said


def test_sigterm_ends_the_run_and_tidies_up(tmp_path: Path) -> None:
    """As Ctrl-C does: fixtures end what they began, and no other test begins."""
    code, said = run(tmp_path, IS_ENDED)
    assert code == pytest.ExitCode.INTERRUPTED, said
    assert {path.name for path in tmp_path.iterdir()} >= {"tidied"}
    assert not (tmp_path / "begun").exists()
