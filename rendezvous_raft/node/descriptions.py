"""What people want to see of a request: its branches, who waits, why, and who watches (Q1).

A description is made within one turn, of the local replica and of what only this node knows: its
parked waits and its subscriptions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import islice

from rendezvous_raft import errors
from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import Scope
from rendezvous_raft.core.explanation import verdicts
from rendezvous_raft.core.model import Branch, Request, State, WaitLease
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.admission import Admission
from rendezvous_raft.node.calls import (
    BranchDescription,
    DescriptionQuery,
    RegionDescription,
    RequestDescription,
    WaiterDescription,
)
from rendezvous_raft.node.close import EarlyReleases
from rendezvous_raft.node.ports import Clock, Replicator
from rendezvous_raft.node.reads import find_request, reach
from rendezvous_raft.node.request_watches import RequestWatches
from rendezvous_raft.node.subscriptions import Subscriptions
from rendezvous_raft.node.watches import Waiter, WaitIndex
from rendezvous_raft.types import ALL_REGIONS, BranchId, BranchKind, Region, Status, Verdict

BRANCHES_DESCRIBED_MAX = 1_000
WAITERS_DESCRIBED_MAX = 100
HOLDERS_DESCRIBED_MAX = 10
"""Branches named for each wait that they hold."""
OPEN_BRANCHES_EXAMINED_MAX = 1_000
"""In a request with more open branches nobody looks for each wait which of them hold it: that
would keep the loop busy."""
WATCH_PAUSE_S = 0.1
"""Least time between two descriptions of one watch."""
WATCH_SHARE = 50
"""The pause is at least so many times as long as the last description took to make."""


class Descriptions:
    """Describes requests, once or whenever they change."""

    def __init__(
        self,
        *,
        name: str,
        region: Region,
        replicator: Replicator,
        clock: Clock,
        limits: NodeLimits,
        waits: WaitIndex,
        subscriptions: Subscriptions,
        early: EarlyReleases | None,
        watches: RequestWatches,
        admission: Admission,
    ) -> None:
        self._name = name
        self._region = region
        self._replicator = replicator
        self._clock = clock
        self._limits = limits
        self._waits = waits
        self._subscriptions = subscriptions
        self._early = early
        self._watches = watches
        self._admission = admission

    async def describe(self, query: DescriptionQuery, deadline_s: float) -> RequestDescription:
        """Q1, bounded.

        Raises:
            RequestNotFound, RequestExpired: there is nothing to describe (G5).
            NoLeader, DeadlineExceeded: the node could not become as fresh as asked (G4).
        """
        await reach(self._replicator, query.freshness, deadline_s)
        return self._describe(query)

    async def watch(
        self, query: DescriptionQuery, deadline_s: float
    ) -> AsyncGenerator[RequestDescription]:
        """A description, and a new one after every change, until the caller closes it.

        Changes while one is delivered, and for a moment after it, come as one.

        Raises:
            RequestNotFound: it is unknown and does not appear within `await_registration_s`.
            RequestExpired: it has expired, before or meanwhile.
            LimitExceeded: too many requests are watched on this node.
            NoLeader, DeadlineExceeded: the node could not become as fresh as asked at first (G4).
            Draining, NotReady: the node shuts down or has halted; watch on another one.
        """
        self._admission.refuse_to_park()
        now_s = self._clock.monotonic_s()
        patient_until_s = now_s + query.await_registration_s
        # The stream may last for ever; who wants to know that no leader is there, wants it now.
        fresh_until_s = min(deadline_s, now_s + self._limits.call_timeout_ms_max / 1000)
        with self._watches.watch(query.request_id) as watcher:
            await reach(self._replicator, query.freshness, fresh_until_s)
            while True:
                watcher.begin_look()
                begun_s = self._clock.monotonic_s()
                try:
                    description = self._describe(query)
                except errors.RequestNotFound:
                    if not await watcher.wait_changed(max(0.0, patient_until_s - begun_s)):
                        raise
                    continue
                took_s = self._clock.monotonic_s() - begun_s
                yield description
                await asyncio.sleep(max(WATCH_PAUSE_S, WATCH_SHARE * took_s))
                await watcher.wait_changed()

    def _describe(self, query: DescriptionQuery) -> RequestDescription:
        state = self._replicator.state.state
        request = find_request(state, query.request_id)
        known = request.open_branches.values() if query.open_only else request.branches
        shown = list(islice(known, BRANCHES_DESCRIBED_MAX))
        open_branches = len(request.open_branches)
        ttl_ms = self._limits.open_ttl_ms if open_branches else self._limits.settled_ttl_ms
        expires_ms = request.last_activity_ms + ttl_ms
        return RequestDescription(
            request_id=request.request_id,
            status=queries.request_status(request),
            registered_at_ms=request.at_ms,
            branches=self._describe_branches(state, request, shown, query.scope),
            branches_total=len(request.branches),
            waiters=self._describe_waiters(state, request),
            revision=state.revision,
            node=self._name,
            node_region=self._region,
            answered_at_ms=self._clock.wall_ms(),
            branches_open=open_branches,
            expires_in_s=max(0, expires_ms - state.time_ms) / 1000,
            missing_branches=tuple(
                queries.missing_branches(state, request.request_id, query.required_branches)
            ),
        )

    def _describe_branches(
        self, state: State, request: Request, shown: list[Branch], scope: Scope | None
    ) -> tuple[BranchDescription, ...]:
        if scope is None:
            return tuple(self._describe_branch(branch, None) for branch in shown)
        found = verdicts(state, request, scope, shown)
        return tuple(
            self._describe_branch(branch, self._after_early_release(branch, scope, verdict))
            for branch, verdict in zip(shown, found, strict=True)
        )

    def _after_early_release(self, branch: Branch, scope: Scope, verdict: Verdict) -> Verdict:
        early = self._early
        if verdict is Verdict.HOLDS and early is not None and early.covers(branch, scope.region):
            return Verdict.RELEASED_EARLY
        return verdict

    def _describe_branch(self, branch: Branch, verdict: Verdict | None) -> BranchDescription:
        names = branch.regions or (ALL_REGIONS,)
        closed = branch.closed_at_ms or [None] * branch.slots
        statuses = [queries.branch_status(branch, slot) for slot in range(branch.slots)]
        return BranchDescription(
            branch_id=branch.branch_id,
            service=branch.service,
            tag=branch.tag,
            zone=branch.zone,
            parent_branch_id=branch.parent_branch_id,
            kind=branch.kind,
            regions=tuple(
                RegionDescription(name, status, at, self._count_told(branch, name, status))
                for name, status, at in zip(names, statuses, closed, strict=True)
            ),
            monitored=branch.monitored,
            locator=branch.locator,
            registered_at_ms=branch.at_ms,
            status=Status.OPEN if branch.open_mask else Status.CLOSED,
            verdict=verdict,
        )

    def _count_told(self, branch: Branch, region: Region, status: Status) -> int:
        """Subscriptions of this node that are told of the branch in the region."""
        if status is not Status.OPEN or not branch.monitored:
            return 0
        if branch.kind is BranchKind.REGIONLESS:
            return 0
        return self._subscriptions.count_told(branch.service, region, branch.tag)

    def _describe_waiters(self, state: State, request: Request) -> tuple[WaiterDescription, ...]:
        """Waits of this node, and the replicated ones of others."""
        now_s = self._clock.monotonic_s()
        parked = self._waits.of_request(request.request_id)
        shown = [
            self._describe_parked(state, request, waiter, now_s)
            for waiter in parked[:WAITERS_DESCRIBED_MAX]
        ]
        leases = state.leases_by_request.get(request.request_id, {}).values()
        elsewhere = (lease for lease in leases if lease.node != self._name)
        shown += [
            self._describe_lease(state, request, lease)
            for lease in islice(elsewhere, WAITERS_DESCRIBED_MAX - len(shown))
        ]
        return tuple(shown)

    def _describe_parked(
        self, state: State, request: Request, waiter: Waiter, now_s: float
    ) -> WaiterDescription:
        held_by, more = _holders(state, request, waiter.scope)
        required = waiter.required_branches
        return WaiterDescription(
            node=self._name,
            scope=waiter.scope,
            blocked_for_s=now_s - waiter.since_s,
            leased=waiter.leased,
            held_by=held_by,
            held_by_more=more,
            missing_branches=tuple(queries.missing_branches(state, request.request_id, required)),
            awaits_registration=waiter.awaits_registration,
        )

    @staticmethod
    def _describe_lease(state: State, request: Request, lease: WaitLease) -> WaiterDescription:
        held_by, more = _holders(state, request, lease.scope)
        return WaiterDescription(
            node=lease.node,
            scope=lease.scope,
            blocked_for_s=None,
            leased=True,
            held_by=held_by,
            held_by_more=more,
            lease_ends_in_s=max(0, lease.expires_ms - state.time_ms) / 1000,
        )


def _holders(state: State, request: Request, scope: Scope) -> tuple[tuple[BranchId, ...], bool]:
    """The first branches that hold a wait, and whether there are, or may be, more."""
    if len(request.open_branches) > OPEN_BRANCHES_EXAMINED_MAX:
        return (), True
    holding = queries.open_in_scope(state, request, scope)
    found = [branch.branch_id for branch in islice(holding, HOLDERS_DESCRIBED_MAX + 1)]
    return tuple(found[:HOLDERS_DESCRIBED_MAX]), len(found) > HOLDERS_DESCRIBED_MAX
