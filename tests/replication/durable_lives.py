"""Lives of a `DurableLog` on a `MemoryFiles`, with a model of what must be found after each.

The model remembers the log and the term after every mutation. After a death the next life must
find the log as it was at some moment that is not before the last one known to be synced, and the
same for term and vote: nothing synced is missing, nothing void is back, nothing is mixed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rendezvous_raft.replication.raft.snapshots import SnapshotFile, encode_snapshot
from rendezvous_raft.replication.raft.storage import DurableLog, Identity, LogEntry, Recovered
from rendezvous_raft.testing.memory_files import Crash, MemoryFiles

DIRECTORY = Path("/var/node")
IDENTITY = Identity("cluster-a", "n1")
SEGMENT_BYTES = 32 * 1024
TURNS_MAX = 10_000
Term = tuple[int, str | None]
"""A term and the vote in it."""


class InlineExecutor(Executor):
    """Runs what it is given at once: no thread, so that a life can be repeated exactly."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 (as a real executor does)
            future.set_exception(error)
        return future


def open_log(
    files: MemoryFiles, *, identity: Identity = IDENTITY, segment_bytes: int = SEGMENT_BYTES
) -> tuple[DurableLog, Recovered]:
    return DurableLog.open(
        DIRECTORY,
        identity,
        files=files,
        segment_bytes=segment_bytes,
        executor=InlineExecutor(),
    )


def chance(seed: int) -> random.Random:
    return random.Random(seed)


def rows_at(index: int) -> list[list[object]]:
    """The rows of a snapshot at an entry; different for each."""
    return [["head", index], *(["request", f"r{number}", b"x" * 40] for number in range(index % 7))]


@dataclass(frozen=True)
class LogView:
    """A log: what it starts behind, and its entries."""

    base: tuple[int, int] = (1, 0)
    entries: tuple[LogEntry, ...] = ()

    @property
    def last_index(self) -> int:
        return self.entries[-1][1] if self.entries else self.base[0]

    def term_at(self, index: int) -> int:
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
        return self.logs[-1]

    @property
    def term(self) -> int:
        return self.terms[-1][0]

    def fork(self) -> Model:
        """For one of several futures."""
        return replace(self, logs=list(self.logs), terms=list(self.terms))

    def step(
        self, *, log: LogView | None = None, term: tuple[int, str | None] | None = None
    ) -> None:
        self.logs.append(log or self.logs[-1])
        self.terms.append(term or self.terms[-1])

    def check(self, recovered: Recovered) -> None:
        """Fails unless this life may have left what was recovered."""
        candidates = self.logs[self.synced :]
        assert any(log.matches(recovered) for log in candidates), (
            f"recovered base {recovered.base_index}/{recovered.base_term} and "
            f"{[(len(p), i, t) for p, i, t in recovered.entries]}, cut: {recovered.cut}; possible: "
            f"{[(log.base, [(len(p), i, t) for p, i, t in log.entries]) for log in candidates]}"
        )
        term = (recovered.term, recovered.voted_for)
        raised = max([recovered.base_term, *(entry[2] for entry in recovered.entries)])
        assert term in self.terms[self.synced :] or term == (raised, None), (
            f"recovered {term}, possible {self.terms[self.synced :]} or {(raised, None)}"
        )
        assert term[0] >= self.terms[self.synced][0], "the term went back"


class Life:
    """A process that uses a `DurableLog`, writing down in the model what it does."""

    def __init__(self, files: MemoryFiles, model: Model | None = None) -> None:
        self.files = files
        self.model = model or Model()
        self.failure: BaseException | None = None
        self.log: DurableLog
        self.recovered: Recovered
        self._step_at_position: dict[int, int] = {}

    def open(self) -> Recovered:
        self.log, self.recovered = open_log(self.files)
        self.model.check(self.recovered)
        self._check_snapshot()
        base = (self.recovered.base_index, self.recovered.base_term)
        view = LogView(base, tuple(self.recovered.entries))
        self.model.step(log=view, term=(self.recovered.term, self.recovered.voted_for))
        # What open() returns is on stable storage.
        self.model.synced = len(self.model.logs) - 1
        self.model.snapshot_index = base[0]
        self.log.start(self._on_synced, self._on_failed)
        return self.recovered

    def _check_snapshot(self) -> None:
        snapshot = self.recovered.snapshot
        if snapshot is not None:
            assert list(self.log.load_snapshot(snapshot)) == rows_at(snapshot.index)

    def _on_synced(self) -> None:
        self.model.synced = max(
            self.model.synced, self._step_at_position.get(self.log.synced, self.model.synced)
        )

    def _on_failed(self, error: BaseException) -> None:
        self.failure = error

    def _step(
        self, *, log: LogView | None = None, term: tuple[int, str | None] | None = None
    ) -> None:
        """Before the mutation: a crash in it may leave it done."""
        self.model.step(log=log, term=term)
        self._step_at_position[self.log.position + 1] = len(self.model.logs) - 1

    def append(self, payload: bytes, term: int | None = None) -> None:
        view = self.model.log
        entry = (payload, view.last_index + 1, self.model.term if term is None else term)
        self._step(log=replace(view, entries=(*view.entries, entry)))
        self.log.append(*entry)

    def truncate_from(self, index: int) -> None:
        view = self.model.log
        self._step(log=replace(view, entries=view.entries[: index - view.base[0] - 1]))
        self.log.truncate_from(index)

    def set_term(self, term: int, voted_for: str | None) -> None:
        self._step(term=(term, voted_for))
        self.log.set_term(term, voted_for)

    async def save_snapshot(self, index: int) -> SnapshotFile:
        chunks = list(encode_snapshot(rows_at(index)))
        self.model.snapshot_index = index
        return await self.log.save_snapshot(index, self.model.log.term_at(index), chunks)

    async def install(self, index: int, term: int) -> SnapshotFile:
        source = MemoryFiles()
        other, _ = open_log(source, identity=Identity("cluster-a", "n2"))
        made = await other.save_snapshot(index, term, list(encode_snapshot(rows_at(index))))
        content = other.read_snapshot_chunk(made, 0, made.size_bytes)
        install = self.log.begin_install(index, term)
        for offset in range(0, len(content), 100):
            install.write(offset, content[offset : offset + 100])
        self.model.step(log=LogView((index, term)))
        self._step_at_position[self.log.position + 1] = len(self.model.logs) - 1
        self.model.snapshot_index = index
        return await install.finish()

    async def sync(self) -> None:
        """Waits until everything is synced. Raises what made that impossible."""
        await turns_until(lambda: self.failure or self.log.synced >= self.log.position)
        if self.failure is not None:
            raise self.failure

    async def rest(self) -> None:
        """Lets everything happen that would happen by itself."""
        for _ in range(60):
            await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        await self.log.close()

    def next_life(self, files: MemoryFiles) -> Life:
        """A process after this one; it inherits what must be true."""
        return Life(files, self.model.fork())


async def turns_until(condition: Callable[[], object]) -> None:
    for _ in range(TURNS_MAX):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("nothing happens any more")


async def settle() -> None:
    """Lets tasks of a life that crashed come to their end."""
    for _ in range(60):
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
        yield rng.randbytes(rng.choice((0, 1, 30, 500, 3000, 9000)))
