"""Where the files of a member are, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rendezvous_raft.replication.raft.files import FileLayer
from rendezvous_raft.replication.raft.metadata import Identity
from rendezvous_raft.replication.raft.wal_format import HEADER_BYTES

PROBE_NAME = "probe"
"""Made to see whether there is room, and removed at once; unless the process ends in between."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a log is, and whose."""

    files: FileLayer
    directory: Path
    identity: Identity
    segment_bytes: int

    def __post_init__(self) -> None:
        """Refuses segments that cannot hold anything."""
        if self.segment_bytes % HEADER_BYTES or self.segment_bytes < 4 * HEADER_BYTES:
            raise ValueError("segment_bytes must be a multiple of 4096, and 16384 at least")

    def try_room(self) -> None:
        """Makes a file as long as a segment, and removes it. Raises `OSError` without room."""
        path = self.directory / PROBE_NAME
        file = self.files.create(path)
        try:
            file.allocate(self.segment_bytes)
        finally:
            file.close()
            self.files.unlink(path)
