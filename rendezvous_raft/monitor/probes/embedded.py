"""Probe of the embedded store of the demonstrations: one SQLite file per region.

The side table `rendezvous_branches` is written in the transaction of the data (V9). The probe has a
read-only connection of its own, outside any transaction, so that it sees every commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rendezvous_raft.monitor.ports import PendingBranch, ProbeError, ProbeResult
from rendezvous_raft.monitor.probes.intersection import EndpointAnswer, intersect
from rendezvous_raft.types import BranchId

BATCH_MAX = 500
BUSY_TIMEOUT_S = 1.0
_SELECT = "SELECT branch_id FROM rendezvous_branches WHERE branch_id IN"


class EmbeddedProbe:
    """Looks for branches in the file of one region. Queries run in one worker thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    @property
    def datastore(self) -> str:
        """`embedded`."""
        return "embedded"

    @property
    def batch_max(self) -> int:
        """Ids of one SELECT."""
        return BATCH_MAX

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Name of the file."""
        return (self._path.name,)

    async def check(self) -> tuple[str, ...]:
        """Makes sure that the side table is there.

        Raises:
            ProbeError: the file or the table is missing (so far).
        """
        try:
            await self._run(())
        except sqlite3.Error as error:
            raise ProbeError(f"{self._path.name}: {error!r}") from error
        return ()

    async def find_many(self, pending: Sequence[PendingBranch]) -> ProbeResult:
        """One SELECT."""
        begun = time.monotonic()
        try:
            found = await self._run(tuple(branch.branch_id for branch in pending))
        except sqlite3.Error as error:
            fault = ProbeError(f"{self._path.name}: {error!r}")
            answer = EndpointAnswer(self._path.name, time.monotonic() - begun, error=fault)
        else:
            answer = EndpointAnswer(self._path.name, time.monotonic() - begun, found)
        return intersect(pending, (answer,))

    async def close(self) -> None:
        """Closes the file and ends the thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(thread, self._disconnect)
        thread.shutdown(wait=True)

    async def _run(self, branch_ids: tuple[BranchId, ...]) -> frozenset[BranchId]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedded-probe")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._select, branch_ids)

    def _select(self, branch_ids: tuple[BranchId, ...]) -> frozenset[BranchId]:
        if self._connection is None:
            # mode=ro also keeps a missing file from being created empty.
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
            )
        marks = ",".join("?" * len(branch_ids))
        query = f"{_SELECT} ({marks})"
        try:
            return frozenset(
                BranchId(row[0]) for row in self._connection.execute(query, branch_ids)
            )
        except sqlite3.Error:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
