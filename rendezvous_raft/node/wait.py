"""Waiting until nothing that matters is open (semantics R1 to R7).

A wait first makes the local node as fresh as was asked for, then looks. After that it is served by
the local replica alone: it parks, and applied events let it look again, in the very turn in which
they are applied. The predicate is looked at before the clock.
"""

from __future__ import annotations

import asyncio

from rendezvous_raft import errors
from rendezvous_raft.core import queries
from rendezvous_raft.core.model import Branch, Request, State
from rendezvous_raft.limits import OPEN_BRANCHES_SHOWN_MAX
from rendezvous_raft.node.admission import Admission
from rendezvous_raft.node.calls import OpenBranch, WaitAnswer, WaitQuery
from rendezvous_raft.node.close import EarlyReleases
from rendezvous_raft.node.leases import Lease, LeaseKeeper
from rendezvous_raft.node.observer import NodeObserver
from rendezvous_raft.node.ports import Clock, Replicator
from rendezvous_raft.node.reads import reach
from rendezvous_raft.node.watches import Waiter, WaitIndex
from rendezvous_raft.types import BranchId, Revision, Service, Tag, WaitOutcome, Zone


class Waits:
    """The waiting use-case."""

    def __init__(
        self,
        replicator: Replicator,
        clock: Clock,
        index: WaitIndex,
        leases: LeaseKeeper,
        early: EarlyReleases | None,
        admission: Admission,
        observer: NodeObserver,
    ) -> None:
        self._replicator = replicator
        self._clock = clock
        self._index = index
        self._leases = leases
        self._early = early
        self._admission = admission
        self._observer = observer

    async def wait(self, query: WaitQuery, deadline_s: float) -> WaitAnswer:
        """R1. Blocks until the scope is empty or the time-out has passed.

        Raises:
            RequestNotFound, RequestExpired: nothing can be said (G5).
            NoLeader, DeadlineExceeded: the node could not become as fresh as asked (G4).
            Draining, NotReady: the node shuts down or has halted; ask another one.
        """
        started_s = self._clock.monotonic_s()
        outcome, prevented = "cancelled", False
        try:
            with self._admission.wait():
                answer = await self._wait(query, started_s, deadline_s)
            outcome = answer.outcome.value
            prevented = answer.outcome is WaitOutcome.BLOCKED
            return answer
        except errors.RendezvousError as error:
            outcome = error.code
            raise
        finally:
            seconds = self._clock.monotonic_s() - started_s
            region = query.scope.region
            self._observer.wait_done(outcome, seconds, region, prevented=prevented)

    async def _wait(self, query: WaitQuery, started_s: float, deadline_s: float) -> WaitAnswer:
        end_s = min(started_s + query.timeout_s, deadline_s)
        await reach(self._replicator, query.freshness, end_s)
        # A drain may have begun meanwhile; it ends what is parked, not what parks later.
        self._admission.refuse_to_park()
        look = _Look(self._replicator, self._early, query)
        look.awaiting = query.await_registration_s > 0
        if look.look():
            return look.answer(WaitOutcome.IMMEDIATE, 0.0)
        blocked_since_s = self._clock.monotonic_s()
        outcome = await self._park(
            look, blocked_since_s, started_s + query.await_registration_s, end_s
        )
        blocked_for_s = self._clock.monotonic_s() - blocked_since_s
        if outcome is not WaitOutcome.TIMED_OUT:
            return look.answer(outcome, blocked_for_s)
        if deadline_s < started_s + query.timeout_s:
            raise errors.DeadlineExceeded(
                "the deadline of the call passed before the time-out of the wait",
                definite=True,
                revision=look.revision,
            )
        return look.answer(
            WaitOutcome.TIMED_OUT, blocked_for_s, look.still_open(self._clock.wall_ms())
        )

    async def _park(
        self, look: _Look, since_s: float, await_end_s: float, end_s: float
    ) -> WaitOutcome:
        """Sleeps until released, out of patience or out of time. Leaves nothing behind (G7)."""
        query = look.query
        lease: Lease | None = None
        if queries.uses_mutual_waits(query.scope):
            lease = self._leases.begin(query.request_id, query.scope)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = Waiter(query.request_id, query.scope, look.look, woken, since_s)
        waiter.required_branches = query.required_branches
        waiter.awaits_registration = look.awaiting
        waiter.leased = lease is not None
        self._index.park(waiter)
        try:
            if look.awaiting and await_end_s < end_s:
                if await self._sleep(woken, await_end_s):
                    return WaitOutcome.BLOCKED
                look.awaiting = waiter.awaits_registration = False
                if look.look():
                    return WaitOutcome.BLOCKED if look.was_blocked else WaitOutcome.IMMEDIATE
            released = await self._sleep(woken, end_s) or look.look()
            return WaitOutcome.BLOCKED if released else WaitOutcome.TIMED_OUT
        finally:
            self._index.remove(waiter)
            if lease is not None:
                lease.end()

    async def _sleep(self, woken: asyncio.Future[None], until_s: float) -> bool:
        """Whether it was woken before the time. Raises what the waiter was failed with."""
        left_s = max(0.0, until_s - self._clock.monotonic_s())
        await asyncio.wait((woken,), timeout=left_s)
        if not woken.done():
            return False
        woken.result()
        return True


class _Look:
    """Evaluates one wait against the local replica, again and again, within single turns."""

    def __init__(
        self, replicator: Replicator, early: EarlyReleases | None, query: WaitQuery
    ) -> None:
        self.query = query
        self.awaiting = False
        """Whether what the request never used so far is waited for (R4)."""
        self.was_blocked = False
        """Whether something was open, or required, at any look: patience that ends without has
        prevented nothing (R2)."""
        self.revision = Revision(0)
        self._held_by: BranchId | None = None
        """What kept it blocked at the last look: mostly it still does."""
        self._replicator = replicator
        self._early = early
        self._known = True
        self._error: errors.RendezvousError | None = None

    def look(self) -> bool:
        """Whether there is nothing to wait for any more: nothing open, or nothing to be known."""
        state = self._replicator.state.state
        self.revision = state.revision
        query = self.query
        request = state.requests.get(query.request_id)
        if request is None:
            return self._look_at_nothing(state)
        self._known = queries.is_known(request, query.scope)
        has_come = self._known
        if query.await_place:
            found = queries.recognise(request, query.scope)
            has_come = found.place and found.tag
        if queries.missing_branches(state, query.request_id, query.required_branches):
            self.was_blocked = True
            return False
        if self._is_held(state, request):
            self.was_blocked = True
            return False
        return has_come or not self.awaiting

    def _look_at_nothing(self, state: State) -> bool:
        """The request is not there: gone, still to come, or never heard of (G5)."""
        request_id = self.query.request_id
        self._known = False
        if request_id in state.tombstones:
            self._error = errors.RequestExpired(
                f"request {request_id} has expired", revision=state.revision
            )
            return True
        # Required ids make the request one to come: they are registered, or on their way.
        if self.awaiting or self.query.required_branches:
            self.was_blocked = self.was_blocked or bool(self.query.required_branches)
            return False
        self._error = errors.RequestNotFound(
            f"no request has the id {request_id}", revision=state.revision
        )
        return True

    def _is_held(self, state: State, request: Request) -> bool:
        scope, held_by = self.query.scope, self._held_by
        if (
            held_by is not None
            and queries.is_held_by(state, request, scope, held_by)
            and not self._is_released(request.open_branches[held_by])
        ):
            return True
        for branch in queries.open_in_scope(state, request, scope):
            if not self._is_released(branch):
                self._held_by = branch.branch_id
                return True
        return False

    def _is_released(self, branch: Branch) -> bool:
        """R6: whether its close has come to this node."""
        return self._early is not None and self._early.covers(branch, self.query.scope.region)

    def answer(
        self, outcome: WaitOutcome, blocked_for_s: float, still_open: tuple[OpenBranch, ...] = ()
    ) -> WaitAnswer:
        """The answer, as of the last look. Raises if that look found that there is none."""
        if self._error is not None:
            raise self._error
        return WaitAnswer(outcome, blocked_for_s, self.revision, still_open, self._known)

    def still_open(self, wall_ms: int) -> tuple[OpenBranch, ...]:
        """Up to ten of the branches that keep the wait blocked, missing ones first (R2)."""
        state = self._replicator.state.state
        query = self.query
        missing = queries.missing_branches(state, query.request_id, query.required_branches)
        shown = [_missing(branch_id) for branch_id in missing]
        request = state.requests.get(query.request_id)
        if request is not None:
            for branch in queries.open_in_scope(state, request, query.scope):
                if len(shown) >= OPEN_BRANCHES_SHOWN_MAX:
                    break
                shown.append(_describe(branch, wall_ms))
        return tuple(shown[:OPEN_BRANCHES_SHOWN_MAX])


def _missing(branch_id: BranchId) -> OpenBranch:
    return OpenBranch(branch_id, Service(""), Tag(""), Zone(""), (), 0.0, registered=False)


def _describe(branch: Branch, wall_ms: int) -> OpenBranch:
    return OpenBranch(
        branch_id=branch.branch_id,
        service=branch.service,
        tag=branch.tag,
        zone=branch.zone,
        regions=branch.open_regions(),
        age_s=max(0, wall_ms - branch.at_ms) / 1000,
        registered=True,
    )
