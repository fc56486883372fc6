"""The leader's pulse: cluster time, and dropping what has been inactive too long (L1, L2).

What else has to be seen to once a second is done with it: a node that hears of nothing any more
sends its callers elsewhere; the leader ends the group memberships at nodes that it misses, and
activates a newer version of commands once every member can apply it.

Only the leader pulses. Time is what its monotonic clock says has passed since its last pulse,
capped; a new leader starts from zero, so cluster time may lag behind the clocks and never runs
ahead of them. An idle and empty cluster gets no pulses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rendezvous_raft import errors
from rendezvous_raft.core.commands import ActivateVersion, ExpireRequests, Pulse
from rendezvous_raft.core.model import State
from rendezvous_raft.core.results import RequestsExpired
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.groups import GroupKeeper
from rendezvous_raft.node.leases import LeaseKeeper
from rendezvous_raft.node.ports import Clock, IdSource, Replicator
from rendezvous_raft.node.status import ClusterStatus
from rendezvous_raft.node.watches import WaitIndex
from rendezvous_raft.types import NodeName, RequestId, Role

PARKED_REPORTED_MAX = 10_000
"""Requests with parked waiters that one node reports to the leader."""


class Expiry:
    """Runs once per `pulse_interval_ms` on every node; acts on the leader.

    `stands_still` is told at each pulse why this node hears of nothing any more; None: it does.
    """

    def __init__(
        self,
        replicator: Replicator,
        limits: NodeLimits,
        clock: Clock,
        ids: IdSource,
        waits: WaitIndex,
        leases: LeaseKeeper,
        groups: GroupKeeper,
        stands_still: Callable[[str | None], None],
    ) -> None:
        self._replicator = replicator
        self._limits = limits
        self._clock = clock
        self._ids = ids
        self._waits = waits
        self._leases = leases
        self._groups = groups
        self._stands_still = stands_still
        self._last_pulse_s: float | None = None
        self._missed: tuple[NodeName, ...] = ()
        """Nodes that were not connected at the pulse before."""

    async def run(self) -> None:
        """Pulses until cancelled."""
        while True:
            await asyncio.sleep(self._limits.pulse_interval_ms / 1000)
            try:
                await self.pulse()
            except Exception as error:  # noqa: BLE001 (time must go on, and somebody has to know)
                report = {"message": "a pulse failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(report)

    async def pulse(self) -> None:
        """One pulse: reports parked waiters or, on the leader, moves time and expires."""
        status = self._replicator.status()
        self._stands_still(_why_still(status))
        if status.halted is not None:
            return
        self._leases.end_strays()
        self._groups.keep()
        if status.role is not Role.LEADER:
            self._last_pulse_s = None
            self._missed = ()
            self._replicator.report_parked(self._waits.request_ids(PARKED_REPORTED_MAX))
            return
        self._end_members_of_the_missing(status)
        now_s = self._clock.monotonic_s()
        # A pulse whose outcome is unknown is never proposed again: time may lag, not run ahead.
        elapsed_ms = 0
        if self._last_pulse_s is not None:
            elapsed_ms = round((now_s - self._last_pulse_s) * 1000)
        self._last_pulse_s = now_s
        deadline_s = now_s + 2 * self._limits.pulse_interval_ms / 1000
        try:
            if status.command_version > self._replicator.state.state.version:
                activate = ActivateVersion(self._ids.command_id(), status.command_version)
                await self._replicator.propose(activate, deadline_s=deadline_s)
            if not elapsed_ms or not self._anything_passes():
                return
            elapsed_ms = min(elapsed_ms, self._limits.pulse_elapsed_ms_max)
            pulse = Pulse(self._ids.command_id(), elapsed_ms)
            await self._replicator.propose(pulse, deadline_s=deadline_s)
            await self._expire(deadline_s)
        except errors.RendezvousError:
            # Without a majority time stands still and nothing expires. The next pulse tries anew.
            return

    def _end_members_of_the_missing(self, status: ClusterStatus) -> None:
        """Subscriptions at nodes that are away at two pulses leave their groups."""
        missed = tuple(member.name for member in status.members if not member.connected)
        self._groups.end_members_of([name for name in missed if name in self._missed])
        self._missed = missed

    def _anything_passes(self) -> bool:
        """Whether there is anything that time can end."""
        state = self._replicator.state.state
        return bool(state.requests or state.tombstones or state.leases or state.members)

    async def _expire(self, deadline_s: float) -> None:
        limits = self._limits
        while True:
            state = self._replicator.state.state
            keep = self._waited_for(state)
            if not self._anything_old(state, keep):
                return
            command = ExpireRequests(
                command_id=self._ids.command_id(),
                settled_ttl_ms=limits.settled_ttl_ms,
                open_ttl_ms=limits.open_ttl_ms,
                tombstone_ttl_ms=limits.tombstone_ttl_ms,
                keep=tuple(keep),
                requests_max=limits.expire_requests_max,
            )
            applied = await self._replicator.propose(command, deadline_s=deadline_s)
            if not (isinstance(applied.result, RequestsExpired) and applied.result.more):
                return

    def _waited_for(self, state: State) -> dict[RequestId, None]:
        """Requests with parked waits, here or elsewhere, that are old enough to be dropped.

        The young ones need no mention; with them the command could be larger than one may be.
        """
        limits = self._limits
        ttl_ms = min(limits.settled_ttl_ms, limits.open_ttl_ms)
        # A pulse of another leader may be applied before the command is.
        old_ms = state.time_ms + limits.pulse_elapsed_ms_max - ttl_ms
        here = self._waits.request_ids(PARKED_REPORTED_MAX)
        found: dict[RequestId, None] = {}
        for request_id in (*here, *self._replicator.parked_elsewhere()):
            request = state.requests.get(request_id)
            if request is not None and request.last_activity_ms <= old_ms:
                found[request_id] = None
        return found

    def _anything_old(self, state: State, keep: dict[RequestId, None]) -> bool:
        """Whether a command would drop something; looks at the front of each order only."""
        limits = self._limits
        for order, ttl_ms in (
            (state.settled_order, limits.settled_ttl_ms),
            (state.open_order, limits.open_ttl_ms),
        ):
            for request_id in order:
                if state.requests[request_id].last_activity_ms > state.time_ms - ttl_ms:
                    break
                if request_id not in keep:
                    return True
        oldest = next(iter(state.tombstones.values()), None)
        return oldest is not None and oldest.expired_ms <= state.time_ms - limits.tombstone_ttl_ms


def _why_still(status: ClusterStatus) -> str | None:
    if status.halted is not None:
        return f"the node has halted: {status.halted}; use another one"
    if status.not_member:
        return "this node is no member of the cluster; use another one"
    return None
