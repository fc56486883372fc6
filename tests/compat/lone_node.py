"""A node over a scripted replicator, for what takes virtual time."""

from __future__ import annotations

from rendezvous_raft.core.commands import NewBranch, RegisterBranches
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.node import Node
from rendezvous_raft.node.observer import SilentObserver
from rendezvous_raft.node.system import RandomIds
from rendezvous_raft.testing.fake_clock import LoopClock
from rendezvous_raft.testing.fake_replicator import FakeReplicator
from rendezvous_raft.types import BranchId, BranchKind, NodeName, Region, RequestId, Service, Tag


class LoneNode:
    """The node, and what the cluster does without it."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.engine = FakeReplicator(self.clock)
        self.node = Node(
            name=NodeName("n1"),
            region=Region("eu"),
            replicator=self.engine,
            clock=self.clock,
            ids=RandomIds(),
            limits=NodeLimits(),
            observer=SilentObserver(),
            early_release=True,
        )

    def register(self, branch_id: str, rid: str) -> None:
        """A branch of the service `post`, open in `eu`."""
        eu = (Region("eu"),)
        branch = NewBranch(BranchId(branch_id), Service("post"), Tag(""), BranchKind.REGIONAL, eu)
        command_id = self.node.ids.command_id()
        self.engine.commit_elsewhere(RegisterBranches(command_id, RequestId(rid), (branch,), 0))
