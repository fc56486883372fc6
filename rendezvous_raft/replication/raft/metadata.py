"""Who this node is, its term and its vote: one small file that is replaced whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rendezvous_raft.replication.raft.blocks import BLOCK_BYTES_MAX, pack_block, unpack_block
from rendezvous_raft.replication.raft.files import DamagedError, FileLayer, StorageError, is_full

FILE_NAME = "metadata"
RESERVE_NAME = "reserve"
RESERVE_BYTES = 1024 * 1024
"""Room that is given up so that a term can be stored when the disk is full."""
_MAGIC = b"RVZMETA\0"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose files these are."""

    cluster_id: str
    node_name: str


@dataclass(frozen=True, slots=True)
class Birth:
    """How a directory came to be."""

    incarnation: int = 0
    """A number that no other directory has; 0: it has none, in tests."""
    founding: bool = True
    """Whether it belongs to a voter that the configuration names. One that joins or rejoins may
    have forgotten what an earlier directory promised, and must not vote before it is admitted."""


UNNAMED = Birth()
"""Of a directory of whose birth nothing is known."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What Raft must remember beside the log."""

    identity: Identity
    term: int = 0
    voted_for: str | None = None
    newest_segment: int = 0
    """A segment of the log that is on disk for certain; 0: none yet. Without it a log whose last
    files are missing would look like a shorter log."""
    birth: Birth = UNNAMED


class MetadataFile:
    """The file in a directory. Its methods block; one thread at a time."""

    def __init__(self, files: FileLayer, directory: Path) -> None:
        self._files = files
        self._directory = directory
        self._path = directory / FILE_NAME
        self._reserve = directory / RESERVE_NAME
        self.has_reserve = False

    def read(self, identity: Identity) -> Metadata:
        """What was stored last.

        Raises:
            StorageError: it is damaged, of another version, or of another node.
        """
        metadata = self.read_of_any()
        check_identity(metadata.identity, identity, self._path)
        return metadata

    def read_of_any(self) -> Metadata:
        """The same, whosever it is. Raises `StorageError`."""
        file = self._files.open(self._path)
        try:
            content = file.read_at(0, BLOCK_BYTES_MAX + 1)
        finally:
            file.close()
        fields, end = unpack_block(_MAGIC, content, self._path)
        if end != len(content):
            raise DamagedError(self._path, end, "there is more than was written")
        read: Any = fields
        return Metadata(
            identity=identity_in(fields),
            birth=Birth(read["incarnation"], read["founding"]),
            term=read["term"],
            voted_for=read["voted_for"],
            newest_segment=read["newest_segment"],
        )

    def write(self, metadata: Metadata) -> None:
        """Replaces the file; durable when this returns. A full disk costs the reserve, once."""
        block = pack_block(
            _MAGIC,
            {
                "cluster": metadata.identity.cluster_id,
                "node": metadata.identity.node_name,
                "incarnation": metadata.birth.incarnation,
                "founding": metadata.birth.founding,
                "term": metadata.term,
                "voted_for": metadata.voted_for,
                "newest_segment": metadata.newest_segment,
            },
        )
        try:
            self._replace(block)
        except OSError as error:
            if not is_full(error) or not self.has_reserve:
                raise
            self.has_reserve = False
            self._files.unlink(self._reserve)
            self._replace(block)

    def _replace(self, block: bytes) -> None:
        temporary = self._path.with_suffix(".tmp")
        file = self._files.create(temporary)
        try:
            file.write_at(0, block)
            file.fdatasync()
        finally:
            file.close()
        self._files.rename(temporary, self._path)
        self._files.fsync_dir(self._directory)

    def keep_reserve(self) -> None:
        """Takes the reserve if it is not there. Raises `OSError` if there is no room for it."""
        if self.has_reserve:
            return
        try:
            file = self._files.open(self._reserve)
        except FileNotFoundError:
            file = self._files.create(self._reserve)
        try:
            file.allocate(RESERVE_BYTES)
        except OSError:
            self._files.unlink(self._reserve)
            raise
        finally:
            file.close()
        self.has_reserve = True


def identity_in(fields: Mapping[str, Any]) -> Identity:
    """Whose the file is that begins with these fields."""
    return Identity(fields["cluster"], fields["node"])


def check_identity(found: Identity, identity: Identity, path: Path) -> None:
    """Raises `StorageError` if a file belongs to another cluster or node."""
    if found != identity:
        raise StorageError(
            f"{path}: belongs to node {found.node_name!r} of cluster {found.cluster_id!r}, "
            f"this is node {identity.node_name!r} of cluster {identity.cluster_id!r}"
        )
