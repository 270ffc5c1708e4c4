"""`backup`: complete or not at all, and private."""

import os
import stat
from pathlib import Path

import pytest

from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon


def test_a_backup_is_exact_and_private(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.backup += os.urandom(300_000)
    done = ctl.run("backup", str(tmp_path / "copy.db"))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"netscanctl: saved {tmp_path}/copy.db (390.6 KiB)\n"
    assert (tmp_path / "copy.db").read_bytes() == daemon.backup
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600


def test_an_old_copy_is_replaced_and_a_link_stays_a_link(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_bytes(b"old")
    (tmp_path / "link").symlink_to("copy.db")
    assert ctl.run("backup", str(tmp_path / "link")).returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "copy.db").read_bytes() == daemon.backup


def test_an_interrupted_backup_keeps_the_old_copy(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    """No partial or temporary file is left."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here/copy.db").write_bytes(b"old")
    daemon.breaks_off = True
    assert ctl.fails(3, "backup", f"{tmp_path}/here/copy.db").endswith("closed the connection before it answered")
    assert [file.read_bytes() for file in (tmp_path / "here").iterdir()] == [b"old"]


@pytest.mark.parametrize("sent", [b"", b"{}", b"<html>" * 10])
def test_an_answer_that_is_not_a_database_is_refused(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path, sent: bytes) -> None:
    daemon.backup = sent
    assert ctl.fails(1, "backup", f"{tmp_path}/copy.db") == "the daemon sent invalid data: not an SQLite database"
    assert not (tmp_path / "copy.db").exists()


def test_a_backup_can_go_to_stdout(ctl: Ctl, daemon: FakeDaemon) -> None:
    done = ctl.process("backup", "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, daemon.backup, b"")


def test_a_backup_is_not_written_to_a_terminal(ctl: Ctl) -> None:
    code, written = ctl.terminal("backup", "-").end()
    assert (code, "give a file name" in written) == (2, True)


@pytest.mark.parametrize(
    ("file", "why"),
    [("none/copy.db", "No such file or directory"), (".", "is not a regular file"), ("fifo", "is not a regular file")],
)
def test_an_unwritable_file_is_one_line_on_stderr(ctl: Ctl, tmp_path: Path, file: str, why: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert why in ctl.fails(1, "backup", str(tmp_path / file))


def test_missing_permission_is_exit_code_4(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.refuse(403, "forbidden", "this needs the role admin", "/api/backup")
    assert ctl.fails(4, "backup", f"{tmp_path}/copy.db")
    assert not (tmp_path / "copy.db").exists()
