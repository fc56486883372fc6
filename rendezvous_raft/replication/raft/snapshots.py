"""Snapshot files: writing, verifying, reading; the newest two are kept, and those in use.

    header    a block: cluster id, index and term of the last entry that the state contains
    chunk     length u32 · rows u32 · CRC32C u32 · rows in msgpack, one after the other
    end       0 u32 · rows of all chunks u32 · CRC32C u32 of the whole file before

A file is written under another name, synced, and only then renamed: what has the name of a snapshot
is a whole one, or damaged. The members of a cluster exchange these bytes as they are.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from rendezvous_raft.core.snapshot import Row
from rendezvous_raft.node.slices import ROWS_AT_ONCE
from rendezvous_raft.replication.codec import COMMAND_VERSION
from rendezvous_raft.replication.raft.blocks import (
    BLOCK_BYTES_MAX,
    crc32c,
    pack_block,
    unpack_block,
)
from rendezvous_raft.replication.raft.files import (
    DamagedError,
    FileLayer,
    OpenFile,
    StorageError,
    disk_full_as_refusal,
)

CHUNK_BYTES = 64 * 1024
GENERATIONS_KEPT = 2
"""So that a damaged newest one is not the only one. Those being sent are kept besides."""
SUFFIX = ".snapshot"
WRITING_NAME = "snapshot.tmp"
INSTALLING_NAME = "install.tmp"

_NAME = re.compile(rf"(\d{{20}})-(\d{{20}}){re.escape(SUFFIX)}")
_MAGIC = b"RVZSNAP\0"
_CHUNK = struct.Struct("<III")
_CRC = struct.Struct("<I")


class SnapshotDamaged(DamagedError):
    """A snapshot does not verify."""


class SnapshotGone(StorageError):
    """The snapshot is not kept any more: begin again with the newest."""


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A snapshot on stable storage: the state that entries up to `index` made."""

    index: int
    term: int
    size_bytes: int
    path: Path


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """What a snapshot file says of itself."""

    cluster_id: str
    index: int
    term: int
    end: int
    """Where the chunks begin."""
    crc: int
    """Of everything before them."""


class Chunk(NamedTuple):
    """A chunk that verified."""

    offset: int
    rows: int
    packed: bytes


def encode_snapshot(rows: Iterable[Row], rows_at_once: int = ROWS_AT_ONCE) -> Iterator[bytes]:
    """The chunks of a snapshot file, of `CHUNK_BYTES` or so many rows: some milliseconds each.

    Raises:
        OverflowError, TypeError, ValueError: a row holds what msgpack cannot.
    """
    packer = msgpack.Packer(autoreset=False)
    count = 0
    for row in rows:
        packer.pack(row)
        count += 1
        if count >= rows_at_once or packer.getbuffer().nbytes >= CHUNK_BYTES:
            yield _chunk(packer.bytes(), count)
            packer.reset()
            count = 0
    if count:
        yield _chunk(packer.bytes(), count)


def _chunk(packed: bytes, count: int) -> bytes:
    return _CHUNK.pack(len(packed), count, crc32c(packed)) + packed


class SnapshotWriter:
    """Writes one snapshot file. Its methods block; in the sync worker, one at a time."""

    def __init__(self, store: SnapshotStore, index: int, term: int) -> None:
        self._store = store
        self._index = index
        self._term = term
        self._rows = 0
        self._crc = 0
        self._offset = 0
        self._file = store.files.create(store.directory / WRITING_NAME)

    def write(self, chunks: Iterable[bytes]) -> None:
        """Adds chunks of `encode_snapshot`, and syncs them so that the last sync is short too."""
        if not self._offset:
            self._write(self._store.header(self._index, self._term))
        for chunk in chunks:
            self._rows += _CHUNK.unpack_from(chunk)[1]
            self._write(chunk)
        self._file.fdatasync()

    def finish(self) -> SnapshotFile:
        """Completes the file; durable under its name when this returns."""
        self.write(())
        self._write(struct.pack("<II", 0, self._rows))
        self._write(_CRC.pack(self._crc))
        self._file.fdatasync()
        self._file.close()
        temporary = self._store.directory / WRITING_NAME
        return self._store.publish(temporary, self._index, self._term, self._offset)

    def abort(self) -> None:
        """Gives the room back."""
        self._file.close()
        self._store.files.unlink(self._store.directory / WRITING_NAME)

    def _write(self, content: bytes) -> None:
        self._file.write_at(self._offset, content)
        self._offset += len(content)
        self._crc = crc32c(content, self._crc)


class SnapshotInstall:
    """A snapshot that arrives from another member, piece by piece."""

    def __init__(
        self,
        file: OpenFile,
        *,
        index: int,
        term: int,
        finish: Callable[[SnapshotInstall], Awaitable[SnapshotFile]],
        abort: Callable[[], None],
    ) -> None:
        self.index = index
        self.term = term
        self.received = 0
        """Bytes so far; the offset that is expected next."""
        self.file = file
        self._finish = finish
        self._abort = abort

    def write(self, offset: int, content: bytes) -> None:
        """Adds the piece at `offset`, which must be `received`. Waits for no disk.

        Raises:
            ValueError: the piece belongs elsewhere; nothing was written.
            DiskFull: nothing was added; try again later or abort.
        """
        if offset != self.received:
            raise ValueError(f"offset {offset} where {self.received} is due")
        with disk_full_as_refusal("a snapshot that arrives"):
            self.file.write_at(offset, content)
        self.received += len(content)

    async def finish(self) -> SnapshotFile:
        """Verifies what came, makes it the newest snapshot, and begins an empty log behind it.

        Raises:
            SnapshotDamaged: it is not the snapshot that was announced; it is gone, the log as it
                was.
            DiskFull: there is no room, or none for a log; in the second case the snapshot stays,
                see `DurableLog.received_snapshot`.
        """
        return await self._finish(self)

    def abort(self) -> None:
        """Throws away what came."""
        self.file.close()
        self._abort()


class SnapshotStore:
    """The snapshots of a directory."""

    def __init__(self, files: FileLayer, directory: Path, cluster_id: str) -> None:
        self.files = files
        self.directory = directory
        self._cluster_id = cluster_id
        self._kept: list[SnapshotFile] = []

    @property
    def newest(self) -> SnapshotFile | None:
        """The one that a restart would begin from."""
        return self._kept[-1] if self._kept else None

    def recover(self) -> None:
        """Finds the snapshots and verifies the newest. Raises `StorageError`; changes nothing."""
        self._kept += find_snapshots(self.files, self.directory)
        if self.newest is not None:
            for _ in self._chunks(self.newest):
                """Each verifies itself."""

    def clean(self) -> None:
        """Removes what is no longer needed, and what was never finished."""
        for name in (WRITING_NAME, INSTALLING_NAME):
            self.files.unlink(self.directory / name)
        for path in self.take_obsolete():
            self.files.unlink(path)

    def take_obsolete(self, in_use: Collection[SnapshotFile] = ()) -> list[Path]:
        """The snapshots beyond the newest two, but for those in use; they may be removed now."""
        old, newest = self._kept[:-GENERATIONS_KEPT], self._kept[-GENERATIONS_KEPT:]
        self._kept = [*(snapshot for snapshot in old if snapshot in in_use), *newest]
        return [snapshot.path for snapshot in old if snapshot not in in_use]

    def header(self, index: int, term: int) -> bytes:
        """The first bytes of a file."""
        return pack_block(_MAGIC, {"cluster": self._cluster_id, "index": index, "term": term})

    def publish(self, temporary: Path, index: int, term: int, size_bytes: int) -> SnapshotFile:
        """Gives a synced file its name; durable when this returns. Blocks."""
        path = self.directory / f"{index:020d}-{term:020d}{SUFFIX}"
        self.files.rename(temporary, path)
        self.files.fsync_dir(self.directory)
        return SnapshotFile(index, term, size_bytes, path)

    def add(self, snapshot: SnapshotFile) -> None:
        """Counts a published file among those that are kept."""
        others = [kept for kept in self._kept if kept.path != snapshot.path]
        self._kept = sorted([*others, snapshot], key=lambda kept: kept.index)

    def read(self, snapshot: SnapshotFile, offset: int, size: int) -> bytes:
        """A part of the file, empty behind its end. Raises `SnapshotGone`."""
        try:
            file = self.files.open(snapshot.path)
        except FileNotFoundError as error:
            raise SnapshotGone(f"{snapshot.path} is not kept any more") from error
        try:
            return file.read_at(offset, size)
        finally:
            file.close()

    def verify_temporary(self, index: int, term: int, size_bytes: int) -> Iterator[None]:
        """Verifies what was received, a chunk a step. Raises `SnapshotDamaged`."""
        received = SnapshotFile(index, term, size_bytes, self.directory / INSTALLING_NAME)
        for _ in self._chunks(received):
            yield

    def rows(self, snapshot: SnapshotFile) -> Iterator[Row]:
        """The rows; true only once the iterator has ended, which is when all of it has verified.

        Raises:
            SnapshotDamaged: naming file and offset.
        """
        for rows in self.rows_in_chunks(snapshot):
            yield from rows

    def rows_in_chunks(self, snapshot: SnapshotFile) -> Iterator[list[Row]]:
        """As `rows`, chunk by chunk."""
        for chunk in self._chunks(snapshot):
            yield rows_of(chunk, snapshot.path)

    def _chunks(self, snapshot: SnapshotFile) -> Iterator[Chunk]:
        """Each chunk; raises at the first thing that is wrong."""
        file = self.files.open(snapshot.path)
        try:
            header = read_header(file, snapshot.path)
            check_header(header, snapshot, self._cluster_id)
            yield from read_chunks(file, header, snapshot.path)
        finally:
            file.close()


def find_snapshots(files: FileLayer, directory: Path) -> list[SnapshotFile]:
    """The files that have the name of a snapshot, oldest first; nothing is verified."""
    found = []
    for match in filter(None, map(_NAME.fullmatch, files.listdir(directory))):
        path = directory / match[0]
        file = files.open(path)
        try:
            found.append(SnapshotFile(int(match[1]), int(match[2]), file.size(), path))
        finally:
            file.close()
    return found


def read_header(file: OpenFile, path: Path) -> SnapshotHeader:
    """What a snapshot file says of itself. Raises `SnapshotDamaged`, or `StorageError`."""
    content = file.read_at(0, BLOCK_BYTES_MAX)
    try:
        fields, end = unpack_block(_MAGIC, content, path)
    except DamagedError as error:
        raise SnapshotDamaged(path, error.offset, "the header is damaged") from error
    read: Any = fields
    return SnapshotHeader(
        read["cluster"], read["index"], read["term"], end=end, crc=crc32c(content[:end])
    )


def read_chunks(file: OpenFile, header: SnapshotHeader, path: Path) -> Iterator[Chunk]:
    """The chunks of a snapshot file, each verified; raises `SnapshotDamaged`.

    All of the file has verified only when the iterator has ended.
    """
    offset, crc, total = header.end, header.crc, 0
    size = file.size()
    while True:
        head = file.read_at(offset, _CHUNK.size)
        if len(head) < _CHUNK.size:
            raise SnapshotDamaged(path, offset, "the end is missing")
        length, count, chunk_crc = _CHUNK.unpack(head)
        if not length:
            break
        if length > size - offset:  # a damaged length must not cost gigabytes of memory
            raise SnapshotDamaged(path, offset, "the chunk is longer than the file")
        packed = file.read_at(offset + _CHUNK.size, length)
        if len(packed) < length or crc32c(packed) != chunk_crc:
            raise SnapshotDamaged(path, offset, "the chunk does not match its checksum")
        crc = crc32c(packed, crc32c(head, crc))
        yield Chunk(offset, count, packed)
        total += count
        offset += _CHUNK.size + length
    if count != total or chunk_crc != crc32c(head[: -_CRC.size], crc):
        raise SnapshotDamaged(path, offset, "the file does not match its checksum")
    if size != offset + _CHUNK.size:
        raise SnapshotDamaged(path, offset + _CHUNK.size, "there is more than was written")


def rows_of(chunk: Chunk, path: Path) -> list[Row]:
    """The rows in a chunk that has verified. Raises `SnapshotDamaged`."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(chunk.packed), strict_map_key=False)
    unpacker.feed(chunk.packed)
    try:
        rows: list[Row] = list(unpacker)
    except (ValueError, msgpack.UnpackException) as error:
        raise SnapshotDamaged(path, chunk.offset, f"no rows: {error}") from error
    if len(rows) != chunk.rows:
        problem = f"{len(rows)} rows instead of {chunk.rows}"
        raise SnapshotDamaged(path, chunk.offset, problem)
    return rows


def check_commands(state_version: int, path: Path) -> None:
    """Whether this software applies the commands that the state may hold. Raises `StorageError`.

    Without this a node of an older version would vote and acknowledge until an entry stops it.
    """
    if state_version > COMMAND_VERSION:
        raise StorageError(
            f"{path}: the cluster uses commands of version {state_version}, and this software knows"
            f" them up to version {COMMAND_VERSION}; install a version that knows them"
        )


def check_header(header: SnapshotHeader, snapshot: SnapshotFile, cluster_id: str) -> None:
    """Whether a file is the snapshot that its name, or its sender, says. Raises `StorageError`."""
    if header.cluster_id != cluster_id:
        raise StorageError(f"{snapshot.path}: belongs to cluster {header.cluster_id!r}")
    if (header.index, header.term) != (snapshot.index, snapshot.term):
        problem = f"this is the snapshot at entry {header.index} of term {header.term}"
        raise SnapshotDamaged(snapshot.path, 0, problem)
