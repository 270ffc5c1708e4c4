"""The user's command, run for each change: one at a time, without a shell, bounded."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from netscanctl.client import Usage
from netscanctl.exec_runner import Job, Runner
from tests.ctl.fake_daemon import DEADLINE
from tests.ctl.messages import device, event

PYTHON = Path(sys.executable).name
ONE = event("discovered", device(7))


def python(program: str) -> list[str]:
    return [sys.executable, "-S", "-c", program]


class Trial:
    """Runner, running while the block lasts, with its notices and saved cursors."""

    def __init__(self, argv: list[str], **bounds: float) -> None:
        self.notices: list[str] = []
        self.done: list[str] = []
        self.news = asyncio.Event()
        self.runner = Runner(argv, self._notice, self._save, **bounds)  # type: ignore[arg-type]

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(asyncio.timeout(DEADLINE))
        tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._stack.callback(tasks.create_task(self.runner.run()).cancel)
        return self

    async def __aexit__(self, *how: Any) -> None:  # noqa: ANN401
        await self._stack.__aexit__(*how)

    async def submit(self, *numbers: int, until: int | None = None) -> None:
        """Submit jobs of these numbers, and wait until so many are done (by default all)."""
        for number in numbers:
            await self.runner.submit(job(number))
        await self.until(lambda: len(self.done) >= (len(numbers) if until is None else until))

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        self.news.set()

    def _save(self, cursor: str) -> None:
        self.done.append(cursor)
        self.news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.news.clear()
            await self.news.wait()


def job(number: int, json: bytes = b"{}") -> Job:
    return Job(ONE, json, f"k3f9-{number}")


async def test_each_event_is_one_line_on_stdin_in_order(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Trial(python(f"import sys; open({str(log)!r}, 'a').write(sys.stdin.read())")) as made:
        for number in range(3):
            await made.runner.submit(job(number, b'{"number":%d}' % number))
        await made.runner.submit(Job(None, b"", "k3f9-9"))
        await made.until(lambda: len(made.done) == 4)
    assert log.read_text() == '{"number":0}\n{"number":1}\n{"number":2}\n'
    assert made.done == ["k3f9-0", "k3f9-1", "k3f9-2", "k3f9-9"]
    assert made.notices == []


async def test_one_command_runs_at_a_time(tmp_path: Path) -> None:
    program = f"""if True:
        import os, time
        os.close(os.open({str(tmp_path / "lock")!r}, os.O_CREAT | os.O_EXCL))
        time.sleep(0.05)
        os.unlink({str(tmp_path / "lock")!r})"""
    async with Trial(python(program)) as made:
        await made.submit(0, 1, 2, 3)
    assert made.notices == []


@pytest.mark.parametrize(
    ("program", "why"),
    [("raise SystemExit(3)", "exit code 3"), ("import os; os.kill(os.getpid(), 9)", "signal 9")],
)
async def test_a_failed_run_is_reported_and_the_next_one_runs(program: str, why: str) -> None:
    async with Trial(python(program)) as made:
        await made.submit(1, 2)
    assert made.notices == [f"{PYTHON} failed for discovered a4:83:e7:00:00:07: {why}"] * 2


async def test_a_command_may_ignore_its_stdin() -> None:
    async with Trial(python("import sys; sys.stdin.close()")) as made:
        await made.runner.submit(job(1, b"x" * 1_000_000))
        await made.until(lambda: len(made.done) == 1)
    assert made.notices == []


async def test_a_hanging_command_is_killed_with_its_children(tmp_path: Path) -> None:
    """Also where it does not listen to SIGTERM."""
    program = f"""if True:
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = os.fork()
        open({str(tmp_path)!r} + f'/{{os.getpid()}}', 'w').close()
        time.sleep(1000)"""
    async with Trial(python(program), timeout=0.5, kill_delay=0.1) as made:
        while not list(tmp_path.iterdir()):  # on a busy machine it may be ended before it has begun
            made.done.clear()
            await made.submit(1)
    assert set(made.notices) == {f"{PYTHON} failed for discovered a4:83:e7:00:00:07: timed out after 0.5 s"}
    pids = [file.name for file in tmp_path.iterdir()]
    ends = time.monotonic() + DEADLINE
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < ends


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between open and read
        return False


async def test_a_full_queue_blocks_and_is_reported_once(tmp_path: Path) -> None:
    """The queue is bounded: a job beyond the limit waits in `submit`."""
    gate, submitted = tmp_path / "gate", 0
    program = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"

    async def submit() -> None:
        nonlocal submitted
        for number in range(8):
            await made.runner.submit(job(number))
            submitted += 1

    async with Trial(python(program), queue_limit=2) as made:
        async with asyncio.TaskGroup() as group:
            group.create_task(submit())
            await made.until(lambda: bool(made.notices))
            await asyncio.sleep(0.05)
            assert submitted == 3  # one runs, two wait
            gate.touch()
        await made.until(lambda: len(made.notices) == 2)
    assert made.notices == [f"{PYTHON} is too slow: 2 events are waiting for it", f"{PYTHON} has caught up"]
    assert len(made.done) == 8


async def test_a_running_command_is_killed_at_exit(tmp_path: Path) -> None:
    program = f"import os, time; open({str(tmp_path)!r} + f'/{{os.getpid()}}', 'w').close(); time.sleep(1000)"
    async with Trial(python(program)) as made:
        await made.submit(1, until=0)
        while not list(tmp_path.iterdir()):
            await asyncio.sleep(0.01)
    assert made.done == []
    assert not _runs(next(tmp_path.iterdir()).name)


@pytest.mark.parametrize("argv", [[], ["/none/such"], ["no-such-command-anywhere"]])
def test_a_missing_command_is_a_usage_error(argv: list[str]) -> None:
    with pytest.raises(Usage, match=r"--exec: (command \".*\" not found|the command is empty)"):
        Runner(argv, lambda text: None, lambda cursor: None)


async def test_a_command_deleted_later_is_reported_each_time(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    async with Trial([str(program)]) as made:
        program.unlink()
        await made.submit(1)
    assert made.notices == ["program failed for discovered a4:83:e7:00:00:07: No such file or directory"]
