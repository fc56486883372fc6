"""What a Raft member keeps: term and vote, the log, snapshots; and what of it is durable.

Theory of operation. Everything is called on the loop. Mutations are written to the kernel's cache
at once and numbered (`position`); the sync starts at the end of the loop's turn in the one worker
thread, and whatever is written meanwhile waits for the next one. When it is done, `synced` is the
position at which it started. A *sync round* makes durable, in this order: the log's files, their
names, the metadata (which may name only segments that exist). Whoever tells others about a mutation
waits for `synced` to reach its position (the durable outbox).

A sync that fails ends it all: after it nobody knows what is on disk, so no position is ever
reported again. A full disk refuses entries with `DiskFull`, and changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

from rendezvous_raft.core.snapshot import Row
from rendezvous_raft.replication.raft.files import (
    DamagedError,
    DiskFull,
    FileLayer,
    StorageError,
    disk_full_as_refusal,
    is_full,
)
from rendezvous_raft.replication.raft.metadata import UNNAMED, Birth, Identity, Metadata
from rendezvous_raft.replication.raft.opening import Opened, Recovered, open_directory
from rendezvous_raft.replication.raft.snapshots import (
    INSTALLING_NAME,
    SnapshotDamaged,
    SnapshotFile,
    SnapshotGone,
    SnapshotInstall,
    SnapshotWriter,
)
from rendezvous_raft.replication.raft.spare import SpareSegment
from rendezvous_raft.replication.raft.sync_worker import SyncWorker
from rendezvous_raft.replication.raft.wal import Unsynced
from rendezvous_raft.replication.raft.wal_recovery import LogEntry

__all__ = [
    "Birth",
    "DamagedError",
    "DiskFull",
    "DurableLog",
    "Identity",
    "LogEntry",
    "Recovered",
    "SnapshotDamaged",
    "SnapshotFile",
    "SnapshotGone",
    "SnapshotInstall",
    "StorageError",
]

SEGMENT_BYTES = 64 * 1024 * 1024
SLICE_BYTES = 1024 * 1024
"""Of a snapshot that the worker writes before it looks after the log again."""


@dataclass(frozen=True, slots=True)
class _Round:
    """What one sync makes durable."""

    position: int
    log: Unsynced
    metadata: Metadata
    void: Sequence[Path]
    """Files of a log that another has replaced, to be removed once that one is durable."""


class DurableLog:
    """Term, vote, log and snapshots of one member, in one directory. See the module's docstring."""

    def __init__(self, opened: Opened, executor: Executor | None) -> None:
        self._place = opened.place
        self._files = opened.place.files
        self._lock = opened.lock
        self._wal = opened.wal
        self._metadata_file = opened.metadata_file
        self._metadata = opened.metadata
        self._stored = opened.metadata
        self._snapshots = opened.snapshots
        self._worker = SyncWorker(executor)
        self._spare = SpareSegment(self._place, self._wal, self._worker)
        self.position = 0
        """Increases with every mutation."""
        self.term_position = 0
        """Where the term and the vote changed last."""
        self.synced = 0
        """Highest position known to be on stable storage."""
        self.read_only: str | None = opened.full
        """Why entries are refused: there is no room on the disk."""
        self.sync_seconds = 0.0
        """What the newest sync round took."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_synced: Callable[[], None]
        self._scheduled = False
        self._round_done: asyncio.Event | None = None
        self._void: list[Path] = []

    @classmethod
    def open(
        cls,
        directory: Path,
        identity: Identity,
        *,
        files: FileLayer,
        segment_bytes: int = SEGMENT_BYTES,
        executor: Executor | None = None,
        birth: Birth = UNNAMED,
    ) -> tuple[DurableLog, Recovered]:
        """Opens the files of a member, or makes them. Blocks for the disk.

        All that is recovered is on stable storage when this returns.

        Args:
            directory: of this member alone; made if it is missing.
            identity: whose it must be.
            files: the file system.
            segment_bytes: size of a new file of the log, a multiple of 4096.
            executor: for tests: where syncs run, instead of in a thread of its own.
            birth: of the directory, should it be new.

        Raises:
            DamagedError: something that was synced is not there any more.
            StorageError: another process, node or version has these files.
        """
        opened, recovered = open_directory(directory, identity, files, segment_bytes, birth)
        return cls(opened, executor), recovered

    def start(
        self, on_synced: Callable[[], None], on_failed: Callable[[BaseException], None]
    ) -> None:
        """Begins to sync, on the running loop. Both callbacks are called on it.

        Args:
            on_synced: `synced` has increased.
            on_failed: a sync or a write failed; the process has to end.
        """
        self._loop = asyncio.get_running_loop()
        self._on_synced = on_synced
        self._worker.start(on_failed)
        self._spare.prepare()
        if self.position:
            self._schedule_round()

    @property
    def term(self) -> int:
        """The newest term that was stored; on stable storage from `term_position` on."""
        return self._metadata.term

    # Mutations

    def append(self, payload: bytes, index: int, term: int) -> None:
        """Appends the entry that follows the last one. Waits for no disk.

        Raises:
            DiskFull: nothing was changed.
        """
        if self.read_only is not None:
            raise DiskFull(self.read_only)
        try:
            self._wal.append(payload, index, term)
        except OSError as error:
            raise self._refusal(error) from error
        self._mutated()

    def truncate_from(self, index: int) -> None:
        """Makes the entries from `index` on void, because the leader has others.

        Raises:
            DiskFull: nothing was changed.
        """
        try:
            self._wal.truncate_from(index)
        except OSError as error:
            raise self._refusal(error) from error
        self._mutated()

    def set_term(self, term: int, voted_for: str | None) -> None:
        """Stores the term and the vote in it; also when the disk is full."""
        self._metadata = replace(self._metadata, term=term, voted_for=voted_for)
        self._mutated()
        self.term_position = self.position

    def try_recover(self) -> bool:
        """Whether there is room; takes entries again if there is. Waits for no sync."""
        if self.read_only is None or self._round_done is not None:
            return self.read_only is None
        if not self._succeed(self._metadata_file.keep_reserve, self._place.try_room):
            return False
        self.read_only = None
        self._spare.retry()
        return True

    def has_room(self) -> bool:
        """Whether there is room for another segment, as tried now. Waits for no sync."""
        return self._succeed(self._place.try_room)

    def _succeed(self, *steps: Callable[[], None]) -> bool:
        """Whether there is room for these steps."""
        try:
            for step in steps:
                step()
        except OSError as error:
            if is_full(error):
                return False
            self._worker.fail(error)
            raise
        return True

    # Snapshots

    async def save_snapshot(
        self,
        index: int,
        term: int,
        chunks: Sequence[bytes],
        in_use: Collection[SnapshotFile] = (),
    ) -> SnapshotFile:
        """Writes a snapshot, in slices between the log's syncs, then drops the log before it.

        One at a time. Blocks until it is durable.

        Args:
            index: of the last entry that the state contains.
            term: of that entry.
            chunks: from `encode_snapshot`.
            in_use: older ones that must stay, because they are being sent.

        Raises:
            DiskFull: there is no room; nothing was changed.
        """
        with disk_full_as_refusal("a snapshot"):
            writer = await self._worker.run(SnapshotWriter, self._snapshots, index, term)
            try:
                for part in _slices(chunks):
                    await self._worker.run(writer.write, part)
                snapshot = await self._worker.run(writer.finish)
            except BaseException:
                await self._worker.run(writer.abort)
                raise
        self._snapshots.add(snapshot)
        dropped = self._wal.drop_before(index + 1, self._stored.newest_segment)
        await self._worker.run(self._remove, [*dropped, *self._snapshots.take_obsolete(in_use)])
        return snapshot

    def load_snapshot(self, snapshot: SnapshotFile) -> Iterator[Row]:
        """The rows of a snapshot; believe them only once the iterator has ended.

        Raises:
            SnapshotDamaged: naming file and offset.
        """
        return self._snapshots.rows(snapshot)

    def load_in_chunks(self, snapshot: SnapshotFile) -> Iterator[list[Row]]:
        """As `load_snapshot`, as many rows at a time as were made at a time."""
        return self._snapshots.rows_in_chunks(snapshot)

    def read_snapshot_chunk(self, snapshot: SnapshotFile, offset: int, size: int) -> bytes:
        """A part of the file as it is, to be sent; empty behind its end.

        Raises:
            SnapshotGone: newer ones have taken its place.
        """
        return self._snapshots.read(snapshot, offset, size)

    def begin_install(self, index: int, term: int) -> SnapshotInstall:
        """Receives a snapshot of another member, newer than any here; one at a time.

        Raises:
            DiskFull: there is no room.
        """
        newest = self._snapshots.newest
        if newest is not None and newest.index >= index:
            raise ValueError(f"the snapshot at entry {newest.index} is here already")
        path = self._place.directory / INSTALLING_NAME
        with disk_full_as_refusal("a snapshot that arrives"):
            file = self._files.create(path)
        return SnapshotInstall(
            file,
            index=index,
            term=term,
            finish=self._finish_install,
            abort=lambda: self._files.unlink(path),
        )

    async def _finish_install(self, install: SnapshotInstall) -> SnapshotFile:
        store, index, term, size = self._snapshots, install.index, install.term, install.received
        steps = store.verify_temporary(index, term, size)
        path = self._place.directory / INSTALLING_NAME
        with disk_full_as_refusal("a snapshot that arrives"):
            try:
                while await self._worker.run(_advance, steps):
                    """Chunk after chunk."""
                await self._worker.run(install.file.fdatasync)
                install.file.close()
                snapshot = await self._worker.run(store.publish, path, index, term, size)
            except BaseException:
                await self._worker.run(install.abort)
                raise
        store.add(snapshot)
        return await self.resume_install(snapshot)

    def received_snapshot(self, index: int) -> SnapshotFile | None:
        """The snapshot that is here, for an `index` that the log has not come to yet.

        Another member made it; there was no room to begin a log behind it.
        """
        newest = self._snapshots.newest
        return newest if newest is not None and newest.index >= index else None

    async def resume_install(self, snapshot: SnapshotFile) -> SnapshotFile:
        """Begins an empty log behind a snapshot that was received.

        A crash before that finds a log that does not reach the snapshot, and begins a new one.

        Raises:
            DiskFull: there is no room; nothing was changed.
        """
        try:
            self._void += self._wal.restart(snapshot.index + 1)
        except OSError as error:
            raise self._refusal(error) from error
        self._void += self._snapshots.take_obsolete()
        self._mutated()
        return snapshot

    # The end

    async def close(self) -> None:
        """Syncs what is left, unless the disk failed, and closes the files."""
        await self._spare.close()
        try:
            while self._loop is not None and not self._worker.failed and self._is_behind():
                self._begin_round()
                if self._round_done is not None:
                    await self._round_done.wait()
            if not self._worker.failed:
                # The last mark too, so that the next start can tell all of it from a torn tail.
                for file in self._wal.take_unsynced().files:
                    await self._worker.run(file.fdatasync)
                await self._worker.run(self._wal.sync_end)
        finally:
            self._worker.failed = True
            self._worker.close()
            self._wal.close()
            self._lock.close()

    def _is_behind(self) -> bool:
        return self._round_done is not None or self.synced < self.position

    def _refusal(self, error: OSError) -> StorageError:
        """What a mutation raises that could not be written."""
        if is_full(error):
            self.read_only = str(error)
            return DiskFull(self.read_only)
        self._worker.fail(error)
        return StorageError(f"the log cannot be written: {error}")

    # Syncing

    def _mutated(self) -> None:
        self.position += 1
        self._schedule_round()

    def _schedule_round(self) -> None:
        """Lets a sync begin at the end of this turn of the loop; a running one begins the next."""
        if self._loop is not None and self._round_done is None and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._begin_round)

    def _begin_round(self) -> None:
        self._scheduled = False
        if self._worker.failed or self._round_done is not None:
            return
        metadata = replace(self._metadata, newest_segment=self._wal.newest_segment)
        log, void = self._wal.take_unsynced(), tuple(self._void)
        self._void.clear()
        work = _Round(self.position, log, metadata, void)
        self._round_done = asyncio.Event()
        self._worker.submit(lambda: self._sync(work), lambda done: self._end_round(work, done))

    def _sync(self, work: _Round) -> float:
        """In the worker. The log first: metadata must not name a segment that is not there."""
        started_s = time.perf_counter()
        for file in work.log.files:
            file.fdatasync()
        if work.log.new_names:
            self._files.fsync_dir(self._place.directory)
        if work.metadata != self._stored:
            self._metadata_file.write(work.metadata)
            self._stored = work.metadata
        return time.perf_counter() - started_s

    def _end_round(self, work: _Round, done: asyncio.Future[float]) -> None:
        if self._round_done is not None:
            self._round_done.set()
            self._round_done = None
        try:
            self.sync_seconds = done.result()
            for file in work.log.files[:-1]:
                file.close()
            self._wal.mark(work.log.spot)
        except BaseException as error:  # noqa: BLE001 (whatever it is, nothing is known any more)
            self._worker.fail(error)
        if self._worker.failed:
            return
        self.synced = work.position
        if not self._metadata_file.has_reserve and self.read_only is None:
            self.read_only = "storing the term took the last room on the disk"
        if work.void:
            self._worker.watch(self._worker.run(self._remove, work.void))
        self._spare.prepare()
        if self.synced < self.position:
            self._begin_round()
        self._on_synced()

    def _remove(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self._files.unlink(path)


def _slices(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Chunks in groups that one turn of the worker writes."""
    part: list[bytes] = []
    for chunk in chunks:
        part.append(chunk)
        if sum(map(len, part)) >= SLICE_BYTES:
            yield part
            part = []
    yield part


def _advance(steps: Iterator[None]) -> bool:
    """Does one step; whether there may be another."""
    for _ in steps:
        return True
    return False
