"""Files deleted, replaced, truncated or overwritten while netscand runs: noticed, reported, repaired (FAULTS F8)."""

import asyncio
import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from netscand.core.model import Event, EventKind, Status
from netscand.core.restore import Unreadable
from netscand.store import maintenance, reader, repair, writer
from netscand.store.database import back_up, connect
from netscand.store.lock import HistoryInUse, Lock
from netscand.store.repair import Files
from netscand.store.writer import Lost
from tests.store.diary import LAN, Diary, device, diary, discovered, sequences, turned
from tests.store.test_writer import number, until_well

pytestmark = pytest.mark.slow

EVENTS = 400


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "AGAIN", 0.05)
    monkeypatch.setattr(reader, "TRY_AGAIN", 0.05)
    for name, value in (("TURN", 0.02), ("IDLE", 0.02), ("LOOK_EVERY", 0.02), ("CHECK_AFTER", 1e9)):
        monkeypatch.setattr(maintenance, name, value)


@asynccontextmanager
async def household(folder: Path) -> AsyncIterator[Diary]:
    """Open a history with ten devices, and more events than one page and the log's first frames hold."""
    folder.mkdir()
    async with diary(folder / "h.db") as book, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(book.history.run())
        made = [device(i) for i in range(10)]
        made[0].label = "TV"
        await book.write(*map(discovered, made))
        for i in range(EVENTS - 10):
            await book.write(turned(made[i % 10], (Status.OFFLINE, Status.ONLINE)[i // 10 % 2], 200.0 + i))
        await book.history._device_rows.show()
        await book.history.settled()
        await asyncio.sleep(0.1)  # maintenance has seen it
        assert not book.history.problems()
        yield book
        running.cancel()


async def until(what: Callable[[], object], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.01)


# ---- what may happen to them ----------------------------------------------------------------------------------------


def end(path: Path, end: str) -> Path:
    return Path(f"{path}{end}")


def delete(path: Path) -> None:
    for each in repair.ENDS:
        end(path, each).unlink()


def delete_with_lock(path: Path) -> None:
    delete(path)
    end(path, ".lock").unlink()


def replace(path: Path) -> None:
    """Replace it by another database."""
    with closing(sqlite3.connect(path.with_name("other"))) as other:
        other.execute("CREATE TABLE theirs (x)")
    path.with_name("other").replace(path)


def replace_log(path: Path) -> None:
    path.with_name("other").write_bytes(end(path, "-wal").read_bytes()[:-5000])
    path.with_name("other").replace(end(path, "-wal"))


def move(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


TAKEN = {
    "all deleted": delete,
    "deleted with the lock": delete_with_lock,
    "database deleted": lambda path: path.unlink(),
    "log deleted": lambda path: end(path, "-wal").unlink(),
    "index deleted": lambda path: end(path, "-shm").unlink(),
    "replaced": replace,
    "log replaced": replace_log,
    "folder moved": move,
}
"""After these the open files still have everything."""


@pytest.mark.parametrize("how", TAKEN)
def test_removed_files_are_rewritten_without_loss(tmp_path: Path, how: str) -> None:
    """Noticed, reported until a restart; the same epoch, every event and device; and kill -9 loses nothing of it."""

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            path, before = book.history.path, book.history.cursor
            TAKEN[how](path)
            await until(lambda: any("the history was rewritten" in each for each in book.history.problems()))
            assert sequences(await book.page(since=0, limit=5000)) == list(range(1, EVENTS + 1))
            cursor = await book.write(turned(book.devices[device(3).mac], Status.OFFLINE, 2000.0))
            assert number(cursor) == number(before) + 1
            assert cursor.partition("-")[0] == before.partition("-")[0]
            await book.history.settled()
            killed = book.killed(tmp_path / "killed")
            assert {each.name for each in path.parent.iterdir()} >= {"h.db", "h.db-wal", "h.db-shm", "h.db.lock"}
            assert not list(path.parent.glob("*.copy-*"))
            with pytest.raises(HistoryInUse):
                Lock(path).take()
            assert bool(list(path.parent.glob("h.db.replaced-*"))) is (how in ("replaced", "log replaced"))
            await asyncio.sleep(0.1)
            assert len(book.history.problems()) == 1, "it is well now"
        async with diary(killed) as book:
            assert sequences(await book.page(since=0, limit=5000)) == list(range(1, EVENTS + 2))
            assert len(book.memory.devices) == 10
            assert [back.label for back in book.memory.devices if back.label] == ["TV"]

    asyncio.run(play())


def cut(path: Path) -> None:
    os.truncate(path, 0)


def cut_log(path: Path) -> None:
    os.truncate(end(path, "-wal"), 0)


def cut_some_of_the_log(path: Path) -> None:
    os.truncate(end(path, "-wal"), 3000)


def overwrite_log(path: Path) -> None:
    with end(path, "-wal").open("r+b") as log:
        log.write(os.urandom(end(path, "-wal").stat().st_size))


def overwrite_some_of_the_log(path: Path) -> None:
    with end(path, "-wal").open("r+b") as log:
        log.seek(1000)
        log.write(b"\xa5" * 8192)


def overwrite_pages(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 16_384)


DAMAGED = {
    "cut": cut,
    "log cut": cut_log,
    "log cut to a part": cut_some_of_the_log,
    "log overwritten": overwrite_log,
    "log overwritten in part": overwrite_some_of_the_log,
    "pages overwritten": overwrite_pages,
}
"""After these some of it may be lost."""


@pytest.mark.parametrize("how", DAMAGED)
@pytest.mark.parametrize(("copied", "cold"), [(False, False), (True, False), (True, True)])
def test_damaged_files_are_saved_or_set_aside(tmp_path: Path, how: str, copied: bool, cold: bool) -> None:
    """Noticed, and reported until a restart; if events are lost, under a new epoch; and kill -9 loses no more."""

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            path, before = book.history.path, book.history.cursor
            if copied:  # everything is in the database, the log is restarted
                with closing(connect(path)) as other:
                    other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                await asyncio.sleep(0.1)
                await book.write(turned(book.devices[device(3).mac], Status.OFFLINE, 2000.0))
                await asyncio.sleep(0.1)
            if cold:  # nothing that is damaged is in memory
                with book.history._writer._turn:
                    assert book.history._writer._database is not None
                    book.history._writer._database.execute("PRAGMA cache_size = 1")
                    book.history._writer._database.execute("PRAGMA shrink_memory")
            DAMAGED[how](path)
            if how == "pages overwritten" and not copied:
                return  # the log has them all: no harm was done
            await until(lambda: any("the history" in problem for problem in book.history.problems()))
            await until_well(book)
            await until(lambda: devices_in(path) == 10)
            (notice,) = book.history.problems()
            assert ("h.db was truncated" in notice) is (how == "cut")
            assert not cold or "h.db.corrupt-" in notice
            cursor = await book.write(turned(book.devices[device(4).mac], Status.OFFLINE, 2000.0))
            kept = sequences(await book.page(limit=5000))
            if "nothing is missing" in notice:
                assert kept == list(range(1, EVENTS + 2 + copied))
                assert cursor.partition("-")[0] == before.partition("-")[0]
            else:
                assert "h.db.corrupt-" in notice
                assert list(path.parent.glob("h.db.corrupt-*"))
                assert cursor.partition("-")[0] != before.partition("-")[0]
                assert kept[-1] == number(cursor)
                if "log" in how:
                    assert "may be missing" in notice
                    assert len(kept) > EVENTS, "what was copied out of the log is whole"
            await book.history.settled()
            killed = book.killed(tmp_path / "killed")
        async with diary(killed) as book:
            assert book.history.cursor == cursor
            assert len(book.memory.devices) == 10
            assert [back.label for back in book.memory.devices if back.label] == ["TV"]

    asyncio.run(play())


def test_an_old_report_does_not_affect_a_new_database(tmp_path: Path) -> None:
    """Several may notice it, the last of them when it has been repaired."""

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            thread = book.history._writer
            thread.put(Lost("it was damaged", thread.generation - 1))
            await book.history.settled()
            await asyncio.sleep(0.1)
            assert not book.history.problems()
            assert sorted(os.listdir(tmp_path / "state")) == ["h.db", "h.db-shm", "h.db-wal", "h.db.lock"]

    asyncio.run(play())


def devices_in(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            (count,) = database.execute("SELECT count(*) FROM device").fetchone()
            return int(count)
    except sqlite3.Error:
        return -1


def test_loss_and_damage_are_noticed_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten are promised; and no write or query happens meanwhile that would notice it."""
    monkeypatch.undo()

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            for harm in (delete, cut):
                began, known = time.monotonic(), book.history.problems()
                harm(book.history.path)
                await until(partial(others, book, known))
                assert time.monotonic() < began + 6
                await until_well(book)

    asyncio.run(play())


def others(book: Diary, known: tuple[str, ...]) -> bool:
    return book.history.problems() != known


def test_a_removed_lock_file_is_locked_again(tmp_path: Path) -> None:
    """Otherwise a second daemon would write to the same files; if one does, both report it."""

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            lock = Path(f"{book.history.path}.lock")
            lock.unlink()
            await until(lock.exists)
            await asyncio.sleep(0.1)
            with pytest.raises(HistoryInUse):
                Lock(book.history.path).take()
            assert not book.history.problems()
            other = Lock(tmp_path / "other" / "h.db")
            other.take()
            Path(f"{tmp_path}/other/h.db.lock").rename(lock)
            await until(book.history.problems)
            assert "another netscand" in book.history.problems()[0]
            other.release()
            await until(lambda: not book.history.problems())

    asyncio.run(play())


# ---- what keeps it from being read or written -----------------------------------------------------------------------


def test_an_unreadable_history_is_a_problem_until_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No client need ask again: netscand does."""

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            with monkeypatch.context() as patch:

                def refuses(self: object) -> sqlite3.Connection:
                    raise sqlite3.OperationalError("unable to open database file")

                patch.setattr("netscand.store.reader.Reader._database", refuses)
                with pytest.raises(Unreadable):
                    await book.page()
                await asyncio.sleep(0.2)
                assert "cannot be read: unable to open" in book.history.problems()[0]
            await until(lambda: not book.history.problems())

    asyncio.run(play())


@pytest.mark.parametrize("which", ["state", "state/h.db"])
def test_missing_permissions_are_a_problem_until_restored(root: None, which: str) -> None:
    """Open files stay usable; nothing can be opened again."""

    async def play(folder: Path) -> None:
        async with household(folder / "state") as book:
            for path in (folder, folder / "state", *(folder / "state").iterdir()):
                os.chown(path, 65534, 65534)
            await asyncio.to_thread(os.getpid)  # imports what it needs, as long as this user may read it
            os.seteuid(65534)
            mode = (folder / which).stat().st_mode
            (folder / which).chmod(0)
            await until(book.history.problems)
            assert "the history cannot be kept" in book.history.problems()[0]
            await book.write(Event(EventKind.NETWORK_UP, 1.0, LAN))
            (folder / which).chmod(mode)
            await until(lambda: not book.history.problems())
            assert sequences(await book.page(since=0, limit=5000)) == list(range(1, EVENTS + 2))

    with tempfile.TemporaryDirectory() as folder:  # the one of all tests is for root alone
        try:
            asyncio.run(play(Path(folder)))
        finally:
            os.seteuid(0)


def test_a_failing_sync_is_a_problem_until_it_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was only in the log before."""
    monkeypatch.setattr(maintenance, "SYNC_EVERY", 0.02)

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            with monkeypatch.context() as patch:

                def refuses(path: Path) -> None:
                    raise OSError(errno.EIO, "Input/output error")

                patch.setattr(maintenance, "sync", refuses)
                await book.write(Event(EventKind.NETWORK_UP, 1.0, LAN))
                await until(book.history.problems)
                assert "Input/output error" in book.history.problems()[0]
            await until(lambda: not book.history.problems())

    asyncio.run(play())


@pytest.mark.parametrize(
    ("flag", "free", "said"), [(os.ST_RDONLY, 1000, "read-only"), (0, 2, "is full"), (0, 1000, "")]
)
def test_an_unwritable_disk_is_noticed_without_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: int, free: int, said: str
) -> None:
    real = os.statvfs(tmp_path)

    def as_it_may_be(place: object) -> os.statvfs_result:
        fields = {name: getattr(real, name) for name in dir(real) if name.startswith("f_")}
        fields.update(f_flag=flag, f_bavail=free, f_bfree=free, f_blocks=10_000, f_frsize=4096)
        order = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "flag", "namemax")
        return os.statvfs_result([fields[f"f_{name}"] for name in order])

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            with monkeypatch.context() as patch:
                patch.setattr(os, "statvfs", as_it_may_be)
                if said:
                    await until(book.history.problems)
                    assert said in book.history.problems()[0]
                else:
                    await asyncio.sleep(0.2)
            await until(lambda: not book.history.problems())

    asyncio.run(play())


def test_a_failed_copy_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile events are published, and none of them is lost when it succeeds."""
    failures = iter(range(3))

    def refuses(*given: object) -> None:
        if next(failures, None) is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        back_up(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(repair, "back_up", refuses)

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            delete(book.history.path)
            await until(lambda: any("No space left" in problem for problem in book.history.problems()))
            await book.write(Event(EventKind.NETWORK_UP, 1.0, LAN))
            await until_well(book)
            assert sequences(await book.page(since=0, limit=5000)) == list(range(1, EVENTS + 2))
            assert "was rewritten" in book.history.problems()[0]

    asyncio.run(play())


def test_writes_of_another_process_are_reported(tmp_path: Path) -> None:
    """A user of sqlite3 may do so: `status` names it, because what was changed is unknown."""

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            with closing(connect(book.history.path)) as other:
                other.execute("UPDATE device SET notes = 'theirs'")
                other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            await until(book.history.problems)
            assert book.history.problems() == (maintenance.WRITTEN,)
            assert sequences(await book.page(since=0, limit=5000)) == list(range(1, EVENTS + 1))

    asyncio.run(play())


def test_a_restarted_log_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes, checkpoints and restarted logs, thousands of them, never count as damage."""
    monkeypatch.setattr(maintenance, "CHECKPOINT_AFTER", 20)
    monkeypatch.setattr(maintenance, "TURN", 0.001)
    monkeypatch.setattr(maintenance, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(maintenance, "QUIET", 0.0)
    looks: list[str] = []
    look = Files.log_damage

    def noted(self: Files, resting: Any) -> str:  # noqa: ANN401
        looks.append(look(self, resting))
        return looks[-1]

    monkeypatch.setattr(Files, "log_damage", noted)

    async def play() -> None:
        async with household(tmp_path / "state") as book:
            one = book.devices[device(1).mac]
            for i in range(1500):
                await book.write(turned(one, (Status.ONLINE, Status.OFFLINE)[i % 2], 900.0 + i))
            assert not book.history.problems()
            assert len(looks) > 50
            assert not any(looks)

    asyncio.run(play())
    shutil.rmtree(tmp_path / "state")


def test_a_frame_being_written_is_not_damaged(tmp_path: Path) -> None:
    """Its header is there before its page. What was begun is complete once the writer rests."""
    path = tmp_path / "h.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("CREATE TABLE ours (x)")
        ours, log = Files(path), Path(f"{path}-wal")
        whole = log.read_bytes()
        page = len(whole) - repair.PAGE

        class Writer(nullcontext[None]):
            """Writes the page of the last frame when it was asked to rest for the second time."""

            asked = 0

            def __enter__(self) -> None:
                self.asked += 1
                if self.asked == 2:
                    with log.open("r+b") as file:
                        file.seek(page)
                        file.write(whole[page:])

        with log.open("r+b") as file:
            file.seek(page)
            file.write(bytes(repair.PAGE))
        assert not ours.log_damage(Writer())
        database.execute("INSERT INTO ours VALUES (1)")
        assert not ours.log_damage(nullcontext())
        with log.open("r+b") as file:
            file.seek(page)
            file.write(bytes(repair.PAGE))
        assert ours.log_damage(nullcontext())


def test_a_look_at_a_long_log_takes_few_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read gives up the interpreter, so one for each frame would delay the loop; and no frame is left out."""
    path, reads = tmp_path / "h.db", 0
    read = os.pread

    def counted(file: int, size: int, start: int) -> bytes:
        nonlocal reads
        reads += 1
        return read(file, size, start)

    monkeypatch.setattr(os, "pread", counted)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("CREATE TABLE ours (x)")
        ours, log = Files(path), Path(f"{path}-wal")
        for _ in range(3):
            for number in range(300):
                database.execute("INSERT INTO ours VALUES (?)", (number,))
            reads = 0
            assert not ours.log_damage(nullcontext())
            assert reads < 20
        size = log.stat().st_size
        assert size > 900 * repair.PAGE
        for at in (1000, size // 2, size - 1000):  # anywhere
            with log.open("r+b") as file:
                file.seek(at)
                before = file.read(1)
                file.seek(at)
                file.write(bytes([before[0] ^ 1]))
            assert ours.log_damage(nullcontext())
            with log.open("r+b") as file:
                file.seek(at)
                file.write(before)
            assert not ours.log_damage(nullcontext())


def test_a_log_restarted_during_a_check_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after its header was read."""
    path = tmp_path / "h.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("CREATE TABLE ours (x)")
        ours, committed = Files(path), repair._committed
        assert not ours.log_damage(nullcontext())
        database.execute("INSERT INTO ours VALUES (1)")

        def meanwhile(*given: Any) -> int:  # noqa: ANN401
            database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            database.execute("INSERT INTO ours VALUES (2)")
            return committed(*given)

        with monkeypatch.context() as patch:
            patch.setattr(repair, "_committed", meanwhile)
            assert not ours.log_damage(nullcontext())
        assert not ours.log_damage(nullcontext())
