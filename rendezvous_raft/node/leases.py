"""Replicated wait leases: telling the other nodes who is blocked, for rule S5 (semantics R7).

A lease is a hint that shortens other waits. Losing one makes somebody wait longer, never shorter,
so a lease that cannot be proposed now is tried again at its next renewal. It is bound to this
node: nobody renews it when the node dies, and the pulse ends it. A lease of this node's name that
no wait of this life holds is a stray: its end got lost, or the node has started anew. It is ended.
"""

from __future__ import annotations

import asyncio

from rendezvous_raft import errors
from rendezvous_raft.core.commands import BeginWait, EndWait, Scope
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.ports import Clock, IdSource, Replicator
from rendezvous_raft.types import LeaseId, RequestId

RENEWALS_PER_TTL = 3
STRAYS_MAX = 1_000
"""Leases without a wait that are ended at a time."""


class Lease:
    """A lease of one blocked wait; `end` is called when the wait ends, however it ends."""

    def __init__(self, lease_id: LeaseId, request_id: RequestId, scope: Scope) -> None:
        self.lease_id = lease_id
        self.request_id = request_id
        self.scope = scope
        self.ended = asyncio.Event()

    def end(self) -> None:
        """Lets the keeper end the lease in the background."""
        self.ended.set()


class LeaseKeeper:
    """Begins, renews and ends the leases of this node, one task each."""

    def __init__(
        self, name: str, replicator: Replicator, limits: NodeLimits, clock: Clock, ids: IdSource
    ) -> None:
        self._name = name
        self._replicator = replicator
        self._ttl_ms = limits.lease_ttl_ms
        self._clock = clock
        self._ids = ids
        self._tasks: dict[asyncio.Task[None], Lease] = {}
        self._ending: dict[asyncio.Task[bool], LeaseId] = {}

    def begin(self, request_id: RequestId, scope: Scope) -> Lease:
        """Starts to keep a lease; returns at once."""
        lease = Lease(self._ids.lease_id(), request_id, scope)
        task = asyncio.get_running_loop().create_task(self._keep(lease))
        self._tasks[task] = lease
        task.add_done_callback(lambda done: self._tasks.pop(done))
        return lease

    def end_strays(self) -> None:
        """Ends, in the background, what no wait holds any more; once a second will do."""
        if self._ending:
            return
        # One whose wait has ended is not held, though its keeper may still wait for the answer to a
        # renewal: it never comes when a snapshot was installed instead of what would answer it.
        held = {lease.lease_id for lease in self._tasks.values() if not lease.ended.is_set()}
        for lease in self._replicator.state.state.leases.values():
            if lease.node == self._name and lease.lease_id not in held:
                command = EndWait(self._ids.command_id(), lease.lease_id)
                ending = self._propose(command, self._ttl_ms / 1000)
                task = asyncio.get_running_loop().create_task(ending)
                self._ending[task] = lease.lease_id
                task.add_done_callback(lambda done: self._ending.pop(done))
            if len(self._ending) >= STRAYS_MAX:
                break

    async def close(self) -> None:
        """Ends every lease and blocks until that is done or has failed."""
        for lease in self._tasks.values():
            lease.end()
        await asyncio.gather(*self._tasks, *self._ending, return_exceptions=True)

    async def _keep(self, lease: Lease) -> None:
        ttl_s = self._ttl_ms / 1000
        while not lease.ended.is_set():
            await self._propose(
                BeginWait(
                    self._ids.command_id(),
                    lease.lease_id,
                    lease.request_id,
                    self._name,
                    lease.scope,
                    self._ttl_ms,
                ),
                ttl_s,
            )
            try:
                async with asyncio.timeout(ttl_s / RENEWALS_PER_TTL):
                    await lease.ended.wait()
            except TimeoutError:
                continue
        await self._propose(EndWait(self._ids.command_id(), lease.lease_id), ttl_s)

    async def _propose(self, command: BeginWait | EndWait, timeout_s: float) -> bool:
        try:
            await self._replicator.propose(
                command, deadline_s=self._clock.monotonic_s() + timeout_s
            )
        except errors.RendezvousError:
            return False
        return True
