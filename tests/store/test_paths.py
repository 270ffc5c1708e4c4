"""Paths and folders of the history."""

import asyncio
import os
from pathlib import Path

import pytest

from netscand.serve.encode import remembered
from netscand.store.lock import Lock
from netscand.store.opening import open_history
from netscand.store.paths import HistoryRefused, prepare, refuse_remote
from tests.store.diary import device, diary, discovered
from tests.store.share import share

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
40 22 0:40 / /mnt/nas rw shared:5 - nfs4 nas:/export rw
41 40 0:41 / /mnt/nas/local rw - ext4 /dev/vdb rw
42 22 0:42 / /mnt/with\\040space rw - cifs //nas/share rw
43 22 0:43 / /srv rw - fuse.sshfs me@nas: rw
44 22 0:44 / /home rw - virtiofs home rw
45 22 0:45 / /over rw - nfs nas:/over rw
46 22 0:46 / /over rw - ext4 /dev/vdc rw
"""


@pytest.mark.parametrize("path", ["/mnt/nas/h.db", "/mnt/with space/h.db", "/srv/deep/down/h.db"])
def test_a_network_file_system_is_refused_with_a_sentence(path: str) -> None:
    with pytest.raises(HistoryRefused, match=r"\[history\] path: .* network file system"):
        refuse_remote(Path(path), MOUNTS)


@pytest.mark.parametrize(
    "path", ["/var/lib/h.db", "/mnt/nas/local/h.db", "/mnt/nasty/h.db", "/home/h.db", "/over/h.db"]
)
def test_a_local_disk_is_accepted(path: str) -> None:
    """Also a local mount below a network one, a similar name, and a local mount that covers a network one."""
    refuse_remote(Path(path), MOUNTS)


def test_a_mounted_network_file_system_is_refused(tmp_path: Path, root: None) -> None:
    """A real mount is refused before anything is created on it, and before the lock is taken."""
    with share(tmp_path / "nas") as place:
        lock = Lock(place / "h.db")
        with pytest.raises(HistoryRefused, match=r"fuse\.sshfs, a network file system"):
            open_history(place / "h.db", lock, 1, remembered)
        assert lock._file == -1
        (tmp_path / "link").symlink_to(place)
        with pytest.raises(HistoryRefused):
            refuse_remote(tmp_path / "link" / "h.db")


def test_the_disk_of_this_test_is_accepted(tmp_path: Path) -> None:
    refuse_remote(tmp_path / "h.db")


def test_a_file_of_another_user_is_refused(tmp_path: Path, root: None) -> None:
    """FAULTS T19: its owner could read it, whatever its mode."""
    path = tmp_path / "planted.db"
    path.touch()
    os.chown(path, 1234, 1234)
    with pytest.raises(HistoryRefused, match="belongs to the user 1234"):
        prepare(path)
    assert path.stat().st_size == 0


def test_a_world_writable_folder_is_refused(tmp_path: Path) -> None:
    """FAULTS T19: others could create files there, and links to files of netscand."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    with pytest.raises(HistoryRefused, match="every user may write"):
        prepare(tmp_path / "shared" / "netscand.db")
    assert not list((tmp_path / "shared").iterdir())


def test_a_folder_that_another_group_may_write_to_is_refused(tmp_path: Path, root: None) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o775)
    prepare(tmp_path / "shared" / "netscand.db")
    os.chown(tmp_path / "shared", 0, 1234)
    with pytest.raises(HistoryRefused, match="the group 1234 may write"):
        prepare(tmp_path / "shared" / "netscand.db")


def test_a_folder_that_anybody_may_replace_is_refused(tmp_path: Path) -> None:
    """A folder above it, without a sticky bit that keeps others from renaming it."""
    (tmp_path / "open" / "own").mkdir(parents=True)
    (tmp_path / "open").chmod(0o1777)
    prepare(tmp_path / "open" / "own" / "netscand.db")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(HistoryRefused, match=r"every user may write to .*/open,"):
        prepare(tmp_path / "open" / "own" / "netscand.db")


def test_a_symbolic_link_leads_to_all_files(tmp_path: Path) -> None:
    """The log and the lock are beside the file it leads to; in a folder open to others, the link is refused."""
    (tmp_path / "disk").mkdir()
    (link := tmp_path / "netscand.db").symlink_to(tmp_path / "disk" / "h.db")

    async def play() -> None:
        async with diary(link) as book:
            await book.write(discovered(device(1)))
            assert {entry.name for entry in (tmp_path / "disk").iterdir()} == {
                "h.db",
                "h.db-wal",
                "h.db-shm",
                "h.db.lock",
            }
            await asyncio.sleep(0.1)
            assert not book.history.problems()
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(0o1777)
        (tmp_path / "shared" / "netscand.db").symlink_to(tmp_path / "disk" / "h.db")
        with pytest.raises(HistoryRefused, match="every user may write"):
            async with diary(tmp_path / "shared" / "netscand.db"):
                pass

    asyncio.run(play())
