"""The file system in memory: it must lose what a real one may lose, or no test above it bites."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from rendezvous_raft.replication.raft.files import FileLayer, RealFiles
from rendezvous_raft.testing.durable_lives import chance
from rendezvous_raft.testing.memory_files import SECTOR_BYTES, Crash, MemoryFiles

DIRECTORY = Path("/var/node")
PATH = DIRECTORY / "file"


def outcomes(files: MemoryFiles, path: Path = PATH) -> set[bytes | None]:
    """What a hundred power losses leave of a file."""
    found: set[bytes | None] = set()
    for seed in range(100):
        after = files.power_loss(chance(seed))
        found.add(after.content(path) if path in after.paths() else None)
    return found


def synced_file(content: bytes) -> MemoryFiles:
    files = MemoryFiles()
    file = files.create(PATH)
    file.write_at(0, content)
    file.fdatasync()
    files.fsync_dir(DIRECTORY)
    return files


def test_what_is_synced_stays() -> None:
    assert outcomes(synced_file(b"content")) == {b"content"}


def test_what_is_not_synced_may_be_there_in_any_part() -> None:
    files = synced_file(b"")
    files.open(PATH).write_at(0, b"a" * SECTOR_BYTES + b"b" * SECTOR_BYTES)
    found = outcomes(files)
    assert b"" in found
    assert b"a" * SECTOR_BYTES + b"b" * SECTOR_BYTES in found
    assert bytes(SECTOR_BYTES) + b"b" * SECTOR_BYTES in found


def test_a_name_is_lost_until_its_directory_is_synced() -> None:
    files = MemoryFiles()
    file = files.create(PATH)
    file.write_at(0, b"x")
    file.fdatasync()
    assert outcomes(files) == {None, b"x"}
    files.fsync_dir(DIRECTORY)
    assert outcomes(files) == {b"x"}


def test_a_rename_is_done_or_not() -> None:
    files = synced_file(b"old")
    new = files.create(DIRECTORY / "new")
    new.write_at(0, b"new")
    new.fdatasync()
    files.rename(DIRECTORY / "new", PATH)
    assert outcomes(files) == {b"old", b"new"}


def test_a_removed_name_may_come_back() -> None:
    files = synced_file(b"x")
    files.unlink(PATH)
    assert outcomes(files) == {b"x", None}
    files.fsync_dir(DIRECTORY)
    assert outcomes(files) == {None}


def test_a_directory_must_be_synced_into_its_parent() -> None:
    files = MemoryFiles()
    files.mkdir(DIRECTORY)
    files.create(PATH).fdatasync()
    files.fsync_dir(DIRECTORY)
    assert outcomes(files) == {None}
    files.fsync_dir(DIRECTORY.parent)
    assert outcomes(files) == {b""}


def test_after_a_sync_that_failed_the_bytes_are_seen_and_lost() -> None:
    files = synced_file(b"")
    file = files.open(PATH)
    file.write_at(0, b"x")
    files.failing = lambda call: errno.EIO if call.startswith("fdatasync") else None
    with pytest.raises(OSError, match="Input/output"):
        file.fdatasync()
    files.failing = lambda _call: None
    file.fdatasync()
    assert files.kill().content(PATH) == b"x"
    assert outcomes(files) == {b""}


def test_a_kill_loses_nothing_and_ends_the_locks() -> None:
    files = MemoryFiles()
    files.create(PATH).write_at(0, b"x")
    files.lock(DIRECTORY / "lock")
    with pytest.raises(BlockingIOError):
        files.lock(DIRECTORY / "lock")
    after = files.kill()
    assert after.content(PATH) == b"x"
    after.lock(DIRECTORY / "lock")
    # What was not synced is still not synced.
    assert None in outcomes(after)
    # And they are two worlds now.
    after.open(PATH).write_at(0, b"y")
    assert files.content(PATH) == b"x"


def test_a_full_disk_takes_half() -> None:
    files = MemoryFiles(room_bytes=10)
    file = files.create(PATH)
    with pytest.raises(OSError, match="No space left"):
        file.write_at(0, b"x" * 16)
    assert files.content(PATH) == b"x" * 8


def test_a_crash_is_before_the_call_and_for_ever() -> None:
    files = MemoryFiles()
    files.crash_at = 1
    file = files.create(PATH)
    for _ in range(2):
        with pytest.raises(Crash):
            file.write_at(0, b"x")
    assert files.calls == ["create file"]
    assert files.content(PATH) == b""


@pytest.mark.parametrize("real", [True, False])
def test_both_file_systems_do_the_same(real: bool, tmp_path: Path) -> None:
    files: FileLayer = RealFiles() if real else MemoryFiles()
    directory = tmp_path / "a" / "b"
    files.mkdir(directory)
    files.mkdir(directory)
    file = files.create(directory / "one")
    file.allocate(100)
    file.write_at(98, b"abcd")
    file.fdatasync()
    assert (file.size(), file.read_at(97, 10), file.read_at(200, 5)) == (102, b"\0abcd", b"")
    again = files.create(directory / "one")  # a new file under the name
    assert (again.size(), file.size()) == (0, 102)
    files.rename(directory / "one", directory / "two")
    files.fsync_dir(directory)
    assert files.listdir(directory) == ["two"]
    with pytest.raises(FileNotFoundError):
        files.open(directory / "one")
    files.unlink(directory / "two")
    files.unlink(directory / "two")
    assert files.listdir(directory) == []
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read_at(0, 1)
    again.close()
    lock = files.lock(directory / "lock")
    with pytest.raises(BlockingIOError):
        files.lock(directory / "lock")
    lock.close()
    files.lock(directory / "lock").close()
