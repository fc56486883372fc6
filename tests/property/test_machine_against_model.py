"""The state machine and the naive model hear the same commands and must agree after each."""

from __future__ import annotations

import hypothesis
from history_strategies import (
    REGIONS,
    REQUEST_IDS,
    SERVICES,
    Table,
    at_ms,
    begin_waits,
    closings,
    durations_ms,
    expirations,
    joins,
    leaves,
    registration_of,
    registrations,
    renewals,
    request_ids,
    scopes,
    settlings,
    tables,
    with_command_id,
)
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import (
    ActivateVersion,
    Barrier,
    BeginWait,
    CloseBranches,
    Command,
    EndWait,
    ExpireRequests,
    JoinGroup,
    LeaveGroups,
    NewBranch,
    Pulse,
    RegisterNumbered,
    RegisterRequest,
    RenewMembers,
    Scope,
)
from rendezvous_raft.core.invariants import History, check_basic, check_delta
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Rejected
from rendezvous_raft.core.snapshot import digest
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.testing.naive_model import EVERYWHERE, NaiveModel
from rendezvous_raft.types import BranchId, CommandId, LeaseId, Region, RequestId, Service, Status

BLANK = CommandId(b"")
LEASES = st.sampled_from([LeaseId("w1"), LeaseId("w2"), LeaseId("w3")])


class MachineAgainstModel(RuleBasedStateMachine):
    """Commands go to both; questions are asked of both."""

    @initialize(
        table=tables,
        results_max=st.sampled_from([2, 1_000]),
        registered=st.integers(0, len(REQUEST_IDS)),
    )
    def start(self, table: Table, results_max: int, registered: int) -> None:
        self.registrations, self.closings = registrations(table), closings(table)
        self.machine = StateMachine(StateLimits(command_results_max=results_max))
        self.model = NaiveModel(results_max=results_max)
        self.commands: list[Command] = []
        for request_id in REQUEST_IDS[:registered]:
            self.apply_new(registration_of(table, request_id))

    def apply(self, command: Command) -> None:
        state = self.machine.state
        before, digest_before = History(state), digest(state)
        expected = self.model.apply(command)
        applied = self.machine.apply(command)
        assert applied.result == expected
        assert applied.revision == self.machine.revision == self.model.revision
        assert check_basic(state) == []
        assert check_delta(before, state) == []
        if isinstance(expected, Rejected):
            assert digest(state) == digest_before
            assert applied.events == ()

    def apply_new(self, command: Command) -> None:
        command = with_command_id(command, len(self.commands))
        self.commands.append(command)
        self.apply(command)

    @rule(request_id=request_ids, at=at_ms)
    def register_request(self, request_id: RequestId, at: int) -> None:
        self.apply_new(RegisterRequest(BLANK, request_id, at))

    @rule(choices=st.data())
    def register_branches(self, choices: st.DataObject) -> None:
        self.apply_new(choices.draw(self.registrations))

    @rule(choices=st.data())
    def register_more_branches(self, choices: st.DataObject) -> None:
        self.apply_new(choices.draw(self.registrations))

    @rule(
        request_id=st.just(RequestId("")) | request_ids,
        prefix=st.sampled_from(["p", "q"]),
        own=st.lists(st.sampled_from(["", "p_1", "p_2"]), max_size=3),
    )
    def register_numbered(self, request_id: RequestId, prefix: str, own: list[str]) -> None:
        branches = tuple(NewBranch(BranchId(name), Service("s")) for name in own)
        self.apply_new(RegisterNumbered(BLANK, request_id, prefix, branches, 1))

    @rule(choices=st.data())
    def close_branches(self, choices: st.DataObject) -> None:
        self.apply_new(choices.draw(self.closings))

    @rule(command=settlings)
    def close_all_branches(self, command: CloseBranches) -> None:
        self.apply_new(command)

    @rule(command=begin_waits)
    def begin_wait(self, command: BeginWait) -> None:
        self.apply_new(command)

    @rule(lease_id=LEASES)
    def end_wait(self, lease_id: LeaseId) -> None:
        self.apply_new(EndWait(BLANK, lease_id))

    @rule(command=joins)
    def join_group(self, command: JoinGroup) -> None:
        self.apply_new(command)

    @rule(command=renewals)
    def renew_members(self, command: RenewMembers) -> None:
        self.apply_new(command)

    @rule(command=leaves)
    def leave_groups(self, command: LeaveGroups) -> None:
        self.apply_new(command)

    @rule(elapsed_ms=durations_ms)
    def pulse(self, elapsed_ms: int) -> None:
        self.apply_new(Pulse(BLANK, elapsed_ms))

    @rule(command=expirations)
    def expire(self, command: ExpireRequests) -> None:
        self.apply_new(command)

    @rule(version=st.integers(0, 3))
    def activate_version(self, version: int) -> None:
        self.apply_new(ActivateVersion(BLANK, version))
        assert self.machine.state.version == self.model.version

    @rule()
    def pass_barrier(self) -> None:
        self.apply_new(Barrier(BLANK))

    @precondition(lambda self: self.commands)
    @rule(choices=st.data())
    def retry(self, choices: st.DataObject) -> None:
        self.apply(choices.draw(st.sampled_from(self.commands)))

    @precondition(lambda self: self.commands)
    @rule(choices=st.data())
    def propose_again(self, choices: st.DataObject) -> None:
        self.apply_new(choices.draw(st.sampled_from(self.commands)))

    @rule(scope=scopes)
    def ask(self, scope: Scope) -> None:
        """S1 to S5, R4, C1: every living request is asked."""
        state, model = self.machine.state, self.model
        for request_id, request in state.requests.items():
            blocking = [b.branch_id for b in queries.open_in_scope(state, request, scope)]
            expected = model.blocking(request_id, scope)
            assert set(blocking) == expected
            assert len(blocking) == len(expected)
            assert queries.is_blocked(state, request, scope) == bool(expected)
            assert queries.is_known(request, scope) == model.is_known(request_id, scope)
            assert queries.status(state, request, scope) is model.status(request_id, scope)
            services = queries.scope_services(request, scope)
            assert set(services) == model.services_of(request_id, scope)

    @rule(service=st.sampled_from(SERVICES))
    def ask_dependencies(self, service: Service) -> None:
        """D1."""
        for request_id, request in self.machine.state.requests.items():
            direct, indirect = queries.fetch_dependencies(request, service, None)
            still_open = {
                b.service for b in self.model.of(request_id) if self.model.is_open(b, EVERYWHERE)
            }
            descendants = self.model.descendants(request_id, service)
            assert {*direct, *indirect} == (descendants & still_open) - {service}
            assert not {*direct} & {*indirect}

    @invariant()
    def requests_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        state, model = self.machine.state, self.model
        assert list(state.requests) == model.registered
        assert state.time_ms == model.time_ms
        assert set(state.leases) == set(model.leases)
        members = {m.member_id: (m.key, m.tags, m.expires_ms) for m in state.members.values()}
        assert members == {
            joined.member_id: (
                (joined.service, joined.region, joined.group),
                joined.tags,
                expires_ms,
            )
            for joined, expires_ms in model.members.values()
        }
        assert set(state.tombstones) == {request_id for request_id, _, _ in model.expired}
        for request_id in REQUEST_IDS:
            if request_id in state.requests:
                status = queries.request_status(state.requests[request_id])
                assert status is model.request_status(request_id)

    @invariant()
    def branches_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        state, model = self.machine.state, self.model
        assert set(state.branches) == {branch.branch_id for _, branch in model.branches}
        for _, branch in model.branches:
            for region in (EVERYWHERE, *REGIONS):
                is_open = state.branches[branch.branch_id].is_open_in(region)
                assert is_open == model.is_open(branch, region)
        assert state.branches_open == len({branch_id for branch_id, _ in model.open})

    @invariant()
    def queues_agree(self) -> None:
        """U1: the list of a new subscriber, globals merged, oldest first."""
        if not hasattr(self, "model"):
            return
        for service in SERVICES:
            for region in (*REGIONS, Region("nowhere")):
                listed = queries.branches_for_subscriber(
                    self.machine.state, service, region, after=0
                )
                assert [b.branch_id for b in listed] == self.model.queue(service, region)

    @invariant()
    def statuses_agree(self) -> None:
        """C2: an open global branch is open in every region that its services use."""
        if not hasattr(self, "model"):
            return
        for request_id, request in self.machine.state.requests.items():
            branches = self.model.of(request_id)
            regions = {region for branch in branches for region in branch.regions}
            assert queries.status_by_region(request, {}) == {
                region: Status.OPEN
                if any(self.model.is_open(branch, region) for branch in branches)
                else Status.CLOSED
                for region in regions
            }


MachineAgainstModel.TestCase.settings = hypothesis.settings(
    max_examples=2 * hypothesis.settings().max_examples, stateful_step_count=50
)
TestMachineAgainstModel = MachineAgainstModel.TestCase
