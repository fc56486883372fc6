"""The contract of `Replicator`, kept by the engine of a single node in memory."""

from __future__ import annotations

import pytest
from contract_cluster import CLOCK, failure_of, soon_s
from replicator_contract import Engines, ReplicatorContract

from rendezvous_raft import errors
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import MemberConfig
from rendezvous_raft.node.ports import Replicator
from rendezvous_raft.replication.local import LocalReplicator
from rendezvous_raft.types import NodeName, Region, Role

MEMBER = MemberConfig(NodeName("n1"), Region("eu"), "127.0.0.1:1")


def local() -> LocalReplicator:
    return LocalReplicator(MEMBER, limits=NodeLimits(), clock=CLOCK)


class LocalEngines(Engines):
    def inject(self, entry: bytes) -> None:
        (engine,) = self.all
        assert isinstance(engine, LocalReplicator)
        engine._apply(entry)

    async def make_closed(self) -> Replicator:
        return local()


class TestLocalReplicator(ReplicatorContract):
    @pytest.fixture
    async def engines(self) -> LocalEngines:
        engine = local()
        await engine.open()
        return LocalEngines([engine])


async def test_it_leads_itself_and_keeps_nothing() -> None:
    engine = local()
    assert engine.status().leader is None
    await engine.open()
    status = engine.status()
    assert (status.role, status.leader, status.durability) == (Role.LEADER, "n1", "memory")
    for call in (
        engine.take_snapshot(),
        engine.transfer_leadership(None, deadline_s=soon_s()),
    ):
        assert isinstance(await failure_of(call), errors.Unavailable)
    engine.report_parked([])
    assert engine.parked_elsewhere() == ()
