"""The disk of one machine: `MemoryFiles` with a time that calls take, faults, and an observer.

A life of a process has its own `LifeFiles`, through which nothing passes any more once the process
is dead. What outlives it is the `Disk`: the files, and what of the log is certainly durable.
"""

from __future__ import annotations

import asyncio
import errno
import random
import re
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rendezvous_raft.replication.raft.files import Closing, OpenFile
from rendezvous_raft.replication.raft.metadata import FILE_NAME, Identity, MetadataFile
from rendezvous_raft.replication.raft.opening import LOCK_NAME
from rendezvous_raft.replication.raft.snapshots import SUFFIX
from rendezvous_raft.replication.raft.wal_format import HEADER_BYTES, Kind, unpack_header
from rendezvous_raft.testing.memory_files import Crash, MemoryFiles
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.loop import ProcessLoop
from rendezvous_raft.testing.simulation.stable_log import SegmentFile, StableLog, WrittenEntry

T = TypeVar("T")

_SNAPSHOT = re.compile(rf"(\d{{20}})-(\d{{20}}){re.escape(SUFFIX)}")
_SEGMENT_SUFFIX = ".log"
_SEGMENT_MAGIC = b"RVZWAL"
_KIND_OFFSET = 4


@dataclass(frozen=True, slots=True)
class DiskSpeed:
    """How long the worker's calls take, in seconds."""

    typical_s: float = 0.001
    spread: float = 0.5
    """Of the logarithm."""

    def draw_s(self, rng: random.Random) -> float:
        """The time of one call."""
        return self.typical_s * rng.lognormvariate(0.0, self.spread)


class NoThreads(Executor):
    """Stands for the worker thread: the loop of a process runs what is given to it itself."""


@dataclass(slots=True)
class _Call:
    """A call of the worker: its effect may come at its begin, or at its end."""

    loop: ProcessLoop
    run: Callable[[], Any]
    future: asyncio.Future[Any]
    early: bool
    done: bool = False
    result: Any = None
    error: BaseException | None = None

    def take_effect(self) -> None:
        if self.done:
            return
        self.done = True
        try:
            self.result = self.run()
        except BaseException as error:  # noqa: BLE001 (it is handed to whoever waits for it)
            self.error = error


class Disk:
    """What of a machine outlives its processes.

    Args:
        agenda: the world's.
        rng: chance, for times and for what a power loss leaves.
        identity: of the node whose machine it is.
        directory: of the node's files.
        wrote: is told of every entry that is written to the log.
        lost: is told of every durable entry, index and term, that is void from now on.
    """

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        identity: Identity,
        directory: Path,
        speed: DiskSpeed,
        wrote: Callable[[WrittenEntry], None],
        lost: Callable[[int, int], None],
    ) -> None:
        self.memory = MemoryFiles()
        self.log = StableLog(lost)
        self._lost = lost
        self.syncs = 0
        self.failed_calls = 0
        self.full_calls = 0
        self.stalled_until_s = 0.0
        self.identity = identity
        self.directory = directory
        self._agenda = agenda
        self._rng = rng
        self._speed = speed
        self._wrote = wrote
        self._calls: deque[_Call] = deque()
        self._life: LifeFiles | None = None

    # Lives

    def begin_life(self) -> LifeFiles:
        """The files as a new process sees them."""
        self._life = LifeFiles(self)
        return self._life

    def kill(self, *, power: bool) -> None:
        """Ends the life: the process alone, or the whole machine with what was not synced."""
        if self._life is not None:
            self._life.alive = False
        self._interrupt()
        if power:
            self.memory = self.memory.power_loss(self._rng)
        else:
            # The life that is over touches nothing any more, so the files need not be copied.
            self.memory.unlock(self.directory / LOCK_NAME)
            self.memory.failing = lambda _call: None
        self.stalled_until_s = 0.0

    def _interrupt(self) -> None:
        """What the worker was doing when the process ended is done, not done, or done in part."""
        if self._calls:
            call = self._calls[0]
            if not call.done and self._rng.random() < 0.67:
                if self._life is not None:
                    self._life.alive = True
                self.memory.crash_at = len(self.memory.calls) + self._rng.randrange(6)
                call.take_effect()
                self.memory.crash_at = None
                if self._life is not None:
                    self._life.alive = False
        self._calls.clear()

    def recovered(self, term: int, voted_for: str | None, base: int, terms: list[int]) -> None:
        """A new life has begun with this, and says that all of it is durable."""
        self.log.term, self.log.voted_for = term, voted_for
        self.log.reset(base, terms)

    def begins_anew(self) -> None:
        """The files are gone, or put aside: nothing of the log is durable any more."""
        self.log = StableLog(self._lost)

    def volatile_files(self) -> list[str]:
        """Files of which a power loss could take something that the last recovery relied on.

        A mark may be unsynced: without it only less would be known to be durable.
        """
        return [
            path.name
            for path in self.memory.paths()
            if path.parent == self.directory
            and (path.name == FILE_NAME or path.suffix in (_SEGMENT_SUFFIX, SUFFIX))
            and (
                self.memory.has_lost(path)
                or not all(_is_mark(content) for _, content in self.memory.unsynced(path))
            )
        ]

    # Faults

    def fail_next(self, kind: str) -> None:
        """The next call of a kind (see `MemoryFiles.calls`) fails: the device has an error."""

        def fail(call: str) -> int | None:
            if call.startswith(kind):
                self.failed_calls += 1
                self.memory.failing = lambda _call: None
                return errno.EIO
            return None

        self.memory.failing = fail

    def fill(self, left_bytes: int) -> None:
        """Leaves only this much room."""
        self.memory.room_bytes = self.memory.used_bytes() + left_bytes

    def free(self) -> None:
        """There is room again."""
        self.memory.room_bytes = None

    def stall(self, seconds: float) -> None:
        """No call ends for so long."""
        self.stalled_until_s = max(self.stalled_until_s, self._agenda.now_s + seconds)

    # The worker

    def run_blocking(self, loop: ProcessLoop, call: Callable[[], T]) -> asyncio.Future[T]:
        """Runs a call after those before it; each takes time."""
        waiting = _Call(loop, call, loop.create_future(), early=self._rng.random() < 0.5)
        self._calls.append(waiting)
        if len(self._calls) == 1:
            self._begin()
        return waiting.future

    def _begin(self) -> None:
        call = self._calls[0]
        if call.early:
            call.take_effect()
        end_s = max(self._agenda.now_s, self.stalled_until_s) + self._speed.draw_s(self._rng)
        self._agenda.at(end_s, self._end, call, owner=call.loop)

    def _end(self, call: _Call) -> None:
        if self._agenda.now_s < self.stalled_until_s:
            self._agenda.at(self.stalled_until_s, self._end, call, owner=call.loop)
            return
        call.take_effect()
        self._calls.popleft()
        if call.error is None:
            if not call.future.done():
                call.future.set_result(call.result)
        elif not call.future.done():
            call.future.set_exception(call.error)
        if self._calls:
            self._begin()

    # What the files of a life tell

    def entry_written(self, file: SegmentFile, content: bytes) -> None:
        """Bytes went to a segment behind its header."""
        entry = self.log.written(file, content)
        if entry is not None:
            self._wrote(entry)

    def names_synced(self, *, metadata_too: bool, snapshots: list[tuple[int, int]]) -> None:
        """Names in the directory are durable."""
        for index, term in snapshots:
            self.log.snapshot_published(index, term)
        self.log.names_synced()
        if metadata_too:
            metadata = MetadataFile(self.memory, self.directory).read(self.identity)
            self.log.term, self.log.voted_for = metadata.term, metadata.voted_for


class LifeFiles:
    """A `FileLayer`: the disk as one life of a process sees it."""

    def __init__(self, disk: Disk) -> None:
        self.alive = True
        self.disk = disk
        self._unnamed: dict[Path, SegmentFile] = {}
        self._new_snapshots: list[tuple[int, int]] = []
        self._metadata_renamed = False
        self._segments: dict[Path, SegmentFile] = {}

    def _memory(self) -> MemoryFiles:
        if not self.alive:
            raise Crash("the process is dead")
        return self.disk.memory

    def create(self, path: Path) -> OpenFile:
        """See `FileLayer`."""
        try:
            file = self._memory().create(path)
        except OSError as error:
            self.saw(error)
            raise
        return _LifeFile(self, path, file, self._new_segment(path))

    def open(self, path: Path) -> OpenFile:
        """See `FileLayer`."""
        file = self._memory().open(path)
        segment = self._segments.get(path)
        if segment is None:
            in_log = path.suffix == _SEGMENT_SUFFIX
            segment = self._segments[path] = SegmentFile(in_log=in_log)
        return _LifeFile(self, path, file, segment)

    def rename(self, source: Path, target: Path) -> None:
        """See `FileLayer`."""
        self._memory().rename(source, target)
        if target.name == FILE_NAME:
            self._metadata_renamed = True
        elif match := _SNAPSHOT.fullmatch(target.name):
            self._new_snapshots.append((int(match[1]), int(match[2])))
        elif target.suffix == _SEGMENT_SUFFIX:
            segment = self._segments.pop(source)
            segment.named, segment.in_log = False, True
            self._segments[target] = self._unnamed[target] = segment

    def unlink(self, path: Path) -> None:
        """See `FileLayer`."""
        self._memory().unlink(path)

    def listdir(self, directory: Path) -> list[str]:
        """See `FileLayer`."""
        return self._memory().listdir(directory)

    def mkdir(self, directory: Path) -> None:
        """See `FileLayer`."""
        self._memory().mkdir(directory)

    def fsync_dir(self, directory: Path) -> None:
        """See `FileLayer`."""
        self._memory().fsync_dir(directory)
        if directory != self.disk.directory:
            return
        for segment in self._unnamed.values():
            segment.named = True
        self._unnamed.clear()
        snapshots, self._new_snapshots = self._new_snapshots, []
        renamed, self._metadata_renamed = self._metadata_renamed, False
        self.disk.names_synced(metadata_too=renamed, snapshots=snapshots)

    def lock(self, path: Path) -> Closing:
        """See `FileLayer`."""
        return self._memory().lock(path)

    def _new_segment(self, path: Path) -> SegmentFile:
        in_log = path.suffix == _SEGMENT_SUFFIX
        segment = SegmentFile(in_log=in_log, named=not in_log)
        self._segments[path] = segment
        if in_log:
            self._unnamed[path] = segment
        return segment

    def saw(self, error: OSError) -> None:
        """A call failed."""
        if error.errno == errno.ENOSPC:
            self.disk.full_calls += 1


class _LifeFile:
    """An `OpenFile` of a life."""

    __slots__ = ("_file", "_life", "_path", "_segment")

    def __init__(self, life: LifeFiles, path: Path, file: OpenFile, segment: SegmentFile) -> None:
        self._life = life
        self._path = path
        self._file = file
        self._segment = segment

    def read_at(self, offset: int, size: int) -> bytes:
        self._check_alive()
        return self._file.read_at(offset, size)

    def write_at(self, offset: int, content: bytes) -> None:
        self._check_alive()
        try:
            self._file.write_at(offset, content)
        except OSError as error:
            self._life.saw(error)
            raise
        if not offset:
            if content.startswith(_SEGMENT_MAGIC):
                self._header_written(content)
        elif self._segment.in_log and offset >= HEADER_BYTES:
            self._life.disk.entry_written(self._segment, content)

    def _header_written(self, content: bytes) -> None:
        """A header that goes on from no segment before it begins a new log."""
        header, _ = unpack_header(content, self._life.disk.identity, self._path)
        if not header.after:
            self._life.disk.log.restarted(self._segment, header.first_index)

    def size(self) -> int:
        self._check_alive()
        return self._file.size()

    def allocate(self, size: int) -> None:
        self._check_alive()
        try:
            self._file.allocate(size)
        except OSError as error:
            self._life.saw(error)
            raise

    def fdatasync(self) -> None:
        self._check_alive()
        self._file.fdatasync()
        self._life.disk.syncs += 1
        self._life.disk.log.synced(self._segment)

    def close(self) -> None:
        self._file.close()

    def _check_alive(self) -> None:
        if not self._life.alive:
            raise Crash("the process is dead")


def _is_mark(content: bytes) -> bool:
    frame = content.lstrip(b"\0")
    return len(frame) > _KIND_OFFSET and frame[_KIND_OFFSET] == Kind.MARK
