"""The contract of `Replicator`, kept by members of the simulated log that tests run nodes over."""

from __future__ import annotations

import pytest
from contract_cluster import CLOCK
from replicator_contract import Engines, ReplicatorContract

from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.ports import Replicator
from rendezvous_raft.testing.agreed_log import AgreedLog, LogReplicator, soon_on_the_running_loop

NAMES = ("n1", "n2", "n3")


def member(log: AgreedLog, name: str) -> LogReplicator:
    return LogReplicator(log, name, clock=CLOCK, limits=NodeLimits(), post=soon_on_the_running_loop)


class AgreedLogEngines(Engines):
    def __init__(self, log: AgreedLog, members: list[LogReplicator]) -> None:
        super().__init__(members)
        self.log = log

    def inject(self, entry: bytes) -> None:
        self.log.waiting.append(entry)
        self.log.commit()

    async def make_closed(self) -> Replicator:
        return member(AgreedLog(NAMES, soon_on_the_running_loop), "n1")


class TestLogReplicator(ReplicatorContract):
    @pytest.fixture
    async def engines(self) -> AgreedLogEngines:
        log = AgreedLog(NAMES, soon_on_the_running_loop)
        members = [member(log, name) for name in NAMES]
        for each in members:
            await each.open()
        return AgreedLogEngines(log, members)
