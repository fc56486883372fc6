"""The contract of `Replicator`, kept by three members with real sockets and disks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract_cluster import CLOCK, RaftCluster, raft_cluster
from replicator_contract import Engines, ReplicatorContract

from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.membership import MemberConfig, RaftTimers
from rendezvous_raft.node.ports import Replicator
from rendezvous_raft.replication.observer import SilentEngineObserver
from rendezvous_raft.replication.raft.engine import RaftReplicator
from rendezvous_raft.types import NodeName, Region, Role

pytestmark = pytest.mark.slow


class RaftEngines(Engines):
    def __init__(self, cluster: RaftCluster, directory: Path, *, follower_first: bool) -> None:
        engines = sorted(
            cluster.engines.values(),
            key=lambda engine: (engine.status().role is Role.LEADER) is follower_first,
        )
        super().__init__(engines)
        self._directory = directory

    def inject(self, entry: bytes) -> None:
        for engine in self.all:
            assert isinstance(engine, RaftReplicator)
            if engine.status().role is Role.LEADER:
                engine._raft.propose(entry)
                engine.wake()

    async def make_closed(self) -> Replicator:
        member = MemberConfig(NodeName("n1"), Region("eu"), "127.0.0.1:1")
        return RaftReplicator(
            self_name=member.name,
            members=[member],
            cluster_id="closed",
            data_dir=self._directory / "closed",
            timers=RaftTimers.lan(),
            limits=NodeLimits(),
            clock=CLOCK,
            observer=SilentEngineObserver(),
        )


class TestRaftReplicatorOfTheLeader(ReplicatorContract):
    @pytest.fixture
    async def engines(self, tmp_path: Path) -> AsyncIterator[RaftEngines]:
        async with raft_cluster(tmp_path) as cluster:
            yield RaftEngines(cluster, tmp_path, follower_first=False)


class TestRaftReplicatorOfAFollower(ReplicatorContract):
    @pytest.fixture
    async def engines(self, tmp_path: Path) -> AsyncIterator[RaftEngines]:
        async with raft_cluster(tmp_path) as cluster:
            yield RaftEngines(cluster, tmp_path, follower_first=True)


class TestRaftReplicatorAlone(ReplicatorContract):
    @pytest.fixture
    async def engines(self, tmp_path: Path) -> AsyncIterator[RaftEngines]:
        async with raft_cluster(tmp_path, size=1) as cluster:
            yield RaftEngines(cluster, tmp_path, follower_first=False)


class TestRaftReplicatorOverTls(ReplicatorContract):
    @pytest.fixture
    async def engines(self, tmp_path: Path) -> AsyncIterator[RaftEngines]:
        async with raft_cluster(tmp_path, tls=True) as cluster:
            yield RaftEngines(cluster, tmp_path, follower_first=True)
