"""Members come, go and come back while a cluster of real engines works (F11)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract_cluster import RaftCluster, failure_of, raft_cluster, soon_s, until
from replicator_contract import branch

from rendezvous_raft import errors
from rendezvous_raft.membership import AddMember, MemberConfig, RemoveMember
from rendezvous_raft.replication.raft.engine import RaftReplicator
from rendezvous_raft.replication.raft.metadata import Identity
from rendezvous_raft.replication.raft.rejoin import prepare_rejoin
from rendezvous_raft.replication.raft.snapshotting import SnapshotPolicy
from rendezvous_raft.types import NodeName, Region, Standing

pytestmark = pytest.mark.slow


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RaftCluster]:
    async with raft_cluster(tmp_path, spare_ports=1) as cluster:
        yield cluster


def newcomer(cluster: RaftCluster, standing: Standing = Standing.JOINING) -> MemberConfig:
    (port,) = cluster.spare_ports
    return MemberConfig(NodeName("n4"), Region("ap"), f"127.0.0.1:{port}", standing=standing)


def standing(engine: RaftReplicator, name: str) -> Standing | None:
    found = [m.standing for m in engine.status().members if m.name == name]
    return found[0] if found else None


async def fill(engine: RaftReplicator, first: int, count: int) -> None:
    for number in range(first, first + count):
        await engine.propose(branch(f"b{number}"), deadline_s=soon_s())


async def test_a_member_is_added_catches_up_and_votes(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    await fill(leader, 0, 50)
    change = AddMember(newcomer(cluster))
    await leader.change_membership(change, deadline_s=soon_s())
    await leader.change_membership(change, deadline_s=soon_s())  # again: nothing to do
    joined = await cluster.start_newcomer(change.member)
    await until(lambda: standing(joined, "n4") is Standing.VOTER, "the vote of n4")
    await cluster.converged()
    assert len(joined.state.state.branches) == 50
    await fill(joined, 50, 5)
    await cluster.converged()


async def test_by_a_snapshot_too(tmp_path: Path) -> None:
    policy = SnapshotPolicy(entries_kept=5)
    async with raft_cluster(tmp_path, spare_ports=1, snapshots=policy) as cluster:
        await _join_by_snapshot(cluster)


async def _join_by_snapshot(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    await fill(leader, 0, 50)
    await leader.take_snapshot()
    change = AddMember(newcomer(cluster, Standing.NON_VOTER))
    await leader.change_membership(change, deadline_s=soon_s())
    joined = await cluster.start_newcomer(change.member)
    await until(lambda: len(joined.state.state.branches) == 50, "the state")
    await until(lambda: standing(joined, "n4") is Standing.NON_VOTER, "the membership")
    assert joined.status().not_member is False


async def test_the_membership_outlives_restarts_of_all(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    change = AddMember(newcomer(cluster))
    await leader.change_membership(change, deadline_s=soon_s())
    joined = await cluster.start_newcomer(change.member)
    await until(lambda: standing(joined, "n4") is Standing.VOTER, "the vote of n4")
    await leader.take_snapshot()
    names = list(cluster.engines)
    for name in names:
        await cluster.stop(name)
    for name in names:
        await cluster.restart(name)
    leader = await cluster.leader()
    assert len(leader.status().members) == 4
    await fill(leader, 0, 3)
    await cluster.converged()


async def test_a_follower_is_removed_and_told(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    gone = (await cluster.followers())[0]
    name = gone.status().name
    await leader.change_membership(RemoveMember(name), deadline_s=soon_s())
    await until(lambda: gone.status().not_member, "the word that it is no member")
    term = leader.status().term
    await fill(leader, 0, 10)
    assert leader.status().term == term
    error = await failure_of(leader.change_membership(RemoveMember(name), deadline_s=soon_s()))
    assert isinstance(error, errors.NotFound)


async def test_the_leader_hands_over_before_it_is_removed(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    change = RemoveMember(leader.status().name)
    error = await failure_of(leader.change_membership(change, deadline_s=soon_s()))
    assert isinstance(error, errors.Unavailable)
    await cluster.leader()
    (successor,) = [e for e in cluster.engines.values() if e.status().leader == e.status().name]
    assert error.leader == successor.status().name != leader.status().name
    await successor.change_membership(change, deadline_s=soon_s())
    assert len(successor.status().members) == 2
    await until(lambda: leader.status().not_member, "the word that it is no member")


async def test_a_removal_that_would_stop_the_cluster_is_refused(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    down, up = await cluster.followers()
    await cluster.stop(down.status().name)
    await until(
        lambda: (
            not next(m.connected for m in leader.status().members if m.name == down.status().name)
        ),
        "the end of the link",
    )
    change = RemoveMember(up.status().name)
    error = await failure_of(leader.change_membership(change, deadline_s=soon_s()))
    assert isinstance(error, errors.Unavailable)
    assert "only 1 of 2 voters" in error.message
    assert len(leader.status().members) == 3


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"region": "us"}, errors.AlreadyExists),
        ({"name": "n5"}, errors.InvalidArgument),
    ],
    ids=str,
)
async def test_members_that_contradict_each_other_are_refused(
    cluster: RaftCluster, changed: dict[str, str], error: type[Exception]
) -> None:
    leader = await cluster.leader()
    member = newcomer(cluster, Standing.NON_VOTER)
    await leader.change_membership(AddMember(member), deadline_s=soon_s())
    other = MemberConfig(
        NodeName(changed.get("name", member.name)),
        Region(changed.get("region", member.region)),
        member.raft_address,
    )
    found = await failure_of(leader.change_membership(AddMember(other), deadline_s=soon_s()))
    assert isinstance(found, error)


async def test_a_follower_makes_no_changes(cluster: RaftCluster) -> None:
    follower = (await cluster.followers())[0]
    change = AddMember(newcomer(cluster))
    error = await failure_of(follower.change_membership(change, deadline_s=soon_s()))
    assert isinstance(error, errors.Unavailable)
    assert error.leader == (await cluster.leader()).status().name


async def test_a_leader_that_could_not_hand_over_was_not_removed(
    cluster: RaftCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the successor takes over is unknown; that the members are the same is not."""
    # semantics: G6
    leader = await cluster.leader()
    name = leader.status().name
    monkeypatch.setattr(leader._raft, "tell_to_stand", lambda _node: None)
    soon_enough_s = asyncio.get_running_loop().time() + 0.5
    change = RemoveMember(name)
    error = await failure_of(leader.change_membership(change, deadline_s=soon_enough_s))
    assert isinstance(error, errors.Unavailable)
    assert "the members were not changed" in str(error)
    assert standing(leader, name) is Standing.VOTER


async def test_a_node_that_lost_its_files_rejoins(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    await fill(leader, 0, 50)
    name = (await cluster.followers())[0].status().name
    await until(lambda: leader._raft.membership.is_settled(), "the incarnations of all")
    await cluster.stop(name)
    prepare_rejoin(cluster.directory_of(name), Identity("contract", name))
    back = await cluster.restart(name)
    assert not back._raft.is_voter
    await until(lambda: back._raft.is_voter, "its vote")
    await cluster.converged()
    assert len(back.state.state.branches) == 50


async def test_a_node_whose_files_were_removed_by_hand_halts(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    await until(lambda: leader._raft.membership.is_settled(), "the incarnations of all")
    name = (await cluster.followers())[0].status().name
    await cluster.stop(name)
    shutil.rmtree(cluster.directory_of(name))
    back = await cluster.restart(name)
    await until(lambda: back.status().halted is not None, "its halt")
    assert "rejoin" in (back.status().halted or "")
    await fill(leader, 0, 3)


async def test_one_that_nobody_added_waits_and_says_so(cluster: RaftCluster) -> None:
    leader = await cluster.leader()
    joined = await cluster.start_newcomer(newcomer(cluster))
    await until(lambda: joined.status().not_member, "the word that it is no member")
    await leader.change_membership(AddMember(newcomer(cluster)), deadline_s=soon_s())
    await until(lambda: standing(joined, "n4") is Standing.VOTER, "its vote")
    assert not joined.status().not_member
