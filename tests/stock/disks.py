"""The files of one member, told in the same words for stock PySyncObj and for ours.

A *dump* is a snapshot. It takes time: writes are acknowledged between its begin and its end. From
a given file operation on nothing reaches the files any more, and a new life has to find in them
what was acknowledged.
"""

from __future__ import annotations

import ast
import asyncio
import pickle
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Executor, Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pysyncobj.journal
import pysyncobj.syncobj
import pytest
from pysyncobj.config import SERIALIZER_STATE
from stock_bench import StockBench, StockMember

from rendezvous_raft.core.snapshot import Row
from rendezvous_raft.replication.raft.metadata import FILE_NAME
from rendezvous_raft.replication.raft.snapshots import SUFFIX, encode_snapshot
from rendezvous_raft.replication.raft.storage import DurableLog, Identity
from rendezvous_raft.testing.fake_clock import FakeClock
from rendezvous_raft.testing.memory_files import Crash, MemoryFiles

TURNS_MAX = 10_000
SEGMENT_BYTES = 16 * 1024


class Killed(BaseException):
    """The process ends here."""


class Disk(Protocol):
    """See the module's docstring."""

    async def open(self) -> list[str]:
        """A life begins; the values that it finds."""

    async def write(self, values: Iterable[str]) -> None:
        """Returns once all are acknowledged."""

    async def begin_dump(self) -> None:
        """A dump of what there is begins."""

    async def finish_dump(self) -> None:
        """The dump ends, and what it made superfluous is removed."""

    def die_at(self, operation: int) -> None:
        """That operation on the files (0: the next), and all after it, do not happen."""

    def die_once_dumped(self) -> None:
        """The same, from the moment on at which the dump is in its place."""

    async def survives(self, step: Callable[[], Awaitable[None]]) -> bool:
        """Takes a step, which may be the last; the process ends after it in any case."""

    def change_log(self, old: bytes, new: bytes) -> None:
        """The disk returns other bytes than were written to the log."""

    def change_dump(self) -> None:
        """The same, somewhere in the dump."""

    def change_metadata(self) -> None:
        """The same, somewhere in the file with term and vote."""


class StockDisk:
    """A stock member alone, with `journalFile` and `fullDumpFile`: its own majority.

    The end of a process is an exception out of the file operation, and files copied as they are
    then. What a mapped file was given is in the kernel, as after SIGKILL.
    """

    def __init__(self, directory: Path, clock: FakeClock, patch: pytest.MonkeyPatch) -> None:
        self._dump_state = SERIALIZER_STATE.NOT_SERIALIZING
        self._operations = 0
        self._dead_from: int | None = None
        options = {
            # PySyncObj's own hooks for a dump that takes its time, like the forked one.
            "serializer": self._write_dump,
            "deserializer": self._read_dump,
            "serializeChecker": lambda: self._dump_state,
        }
        write = pysyncobj.journal.ResizableFile.write

        def counted(file: object, offset: int, content: bytes) -> None:
            if self._dead_from is not None and self._operations >= self._dead_from:
                raise Killed
            self._operations += 1
            write(file, offset, content)

        patch.setattr(pysyncobj.journal.ResizableFile, "write", counted)
        self.bench = StockBench("a", clock=clock, directory=directory, options=options)
        self._first = True

    @property
    def member(self) -> StockMember:
        return self.bench["a"]

    def _write_dump(self, path: str, rest: tuple[Any, ...]) -> None:
        self._dump_state = SERIALIZER_STATE.SERIALIZING
        Path(path).write_text(repr((self.member.values, rest[:2])))

    def _read_dump(self, path: str) -> tuple[Any, ...]:
        values, (newer, older) = ast.literal_eval(Path(path).read_text())
        self.member.values[:] = values
        return newer, older, set()

    def revive(self) -> None:
        """The files take operations again."""
        self._dead_from = None
        self._dump_state = SERIALIZER_STATE.NOT_SERIALIZING

    async def open(self) -> list[str]:
        if not self._first:
            self.restart()
        self._first = False
        self.bench.elect("a")
        return self.bench.applied("a")

    def restart(self) -> None:
        """A new life, which does not stand for election yet."""
        self.revive()
        self.bench.crash("a")

    def vote(self) -> tuple[int, str | None]:
        """The term, and the vote in it."""
        return self.bench.term("a"), self.member._SyncObj__votedForNodeId

    async def write(self, values: Iterable[str]) -> None:
        for value in values:
            self.bench.propose("a", value)
            self.bench.turn("a")
            assert self.bench.acknowledged[-1] == value

    async def begin_dump(self) -> None:
        self.member.forceLogCompaction()
        self.bench.turn("a")
        assert self._dump_state == SERIALIZER_STATE.SERIALIZING

    async def finish_dump(self) -> None:
        self._dump_state = SERIALIZER_STATE.SUCCESS
        self.bench.turn("a")
        self._dump_state = SERIALIZER_STATE.NOT_SERIALIZING

    def die_at(self, operation: int) -> None:
        self._dead_from = self._operations + operation

    def die_once_dumped(self) -> None:
        self.die_at(0)  # it is there since `begin_dump`, and nobody has looked

    async def survives(self, step: Callable[[], Awaitable[None]]) -> bool:
        try:
            await step()
        except Killed:
            return False
        return True

    def change_log(self, old: bytes, new: bytes) -> None:
        path = self.bench.files("a") / "journal"
        content = path.read_bytes()
        # Behind the end of the journal lie entries of the time before it was written again.
        path.write_bytes(content.replace(old, new, 1))

    def change_dump(self) -> None:
        path = self.bench.files("a") / "dump"
        path.write_text(path.read_text()[:-1])

    def change_metadata(self) -> None:
        path = self.bench.files("a") / "journal.meta"
        assert pickle.loads(path.read_bytes())["votedForNodeId"] == "a"  # noqa: S301 (a test's own)
        path.write_bytes(path.read_bytes()[:-1])


class OurDisk:
    """A `DurableLog` whose files forget, when the power fails, what was not synced."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._files = MemoryFiles()
        self._log: DurableLog
        self._values: list[str] = []
        self._dump: tuple[int, list[str]]
        self._failure: BaseException | None = None
        self._first = True
        self._opened = False

    async def open(self) -> list[str]:
        if not self._first:
            self._files = self._files.power_loss(self._rng)
        self._first = self._opened = False
        self._log, found = DurableLog.open(
            Path("/var/node"),
            Identity("cluster", "a"),
            files=self._files,
            segment_bytes=SEGMENT_BYTES,
            executor=InlineExecutor(),
        )
        self._opened = True
        rows = [] if found.snapshot is None else self._log.load_snapshot(found.snapshot)
        self._values = [str(row[1]) for row in rows]
        self._values += [payload.decode() for payload, _, _ in found.entries]
        self._failure = None
        self._log.start(lambda: None, self._failed)
        self._log.set_term(1, "a")
        await self._synced()
        return list(self._values)

    def _failed(self, error: BaseException) -> None:
        self._failure = error

    async def _synced(self) -> None:
        for _ in range(TURNS_MAX):
            if self._failure is not None:
                raise self._failure
            if self._log.synced == self._log.position:
                return
            await asyncio.sleep(0)
        raise AssertionError("never synced")

    async def write(self, values: Iterable[str]) -> None:
        for value in values:
            # The first entry of a log has the index 2, as PySyncObj counts.
            self._log.append(value.encode(), len(self._values) + 2, 1)
            await self._synced()
            self._values.append(value)

    async def begin_dump(self) -> None:
        self._dump = len(self._values) + 1, list(self._values)

    async def finish_dump(self) -> None:
        index, values = self._dump
        rows: list[Row] = [["value", value] for value in values]
        await self._log.save_snapshot(index, 1, list(encode_snapshot(rows)))
        await self._synced()

    def die_at(self, operation: int) -> None:
        self._files.crash_at = len(self._files.calls) + operation

    def die_once_dumped(self) -> None:
        files, seen = self._files, [""]

        def watch(call: str) -> int | None:
            if call.startswith("fsync_dir") and seen[-1].startswith("rename"):
                files.crash_at = len(files.calls)
            seen.append(call)
            return None

        files.failing = watch

    async def survives(self, step: Callable[[], Awaitable[None]]) -> bool:
        try:
            await step()
        except Crash:
            return False
        finally:
            for _ in range(60):  # tasks of the dead come to their end
                await asyncio.sleep(0)
        return True

    def change_log(self, old: bytes, new: bytes) -> None:
        (path,) = [path for path in self._files.paths() if old in self._files.content(path)]
        at = self._files.content(path).index(old)
        for place, (one, other) in enumerate(zip(old, new, strict=True), at):
            for bit in range(8):
                if (one ^ other) >> bit & 1:
                    self._files.flip_bit(path, place * 8 + bit)

    def change_dump(self) -> None:
        (path,) = [path for path in self._files.paths() if path.suffix == SUFFIX]
        self._files.flip_bit(path, 8 * len(self._files.content(path)) - 1)

    def change_metadata(self) -> None:
        path = Path("/var/node") / FILE_NAME
        self._files.flip_bit(path, 8 * len(self._files.content(path)) - 1)

    async def close(self) -> None:
        if self._opened:
            await self._log.close()


class InlineExecutor(Executor):
    """Runs what it is given at once: no thread, so that a life can be repeated exactly."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 (as a real executor does)
            future.set_exception(error)
        return future


MakeDisk = Callable[[], AbstractAsyncContextManager[Disk]]


@asynccontextmanager
async def stock_disk() -> AsyncIterator[StockDisk]:
    """A stock member with files of its own."""
    clock = FakeClock()
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pysyncobj.syncobj, "monotonicTime", clock.monotonic_s)
        disk = StockDisk(Path(directory), clock, patch)
        try:
            yield disk
        finally:
            disk.revive()
            disk.bench.close()


@asynccontextmanager
async def our_disk() -> AsyncIterator[Disk]:
    """A log of ours in memory; whatever was not synced is subject to chance."""
    disk = OurDisk(seed=0)
    yield disk
    await disk.close()
