"""A full disk: entries are refused and nothing is changed, votes are stored, room heals it."""

from __future__ import annotations

import asyncio
import contextlib
import errno

import pytest

from rendezvous_raft.replication.raft.metadata import RESERVE_BYTES
from rendezvous_raft.replication.raft.snapshots import SnapshotInstall, encode_snapshot
from rendezvous_raft.replication.raft.storage import DiskFull, Identity
from rendezvous_raft.testing.durable_lives import (
    DIRECTORY,
    SEGMENT_BYTES,
    Life,
    chance,
    open_log,
    rows_at,
)
from rendezvous_raft.testing.memory_files import Crash, MemoryFiles


def opened() -> Life:
    life = Life(MemoryFiles())
    life.open()
    return life


async def full_disk() -> Life:
    """A node whose disk became full."""
    life = opened()
    life.set_term(1, "n1")
    await life.rest()
    life.files.room_bytes = life.files.used_bytes()
    while life.log.read_only is None:
        with contextlib.suppress(DiskFull):
            life.append(b"x" * 3000)
    return life


async def test_a_full_disk_refuses_entries_and_changes_nothing() -> None:
    life = await full_disk()
    entries, position = len(life.model.log.entries), life.log.position
    assert "No space left" in str(life.log.read_only)
    with pytest.raises(DiskFull, match="No space left"):
        life.log.append(b"y", life.model.log.last_index + 1, 1)
    assert life.log.position == position
    await life.sync()
    assert len(life.next_life(life.files.kill()).open().entries) == entries


async def test_a_full_disk_still_stores_a_vote() -> None:
    life = await full_disk()
    life.files.room_bytes = life.files.used_bytes()
    life.set_term(2, "n3")
    await life.sync()
    recovered = life.next_life(life.files.power_loss(chance(1))).open()
    assert (recovered.term, recovered.voted_for) == (2, "n3")


async def test_a_full_disk_that_has_room_again_takes_entries_again() -> None:
    life = await full_disk()
    await life.sync()
    assert not life.log.try_recover()
    assert life.log.read_only is not None
    life.files.room_bytes = life.files.used_bytes() + 3 * SEGMENT_BYTES
    assert life.log.try_recover()
    assert life.log.read_only is None
    life.append(b"again")
    await life.sync()
    assert life.next_life(life.files.kill()).open().entries[-1][0] == b"again"


async def test_the_reserve_is_taken_back_before_entries_are() -> None:
    life = await full_disk()
    life.files.room_bytes = life.files.used_bytes()
    for term in range(2, 4):
        life.set_term(term, None)
        await life.sync()
    assert DIRECTORY / "reserve" not in life.files.paths()
    life.files.room_bytes = life.files.used_bytes() + RESERVE_BYTES
    assert not life.log.try_recover()
    life.files.room_bytes += SEGMENT_BYTES
    assert life.log.try_recover()
    assert len(life.files.content(DIRECTORY / "reserve")) == RESERVE_BYTES


async def test_a_member_starts_on_a_full_disk_and_is_read_only() -> None:
    life = await full_disk()
    await life.sync()
    files = life.files.kill()
    files.lose(DIRECTORY / "reserve")
    files.lose(DIRECTORY / "spare")
    files.room_bytes = files.used_bytes() + 1000
    after = life.next_life(files)
    after.open()
    assert "reserve" in str(after.log.read_only)


async def test_an_entry_half_written_leaves_no_trace() -> None:
    life = opened()
    life.append(b"before")
    await life.rest()
    life.files.failing = lambda call: errno.ENOSPC if call.startswith("write") else None
    with pytest.raises(DiskFull):
        life.log.append(b"z" * 9000, 3, 0)
    life.files.failing = lambda _call: None
    assert life.log.try_recover()
    life.append(b"short")
    await life.sync()
    await life.rest()
    files = life.files.kill()
    recovered = life.next_life(files).open()
    assert [payload for payload, _, _ in recovered.entries] == [b"before", b"short"]
    assert recovered.cut is None


async def test_a_snapshot_that_finds_no_room_changes_nothing() -> None:
    life = opened()
    for _ in range(5):
        life.append(b"x")
    await life.rest()
    life.files.room_bytes = life.files.used_bytes() + 10
    with pytest.raises(DiskFull, match="a snapshot"):
        await life.log.save_snapshot(4, 0, list(encode_snapshot(rows_at(4))))
    assert life.log.read_only is None
    assert DIRECTORY / "snapshot.tmp" not in life.files.paths()
    assert life.next_life(life.files.kill()).open().snapshot is None


async def test_a_look_for_room_that_was_cut_short_takes_none_from_the_next_start() -> None:
    life = await full_disk()
    await life.sync()
    life.files.lose(DIRECTORY / "reserve")
    life.files.room_bytes = life.files.used_bytes() + RESERVE_BYTES + SEGMENT_BYTES
    life.files.crash_at = len(life.files.calls) + 4  # reserve made and filled, probe too
    with pytest.raises(Crash, match="unlink probe"):
        life.log.try_recover()
    after = life.next_life(life.files.kill())
    assert DIRECTORY / "probe" in after.files.paths()
    after.files.lose(DIRECTORY / "reserve")
    after.files.room_bytes = after.files.used_bytes()
    after.open()
    assert DIRECTORY / "probe" not in after.files.paths()


async def received(life: Life, index: int) -> SnapshotInstall:
    """A snapshot of another member, of which all has arrived."""
    other, _ = open_log(MemoryFiles(), identity=Identity("cluster-a", "n2"))
    made = await other.save_snapshot(index, 7, list(encode_snapshot(rows_at(index))))
    install = life.log.begin_install(index, 7)
    install.write(0, other.read_snapshot_chunk(made, 0, made.size_bytes))
    return install


async def test_a_snapshot_that_arrived_waits_for_room_for_a_log() -> None:
    life = opened()
    life.append(b"old")
    await life.rest()
    install = await received(life, 100)
    life.log._wal.spare = None
    life.files.room_bytes = life.files.used_bytes()
    with pytest.raises(DiskFull):
        await install.finish()
    here = life.log.received_snapshot(90)
    assert here is not None
    assert here.index == 100
    assert life.log.received_snapshot(101) is None
    with pytest.raises(DiskFull):
        await life.log.resume_install(here)
    life.files.room_bytes = None
    assert life.log.try_recover()
    assert await life.log.resume_install(here) == here
    life.log.append(b"new", 101, 7)
    while life.log.synced < life.log.position:
        await asyncio.sleep(0)
    _, again = open_log(life.files.power_loss(chance(1)))
    assert (again.base_index, again.entries) == (100, [(b"new", 101, 7)])


@pytest.mark.parametrize("call", ["fdatasync install", "rename 0", "fsync_dir"])
async def test_no_room_at_the_end_of_an_install_is_a_refusal(call: str) -> None:
    life = opened()
    life.append(b"old")
    await life.rest()
    install = await received(life, 100)
    life.files.failing = lambda name: errno.ENOSPC if name.startswith(call) else None
    with pytest.raises(DiskFull, match="a snapshot that arrives"):
        await install.finish()
    assert DIRECTORY / "install.tmp" not in life.files.paths()
    assert not life.log._worker.failed
    life.files.failing = lambda _call: None
    made = await (await received(life, 100)).finish()
    assert made.index == 100
