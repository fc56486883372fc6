"""Use-cases of nodes over a real cluster: what one node does, the others know of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
from contract_cluster import CLOCK, RaftCluster, raft_cluster, soon_s, until
from replicator_contract import IDS, branch

from rendezvous_raft.core.commands import NewBranch, RegisterBranches, Scope
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.calls import (
    BranchIsOpen,
    Freshness,
    SubscriptionEvent,
    SubscriptionKey,
    Synced,
    WaitQuery,
)
from rendezvous_raft.node.node import Node
from rendezvous_raft.node.observer import SilentObserver
from rendezvous_raft.node.ports import Replicator
from rendezvous_raft.types import (
    BranchId,
    Consistency,
    NodeName,
    Region,
    RequestId,
    Service,
    WaitOutcome,
    Zone,
)

pytestmark = pytest.mark.slow

KEY = SubscriptionKey(Service("post"), Region("eu"), (), "")
R1 = RequestId("r1")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RaftCluster]:
    async with raft_cluster(tmp_path) as cluster:
        yield cluster


def node_over(engine: Replicator) -> Node:
    """A node that is not opened: its engine runs already, and it pulses by hand."""
    return Node(
        name=NodeName(engine.status().name),
        region=Region("eu"),
        replicator=engine,
        clock=CLOCK,
        ids=IDS,
        limits=NodeLimits(),
        observer=SilentObserver(),
    )


async def names_until(stream: AsyncGenerator[list[SubscriptionEvent]], last: str) -> list[str]:
    """Ids of branches in the order of the stream, to a certain one; `SYNCED` for the mark."""
    names: list[str] = []
    while last not in names:
        for event in await anext(stream):
            if isinstance(event, Synced):
                names.append("SYNCED")
            elif isinstance(event, BranchIsOpen):
                names.append(event.branch_id)
    return names


async def test_a_subscription_goes_on_under_the_next_leader(cluster: RaftCluster) -> None:
    # semantics: U2, U4
    leader = await cluster.leader()
    (follower, other) = await cluster.followers()
    stream = node_over(follower).subscribe(KEY)
    assert await names_until(stream, "SYNCED") == ["SYNCED"]
    await leader.propose(branch("b1"), deadline_s=soon_s())
    assert await names_until(stream, "b1") == ["b1"]
    await cluster.stop(leader.status().name)
    await cluster.leader()
    for engine, name in ((other, "b2"), (follower, "b3")):
        await engine.propose(branch(name), deadline_s=soon_s())
    assert await names_until(stream, "b3") == ["b2", "b3"]
    await stream.aclose()
    # Another node lists the same, in the same order.
    await other.read_barrier(deadline_s=soon_s())
    elsewhere = node_over(other).subscribe(KEY)
    assert await names_until(elsewhere, "SYNCED") == ["b1", "b2", "b3", "SYNCED"]
    await elsewhere.aclose()


async def test_nodes_know_of_each_others_mutual_waits(cluster: RaftCluster) -> None:
    """Two zones of a request wait for each other on two nodes; the lesser one goes on."""
    # semantics: S5, R7, R7.1
    (first, second) = await cluster.followers()
    lesser, greater = node_over(first), node_over(second)
    both = tuple(
        NewBranch(BranchId(f"in-{zone}"), Service("post"), zone=Zone(zone)) for zone in ("a", "b")
    )
    await first.propose(RegisterBranches(IDS.command_id(), R1, both, 1), deadline_s=soon_s())

    def wait(node: Node, zone: str) -> asyncio.Task[WaitOutcome]:
        async def outcome() -> WaitOutcome:
            query = WaitQuery(
                request_id=R1,
                scope=Scope(zone=Zone(zone)),
                timeout_s=30.0,
                freshness=Freshness(Consistency.LINEARIZABLE),
            )
            return (await node.wait(query, deadline_s=soon_s())).outcome

        return asyncio.create_task(outcome())

    waits = wait(lesser, "a"), wait(greater, "b")
    # In whichever order they parked: the one in the greater zone is told of, and does not mask.
    assert await waits[0] in (WaitOutcome.BLOCKED, WaitOutcome.IMMEDIATE)
    assert not waits[1].done()
    waits[1].cancel()
    await asyncio.gather(waits[1], return_exceptions=True)
    for engine in cluster.engines.values():
        await until(lambda engine=engine: not engine.state.state.leases, "no lease is left")
    # Nobody waits in zone b any more, so its branch blocks.
    again = wait(lesser, "a")
    await until(lambda: lesser.statistics().waits_in_progress == 1, "it is parked")
    await until(lambda: bool(first.state.state.leases), "it is told to all")
    assert not again.done()
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)
    await until(lambda: not first.state.state.leases, "no lease is left")
