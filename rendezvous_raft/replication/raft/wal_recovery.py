"""Reading a log after the end of the process that wrote it, however that ended.

Theory of operation. Everything up to some spot was synced, and perhaps acknowledged; of what came
later, any part may be on disk. Frames are read in order until one does not verify:

- the segment is older than the newest one that the metadata names, or a mark behind says that the
  bytes had been synced: they were *damaged* since, and the log is refused;
- otherwise they were never acknowledged: a torn tail. It is cut, that is, overwritten with zeros,
  so that no piece of it can be taken for something written later.

A mark is written right after the sync that it tells of, but synced only with the next one; the same
is told in another file (`durable_end`), which no damage to the log can take as well. So one case
looks like a torn tail and is none: a power cut *and* damage to the bytes of the last sync before
it. It needs both at once.

What was read is then made durable before anybody may rely on it: the process before may have ended
without a sync, or with one that failed, after which the kernel may hold pages that it takes for
clean and that never reached the disk. What no mark vouches for is therefore written again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rendezvous_raft.replication.raft.durable_end import DurableEnd
from rendezvous_raft.replication.raft.files import DamagedError, OpenFile, StorageError
from rendezvous_raft.replication.raft.place import Place
from rendezvous_raft.replication.raft.wal import End, Segment, Wal
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
class Scanned:
    """A segment as it was read."""

    segment: Segment
    header: Header
    seed: int
    content: bytes
    """Empty once a mark vouches for all of it."""
    end: int = HEADER_BYTES
    """Behind the last frame that verified."""
    chain: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """A log as it was read, before anything of it is repaired."""

    scanned: list[Scanned]
    """The segments that belong to the log, oldest first; none: there is no log yet."""
    contents: Contents
    vouched: Spot
    """Up to here a mark, or the metadata, says that everything is on stable storage."""
    frames_end: Spot
    """Behind the last frame that is no mark."""
    behind: list[int]
    """Segments after the log's end: they were never synced."""


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
    reading = read_log(place, newest_segment)
    _remove(place, reading.behind)
    if not reading.scanned:
        contents = Contents(first_index, first_index)
        return Wal.begin(place, number=1, first_index=first_index), contents
    last = reading.scanned[-1]
    end = End(
        _make_durable(place, reading),
        last.header.size_bytes,
        offset=last.end,
        seed=last.seed,
        chain=last.chain,
        next_index=reading.contents.next_index,
        frames_end=reading.frames_end,
        vouched=reading.vouched,
    )
    return Wal(place, [one.segment for one in reading.scanned], end), reading.contents


def read_log(place: Place, newest_segment: int) -> Reading:
    """Reads the log of a directory and judges what follows its last valid frame.

    Changes nothing; what would be cut is only told (`Contents.cut`). Blocks for the disk.

    Args:
        place: where the log is.
        newest_segment: what the metadata names; it and all before it were synced.

    Raises:
        DamagedError: bytes that were synced are not there any more.
        StorageError: another version or another node wrote it.
    """
    return _Reader(place, newest_segment).run()


def read_segment(place: Place, number: int) -> Scanned:
    """Reads a segment's header and bytes; its frames are not looked at yet.

    Raises:
        DamagedError: the header, or the size of the file, is not what was written.
        StorageError: another version or another node wrote it.
    """
    header, seed = _read_header(place, number)
    path = segment_path(place.directory, number)
    file = place.files.open(path)
    try:
        size = file.size()
        if size != header.size_bytes:
            problem = f"the file has {size} bytes instead of {header.size_bytes}"
            raise DamagedError(path, min(size, header.size_bytes), problem)
        content = file.read_at(0, size)
    finally:
        file.close()
    segment = Segment(number, header.first_index, path)
    return Scanned(segment, header, seed, content, chain=seed)


def _read_header(place: Place, number: int) -> tuple[Header, int]:
    path = segment_path(place.directory, number)
    file = place.files.open(path)
    try:
        header, seed = unpack_header(file.read_at(0, HEADER_BYTES), place.identity, path)
    finally:
        file.close()
    if header.number != number:
        raise DamagedError(path, 0, f"this is segment {header.number}")
    return header, seed


def _remove(place: Place, behind: list[int]) -> None:
    """Removes what comes after the log, for certain before its names are used again."""
    for number in behind:
        place.files.unlink(segment_path(place.directory, number))
    if behind:
        place.files.fsync_dir(place.directory)


def _make_durable(place: Place, reading: Reading) -> OpenFile:
    """Writes again what no mark vouches for, zeros behind the end; the last file, open."""
    vouched = reading.vouched
    for one in reading.scanned:
        if one.segment.number < vouched.segment:
            continue
        file = place.files.open(one.segment.path)
        start = vouched.offset if one.segment.number == vouched.segment else 0
        written = max(one.end, written_end(one.content))
        sound = one.content[start : one.end]
        file.write_at(start, sound + bytes(written - one.end))
        file.fdatasync()
        if one is not reading.scanned[-1]:
            file.close()
    return file


class _Reader:
    def __init__(self, place: Place, newest_segment: int) -> None:
        self._place = place
        self._newest = newest_segment
        self._numbers = segment_numbers(place.files.listdir(place.directory))
        self._contents = Contents(0, 0)
        self._vouched = Spot(newest_segment, 0)
        self._frames_end = Spot(0, 0)

    def run(self) -> Reading:
        scanned = self._scan()
        last_number = scanned[-1].segment.number if scanned else 0
        end = DurableEnd(self._place).read()
        if end is not None and end.segment > last_number:
            raise DamagedError(self._path(end.segment), 0, "the file is missing or unreadable")
        if scanned:
            self._judge_rest(scanned[-1], end)
            first_number = scanned[0].segment.number
            self._contents.void = [self._path(n) for n in self._numbers if n < first_number]
        behind = [number for number in self._numbers if number > last_number]
        return Reading(scanned, self._contents, self._vouched, self._frames_end, behind)

    def _scan(self) -> list[Scanned]:
        """The segments of the log, oldest first, up to the first bytes that do not verify."""
        scanned: list[Scanned] = []
        for number in self._live_numbers():
            synced = number <= self._newest
            try:
                one = read_segment(self._place, number)
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
        while number - 1 in self._numbers and _read_header(self._place, number)[0].after:
            number -= 1
        while number in self._numbers:
            yield number
            number += 1

    def _continues(self, one: Scanned, before: Scanned) -> bool:
        found = (one.header.after, one.header.chain, one.header.first_index)
        return found == (before.end, before.chain, self._contents.next_index)

    def _replay(self, one: Scanned) -> None:
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

    def _judge_rest(self, last: Scanned, end: Spot | None) -> None:
        """Whether what follows the last valid frame was ever synced: refuse it, or cut it."""
        here = Spot(last.segment.number, last.end)
        said = list(marks_from(last.content, last.end, last.seed))
        if end is not None:
            said.append(end)
        behind = [number for number in self._numbers if number > last.segment.number]
        for number in behind:
            try:
                one = read_segment(self._place, number)
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

    def _path(self, number: int) -> Path:
        return segment_path(self._place.directory, number)


def _damage(one: Scanned) -> DamagedError:
    problem = "what was synced here does not verify any more"
    return DamagedError(one.segment.path, one.end, problem)
