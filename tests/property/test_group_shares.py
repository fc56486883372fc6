"""Whose a branch is, for any history of a group: one member's, and moved only when it must (U5)."""

from __future__ import annotations

from history_strategies import (
    BRANCH_IDS,
    TAGS,
    histories,
    joins,
    leaves,
    replay,
    with_command_id,
)
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.core import queries, snapshot
from rendezvous_raft.core.commands import Command, JoinGroup, LeaveGroups
from rendezvous_raft.core.groups import members_of, owner_of
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.model import GroupKey
from rendezvous_raft.types import BranchId, MemberId, Tag

Shares = dict[tuple[GroupKey, BranchId, Tag], MemberId | None]


def shares_of(machine: StateMachine) -> Shares:
    """The owner of every branch id with every tag, in every group that has members."""
    state = machine.state
    return {
        (key, branch_id, tag): owner_of(members_of(state, key), branch_id, tag)
        for key in state.groups
        for branch_id in BRANCH_IDS
        for tag in TAGS
    }


@given(histories(), st.lists(joins, max_size=4))
def test_every_open_branch_has_one_owner_whose_filter_lets_it_pass(
    history: list[Command], more: list[JoinGroup]
) -> None:
    # semantics: U5
    machine = replay([*history, *(with_command_id(c, 900 + i) for i, c in enumerate(more))])
    state = machine.state
    for (service, region, group), members in state.groups.items():
        for branch in queries.branches_for_subscriber(state, service, region, 0):
            found = members_of(state, (service, region, group))
            owner = owner_of(found, branch.branch_id, branch.tag)
            able = [m for m in members.values() if not m.tags or branch.tag in m.tags]
            assert (owner is None) == (not able)
            assert owner is None or owner in [member.member_id for member in able]


@given(histories(), st.lists(joins, min_size=1, max_size=4), leaves)
def test_a_join_takes_and_a_leave_gives_and_nothing_else_moves(
    history: list[Command], joining: list[JoinGroup], leaving: LeaveGroups
) -> None:
    # semantics: U5.1
    machine = replay(history)
    for number, command in enumerate(joining):
        before, were = shares_of(machine), dict(machine.state.members)
        machine.apply(with_command_id(command, 900 + number))
        after = shares_of(machine)
        came = machine.state.members.keys() - were.keys()
        for place, owner in before.items():
            assert after[place] == owner or after[place] in came
    before, were = shares_of(machine), dict(machine.state.members)
    machine.apply(with_command_id(leaving, 999))
    after = shares_of(machine)
    gone = were.keys() - machine.state.members.keys()
    for place, owner in after.items():
        assert before[place] == owner or before[place] in gone


@given(histories(), st.lists(joins, max_size=4))
def test_replicas_agree_however_they_got_their_state(
    history: list[Command], more: list[JoinGroup]
) -> None:
    # semantics: U5
    machine = replay([*history, *(with_command_id(c, 900 + i) for i, c in enumerate(more))])
    loaded = snapshot.load(snapshot.rows(machine.state))
    assert shares_of(loaded) == shares_of(machine)
