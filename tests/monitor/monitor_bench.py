"""A monitor between a fake service and a fake datastore, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

from monitor_fakes import CountingObserver, FakeProbe, FakeService

from rendezvous_raft.monitor.monitor import Monitor
from rendezvous_raft.monitor.ports import Selection
from rendezvous_raft.testing.virtual_time import now_s, run_virtual
from rendezvous_raft.types import BranchId, Region, Service

SELECTION = Selection(Service("post-storage"), Region("eu"))
WALL_AHEAD_S = 1_700_000_000.0


class Bench:
    def __init__(self, *, batch_max: int = 100, group: str = "", rate: float = 50_000.0) -> None:
        self.service = FakeService()
        self.probe = FakeProbe(batch_max)
        self.observer = CountingObserver()
        self.skew_s = 0.0
        self.monitor = Monitor(
            selection=Selection(Service("post-storage"), Region("eu"), group=group),
            metadata=self.service,
            probe=self.probe,
            observer=self.observer,
            random=Random(5),
            wall_s=self.wall_s,
            max_probes_per_second=rate,
        )

    def wall_s(self) -> float:
        """The monitor's wall clock."""
        return WALL_AHEAD_S + now_s() + self.skew_s

    def register(self, name: str, *, ago_s: float = 0.0) -> BranchId:
        return self.service.register(name, at_s=WALL_AHEAD_S + now_s() - ago_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Bench]:
        task = asyncio.create_task(self.monitor.run())
        try:
            await self.monitor.wait_synced()
            yield self
        finally:
            self.monitor.stop()
            await task
            assert self.probe.closed == 1


def scenario(story: Callable[[Bench], Awaitable[None]], bench: Bench | None = None) -> None:
    async def run() -> None:
        async with (bench or Bench()).running() as running:
            await story(running)

    run_virtual(run())
