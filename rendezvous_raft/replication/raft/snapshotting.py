"""When snapshots are taken, how they reach a follower, and how one takes the place of the state."""

from __future__ import annotations

import asyncio
from itertools import chain

from pysyncobj.node import Node

from rendezvous_raft import errors
from rendezvous_raft.core import snapshot
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.membership import Membership
from rendezvous_raft.node.ports import Clock
from rendezvous_raft.node.status import SnapshotInfo
from rendezvous_raft.replication.applying import Replica
from rendezvous_raft.replication.observer import EngineObserver
from rendezvous_raft.replication.raft.journal import DurableJournal
from rendezvous_raft.replication.raft.member import Message
from rendezvous_raft.replication.raft.memberships import membership_of, membership_row
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.replication.raft.snapshots import encode_snapshot
from rendezvous_raft.replication.raft.storage import (
    DiskFull,
    DurableLog,
    SnapshotFile,
    SnapshotGone,
    SnapshotInstall,
)

ENTRIES_MAX = 20_000
"""Applied entries in the log after which a snapshot is due."""
ENTRIES_KEPT = 2_000
"""Entries before a snapshot that stay in memory, for followers that are only a little behind."""
CHUNK_BYTES = 256 * 1024
RETRY_S = 10.0
"""Pause after a snapshot that could not be written."""


class Snapshots:
    """The snapshots of one member."""

    def __init__(
        self, store: DurableLog, replica: Replica, clock: Clock, observer: EngineObserver
    ) -> None:
        self._store = store
        self._replica = replica
        self._clock = clock
        self._observer = observer
        self._newest: SnapshotFile | None = None
        self._journal: DurableJournal
        self._raft: Raft
        self._taking: asyncio.Task[None] | None = None
        self._retry_at_s = 0.0
        self._one_at_a_time = asyncio.Lock()
        self._install: SnapshotInstall | None = None
        self._install_task: asyncio.Task[None] | None = None

    def attach(self, journal: DurableJournal, raft: Raft) -> None:
        """Completes the construction."""
        self._journal = journal
        self._raft = raft

    async def close(self) -> None:
        """Waits for what is being written."""
        tasks = [task for task in (self._taking, self._install_task) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def restore(self, file: SnapshotFile) -> Membership:
        """Loads the state of a snapshot; returns the membership that was in force there.

        Raises:
            StorageError, SnapshotError, MembershipError: it is damaged, or of another version.
        """
        rows = self._store.load_snapshot(file)
        membership = membership_of(next(rows, None))
        machine = snapshot.load(rows)
        self._newest = file
        self._replica.replace(machine)
        return membership

    def take_if_due(self) -> None:
        """Begins to take a snapshot if the log has grown long."""
        applied = self._raft.last_applied
        covered = self._newest.index if self._newest is not None else 1
        busy = self._taking is not None and not self._taking.done()
        if applied - covered >= ENTRIES_MAX and not busy and self._retry_at_s <= self._now_s():
            self._taking = asyncio.get_running_loop().create_task(self._take_or_retry_later())

    async def _take_or_retry_later(self) -> None:
        """A snapshot that fails costs room in the log, not data; the next try may have space."""
        try:
            await self.take()
        except OSError:
            self._retry_at_s = self._now_s() + RETRY_S

    def _now_s(self) -> float:
        return self._clock.monotonic_s()

    async def take(self) -> SnapshotInfo:
        """Writes a snapshot of the state as it is now, then drops the log before it.

        The state is encoded in slices between other turns, while commands go on being applied;
        writing and syncing happen in the log's worker.
        """
        async with self._one_at_a_time:
            started_s = self._clock.monotonic_s()
            machine, index = self._replica.machine, self._raft.last_applied
            revision, term = machine.revision, self._journal.term_at(index)
            if term is None:
                raise errors.Unavailable("nothing has been applied yet")
            if self._newest is not None and self._newest.index >= index:
                return SnapshotInfo(revision, self._newest.index, self._newest.size_bytes)
            membership = self._journal.membership_at(index)
            chunks = await _encode(machine, membership)
            file = await self._store.save_snapshot(index, term, chunks)
            if self._newest is None or file.index > self._newest.index:
                self._newest = file
            if index - ENTRIES_KEPT > self._journal.base_index:
                self._journal.drop_before(index - ENTRIES_KEPT)
            seconds = self._clock.monotonic_s() - started_s
            self._observer.snapshot_done(seconds, file.size_bytes)
            return SnapshotInfo(revision, index, file.size_bytes)

    def chunk(self, offset: int) -> Message | None:
        """A part of the newest snapshot, as a message to a follower."""
        file = self._newest
        if file is None:
            return None
        try:
            data = self._store.read_snapshot_chunk(file, offset, CHUNK_BYTES)
        except SnapshotGone:
            return None  # a newer one has just taken its place; the follower is sent that
        return {
            "index": file.index,
            "snapshot_term": file.term,
            "offset": offset,
            "size": file.size_bytes,
            "data": data,
        }

    def receive(self, node: Node, message: Message) -> None:
        """Takes a chunk from the leader; after the last one the snapshot replaces the state."""
        index, offset = message["index"], message["offset"]
        if index <= self._raft.commit_index:
            self._raft.answer_snapshot(node, offset=0, installed=self._raft.commit_index)
            return
        if self._install_task is not None and not self._install_task.done():
            return
        if offset == 0:
            if self._install is not None:
                self._install.abort()
            self._install = self._store.begin_install(index, message["snapshot_term"])
        install = self._install
        if install is None or install.index != index or install.received != offset:
            # A chunk of another snapshot, or out of order: from the beginning.
            self._raft.answer_snapshot(node, offset=0, installed=0)
            return
        try:
            install.write(offset, message["data"])
        except DiskFull:
            # The leader sends it again, from the beginning, until there is room.
            install.abort()
            self._install = None
            return
        received = offset + len(message["data"])
        if received < message["size"]:
            self._raft.answer_snapshot(node, offset=received, installed=0)
        else:
            self._install = None
            self._raft.installing = True
            task = asyncio.get_running_loop().create_task(self._finish(node, install))
            self._install_task = task

    async def _finish(self, node: Node, install: SnapshotInstall) -> None:
        try:
            file = await install.finish()
            membership = self.restore(file)
        except DiskFull:
            self._raft.installing = False
            return
        except Exception as error:  # noqa: BLE001 (F12: whatever it is, it is not swallowed)
            self._raft.host.halt(f"a snapshot from {node.id} could not be installed: {error}")
            return
        self._journal.restart_at(file.index, file.term, membership)
        self._raft.installing = False
        self._raft.commit_index = self._raft.last_applied = file.index
        self._raft.use_membership()
        self._raft.answer_snapshot(node, offset=0, installed=file.index)


async def _encode(machine: StateMachine, membership: Membership) -> list[bytes]:
    """The snapshot of the state as it is now, made chunk by chunk between other turns (F18)."""
    capture = snapshot.Capture(machine)
    chunks = []
    try:
        for chunk in encode_snapshot(chain((membership_row(membership),), capture.rows())):
            chunks.append(chunk)
            await asyncio.sleep(0)
    finally:
        capture.close()
    return chunks
