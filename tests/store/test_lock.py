"""The lock of the history."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netscand.serve.encode import remembered
from netscand.store.lock import HistoryInUse, Lock
from netscand.store.opening import open_history
from tests.store.diary import device, diary, discovered


def test_a_second_process_gets_the_holder_of_the_lock(tmp_path: Path) -> None:
    """FAULTS F21: the message has its process number."""
    first, second = Lock(tmp_path / "h.db"), Lock(tmp_path / "h.db")
    first.take()
    with pytest.raises(HistoryInUse, match=f"process {os.getpid()}"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_a_second_history_is_refused_before_any_change(tmp_path: Path) -> None:
    """FAULTS F21: the first continues."""

    async def play() -> None:
        async with diary(tmp_path / "h.db") as book:
            await book.write(discovered(device(1)))
            copy = tmp_path / "h.db.copy-1"
            copy.write_bytes(b"a backup that the first is making")
            with pytest.raises(HistoryInUse, match=f"process {os.getpid()}"):
                open_history(tmp_path / "h.db", Lock(tmp_path / "h.db"), 1, remembered)
            assert copy.exists()
            cursor = await book.write(discovered(device(2)))
            assert cursor.endswith("-2")

    asyncio.run(play())


def test_a_kill_releases_the_lock(tmp_path: Path) -> None:
    program = f"""if True:
        import os, signal
        from pathlib import Path
        from netscand.store.lock import Lock
        lock = Lock(Path({str(tmp_path / "h.db")!r}))
        lock.take()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    lock = Lock(tmp_path / "h.db")
    lock.take()
    lock.release()
