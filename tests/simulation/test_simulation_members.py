"""Histories by hand of members that change, and of directories that are lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from by_hand import cluster, followers, isolate, reconnect, write
from membership_bugs import changes_come_before_the_term_has_begun

from rendezvous_raft.membership import AddMember, MembershipChange, RaftTimers, RemoveMember
from rendezvous_raft.testing.simulation.host import Host
from rendezvous_raft.testing.simulation.world import World
from rendezvous_raft.types import NodeName, Standing

STEP_S = 0.0002
"""Shorter than any message takes."""
PATIENT = RaftTimers(heartbeat_s=0.1, election_min_s=3.0, election_max_s=6.0)


def order(host: Host, change: MembershipChange, patience_s: float = 5.0) -> list[object]:
    """Orders a change; its outcome stands in the list once there is one."""
    outcome: list[object] = []
    deadline_s = host.living.loop.time() + patience_s
    host.run(
        lambda: host.living.engine.change_membership(change, deadline_s=deadline_s),
        lambda task: outcome.append(task.exception()),
    )
    return outcome


def standing(world: World, name: str) -> Standing | None:
    """As the committed membership has it."""
    member = world.judge.electorate.committed.find(name)
    return None if member is None else member.standing


def cut(world: World, *pairs: tuple[Host, Host]) -> None:
    for sender, receiver in pairs:
        world.network.cut(sender.name, receiver.name)


def _two_leaders_change_the_members(world: World) -> tuple[Host, bool]:
    """Ongaro, "bug in single-server membership changes", 2015, in the names of that text.

    S1 adds S5 and reaches nobody else. S2 is elected by S3 and S4, and removes S1 with S3 alone.
    Then S1 comes back to S4 and S5.

    Returns:
        S1, and whether S2 was told that it is removed.
    """
    world.advance(10.0)
    s1, *rest = world.leader(), *followers(world)[:-1]
    s5 = world.hosts[-1]
    cut(world, (s5, s1))  # S1 hears from others that it is here, and cannot take it for caught up
    s5.start()
    joining = replace(s5.config, standing=Standing.JOINING)
    assert order(s1, AddMember(joining)) == []
    world.advance(3.0)
    assert standing(world, s5.name) is Standing.JOINING
    for other in rest:
        cut(world, (s1, other), (other, s1), (other, s5), (s5, other))
    world.network.restore(s5.name, s1.name)
    ours, theirs = s1.living.raft.log, s5.living.raft.log
    while s5.name not in ours.membership.voters() or theirs.membership != ours.membership:
        world.advance(STEP_S)
        assert s1.is_leader
    isolate(world, s1)
    s2, s3, s4 = _elect_one_of(world, rest)
    removing = order(s2, RemoveMember(NodeName(s1.name)), patience_s=1.0)
    world.advance(2.0)
    (refusal,) = removing
    for away in (s2, s3):
        isolate(world, away)
    for a, b in ((s1, s4), (s1, s5), (s4, s5)):
        world.network.restore(a.name, b.name)
        world.network.restore(b.name, a.name)
    world.advance(40.0)
    return s1, refusal is None


def _elect_one_of(world: World, rest: list[Host]) -> tuple[Host, Host, Host]:
    """Who is elected, who hears from it afterwards, and who only voted for it."""
    while True:
        world.advance(STEP_S)
        for s2 in rest:
            term = s2.living.raft.term
            s3, s4 = (host for host in rest if host is not s2)
            votes = [host.record.votes.get(term) for host in (s3, s4)]
            if votes == [s2.name, s2.name]:
                cut(world, (s2, s4), (s3, s4))
                while not s2.is_leader:
                    world.advance(STEP_S)
                return s2, s3, s4


def test_no_change_before_the_leader_has_committed_in_its_term() -> None:
    with cluster(nodes=4, spares=1, timers=PATIENT, quiet_s=20.0) as world:
        s1, removed = _two_leaders_change_the_members(world)
        assert not removed
        assert standing(world, s1.name) is Standing.VOTER
        s5 = world.hosts[-1]
        assert standing(world, s5.name) is Standing.VOTER


def test_an_early_change_is_found_when_it_is_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    changes_come_before_the_term_has_begun(monkeypatch)
    with cluster(nodes=4, spares=1, timers=PATIENT, ends_well=False) as world:
        _two_leaders_change_the_members(world)
        assert {found.invariant for found in world.judge.violations} == {"leader completeness"}
        world.judge.violations.clear()


def test_all_members_may_lose_their_files_one_after_the_other() -> None:
    with cluster() as world:
        tried = write(world, world.leader(), 20)
        world.advance(1.0)
        for host in world.hosts:
            host.kill(power=True)
            host.rejoin()
            host.start()
            world.advance(6.0)
            assert world.judge.electorate.is_settled(), f"{host.name} does not vote again"
        assert all(one.acknowledged for one in tried)
        for host in world.hosts:
            host.kill(power=True)
        for host in world.hosts:
            host.start()
        world.advance(3.0)
        assert world.leader().living.engine.state.revision >= 20


def test_an_emptied_directory_halts_and_comes_back_as_advised() -> None:
    with cluster() as world:
        world.advance(1.0)
        host = followers(world)[0]
        host.kill(power=False)
        host.empty()
        host.start()
        halted = host.halts
        world.advance(3.0)
        assert not host.is_emptied
        assert host.halts > halted
        assert not host.record.birth.founding


def test_members_are_replaced_one_by_one() -> None:
    with cluster(spares=2) as world:
        tried = write(world, world.leader(), 10)
        for spare in world.hosts[3:]:
            spare.start()
            assert (
                order(world.leader(), AddMember(replace(spare.config, standing=Standing.JOINING)))
                == []
            )
            world.advance(4.0)
            assert standing(world, spare.name) is Standing.VOTER
        for gone in world.hosts[:2]:
            while world.judge.electorate.committed.find(gone.name) is not None:
                order(world.leader(), RemoveMember(NodeName(gone.name)))
                world.advance(2.0)
            gone.kill(power=False)
        assert [host.name for host in world.members()] == ["n3", "n4", "n5"]
        world.advance(1.0)
        assert all(one.acknowledged for one in tried)


def test_one_that_was_removed_disturbs_nobody() -> None:
    with cluster(nodes=5) as world:
        leader, gone, *_ = world.leader(), *followers(world)
        term = leader.living.raft.term
        isolate(world, gone)
        order(leader, RemoveMember(NodeName(gone.name)))
        world.advance(3.0)
        reconnect(world, gone)
        world.advance(5.0)
        assert standing(world, gone.name) is None
        assert world.leader() is leader
        assert leader.living.raft.term == term
