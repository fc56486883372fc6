"""The replicated state machine of Rendezvous.

Rule 1: every state change of the system is decided in this file. (`model.State` only keeps its
indexes in step.)
Rule 2: nothing here knows what time it is, which node it runs on, or who asked.
Rule 3: `apply` is total. It never raises, blocks or logs; bad input is an answer (`Rejected`).

Theory of operation
-------------------
A *request* owns *branches*. A branch is open in a set of regions, kept as a bit mask over its
sorted region names; a close clears bits, and a cleared bit is never set again. A global branch has
the one bit 0, open everywhere. When the last bit of a branch is cleared the branch is closed and
leaves its request's `open_branches`; when that becomes empty the request is settled, and a new
branch opens it again (semantics W6). Monitored branches are kept, per service and region, in
registration order, for subscribers.

Time is a number that only `Pulse` increases. Activity stamps requests with it and moves them to the
end of one of two orders (settled, open), so that expiry looks at the front of each and stops at
the first that is too young.

Each answer to a write is kept under its command id for a while, so that a proposal which is retried
because its outcome was unknown gets the first answer. A rejected command leaves nothing behind but
that answer and the revision.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar

from rendezvous_raft.core.batches import fresh_branches, limit_exceeded
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
    RegisterNumbered,
    RegisterRequest,
    RenewMembers,
)
from rendezvous_raft.core.events import (
    BranchOpened,
    Event,
    GroupChanged,
    RegionClosed,
    RequestExpired,
    RequestOpened,
    RequestSettled,
    WaitLeaseChanged,
)
from rendezvous_raft.core.model import (
    Branch,
    GroupMember,
    Request,
    State,
    Tombstone,
    WaitLease,
)
from rendezvous_raft.core.numbering import name_branches, next_request_id
from rendezvous_raft.core.queries import inactive_requests, lost_branches
from rendezvous_raft.core.results import (
    Applied,
    BranchesClosed,
    BranchesRegistered,
    CloseOutcome,
    LeaseChanged,
    MembersChanged,
    Nothing,
    Reason,
    Rejected,
    RequestRegistered,
    RequestsExpired,
    Result,
    TimeAdvanced,
    VersionActivated,
)
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.types import (
    ALL_REGIONS,
    BranchKind,
    CommandId,
    Region,
    RequestId,
    Revision,
    Service,
    Tag,
    Zone,
)

_REMEMBERED = (RegisterRequest, RegisterBranches, RegisterNumbered, CloseBranches, Pulse)
"""What must have one effect though it may be in the log twice; all else is idempotent by nature."""

_Answer = tuple[Result, tuple[Event, ...]]


class StateMachine:
    """Applies committed commands to `state`. See the module's docstring for its rules.

    Example:
        >>> from rendezvous_raft.core.commands import RegisterRequest
        >>> from rendezvous_raft.types import CommandId, RequestId
        >>> machine = StateMachine()
        >>> machine.apply(RegisterRequest(CommandId(b"c1"), RequestId("r1"), at_ms=0)).result
        RequestRegistered(request_id='r1', created=True)
    """

    def __init__(self, limits: StateLimits | None = None, state: State | None = None) -> None:
        self.limits = limits or StateLimits()
        self.state = state or State()
        self.watchers: list[Callable[[Request], None]] = []
        """Each is shown every request before it changes (`snapshot.Capture`)."""

    @property
    def revision(self) -> Revision:
        """Count of applied commands, rejected ones too."""
        return self.state.revision

    def apply(self, command: Command) -> Applied:
        """Total and deterministic: same history, same bytes, on every replica, any hash seed."""
        state = self.state
        revision = state.revision = Revision(state.revision + 1)
        known = state.results.get(command.command_id)
        if known is not None:
            return Applied(revision, known)
        result, events = self._apply_by_kind[type(command)](self, command)
        if isinstance(command, _REMEMBERED):
            self._remember(command.command_id, result)
        return Applied(revision, result, events)

    def _remember(self, command_id: CommandId, result: Result) -> None:
        """Keeps an answer for retries of the same command (semantics 5.3).

        Rejections too: a proposal may be in the log twice, and the second copy must not do what
        the first was told would definitely not happen.
        """
        results = self.state.results
        results[command_id] = result
        if len(results) > self.limits.command_results_max:
            results.popitem(last=False)

    def _show(self, request: Request) -> None:
        """To those who want to see it before it changes."""
        for watcher in self.watchers:
            watcher(request)

    # Requests and branches

    def _register_request(self, command: RegisterRequest) -> _Answer:
        request_id = command.request_id
        if request_id in self.state.tombstones:
            return Rejected(Reason.REQUEST_EXPIRED, request_id), ()
        created = request_id not in self.state.requests
        events: tuple[Event, ...] = ()
        if created:
            if len(self.state.requests) >= self.limits.requests_open_max:
                return Rejected(Reason.LIMIT, "requests_open_max"), ()
            self._add_request(request_id, command.at_ms)
            events = (RequestOpened(request_id),)
        return RequestRegistered(request_id, created), events

    def _add_request(self, request_id: RequestId, at_ms: int) -> Request:
        state = self.state
        state.request_sequence += 1
        request = Request(request_id, at_ms, state.request_sequence, state.time_ms)
        state.requests[request_id] = request
        state.settled_order[request_id] = None
        return request

    def _register_branches(self, command: RegisterBranches) -> _Answer:
        state = self.state
        request_id = command.request_id
        if request_id in state.tombstones:
            return Rejected(Reason.REQUEST_EXPIRED, request_id), ()
        fresh = fresh_branches(state, request_id, command.branches)
        if isinstance(fresh, Rejected):
            return fresh, ()
        request = state.requests.get(request_id)
        over = limit_exceeded(state, self.limits, request, fresh)
        if over:
            return Rejected(Reason.LIMIT, over), ()
        events: list[Event] = []
        if request is None:
            request = self._add_request(request_id, command.at_ms)
            events.append(RequestOpened(request_id))
        elif fresh:
            self._show(request)
        for new in fresh:
            events.append(self._add_branch(request, new, command.at_ms))  # noqa: PERF401 (faster)
        if fresh:
            self._touch(request)
        branch_ids = tuple([new.branch_id for new in command.branches])
        result = BranchesRegistered(request_id, branch_ids, already_existed=not fresh)
        return result, tuple(events)

    def _register_numbered(self, command: RegisterNumbered) -> _Answer:
        state, request_id, after = self.state, command.request_id, None
        if not request_id:
            request_id, after = next_request_id(state, command.prefix)
        if command.branches:
            branches = name_branches(state, request_id, command.prefix, command.branches)
            answer = self._register_branches(
                RegisterBranches(command.command_id, request_id, branches, command.at_ms)
            )
        else:
            answer = self._register_request(
                RegisterRequest(command.command_id, request_id, command.at_ms)
            )
        if after is not None and not isinstance(answer[0], Rejected):
            state.numbers[command.prefix] = after
        return answer

    def _add_branch(self, request: Request, new: NewBranch, at_ms: int) -> BranchOpened:
        state = self.state
        state.branch_sequence += 1
        # Names repeat in every branch; interned, each is kept once.
        regions = tuple([Region(sys.intern(region)) for region in new.regions])
        service, tag = Service(sys.intern(new.service)), Tag(sys.intern(new.tag))
        branch = Branch(
            new.branch_id,
            request.request_id,
            service,
            tag,
            new.kind,
            regions,
            Zone(sys.intern(new.zone)),
            new.parent_branch_id,
            new.monitored,
            new.locator,
            at_ms,
            state.revision,
            state.branch_sequence,
            (1 << len(regions)) - 1 if regions else 1,
        )
        state.branches[branch.branch_id] = branch
        request.branches.append(branch)
        request.open_branches[branch.branch_id] = branch
        state.link_to_parent(request, branch)
        state.count_open(branch)
        return BranchOpened(
            request.request_id,
            branch.branch_id,
            service,
            tag,
            regions,
            new.kind is BranchKind.GLOBAL,
            new.monitored,
            new.locator,
            at_ms,
            state.revision,
        )

    def _touch(self, request: Request) -> None:
        """Stamps a request as active now, at the end of the order that its state belongs to."""
        state = self.state
        request_id = request.request_id
        request.last_activity_ms = state.time_ms
        state.settled_order.pop(request_id, None)
        state.open_order.pop(request_id, None)
        order = state.open_order if request.open_branches else state.settled_order
        order[request_id] = None

    # Closing

    def _close_branches(self, command: CloseBranches) -> _Answer:
        events: list[Event] = []
        outcomes = tuple(self._close(close, command.at_ms, events) for close in command.closes)
        return BranchesClosed(outcomes), tuple(events)

    def _close(self, close: Close, at_ms: int, events: list[Event]) -> CloseOutcome:
        branch = self.state.branches.get(close.branch_id)
        if branch is None:
            if close.branch_id in self.state.expired_branches:
                return CloseOutcome.REQUEST_EXPIRED
            return CloseOutcome.BRANCH_UNKNOWN
        bits = branch.bits_of(close)
        if not bits:
            return CloseOutcome.REGION_NOT_OF_BRANCH
        bits &= branch.open_mask
        if not bits:
            return CloseOutcome.ALREADY_CLOSED
        request = self.state.requests[branch.request_id]
        self._show(request)
        self._clear_bits(branch, bits, at_ms, events)
        if not branch.open_mask:
            del request.open_branches[branch.branch_id]
            self.state.branches_open -= 1
            if not request.open_branches:
                events.append(RequestSettled(request.request_id))
        self._touch(request)
        return CloseOutcome.CLOSED

    def _clear_bits(self, branch: Branch, bits: int, at_ms: int, events: list[Event]) -> None:
        state = self.state
        if branch.closed_at_ms is None:
            branch.closed_at_ms = [None] * branch.slots
        for i in range(branch.slots):
            if not bits >> i & 1:
                continue
            branch.closed_at_ms[i] = at_ms
            region = branch.regions[i] if branch.regions else ALL_REGIONS
            state.forget_open(branch, region)
            events.append(
                RegionClosed(
                    request_id=branch.request_id,
                    branch_id=branch.branch_id,
                    service=branch.service,
                    tag=branch.tag,
                    region=region,
                    is_global=branch.kind is BranchKind.GLOBAL,
                    monitored=branch.monitored,
                )
            )
        branch.open_mask &= ~bits

    # Wait leases

    def _begin_wait(self, command: BeginWait) -> _Answer:
        state = self.state
        lease = state.leases.get(command.lease_id)
        expires_ms = state.time_ms + command.ttl_ms
        if lease is not None:
            lease.expires_ms = max(lease.expires_ms, expires_ms)
            return LeaseChanged(known=True), ()
        if command.request_id in state.tombstones:
            return Rejected(Reason.REQUEST_EXPIRED, command.request_id), ()
        if len(state.leases) >= self.limits.leases_max:
            return Rejected(Reason.LIMIT, "leases_max"), ()
        state.add_lease(
            WaitLease(command.lease_id, command.request_id, command.node, command.scope, expires_ms)
        )
        return LeaseChanged(known=False), (WaitLeaseChanged(command.request_id),)

    def _end_wait(self, command: EndWait) -> _Answer:
        lease = self.state.leases.get(command.lease_id)
        if lease is None:
            return LeaseChanged(known=False), ()
        self.state.drop_lease(lease)
        return LeaseChanged(known=True), (WaitLeaseChanged(lease.request_id),)

    # Subscription groups

    def _join_group(self, command: JoinGroup) -> _Answer:
        state, limits = self.state, self.limits
        key = (command.service, command.region, command.group)
        expires_ms = state.time_ms + command.ttl_ms
        known = state.members.get(command.member_id)
        if known is not None:
            known.expires_ms = max(known.expires_ms, expires_ms)
            return MembersChanged(known=1), ()
        if len(state.members) >= limits.group_members_max:
            return Rejected(Reason.LIMIT, "group_members_max"), ()
        if len(state.groups.get(key, ())) >= limits.members_per_group_max:
            return Rejected(Reason.LIMIT, "members_per_group_max"), ()
        state.add_member(
            GroupMember(command.member_id, key, command.tags, command.node, expires_ms)
        )
        return MembersChanged(known=0), (GroupChanged(*key),)

    def _renew_members(self, command: RenewMembers) -> _Answer:
        expires_ms = self.state.time_ms + command.ttl_ms
        known = self.state.members_named(command.member_ids)
        for member in known:
            member.expires_ms = max(member.expires_ms, expires_ms)
        return MembersChanged(len(known)), ()

    def _leave_groups(self, command: LeaveGroups) -> _Answer:
        known = self.state.members_named(command.member_ids)
        return MembersChanged(len(known)), self._drop_members(known)

    def _drop_members(self, members: list[GroupMember]) -> tuple[Event, ...]:
        """Takes members out; one event for each of their groups."""
        for member in members:
            self.state.drop_member(member)
        return tuple(GroupChanged(*key) for key in dict.fromkeys(m.key for m in members))

    # Time and lifetime

    def _advance_time(self, command: Pulse) -> _Answer:
        state = self.state
        state.time_ms += max(0, command.elapsed_ms)
        ended = [lease for lease in state.leases.values() if lease.expires_ms <= state.time_ms]
        for lease in ended:
            state.drop_lease(lease)
        gone = [member for member in state.members.values() if member.expires_ms <= state.time_ms]
        events: list[Event] = [WaitLeaseChanged(lease.request_id) for lease in ended]
        return TimeAdvanced(state.time_ms), (*events, *self._drop_members(gone))

    def _expire_requests(self, command: ExpireRequests) -> _Answer:
        state = self.state
        keep = dict.fromkeys(command.keep)
        events: list[Event] = []
        counts = []
        for order, ttl_ms in (
            (state.settled_order, command.settled_ttl_ms),
            (state.open_order, command.open_ttl_ms),
        ):
            room = command.requests_max - len(events)
            expired = inactive_requests(state, order, state.time_ms - ttl_ms, keep, room)
            events.extend(self._expire(request) for request in expired)
            counts.append(len(expired))
        state.drop_tombstones(state.time_ms - command.tombstone_ttl_ms)
        more = len(events) >= command.requests_max > 0
        return RequestsExpired(settled=counts[0], open=counts[1], more=more), tuple(events)

    def _expire(self, request: Request) -> RequestExpired:
        """Drops a request, leaving a tombstone."""
        state = self.state
        request_id = request.request_id
        lost = lost_branches(request)
        state.drop_request(request)
        branch_ids = tuple(branch.branch_id for branch in request.branches)
        state.add_tombstone(Tombstone(request_id, state.time_ms, branch_ids))
        while len(state.tombstones) + len(state.expired_branches) > self.limits.tombstones_max:
            state.drop_tombstone(next(iter(state.tombstones.values())))
        return RequestExpired(request_id, settled=not request.open_branches, branches=lost)

    def _activate_version(self, command: ActivateVersion) -> _Answer:
        self.state.version = max(self.state.version, command.version)
        return VersionActivated(self.state.version), ()

    def _pass_barrier(self, _command: Barrier) -> _Answer:
        return Nothing(), ()

    _apply_by_kind: ClassVar[dict[type, Callable[[StateMachine, Any], _Answer]]] = {
        RegisterRequest: _register_request,
        RegisterBranches: _register_branches,
        RegisterNumbered: _register_numbered,
        CloseBranches: _close_branches,
        BeginWait: _begin_wait,
        EndWait: _end_wait,
        JoinGroup: _join_group,
        RenewMembers: _renew_members,
        LeaveGroups: _leave_groups,
        Pulse: _advance_time,
        ExpireRequests: _expire_requests,
        ActivateVersion: _activate_version,
        Barrier: _pass_barrier,
    }
    """Methods of the class: those of a machine would be a cycle with it, and keep it in memory with
    all its state after another has taken its place."""
