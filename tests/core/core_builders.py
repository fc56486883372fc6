"""A log that is easy to write to: commands in few words, each with an id of its own."""

from __future__ import annotations

from rendezvous_raft.core import groups, queries
from rendezvous_raft.core.commands import (
    ActivateVersion,
    Barrier,
    BeginWait,
    Close,
    CloseBranches,
    Command,
    EndWait,
    ExpireRequests,
    JoinGroup,
    LeaveGroups,
    NewBranch,
    Pulse,
    RegisterBranches,
    RegisterRequest,
    RenewMembers,
    Scope,
)
from rendezvous_raft.core.invariants import History, check_basic, check_delta
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.model import Request
from rendezvous_raft.core.results import Applied
from rendezvous_raft.core.snapshot import digest
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    CommandId,
    LeaseId,
    MemberId,
    Region,
    RequestId,
    Service,
    Tag,
    Zone,
)

R1 = RequestId("r1")
FOREVER_MS = 10**9


def branch(
    branch_id: str,
    *regions: str,
    service: str = "post",
    tag: str = "",
    zone: str = "",
    parent: str = "",
    monitored: bool = True,
    regionless: bool = False,
    locator: bytes = b"",
) -> NewBranch:
    """A branch; without regions a global one."""
    kind = BranchKind.REGIONAL if regions else BranchKind.GLOBAL
    return NewBranch(
        branch_id=BranchId(branch_id),
        service=Service(service),
        tag=Tag(tag),
        kind=BranchKind.REGIONLESS if regionless else kind,
        regions=tuple(Region(region) for region in sorted(regions)),
        zone=Zone(zone),
        parent_branch_id=BranchId(parent),
        monitored=monitored,
        locator=locator,
    )


def scope(
    *services: str,
    region: str = "",
    tag: str = "",
    zone: str | None = None,
    waiter: str = "",
    dependencies: bool = False,
) -> Scope:
    """A scope in few words."""
    return Scope(
        services=tuple(Service(service) for service in services),
        region=Region(region),
        tag=Tag(tag),
        zone=None if zone is None else Zone(zone),
        waiter_service=Service(waiter),
        wait_dependencies=dependencies,
    )


class Log:
    """Applies commands to one machine and checks the invariants after each."""

    def __init__(self, limits: StateLimits | None = None) -> None:
        self.machine = StateMachine(limits)
        self.commands: list[Command] = []
        self.at_ms = 1_000

    @property
    def digest(self) -> str:
        return digest(self.machine.state)

    def apply(self, command: Command) -> Applied:
        before = History(self.machine.state)
        applied = self.machine.apply(command)
        assert check_basic(self.machine.state) == []
        assert check_delta(before, self.machine.state) == []
        self.commands.append(command)
        return applied

    def retry(self) -> Applied:
        """The last command again, as a node does that does not know how its proposal ended."""
        return self.apply(self.commands[-1])

    def command_id(self) -> CommandId:
        return CommandId(b"c%d" % len(self.commands))

    def register(self, request_id: str = "r1") -> Applied:
        return self.apply(RegisterRequest(self.command_id(), RequestId(request_id), self.at_ms))

    def add(self, *branches: NewBranch, request_id: str = "r1") -> Applied:
        command = RegisterBranches(self.command_id(), RequestId(request_id), branches, self.at_ms)
        return self.apply(command)

    def close(self, branch_id: str, region: str = "", *, all_regions: bool = False) -> Applied:
        return self.close_many(Close(BranchId(branch_id), Region(region), all_regions=all_regions))

    def close_many(self, *closes: Close) -> Applied:
        return self.apply(CloseBranches(self.command_id(), closes, self.at_ms))

    def begin_wait(
        self, lease_id: str, scope: Scope, *, request_id: str = "r1", ttl_ms: int = 100
    ) -> Applied:
        command = BeginWait(
            self.command_id(), LeaseId(lease_id), RequestId(request_id), "n1", scope, ttl_ms
        )
        return self.apply(command)

    def end_wait(self, lease_id: str) -> Applied:
        return self.apply(EndWait(self.command_id(), LeaseId(lease_id)))

    def join(
        self,
        member_id: str,
        *,
        service: str = "post",
        region: str = "eu",
        group: str = "g",
        tags: tuple[str, ...] = (),
        node: str = "n1",
        ttl_ms: int = 100,
    ) -> Applied:
        return self.apply(
            JoinGroup(
                self.command_id(),
                MemberId(member_id),
                Service(service),
                Region(region),
                group,
                tuple(Tag(tag) for tag in tags),
                node,
                ttl_ms,
            )
        )

    def renew(self, *member_ids: str, ttl_ms: int = 100) -> Applied:
        members = tuple(MemberId(member_id) for member_id in member_ids)
        return self.apply(RenewMembers(self.command_id(), members, ttl_ms))

    def leave(self, *member_ids: str) -> Applied:
        members = tuple(MemberId(member_id) for member_id in member_ids)
        return self.apply(LeaveGroups(self.command_id(), members))

    def pulse(self, elapsed_ms: int) -> Applied:
        return self.apply(Pulse(self.command_id(), elapsed_ms))

    def expire(
        self,
        *keep: str,
        settled_ttl_ms: int = 0,
        open_ttl_ms: int = 0,
        tombstone_ttl_ms: int = FOREVER_MS,
        requests_max: int = 1_000,
    ) -> Applied:
        command = ExpireRequests(
            self.command_id(),
            settled_ttl_ms,
            open_ttl_ms,
            tombstone_ttl_ms,
            tuple(RequestId(request_id) for request_id in keep),
            requests_max,
        )
        return self.apply(command)

    def activate(self, version: int) -> Applied:
        return self.apply(ActivateVersion(self.command_id(), version))

    def barrier(self) -> Applied:
        return self.apply(Barrier(self.command_id()))

    # Questions

    def request(self, request_id: str = "r1") -> Request:
        return self.machine.state.requests[RequestId(request_id)]

    def blocking(self, scope: Scope, request_id: str = "r1") -> list[str]:
        """The branches that keep a wait with this scope blocked."""
        request = self.request(request_id)
        found = queries.open_in_scope(self.machine.state, request, scope)
        blocking: list[str] = [branch.branch_id for branch in found]
        assert queries.is_blocked(self.machine.state, request, scope) == bool(blocking)
        return blocking

    def listed(self, service: str, region: str, after: int = 0) -> list[str]:
        """What a new subscriber is told first."""
        branches = queries.branches_for_subscriber(
            self.machine.state, Service(service), Region(region), after
        )
        return [branch.branch_id for branch in branches]

    def owner(self, branch_id: str, tag: str = "", *, group: str = "g") -> str | None:
        """The member of a group of (post, eu) that watches a branch."""
        key = (Service("post"), Region("eu"), group)
        members = groups.members_of(self.machine.state, key)
        return groups.owner_of(members, BranchId(branch_id), Tag(tag))
