"""A file system in memory that keeps, at a power loss, no more than it has to.

Stricter than any real one: bytes are on stable storage only after `fdatasync`, names only after
`fsync_dir`. What was not synced may survive a power loss all the same, in any part and any order;
a seed decides. It can fail calls, stop at one (`Crash`), run out of room, and be damaged.

    files = MemoryFiles()
    ...                                  # a life of a node
    files = files.power_loss(rng)        # what the next life finds; `files.kill()` loses nothing

Safe for calls from several threads.
"""

from __future__ import annotations

import copy
import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rendezvous_raft.replication.raft.files import Closing, OpenFile

SECTOR_BYTES = 512
"""What a disk writes wholly or not at all."""


class Crash(Exception):
    """The process ended here, before the call had any effect. Nothing catches it on purpose."""


@dataclass(slots=True)
class _Content:
    """A file, whatever its name."""

    path: Path
    """Its newest name."""
    cached: bytearray = field(default_factory=bytearray)
    stable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, content: bytes) -> None:
        _put(self.cached, offset, content)
        self.pending.append((offset, content))

    def sync(self) -> None:
        for offset, content in self.pending:
            _put(self.stable, offset, content)
        self.pending.clear()

    def tear_last_write(self, rng: random.Random) -> None:
        """Leaves only the beginning of the last write."""
        offset, content = self.pending.pop()
        self.pending.append((offset, content[: rng.randrange(len(content) + 1)]))
        self.cached = bytearray(self.stable)
        for start, piece in self.pending:
            _put(self.cached, start, piece)

    def after_power_loss(self, path: Path, rng: random.Random, share: float) -> _Content:
        image = bytearray(self.stable)
        for offset, content in self.pending:
            for start, piece in _sectors(offset, content):
                if rng.random() < share:
                    _put(image, start, piece)
        return _Content(path, bytearray(image), image)


@dataclass(frozen=True, slots=True)
class _NameChange:
    """Names gained (with the file) and lost (without), all at once."""

    names: dict[Path, _Content | None]

    def apply(self, names: dict[Path, _Content]) -> None:
        for path, content in self.names.items():
            if content is None:
                names.pop(path, None)
            else:
                names[path] = content


@dataclass(slots=True)
class _Disk:
    """Everything that can outlive a process."""

    names: dict[Path, _Content] = field(default_factory=dict)
    stable_names: dict[Path, _Content] = field(default_factory=dict)
    changes: list[_NameChange] = field(default_factory=list)
    """Of names, since the directory was synced."""
    directories: dict[Path, bool] = field(default_factory=dict)
    """Those that were made here, and whether their own names are stable."""

    def change(self, names: dict[Path, _Content | None]) -> None:
        change = _NameChange(names)
        change.apply(self.names)
        self.changes.append(change)

    def sync_names(self, directory: Path) -> None:
        others = []
        for change in self.changes:
            if any(path.parent == directory for path in change.names):
                change.apply(self.stable_names)
            else:
                others.append(change)
        self.changes = others
        for path in self.directories:
            self.directories[path] |= path.parent == directory

    def after_power_loss(self, rng: random.Random) -> _Disk:
        share_bytes = rng.choice((0.0, 0.5, 0.9, 1.0))
        share_names = rng.choice((0.0, 0.5, 1.0))
        names = dict(self.stable_names)
        for change in self.changes:
            if rng.random() < share_names:
                change.apply(names)
        images = {
            path: content.after_power_loss(path, rng, share_bytes)
            for path, content in names.items()
            if self.directories.get(path.parent, True)
        }
        directories = {path: True for path, stable in self.directories.items() if stable}
        return _Disk(images, dict(images), directories=directories)


class MemoryFiles:
    """A `FileLayer` in memory.

    Args:
        room_bytes: how large all files together may become.
    """

    def __init__(self, *, room_bytes: int | None = None, disk: _Disk | None = None) -> None:
        self.room_bytes = room_bytes
        self.calls: list[str] = []
        """Every call that changes something or syncs, with the name of the file."""
        self.crash_at: int | None = None
        """Number of the call, from 0, before which everything ends."""
        self.before_call: list[Callable[[str], None]] = []
        """Told of each call, as it will stand in `calls`, before anything of it happens."""
        self.failing: Callable[[str], int | None] = lambda _call: None
        """Says which error (an `errno`) a call, as it would stand in `calls`, fails with."""
        self._disk = disk or _Disk()
        self._locked: dict[Path, bool] = {}
        self._mutex = threading.RLock()

    def kill(self) -> MemoryFiles:
        """What the next process finds when only this one ends: everything, synced or not."""
        return MemoryFiles(room_bytes=self.room_bytes, disk=copy.deepcopy(self._disk))

    def power_loss(self, rng: random.Random) -> MemoryFiles:
        """What the next process finds when the machine ends: what is synced, and chance."""
        return MemoryFiles(room_bytes=self.room_bytes, disk=self._disk.after_power_loss(rng))

    def tear_last_write(self, path: Path, rng: random.Random) -> None:
        """Undoes a part of the last write to a file, which must not have been synced since.

        As when the process was killed in the middle of it: a beginning has reached the cache.
        """
        self._disk.names[path].tear_last_write(rng)

    # Looking and damaging

    def paths(self) -> list[Path]:
        """Every file, sorted."""
        return sorted(self._disk.names)

    def content(self, path: Path) -> bytes:
        """What a process reads from a file."""
        return bytes(self._disk.names[path].cached)

    def used_bytes(self) -> int:
        """What all files together take."""
        return sum(len(content.cached) for content in self._disk.names.values())

    def unsynced(self, path: Path) -> list[tuple[int, bytes]]:
        """Offset and bytes of what was written to a file since it was synced."""
        return list(self._disk.names[path].pending)

    def has_lost(self, path: Path) -> bool:
        """Whether the cache shows what is not on stable storage and no sync will bring there.

        That is how a failed sync leaves a file; or its name is not on stable storage.
        """
        content = self._disk.names[path]
        image = bytearray(content.stable)
        for offset, written in content.pending:
            _put(image, offset, written)
        return image != content.cached or self._disk.stable_names.get(path) is not content

    def flip_bit(self, path: Path, bit: int) -> None:
        """Damages one bit, on the disk and in the cache."""
        for content in self._images(path):
            content[bit // 8] ^= 1 << (bit % 8)

    def zero(self, path: Path, offset: int, size: int) -> None:
        """Loses some bytes, as a disk loses a sector."""
        for content in self._images(path):
            end = min(offset + size, len(content))
            content[offset:end] = bytes(max(0, end - offset))

    def cut(self, path: Path, size: int) -> None:
        """Loses the rest of a file."""
        for content in self._images(path):
            del content[size:]

    def lose(self, path: Path) -> None:
        """Loses a file."""
        for names in (self._disk.names, self._disk.stable_names):
            names.pop(path, None)

    def _images(self, path: Path) -> tuple[bytearray, bytearray]:
        content = self._disk.names[path]
        content.sync()
        return content.cached, content.stable

    # The file layer

    def create(self, path: Path) -> OpenFile:
        """See `FileLayer`."""
        with self.call("create", path):
            content = _Content(path)
            self._disk.change({path: content})
            return _MemoryFile(self, content)

    def open(self, path: Path) -> OpenFile:
        """See `FileLayer`."""
        with self._mutex:
            if path not in self._disk.names:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            return _MemoryFile(self, self._disk.names[path])

    def rename(self, source: Path, target: Path) -> None:
        """See `FileLayer`."""
        with self.call("rename", target):
            content = self._disk.names[source]
            content.path = target
            self._disk.change({source: None, target: content})

    def unlink(self, path: Path) -> None:
        """See `FileLayer`."""
        if path in self._disk.names:
            with self.call("unlink", path):
                self._disk.change({path: None})

    def listdir(self, directory: Path) -> list[str]:
        """See `FileLayer`."""
        with self._mutex:
            return sorted(path.name for path in self._disk.names if path.parent == directory)

    def mkdir(self, directory: Path) -> None:
        """See `FileLayer`."""
        if directory not in self._disk.directories:
            with self.call("mkdir", directory):
                self._disk.directories[directory] = False

    def fsync_dir(self, directory: Path) -> None:
        """See `FileLayer`."""
        with self.call("fsync_dir", directory):
            self._disk.sync_names(directory)

    def lock(self, path: Path) -> Closing:
        """See `FileLayer`. The lock ends with the life, see `kill`."""
        with self._mutex:
            if path in self._locked:
                raise BlockingIOError(errno.EWOULDBLOCK, "locked", str(path))
            self._locked[path] = True
        return _MemoryLock(self, path)

    def unlock(self, path: Path) -> None:
        """Ends a lock."""
        with self._mutex:
            self._locked.pop(path, None)

    def call(self, name: str, path: Path) -> threading.RLock:
        """One call of the layer: counted, alone, and with the fate that a test wants for it.

        To be used as `with files.call(...)`: what is inside excludes other calls.
        """
        call = f"{name} {path.name}"
        for told in self.before_call:
            told(call)
        with self._mutex:
            if self.crash_at is not None and len(self.calls) >= self.crash_at:
                raise Crash(f"before call {self.crash_at}: {call}")
            self.calls.append(call)
            error = self.failing(call)
            if error is not None:
                raise OSError(error, os.strerror(error), call)
        return self._mutex

    def check_room(self, growth: int) -> None:
        """Raises ENOSPC if the files cannot grow by that much."""
        if self.room_bytes is not None and self.used_bytes() + growth > self.room_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _MemoryFile:
    """An `OpenFile` of a `MemoryFiles`."""

    def __init__(self, files: MemoryFiles, content: _Content) -> None:
        self._files = files
        self._content = content
        self._closed = False

    def read_at(self, offset: int, size: int) -> bytes:
        self._check_open()
        return bytes(self._content.cached[offset : offset + size])

    def write_at(self, offset: int, content: bytes) -> None:
        self._check_open()
        try:
            with self._files.call("write", self._content.path):
                self._files.check_room(offset + len(content) - self.size())
                self._content.write(offset, content)
        except OSError:
            # As a kernel may: part of it was written before the error.
            self._content.write(offset, content[: len(content) // 2])
            raise

    def size(self) -> int:
        return len(self._content.cached)

    def allocate(self, size: int) -> None:
        self._check_open()
        with self._files.call("allocate", self._content.path):
            self._files.check_room(size - self.size())
            self._content.write(size, b"")

    def fdatasync(self) -> None:
        self._check_open()
        try:
            with self._files.call("fdatasync", self._content.path):
                self._content.sync()
        except OSError:
            # As Linux does: the pages count as clean now, and never reached the disk.
            self._content.pending.clear()
            raise

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), str(self._content.path))


class _MemoryLock:
    def __init__(self, files: MemoryFiles, path: Path) -> None:
        self._files = files
        self._path = path

    def close(self) -> None:
        self._files.unlock(self._path)


def _put(target: bytearray, offset: int, content: bytes) -> None:
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(content)] = content


def _sectors(offset: int, content: bytes) -> Iterator[tuple[int, bytes]]:
    """A write in the pieces that reach the disk wholly or not at all."""
    end = offset + len(content)
    start = offset
    while True:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield start, content[start - offset : stop - offset]
        start = stop
        if start >= end:
            return
