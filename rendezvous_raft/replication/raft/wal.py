"""The log open for writing: appends frames to the newest segment, begins the next when it is full.

Nothing here waits for a disk: writes go to the kernel's cache, and `take_unsynced` says what the
sync worker has to make durable. The one blocking call is the creation of a segment when no spare
one is at hand. `wal_format.py` explains the bytes, `wal_recovery.py` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rendezvous_raft.replication.raft.durable_end import DurableEnd
from rendezvous_raft.replication.raft.files import OpenFile, is_full
from rendezvous_raft.replication.raft.place import Place
from rendezvous_raft.replication.raft.wal_format import (
    FRAME_BYTES,
    HEADER_BYTES,
    MARK_ROOM_BYTES,
    Header,
    Kind,
    Spot,
    aligned,
    pack_frame,
    pack_header,
    pack_mark,
    segment_path,
)

SPARE_NAME = "spare"
"""Made anew by every process: what an earlier one left may hold frames, if its name was lost."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of the log."""

    number: int
    first_index: int
    path: Path


@dataclass(frozen=True, slots=True)
class End:
    """Where the log ends and goes on: the newest segment's file and the place in it."""

    file: OpenFile
    size_bytes: int
    offset: int
    seed: int
    chain: int
    next_index: int
    frames_end: Spot
    """Behind the last frame that is no mark."""
    vouched: Spot
    """What the newest mark says."""


@dataclass(frozen=True, slots=True)
class Unsynced:
    """What has to be made durable for everything written so far to be."""

    files: Sequence[OpenFile]
    """Oldest first; all but the last are full, and to be closed afterwards."""
    new_names: bool
    spot: Spot
    """The end of what will be durable."""


class Wal:
    """The writing end of a log. All of it belongs on the loop."""

    def __init__(self, place: Place, segments: list[Segment], end: End) -> None:
        self._place = place
        self._segments = segments
        self._full: list[OpenFile] = []
        self._new_names = False
        self._vouched = end.vouched
        self._durable_end = DurableEnd(place)
        self.spare: OpenFile | None = None
        """A file of `segment_bytes` zeros, synced, under `SPARE_NAME`."""
        self._continue(end)

    def _continue(self, end: End) -> None:
        self._file: OpenFile = end.file
        self._size: int = end.size_bytes
        self._offset: int = end.offset
        self._touched: int = end.offset
        self._seed: int = end.seed
        self._chain: int = end.chain
        self._next_index: int = end.next_index
        self._frames_end: Spot = end.frames_end

    @classmethod
    def begin(cls, place: Place, *, number: int, first_index: int) -> Wal:
        """A new log. Raises `OSError`."""
        header = Header(number, first_index, place.segment_bytes, after=0, chain=0)
        segment, end = _create_segment(place, header, None)
        wal = cls(place, [segment], end)
        wal._new_names = True
        return wal

    @property
    def next_index(self) -> int:
        """Index that the next entry must have."""
        return self._next_index

    @property
    def newest_segment(self) -> int:
        """Number of the segment that is written to."""
        return self._segments[-1].number

    def append(self, payload: bytes, index: int, term: int) -> None:
        """Appends an entry. Raises `OSError`; then the log is as it was before."""
        if index != self._next_index:
            raise ValueError(f"entry {index} where {self._next_index} is due")
        self._add(Kind.ENTRY, index, term, payload)
        self._next_index = index + 1

    def truncate_from(self, index: int) -> None:
        """Makes entries from `index` on void. Raises `OSError`; then nothing was changed."""
        if index > self._next_index:
            raise ValueError(f"a cut at {index} behind the end {self._next_index}")
        self._add(Kind.CUT, index, 0, b"")
        self._next_index = index

    def restart(self, first_index: int) -> list[Path]:
        """Begins a new log; all entries are void. Raises `OSError`; then nothing was changed.

        Returns:
            The files of the old log, which may be removed once the new one is durable.
        """
        self._begin_segment(first_index, after=0, chain=0, frame_bytes=0)
        void = [segment.path for segment in self._segments[:-1]]
        del self._segments[:-1]
        return void

    def drop_before(self, index: int, newest_stored: int) -> list[Path]:
        """Gives up segments whose entries all come before `index`; they may be removed.

        The segment that the stored metadata names stays: without it the log would look damaged.
        """
        dropped: list[Path] = []
        while (
            len(self._segments) > 1
            and self._segments[1].first_index <= index
            and self._segments[0].number < newest_stored
        ):
            dropped.append(self._segments.pop(0).path)
        return dropped

    def mark(self, synced: Spot) -> None:
        """Writes down what is on stable storage; itself durable with the next sync."""
        start = aligned(self._offset)
        if synced <= self._vouched:
            return
        self._durable_end.write(synced)
        if start + FRAME_BYTES + 8 > self._size:
            return
        frame, crc = pack_mark(synced, seed=self._seed, chain=self._chain)
        try:
            self._write(bytes(start - self._offset) + frame)
        except OSError as error:
            if not is_full(error):
                raise
            return  # the next mark will say more
        self._chain, self._vouched = crc, synced

    def take_unsynced(self) -> Unsynced:
        """What the worker has to sync now; the next call tells what came since."""
        files = (*self._full, self._file)
        unsynced = Unsynced(files, self._new_names, self._frames_end)
        self._full.clear()
        self._new_names = False
        return unsynced

    def sync_end(self) -> None:
        """Makes durable what the file beside the log says of its end. Blocks for the disk."""
        self._durable_end.sync()

    def close(self) -> None:
        """Closes the files; syncs nothing."""
        self._durable_end.close()
        for file in (*self._full, self._file, self.spare):
            if file is not None:
                file.close()

    def _add(self, kind: Kind, index: int, term: int, payload: bytes) -> None:
        length = FRAME_BYTES + len(payload)
        if aligned(self._offset + length) + MARK_ROOM_BYTES > self._size:
            self._begin_segment(self._next_index, self._offset, self._chain, frame_bytes=length)
        frame, crc = pack_frame(kind, index=index, term=term, payload=payload, chain=self._chain)
        self._write(frame)
        self._chain = crc
        self._frames_end = Spot(self.newest_segment, self._offset)

    def _write(self, content: bytes) -> None:
        end = self._offset + len(content)
        if end < self._touched:  # a write that failed may have left bytes there
            content += bytes(self._touched - end)
        self._touched = max(self._touched, end)
        self._file.write_at(self._offset, content)
        self._offset = end

    def _begin_segment(self, first_index: int, after: int, chain: int, frame_bytes: int) -> None:
        needed = aligned(HEADER_BYTES + frame_bytes) + MARK_ROOM_BYTES
        size = max(self._place.segment_bytes, needed)
        header = Header(self.newest_segment + 1, first_index, size, after, chain)
        spare = self.spare if size == self._place.segment_bytes else None
        segment, end = _create_segment(self._place, header, spare)
        if spare is not None:
            self.spare = None
        self._new_names = True
        self._full.append(self._file)
        self._segments.append(segment)
        self._continue(end)


def _create_segment(place: Place, header: Header, spare: OpenFile | None) -> tuple[Segment, End]:
    """The file of a new segment. Raises `OSError`; then there is none."""
    path = segment_path(place.directory, header.number)
    content, seed = pack_header(header, place.identity)
    if spare is not None:
        # The header before the name: what has the name of a segment is one.
        spare.write_at(0, content)
        place.files.rename(place.directory / SPARE_NAME, path)
        file = spare
    else:
        file = place.files.create(path)
        try:
            file.allocate(header.size_bytes)
            file.write_at(0, content)
        except OSError:
            file.close()
            place.files.unlink(path)
            raise
    end = End(
        file,
        header.size_bytes,
        offset=HEADER_BYTES,
        seed=seed,
        chain=seed,
        next_index=header.first_index,
        frames_end=Spot(header.number, HEADER_BYTES),
        vouched=Spot(0, 0),
    )
    return Segment(header.number, header.first_index, path), end
