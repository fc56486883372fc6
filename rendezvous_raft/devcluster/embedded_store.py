"""The geo-replicated datastore of the demonstration: one SQLite file per region, no server.

A write commits the post and the marker of its branch in one transaction in the writer's region. A
replicator per other region applies each transaction there after a lag drawn from a distribution,
in commit order or each on its own. The store itself records when each post became visible where.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from rendezvous_raft.devcluster.geo_store import GeoStoreError, GroundTruth
from rendezvous_raft.devcluster.region_file import PostWrite, RegionFile
from rendezvous_raft.devcluster.replication_lag import ReplicationLag, ReplicationOrder
from rendezvous_raft.monitor.ports import Probe
from rendezvous_raft.monitor.probes.embedded import EmbeddedProbe
from rendezvous_raft.monitor.wakeup import Wakeup

BACKLOG_MAX = 100_000
"""Transactions that one region may be behind."""
APPLY_MAX = 256
"""Transactions applied in one turn of a region's thread, so that reads get theirs."""


class EmbeddedStore:
    """A `GeoStore` in files below `directory`, which the caller makes and removes.

    Args:
        directory: an existing, empty directory.
        regions: names; the first is the writer's.
        lag: how long the other regions are behind.
        order: of the transactions in the other regions.
        seed: of the lags.

    Example:
        store = EmbeddedStore(directory, regions=("eu", "us"), lag=lag)
        await store.start()
        await store.write("p1", b"hello", "post-storage-1")
        await store.wait_visible("us", "p1")
    """

    def __init__(
        self,
        directory: Path,
        *,
        regions: Sequence[str],
        lag: ReplicationLag,
        order: ReplicationOrder = ReplicationOrder.COMMIT,
        seed: int = 0,
    ) -> None:
        if len(set(regions)) != len(regions) or not regions:
            raise ValueError("a store needs at least one region, each once")
        self._regions = tuple(regions)
        self._truth = GroundTruth(self._regions)
        # File names come from positions: a region's name may hold any character.
        self._files = {
            region: RegionFile(directory / f"region-{number}.sqlite")
            for number, region in enumerate(regions)
        }
        self._replicators = {
            region: _Replicator(
                self._files[region],
                lag=lag,
                order=order,
                random=Random(f"{seed}/{region}"),  # noqa: S311 - reproducible, nothing secret
                on_applied=self._telling(region),
            )
            for region in self._regions[1:]
        }
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        """`embedded`."""
        return "embedded"

    @property
    def writer_region(self) -> str:
        """The first region."""
        return self._regions[0]

    @property
    def regions(self) -> tuple[str, ...]:
        """All regions; the writer's is the first."""
        return self._regions

    async def start(self) -> None:
        """Makes the files and starts the replicators.

        Raises:
            GeoStoreError: a file cannot be made.
        """
        try:
            for file in self._files.values():
                await file.open()
        except GeoStoreError:
            await self.stop()
            raise
        self._tasks = [
            asyncio.create_task(replicator.run(), name=f"replicate to {region}")
            for region, replicator in self._replicators.items()
        ]

    async def stop(self) -> None:
        """Stops the replicators, whatever they still have to apply, and closes the files.

        Raises:
            GeoStoreError: a replicator had failed before; everything is stopped all the same.
        """
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for file in self._files.values():
            await file.close()
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise GeoStoreError(f"replication had stopped: {outcome}") from outcome

    async def write(self, post_id: str, body: bytes, branch_id: str | None) -> None:
        """Commits in the writer's region and leaves the rest to the replicators.

        Raises:
            GeoStoreError: too far behind, or the commit failed.
        """
        self._truth.ensure_room()
        for replicator in self._replicators.values():
            replicator.ensure_room()
        write = PostWrite(post_id, body, branch_id, time.time())
        (committed_at,) = await self._files[self.writer_region].apply((write,))
        self._truth.tell(self.writer_region, post_id, committed_at)
        for replicator in self._replicators.values():
            replicator.follow(write, committed_at)

    async def read(self, region: str, post_id: str) -> bytes | None:
        """The post as the region's file has it now."""
        return await self._file(region).read(post_id)

    def visible_at(self, region: str, post_id: str) -> float | None:
        """When the region had committed the post; None when it has not."""
        return self._truth.visible_at(region, post_id)

    async def wait_visible(self, region: str, post_id: str) -> float:
        """Blocks until the region has committed the post."""
        return await self._truth.wait_visible(region, post_id)

    def make_probe(self, region: str) -> Probe:
        """A probe of the region's file, with a connection of its own."""
        return EmbeddedProbe(self._file(region).path)

    def hold(self, region: str) -> None:
        """Stops the replication to a region, as a cut link would. Reads there go on."""
        self._replicator(region).hold()

    def release(self, region: str) -> None:
        """Resumes the replication; what is overdue is applied at once."""
        self._replicator(region).release()

    def _telling(self, region: str) -> Callable[[str, float], None]:
        return lambda post_id, at: self._truth.tell(region, post_id, at)

    def _file(self, region: str) -> RegionFile:
        if region not in self._files:
            raise GeoStoreError(f"there is no region {region!r}")
        return self._files[region]

    def _replicator(self, region: str) -> _Replicator:
        if region not in self._replicators:
            raise GeoStoreError(f"nothing is replicated to {region!r}")
        return self._replicators[region]


class _Replicator:
    """Applies the transactions of the writer's region in one other region, each when it is due."""

    def __init__(
        self,
        file: RegionFile,
        *,
        lag: ReplicationLag,
        order: ReplicationOrder,
        random: Random,
        on_applied: Callable[[str, float], None],
    ) -> None:
        self._file = file
        self._lag = lag
        self._order = order
        self._random = random
        self._on_applied = on_applied
        self._queue: list[tuple[float, int, PostWrite]] = []
        self._number = 0
        self._last_due_at = 0.0
        self._held = False
        self._wakeup = Wakeup()

    def ensure_room(self) -> None:
        """Refuses a transaction too many, before it is committed."""
        if len(self._queue) >= BACKLOG_MAX:
            raise GeoStoreError(f"{self._file.path.name} is {BACKLOG_MAX} transactions behind")

    def follow(self, write: PostWrite, committed_at: float) -> None:
        """Takes a transaction that the writer's region has committed."""
        due_at = committed_at + self._lag.draw_s(self._random)
        if self._order is ReplicationOrder.COMMIT:
            due_at = self._last_due_at = max(due_at, self._last_due_at)
        self._number += 1
        heapq.heappush(self._queue, (due_at, self._number, write))
        self._wakeup.ring()

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        self._held = False
        self._wakeup.ring()

    async def run(self) -> None:
        """Applies what is due, blocks while nothing is; ends only by cancellation."""
        loop = asyncio.get_running_loop()
        while True:
            due = self._take_due()
            if due:
                applied_at = await self._file.apply(due)
                for write, at in zip(due, applied_at, strict=True):
                    self._on_applied(write.post_id, at)
            elif self._queue and not self._held:
                # The loop's clock need not be the one that the lags count on.
                pause_s = self._queue[0][0] - time.monotonic()
                await self._wakeup.wait_until(loop.time() + max(0.0, pause_s))
            else:
                await self._wakeup.wait_until(None)

    def _take_due(self) -> list[PostWrite]:
        now = time.monotonic()
        due: list[PostWrite] = []
        while self._queue and not self._held and self._queue[0][0] <= now and len(due) < APPLY_MAX:
            due.append(heapq.heappop(self._queue)[2])
        return due
