"""Whether all files of a member verify, told while nobody uses them, and without changing one.

The passes are those of a start (`wal_recovery.read_log`, `snapshots`, `opening.entries_after`), up
to where it would begin to repair: so the verdict is that of the node itself, told without a node.
`ReadOnlyFiles` opens descriptors that cannot write.

A copy that was made while the node wrote may show damage that the original does not have: its files
were not copied at one moment. A snapshot of the file system, or a stopped node, tells the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rendezvous_raft.core import snapshot as core_snapshot
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.snapshot import SnapshotError
from rendezvous_raft.replication.raft.files import (
    DamagedError,
    FileLayer,
    ReadOnlyFiles,
    StorageError,
)
from rendezvous_raft.replication.raft.inspection import (
    can_be_decoded,
    identity_in_log,
    names_in,
    newest_synced,
    read_entries,
)
from rendezvous_raft.replication.raft.memberships import MembershipError, membership_of
from rendezvous_raft.replication.raft.metadata import FILE_NAME, Identity, Metadata, MetadataFile
from rendezvous_raft.replication.raft.opening import BASE, LOCK_NAME, entries_after, has_metadata
from rendezvous_raft.replication.raft.place import Place
from rendezvous_raft.replication.raft.snapshots import (
    SnapshotDamaged,
    SnapshotFile,
    check_commands,
    check_header,
    find_snapshots,
    read_chunks,
    read_header,
    rows_of,
)
from rendezvous_raft.replication.raft.storage import SEGMENT_BYTES
from rendezvous_raft.replication.raft.wal_format import segment_numbers, segment_path
from rendezvous_raft.replication.raft.wal_recovery import Reading, read_log

REJOIN = (
    "let the node begin anew from its peers, `rendezvous server rejoin` (it keeps the old files); "
    "a node without peers needs its backup"
)
OTHER_VERSION = "use the version of Rendezvous that wrote it"
STARTS_ANYWAY = "the node starts without it, and removes it after its next snapshot"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a file that is not as it was written."""

    path: Path
    offset: int | None
    """Where in the file; None if it is about the whole of it."""
    problem: str
    next_step: str
    refused: bool = True
    """Whether a node refuses to start with it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a whole directory is found to be."""

    directory: Path
    cluster_id: str | None
    node_name: str | None
    term: int | None
    voted_for: str | None
    segments: int
    """Files of the log, those included that a start would remove."""
    first_index: int | None
    """Of the entries after the newest snapshot; None without a log that can be read."""
    last_index: int | None
    snapshots: int
    snapshot_index: int | None
    """Of the newest; None without one."""
    revision: int | None
    """Of the newest snapshot's state."""
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    """What a start would tidy up; nothing to worry about."""

    @property
    def is_sound(self) -> bool:
        """Whether everything verifies."""
        return not self.problems


def is_in_use(directory: Path, files: FileLayer | None = None) -> bool:
    """Whether a running node has these files. It holds the lock for a moment, if none has."""
    try:
        (files or ReadOnlyFiles()).lock(directory / LOCK_NAME).close()
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def verify_directory(directory: Path, files: FileLayer | None = None) -> Verdict:
    """Reads everything in a member's directory, as a start would. Blocks for the disk.

    Raises:
        NoDataDirectory: there is nothing of a node.
    """
    return _Verification(directory, files or ReadOnlyFiles()).run()


class _Verification:
    def __init__(self, directory: Path, files: FileLayer) -> None:
        self._directory = directory
        self._files = files
        self._names = names_in(directory, files)
        self._problems: list[Problem] = []
        self._notes: list[str] = []

    def run(self) -> Verdict:
        metadata = self._metadata()
        identity = metadata.identity if metadata else identity_in_log(self._directory, self._files)
        base, revision, snapshots = self._snapshots(identity)
        reading = entries = None
        if identity is not None:
            place = Place(self._files, self._directory, identity, SEGMENT_BYTES)
            newest = newest_synced(place, metadata, segment_numbers(self._names))
            reading = self._log(place, newest)
            if reading is not None and reading.scanned:
                entries = self._connect(place, reading, base or BASE)
        return Verdict(
            directory=self._directory,
            cluster_id=identity.cluster_id if identity else None,
            node_name=identity.node_name if identity else None,
            term=metadata.term if metadata else None,
            voted_for=metadata.voted_for if metadata else None,
            segments=len(segment_numbers(self._names)),
            first_index=entries[0] if entries else None,
            last_index=entries[1] if entries else None,
            snapshots=snapshots,
            snapshot_index=base[0] if base else None,
            revision=revision,
            problems=tuple(self._problems),
            notes=tuple(self._notes),
        )

    def _refused(self, error: StorageError, path: Path, next_step: str | None = None) -> None:
        self._problems.append(
            Problem(
                error.path if isinstance(error, DamagedError) else path,
                error.offset if isinstance(error, DamagedError) else None,
                str(error),
                next_step or next_step_for(error),
                refused=next_step is None,
            )
        )

    def _metadata(self) -> Metadata | None:
        path = self._directory / FILE_NAME
        try:
            has_metadata(self._directory, self._names)
            return MetadataFile(self._files, self._directory).read_of_any()
        except StorageError as error:
            self._refused(error, path)
        return None

    def _snapshots(
        self, identity: Identity | None
    ) -> tuple[tuple[int, int] | None, int | None, int]:
        """Index and term of the newest, the revision in it, and how many there are."""
        found = sorted(
            find_snapshots(self._files, self._directory), key=lambda snapshot: snapshot.index
        )
        newest, revision = (found[-1] if found else None), None
        for one in found:
            next_step = None if one is newest else STARTS_ANYWAY
            try:
                revision = self._load(one, identity).revision
            except StorageError as error:
                self._refused(error, one.path, next_step)
            except (SnapshotError, MembershipError) as error:
                self._refused(SnapshotDamaged(one.path, 0, str(error)), one.path, next_step)
        if newest is None:
            return None, None, 0
        return (newest.index, newest.term), revision, len(found)

    def _load(self, one: SnapshotFile, identity: Identity | None) -> StateMachine:
        file = self._files.open(one.path)
        try:
            header = read_header(file, one.path)
            check_header(header, one, identity.cluster_id if identity else header.cluster_id)
            chunks = read_chunks(file, header, one.path)
            rows = (row for chunk in chunks for row in rows_of(chunk, one.path))
            membership_of(next(rows, None))
            machine = core_snapshot.load(rows)
            check_commands(machine.state.version, one.path)
            return machine
        finally:
            file.close()

    def _log(self, place: Place, newest_segment: int) -> Reading | None:
        try:
            reading = read_log(place, newest_segment)
        except StorageError as error:
            self._refused(error, place.directory)
            return None
        if reading.contents.cut is not None:
            self._notes.append(reading.contents.cut)
        return reading

    def _connect(self, place: Place, reading: Reading, base: tuple[int, int]) -> tuple[int, int]:
        """First and last index that a start would have; what is wrong with the entries between."""
        contents = reading.contents
        try:
            entries = entries_after(place.directory, contents, *base)
        except StorageError as error:
            self._refused(error, place.directory)
            return contents.first_index, contents.next_index - 1
        if entries is None:
            self._notes.append(
                f"the log, which ends at entry {contents.next_index - 1}, is void: the snapshot at "
                f"entry {base[0]} has taken its place"
            )
            return base[0] + 1, base[0]
        if not all(can_be_decoded(payload) for payload, _, _ in entries):
            for entry in read_entries(place, [one.segment.number for one in reading.scanned]):
                if entry.problem is not None and entry.index > base[0]:
                    path = segment_path(place.directory, entry.segment)
                    problem = f"{path}: entry {entry.index}: {entry.problem}"
                    self._problems.append(Problem(path, entry.offset, problem, OTHER_VERSION))
        return base[0] + 1, contents.next_index - 1


def next_step_for(error: StorageError) -> str:
    """What to do about a file that cannot be used."""
    return REJOIN if isinstance(error, DamagedError) else OTHER_VERSION
