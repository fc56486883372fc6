"""Opening a member's directory: which of its files count, and what they say together.

The metadata file is the first that is ever written: files without it are not a new node but a
damaged one, whose vote is lost. The newest snapshot and the log belong together like this (Raft,
figure 13, rules 6 and 7): a log that holds the snapshot's last entry goes on after it; any other
was void before the crash, or the snapshot would not be there, and a new log begins behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rendezvous_raft.replication.raft.files import (
    Closing,
    DamagedError,
    FileLayer,
    StorageError,
    disk_full_as_refusal,
    is_full,
)
from rendezvous_raft.replication.raft.metadata import (
    FILE_NAME,
    UNNAMED,
    Birth,
    Identity,
    Metadata,
    MetadataFile,
)
from rendezvous_raft.replication.raft.place import PROBE_NAME, Place
from rendezvous_raft.replication.raft.snapshots import SUFFIX, SnapshotFile, SnapshotStore
from rendezvous_raft.replication.raft.wal import Wal
from rendezvous_raft.replication.raft.wal_format import segment_numbers
from rendezvous_raft.replication.raft.wal_recovery import Contents, LogEntry, recover

LOCK_NAME = "lock"
BASE = (1, 0)
"""Index and term before the first entry of a new member, as PySyncObj counts."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a member knew when its process ended."""

    term: int
    voted_for: str | None
    base_index: int
    base_term: int
    entries: list[LogEntry]
    """Every entry after the base, without a gap."""
    snapshot: SnapshotFile | None
    """The state at the base; None: the empty state."""
    birth: Birth = UNNAMED
    """How the directory came to be."""
    cut: str | None = None
    """What was cut from the log's end because it had never been synced; for people."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The parts of a `DurableLog`."""

    place: Place
    lock: Closing
    wal: Wal
    metadata_file: MetadataFile
    metadata: Metadata
    snapshots: SnapshotStore
    full: str | None
    """Why no entries can be taken: there is no room."""


def open_directory(
    directory: Path, identity: Identity, files: FileLayer, segment_bytes: int, birth: Birth
) -> tuple[Opened, Recovered]:
    """Opens a member's files, or makes them. See `DurableLog.open`."""
    place = Place(files, directory, identity, segment_bytes)
    files.mkdir(directory)
    files.fsync_dir(directory.parent)
    try:
        lock = files.lock(directory / LOCK_NAME)
    except BlockingIOError as error:
        raise StorageError(f"{directory}: is in use by another process") from error
    try:
        with disk_full_as_refusal(str(directory)):
            return _open_locked(place, lock, birth)
    except BaseException:
        lock.close()
        raise


def _open_locked(place: Place, lock: Closing, birth: Birth) -> tuple[Opened, Recovered]:
    # Names that are seen may not be durable yet; nothing must be built on them before they are.
    place.files.fsync_dir(place.directory)
    place.files.unlink(place.directory / PROBE_NAME)  # it may hold the room that a start needs
    metadata_file = MetadataFile(place.files, place.directory)
    metadata = _read_or_begin(metadata_file, place, birth)
    snapshots = SnapshotStore(place.files, place.directory, place.identity.cluster_id)
    snapshots.recover()
    newest = snapshots.newest
    base_index, base_term = BASE if newest is None else (newest.index, newest.term)
    wal, contents = recover(place, metadata.newest_segment, base_index + 1)
    try:
        entries = entries_after(place.directory, contents, base_index, base_term)
        void = contents.void
        if entries is None:
            void += wal.restart(base_index + 1)
        _sync(place, wal)
        full = _keep_reserve(metadata_file)
        # An entry may have reached the disk without the term, though never the other way for a
        # vote: no vote of that term can have left this node.
        term = max([metadata.term, base_term, *(term for _, _, term in (entries or ())[-1:])])
        voted_for = metadata.voted_for if term == metadata.term else None
        newest_segment = wal.newest_segment
        metadata = replace(metadata, term=term, voted_for=voted_for, newest_segment=newest_segment)
        metadata_file.write(metadata)
        for path in void:
            place.files.unlink(path)
        snapshots.clean()
    except BaseException:
        wal.close()
        raise
    opened = Opened(place, lock, wal, metadata_file, metadata, snapshots, full)
    recovered = Recovered(
        term=term,
        voted_for=voted_for,
        base_index=base_index,
        base_term=base_term,
        entries=entries or [],
        snapshot=newest,
        birth=metadata.birth,
        cut=contents.cut,
    )
    return opened, recovered


def _read_or_begin(metadata_file: MetadataFile, place: Place, birth: Birth) -> Metadata:
    if has_metadata(place.directory, place.files.listdir(place.directory)):
        return metadata_file.read(place.identity)
    metadata = Metadata(place.identity, birth=birth)
    metadata_file.write(metadata)
    return metadata


def has_metadata(directory: Path, names: Sequence[str]) -> bool:
    """Whether the metadata is there. Raises `DamagedError` if files without it are."""
    if FILE_NAME in names:
        return True
    if is_of_a_node(names):
        raise DamagedError(directory / FILE_NAME, 0, "the file is missing")
    return False


def is_of_a_node(names: Sequence[str]) -> bool:
    """Whether a directory with these names has been used by a member."""
    return (
        FILE_NAME in names
        or bool(segment_numbers(names))
        or any(name.endswith(SUFFIX) for name in names)
    )


def entries_after(
    directory: Path, contents: Contents, base_index: int, base_term: int
) -> list[LogEntry] | None:
    """The entries of a log after the base; None if the log is void.

    Raises:
        DamagedError: entries between the two are missing.
    """
    if contents.first_index > base_index + 1:
        problem = f"entries {base_index + 1} to {contents.first_index - 1} are missing"
        raise DamagedError(directory, 0, problem)
    if contents.next_index <= base_index:
        return None
    skipped = base_index + 1 - contents.first_index
    if skipped and contents.entries[skipped - 1][2] != base_term:
        return None
    return contents.entries[skipped:]


def _sync(place: Place, wal: Wal) -> None:
    unsynced = wal.take_unsynced()
    for file in unsynced.files:
        file.fdatasync()
    for file in unsynced.files[:-1]:
        file.close()
    if unsynced.new_names:
        place.files.fsync_dir(place.directory)
    wal.mark(unsynced.spot)


def _keep_reserve(metadata_file: MetadataFile) -> str | None:
    try:
        metadata_file.keep_reserve()
    except OSError as error:
        if not is_full(error):
            raise
        return f"no room for the reserve: {error}"
    return None
