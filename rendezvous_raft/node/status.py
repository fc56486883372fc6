"""Values that the replication port reports: who leads, who is connected, how far the log is."""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous_raft.types import NodeName, Region, Revision, Role, Standing


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A member of the cluster as this node sees it."""

    name: NodeName
    region: Region
    grpc_address: str
    http_address: str
    role: Role | None
    """None: not known."""
    connected: bool
    match_index: int
    """On the leader: last log index known to be on the member; 0 elsewhere."""
    standing: Standing = Standing.VOTER
    raft_address: str = ""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """What this node's engine knows of itself and its cluster."""

    name: NodeName
    region: Region
    role: Role
    term: int
    leader: NodeName | None
    revision: Revision
    commit_index: int
    applied_index: int
    log_entries: int
    durability: str
    """`disk` or `memory`."""
    members: tuple[MemberStatus, ...]
    halted: str | None = None
    """Why the engine has stopped for good; None while it runs."""
    disk_failed: bool = False
    """Whether it halted because the disk failed: only a new process can tell what is on it."""
    not_member: bool = False
    """Whether the leader says that this node does not belong to the cluster, or not yet."""
    unneeded_elections: int = 0
    """Elections that this node began although it could reach its leader."""
    read_only: str | None = None
    """Why no proposals are taken at present, e.g. a full disk."""
    command_version: int = 1
    """Highest version of commands that every member is known to be able to apply."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot that was written."""

    revision: Revision
    index: int
    size_bytes: int
