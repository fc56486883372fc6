"""Groups over a real cluster: members on several nodes divide what is open (semantics U5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from contract_cluster import CLOCK, RaftCluster, raft_cluster, soon_s, until
from replicator_contract import IDS

from rendezvous_raft.core.commands import (
    GROUPS_VERSION,
    ActivateVersion,
    NewBranch,
    RegisterBranches,
)
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.calls import BranchIsOpen, SubscriptionKey, Synced
from rendezvous_raft.node.node import Node
from rendezvous_raft.node.observer import SilentObserver
from rendezvous_raft.replication.raft.engine import RaftReplicator
from rendezvous_raft.types import BranchId, NodeName, Region, RequestId, Service

pytestmark = pytest.mark.slow

KEY = SubscriptionKey(Service("post"), Region("eu"), (), "g")
LIMITS = NodeLimits(lease_ttl_ms=1_500, pulse_interval_ms=100)
"""A dead node is found out soon, and a busy machine is not taken for one."""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RaftCluster]:
    async with raft_cluster(tmp_path) as cluster:
        yield cluster


@asynccontextmanager
async def pulsing_nodes(cluster: RaftCluster) -> AsyncIterator[dict[str, Node]]:
    """A node over each engine, that pulses; the engines run already."""
    nodes = {name: node_over(engine) for name, engine in cluster.engines.items()}
    pulses = [asyncio.create_task(node._expiry.run()) for node in nodes.values()]
    try:
        yield nodes
    finally:
        for pulse in pulses:
            pulse.cancel()
        await asyncio.gather(*pulses, return_exceptions=True)
        for node in nodes.values():
            node.begin_drain()
            await node._groups.close()


def node_over(engine: RaftReplicator) -> Node:
    return Node(
        name=NodeName(engine.status().name),
        region=Region("eu"),
        replicator=engine,
        clock=CLOCK,
        ids=IDS,
        limits=LIMITS,
        observer=SilentObserver(),
    )


class Watcher:
    """Reads a member's stream in the background."""

    def __init__(self, node: Node) -> None:
        self.told: list[str] = []
        self.synced = False
        self.task = asyncio.create_task(self._read(node))

    async def _read(self, node: Node) -> None:
        stream = node.subscribe(KEY)
        try:
            async for batch in stream:
                self.told += [e.branch_id for e in batch if isinstance(e, BranchIsOpen)]
                self.synced = self.synced or any(isinstance(event, Synced) for event in batch)
        finally:
            await stream.aclose()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def names(prefix: str, count: int = 60) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


async def open_all(engine: RaftReplicator, ids: list[str]) -> None:
    branches = tuple(NewBranch(BranchId(name), Service("post")) for name in ids)
    command = RegisterBranches(IDS.command_id(), RequestId("r1"), branches, 1)
    await engine.propose(command, deadline_s=soon_s())


async def watching(cluster: RaftCluster, *nodes: Node) -> list[Watcher]:
    """A member on each node, of which every replica knows."""
    watchers = [Watcher(node) for node in nodes]
    for engine in cluster.engines.values():
        members = engine.state.state.members
        await until(lambda members=members: len(members) == len(nodes), "all are members")
    await until(lambda: all(watcher.synced for watcher in watchers), "all have their list")
    return watchers


async def test_the_leader_activates_what_every_member_says_it_knows(cluster: RaftCluster) -> None:
    # semantics: U5
    leader = await cluster.leader()
    assert leader.status().command_version == GROUPS_VERSION
    assert leader.state.state.version == 1
    async with pulsing_nodes(cluster):
        for engine in cluster.engines.values():
            await until(
                lambda engine=engine: engine.state.state.version == GROUPS_VERSION, "it is active"
            )


async def test_a_member_that_is_down_has_not_said_so(cluster: RaftCluster) -> None:
    """It may come back as an older program, which halts on what newer commands bring."""
    # semantics: U5
    leader = await cluster.leader()
    gone = (await cluster.followers())[0].status().name
    await until(lambda: leader.status().command_version == GROUPS_VERSION, "all have said so")
    await cluster.stop(gone)
    await until(lambda: leader.status().command_version == 1, "the word of one is missing")
    await cluster.restart(gone)
    await until(lambda: leader.status().command_version == GROUPS_VERSION, "it has said so again")


async def test_a_member_that_has_not_said_so_keeps_the_cluster_at_its_version(
    cluster: RaftCluster,
) -> None:
    """A node of an older version greets without a word about commands."""
    # semantics: U5, U5.3
    leader = await cluster.leader()
    (first, _) = await cluster.followers()
    leader._raft.greeted(leader._raft.peers[0], first._raft.birth, 1)
    assert leader.status().command_version == 1
    async with pulsing_nodes(cluster) as nodes:
        pair = [Watcher(node) for node in list(nodes.values())[:2]]
        await until(lambda: all(watcher.synced for watcher in pair), "both have their list")
        await open_all(leader, names("b"))
        await until(lambda: all(len(w.told) == 60 for w in pair), "both have all of it")
        assert leader.state.state.version == 1
        assert not leader.state.state.members
        for watcher in pair:
            await watcher.stop()


async def test_two_members_divide_until_one_leaves(cluster: RaftCluster) -> None:
    # semantics: U5, U5.1
    leader = await cluster.leader()
    (first, second) = await cluster.followers()
    await leader.propose(ActivateVersion(IDS.command_id(), GROUPS_VERSION), deadline_s=soon_s())
    async with pulsing_nodes(cluster) as nodes:
        one, other = await watching(
            cluster, nodes[first.status().name], nodes[second.status().name]
        )
        await open_all(leader, names("b"))
        await until(lambda: len(one.told) + len(other.told) == 60, "each branch is with one")
        assert set(one.told).isdisjoint(other.told)
        assert min(len(one.told), len(other.told)) >= 15
        await cluster.converged()
        await other.stop()
        await until(lambda: len(one.told) == 60, "the heir has all")
        assert sorted(one.told) == sorted(names("b"))
        await until(lambda: len(leader.state.state.members) == 1, "one has left")
        await one.stop()
        await until(lambda: not leader.state.state.members, "all have left")


@pytest.mark.parametrize("whose", ["leader", "follower"])
async def test_what_a_dead_node_watched_goes_to_the_others(
    cluster: RaftCluster, whose: str
) -> None:
    # semantics: U2, U4, U5, U5.1, U5.2
    leader = await cluster.leader()
    (first, second) = await cluster.followers()
    victim, survivor = (leader if whose == "leader" else first), second
    await leader.propose(ActivateVersion(IDS.command_id(), GROUPS_VERSION), deadline_s=soon_s())
    async with pulsing_nodes(cluster) as nodes:
        dying, living = await watching(
            cluster, nodes[victim.status().name], nodes[survivor.status().name]
        )
        await open_all(leader, names("b"))
        await until(lambda: len(dying.told) + len(living.told) == 60, "each branch is with one")
        assert living.told
        assert dying.told
        await cluster.stop(victim.status().name)
        await cluster.leader()
        await until(lambda: set(living.told) == set(names("b")), "the survivor has all")
        assert len(living.told) == 60
        await open_all(survivor, names("c"))
        await until(lambda: len(living.told) == 120, "the survivor has what is new")
        for watcher in (living, dying):
            await watcher.stop()
