"""Reading a log after the end of the process that wrote it, however that ended.

Theory of operation. Everything up to some spot was synced, and perhaps acknowledged; of what came
later, any part may be on disk. Frames are read in order until one does not verify:

- the segment is older than the newest one that the metadata names, or a mark behind says that the
  bytes had been synced: they were *damaged* since, and the log is refused;
- otherwise they were never acknowledged: a torn tail. It is cut, that is, overwritten with zeros,
  so that no piece of it can be taken for something written later.

A mark is written right after the sync that it tells of, but synced only with the next one. So one
case looks like a torn tail and is none: a power cut *and* damage to the bytes of the last sync
before it. It needs both at once.

What was read is then made durable before anybody may rely on it: the process before may have ended
without a sync, or with one that failed, after which the kernel may hold pages that it takes for
clean and that never reached the disk. What no mark vouches for is therefore written again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rendezvous_raft.replication.raft.files import DamagedError, OpenFile, StorageError
from rendezvous_raft.replication.raft.wal import End, Place, Segment, Wal
from rendezvous_raft.replication.raft.wal_format import (
    HEADER_BYTES,
    Frame,
    Header,
    Kind,
    Spot,
    frames,
    marks_from,
    segment_numbers,
    segment_path,
    unpack_header,
    written_end,
)

LogEntry = tuple[bytes, int, int]
"""Payload, index, term: PySyncObj's order."""


@dataclass(slots=True)
class Contents:
    """What a log says."""

    first_index: int
    """Of the first entry, or of the next if there is none."""
    next_index: int
    entries: list[LogEntry] = field(default_factory=list)
    cut: str | None = None
    """What was cut from its end, for people."""
    void: list[Path] = field(default_factory=list)
    """Segments before the log's first, to be removed once the metadata names its last."""

    def add(self, frame: Frame) -> bool:
        """Does what a frame says; false if it cannot come here."""
        if frame.kind == Kind.ENTRY:
            if frame.index != self.next_index:
                return False
            self.entries.append((frame.payload, frame.index, frame.term))
            self.next_index = frame.index + 1
        elif frame.kind == Kind.CUT:
            if frame.index > self.next_index:
                return False
            # Segments with older entries may be gone, so a cut may reach below the first one.
            self.first_index = min(self.first_index, frame.index)
            del self.entries[frame.index - self.first_index :]
            self.next_index = frame.index
        return True


@dataclass(slots=True)
class _Scanned:
    """A segment as it was read."""

    segment: Segment
    header: Header
    seed: int
    content: bytes
    end: int = HEADER_BYTES
    """Behind the last frame that verified."""
    chain: int = 0


def recover(place: Place, newest_segment: int, first_index: int) -> tuple[Wal, Contents]:
    """Opens the log of a directory, with what it says; everything of it is durable then.

    Blocks for the disk. A directory without a log gets one that begins at `first_index`.

    Args:
        place: where the log is.
        newest_segment: what the metadata names; it and all before it were synced.
        first_index: of the first entry ever.

    Raises:
        DamagedError: bytes that were synced are not there any more. No file was changed.
        StorageError: another version or another node wrote it.
    """
    return _Recovery(place, newest_segment).run(first_index)


class _Recovery:
    def __init__(self, place: Place, newest_segment: int) -> None:
        self._place = place
        self._newest = newest_segment
        self._numbers = segment_numbers(place.files.listdir(place.directory))
        self._contents = Contents(0, 0)
        self._vouched = Spot(newest_segment, 0)
        self._frames_end = Spot(0, 0)

    def run(self, first_index: int) -> tuple[Wal, Contents]:
        scanned = self._scan()
        if not scanned:
            self._remove_behind(0)
            contents = Contents(first_index, first_index)
            return Wal.begin(self._place, number=1, first_index=first_index), contents
        first, last = scanned[0], scanned[-1]
        self._judge_rest(last)
        self._contents.void = [self._path(n) for n in self._numbers if n < first.segment.number]
        self._remove_behind(last.segment.number)
        file = self._make_durable(scanned)
        end = End(
            file,
            last.header.size_bytes,
            offset=last.end,
            seed=last.seed,
            chain=last.chain,
            next_index=self._contents.next_index,
            frames_end=self._frames_end,
            vouched=self._vouched,
        )
        return Wal(self._place, [one.segment for one in scanned], end), self._contents

    def _scan(self) -> list[_Scanned]:
        """The segments of the log, oldest first, up to the first bytes that do not verify."""
        scanned: list[_Scanned] = []
        for number in self._live_numbers():
            synced = number <= self._newest
            try:
                one = self._read(number)
            except StorageError:
                if synced:
                    raise
                break
            if not one.header.after:
                scanned.clear()  # a new log; what was before it is void
            elif scanned and not self._continues(one, scanned[-1]):
                if synced:
                    raise _damage(scanned[-1])
                break
            if not scanned:
                self._contents = Contents(one.header.first_index, one.header.first_index)
                self._frames_end = Spot(number, HEADER_BYTES)
            self._replay(one)
            scanned.append(one)
            if number < self._vouched.segment:
                one.content = b""
        return scanned

    def _live_numbers(self) -> Iterator[int]:
        """From the segment with which the log begins; the last ones may be unsynced garbage."""
        if self._newest and self._newest not in self._numbers:
            path = self._path(self._newest)
            raise DamagedError(path, 0, "the file is missing")
        number = max(self._newest, 1)
        while number - 1 in self._numbers and self._read_header(number)[0].after:
            number -= 1
        while number in self._numbers:
            yield number
            number += 1

    def _continues(self, one: _Scanned, before: _Scanned) -> bool:
        found = (one.header.after, one.header.chain, one.header.first_index)
        return found == (before.end, before.chain, self._contents.next_index)

    def _replay(self, one: _Scanned) -> None:
        number = one.segment.number
        for frame in frames(one.content, one.seed):
            if frame.kind == Kind.MARK:
                self._vouched = max(self._vouched, Spot(frame.index, frame.term))
            elif self._contents.add(frame):
                self._frames_end = Spot(number, frame.end)
            else:
                problem = f"entry {frame.index} where {self._contents.next_index} is due"
                raise DamagedError(one.segment.path, one.end, problem)
            one.end, one.chain = frame.end, frame.crc

    def _judge_rest(self, last: _Scanned) -> None:
        """Whether what follows the last valid frame was ever synced: refuse it, or cut it."""
        here = Spot(last.segment.number, last.end)
        said = list(marks_from(last.content, last.end, last.seed))
        behind = [number for number in self._numbers if number > last.segment.number]
        for number in behind:
            try:
                one = self._read(number)
            except StorageError:
                continue  # it was never synced, or the metadata would name it
            said += marks_from(one.content, 0, one.seed)
        if any(spot > here for spot in said):
            raise _damage(last)
        torn = written_end(last.content) - last.end
        if torn > 0 or behind:
            self._contents.cut = (
                f"{last.segment.path}: cut at offset {last.end}: {max(torn, 0)} bytes and "
                f"{len(behind)} more segments had not been synced"
            )

    def _remove_behind(self, last: int) -> None:
        """Removes what comes after the log, for certain before its names are used again."""
        behind = [number for number in self._numbers if number > last]
        for number in behind:
            self._place.files.unlink(self._path(number))
        if behind:
            self._place.files.fsync_dir(self._place.directory)

    def _make_durable(self, scanned: list[_Scanned]) -> OpenFile:
        """Writes again what no mark vouches for, zeros behind the end; the last file, open."""
        for one in scanned:
            if one.segment.number < self._vouched.segment:
                continue
            file = self._place.files.open(one.segment.path)
            doubtful = one.segment.number == self._vouched.segment
            start = self._vouched.offset if doubtful else 0
            written = max(one.end, written_end(one.content))
            sound = one.content[start : one.end]
            file.write_at(start, sound + bytes(written - one.end))
            file.fdatasync()
            if one is not scanned[-1]:
                file.close()
        return file

    def _read(self, number: int) -> _Scanned:
        header, seed = self._read_header(number)
        path = self._path(number)
        file = self._place.files.open(path)
        try:
            size = file.size()
            if size != header.size_bytes:
                problem = f"the file has {size} bytes instead of {header.size_bytes}"
                raise DamagedError(path, min(size, header.size_bytes), problem)
            content = file.read_at(0, size)
        finally:
            file.close()
        segment = Segment(number, header.first_index, path)
        return _Scanned(segment, header, seed, content, chain=seed)

    def _read_header(self, number: int) -> tuple[Header, int]:
        path = self._path(number)
        file = self._place.files.open(path)
        try:
            header, seed = unpack_header(file.read_at(0, HEADER_BYTES), self._place.identity, path)
        finally:
            file.close()
        if header.number != number:
            raise DamagedError(path, 0, f"this is segment {header.number}")
        return header, seed

    def _path(self, number: int) -> Path:
        return segment_path(self._place.directory, number)


def _damage(one: _Scanned) -> DamagedError:
    problem = "what was synced here does not verify any more"
    return DamagedError(one.segment.path, one.end, problem)
