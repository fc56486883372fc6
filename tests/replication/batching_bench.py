"""An engine's side of group commit, as told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from rendezvous_raft import errors
from rendezvous_raft.core.results import Applied, Nothing
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.replication.batching import Batch, GroupCommit
from rendezvous_raft.testing.fake_clock import LoopClock
from rendezvous_raft.testing.virtual_time import now_s, settle
from rendezvous_raft.types import Revision

Proposing = asyncio.Task[Applied]


class Bench:
    """An engine that takes batches or not, as told, and remembers what it took."""

    def __init__(self, **limits: int) -> None:
        self.taking = True
        self.room: int | None = None
        """Batches that it takes still; None: any number."""
        self.taken: list[list[bytes]] = []
        self.batches: list[Batch] = []
        self.commits = GroupCommit(self._take, limits=NodeLimits(**limits), clock=LoopClock())
        self._revision = 0

    def _take(self, batch: Batch) -> bool:
        if self.room is not None:
            if not self.room:
                return False
            self.room -= 1
        if self.taking:
            self.taken.append([proposal.encoded for proposal in batch.proposals])
            self.batches.append(batch)
        return self.taking

    def propose(self, encoded: bytes = b"x", seconds: float = 10.0) -> Proposing:
        call = self.commits.propose(encoded, now_s() + seconds)
        return asyncio.get_running_loop().create_task(call)

    async def on_its_way(self, encoded: bytes = b"x", seconds: float = 10.0) -> Proposing:
        call = self.propose(encoded, seconds)
        await settle(lambda: not call.done())
        return call

    def apply(self, batch: Batch) -> None:
        answers = []
        for _ in batch.proposals:
            self._revision += 1
            answers.append(Applied(Revision(self._revision), Nothing()))
        self.commits.applied(batch.sequence, answers)


async def failed(call: Awaitable[Applied]) -> errors.RendezvousError:
    with pytest.raises(errors.RendezvousError) as failure:
        await call
    return failure.value
