"""When snapshots are taken, how they reach a follower, and how one takes the place of the state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pysyncobj.node import Node

from rendezvous_raft import errors
from rendezvous_raft.core import snapshot
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.membership import Membership
from rendezvous_raft.node.ports import Clock
from rendezvous_raft.node.slices import ROWS_AT_ONCE, rest
from rendezvous_raft.node.status import SnapshotInfo
from rendezvous_raft.replication.applying import Replica
from rendezvous_raft.replication.observer import EngineObserver
from rendezvous_raft.replication.raft.journal import DurableJournal
from rendezvous_raft.replication.raft.member import Message
from rendezvous_raft.replication.raft.memberships import membership_of, membership_row
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.replication.raft.snapshots import check_commands, encode_snapshot
from rendezvous_raft.replication.raft.storage import (
    DiskFull,
    DurableLog,
    SnapshotFile,
    SnapshotGone,
    SnapshotInstall,
)

RETRY_S = 10.0
"""Pause after a snapshot that could not be written."""


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """When snapshots are taken, and in what pieces they travel."""

    entries_max: int = 20_000
    """Applied entries in the log after which a snapshot is due."""
    entries_kept: int = 2_000
    """Entries before a snapshot that stay in memory, for followers that are a little behind; less
    if they have more than `log_bytes_max`."""
    chunk_bytes: int = 256 * 1024
    log_bytes_max: int = 32 * 1024 * 1024
    """Bytes of entries after which one is due, or half of its own size if that is more. The first
    bounds memory and the time to apply them again at a start, about 3 s; the second how much more
    is written for snapshots than for the log."""
    catch_up_bytes_max: int = 4 * log_bytes_max
    """Bytes of entries before a snapshot that stay in memory for followers that are being sent a
    snapshot, or what follows it."""
    rows_at_once: int = ROWS_AT_ONCE
    """Of a state, at most, between two rests when a snapshot is made, and so when it is read."""


DEFAULT_POLICY = SnapshotPolicy()


class Snapshots:
    """The snapshots of one member."""

    def __init__(
        self,
        store: DurableLog,
        replica: Replica,
        clock: Clock,
        observer: EngineObserver,
        policy: SnapshotPolicy,
    ) -> None:
        self._policy = policy
        self._store = store
        self._replica = replica
        self._clock = clock
        self._observer = observer
        self._newest: SnapshotFile | None = None
        self._bytes_covered = 0
        """Of all that was ever added to the journal: what came before the newest snapshot."""
        self._journal: DurableJournal
        self._raft: Raft
        self._installed: Callable[[], None]
        self._taking: asyncio.Task[None] | None = None
        self._retry_at_s = 0.0
        self._one_at_a_time = asyncio.Lock()
        self._install: SnapshotInstall | None = None
        self._source: tuple[str, int, int] = ("", 0, 0)
        """Who sends it, in which term, and its size."""
        self._install_task: asyncio.Task[None] | None = None

    def attach(self, journal: DurableJournal, raft: Raft, installed: Callable[[], None]) -> None:
        """Completes the construction; `installed` is told that a snapshot took the state's place.

        For readers whose index is in it: no entry may follow that would release them.
        """
        self._journal = journal
        self._raft = raft
        self._installed = installed

    @property
    def newest(self) -> SnapshotFile | None:
        """The newest snapshot, if there is one."""
        return self._newest

    async def close(self) -> None:
        """Waits for what is being written."""
        tasks = [task for task in (self._taking, self._install_task) if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def restore(self, file: SnapshotFile) -> Membership:
        """Loads the state of a snapshot, at once; returns the membership that was in force there.

        Raises:
            StorageError, SnapshotError, MembershipError: it is damaged, or of a version that is
                not known; the state is as it was.
        """
        rows = self._store.load_snapshot(file)
        membership = membership_of(next(rows, None))
        self.replace_state(file, snapshot.load(rows))
        return membership

    def replace_state(self, file: SnapshotFile, machine: StateMachine) -> None:
        """The state that was read from a snapshot takes the place of ours, and it is the newest.

        Raises:
            StorageError: this software does not know all its commands; the state is as it was.
        """
        check_commands(machine.state.version, file.path)
        self._newest = file
        self._replica.replace(machine)

    def take_if_due(self) -> None:
        """Begins to take a snapshot if the log has grown long."""
        if not self._is_due() or self._retry_at_s > self._now_s():
            return
        if self._taking is None or self._taking.done():
            self._taking = asyncio.get_running_loop().create_task(self._take_or_retry_later())

    def _is_due(self) -> bool:
        covered, size = (self._newest.index, self._newest.size_bytes) if self._newest else (1, 0)
        entries = self._raft.last_applied - covered
        log_bytes = self._journal.bytes_added - self._bytes_covered
        return entries >= self._policy.entries_max or (
            log_bytes >= max(self._policy.log_bytes_max, size // 2) and entries > 0
        )

    async def _take_or_retry_later(self) -> None:
        """A snapshot that fails costs room in the log, not data; the next try may have space."""
        try:
            await self.take()
        except OSError:
            self._retry_at_s = self._now_s() + RETRY_S
        except Exception as error:  # noqa: BLE001 (F12: whatever it is, it is not swallowed)
            problem = f"{type(error).__name__}: {error}"
            self._raft.host.halt(f"a snapshot could not be taken: {problem}")

    def _now_s(self) -> float:
        return self._clock.monotonic_s()

    async def take_as_ordered(self) -> SnapshotInfo:
        """See `Replicator.take_snapshot`."""
        try:
            return await self.take()
        except DiskFull as error:
            raise errors.ReadOnly(f"this node's disk is full: {error}") from error

    async def take(self) -> SnapshotInfo:
        """Writes a snapshot of the state as it is now, then drops the log before it.

        The state is encoded in slices with a rest after each, while commands go on being applied;
        writing and syncing happen in the log's worker.
        """
        async with self._one_at_a_time:
            started_s = self._clock.monotonic_s()
            machine, index = self._replica.machine, self._raft.last_applied
            log_bytes = self._journal.bytes_added
            revision, term = machine.revision, self._journal.term_at(index)
            if term is None:
                raise errors.Unavailable("nothing has been applied yet")
            if self._newest is not None and self._newest.index >= index:
                return SnapshotInfo(revision, self._newest.index, self._newest.size_bytes)
            membership = self._journal.membership_at(index)
            chunks = await self._encode(machine, membership)
            in_use = self._raft.snapshots_being_sent()
            file = await self._store.save_snapshot(index, term, chunks, in_use)
            if self._newest is None or file.index > self._newest.index:
                self._newest, self._bytes_covered = file, log_bytes
            self._trim_before(index)
            seconds = self._clock.monotonic_s() - started_s
            self._observer.snapshot_done(seconds, file.size_bytes)
            return SnapshotInfo(revision, index, file.size_bytes)

    async def _encode(self, machine: StateMachine, membership: Membership) -> list[bytes]:
        """The snapshot of the state as it is now, chunk by chunk with a rest after each (F18)."""
        capture = snapshot.Capture(machine)
        rows = chain((membership_row(membership),), capture.rows())
        chunks = []
        try:
            for chunk in encode_snapshot(rows, self._policy.rows_at_once):
                chunks.append(chunk)
                await rest()
        finally:
            capture.close()
        return chunks

    def _trim_before(self, index: int) -> None:
        """Drops entries before a snapshot from memory, but for what followers may need of them."""
        policy, journal = self._policy, self._journal
        if index <= journal.base_index:
            return  # a snapshot of another member was installed meanwhile
        first = max(index - policy.entries_kept, journal.first_within(index, policy.log_bytes_max))
        lacking = self._raft.lacking_after()
        if lacking < first:
            # Without them a snapshot that has arrived is followed by the next one, for ever.
            kept = max(lacking, journal.first_within(index, policy.catch_up_bytes_max))
            first = min(first, kept)
        if first > journal.base_index:
            journal.drop_before(first)

    def chunk(self, file: SnapshotFile, offset: int) -> Message | None:
        """A part of a snapshot, as a message to a follower; None: it is not kept any more."""
        try:
            data = self._store.read_snapshot_chunk(file, offset, self._policy.chunk_bytes)
        except SnapshotGone:
            return None
        return {
            "index": file.index,
            "snapshot_term": file.term,
            "offset": offset,
            "size": file.size_bytes,
            "data": data,
        }

    def receive(self, node: Node, message: Message) -> None:
        """Takes a chunk from the leader; after the last one the snapshot replaces the state."""
        index, term = message["index"], message["snapshot_term"]
        if index <= self._raft.commit_index:
            self._raft.answer_snapshot(node, offset=0, installed=self._raft.commit_index)
            return
        if self._install_task is not None and not self._install_task.done():
            return
        here = self._store.received_snapshot(index)
        if here is not None:
            index, term = here.index, here.term
        if self._journal.term_at(index) == term:
            # Paper, figure 13, rule 6: our log holds the snapshot's last entry, so all up to it is
            # committed, and what follows may be as well. Replacing the log would lose that.
            self._raft.commit_index = index
            self._raft.answer_snapshot(node, offset=0, installed=index)
        elif here is not None:
            self._begin_to_finish(node, self._store.resume_install(here))
        else:
            self._receive_chunk(node, message)

    def _receive_chunk(self, node: Node, message: Message) -> None:
        offset = message["offset"]
        install = self._install_from((str(node.id), message["term"], message["size"]), message)
        if install is None:
            self._raft.answer_snapshot(node, offset=0, installed=0)
            return
        if install.received != offset:
            # Sent again, or out of order: what is here stays, or repeated chunks would chase each
            # other back to the beginning for ever.
            self._raft.answer_snapshot(node, offset=install.received, installed=0)
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
            self._begin_to_finish(node, install.finish())

    def _install_from(
        self, source: tuple[str, int, int], message: Message
    ) -> SnapshotInstall | None:
        """The install that a chunk belongs to; None: it must begin anew, or cannot yet."""
        index = message["index"]
        install = self._install
        if install is not None and (install.index, self._source) == (index, source):
            return install
        if message["offset"]:
            return None
        if install is not None:
            install.abort()
        try:
            self._install = self._store.begin_install(index, message["snapshot_term"])
        except DiskFull:
            self._install = None
        self._source = source
        return self._install

    def _begin_to_finish(self, node: Node, finish: Coroutine[Any, Any, SnapshotFile]) -> None:
        self._raft.installing = True
        self._install_task = asyncio.get_running_loop().create_task(self._finish(node, finish))

    async def _finish(self, node: Node, finish: Coroutine[Any, Any, SnapshotFile]) -> None:
        try:
            try:
                file = await finish
            except DiskFull:
                self._raft.installing = False  # the leader sends it until there is room
            else:
                await self._put_in_force(node, file)
        except Exception as error:  # noqa: BLE001 (F12: whatever it is, it is not swallowed)
            self._raft.host.halt(f"a snapshot from {node.id} could not be installed: {error}")

    async def _put_in_force(self, node: Node, file: SnapshotFile) -> None:
        """The state of a snapshot takes the place of ours; the log begins behind it.

        It is read back in slices with a rest after each; calls see the earlier state until then.
        """
        chunks, loading = self._store.load_in_chunks(file), snapshot.Loading()
        first = next(chunks, [])
        membership = membership_of(first[0] if first else None)
        for rows in chain((first[1:],), chunks):
            for row in rows:
                loading.add(row)
            await rest()
        self.replace_state(file, loading.finish())
        self._journal.restart_at(file.index, file.term, membership)
        self._bytes_covered = self._journal.bytes_added
        self._raft.installing = False
        self._raft.commit_index = self._raft.last_applied = file.index
        self._raft.use_membership()
        self._raft.answer_snapshot(node, offset=0, installed=file.index)
        self._installed()
        self._raft.host.wake()
