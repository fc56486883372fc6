"""Memberships of this node's subscriptions in their groups, told to all nodes (semantics U5).

A membership is a lease as that of a wait is (`leases.py`): bound to this node, renewed while the
subscription lasts, ended with it. One command renews all of a node. A member of this node's name
that no subscription of this life holds is a stray, and is ended; a subscription that is no member,
for whatever reason, joins again.

When a node dies nobody renews its members, and the pulse ends them after their time. Until then
what is theirs has no watcher, so the leader ends them as soon as it has missed their node for a
second or two. That needs no proof of its death: a node that lives, and is only cut off from the
leader, goes on giving its members what it knows of, and lets them join again as soon as it learns
that they are none. Two members watch a branch then, which is safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence

from rendezvous_raft import errors
from rendezvous_raft.core import groups
from rendezvous_raft.core.commands import (
    GROUPS_VERSION,
    Command,
    JoinGroup,
    LeaveGroups,
    RenewMembers,
)
from rendezvous_raft.core.model import GroupKey
from rendezvous_raft.core.results import Applied, Rejected
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.calls import SubscriptionKey
from rendezvous_raft.node.ports import Clock, IdSource, Replicator
from rendezvous_raft.node.rejections import rejection_error
from rendezvous_raft.types import BranchId, MemberId, Tag

RENEWALS_PER_TTL = 3
MEMBERS_PER_COMMAND = 1_000
"""Members that one command renews or ends; more travel in several."""

Owners = dict[GroupKey, MemberId | None]
"""Who watches one branch, by group; None: nobody."""


class GroupMembership:
    """What one subscription holds; `GroupKeeper.leave` ends it."""

    def __init__(
        self,
        member_id: MemberId,
        key: SubscriptionKey,
        refused: Callable[[errors.RendezvousError], None],
    ) -> None:
        self.member_id = member_id
        self.group: GroupKey = (key.service, key.region, key.group)
        self.tags = key.tags
        self.refused = refused
        self.proposed = False
        """Whether it may be in the replicated state."""


class GroupKeeper:
    """Joins, renews and leaves, in the background; answers whose a branch is."""

    def __init__(
        self, name: str, replicator: Replicator, limits: NodeLimits, clock: Clock, ids: IdSource
    ) -> None:
        self._name = name
        self._replicator = replicator
        self._ttl_ms = limits.lease_ttl_ms
        self._clock = clock
        self._ids = ids
        self._memberships: dict[MemberId, GroupMembership] = {}
        self._joining: dict[MemberId, asyncio.Task[None]] = {}
        self._leaving: dict[MemberId, None] = {}
        self._ending: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._renewed_s = float("-inf")

    @property
    def is_active(self) -> bool:
        """Whether every member of the cluster can apply the commands of groups."""
        return self._replicator.state.state.version >= GROUPS_VERSION

    def join(
        self, key: SubscriptionKey, refused: Callable[[errors.RendezvousError], None]
    ) -> GroupMembership:
        """Begins a membership; returns at once. `refused` is told when a limit forbids it."""
        membership = GroupMembership(self._ids.member_id(), key, refused)
        self._memberships[membership.member_id] = membership
        if self.is_active:
            self._join_soon(membership)
        return membership

    def leave(self, membership: GroupMembership) -> None:
        """Ends a membership, in the background."""
        del self._memberships[membership.member_id]
        joining = self._joining.get(membership.member_id)
        if joining is not None:
            joining.cancel()  # perhaps it has not been sent yet
        if membership.proposed:
            self._end_soon([membership.member_id])

    def is_member(self, membership: GroupMembership) -> bool:
        """Whether this replica knows of the membership."""
        return membership.member_id in self._replicator.state.state.members

    def count(self, group: GroupKey) -> int:
        """Members of a group."""
        return len(self._replicator.state.state.groups.get(group, ()))

    def gets(
        self, membership: GroupMembership, branch_id: BranchId, tag: Tag, owners: Owners
    ) -> bool:
        """Whether the branch is given to this subscription, whose filter lets the tag pass.

        One that is no member, not yet or not any more, gets everything: too much is safe. `owners`
        remembers, for one branch and one turn, what was asked before: it costs a hash per member.
        """
        if not self.is_member(membership):
            return True
        group = membership.group
        if group not in owners:
            members = groups.members_of(self._replicator.state.state, group)
            owners[group] = groups.owner_of(members, branch_id, tag)
        return owners[group] == membership.member_id

    def end_members_of(self, nodes: Collection[str]) -> None:
        """Ends, in the background, what these nodes hold, which the leader has missed."""
        members = self._replicator.state.state.members.values()
        gone = [member.member_id for member in members if member.node in nodes]
        if gone:
            self._end_soon(gone)

    def keep(self) -> None:
        """Sees to it, in the background, that members are who subscribes; once a second will do."""
        if not self.is_active:
            return
        members = self._replicator.state.state.members
        for member_id, membership in self._memberships.items():
            if member_id not in members:
                self._join_soon(membership)
        strays = [
            member.member_id
            for member in members.values()
            if member.node == self._name and member.member_id not in self._memberships
        ]
        if strays:
            self._end_soon(strays)
        due_s = self._renewed_s + self._ttl_ms / 1000 / RENEWALS_PER_TTL
        if self._memberships and self._renewing is None and self._clock.monotonic_s() >= due_s:
            self._renewed_s = self._clock.monotonic_s()
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    def state_replaced(self) -> None:
        """A snapshot may have swallowed answers: what is still needed is proposed anew."""
        for task in (*self._joining.values(), self._renewing, self._ending):
            if task is not None:
                task.cancel()
        self._renewing = self._ending = None

    async def close(self) -> None:
        """Blocks until what has left is ended, or that has failed. Every subscription is over."""
        self._begin_to_end()
        for task in (*self._joining.values(), self._renewing):
            if task is not None:
                task.cancel()
        tasks = (*self._joining.values(), self._renewing, self._ending)
        await asyncio.gather(*[task for task in tasks if task], return_exceptions=True)

    # In the background

    def _join_soon(self, membership: GroupMembership) -> None:
        member_id = membership.member_id
        if member_id not in self._joining:
            membership.proposed = True
            task = asyncio.get_running_loop().create_task(self._join(membership))
            self._joining[member_id] = task
            task.add_done_callback(lambda _: self._joining.pop(member_id))

    async def _join(self, membership: GroupMembership) -> None:
        applied = await self._propose(
            JoinGroup(
                self._ids.command_id(),
                membership.member_id,
                *membership.group,
                membership.tags,
                self._name,
                self._ttl_ms,
            )
        )
        if applied is not None and isinstance(applied.result, Rejected):
            membership.proposed = False
            membership.refused(rejection_error(applied.result, applied.revision))

    def _end_soon(self, member_ids: Sequence[MemberId]) -> None:
        self._leaving.update(dict.fromkeys(member_ids))
        if self._ending is None:
            # Not at once: others may leave in the same turn.
            asyncio.get_running_loop().call_soon(self._begin_to_end)

    def _begin_to_end(self) -> None:
        if self._leaving and self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        try:
            while self._leaving:
                taken = tuple(self._leaving)[:MEMBERS_PER_COMMAND]
                # One whose end gets lost is a stray, and is found again.
                await self._propose(LeaveGroups(self._ids.command_id(), taken))
                for member_id in taken:
                    self._leaving.pop(member_id, None)
        finally:
            if self._ending is asyncio.current_task():
                self._ending = None

    async def _renew(self) -> None:
        try:
            for part in _parts(tuple(self._memberships)):
                command = RenewMembers(self._ids.command_id(), part, self._ttl_ms)
                if await self._propose(command) is None:
                    self._renewed_s = float("-inf")
        finally:
            if self._renewing is asyncio.current_task():
                self._renewing = None

    async def _propose(self, command: Command) -> Applied | None:
        # An answer that gets lost must not hold up what comes after it for long.
        deadline_s = self._clock.monotonic_s() + self._ttl_ms / 1000 / RENEWALS_PER_TTL
        try:
            return await self._replicator.propose(command, deadline_s=deadline_s)
        except errors.RendezvousError:
            return None


def _parts(member_ids: tuple[MemberId, ...]) -> Iterator[tuple[MemberId, ...]]:
    for start in range(0, len(member_ids), MEMBERS_PER_COMMAND):
        yield member_ids[start : start + MEMBERS_PER_COMMAND]
