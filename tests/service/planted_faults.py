"""Faults that a metadata store could have, as patches to plant in ours: the machine must find each.

A patch is applied to classes, and undone by pytest. Beside each stands the property that shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rendezvous_raft import errors
from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import CloseBranches
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import BranchesClosed, BranchesRegistered, CloseOutcome
from rendezvous_raft.node import wait
from rendezvous_raft.node.close import EarlyReleases
from rendezvous_raft.node.expiry import Expiry
from rendezvous_raft.node.leases import Lease, LeaseKeeper
from rendezvous_raft.node.node import Node
from rendezvous_raft.node.proposals import Proposer
from rendezvous_raft.node.subscriptions import Subscriptions
from rendezvous_raft.node.watches import WaitIndex, Wakes
from rendezvous_raft.replication.batching import GroupCommit
from rendezvous_raft.types import Consistency

Plant = Callable[[pytest.MonkeyPatch], None]


def close_is_acknowledged_and_not_proposed(patch: pytest.MonkeyPatch) -> None:
    """W4: a close is answered before anything happened."""
    original = Proposer.propose

    async def propose(self: Any, command: Any, deadline_s: float) -> Any:
        if isinstance(command, CloseBranches):
            outcomes = tuple(CloseOutcome.CLOSED for _ in command.closes)
            return BranchesClosed(outcomes), self._replicator.state.revision
        return await original(self, command, deadline_s)

    patch.setattr(Proposer, "propose", propose)


def close_wakes_nobody(patch: pytest.MonkeyPatch) -> None:
    """R5.1: a close in a region, applied or on its way, lets nobody look."""
    add = Wakes.add

    def add_others(self: Any, request_id: Any, region: str = "") -> None:
        if not region:
            add(self, request_id)

    patch.setattr(Wakes, "add", add_others)


def lease_of_another_wakes_nobody(patch: pytest.MonkeyPatch) -> None:
    """S5: who is told of a mutual wait does not look again."""
    original = Node._on_applied

    def on_applied(self: Any, batch: Any) -> None:
        wake, self._index.wake = self._index.wake, lambda *_: None
        try:
            only_leases = all(
                type(event).__name__ == "WaitLeaseChanged" for a in batch for event in a.events
            )
            if not only_leases:
                self._index.wake = wake
            original(self, batch)
        finally:
            self._index.wake = wake

    patch.setattr(Node, "_on_applied", on_applied)


def lease_outlives_its_wait(patch: pytest.MonkeyPatch) -> None:
    """R7.1: the lease of a wait that has ended goes on being renewed."""
    patch.setattr(Lease, "end", lambda self: None)


def lease_outlives_its_node(patch: pytest.MonkeyPatch) -> None:
    """R7.2: nobody ends what a node that died has left, neither time nor its next life."""
    original = StateMachine._advance_time

    def advance_time(self: Any, command: Any) -> Any:
        leases, self.state.leases = self.state.leases, type(self.state.leases)()
        try:
            return original(self, command)
        finally:
            self.state.leases = leases

    patch.setattr(StateMachine, "_advance_time", advance_time)
    patch.setattr(LeaseKeeper, "end_strays", lambda self: None)


def strays_are_left(patch: pytest.MonkeyPatch) -> None:
    """R7.1: nobody ends the lease of a wait whose end got lost, or whose node started anew."""
    patch.setattr(LeaseKeeper, "end_strays", lambda self: None)


def wait_ignores_its_revision(patch: pytest.MonkeyPatch) -> None:
    """G3.2: a session wait looks at whatever its node has."""

    async def reach(replicator: Any, freshness: Any, deadline_s: float) -> None:
        if freshness.consistency is Consistency.LINEARIZABLE:
            await replicator.read_barrier(deadline_s=deadline_s)

    patch.setattr(wait, "reach", reach)


def wait_asks_nobody(patch: pytest.MonkeyPatch) -> None:
    """G3.3: a linearizable wait looks at whatever its node has."""

    async def reach(replicator: Any, freshness: Any, deadline_s: float) -> None:
        await replicator.wait_applied(freshness.min_revision, deadline_s=deadline_s)

    patch.setattr(wait, "reach", reach)


def early_release_stays(patch: pytest.MonkeyPatch) -> None:
    """R6.1: a close that failed goes on covering its branch."""
    patch.setattr(EarlyReleases, "remove", lambda self, closes: None)


def early_release_covers_every_region(patch: pytest.MonkeyPatch) -> None:
    """R6: a close that was received for one region covers the others, which nobody closed."""

    def covers(self: Any, branch_id: str, region: str) -> bool:
        return any(branch_id == closing for closing, _ in self._counts)

    patch.setattr(EarlyReleases, "covers", covers)


def repeating_a_registration_is_activity(patch: pytest.MonkeyPatch) -> None:
    """G2: `already_existed` is answered, and the state has changed."""
    original = StateMachine._register_branches

    def register_branches(self: Any, command: Any) -> Any:
        answer = original(self, command)
        if isinstance(answer[0], BranchesRegistered) and answer[0].already_existed:
            self.state.requests[command.request_id].at_ms = command.at_ms
        return answer

    patch.setattr(StateMachine, "_register_branches", register_branches)


def other_content_is_taken_for_the_same(patch: pytest.MonkeyPatch) -> None:
    """G2.1: the same id with other content is answered `already_existed`."""
    from rendezvous_raft.core.model import Branch

    patch.setattr(Branch, "has_content_of", lambda self, new: True)


def commands_take_effect_twice(patch: pytest.MonkeyPatch) -> None:
    """5.3: a command that is in the log twice is answered anew."""
    patch.setattr(StateMachine, "_remember", lambda self, command_id, result: None)


def overflow_is_resumed_without_a_list(patch: pytest.MonkeyPatch) -> None:
    """U3: who subscribes again after an overflow is not told what is open."""
    deliver, open_branches = Subscriptions._deliver, Subscriptions._open_branches

    def deliver_and_remember(self: Any, subscriber: Any, event: Any) -> None:
        was_ended = subscriber.ended
        deliver(self, subscriber, event)
        if subscriber.ended and not was_ended:
            self.overflowed = subscriber.key.service

    def nothing_to_list(self: Any, key: Any, after: Any) -> Any:
        if getattr(self, "overflowed", None) == key.service:
            return []
        return open_branches(self, key, after)

    patch.setattr(Subscriptions, "_deliver", deliver_and_remember)
    patch.setattr(Subscriptions, "_open_branches", nothing_to_list)


def leaver_of_a_group_has_no_heir(patch: pytest.MonkeyPatch) -> None:
    """U5.1: what a member watched is nobody's when it leaves."""
    group_changed = Subscriptions.group_changed

    def only_joins(self: Any, group: Any) -> None:
        members = len(self._replicator.state.state.groups.get(group, ()))
        before, self.sizes = getattr(self, "sizes", {}), {}
        self.sizes = {**before, group: members}
        if members > before.get(group, 0):
            group_changed(self, group)

    patch.setattr(Subscriptions, "group_changed", only_joins)


def expired_is_read_as_nothing_open(patch: pytest.MonkeyPatch) -> None:
    """G5.1: a wait for what is gone is answered as if nothing of it was open."""
    original = wait._Look._look_at_nothing

    def look_at_nothing(self: Any, state: Any) -> bool:
        if self.query.request_id in state.tombstones:
            return True
        return original(self, state)

    patch.setattr(wait._Look, "_look_at_nothing", look_at_nothing)


def waited_for_requests_expire(patch: pytest.MonkeyPatch) -> None:
    """L2.2: the leader forgets who waits."""
    patch.setattr(Expiry, "_waited_for", lambda self, state: {})


def waiter_stays_when_its_call_ends(patch: pytest.MonkeyPatch) -> None:
    """G7: a wait that is cancelled, or times out, leaves its waiter parked."""
    original = WaitIndex.remove

    def remove(self: Any, waiter: Any) -> None:
        if waiter.woken.done():
            original(self, waiter)

    patch.setattr(WaitIndex, "remove", remove)


def late_proposals_are_definite(patch: pytest.MonkeyPatch) -> None:
    """G6: a proposal whose deadline passes on its way is said not to have happened."""

    def expire(self: Any, proposal: Any) -> None:
        if not proposal.answer.done():
            proposal.answer.set_exception(errors.Unavailable("too late"))

    patch.setattr(GroupCommit, "_expire", expire)


def required_branches_are_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """R1.1: what must be known first is not asked for."""
    patch.setattr(queries, "missing_branches", lambda state, request_id, branch_ids: [])


def closes_in_other_regions_wake_late(patch: pytest.MonkeyPatch) -> None:
    """R5.1: a wait for any region looks at closes of a region only."""
    from rendezvous_raft.node.watches import Waiter

    patch.setattr(Waiter, "looks_at", lambda self, regions: self.scope.region in regions)


def cancelled_writes_keep_their_place(patch: pytest.MonkeyPatch) -> None:
    """G7: a write that its client gives up keeps counting as under way."""
    from contextlib import contextmanager

    from rendezvous_raft.node.admission import Admission

    @contextmanager
    def proposal(self: Any) -> Any:
        self.refuse_when_draining()
        self.proposals += 1
        try:
            yield
        except asyncio.CancelledError:
            raise
        except BaseException:
            self.proposals -= 1
            raise
        self.proposals -= 1

    patch.setattr(Admission, "proposal", proposal)


PLANTS: tuple[tuple[Plant, str], ...] = (
    (close_is_acknowledged_and_not_proposed, "an acknowledged write is"),
    (close_wakes_nobody, "no wake-up is lost"),
    (lease_of_another_wakes_nobody, "no wake-up is lost"),
    (lease_outlives_its_wait, "a lease ends with its wait"),
    (lease_outlives_its_node, ""),
    (strays_are_left, "a lease ends with its wait"),
    (wait_ignores_its_revision, "no answer is older"),
    (wait_asks_nobody, "no answer is older"),
    (early_release_stays, ""),
    (early_release_covers_every_region, ""),
    (repeating_a_registration_is_activity, ""),
    (other_content_is_taken_for_the_same, ""),
    (commands_take_effect_twice, ""),
    (overflow_is_resumed_without_a_list, ""),
    (leaver_of_a_group_has_no_heir, "every open branch reaches a subscriber"),
    (expired_is_read_as_nothing_open, "only what is known is answered"),
    (waited_for_requests_expire, "a request with a waiter is not dropped"),
    (waiter_stays_when_its_call_ends, "what has ended leaves nothing behind"),
    (late_proposals_are_definite, "what definitely did not happen has no effect"),
    (required_branches_are_not_waited_for, "a wait that was released was right"),
    (closes_in_other_regions_wake_late, "no wake-up is lost"),
    (cancelled_writes_keep_their_place, "what has ended leaves nothing behind"),
)
