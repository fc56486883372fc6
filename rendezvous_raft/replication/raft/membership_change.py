"""An operator's change of the members: checked, proposed by the leader, awaited until committed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rendezvous_raft import errors
from rendezvous_raft.membership import (
    MEMBERS_MAX,
    AddMember,
    MemberConfig,
    Membership,
    MembershipChange,
)
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.replication.raft.storage import DiskFull, StorageError
from rendezvous_raft.types import Standing


async def change_members(raft: Raft, change: MembershipChange, deadline_s: float) -> None:
    """Blocks until the change is committed; one that is in force already needs nothing.

    Raises:
        InvalidArgument, AlreadyExists, NotFound, Unavailable, ReadOnly: nothing was changed.
        OutcomeUnknown: it may be committed still.
    """
    index = await _propose(raft, change, deadline_s)
    if index is None:
        return
    term = raft.term
    while raft.commit_index < index:
        # A leader that hears no majority steps down within its term; another may follow it.
        if not _still_leads(raft, term) or raft.clock() >= deadline_s:
            raise errors.OutcomeUnknown(
                "the change was proposed and is not committed yet; see `cluster members`",
                leader=raft.leader_name(),
            )
        await asyncio.sleep(raft.timers.heartbeat_s / 5)
    _check_it_is_ours(raft, index, term)


def _still_leads(raft: Raft, term: int) -> bool:
    return raft.is_leader and raft.term == term


def _check_it_is_ours(raft: Raft, index: int, term: int) -> None:
    """What is committed at `index` may be another leader's: an entry is its index and its term."""
    if _still_leads(raft, term):
        return  # 5.3: a leader never overwrites its own log, which may begin behind it by now
    found = raft.log.term_at(index)
    if found is None:
        raise errors.OutcomeUnknown(
            "the change was proposed, and another leader took over; see `cluster members`",
            leader=raft.leader_name(),
        )
    if found != term:
        raise errors.Unavailable(
            "another leader took over before the change was committed; nothing was changed",
            leader=raft.leader_name(),
        )


@contextmanager
def nothing_changed_yet() -> Iterator[None]:
    """What is done before a change is proposed: whatever became of that, the change is not made.

    Raises:
        Unavailable: in place of `OutcomeUnknown`.
    """
    try:
        yield
    except errors.OutcomeUnknown as error:
        raise errors.Unavailable(
            f"{error.message}; the members were not changed", leader=error.leader
        ) from error


async def _propose(raft: Raft, change: MembershipChange, deadline_s: float) -> int | None:
    """The index of the change; None: it is in force."""
    while True:
        if not raft.is_leader:
            raise errors.Unavailable(
                "this node does not lead; ask the leader", leader=raft.leader_name()
            )
        reason = raft.why_no_change()
        if reason is None:
            membership = changed(raft, change)
            if membership is None:
                return None
            try:
                return raft.propose_membership(membership)
            except DiskFull as error:
                raise errors.ReadOnly(f"the disk of the leader is full: {error}") from error
            except StorageError as error:
                raise errors.OutcomeUnknown(
                    f"the disk of the leader has failed: {error}; see `cluster members`"
                ) from error
        if raft.clock() >= deadline_s:
            raise errors.Unavailable(f"{reason}; nothing was changed")
        await asyncio.sleep(raft.timers.heartbeat_s / 5)


def changed(raft: Raft, change: MembershipChange) -> Membership | None:
    """The membership after the change; None: it is as it shall be."""
    membership = raft.membership
    if isinstance(change, AddMember):
        return _added(membership, change.member)
    member = membership.find(change.name)
    if member is None:
        raise errors.NotFound(f"there is no member {change.name!r}")
    if change.name == raft.name:
        raise errors.Unavailable("the leader cannot remove itself", leader=raft.leader_name())
    if member.standing is Standing.VOTER:
        _check_majority(raft, change.name)
    return membership.without(change.name)


def _added(membership: Membership, member: MemberConfig) -> Membership | None:
    known = membership.find(member.name)
    if known is not None and _place(known) == _place(member):
        return _with_standing(membership, known, member.standing)
    if known is not None:
        raise errors.AlreadyExists(
            f"{member.name!r} is a member, in {known.region} at {known.raft_address};"
            " remove it first, or choose another name"
        )
    if len(membership.members) >= MEMBERS_MAX:
        raise errors.InvalidArgument.for_field("name", f"there are {MEMBERS_MAX} members already")
    for field in ("raft_address", "grpc_address", "http_address"):
        address = getattr(member, field)
        for other in membership.members:
            if address and getattr(other, field) == address:
                raise errors.InvalidArgument.for_field(field, f"{other.name!r} is at {address}")
    return membership.with_member(member)


def _with_standing(
    membership: Membership, known: MemberConfig, wanted: Standing
) -> Membership | None:
    """A member that is added once more: it can get a vote so, and does not lose one."""
    votes_or_will = known.standing is not Standing.NON_VOTER
    if wanted is Standing.NON_VOTER and votes_or_will:
        raise errors.AlreadyExists(f"{known.name!r} is a member that votes; remove it first")
    if wanted is Standing.NON_VOTER or votes_or_will:
        return None
    return membership.with_member(replace(known, standing=wanted))


def _place(member: MemberConfig) -> tuple[str, ...]:
    return (member.region, member.raft_address, member.grpc_address, member.http_address)


def _check_majority(raft: Raft, leaving: str) -> None:
    """Refuses what would leave the cluster unable to go on."""
    staying = [voter for voter in raft.voters if str(voter.id) != leaving]
    reachable = 1 + sum(1 for voter in staying if raft.can_be_reached(voter))
    needed = (len(staying) + 1) // 2 + 1
    if reachable < needed:
        raise errors.Unavailable(
            f"without {leaving!r} only {reachable} of {len(staying) + 1} voters can be reached, and"
            f" {needed} are needed; nothing was changed"
        )
