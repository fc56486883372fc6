"""One region of the embedded store: an SQLite file and the one thread that writes and reads it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rendezvous_raft.devcluster.geo_store import GeoStoreError

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS posts (
    post_id TEXT PRIMARY KEY, body BLOB NOT NULL, branch_id TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rendezvous_branches (
    branch_id TEXT PRIMARY KEY, written_at REAL NOT NULL
) WITHOUT ROWID;
"""
BUSY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class PostWrite:
    """One transaction: a post and the marker of its branch."""

    post_id: str
    body: bytes
    branch_id: str | None
    written_at: float
    """Wall clock of the writer, in seconds since the epoch; for people."""


class RegionFile:
    """The file of a region. Every query runs in the region's own thread, never in the loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Makes the file and its tables."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{self.path.stem}")
        await self._run(self._connect)

    async def close(self) -> None:
        """Closes the file and ends the thread. Twice is harmless."""
        if self._thread is None:
            return
        await self._run(self._disconnect)
        thread, self._thread = self._thread, None
        thread.shutdown(wait=True)

    async def apply(self, writes: Sequence[PostWrite]) -> list[float]:
        """Commits each write as a transaction of its own; returns the moments of the commits."""
        return await self._run(lambda: [self._commit(write) for write in writes])

    async def read(self, post_id: str) -> bytes | None:
        """The body of a post, or None."""
        return await self._run(lambda: self._select(post_id))

    async def _run(self, query: Callable[[], T]) -> T:
        if self._thread is None:
            raise GeoStoreError(f"{self.path.name} is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, query)
        except sqlite3.Error as error:
            raise GeoStoreError(f"{self.path.name}: {error}") from error

    def _connect(self) -> None:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        self._connection = connection
        # Readers of other connections are never blocked by a writer.
        connection.execute("PRAGMA journal_mode=WAL")
        # A crash of the machine may cost the last posts of a demonstration, nothing else.
        connection.execute("PRAGMA synchronous=OFF")
        connection.executescript(SCHEMA)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _commit(self, write: PostWrite) -> float:
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(
                "INSERT OR REPLACE INTO posts VALUES (?, ?, ?)",
                (write.post_id, write.body, write.branch_id),
            )
            if write.branch_id is not None:
                connection.execute(
                    "INSERT INTO rendezvous_branches VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (write.branch_id, write.written_at),
                )
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return time.monotonic()

    def _select(self, post_id: str) -> bytes | None:
        query = "SELECT body FROM posts WHERE post_id = ?"
        row = self._opened().execute(query, (post_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise GeoStoreError(f"{self.path.name} is not open")
        return self._connection
