"""The file of the next segment, made in advance, so that a full segment stops nobody."""

from __future__ import annotations

import asyncio

from rendezvous_raft.replication.raft.files import OpenFile, is_full
from rendezvous_raft.replication.raft.place import Place
from rendezvous_raft.replication.raft.sync_worker import SyncWorker
from rendezvous_raft.replication.raft.wal import SPARE_NAME, Wal

SLICE_BYTES = 1024 * 1024
"""What the worker writes before it looks after the log again."""


class SpareSegment:
    """Sees to it that a log has a spare segment."""

    def __init__(self, place: Place, wal: Wal, worker: SyncWorker) -> None:
        self._place = place
        self._wal = wal
        self._worker = worker
        self._task: asyncio.Task[None] | None = None
        self._wanted_behind = 0

    def prepare(self) -> None:
        """Begins to make one if there is none; tries once behind each segment."""
        newest = self._wal.newest_segment
        making = self._task is not None and not self._task.done()
        if self._wal.spare is None and not making and self._wanted_behind != newest:
            self._wanted_behind = newest
            self._task = self._worker.watch(self._make())

    def retry(self) -> None:
        """There may be room now where there was none."""
        self._wanted_behind = 0
        self.prepare()

    async def close(self) -> None:
        """Gives up one that is not finished."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _make(self) -> None:
        """Writes zeros: a sync of blocks that are only reserved takes twice as long."""
        files, size = self._place.files, self._place.segment_bytes
        path = self._place.directory / SPARE_NAME
        try:
            file = await self._worker.run(files.create, path)
            try:
                await self._worker.run(file.allocate, size)
                for offset in range(0, size, SLICE_BYTES):
                    zeros = min(SLICE_BYTES, size - offset)
                    await self._worker.run(_write_zeros, file, offset, zeros)
            except BaseException:
                await self._worker.run(file.close)
                await self._worker.run(files.unlink, path)
                raise
        except OSError as error:
            if not is_full(error):
                raise
            # The segment itself will be refused if there is no room for it then.
        else:
            self._wal.spare = file


def _write_zeros(file: OpenFile, offset: int, size: int) -> None:
    file.write_at(offset, bytes(size))
    file.fdatasync()
