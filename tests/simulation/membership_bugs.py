"""Bugs of changing memberships and of lost directories, to plant: the simulator must find each.

F11 and "Rejoining" are those of replication/DESIGN.md. See `planted_bugs.py`.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from planted_bugs import Kind, Plant

from rendezvous_raft.membership import Membership
from rendezvous_raft.replication.raft import membership_change
from rendezvous_raft.replication.raft.changing import _OF_IMPOSTORS_TO_A_LEADER, Changing
from rendezvous_raft.replication.raft.engine import RaftReplicator
from rendezvous_raft.replication.raft.journal import DurableJournal
from rendezvous_raft.replication.raft.leading import Leading
from rendezvous_raft.replication.raft.links import Node
from rendezvous_raft.replication.raft.member import Member
from rendezvous_raft.replication.raft.snapshotting import SnapshotPolicy
from rendezvous_raft.testing.simulation.profile import Profile
from rendezvous_raft.testing.simulation.world import World
from rendezvous_raft.types import Standing


def changes_overlap(patch: pytest.MonkeyPatch) -> None:
    """F11: a change begins before the one before it is committed."""
    original = Changing.why_no_change

    def why_no_change(self: Any) -> str | None:
        reason = original(self)
        return None if reason is not None and "the change before" in reason else reason

    patch.setattr(Changing, "why_no_change", why_no_change)


def changes_come_before_the_term_has_begun(patch: pytest.MonkeyPatch) -> None:
    """Ongaro, 2015: a new leader changes the members before it has committed in its term."""
    original = Changing.why_no_change

    def why_no_change(self: Any) -> str | None:
        reason = original(self)
        return None if reason is not None and "not committed anything" in reason else reason

    patch.setattr(Changing, "why_no_change", why_no_change)


def non_voters_count(patch: pytest.MonkeyPatch) -> None:
    """The acknowledgements of members without a vote make a majority of voters."""

    def advance_commit(self: Any) -> bool:
        if not self.is_leader:
            return False
        matches = sorted(
            [self.log.durable_index(), *(self.match_index[peer] for peer in self.peers)]
        )
        index = matches[len(matches) - self.quorum]
        if index <= self.commit_index or self.log.term_at(index) != self.term:
            return False
        self.commit_index = index
        return True

    patch.setattr(Leading, "advance_commit", advance_commit)


def a_removed_leader_counts_itself(patch: pytest.MonkeyPatch) -> None:
    """4.2.2: a leader may be removed without handing over, and goes on as if it were a voter."""

    async def change_membership(self: Any, change: Any, *, deadline_s: float) -> None:
        self._refuse_unless_running()
        await membership_change.change_members(self._raft, change, deadline_s)

    original = membership_change.changed

    def changed(raft: Any, change: Any) -> Membership | None:
        if getattr(change, "name", None) == raft.name:
            without: Membership = raft.membership.without(change.name)
            return without
        return original(raft, change)

    patch.setattr(RaftReplicator, "change_membership", change_membership)
    patch.setattr(membership_change, "changed", changed)


def a_change_is_in_force_when_it_is_committed(patch: pytest.MonkeyPatch) -> None:
    """4.1 the other way: until a change is committed, the membership before it decides."""

    def use_membership(self: Any) -> None:
        journal, known = self.log, self.log._memberships
        late = [each for each in known if each[0] <= max(self.commit_index, journal.base_index)]
        journal._memberships = late or known[:1]
        try:
            original(self)
        finally:
            journal._memberships = known

    original = Member.use_membership
    patch.setattr(Member, "use_membership", use_membership)


def a_snapshot_names_the_founders(patch: pytest.MonkeyPatch) -> None:
    """A snapshot carries the membership that its log began with."""
    patch.setattr(DurableJournal, "membership_at", lambda self, _index: self._memberships[0][1])


def who_came_back_votes_at_once(patch: pytest.MonkeyPatch) -> None:
    """Rejoining: a new directory votes before a membership that names it is committed."""
    patch.setattr(Member, "_may_vote", lambda self: True)


def who_came_back_is_counted_at_once(patch: pytest.MonkeyPatch) -> None:
    """Rejoining: what another directory says under a member's name counts for the member."""
    patch.setattr(Changing, "_speaks_for", lambda self, member: True)


def who_came_back_is_counted_until_one_is_named(patch: pytest.MonkeyPatch) -> None:
    """Rejoining: as long as the membership names no directory, any counts, also a new one."""
    original = Changing._speaks_for

    def speaks_for(self: Any, member: Any) -> bool:
        return not member.incarnation or original(self, member)

    patch.setattr(Changing, "_speaks_for", speaks_for)


def who_came_back_is_taken_to_have_its_log(patch: pytest.MonkeyPatch) -> None:
    """Rejoining: what the old directory had acknowledged is believed of the new one."""
    original = Member.use_membership

    def use_membership(self: Any) -> None:
        before = dict(self.match_index)
        original(self)
        for peer in self.peers:
            if before.get(peer):
                self.match_index[peer] = before[peer]

    patch.setattr(Member, "use_membership", use_membership)


def who_came_back_votes_after_it_heard_a_leader(patch: pytest.MonkeyPatch) -> None:
    """Rejoining: after a restart the log's own membership does not say that one was let in."""

    def may_vote(self: Any) -> bool:
        own = self.membership.find(self.name)
        if self.birth.founding:
            return own is None or own.incarnation in (0, self.birth.incarnation)
        if not self._admitted:
            committed = self.log.membership_at(max(self.commit_index, self.log.base_index))
            known = committed.find(self.name)
            self._admitted = known is not None and known.incarnation == self.birth.incarnation
        return bool(self._admitted)

    patch.setattr(Member, "_may_vote", may_vote)


def who_came_back_cannot_lead_those_who_were_away(patch: pytest.MonkeyPatch) -> None:
    """Rejoining: a follower whose membership is old does not listen to a new directory."""
    original = Changing.may_say

    def may_say(self: Any, node: Node, kind: str) -> bool:
        member = self.membership.find(str(node.id))
        if member is not None and not self.is_leader and not self._speaks_for(member):
            return kind in _OF_IMPOSTORS_TO_A_LEADER
        return original(self, node, kind)

    patch.setattr(Changing, "may_say", may_say)


def an_emptied_directory_is_not_told(patch: pytest.MonkeyPatch) -> None:
    """A directory that was emptied by hand does not hear that it is not the member's."""
    from rendezvous_raft.replication.raft import rules

    patch.setitem(rules._HANDLERS, "not_member", lambda self, node, message: None)


def newcomers_vote_before_they_have_the_log(patch: pytest.MonkeyPatch) -> None:
    """4.2.1 is forgotten, and with it the incarnation: who is added is a voter at once."""
    original = membership_change._added

    def added(membership: Membership, member: Any) -> Membership | None:
        return original(membership, replace(member, standing=Standing.VOTER))

    patch.setattr(membership_change, "_added", added)


def changing(seed: int) -> World:
    """A world whose members come and go all the time."""
    rng = random.Random(seed)
    faults = ("kill", "kill_leader", "isolate_leader", "partition", "power_loss_all", "snapshot")
    profile = Profile(
        nodes=rng.choice((3, 3, 5)),
        spares=2,
        duration_s=30.0,
        delay_s=0.002,
        jitter_s=0.01,
        snapshots=SnapshotPolicy(rng.choice((10, 40, 20_000)), entries_kept=3),
        faults=(*faults, *["change_members"] * 6),
        fault_interval_s=0.5,
        think_s=0.2,
        deadline_s=0.5,
    )
    return World(seed, profile=profile)


def rejoining(seed: int) -> World:
    """A world whose members lose their files now and then."""
    rng = random.Random(seed)
    faults = ("kill", "kill_leader", "isolate_leader", "partition", "power_loss_all", "snapshot")
    profile = Profile(
        nodes=rng.choice((3, 5)),
        duration_s=30.0,
        delay_s=0.002,
        jitter_s=0.02,
        snapshots=SnapshotPolicy(rng.choice((10, 40, 20_000)), entries_kept=3),
        faults=(*faults, "rejoin", "rejoin", "rejoin", "empty"),
        fault_interval_s=0.5,
        think_s=0.2,
        deadline_s=0.5,
    )
    return World(seed, profile=profile)


def whatever_is_committed_there_is_the_change(patch: pytest.MonkeyPatch) -> None:
    """F11: a change counts as made once anything is committed at its index."""
    patch.setattr(membership_change, "_still_leads", lambda raft, term: raft.term >= term)
    patch.setattr(membership_change, "_check_it_is_ours", lambda *_: None)


MEMBERSHIP_PLANTS: tuple[tuple[Plant, Kind, range], ...] = (
    (changes_overlap, changing, range(60)),
    (non_voters_count, changing, range(30)),
    (a_removed_leader_counts_itself, changing, range(30)),
    (a_change_is_in_force_when_it_is_committed, changing, range(60)),
    (a_snapshot_names_the_founders, changing, range(30)),
    (newcomers_vote_before_they_have_the_log, changing, range(18, 48)),
    (who_came_back_votes_at_once, rejoining, range(30)),
    (who_came_back_is_counted_at_once, rejoining, range(30)),
    (who_came_back_is_counted_until_one_is_named, rejoining, range(60)),
    (who_came_back_is_taken_to_have_its_log, rejoining, range(30)),
    (who_came_back_votes_after_it_heard_a_leader, rejoining, range(5, 35)),
    (who_came_back_cannot_lead_those_who_were_away, rejoining, range(60)),
    (an_emptied_directory_is_not_told, rejoining, range(9, 39)),
    (whatever_is_committed_there_is_the_change, changing, range(60)),
)
"""With the kind of world that shows it, and the seeds of which one must find it.

`changes_come_before_the_term_has_begun` takes a history by hand (`test_simulation_members.py`).
"""
