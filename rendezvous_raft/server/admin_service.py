"""`rendezvous.v1.AdminService`: what operators ask of a node."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as pb
from rendezvous_raft.membership import AddMember, MemberConfig, RemoveMember
from rendezvous_raft.server import answers
from rendezvous_raft.server.fields import (
    check_address,
    check_given_name,
    check_name,
    check_node_name,
)
from rendezvous_raft.types import NodeName, Region, Revision, Standing

if TYPE_CHECKING:
    from rendezvous_raft.node.node import Node
    from rendezvous_raft.server.interceptors import Call

SERVICE = "rendezvous.v1.AdminService"


class AdminService:
    """The state of a node and its cluster, and orders to the node asked."""

    def __init__(self, node: Node, *, version: str) -> None:
        self._node = node
        self._version = version

    async def get_cluster_status(
        self, request: pb.GetClusterStatusRequest, call: Call
    ) -> pb.GetClusterStatusResponse:
        """What the node knows; never blocks."""
        del request, call
        return answers.cluster_status(
            self._node.status(), self._node.statistics(), version=self._version, pid=os.getpid()
        )

    async def get_digest(self, request: pb.GetDigestRequest, call: Call) -> pb.GetDigestResponse:
        """The digest of the state at a revision."""
        revision, digest = await self._node.digest(
            Revision(request.min_revision), deadline_s=call.deadline_s
        )
        return pb.GetDigestResponse(revision=revision, digest=digest)

    async def take_snapshot(
        self, request: pb.TakeSnapshotRequest, call: Call
    ) -> pb.TakeSnapshotResponse:
        """Writes a snapshot."""
        del request, call
        info = await self._node.take_snapshot()
        return pb.TakeSnapshotResponse(
            revision=info.revision, index=info.index, size_bytes=info.size_bytes
        )

    async def transfer_leadership(
        self, request: pb.TransferLeadershipRequest, call: Call
    ) -> pb.TransferLeadershipResponse:
        """Hands leadership over."""
        target = NodeName(check_name(request.target, "target")) or None
        successor = await self._node.transfer_leadership(target, deadline_s=call.deadline_s)
        return pb.TransferLeadershipResponse(target=successor)

    async def add_member(self, request: pb.AddMemberRequest, call: Call) -> pb.AddMemberResponse:
        """Adds a member."""
        member = MemberConfig(
            name=NodeName(check_node_name(request.name, "name")),
            region=Region(check_given_name(request.region, "region")),
            raft_address=check_address(request.raft_address, "raft_address"),
            grpc_address=check_address(request.grpc_address, "grpc_address"),
            http_address=check_address(request.http_address, "http_address"),
            standing=Standing.NON_VOTER if request.non_voter else Standing.JOINING,
        )
        await self._node.change_membership(AddMember(member), deadline_s=call.deadline_s)
        return pb.AddMemberResponse()

    async def remove_member(
        self, request: pb.RemoveMemberRequest, call: Call
    ) -> pb.RemoveMemberResponse:
        """Removes a member."""
        change = RemoveMember(NodeName(check_node_name(request.name, "name")))
        await self._node.change_membership(change, deadline_s=call.deadline_s)
        return pb.RemoveMemberResponse()
