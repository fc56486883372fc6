"""What a member knows of itself and its cluster, as a value."""

from __future__ import annotations

from pysyncobj.node import Node

from rendezvous_raft import errors
from rendezvous_raft.membership import MemberConfig, Membership
from rendezvous_raft.node.status import ClusterStatus, MemberStatus
from rendezvous_raft.replication.raft.guard import CANDIDATE, LEADER
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.types import NodeName, Revision, Role


def cluster_status(
    revision: Revision,
    member: MemberConfig,
    founders: Membership,
    raft: Raft | None,
    *,
    halted: str | None,
    disk_failed: bool,
    not_member: bool,
    unneeded_elections: int,
    read_only: str | None,
) -> ClusterStatus:
    """The status of `member`; with no Raft, of one that has not started."""
    role, leader = Role.FOLLOWER, None
    membership = founders if raft is None else raft.membership
    if raft is not None:
        role = {LEADER: Role.LEADER, CANDIDATE: Role.CANDIDATE}.get(raft.role_code, role)
        leader = raft.leader_name()
    return ClusterStatus(
        name=member.name,
        region=member.region,
        role=role,
        term=raft.term if raft else 0,
        leader=None if leader is None else NodeName(leader),
        revision=revision,
        commit_index=raft.commit_index if raft else 0,
        applied_index=raft.last_applied if raft else 0,
        log_entries=len(raft.log) - 1 if raft else 0,
        durability="disk",
        members=tuple(_member_status(other, member, role, raft) for other in membership.members),
        halted=halted,
        disk_failed=disk_failed,
        not_member=not_member or membership.find(member.name) is None,
        unneeded_elections=unneeded_elections,
        read_only=read_only,
        command_version=raft.command_version() if raft else 1,
    )


def why_nothing_is_sent(
    name: str, leader: str | None, *, halted: str | None, read_only: str | None
) -> errors.RendezvousError:
    """Why the proposals of `name` wait: what their callers are told when their time is over."""
    if halted is not None:
        return errors.NotReady(f"the node has halted: {halted}")
    if read_only is not None:
        return errors.ReadOnly(
            f"the disk of {name} is full, ask another node: {read_only}", leader=leader
        )
    if leader is None:
        return errors.NoLeader("no leader is known; nothing was proposed")
    if leader != name:
        return errors.Unavailable(
            f"the leader {leader} cannot be reached from here, or is too slow for what is sent; "
            "nothing was proposed",
            leader=leader,
        )
    return errors.Overloaded("the proposal waited too long for its turn; nothing was proposed")


def _member_status(
    other: MemberConfig, member: MemberConfig, own_role: Role, raft: Raft | None
) -> MemberStatus:
    """What `member`, in its own role, knows of `other`."""
    role: Role | None = None
    connected, match_index = False, 0
    if other.name == member.name:
        role, connected = own_role, True
        if raft is not None and raft.is_leader:
            match_index = raft.log.durable_index()
    elif raft is not None:
        node = Node(other.name)
        connected = raft.links.is_open(node)
        if other.name == raft.leader_name():
            role = Role.LEADER
        elif raft.is_leader:
            role, match_index = Role.FOLLOWER, raft.match_index.get(node, 0)
    return MemberStatus(
        name=other.name,
        region=other.region,
        grpc_address=other.grpc_address,
        http_address=other.http_address,
        role=role,
        connected=connected,
        match_index=match_index,
        standing=other.standing,
        raft_address=other.raft_address,
    )
