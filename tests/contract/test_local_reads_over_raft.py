"""Waits and checks of a follower that carry a revision cost the leader nothing (G3.2, R5).

Counted twice: by the node's own metric, and by every message that its links take for the leader.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from contract_cluster import CLOCK, RaftCluster, raft_cluster, soon_s, until
from replicator_contract import IDS

from rendezvous_raft.core.commands import Close, CloseBranches, NewBranch, RegisterBranches, Scope
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.calls import DescriptionQuery, Freshness, WaitQuery
from rendezvous_raft.node.node import Node
from rendezvous_raft.node.observer import SilentObserver
from rendezvous_raft.observability.metrics import EngineMetrics, MetricsRegistry
from rendezvous_raft.replication.raft.engine import RaftReplicator
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    Consistency,
    NodeName,
    Region,
    RequestId,
    Revision,
    Service,
    Status,
    WaitOutcome,
    Zone,
)

pytestmark = pytest.mark.slow

R1 = RequestId("r1")
EU = Scope(region=Region("eu"))
OF_RAFT = (
    *("append_reply", "snapshot_reply", "stale", "join"),
    *("pre_vote", "vote", "pre_vote_reply", "vote_reply"),
)
"""What members say to each other whether anybody waits or not: answers to heartbeats and entries,
and elections, which a machine that is busy with other things may hold."""
CALLS = 25


class Follower:
    """A follower with a node on top, and everything that it sends to its leader."""

    def __init__(self, engine: RaftReplicator, leader: str) -> None:
        self.engine = engine
        self.registry = MetricsRegistry()
        engine._to_leader._observer = EngineMetrics(self.registry)
        self.sent: Counter[str] = Counter()
        self._send = engine._links.send

        def send(node: Any, message: Any) -> bool:
            if node.id == leader and message["type"] not in OF_RAFT:
                self.sent[message["type"]] += 1
            return bool(self._send(node, message))

        engine._links.send = send  # type: ignore[method-assign]
        self.node = Node(
            name=NodeName(engine.status().name),
            region=Region("eu"),
            replicator=engine,
            clock=CLOCK,
            ids=IDS,
            limits=NodeLimits(),
            observer=SilentObserver(),
        )

    def counted(self) -> dict[str, float]:
        """The metric by kind."""
        lines = self.registry.render().decode().splitlines()
        prefix = 'rendezvous_raft_messages_to_leader_total{kind="'
        found = (line.removeprefix(prefix) for line in lines if line.startswith(prefix))
        return {line.partition('"')[0]: float(line.split()[-1]) for line in found}

    def asked(self) -> tuple[dict[str, float], Counter[str]]:
        return self.counted(), Counter(self.sent)

    async def wait(self, freshness: Freshness, scope: Scope = EU) -> WaitOutcome:
        query = WaitQuery(R1, scope, timeout_s=30.0, freshness=freshness)
        return (await self.node.wait(query, deadline_s=soon_s())).outcome

    async def check(self, freshness: Freshness) -> Status:
        answer = await self.node.check(
            R1, EU, detailed=True, freshness=freshness, deadline_s=soon_s()
        )
        return answer.status


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RaftCluster]:
    async with raft_cluster(tmp_path) as cluster:
        yield cluster


def opening(name: str, request_id: RequestId = R1) -> RegisterBranches:
    place = {"kind": BranchKind.REGIONAL, "regions": (Region("eu"),)}
    new = NewBranch(BranchId(name), Service("post"), **place)
    return RegisterBranches(IDS.command_id(), request_id, (new,), 1)


def closing(name: str) -> CloseBranches:
    return CloseBranches(IDS.command_id(), (Close(BranchId(name), Region("eu")),), 1)


async def test_a_wait_on_a_follower_with_a_revision_sends_no_message_to_the_leader(
    cluster: RaftCluster,
) -> None:
    # semantics: G3.2, R5, R7
    leader = await cluster.leader()
    engine = (await cluster.followers())[0]
    applied = await leader.propose(opening("b1"), deadline_s=soon_s())
    follower = Follower(engine, leader.status().name)
    session = Freshness(Consistency.SESSION, applied.revision)

    assert await follower.check(session) is Status.OPEN
    waits = [asyncio.create_task(follower.wait(session)) for _ in range(CALLS)]
    await until(lambda: follower.node.statistics().waits_in_progress == CALLS, "all are parked")
    checks = await asyncio.gather(*(follower.check(session) for _ in range(CALLS)))
    assert checks == [Status.OPEN] * CALLS
    described = DescriptionQuery(R1, EU, freshness=session)
    assert len((await follower.node.describe(described, deadline_s=soon_s())).waiters) == CALLS

    # Another node closes the branch. The one whose waits are released is told by the log alone.
    closed = await leader.propose(closing("b1"), deadline_s=soon_s())
    assert await asyncio.gather(*waits) == [WaitOutcome.BLOCKED] * CALLS
    # Also a wait that the node is not new enough for at first only waits.
    newer = Freshness(Consistency.SESSION, Revision(closed.revision + 1))
    late = asyncio.create_task(follower.wait(newer))
    await leader.propose(opening("elsewhere", RequestId("r2")), deadline_s=soon_s())
    assert await late is WaitOutcome.IMMEDIATE
    assert follower.asked() == ({}, Counter())


async def test_what_does_cost_the_leader_something_is_counted(cluster: RaftCluster) -> None:
    """So the test above would see it: linearizable reads, writes, mutual waits, reports."""
    # semantics: G3.3, R7, 5.2
    leader = await cluster.leader()
    engine = (await cluster.followers())[0]
    follower = Follower(engine, leader.status().name)
    linearizable = Freshness(Consistency.LINEARIZABLE)

    await engine.propose(opening("b1"), deadline_s=soon_s())
    assert follower.asked() == ({"proposals": 1}, Counter(forward=1))

    assert await follower.check(linearizable) is Status.OPEN
    assert follower.counted()["read_index"] >= 1  # one that is not answered at once asks again
    assert follower.sent["read"] == follower.counted()["read_index"]

    # All linearizable reads of a turn share one message.
    before = follower.sent["read"]
    await asyncio.gather(*(follower.check(linearizable) for _ in range(CALLS)))
    assert 1 <= follower.sent["read"] - before < CALLS

    # A blocked wait that takes part in mutual waits is told to all, by a lease.
    proposals = follower.sent["forward"]
    scope = Scope(services=(Service("post"),), zone=Zone("z"), waiter_service=Service("reader"))
    mutual = asyncio.create_task(
        follower.wait(Freshness(Consistency.SESSION, engine.state.revision), scope)
    )
    await until(lambda: bool(engine.state.state.leases), "the lease")
    assert follower.sent["forward"] > proposals

    # Which requests are waited for is told once a second for all of them, not for each wait.
    engine.report_parked([R1] * CALLS)
    assert (follower.counted()["parked"], follower.sent["parked"]) == (1, 1)
    mutual.cancel()
    await asyncio.gather(mutual, return_exceptions=True)
    await until(lambda: not engine.state.state.leases, "no lease is left")


async def test_a_leader_sends_itself_nothing(cluster: RaftCluster) -> None:
    # semantics: G3.3
    leader = await cluster.leader()
    node = Follower(leader, leader.status().name)
    await leader.propose(opening("b1"), deadline_s=soon_s())
    assert await node.check(Freshness(Consistency.LINEARIZABLE)) is Status.OPEN
    assert node.asked() == ({}, Counter())
