"""The few calls through which everything durable passes, and their real implementation.

Tests put `testing.memory_files.MemoryFiles` in their place, which forgets what was not synced.
The rules of a POSIX file system that the callers live by:

- bytes are durable after `fdatasync`, and before it any part of them may be;
- a name (created, renamed, removed) is durable after `fsync_dir` of its directory;
- after a *failed* sync nobody knows: the kernel may call pages clean that never reached the disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ZEROS = bytes(1024 * 1024)


class StorageError(OSError):
    """The files of this node cannot be used as they are. `str()` names file and, if any, offset."""


class DamagedError(StorageError):
    """A file is not what was once synced: bytes changed, or missing. Rejoin from the peers."""

    def __init__(self, path: Path, offset: int, problem: str) -> None:
        super().__init__(f"{path}: damaged at offset {offset}: {problem}")
        self.path = path
        self.offset = offset


class DiskFull(StorageError):
    """There is no room (ENOSPC, EDQUOT). Nothing was changed; it may work again later."""


def is_full(error: OSError) -> bool:
    """Whether the operating system means that there is no room."""
    return error.errno in _FULL


@contextmanager
def disk_full_as_refusal(what: str) -> Iterator[None]:
    """Turns "no room" into `DiskFull`; `what` says what could not be written."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise DiskFull(f"{what}: {error}") from error


class Closing(Protocol):
    """Something to be closed."""

    def close(self) -> None:
        """Gives it back; again does nothing."""
        ...


class OpenFile(Closing, Protocol):
    """A file open for reading and writing. Every method may raise `OSError`."""

    def read_at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes; fewer at the end of the file only."""
        ...

    def write_at(self, offset: int, content: bytes) -> None:
        """Writes all of it, into the kernel's cache. After an error any part may be written."""
        ...

    def size(self) -> int:
        """Bytes of the file."""
        ...

    def allocate(self, size: int) -> None:
        """Makes the file that long, with zeros, and reserves the room for it."""
        ...

    def fdatasync(self) -> None:
        """Makes what was written before this call durable. Blocks for the disk."""
        ...


class FileLayer(Protocol):
    """A file system. Every method may raise `OSError`."""

    def create(self, path: Path) -> OpenFile:
        """A new, empty file; one that has this name loses it."""
        ...

    def open(self, path: Path) -> OpenFile:
        """A file that exists."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Gives a file another name, at once; a file that had it loses it."""
        ...

    def unlink(self, path: Path) -> None:
        """Removes a name; no error if there is none."""
        ...

    def listdir(self, directory: Path) -> list[str]:
        """Names in a directory, sorted."""
        ...

    def mkdir(self, directory: Path) -> None:
        """Makes a directory for its owner alone (0700), with its parents; it may exist."""
        ...

    def fsync_dir(self, directory: Path) -> None:
        """Makes the names in a directory durable. Blocks for the disk."""
        ...

    def lock(self, path: Path) -> Closing:
        """Locks a file for this process until closed. Raises `BlockingIOError` if another has."""
        ...


class RealFile:
    """An `OpenFile` of the operating system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_at(self, offset: int, size: int) -> bytes:
        """See `OpenFile`."""
        content = os.pread(self._descriptor, size, offset)
        if len(content) in (0, size):
            return content
        parts = [content]
        while content:  # one read ends at 2 GiB, or wherever it pleases
            offset, size = offset + len(content), size - len(content)
            content = os.pread(self._descriptor, size, offset)
            parts.append(content)
        return b"".join(parts)

    def write_at(self, offset: int, content: bytes) -> None:
        """See `OpenFile`."""
        written = os.pwrite(self._descriptor, content, offset)
        while written < len(content):
            written += os.pwrite(self._descriptor, content[written:], offset + written)

    def size(self) -> int:
        """See `OpenFile`."""
        return os.fstat(self._descriptor).st_size

    def allocate(self, size: int) -> None:
        """See `OpenFile`. Writes zeros where the file system cannot reserve."""
        try:
            os.posix_fallocate(self._descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            for offset in range(self.size(), size, len(_ZEROS)):
                self.write_at(offset, _ZEROS[: size - offset])

    def fdatasync(self) -> None:
        """See `OpenFile`."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """See `Closing`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class RealFiles:
    """A `FileLayer` of the operating system."""

    def create(self, path: Path) -> OpenFile:
        """See `FileLayer`."""
        self.unlink(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return RealFile(os.open(path, flags, mode=0o600))

    def open(self, path: Path) -> OpenFile:
        """See `FileLayer`."""
        return RealFile(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def rename(self, source: Path, target: Path) -> None:
        """See `FileLayer`."""
        source.rename(target)

    def unlink(self, path: Path) -> None:
        """See `FileLayer`."""
        path.unlink(missing_ok=True)

    def listdir(self, directory: Path) -> list[str]:
        """See `FileLayer`."""
        return sorted(path.name for path in directory.iterdir())

    def mkdir(self, directory: Path) -> None:
        """See `FileLayer`."""
        if not directory.is_dir():
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700)

    def fsync_dir(self, directory: Path) -> None:
        """See `FileLayer`."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: Path) -> Closing:
        """See `FileLayer`. `flock`: the lock ends with the process, however that ends."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return RealFile(descriptor)


class ReadOnlyFiles(RealFiles):
    """The same for looking at files that must stay as they are: whatever would change one fails.

    Descriptors are opened for reading only, so a user who may not write can look too.
    """

    def open(self, path: Path) -> OpenFile:
        """See `FileLayer`."""
        return RealFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def create(self, path: Path) -> OpenFile:
        """Fails."""
        raise _read_only(path)

    def rename(self, source: Path, target: Path) -> None:
        """Fails."""
        raise _read_only(f"{source} to {target}")

    def unlink(self, path: Path) -> None:
        """Fails."""
        raise _read_only(path)

    def mkdir(self, directory: Path) -> None:
        """Fails."""
        raise _read_only(directory)

    def fsync_dir(self, directory: Path) -> None:
        """Fails: it changes nothing, but whoever looks on has no need for it."""
        raise _read_only(directory)

    def lock(self, path: Path) -> Closing:
        """Locks a file that exists, shared with other readers; creates none."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return RealFile(descriptor)


def _read_only(path: Path | str) -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
