"""What every ring of tests shares: `--long`, nothing skipped in CI, and a machine left as it was."""

import asyncio
import inspect
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

from tests.lab.crowd import Crowd
from tests.lab.lan import Lab
from tests.lab.spaces import ours, sweep

CI = os.environ.get("CI") == "true"
LAB = Path(__file__).parent / "lab"
LEFT_OUT = {"long": ["--long"], "home_assistant": ["--home-assistant", "--long"]}
"""Marker → options that select the tests."""
HOME_ASSISTANT = pytest.StashKey[int]()
NEEDS_ROOT = "the lab makes network namespaces: run ./dev test as root or through sudo"

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # it is, with two rings
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long`, `--home-assistant`."""
    parser.addoption("--long", action="store_true", help="also run the thousands (tests marked long)")
    parser.addoption("--home-assistant", action="store_true", help="run the tests with a real Home Assistant")


def pytest_configure() -> None:
    """SIGTERM ends the run as Ctrl-C does: otherwise pytest dies at once, or only a test of a lab ends, as failed."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without root the lab is skipped. Others are left out unless asked for: CI minds only what is skipped."""
    if os.geteuid():
        for item in items:
            if LAB in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=NEEDS_ROOT))
    left_out = {marker for marker, options in LEFT_OUT.items() if not any(map(config.getoption, options))}
    out = [item for item in items if any(map(item.get_closest_marker, left_out))]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
    config.stash[HOME_ASSISTANT] = sum(item.get_closest_marker("home_assistant") is not None for item in out)


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    """Say why the tests with Home Assistant are left out."""
    count = config.stash.get(HOME_ASSISTANT, 0)
    return (
        f"left out: {count} tests with a real Home Assistant (1.6 GB); to run them: --home-assistant" if count else ""
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that skips has failed: it proves nothing there, and nobody reads the reason."""
    report = yield
    # xdist sends the report to another process, and half a surrogate in a log cannot be sent.
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI may skip nothing: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file."""
    report = yield
    if CI and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and CI may skip nothing: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _namespaces_left() -> Iterator[None]:
    """No test leaves a namespace of ours behind; what an earlier, killed run left is swept first."""
    if os.geteuid() == 0:
        sweep()
    yield
    assert not ours(), f"namespaces left behind: {', '.join(ours())}"


@pytest.fixture(scope="session")
def root() -> None:
    """For tests that make namespaces."""
    if os.geteuid():
        pytest.skip(NEEDS_ROOT)


@pytest.fixture
def lab(root: None) -> Iterator[Lab]:
    """A LAN of one's own, 10.77.0.0/24, the watcher at 10.77.0.2."""
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def shared_lab(root: None) -> Iterator[Lab]:
    """A LAN that the tests of a file share: for those that only add to it, or put back what they change."""
    with Lab() as made:
        yield made


@pytest.fixture
def crowd(shared_lab: Lab) -> Iterator[Crowd]:
    """An empty crowd in the shared lab, gone afterwards."""
    made = shared_lab.crowd(seed=7)
    yield made
    shared_lab.dismiss(made)
