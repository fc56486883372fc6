"""A directory that is begun anew: nothing is deleted, and no vote survives (F11)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rendezvous_raft.replication.raft.files import StorageError
from rendezvous_raft.replication.raft.metadata import Birth, Identity, Metadata, MetadataFile
from rendezvous_raft.replication.raft.rejoin import prepare_rejoin
from rendezvous_raft.replication.raft.storage import DurableLog, Recovered
from rendezvous_raft.testing.memory_files import Crash, MemoryFiles

IDENTITY = Identity("c", "n1")
DIRECTORY = Path("/data/n1")
SEGMENT_BYTES = 1 << 16


def life(files: MemoryFiles) -> Recovered:
    """Opens the directory, votes, writes an entry, and ends without a word."""
    store, recovered = DurableLog.open(
        DIRECTORY, IDENTITY, files=files, segment_bytes=SEGMENT_BYTES, birth=Birth(1)
    )
    if not recovered.entries and recovered.birth.founding:
        store.set_term(5, "n2")
        store.append(b"\x00promised", 2, 5)
        store._metadata_file.write(store._metadata)
    store._wal.close()
    store._lock.close()
    return recovered


def rejoin(files: MemoryFiles, seed: int = 1) -> None:
    prepare_rejoin(DIRECTORY, IDENTITY, files=files, rng=random.Random(seed), label="1")


def test_it_begins_without_log_vote_and_term() -> None:
    files = MemoryFiles()
    life(files)
    rejoin(files)
    found = life(files)
    assert (found.term, found.voted_for, found.entries, found.snapshot) == (0, None, [], None)
    assert not found.birth.founding
    assert found.birth.incarnation not in (0, 1)


def test_what_was_there_is_kept() -> None:
    files = MemoryFiles()
    life(files)
    before = {name for name in files.listdir(DIRECTORY) if name not in ("lock", "reserve")}
    done = prepare_rejoin(DIRECTORY, IDENTITY, files=files, rng=random.Random(1), label="1")
    assert done.kept == DIRECTORY / "damaged-1"
    assert set(files.listdir(done.kept)) == before


def test_damaged_metadata_is_no_obstacle() -> None:
    files = MemoryFiles()
    life(files)
    files.flip_bit(DIRECTORY / "metadata", 163)
    rejoin(files)
    assert not life(files).birth.founding


def test_a_half_written_metadata_file_is_no_obstacle() -> None:
    """A process that was killed while it stored its term leaves one behind."""
    files = MemoryFiles()
    life(files)
    files.crash_at = len(files.calls) + 2  # after create and write
    with pytest.raises(Crash):
        MetadataFile(files, DIRECTORY).write(Metadata(IDENTITY, term=6))
    files = files.kill()
    assert "metadata.tmp" in files.listdir(DIRECTORY)
    rejoin(files)
    assert not life(files).birth.founding


def test_the_directory_of_another_node_is_refused() -> None:
    files = MemoryFiles()
    life(files)
    with pytest.raises(StorageError, match="belongs to node 'n1'"):
        prepare_rejoin(DIRECTORY, Identity("c", "n2"), files=files)
    assert life(files).birth.founding


def test_a_directory_in_use_is_refused() -> None:
    files = MemoryFiles()
    lock_holder, _ = DurableLog.open(
        DIRECTORY, IDENTITY, files=files, segment_bytes=SEGMENT_BYTES, birth=Birth(1)
    )
    with pytest.raises(StorageError, match="in use"):
        rejoin(files)
    lock_holder._lock.close()


def test_where_nothing_is_it_makes_a_directory() -> None:
    files = MemoryFiles()
    done = prepare_rejoin(DIRECTORY, IDENTITY, files=files, rng=random.Random(1))
    assert done.kept is None
    assert life(files).birth == Birth(done.incarnation, founding=False)


def test_a_power_cut_at_any_moment_leaves_the_old_files_or_no_vote() -> None:
    """Whatever is found afterwards either has its whole memory or does not vote."""
    for call in range(200):
        files = MemoryFiles()
        life(files)
        life(files)  # makes the entry durable
        files.crash_at = len(files.calls) + call
        try:
            rejoin(files)
        except Crash:
            files = files.power_loss(random.Random(call))
        else:
            break
        found = life(files)
        if found.birth.founding:
            assert (found.term, found.voted_for) == (5, "n2"), f"crash at call {call}"
        rejoin(files, seed=2)
        again = life(files)
        assert not again.birth.founding
        assert (again.term, again.entries) == (0, [])
    else:
        pytest.fail("it never came to its end")
