"""Files that users name, in folders that others may write to: nothing is written through what another user planted."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netscanctl.atomic_file import resolve_links, write_atomically
from tests.ctl.conftest import Ctl
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.messages import device, event
from tests.ctl.test_watch_exec import holds

OTHER = 12_345
"""A user's uid."""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder as /tmp is."""
    made = tmp_path / "shared"
    made.mkdir()
    made.chmod(0o1777)
    return made


def planted(link: Path, target: Path) -> Path:
    """Another user's link."""
    link.symlink_to(target)
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    return link


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file that nothing may happen to."""
    file = tmp_path / "victim"
    file.write_text("k3f9-7\n")
    before = file.stat()
    yield file
    assert file.read_text() == "k3f9-7\n"
    assert (file.stat().st_ino, file.stat().st_mode) == (before.st_ino, before.st_mode)


def test_the_temporary_name_cannot_be_planted(
    ctl: Ctl, daemon: FakeDaemon, shared: Path, victim: Path, root: None
) -> None:
    """ATTACKED L4: the cursor went through a link at `.cursor.new`."""
    for name in (".cursor.new", "cursor.new", ".cursor.tmp", "cursor.tmp", ".cursor"):
        (shared / name).symlink_to(victim)
    ctl.start("watch", "--cursor-file", str(shared / "cursor"))
    daemon.until_watched()
    holds(shared / "cursor", "k3f9-1\n")
    daemon.send(event("discovered", device(9), cursor="k3f9-2"))
    holds(shared / "cursor", "k3f9-2\n")
    assert not (shared / "cursor").is_symlink()


@pytest.mark.parametrize("command", [("watch", "--cursor-file"), ("backup",)])
@pytest.mark.parametrize("within", ["", "folder/"])
def test_a_link_of_another_user_is_not_followed(
    ctl: Ctl, daemon: FakeDaemon, shared: Path, victim: Path, root: None, command: tuple[str, ...], within: str
) -> None:
    """The name itself, or a folder on the way to it; a file that is there, or none yet."""
    for number, target in enumerate((victim, victim.with_name("none yet"))):
        link = planted(shared / f"link{number}", target.parent if within else target)
        done = ctl.run(*command, f"{link}/{target.name}" if within else str(link))
        assert done.returncode in (1, 2)
        assert "is a symbolic link of another user" in done.stderr
    assert not victim.with_name("none yet").exists()
    assert [entry.name for entry in shared.iterdir() if not entry.is_symlink()] == []


def test_own_links_and_links_of_root_are_followed(tmp_path: Path, shared: Path, root: None) -> None:
    (tmp_path / "a").mkdir()
    (shared / "own").symlink_to("../a/file")
    assert resolve_links(str(shared / "own")) == tmp_path / "a/file"
    assert resolve_links(f"{shared}/own/../../b") == tmp_path / "b"
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o755)
    assert resolve_links(str(planted(closed / "theirs", tmp_path / "a"))) == tmp_path / "a"
    planted(shared / "last", tmp_path / "a")
    (tmp_path / "first").symlink_to(shared / "last")
    with pytest.raises(PermissionError):
        resolve_links(str(tmp_path / "first"))
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with pytest.raises(OSError, match="Too many"):
        resolve_links(str(tmp_path / "round"))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_cursor_keeps_the_mode_of_its_file(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path, mode: int) -> None:
    file = tmp_path / "cursor"
    file.write_text("")
    file.chmod(mode)
    ctl.start("watch", "--cursor-file", str(file))
    holds(file, "k3f9-1\n")
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_a_file_is_synced_before_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power loss leaves the old one or the new one, whole."""
    done: list[str] = []
    fsync, move = os.fsync, os.replace

    def synced(file: int) -> None:
        done.append("sync")
        fsync(file)

    def moved(source: str, target: Path) -> None:
        done.append("replace")
        move(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    write_atomically(tmp_path / "file", lambda out: out.write(b"x"))
    assert done == ["sync", "replace"]
    assert (tmp_path / "file").read_bytes() == b"x"

    def fails(out: object) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        write_atomically(tmp_path / "file", fails)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_cursor_is_written_at_most_once_a_second(ctl: Ctl, daemon: FakeDaemon, tmp_path: Path) -> None:
    """It is also written at exit, with the last cursor."""
    file, inodes = tmp_path / "cursor", []
    running = ctl.start("watch", "--cursor-file", str(file))
    daemon.until_watched()
    holds(file, "k3f9-1\n")
    running.lines(1 + len(daemon.devices))
    for number in range(2, 502):
        daemon.send(event("online", device(9), cursor=f"k3f9-{number}"))
    for _ in range(500):
        running.line()
        inodes.append(file.stat().st_ino)
    assert len(set(inodes)) < 30
    time.sleep(0.3)  # a line is printed before its cursor counts
    assert running.end() == 130
    assert file.read_text() == "k3f9-501\n"
