"""What a demonstration needs of a geo-replicated datastore, whichever it is.

Moments are seconds of `time.monotonic()`: all "regions" are on this machine and share its clock.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from rendezvous_raft.monitor.ports import Probe

POSTS_MAX = 1_000_000
"""Posts of one run whose visibility is remembered."""


class GeoStoreError(Exception):
    """The demonstration's datastore cannot do this, or could not be started. The text says why."""


class GeoStore(Protocol):
    """Posts are written in one region and replicated, asynchronously, to the others."""

    @property
    def name(self) -> str:
        """Which datastore it is, for people."""
        ...

    @property
    def writer_region(self) -> str:
        """Where writes go."""
        ...

    @property
    def regions(self) -> tuple[str, ...]:
        """All regions; the writer's is the first."""
        ...

    async def start(self) -> None:
        """Returns once it can be written and read in every region.

        Raises:
            GeoStoreError: it could not be started; nothing is left running.
        """
        ...

    async def stop(self) -> None:
        """Stops everything that `start` started. Twice is harmless."""
        ...

    async def write(self, post_id: str, body: bytes, branch_id: str | None) -> None:
        """Writes a post, and the marker of its branch with it, in the writer's region.

        Returns when that region has acknowledged both. Repeating it is harmless. Without a branch
        nothing can be waited for.

        Raises:
            GeoStoreError: it is not known to be written.
        """
        ...

    async def read(self, region: str, post_id: str) -> bytes | None:
        """The post as a reader in the region sees it now; None when it is not there (yet).

        Raises:
            GeoStoreError: the region does not answer.
        """
        ...

    def visible_at(self, region: str, post_id: str) -> float | None:
        """When the post became visible in the region; None when it is not known to be.

        By an account that is independent of Rendezvous.
        """
        ...

    async def wait_visible(self, region: str, post_id: str) -> float:
        """Blocks until `visible_at` is known, and returns it. The caller sets the bound."""
        ...

    def make_probe(self, region: str) -> Probe:
        """A probe for the monitor of the region; the caller closes it."""
        ...


class GroundTruth:
    """When each post became visible in each region. Belongs to one event loop."""

    def __init__(self, regions: tuple[str, ...]) -> None:
        self._visible_at: dict[str, dict[str, float]] = {region: {} for region in regions}
        self._waiting: dict[tuple[str, str], asyncio.Future[float]] = {}

    def ensure_room(self) -> None:
        """Refuses a post too many, before it is written.

        Raises:
            GeoStoreError: the run is too long.
        """
        if any(len(known) >= POSTS_MAX for known in self._visible_at.values()):
            raise GeoStoreError(f"a run has at most {POSTS_MAX} posts")

    def tell(self, region: str, post_id: str, at: float) -> None:
        """A post is visible in a region; only the first time counts."""
        if post_id in self._of(region):
            return
        self._of(region)[post_id] = at
        waiting = self._waiting.pop((region, post_id), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(at)

    def visible_at(self, region: str, post_id: str) -> float | None:
        """When it became visible; None when it is not known to be."""
        return self._of(region).get(post_id)

    async def wait_visible(self, region: str, post_id: str) -> float:
        """Blocks until it is visible; several may wait for the same post."""
        known_at = self.visible_at(region, post_id)
        if known_at is not None:
            return known_at
        waiting = self._waiting.get((region, post_id))
        if waiting is None:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting[region, post_id] = waiting
        return await asyncio.shield(waiting)

    def _of(self, region: str) -> dict[str, float]:
        try:
            return self._visible_at[region]
        except KeyError:
            raise GeoStoreError(f"there is no region {region!r}") from None
