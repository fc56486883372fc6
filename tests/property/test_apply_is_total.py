"""`apply` answers everything: also what no gate lets through."""

from __future__ import annotations

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.core import groups, queries, snapshot
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
    Scope,
)
from rendezvous_raft.core.invariants import check_basic
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied
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
)

names = st.sampled_from(["", "a", "b", "ä\x00", "\U00010d40"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=3
)
numbers = st.integers(-(2**40), 2**40) | st.integers(-2, 2)
command_ids = st.sampled_from([b"", b"1", b"2"]) | st.binary(max_size=4)
small_limits = st.builds(
    StateLimits,
    branches_per_request_max=st.integers(0, 3),
    regions_per_branch_max=st.integers(0, 3),
    requests_open_max=st.integers(0, 3),
    tombstones_max=st.integers(0, 3),
    command_results_max=st.integers(0, 3),
    leases_max=st.integers(0, 3),
    group_members_max=st.integers(0, 3),
    members_per_group_max=st.integers(0, 2),
)

any_branch = st.builds(
    NewBranch,
    branch_id=names,
    service=names,
    tag=names,
    kind=st.sampled_from(BranchKind),
    regions=st.lists(names, max_size=4).map(tuple),  # unsorted, repeated, empty, of any kind
    zone=names,
    parent_branch_id=names,
    monitored=st.booleans(),
    locator=st.binary(max_size=3),
)
any_scope = st.builds(
    Scope,
    services=st.lists(names, max_size=3).map(tuple),
    region=names,
    tag=names,
    zone=st.none() | names,
    waiter_service=names,
    wait_dependencies=st.booleans(),
)
any_command: st.SearchStrategy[Command] = st.one_of(
    st.builds(RegisterRequest, command_ids, names, numbers),
    st.builds(
        RegisterBranches,
        command_ids,
        names,
        st.lists(any_branch, max_size=4).map(tuple),
        numbers,
    ),
    st.builds(
        RegisterNumbered,
        command_ids,
        st.just("") | names,
        names,
        st.lists(any_branch, max_size=4).map(tuple),
        numbers,
    ),
    st.builds(
        CloseBranches,
        command_ids,
        st.lists(st.builds(Close, names, names, st.booleans()), max_size=4).map(tuple),
        numbers,
    ),
    st.builds(BeginWait, command_ids, names, names, names, any_scope, numbers),
    st.builds(EndWait, command_ids, names),
    st.builds(
        JoinGroup,
        command_ids,
        names,
        names,
        names,
        names,
        st.lists(names, max_size=2).map(tuple),
        names,
        numbers,
    ),
    st.builds(RenewMembers, command_ids, st.lists(names, max_size=3).map(tuple), numbers),
    st.builds(LeaveGroups, command_ids, st.lists(names, max_size=3).map(tuple)),
    st.builds(Pulse, command_ids, numbers),
    st.builds(
        ExpireRequests,
        command_ids,
        numbers,
        numbers,
        numbers,
        st.lists(names, max_size=2).map(tuple),
        st.integers(-1, 4),
    ),
    st.builds(ActivateVersion, command_ids, numbers),
    st.builds(Barrier, command_ids),
)


@given(st.lists(any_command, max_size=30), small_limits | st.just(StateLimits()))
def test_apply_never_raises(history: list[Command], limits: StateLimits) -> None:
    machine = StateMachine(limits)
    for number, command in enumerate(history, start=1):
        applied = machine.apply(command)
        assert isinstance(applied, Applied)
        assert applied.revision == machine.revision == number
    rows = [msgpack.unpackb(msgpack.packb(row)) for row in snapshot.rows(machine.state)]
    loaded = snapshot.load(rows, limits)
    assert snapshot.digest(loaded.state) == snapshot.digest(machine.state)


@given(st.lists(any_command, max_size=15), any_scope)
def test_questions_never_raise(history: list[Command], scope: Scope) -> None:
    machine = StateMachine()
    for command in history:
        machine.apply(command)
    state = machine.state
    for sentence in check_basic(state):
        assert isinstance(sentence, str)
    for request in state.requests.values():
        assert queries.is_blocked(state, request, scope) in (True, False)
        queries.status(state, request, scope)
        queries.status_by_tag(request, scope)
        queries.status_by_region(request, dict.fromkeys(scope.services))
        queries.fetch_dependencies(request, Service(scope.region), scope.zone)
    queries.branches_for_subscriber(state, Service(scope.tag), scope.region, 0)
    for group in state.groups.values():
        assert groups.owner_of(group.values(), BranchId(scope.region), scope.tag) in (None, *group)
    queries.list_requests(state, None, Service(""), after=0, page_size=1)


def test_limits_bound_everything_that_grows() -> None:
    # semantics: L3
    limits = StateLimits(2, 2, 2, 4, 2, 2, 3, 2)
    machine = StateMachine(limits)
    for number in range(50):
        request_id, lease_id = RequestId(f"r{number}"), LeaseId(f"w{number}")
        branches = (NewBranch(BranchId(f"b{number}"), Service("s")),)
        machine.apply(RegisterBranches(CommandId(b"r%d" % number), request_id, branches, 0))
        machine.apply(BeginWait(CommandId(b"w%d" % number), lease_id, request_id, "n", Scope(), 9))
        member_id, group = MemberId(f"m{number}"), "gh"[number % 2]
        machine.apply(
            JoinGroup(
                CommandId(b"m%d" % number), member_id, Service("s"), Region("eu"), group, (), "n", 9
            )
        )
        if number % 3 == 0:
            machine.apply(ExpireRequests(CommandId(b"e%d" % number), 0, 0, 99, (), 9))
        state = machine.state
        assert len(state.requests) <= limits.requests_open_max
        assert len(state.leases) <= limits.leases_max
        assert len(state.members) <= limits.group_members_max
        assert max(map(len, state.groups.values())) <= limits.members_per_group_max
        assert len(state.results) <= limits.command_results_max
        assert len(state.tombstones) + len(state.expired_branches) <= limits.tombstones_max
    assert len(machine.state.members) == 3
    assert machine.revision == 50 * 3 + 17
