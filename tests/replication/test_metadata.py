"""Term, vote and identity on disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from rendezvous_raft.replication.raft.files import DamagedError, StorageError
from rendezvous_raft.replication.raft.metadata import Identity, Metadata, MetadataFile
from rendezvous_raft.testing.durable_lives import chance
from rendezvous_raft.testing.memory_files import Crash, MemoryFiles

DIRECTORY = Path("/var/node")
PATH = DIRECTORY / "metadata"
IDENTITY = Identity("cluster-a", "n1")


def stored(term: int, files: MemoryFiles | None = None) -> MemoryFiles:
    files = files or MemoryFiles()
    MetadataFile(files, DIRECTORY).write(Metadata(IDENTITY, term, f"vote in {term}", 7))
    return files


def read(files: MemoryFiles) -> Metadata:
    return MetadataFile(files, DIRECTORY).read(IDENTITY)


def test_it_comes_back_after_a_power_loss() -> None:
    files = stored(3).power_loss(chance(1))
    assert read(files) == Metadata(IDENTITY, 3, "vote in 3", 7)


def test_a_crash_in_a_write_leaves_the_old_or_the_new(seed: int) -> None:
    calls = len(stored(2, stored(1)).calls) - len(stored(1).calls)
    assert calls == 5
    seen = set()
    for call in range(calls + 1):
        for variant in range(20):
            files = stored(1)
            files.crash_at = len(files.calls) + call
            if call < calls:
                with pytest.raises(Crash):
                    stored(2, files)
            else:
                stored(2, files)
            found = read(files.power_loss(chance(seed + variant)))
            assert found.voted_for == f"vote in {found.term}"
            seen.add((call, found.term))
    assert (0, 1) in seen
    assert (calls, 2) in seen
    assert (calls, 1) not in seen


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    size = len(stored(1).content(PATH))
    for bit in range(size * 8):
        files = stored(1)
        files.flip_bit(PATH, bit)
        with pytest.raises(DamagedError, match=f"{PATH}: damaged at offset 0"):
            read(files)
    for length in range(size):
        files = stored(1)
        files.cut(PATH, length)
        with pytest.raises(DamagedError, match=str(PATH)):
            read(files)


def test_bytes_behind_the_end_are_refused() -> None:
    files = stored(1)
    files.open(PATH).write_at(len(files.content(PATH)), b"more")
    with pytest.raises(DamagedError, match="more than was written"):
        read(files)


def test_another_nodes_file_is_refused() -> None:
    with pytest.raises(StorageError, match="belongs to node 'n1'"):
        MetadataFile(stored(1), DIRECTORY).read(Identity("cluster-a", "n2"))


def test_the_reserve_makes_room_once() -> None:
    files = stored(1)
    file = MetadataFile(files, DIRECTORY)
    file.keep_reserve()
    assert file.has_reserve
    files.room_bytes = files.used_bytes()
    file.write(Metadata(IDENTITY, 2))
    assert not file.has_reserve
    files.room_bytes = files.used_bytes()
    with pytest.raises(OSError, match="No space left") as caught:
        file.write(Metadata(IDENTITY, 3))
    assert caught.value.errno == errno.ENOSPC
    assert read(files).term == 2


def test_other_errors_do_not_cost_the_reserve() -> None:
    files = stored(1)
    file = MetadataFile(files, DIRECTORY)
    file.keep_reserve()
    files.failing = lambda call: errno.EIO if call.startswith("fdatasync") else None
    with pytest.raises(OSError, match="Input/output"):
        file.write(Metadata(IDENTITY, 2))
    assert file.has_reserve
