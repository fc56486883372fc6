"""The durable log as the engine uses it: when what is synced, broken disks, snapshots, locks."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from rendezvous_raft.replication.raft.files import RealFiles
from rendezvous_raft.replication.raft.snapshots import SnapshotFile, encode_snapshot
from rendezvous_raft.replication.raft.storage import (
    DamagedError,
    DurableLog,
    Identity,
    SnapshotDamaged,
    SnapshotGone,
    StorageError,
)
from rendezvous_raft.testing.durable_lives import (
    DIRECTORY,
    IDENTITY,
    SEGMENT_BYTES,
    Life,
    chance,
    crashes,
    open_log,
    rows_at,
    settle,
    turns_until,
)
from rendezvous_raft.testing.memory_files import MemoryFiles


def opened(files: MemoryFiles | None = None) -> Life:
    life = Life(files or MemoryFiles())
    life.open()
    return life


def syncs(life: Life) -> int:
    return sum(call.startswith("fdatasync") and ".log" in call for call in life.files.calls)


# Recovery


async def test_a_new_member_knows_nothing() -> None:
    log, recovered = open_log(MemoryFiles())
    assert (recovered.term, recovered.voted_for) == (0, None)
    assert (recovered.base_index, recovered.base_term) == (1, 0)
    assert recovered.entries == []
    assert recovered.snapshot is None
    assert (log.position, log.synced, log.read_only) == (0, 0, None)


async def test_everything_is_there_after_a_clean_end() -> None:
    life = opened()
    life.set_term(3, "n2")
    life.append(b"one")
    life.append(b"two")
    await life.close()
    recovered = life.next_life(life.files.power_loss(chance(1))).open()
    assert (recovered.term, recovered.voted_for) == (3, "n2")
    assert recovered.entries == [(b"one", 2, 3), (b"two", 3, 3)]
    assert recovered.cut is None


async def test_the_same_directory_can_be_opened_again_after_close() -> None:
    life = opened()
    await life.close()
    log, _ = open_log(life.files)
    with pytest.raises(StorageError, match="in use by another process"):
        open_log(life.files)
    await log.close()


@pytest.mark.parametrize("other", [Identity("cluster-b", "n1"), Identity("cluster-a", "n2")])
async def test_another_members_files_are_refused(other: Identity) -> None:
    life = opened()
    await life.close()
    with pytest.raises(StorageError, match="metadata: belongs to node 'n1' of cluster"):
        open_log(life.files.kill(), identity=other)


async def test_a_log_without_metadata_is_refused() -> None:
    life = opened()
    await life.close()
    files = life.files.kill()
    files.lose(DIRECTORY / "metadata")
    with pytest.raises(DamagedError, match="metadata: damaged at offset 0: the file is missing"):
        open_log(files)


async def test_a_refused_directory_can_be_tried_again() -> None:
    life = opened()
    await life.close()
    for _ in range(2):
        with pytest.raises(StorageError, match="belongs to"):
            open_log(life.files, identity=Identity("cluster-a", "n2"))


async def test_a_term_that_only_the_log_knows_is_kept_without_a_vote() -> None:
    life = opened()
    life.set_term(1, "n1")
    await life.sync()
    life.set_term(2, "n2")
    life.append(b"of term 2", 2)
    # Nothing was synced, but the log's bytes happen to be on disk.
    recovered = life.next_life(life.files.kill()).open()
    assert recovered.entries == [(b"of term 2", 2, 2)]
    assert (recovered.term, recovered.voted_for) == (2, None)


# Syncing


async def test_one_sync_for_a_turn_and_the_next_for_what_came_meanwhile() -> None:
    life = opened()
    await life.rest()
    before = syncs(life)
    for _ in range(10):
        life.append(b"x")
    assert (life.log.position, life.log.synced, syncs(life)) == (10, 0, before)
    await life.sync()
    assert life.log.synced == 10
    assert syncs(life) == before + 1


async def test_synced_is_never_ahead_of_the_disk() -> None:
    life = opened()
    await life.rest()
    on_disk: list[int] = []
    reported: list[tuple[int, int]] = []

    def watch(call: str) -> None:
        if call.startswith("fdatasync") and call.endswith(".log"):
            on_disk.append(life.log.position)

    life.files.failing = watch
    life.log.start(lambda: reported.append((life.log.synced, on_disk[-1])), life._on_failed)
    for number in range(5):
        life.append(b"%d" % number)
        for _ in range(number % 3):
            await asyncio.sleep(0)
    await life.sync()
    assert all(synced <= written for synced, written in reported)
    assert any(synced < 5 for synced, _ in reported)
    assert reported[-1][0] == 5


async def test_what_is_written_before_the_start_is_synced_after_it() -> None:
    files = MemoryFiles()
    log, _ = open_log(files)
    log.append(b"early", 2, 0)
    log.start(lambda: None, pytest.fail)
    await turns_until(lambda: log.synced == 1)


@pytest.mark.parametrize("call", ["fdatasync 0", "fsync_dir", "rename metadata", "write metadata"])
async def test_a_sync_that_fails_is_the_end(call: str) -> None:
    life = opened()
    life.append(b"fine")
    await life.sync()
    await life.rest()
    life.files.failing = lambda made: errno.EIO if made.startswith(call) else None
    life.set_term(9, None)
    life.append(b"x" * SEGMENT_BYTES)
    await turns_until(lambda: life.failure)
    assert isinstance(life.failure, OSError)
    life.files.failing = lambda _call: None
    life.append(b"too late")
    await settle()
    assert life.log.synced == 1
    await life.log.close()
    assert life.log.synced == 1


async def test_a_write_that_fails_is_the_end() -> None:
    life = opened()
    life.files.failing = lambda call: errno.EIO if call.startswith("write") else None
    with pytest.raises(StorageError, match="cannot be written"):
        life.append(b"x")
    await turns_until(lambda: life.failure)


async def test_recovered_entries_are_on_disk_even_after_a_sync_that_failed() -> None:
    life = opened()
    life.append(b"x" * 5000)
    life.files.failing = lambda call: errno.EIO if call.startswith("fdatasync") else None
    await turns_until(lambda: life.failure)
    # The process ends. The kernel shows the entry to the next one, and thinks that it is on disk.
    after = life.next_life(life.files.kill())
    assert len(after.open().entries) == 1
    last = after.next_life(after.files.power_loss(chance(1)))
    assert len(last.open().entries) == 1


# Snapshots and the log


async def test_the_log_before_a_snapshot_is_dropped_by_whole_segments() -> None:
    life = opened()
    for number in range(30):
        life.append(b"%d" % number + bytes(3000))
        await life.sync()
    segments = [path for path in life.files.paths() if path.suffix == ".log"]
    assert len(segments) > 3
    await life.save_snapshot(life.model.log.last_index - 2)
    kept = [path for path in life.files.paths() if path.suffix == ".log"]
    assert 0 < len(kept) < len(segments)
    assert kept == segments[-len(kept) :]
    recovered = life.next_life(life.files.kill()).open()
    assert len(recovered.entries) == 2


async def test_two_generations_of_snapshots_are_kept() -> None:
    life = opened()
    made = []
    for number in range(4):
        life.append(b"%d" % number)
        made.append(await life.save_snapshot(life.model.log.last_index))
    assert [path for path in life.files.paths() if path.suffix == ".snapshot"] == [
        snapshot.path for snapshot in made[-2:]
    ]
    assert life.log.read_snapshot_chunk(made[-2], 0, 8) == b"RVZSNAP\0"
    with pytest.raises(SnapshotGone):
        life.log.read_snapshot_chunk(made[0], 0, 8)


async def test_a_snapshot_that_is_being_sent_is_kept_as_well() -> None:
    life = opened()
    made: list[SnapshotFile] = []
    for number in range(4):
        life.append(b"%d" % number)
        index = life.model.log.last_index
        chunks = list(encode_snapshot(rows_at(index)))
        made.append(await life.log.save_snapshot(index, 0, chunks, made[:1]))
    assert life.log.read_snapshot_chunk(made[0], 0, 8) == b"RVZSNAP\0"
    with pytest.raises(SnapshotGone):
        life.log.read_snapshot_chunk(made[1], 0, 8)
    life.append(b"x")
    await life.save_snapshot(life.model.log.last_index)
    with pytest.raises(SnapshotGone):
        life.log.read_snapshot_chunk(made[0], 0, 8)


@pytest.mark.parametrize("calls", range(9))
@pytest.mark.parametrize("turns", range(9))
async def test_a_segment_begun_while_a_snapshot_is_written(turns: int, calls: int) -> None:
    """The log before the snapshot must stay until what comes after it is on disk."""
    life = opened()
    for _ in range(20):  # until the next entry needs a new segment
        life.append(b"x" * 2500)
        await life.rest()
        if life.log._wal._offset + 3 * 4096 > SEGMENT_BYTES:
            break
    await life.rest()
    saving = asyncio.ensure_future(life.save_snapshot(life.model.log.last_index))
    for _ in range(turns):
        await asyncio.sleep(0)
    segment = life.log._wal.newest_segment
    life.append(b"y" * 5000)
    assert life.log._wal.newest_segment == segment + 1
    life.files.crash_at = len(life.files.calls) + calls
    await crashes(saving)
    for seed in range(16):
        life.next_life(life.files.power_loss(chance(seed))).open()


@pytest.mark.parametrize("back", [0, 1, 3])
async def test_a_log_that_contradicts_an_installed_snapshot_is_void(back: int) -> None:
    """The crash came after the snapshot was published, and before the log began again."""
    life = opened()
    for _ in range(5):
        life.append(b"of a deposed leader")
    await life.rest()
    index = life.model.log.last_index - back
    life.log._wal.spare = None
    life.files.failing = lambda call: errno.EIO if call.startswith("create 0") else None
    with pytest.raises(StorageError):
        await life.install(index, 7)
    recovered = life.next_life(life.files.power_loss(chance(1))).open()
    assert (recovered.base_index, recovered.base_term) == (index, 7)
    assert recovered.entries == []
    assert recovered.term == 7


async def test_an_installed_snapshot_takes_the_place_of_the_log() -> None:
    life = opened()
    for _ in range(5):
        life.append(b"old")
    await life.install(100, 7)
    life.append(b"new", 7)
    await life.sync()
    recovered = life.next_life(life.files.power_loss(chance(1))).open()
    assert (recovered.base_index, recovered.base_term) == (100, 7)
    assert recovered.entries == [(b"new", 101, 7)]


async def test_a_snapshot_that_arrives_damaged_is_thrown_away() -> None:
    source = opened(MemoryFiles())
    source.append(b"x")
    made = await source.save_snapshot(2)
    content = bytearray(source.log.read_snapshot_chunk(made, 0, made.size_bytes))
    content[-1] ^= 1
    life = opened()
    life.append(b"mine")
    install = life.log.begin_install(2, 0)
    install.write(0, bytes(content[:50]))
    with pytest.raises(ValueError, match="offset 0 where 50 is due"):
        install.write(0, bytes(content[:50]))
    install.write(install.received, bytes(content[50:]))
    with pytest.raises(SnapshotDamaged):
        await install.finish()
    assert DIRECTORY / "install.tmp" not in life.files.paths()
    await life.sync()
    assert life.next_life(life.files.kill()).open().entries == [(b"mine", 2, 0)]


async def test_a_snapshot_of_something_else_than_announced_is_refused() -> None:
    source = opened(MemoryFiles())
    source.append(b"x")
    made = await source.save_snapshot(2)
    life = opened()
    install = life.log.begin_install(5, 0)
    install.write(0, source.log.read_snapshot_chunk(made, 0, made.size_bytes))
    with pytest.raises(SnapshotDamaged, match="at entry 2 of term 0"):
        await install.finish()


async def test_an_install_can_be_given_up() -> None:
    life = opened()
    install = life.log.begin_install(5, 0)
    install.write(0, b"part")
    install.abort()
    assert DIRECTORY / "install.tmp" not in life.files.paths()


async def test_a_snapshot_that_is_here_is_not_installed() -> None:
    life = opened()
    life.append(b"x")
    await life.save_snapshot(2)
    with pytest.raises(ValueError, match="here already"):
        life.log.begin_install(2, 0)


async def test_a_log_that_lost_its_snapshot_is_refused() -> None:
    life = opened()
    await life.install(50, 3)
    life.append(b"x", 3)
    await life.close()
    files = life.files.kill()
    (path,) = (path for path in files.paths() if path.suffix == ".snapshot")
    files.lose(path)
    with pytest.raises(DamagedError, match="entries 2 to 50 are missing"):
        open_log(files)


# With real files and the real thread


async def test_real_files_in_a_real_directory(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "node"
    log, _ = DurableLog.open(directory, IDENTITY, files=RealFiles(), segment_bytes=SEGMENT_BYTES)
    assert directory.stat().st_mode & 0o777 == 0o700
    synced, failures = asyncio.Event(), []
    log.start(synced.set, failures.append)
    for index in range(2, 60):
        log.append(b"%d" % index + bytes(1500), index, 1)
        if index % 9 == 0:
            await synced.wait()
            synced.clear()
    log.set_term(4, "n2")
    log.truncate_from(58)
    snapshot = await log.save_snapshot(40, 1, list(encode_snapshot(rows_at(40))))
    with pytest.raises(StorageError, match="in use by another process"):
        DurableLog.open(directory, IDENTITY, files=RealFiles())
    await log.close()
    assert failures == []
    again, recovered = DurableLog.open(directory, IDENTITY, files=RealFiles())
    assert (recovered.term, recovered.voted_for) == (4, "n2")
    assert [index for _, index, _ in recovered.entries] == list(range(41, 58))
    assert recovered.snapshot == snapshot
    assert list(again.load_snapshot(snapshot)) == rows_at(40)
    await again.close()
