"""Lives of a `DurableLog`, with a model of what must be found after each, however it ended.

The model remembers the log and the term after every mutation. After a death the next life must
find the log as it was at some moment that is not before the last one known to be synced, and the
same for term and vote: nothing synced is missing, nothing void is back, nothing is mixed.

    life = Life(MemoryFiles())
    life.open()
    life.append(b"x")
    await life.sync()
    life.next_life(life.files.power_loss(rng)).open()      # fails unless `x` is there
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rendezvous_raft.core import commands as c
from rendezvous_raft.core import snapshot as core_snapshot
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.snapshot import Row
from rendezvous_raft.membership import MemberConfig, Membership
from rendezvous_raft.replication.raft.files import FileLayer
from rendezvous_raft.replication.raft.memberships import membership_row
from rendezvous_raft.replication.raft.snapshots import SnapshotFile, encode_snapshot
from rendezvous_raft.replication.raft.storage import (
    DiskFull,
    DurableLog,
    Identity,
    LogEntry,
    Recovered,
)
from rendezvous_raft.testing.memory_files import Crash, MemoryFiles
from rendezvous_raft.types import BranchId, CommandId, NodeName, Region, RequestId, Service

DIRECTORY = Path("/var/node")
"""Of a life in memory."""
IDENTITY = Identity("cluster-a", "n1")
SEGMENT_BYTES = 32 * 1024
TURNS_MAX = 10_000
REST_TURNS = 60
_NOT_A_COMMAND = b"\xff"
"""Begins a payload that no state machine reads."""
Term = tuple[int, str | None]
"""A term and the vote in it."""


class InlineExecutor(Executor):
    """Runs what it is given at once: no thread, so that a life can be repeated exactly."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `Executor`."""
        future: Future[Any] = Future()
        self.complete(future, lambda: fn(*args, **kwargs))
        return future

    @staticmethod
    def complete(future: Future[Any], call: Callable[[], Any]) -> None:
        """Makes the call, and gives its outcome to the future."""
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 (as a real executor does)
            future.set_exception(error)


def open_log(
    files: FileLayer,
    *,
    identity: Identity = IDENTITY,
    segment_bytes: int = SEGMENT_BYTES,
    directory: Path = DIRECTORY,
    executor: Executor | None = None,
) -> tuple[DurableLog, Recovered]:
    """Opens a log whose syncs run at once, unless an executor says otherwise."""
    return DurableLog.open(
        directory,
        identity,
        files=files,
        segment_bytes=segment_bytes,
        executor=executor or InlineExecutor(),
    )


MEMBERSHIP = Membership((MemberConfig(NodeName("n1"), Region("eu"), "127.0.0.1:7602"),))
"""Of the snapshots."""


def chance(seed: int) -> random.Random:
    """Chance that can be repeated."""
    return random.Random(seed)  # noqa: S311 (not for secrets)


def rows_at(index: int) -> list[Row]:
    """The rows of a snapshot at an entry: of a small state, different for each."""
    machine = StateMachine()
    for number in range(index % 7 + 1):
        request_id, command_id = RequestId(f"r{index}-{number}"), CommandId(b"%012d" % number)
        branch = c.NewBranch(BranchId(f"b{index}-{number}"), Service("s"), locator=b"x" * 40)
        machine.apply(c.RegisterBranches(command_id, request_id, (branch,), index))
    return [membership_row(MEMBERSHIP), *core_snapshot.rows(machine.state)]


@dataclass(frozen=True)
class LogView:
    """A log: what it starts behind, and its entries."""

    base: tuple[int, int] = (1, 0)
    entries: tuple[LogEntry, ...] = ()

    @property
    def last_index(self) -> int:
        """Of the last entry, or of the base."""
        return self.entries[-1][1] if self.entries else self.base[0]

    def term_at(self, index: int) -> int:
        """Term of an entry, or of the base."""
        return self.base[1] if index == self.base[0] else self.entries[index - self.base[0] - 1][2]

    def matches(self, recovered: Recovered) -> bool:
        """Whether this log, its beginning replaced by a snapshot, is what was recovered."""
        base = recovered.base_index
        if not self.base[0] <= base <= self.last_index:
            return False
        rest = self.entries[base - self.base[0] :]
        return self.term_at(base) == recovered.base_term and list(rest) == recovered.entries


@dataclass
class Model:
    """What a life did, and up to where it was synced."""

    logs: list[LogView] = field(default_factory=lambda: [LogView()])
    terms: list[Term] = field(default_factory=lambda: [(0, None)])
    synced: int = 0
    """Place in both lists of the last state known to be synced."""
    snapshot_index: int = 1

    @property
    def log(self) -> LogView:
        """As it is now."""
        return self.logs[-1]

    @property
    def term(self) -> int:
        """As it is now."""
        return self.terms[-1][0]

    def fork(self) -> Model:
        """For one of several futures."""
        return replace(self, logs=list(self.logs), terms=list(self.terms))

    def step(self, *, log: LogView | None = None, term: Term | None = None) -> None:
        """Something changes."""
        self.logs.append(log or self.logs[-1])
        self.terms.append(term or self.terms[-1])

    def undo(self) -> None:
        """The last change was refused."""
        self.logs.pop()
        self.terms.pop()

    def check(self, recovered: Recovered) -> LogView:
        """The log that was recovered. Raises `AssertionError` unless this life may have left it."""
        candidates = self.logs[self.synced :]
        found = [log for log in candidates if log.matches(recovered)]
        if not found:
            raise AssertionError(
                f"recovered base {recovered.base_index}/{recovered.base_term} and "
                f"{_told(recovered.entries)}, cut: {recovered.cut}; possible: "
                f"{[(log.base, _told(log.entries)) for log in candidates]}"
            )
        term = (recovered.term, recovered.voted_for)
        raised = max([recovered.base_term, *(entry[2] for entry in recovered.entries)])
        if term not in self.terms[self.synced :] and term != (raised, None):
            raise AssertionError(
                f"recovered {term}, possible {self.terms[self.synced :]} or {(raised, None)}"
            )
        if term[0] < self.terms[self.synced][0]:
            raise AssertionError(f"the term went back from {self.terms[self.synced]} to {term}")
        return found[-1]


def _told(entries: Iterable[LogEntry]) -> list[tuple[int, int, int]]:
    return [(len(payload), index, term) for payload, index, term in entries]


class Life:
    """A process that uses a `DurableLog`, writing down in the model what it does.

    Args:
        files: the file system; a `MemoryFiles` unless `directory` is a real one.
        model: what the lives before have done.
        directory: where the log is.
        executor: where its syncs run; at once by default.
    """

    def __init__(
        self,
        files: MemoryFiles,
        model: Model | None = None,
        *,
        disk: FileLayer | None = None,
        directory: Path = DIRECTORY,
        executor: Executor | None = None,
    ) -> None:
        self.files = files
        self._disk: FileLayer = disk or files
        self.directory = directory
        self.executor = executor
        self.model = model or Model()
        self.failure: BaseException | None = None
        self.log: DurableLog
        self.recovered: Recovered
        self._step_at_position: dict[int, int] = {}

    def open(self) -> Recovered:
        """Begins the life. Raises `AssertionError` if the one before cannot have left this."""
        self.log, self.recovered = open_log(
            self._disk, directory=self.directory, executor=self.executor
        )
        # The entries before a snapshot stay known: they may be found again if it is lost.
        view = self.model.check(self.recovered)
        self._check_snapshot()
        self.model.step(log=view, term=(self.recovered.term, self.recovered.voted_for))
        # What open() returns is on stable storage.
        self.model.synced = len(self.model.logs) - 1
        self.model.snapshot_index = self.recovered.base_index
        self.log.start(self._on_synced, self._on_failed)
        return self.recovered

    def _check_snapshot(self) -> None:
        snapshot = self.recovered.snapshot
        if snapshot is not None:
            found = list(self.log.load_snapshot(snapshot))
            if found != rows_at(snapshot.index):
                raise AssertionError(f"the snapshot at {snapshot.index} has other rows: {found}")

    def _on_synced(self) -> None:
        self.model.synced = max(
            self.model.synced, self._step_at_position.get(self.log.synced, self.model.synced)
        )

    def _on_failed(self, error: BaseException) -> None:
        self.failure = error

    def _step(self, *, log: LogView | None = None, term: Term | None = None) -> None:
        """Before the mutation: a crash in it may leave it done."""
        self.model.step(log=log, term=term)
        self._step_at_position[self.log.position + 1] = len(self.model.logs) - 1

    def append(self, payload: bytes, term: int | None = None) -> None:
        """Appends an entry, of the current term by default."""
        view = self.model.log
        entry = (payload, view.last_index + 1, self.model.term if term is None else term)
        self._step(log=replace(view, entries=(*view.entries, entry)))
        try:
            self.log.append(*entry)
        except DiskFull:
            self.model.undo()
            raise

    def truncate_from(self, index: int) -> None:
        """Makes the entries from an index on void."""
        view = self.model.log
        self._step(log=replace(view, entries=view.entries[: index - view.base[0] - 1]))
        try:
            self.log.truncate_from(index)
        except DiskFull:
            self.model.undo()
            raise

    def set_term(self, term: int, voted_for: str | None) -> None:
        """A new term, or a vote in it."""
        self._step(term=(term, voted_for))
        self.log.set_term(term, voted_for)

    async def save_snapshot(self, index: int) -> SnapshotFile:
        """Takes a snapshot at an entry and drops the log before it."""
        chunks = list(encode_snapshot(rows_at(index)))
        term = self.model.log.term_at(index)
        snapshot = await self.log.save_snapshot(index, term, chunks)
        self.model.snapshot_index = index
        return snapshot

    async def install(self, index: int, term: int) -> SnapshotFile:
        """Receives a snapshot of another member, which takes the place of the log."""
        source = MemoryFiles()
        other, _ = open_log(source, identity=Identity("cluster-a", "n2"))
        made = await other.save_snapshot(index, term, list(encode_snapshot(rows_at(index))))
        content = other.read_snapshot_chunk(made, 0, made.size_bytes)
        install = self.log.begin_install(index, term)
        try:
            for offset in range(0, len(content), 100):
                install.write(offset, content[offset : offset + 100])
        except DiskFull:
            install.abort()
            raise
        self.model.step(log=LogView((index, term)))
        self._step_at_position[self.log.position + 1] = len(self.model.logs) - 1
        self.model.snapshot_index = index
        return await install.finish()

    async def sync(self) -> None:
        """Waits until everything is synced. Raises what made that impossible."""
        await turns_until(lambda: self.failure or self.log.synced >= self.log.position)
        if self.failure is not None:
            raise self.failure

    async def rest(self, turns: int = REST_TURNS) -> None:
        """Lets everything happen that would happen by itself."""
        for _ in range(turns):
            await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        """Ends the life in order."""
        await self.log.close()

    def next_life(self, files: MemoryFiles) -> Life:
        """A process after this one; it inherits what must be true."""
        return Life(files, self.model.fork())


async def turns_until(condition: Callable[[], object]) -> None:
    """Lets the loop turn until something is so. Raises `AssertionError` if it never is."""
    for _ in range(TURNS_MAX):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("nothing happens any more")


async def settle() -> None:
    """Lets tasks of a life that crashed come to their end."""
    for _ in range(REST_TURNS):
        await asyncio.sleep(0)


async def crashes(script: Awaitable[object]) -> bool:
    """Runs a life; whether it crashed."""
    try:
        await script
    except Crash:
        return True
    finally:
        await settle()
    return False


def payloads(rng: random.Random, count: int) -> Iterable[bytes]:
    """Of sizes that share blocks, fill them, and fill segments."""
    for _ in range(count):
        size = rng.choice((0, 1, 30, 500, 3000, 9000))
        yield (_NOT_A_COMMAND + rng.randbytes(size - 1)) if size else b""


def chance_of(*parts: object) -> random.Random:
    """Chance of its own for whatever is named; the same in every process."""
    return random.Random(" ".join(map(str, parts)))  # noqa: S311 (not for secrets)
