"""What a member's log says, segment by segment and entry by entry, for people; changes no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from rendezvous_raft.core.commands import Command
from rendezvous_raft.replication.codec import CodecError, decode_entry
from rendezvous_raft.replication.raft.durable_end import DurableEnd
from rendezvous_raft.replication.raft.files import FileLayer, ReadOnlyFiles, StorageError
from rendezvous_raft.replication.raft.guard import NO_OP, REGULAR
from rendezvous_raft.replication.raft.memberships import (
    MEMBERSHIP,
    MembershipError,
    decode_membership,
)
from rendezvous_raft.replication.raft.metadata import Identity, Metadata, MetadataFile
from rendezvous_raft.replication.raft.opening import has_metadata, is_of_a_node
from rendezvous_raft.replication.raft.place import Place
from rendezvous_raft.replication.raft.storage import SEGMENT_BYTES
from rendezvous_raft.replication.raft.wal_format import (
    HEADER_BYTES,
    Kind,
    frames,
    identity_of_segment,
    segment_numbers,
    segment_path,
)
from rendezvous_raft.replication.raft.wal_recovery import read_log, read_segment


class NoDataDirectory(StorageError):
    """The directory does not hold the files of a node."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class TermSpan:
    """Entries of one term that follow each other."""

    term: int
    first_index: int
    last_index: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A frame that voids all entries from an index on, because the leader had others."""

    offset: int
    from_index: int


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """What is in one file of the log."""

    path: Path
    number: int
    size_bytes: int
    used_bytes: int
    """Up to the last frame that verifies."""
    begins_new_log: bool
    """It follows no segment: all before it are void."""
    entries: int
    first_index: int | None
    last_index: int | None
    terms: tuple[TermSpan, ...]
    cuts: tuple[Cut, ...]
    marks: int
    vouched: Position | None
    """What the last mark in it says is on stable storage."""
    problem: str | None
    """Why it could not be read."""


@dataclass(frozen=True, slots=True)
class CommandReport:
    """A command, for people."""

    kind: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class EntryReport:
    """An entry of the log, for people."""

    index: int
    term: int
    segment: int
    offset: int
    size_bytes: int
    kind: str
    """`commands`, `no-op`, `other`, or `damaged` if it cannot be decoded."""
    origin: str
    """Which life of which node made it, in hexadecimal; empty unless `commands`."""
    sequence: int | None
    commands: tuple[CommandReport, ...]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class LogReport:
    """What a log says."""

    directory: Path
    cluster_id: str
    node_name: str
    term: int | None
    """On disk; None if the metadata cannot be read."""
    voted_for: str | None
    segments: tuple[SegmentReport, ...]
    first_index: int | None
    last_index: int | None
    end: Position | None
    """Behind the last frame that counts."""
    durable: Position | None
    """Up to here a mark, or the metadata, says that everything is on stable storage."""
    cut: str | None
    """What a start would cut from the end because it had never been synced."""
    problem: str | None
    """Why a start would refuse the log."""
    entries: tuple[EntryReport, ...] = ()


def inspect_log(
    directory: Path, *, entries: range | None = None, files: FileLayer | None = None
) -> LogReport:
    """What a log says, as far as it can be read. Blocks for the disk.

    Args:
        directory: of a member.
        entries: indexes of the entries to decode; none by default.
        files: the file system.

    Raises:
        NoDataDirectory: there is nothing of a node.
        StorageError: nobody can tell whose files these are.
    """
    files = files or ReadOnlyFiles()
    names = names_in(directory, files)
    metadata, problem = None, None
    try:
        has_metadata(directory, names)
        metadata = MetadataFile(files, directory).read_of_any()
    except StorageError as error:
        problem = str(error)
    identity = metadata.identity if metadata else identity_in_log(directory, files)
    if identity is None:
        raise StorageError(problem)
    place = Place(files, directory, identity, SEGMENT_BYTES)
    numbers = segment_numbers(names)
    reading = None
    try:
        reading = read_log(place, newest_synced(place, metadata, numbers))
    except StorageError as error:
        problem = problem or str(error)
    log = reading if reading is not None and reading.scanned else None
    return LogReport(
        directory=directory,
        cluster_id=identity.cluster_id,
        node_name=identity.node_name,
        term=metadata.term if metadata else None,
        voted_for=metadata.voted_for if metadata else None,
        segments=tuple(_segment(place, number) for number in numbers),
        first_index=log.contents.first_index if log else None,
        last_index=log.contents.next_index - 1 if log else None,
        end=Position(*log.frames_end) if log else None,
        durable=Position(*log.vouched) if log else None,
        cut=log.contents.cut if log else None,
        problem=problem,
        entries=tuple(read_entries(place, numbers, entries)) if entries is not None else (),
    )


def _segment(place: Place, number: int) -> SegmentReport:
    path = segment_path(place.directory, number)
    spans: list[TermSpan] = []
    cuts: list[Cut] = []
    marks, vouched, count = 0, None, 0
    used, size, new_log, problem = 0, 0, False, None
    try:
        one = read_segment(place, number)
    except StorageError as error:
        problem = str(error)
    else:
        used, size, new_log = HEADER_BYTES, one.header.size_bytes, not one.header.after
        for frame in frames(one.content, one.seed):
            if frame.kind == Kind.MARK:
                marks, vouched = marks + 1, Position(frame.index, frame.term)
            elif frame.kind == Kind.CUT:
                cuts.append(Cut(used, frame.index))
            else:
                count += 1
                _add_to_spans(spans, frame.index, frame.term)
            used = frame.end
    return SegmentReport(
        path,
        number,
        size,
        used,
        new_log,
        entries=count,
        first_index=min((span.first_index for span in spans), default=None),
        last_index=max((span.last_index for span in spans), default=None),
        terms=tuple(spans),
        cuts=tuple(cuts),
        marks=marks,
        vouched=vouched,
        problem=problem,
    )


def _add_to_spans(spans: list[TermSpan], index: int, term: int) -> None:
    last = spans[-1] if spans else None
    if last is not None and (last.term, last.last_index) == (term, index - 1):
        spans[-1] = TermSpan(term, last.first_index, index)
    else:
        spans.append(TermSpan(term, index, index))


def read_entries(
    place: Place, numbers: list[int], wanted: range | None = None
) -> Iterator[EntryReport]:
    """The entries in these segments that are not void, decoded, as far as they can be read.

    Args:
        place: where the log is.
        numbers: of the segments.
        wanted: indexes; None for all.
    """
    found: dict[int, EntryReport] = {}
    for number in numbers:
        try:
            one = read_segment(place, number)
        except StorageError:
            continue  # its `SegmentReport` says why
        if not one.header.after:
            found.clear()
        start = HEADER_BYTES
        for frame in frames(one.content, one.seed):
            if frame.kind == Kind.CUT:
                found = {index: found[index] for index in found if index < frame.index}
            elif frame.kind == Kind.ENTRY and (wanted is None or frame.index in wanted):
                found[frame.index] = _entry(
                    frame.index, frame.term, frame.payload, segment=number, offset=start
                )
            start = frame.end
    yield from found.values()


def _entry(index: int, term: int, payload: bytes, *, segment: int, offset: int) -> EntryReport:
    kind, origin, sequence, problem = "other", "", None, None
    commands: tuple[CommandReport, ...] = ()
    if payload[:1] == NO_OP:
        kind = "no-op"
    elif payload[:1] == REGULAR:
        try:
            decoded = decode_entry(payload[1:])
        except CodecError as error:
            kind, problem = "damaged", str(error)
        else:
            kind, origin, sequence = "commands", decoded.origin.hex(), decoded.sequence
            commands = tuple(map(_command, decoded.commands))
    elif payload[:1] == MEMBERSHIP:
        try:
            members = decode_membership(payload[1:]).members
        except MembershipError as error:
            kind, problem = "damaged", str(error)
        else:
            kind, commands = "membership", (CommandReport("Membership", {"members": members}),)
    return EntryReport(
        index, term, segment, offset, len(payload), kind, origin, sequence, commands, problem
    )


def _command(command: Command) -> CommandReport:
    told = {field.name: getattr(command, field.name) for field in fields(command)}
    told["command_id"] = command.command_id.hex()
    return CommandReport(type(command).__name__, told)


def can_be_decoded(payload: bytes) -> bool:
    """Whether a node would not halt at this entry."""
    try:
        if payload[:1] == REGULAR:
            decode_entry(payload[1:])
        elif payload[:1] == MEMBERSHIP:
            decode_membership(payload[1:])
    except (CodecError, MembershipError):
        return False
    return True


def names_in(directory: Path, files: FileLayer) -> list[str]:
    """The names in the directory of a node. Raises `NoDataDirectory`."""
    try:
        names = files.listdir(directory)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoDataDirectory(f"{directory}: {error.strerror}") from error
    if not is_of_a_node(names):
        raise NoDataDirectory(f"{directory}: holds no files of a node")
    return names


def newest_synced(place: Place, metadata: Metadata | None, numbers: list[int]) -> int:
    """The newest segment that is known to have been synced, also where the metadata is broken."""
    if metadata is not None:
        return metadata.newest_segment
    end = DurableEnd(place).read()
    if end is not None and end.segment in numbers:
        return end.segment
    return numbers[0] if numbers else 0


def identity_in_log(directory: Path, files: FileLayer) -> Identity | None:
    """Whose the log is, where the metadata does not tell."""
    for number in segment_numbers(files.listdir(directory)):
        path = segment_path(directory, number)
        file = files.open(path)
        try:
            return identity_of_segment(file.read_at(0, HEADER_BYTES), path)
        except StorageError:
            continue
        finally:
            file.close()
    return None
