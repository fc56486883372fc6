"""The semantics once more, in the most naive way: sets that are searched from end to end.

What the state machine keeps in masks, queues, orders and counts, this model computes again for
every question from a handful of sets and lists. It is slow, and meant to be read beside
docs/semantics-rules.txt: a test that finds the two in disagreement has found a fault in one of
them. It knows no limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rendezvous_raft.core import commands as c
from rendezvous_raft.core import results as r
from rendezvous_raft.core.results import CloseOutcome, Reason
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    CommandId,
    LeaseId,
    MemberId,
    Region,
    RequestId,
    Service,
    Status,
    Tag,
    Zone,
)

EVERYWHERE = Region("")
"""In the set of open pairs: the one place of a global or regionless branch."""
REMEMBERED = c.RegisterRequest | c.RegisterBranches | c.RegisterNumbered | c.CloseBranches | c.Pulse


@dataclass
class NaiveModel:
    """Facts in sets and lists; every method searches them all."""

    results_max: int = 65_536
    revision: int = 0
    time_ms: int = 0
    version: int = 1
    alive: dict[RequestId, int] = field(default_factory=dict)
    """Requests, with the time of their last activity; the most recently active one is last."""
    registered: list[RequestId] = field(default_factory=list)
    """Living requests in registration order."""
    branches: list[tuple[RequestId, c.NewBranch]] = field(default_factory=list)
    """In registration order."""
    open: set[tuple[BranchId, Region]] = field(default_factory=set)
    expired: list[tuple[RequestId, int, set[BranchId]]] = field(default_factory=list)
    leases: dict[LeaseId, tuple[c.BeginWait, int]] = field(default_factory=dict)
    """With the cluster time at which each ends."""
    members: dict[MemberId, tuple[c.JoinGroup, int]] = field(default_factory=dict)
    """Of subscription groups, with the cluster time at which each ends."""
    numbers: dict[str, int] = field(default_factory=dict)
    """By prefix: how many request numbers are used up."""
    answered: list[tuple[CommandId, r.Result]] = field(default_factory=list)

    # Commands

    def apply(self, command: c.Command) -> r.Result:
        """The answer that the state machine has to give."""
        self.revision += 1
        for command_id, first in self.answered:
            if command_id == command.command_id:
                return first
        result = self._answer(command)
        if isinstance(command, REMEMBERED):
            self.answered = [*self.answered, (command.command_id, result)][-self.results_max :]
        return result

    def _answer(self, command: c.Command) -> r.Result:
        match command:
            case c.RegisterRequest(request_id=request_id):
                if self.has_expired(request_id):
                    return r.Rejected(Reason.REQUEST_EXPIRED, request_id)
                return r.RequestRegistered(request_id, self._create(request_id))
            case c.RegisterBranches():
                return self._register(command)
            case c.RegisterNumbered():
                return self._register_numbered(command)
            case c.CloseBranches():
                return r.BranchesClosed(tuple(self._close(close) for close in command.closes))
            case c.BeginWait():
                return self._begin_wait(command)
            case c.EndWait():
                return r.LeaseChanged(self.leases.pop(command.lease_id, None) is not None)
            case c.JoinGroup() | c.RenewMembers() | c.LeaveGroups():
                return self._change_members(command)
            case c.Pulse():
                self.time_ms += max(0, command.elapsed_ms)
                self.leases = {k: v for k, v in self.leases.items() if v[1] > self.time_ms}
                self.members = {k: v for k, v in self.members.items() if v[1] > self.time_ms}
                return r.TimeAdvanced(self.time_ms)
            case c.ExpireRequests():
                return self._expire(command)
            case c.ActivateVersion():
                self.version = max(self.version, command.version)
                return r.VersionActivated(self.version)
            case c.Barrier():
                return r.Nothing()

    def _register_numbered(self, command: c.RegisterNumbered) -> r.Result:
        """Ids by counting: 5.4."""
        request_id, used = command.request_id, self.numbers.get(command.prefix, 0)
        if not request_id:
            taken = {*self.alive, *(gone for gone, _, _ in self.expired)}
            while f"{command.prefix}_{used}" in taken:
                used += 1
            request_id = RequestId(f"{command.prefix}_{used}")
            used += 1
        chosen = {f"{new.branch_id}:{request_id}" for new in command.branches if new.branch_id}
        chosen |= {branch.branch_id for _, branch in self.branches}
        number = sum(owner == request_id for owner, _ in self.branches)
        named = []
        for new in command.branches:
            own = new.branch_id
            while not own:
                candidate, number = BranchId(f"{command.prefix}_{number}"), number + 1
                own = candidate if f"{candidate}:{request_id}" not in chosen else BranchId("")
            named.append(replace(new, branch_id=BranchId(f"{own}:{request_id}")))
        plain = (
            c.RegisterBranches(command.command_id, request_id, tuple(named), command.at_ms)
            if named
            else c.RegisterRequest(command.command_id, request_id, command.at_ms)
        )
        result = self._answer(plain)
        if not command.request_id and not isinstance(result, r.Rejected):
            self.numbers[command.prefix] = used
        return result

    def _create(self, request_id: RequestId) -> bool:
        if request_id in self.alive:
            return False
        self.alive[request_id] = self.time_ms
        self.registered.append(request_id)
        return True

    def _touch(self, request_id: RequestId) -> None:
        del self.alive[request_id]
        self.alive[request_id] = self.time_ms

    def _register(self, command: c.RegisterBranches) -> r.Result:
        request_id = command.request_id
        if self.has_expired(request_id):
            return r.Rejected(Reason.REQUEST_EXPIRED, request_id)
        known = {branch.branch_id: (owner, branch) for owner, branch in self.branches}
        fresh = []
        for branch in command.branches:
            if branch.branch_id in known:
                if known[branch.branch_id] != (request_id, branch):
                    return r.Rejected(Reason.BRANCH_CONFLICT, branch.branch_id)
                continue
            for expired_id, _, branch_ids in self.expired:
                if branch.branch_id in branch_ids:
                    return r.Rejected(Reason.REQUEST_EXPIRED, expired_id)
            if branch.parent_branch_id:
                for expired_id, _, branch_ids in self.expired:
                    if branch.parent_branch_id in branch_ids:
                        return r.Rejected(Reason.REQUEST_EXPIRED, expired_id)
                if branch.parent_branch_id not in known:
                    return r.Rejected(Reason.PARENT_UNKNOWN, branch.parent_branch_id)
                if known[branch.parent_branch_id][0] != request_id:
                    return r.Rejected(Reason.PARENT_OF_OTHER_REQUEST, branch.parent_branch_id)
            known[branch.branch_id] = (request_id, branch)
            fresh.append(branch)
        self._create(request_id)
        for branch in fresh:
            self.branches.append((request_id, branch))
            self.open |= {(branch.branch_id, region) for region in places(branch)}
            self._touch(request_id)
        asked = tuple(branch.branch_id for branch in command.branches)
        return r.BranchesRegistered(request_id, asked, already_existed=not fresh)

    def _close(self, close: c.Close) -> CloseOutcome:
        found = [pair for pair in self.branches if pair[1].branch_id == close.branch_id]
        if not found:
            if any(close.branch_id in branch_ids for _, _, branch_ids in self.expired):
                return CloseOutcome.REQUEST_EXPIRED
            return CloseOutcome.BRANCH_UNKNOWN
        ((request_id, branch),) = found
        if close.all_regions:
            meant = {(branch.branch_id, region) for region in places(branch)}
        elif branch.kind is BranchKind.REGIONLESS or close.region not in places(branch):
            return CloseOutcome.REGION_NOT_OF_BRANCH
        else:
            meant = {(branch.branch_id, close.region)}
        if not meant & self.open:
            return CloseOutcome.ALREADY_CLOSED
        self.open -= meant
        self._touch(request_id)
        return CloseOutcome.CLOSED

    def _begin_wait(self, command: c.BeginWait) -> r.Result:
        known = command.lease_id in self.leases
        if not known and self.has_expired(command.request_id):
            return r.Rejected(Reason.REQUEST_EXPIRED, command.request_id)
        begun, ends_ms = self.leases.get(command.lease_id, (command, self.time_ms + command.ttl_ms))
        self.leases[command.lease_id] = (begun, max(ends_ms, self.time_ms + command.ttl_ms))
        return r.LeaseChanged(known)

    def _change_members(
        self, command: c.JoinGroup | c.RenewMembers | c.LeaveGroups
    ) -> r.MembersChanged:
        match command:
            case c.JoinGroup(member_id=member_id):
                named = {member_id}
            case c.RenewMembers(member_ids=member_ids) | c.LeaveGroups(member_ids=member_ids):
                named = set(member_ids)
        known = named & self.members.keys()
        if isinstance(command, c.LeaveGroups):
            self.members = {k: v for k, v in self.members.items() if k not in named}
        else:
            ends_ms = self.time_ms + command.ttl_ms
            for member_id in known:
                joined, before_ms = self.members[member_id]
                self.members[member_id] = (joined, max(before_ms, ends_ms))
            if isinstance(command, c.JoinGroup) and not known:
                self.members[command.member_id] = (command, ends_ms)
        return r.MembersChanged(len(known))

    def _expire(self, command: c.ExpireRequests) -> r.Result:
        left = max(0, command.requests_max)
        counts = {}
        for status, ttl_ms in (
            (Status.CLOSED, command.settled_ttl_ms),
            (Status.OPEN, command.open_ttl_ms),
        ):
            old = [
                request_id
                for request_id, active_ms in self.alive.items()
                if self.time_ms - active_ms >= ttl_ms
                and request_id not in command.keep
                and self.request_status(request_id) is status
            ][:left]
            left -= len(old)
            counts[status] = len(old)
            for request_id in old:
                self._drop(request_id)
        self.expired = [
            stone for stone in self.expired if self.time_ms - stone[1] < command.tombstone_ttl_ms
        ]
        more = command.requests_max > 0 and left == 0
        return r.RequestsExpired(counts[Status.CLOSED], counts[Status.OPEN], more)

    def _drop(self, request_id: RequestId) -> None:
        branch_ids = {branch.branch_id for branch in self.of(request_id)}
        self.expired.append((request_id, self.time_ms, branch_ids))
        self.branches = [pair for pair in self.branches if pair[0] != request_id]
        self.open = {pair for pair in self.open if pair[0] not in branch_ids}
        self.leases = {k: v for k, v in self.leases.items() if v[0].request_id != request_id}
        del self.alive[request_id]
        self.registered.remove(request_id)

    # Questions

    def of(self, request_id: RequestId) -> list[c.NewBranch]:
        """The branches of a request, in registration order."""
        return [branch for owner, branch in self.branches if owner == request_id]

    def has_expired(self, request_id: RequestId) -> bool:
        """Whether there is a tombstone."""
        return any(request_id == expired_id for expired_id, _, _ in self.expired)

    def is_open(self, branch: c.NewBranch, region: Region) -> bool:
        """S3."""
        where = {place for branch_id, place in self.open if branch_id == branch.branch_id}
        if region == EVERYWHERE:
            return bool(where)
        return region in where or (branch.kind is BranchKind.GLOBAL and bool(where))

    def request_status(self, request_id: RequestId) -> Status:
        """W6: settled means that no branch is open."""
        is_open = any(self.is_open(branch, EVERYWHERE) for branch in self.of(request_id))
        return Status.OPEN if is_open else Status.CLOSED

    def descendants(self, request_id: RequestId, service: Service) -> set[Service]:
        """deps(S) of semantics 3.3, as the transitive closure of the edges."""
        services = {branch.branch_id: branch.service for branch in self.of(request_id)}
        edges = {
            (services[branch.parent_branch_id], branch.service)
            for branch in self.of(request_id)
            if branch.parent_branch_id and services[branch.parent_branch_id] != branch.service
        }
        closure = set(edges)
        while longer := {(a, d) for a, b in closure for e, d in edges if b == e} - closure:
            closure |= longer
        return {descendant for ancestor, descendant in closure if ancestor == service}

    def services_of(self, request_id: RequestId, scope: c.Scope) -> set[Service]:
        """S1: the services that are named, with their descendants if asked for."""
        named = set(scope.services)
        if scope.wait_dependencies:
            named = named.union(*(self.descendants(request_id, s) for s in scope.services))
        return named

    def blocking(
        self, request_id: RequestId, scope: c.Scope, *, mutual_waits: bool = True
    ) -> set[BranchId]:
        """S1 to S5, each as a set; the branches that are in all of them."""
        branches = self.of(request_id)
        everything = {b.branch_id for b in branches}
        named = self.services_of(request_id, scope)
        s1 = {b.branch_id for b in branches if b.service in named} if scope.services else everything
        s2 = {b.branch_id for b in branches if b.tag == scope.tag} if scope.tag else everything
        s3 = {b.branch_id for b in branches if self.is_open(b, scope.region)}
        s4 = {b.branch_id for b in branches if scope.zone is None or b.zone != scope.zone}
        s5 = everything
        if mutual_waits and not scope.services:
            zones, services = self.waiting(request_id, scope)
            s5 = {b.branch_id for b in branches if not (b.zone in zones or b.service in services)}
        return s1 & s2 & s3 & s4 & s5

    def waiting(self, request_id: RequestId, scope: c.Scope) -> tuple[set[Zone], set[Service]]:
        """S5 and R7: zones and services whose own waits are blocked, seen from this scope."""
        blocked = [
            begun.scope
            for begun, _ in self.leases.values()
            if begun.request_id == request_id
            and self.blocking(request_id, begun.scope, mutual_waits=False)
        ]
        zones = {
            other.zone
            for other in blocked
            if not other.services and other.zone is not None
            if scope.zone is not None and other.zone > scope.zone
        }
        services = {
            other.waiter_service
            for other in blocked
            if scope.waiter_service and scope.waiter_service in self.services_of(request_id, other)
        }
        return zones, services - {Service("")}

    def is_known(self, request_id: RequestId, scope: c.Scope) -> bool:
        """R4: services, region and tag have been used."""
        branches = self.of(request_id)
        used = {branch.service for branch in branches}
        regions = {region for branch in branches for region in branch.regions}
        tags = {b.tag for b in branches if not scope.services or b.service in scope.services}
        return (
            set(scope.services) <= used
            and {scope.region} <= regions | {EVERYWHERE}
            and {scope.tag} <= tags | {Tag("")}
        )

    def status(self, request_id: RequestId, scope: c.Scope) -> Status:
        """C1."""
        if self.blocking(request_id, scope, mutual_waits=False):
            return Status.OPEN
        return Status.CLOSED if self.is_known(request_id, scope) else Status.UNKNOWN

    def queue(self, service: Service, region: Region) -> list[BranchId]:
        """U1: what a new subscriber is told first."""
        return [
            branch.branch_id
            for _, branch in self.branches
            if branch.service == service
            and branch.monitored
            and branch.kind is not BranchKind.REGIONLESS
            and (
                (branch.branch_id, region) in self.open
                or (
                    branch.kind is BranchKind.GLOBAL and (branch.branch_id, EVERYWHERE) in self.open
                )
            )
        ]


def places(branch: c.NewBranch) -> set[Region]:
    """Where a branch is open when it begins."""
    return set(branch.regions) or {EVERYWHERE}
