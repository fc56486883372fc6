"""The records of the state machine: bookkeeping only, no rules. `machine.py` alone changes them.

Order matters: replicas must be equal to the byte, so everything that is ever iterated is a `dict`
or a `list` in an order that follows from the log, never a `set`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from rendezvous_raft.core.commands import Close, NewBranch, Scope
from rendezvous_raft.core.results import Result
from rendezvous_raft.types import (
    ALL_REGIONS,
    BranchId,
    BranchKind,
    CommandId,
    LeaseId,
    MemberId,
    Region,
    RequestId,
    Revision,
    Service,
    Tag,
    Zone,
)

BRANCH_REGION_TRANSITIONS = (
    ("", "RegisterBranches", "OPEN"),
    ("OPEN", "CloseBranches", "CLOSED"),
)
"""A region of a branch: (from, command, to). `""` is not registered. CLOSED is for ever."""

REQUEST_TRANSITIONS = (
    ("", "RegisterRequest", "SETTLED"),
    ("", "RegisterBranches", "OPEN"),
    ("SETTLED", "RegisterBranches", "OPEN"),
    ("OPEN", "CloseBranches (last)", "SETTLED"),
    ("SETTLED", "ExpireRequests", "EXPIRED"),
    ("OPEN", "ExpireRequests", "EXPIRED"),
    ("EXPIRED", "ExpireRequests (tombstone)", ""),
)
"""A request: (from, command, to)."""


@dataclass(slots=True, eq=False)
class Branch:
    """One operation that becomes visible region by region."""

    branch_id: BranchId
    request_id: RequestId
    service: Service
    tag: Tag
    kind: BranchKind
    regions: tuple[Region, ...]
    """Sorted; empty unless REGIONAL."""
    zone: Zone
    parent_branch_id: BranchId
    monitored: bool
    locator: bytes
    at_ms: int
    """The proposer's wall clock."""
    revision: Revision
    """Of the registration."""
    sequence: int
    """Position in the registration order of the whole cluster."""
    open_mask: int
    """Bit i is set while `regions[i]` is open; bit 0 stands for a global or regionless branch."""
    closed_at_ms: list[int | None] | None = None
    """By region like the mask; None until the first close."""

    @property
    def slots(self) -> int:
        """How many bits of the mask are in use."""
        return len(self.regions) or 1

    def is_open_in(self, region: Region) -> bool:
        """S3: open in this region, or open and global; `""` asks for any region."""
        if not self.open_mask:
            return False
        if not region or self.kind is BranchKind.GLOBAL:
            return True
        regions = self.regions
        return region in regions and bool(self.open_mask >> regions.index(region) & 1)

    def open_regions(self) -> tuple[Region, ...]:
        """The regions where it is open; empty for a global or regionless branch."""
        if self.closed_at_ms is None:
            return self.regions
        return tuple(r for i, r in enumerate(self.regions) if self.open_mask >> i & 1)

    def has_content_of(self, new: NewBranch) -> bool:
        """Whether a registration repeats what is there (semantics G2)."""
        return (
            self.service == new.service
            and self.tag == new.tag
            and self.kind is new.kind
            and self.regions == new.regions
            and self.zone == new.zone
            and self.parent_branch_id == new.parent_branch_id
            and self.monitored == new.monitored
            and self.locator == new.locator
        )

    def bits_of(self, close: Close) -> int:
        """Bits of the mask that a close is about, or 0 if there is no such region (W4)."""
        if close.all_regions:
            return (1 << self.slots) - 1
        if not close.region:
            return 1 if self.kind is BranchKind.GLOBAL else 0
        if close.region in self.regions:
            return 1 << self.regions.index(close.region)
        return 0


@dataclass(slots=True, eq=False)
class Request:
    """The end-to-end unit. It is settled while `open_branches` is empty."""

    request_id: RequestId
    at_ms: int
    sequence: int
    """Position in the registration order of the whole cluster."""
    last_activity_ms: int
    """Cluster time of the last change."""
    branches: list[Branch] = field(default_factory=list)
    open_branches: dict[BranchId, Branch] = field(default_factory=dict)
    dependants: dict[Service, dict[Service, None]] = field(default_factory=dict)
    """Edges between services: a branch of the value was registered under one of the key."""


@dataclass(slots=True, eq=False)
class WaitLease:
    """A blocked wait that all nodes know of (semantics R7)."""

    lease_id: LeaseId
    request_id: RequestId
    node: str
    scope: Scope
    expires_ms: int
    """In cluster time."""


GroupKey: TypeAlias = tuple[Service, Region, str]
"""A subscription group: the service and region that it watches, and its name."""


@dataclass(slots=True, eq=False)
class GroupMember:
    """A subscription that shares the branches of a service and region with others (U5)."""

    member_id: MemberId
    key: GroupKey
    tags: tuple[Tag, ...]
    """What it watches; empty: every tag."""
    node: str
    expires_ms: int
    """In cluster time."""


@dataclass(slots=True, eq=False)
class Tombstone:
    """What is left of an expired request."""

    request_id: RequestId
    expired_ms: int
    """In cluster time."""
    branch_ids: tuple[BranchId, ...]


@dataclass(slots=True, eq=False)
class State:
    """Everything that is replicated."""

    revision: Revision = Revision(0)
    time_ms: int = 0
    """Cluster time: milliseconds of pulses since the cluster began."""
    version: int = 1
    """Highest command version that may be proposed."""
    request_sequence: int = 0
    branch_sequence: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    """The next number of the request ids with each prefix (`RegisterNumbered`); never goes back."""
    requests: dict[RequestId, Request] = field(default_factory=dict)
    """In registration order."""
    branches: dict[BranchId, Branch] = field(default_factory=dict)
    settled_order: dict[RequestId, None] = field(default_factory=dict)
    """Settled requests, least recently active first."""
    open_order: dict[RequestId, None] = field(default_factory=dict)
    """Open requests, least recently active first."""
    queues: dict[tuple[Service, Region], dict[BranchId, Branch]] = field(default_factory=dict)
    """Monitored open branches in registration order; global ones under region `""`."""
    leases: dict[LeaseId, WaitLease] = field(default_factory=dict)
    leases_by_request: dict[RequestId, dict[LeaseId, WaitLease]] = field(default_factory=dict)
    members: dict[MemberId, GroupMember] = field(default_factory=dict)
    """Of all groups, in the order in which they joined."""
    groups: dict[GroupKey, dict[MemberId, GroupMember]] = field(default_factory=dict)
    """Members by group; a group without members is not there."""
    tombstones: OrderedDict[RequestId, Tombstone] = field(default_factory=OrderedDict)
    """Oldest first, and the oldest goes first: see `results`."""
    expired_branches: dict[BranchId, RequestId] = field(default_factory=dict)
    results: OrderedDict[CommandId, Result] = field(default_factory=OrderedDict)
    """Answers to recent commands, oldest first. Not a `dict`: to find the first element of one, it
    steps over everything that was deleted before it, tens of thousands of places a command."""
    branches_open: int = 0
    open_by_region: dict[Region, int] = field(default_factory=dict)
    """Open branches per region; global and regionless ones under `""`."""

    def link_to_parent(self, request: Request, branch: Branch) -> None:
        """Adds the edge between services that a parent means (semantics 3.1)."""
        if branch.parent_branch_id:
            parent = self.branches[branch.parent_branch_id]
            if parent.service != branch.service:
                request.dependants.setdefault(parent.service, {})[branch.service] = None

    def count_open(self, branch: Branch) -> None:
        """Enters an open branch into the queues and counts of the regions where it is open."""
        self.branches_open += 1
        queued = branch.monitored and branch.kind is not BranchKind.REGIONLESS
        counts, queues = self.open_by_region, self.queues
        for region in branch.open_regions() or (ALL_REGIONS,):
            counts[region] = counts.get(region, 0) + 1
            if queued:
                key = (branch.service, region)
                queue = queues.get(key)
                if queue is None:
                    queue = queues[key] = {}
                queue[branch.branch_id] = branch

    def forget_open(self, branch: Branch, region: Region) -> None:
        """Takes a branch out of the queue and the count of one region."""
        left = self.open_by_region[region] - 1
        if left:
            self.open_by_region[region] = left
        else:
            del self.open_by_region[region]
        queue = self.queues.get((branch.service, region))
        if queue is not None and queue.pop(branch.branch_id, None) is not None and not queue:
            del self.queues[branch.service, region]

    def drop_request(self, request: Request) -> None:
        """Takes a request, its branches and its leases out of every index."""
        for branch in request.open_branches.values():
            for region in branch.open_regions() or (ALL_REGIONS,):
                self.forget_open(branch, region)
        self.branches_open -= len(request.open_branches)
        for branch in request.branches:
            del self.branches[branch.branch_id]
        for lease in list(self.leases_by_request.get(request.request_id, {}).values()):
            self.drop_lease(lease)
        del self.requests[request.request_id]
        self.settled_order.pop(request.request_id, None)
        self.open_order.pop(request.request_id, None)

    def add_lease(self, lease: WaitLease) -> None:
        """Enters a lease into its two indexes."""
        self.leases[lease.lease_id] = lease
        self.leases_by_request.setdefault(lease.request_id, {})[lease.lease_id] = lease

    def drop_lease(self, lease: WaitLease) -> None:
        """Takes a lease out of its two indexes."""
        del self.leases[lease.lease_id]
        of_request = self.leases_by_request[lease.request_id]
        del of_request[lease.lease_id]
        if not of_request:
            del self.leases_by_request[lease.request_id]

    def add_member(self, member: GroupMember) -> None:
        """Enters a member into its two indexes."""
        self.members[member.member_id] = member
        self.groups.setdefault(member.key, {})[member.member_id] = member

    def drop_member(self, member: GroupMember) -> None:
        """Takes a member out of its two indexes."""
        del self.members[member.member_id]
        of_group = self.groups[member.key]
        del of_group[member.member_id]
        if not of_group:
            del self.groups[member.key]

    def members_named(self, member_ids: Iterable[MemberId]) -> list[GroupMember]:
        """Those of these that are there, each once."""
        members = self.members
        return [members[name] for name in dict.fromkeys(member_ids) if name in members]

    def add_tombstone(self, tombstone: Tombstone) -> None:
        """Enters a tombstone and its branch ids."""
        self.tombstones[tombstone.request_id] = tombstone
        for branch_id in tombstone.branch_ids:
            self.expired_branches[branch_id] = tombstone.request_id

    def drop_tombstone(self, tombstone: Tombstone) -> None:
        """Forgets a tombstone and its branch ids."""
        del self.tombstones[tombstone.request_id]
        for branch_id in tombstone.branch_ids:
            del self.expired_branches[branch_id]

    def drop_tombstones(self, before_ms: int) -> None:
        """Forgets the tombstones of requests that expired at `before_ms` or earlier."""
        old: list[Tombstone] = []
        for tombstone in self.tombstones.values():
            if tombstone.expired_ms > before_ms:
                break
            old.append(tombstone)
        for tombstone in old:
            self.drop_tombstone(tombstone)
