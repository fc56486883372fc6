"""Up to where the log is on stable storage, told a second time, in a file of its own.

A mark (`wal_format`) stands right behind what it vouches for. Damage that takes the end of a log
and every mark there, such as a range of zeros, leaves a shorter log that looks whole. This file
stands elsewhere: a log that does not reach it is refused.

It is overwritten in place after each sync of the log, and synced itself only in an orderly end: it
never says more than is durable, and after a power cut it may say less. A file that is missing or
does not verify says nothing, and is written again.
"""

from __future__ import annotations

from typing import Any

from rendezvous_raft.replication.raft.blocks import BLOCK_BYTES_MAX, pack_block, unpack_block
from rendezvous_raft.replication.raft.files import OpenFile, StorageError, is_full
from rendezvous_raft.replication.raft.metadata import check_identity, identity_in
from rendezvous_raft.replication.raft.place import Place
from rendezvous_raft.replication.raft.wal_format import Spot

FILE_NAME = "end"
_MAGIC = b"RVZEND\0\0"
_SECTOR_BYTES = 512
"""Written wholly or not at all; the fields fit, unless a node has a very long name."""


class DurableEnd:
    """The file in a directory. Waits for no disk, but to make the file."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._path = place.directory / FILE_NAME
        self._file: OpenFile | None = None

    def read(self) -> Spot | None:
        """What it says. None if it says nothing; raises `OSError` if it cannot be read."""
        try:
            file = self._place.files.open(self._path)
        except FileNotFoundError:
            return None
        try:
            fields, _ = unpack_block(_MAGIC, file.read_at(0, BLOCK_BYTES_MAX), self._path)
            check_identity(identity_in(fields), self._place.identity, self._path)
        except StorageError:
            return None
        finally:
            file.close()
        read: Any = fields
        return Spot(read["segment"], read["offset"])

    def write(self, synced: Spot) -> None:
        """Writes what is on stable storage now. Does nothing if there is no room."""
        identity = self._place.identity
        block = pack_block(
            _MAGIC,
            {
                "cluster": identity.cluster_id,
                "node": identity.node_name,
                "segment": synced.segment,
                "offset": synced.offset,
            },
        )
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write_at(0, block.ljust(_SECTOR_BYTES, b"\0"))
        except OSError as error:
            if not is_full(error):
                raise
            # There may be room for it after the next sync.

    def sync(self) -> None:
        """Makes it durable too. Blocks for the disk."""
        if self._file is not None:
            self._file.fdatasync()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> OpenFile:
        try:
            return self._place.files.open(self._path)
        except FileNotFoundError:
            return self._place.files.create(self._path)
