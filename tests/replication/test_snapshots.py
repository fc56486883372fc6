"""Snapshot files: they come back as they were, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.core import snapshot as core_snapshot
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.node.slices import ROWS_AT_ONCE
from rendezvous_raft.replication.raft.snapshots import (
    CHUNK_BYTES,
    SnapshotDamaged,
    SnapshotFile,
    SnapshotStore,
    SnapshotWriter,
    encode_snapshot,
)
from rendezvous_raft.replication.raft.storage import StorageError
from rendezvous_raft.testing.durable_lives import chance
from rendezvous_raft.testing.memory_files import MemoryFiles

DIRECTORY = Path("/var/node")
Rows = list[list[object]]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def written(rows: Rows, files: MemoryFiles | None = None) -> tuple[SnapshotStore, SnapshotFile]:
    store = SnapshotStore(files or MemoryFiles(), DIRECTORY, "cluster-a")
    writer = SnapshotWriter(store, 10, 3)
    writer.write(list(encode_snapshot(rows)))
    made = writer.finish()
    store.add(made)
    return store, made


@given(st.lists(st.lists(VALUES, min_size=1, max_size=5), max_size=20))
def test_rows_come_back_as_they_were(rows: Rows) -> None:
    store, made = written(rows)
    assert list(store.rows(made)) == rows


def test_a_real_state_comes_back() -> None:
    machine = StateMachine()
    store, made = written(list(core_snapshot.rows(machine.state)))
    loaded = core_snapshot.load(store.rows(made))
    assert core_snapshot.digest(loaded.state) == core_snapshot.digest(machine.state)


def test_chunks_have_a_size_that_can_be_sent_between_two_syncs() -> None:
    rows: Rows = [["request", f"r{number}", b"x" * 1000] for number in range(2000)]
    chunks = list(encode_snapshot(rows))
    assert 29 <= len(chunks) <= 33
    assert max(map(len, chunks)) < CHUNK_BYTES + 2000
    store, made = written(rows)
    assert list(store.rows(made)) == rows


def test_chunks_have_no_more_rows_than_can_be_made_in_one_turn() -> None:
    rows: Rows = [["request", f"r{number}"] for number in range(2 * ROWS_AT_ONCE + 1)]
    store, made = written(rows)
    assert list(store.rows(made)) == rows
    chunks = list(store._chunks(made))
    assert [chunk.rows for chunk in chunks] == [ROWS_AT_ONCE, ROWS_AT_ONCE, 1]


def test_what_msgpack_cannot_hold_is_an_error_and_not_a_file() -> None:
    with pytest.raises(OverflowError):
        list(encode_snapshot([["head", 2**80]]))
    with pytest.raises(TypeError):
        list(encode_snapshot([["head", object()]]))


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    rows: Rows = [["head", 1], ["request", "r1"], ["end", 3]]
    _, made = written(rows)
    refused = 0
    for bit in range(made.size_bytes * 8):
        store, made = written(rows)
        store.files.flip_bit(made.path, bit)  # type: ignore[attr-defined]
        with pytest.raises(SnapshotDamaged, match=f"{made.path}: damaged at offset"):
            list(store.rows(made))
        refused += 1
    for size in range(made.size_bytes):
        store, made = written(rows)
        store.files.cut(made.path, size)  # type: ignore[attr-defined]
        with pytest.raises(SnapshotDamaged):
            list(store.rows(made))
    assert refused > 500


def test_chunks_that_changed_places_are_refused() -> None:
    files = MemoryFiles()
    store, made = written([["head", 1, "x" * 300_000], ["tail", 2, "y" * 300_000]], files)
    content = files.content(made.path)
    head_end = content.index(b"head") - 2 - 12
    tail_start = content.index(b"tail") - 2 - 12
    first, second = content[head_end:tail_start], content[tail_start:-12]
    assert len(first) == len(second)
    files.open(made.path).write_at(head_end, second + first)
    with pytest.raises(SnapshotDamaged, match="the file does not match"):
        list(store.rows(made))


def test_bytes_behind_the_end_are_refused() -> None:
    files = MemoryFiles()
    store, made = written([["head", 1]], files)
    files.open(made.path).write_at(made.size_bytes, b"more")
    with pytest.raises(SnapshotDamaged, match="more than was written"):
        list(store.rows(made))


def test_a_snapshot_of_another_cluster_is_refused() -> None:
    store, made = written([["head", 1]])
    other = SnapshotStore(store.files, DIRECTORY, "cluster-b")
    with pytest.raises(StorageError, match="belongs to cluster 'cluster-a'"):
        list(other.rows(made))


def test_the_newest_is_recovered_and_leftovers_are_removed() -> None:
    files = MemoryFiles()
    store = SnapshotStore(files, DIRECTORY, "cluster-a")
    for index in (5, 9, 7):
        writer = SnapshotWriter(store, index, 1)
        writer.write(list(encode_snapshot([["head", index]])))
        store.add(writer.finish())
    SnapshotWriter(store, 11, 1).write(list(encode_snapshot([["head", 11]])))  # never finished
    found = SnapshotStore(files.kill(), DIRECTORY, "cluster-a")
    found.recover()
    assert found.newest is not None
    assert found.newest.index == 9
    found.clean()
    assert found.files.listdir(DIRECTORY) == [
        "00000000000000000007-00000000000000000001.snapshot",
        "00000000000000000009-00000000000000000001.snapshot",
    ]


def test_a_damaged_newest_is_refused_at_recovery() -> None:
    files = MemoryFiles()
    _, made = written([["head", 1]], files)
    files.flip_bit(made.path, made.size_bytes * 8 - 1)
    with pytest.raises(SnapshotDamaged):
        SnapshotStore(files, DIRECTORY, "cluster-a").recover()


def test_a_finished_snapshot_survives_a_power_loss() -> None:
    files = MemoryFiles()
    rows: Rows = [["head", 1], ["end", 2]]
    _, made = written(rows, files)
    for seed in range(20):
        store = SnapshotStore(files.power_loss(chance(seed)), DIRECTORY, "cluster-a")
        store.recover()
        assert list(store.rows(made)) == rows
