"""What people are told of a wait is what decides it, for every request and every scope."""

from __future__ import annotations

import dataclasses

from history_strategies import (
    BRANCH_IDS,
    REGIONS,
    REQUEST_IDS,
    SERVICES,
    ZONES,
    Table,
    begin_waits,
    closings,
    scopes,
    tables,
    with_command_id,
)
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import Command, RegisterBranches, Scope
from rendezvous_raft.core.explanation import verdicts
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.model import Request, State
from rendezvous_raft.types import BranchId, BranchKind, CommandId, Region, Service, Verdict

whole_scopes = st.builds(
    Scope,
    region=st.sampled_from([Region(""), *REGIONS]),
    zone=st.sampled_from([None, *ZONES]),
    waiter_service=st.sampled_from([Service(""), *SERVICES]),
)
"""Of waits that name no services: those that leave out who waits."""
waits_for_services = st.builds(
    Scope, services=st.just(tuple(SERVICES)), waiter_service=st.sampled_from(SERVICES)
)
"""Of waits of a service for others, which those others leave out."""
asked_scopes = st.one_of(scopes, whole_scopes)


@st.composite
def crowds(draw: st.DrawFn) -> tuple[State, Request]:
    """One request with many branches, some closed, and blocked waits."""
    table: Table = draw(tables)
    # Each under the one before it, or under none: services that depend on each other.
    under = draw(st.lists(st.booleans(), min_size=len(BRANCH_IDS), max_size=len(BRANCH_IDS)))
    parents = [BranchId(""), *BRANCH_IDS]
    branches = tuple(
        dataclasses.replace(
            table[branch_id], parent_branch_id=parents[index] if under[index] else BranchId("")
        )
        for index, branch_id in enumerate(BRANCH_IDS)
    )
    waits = st.tuples(begin_waits, st.one_of(asked_scopes, waits_for_services)).map(
        lambda pair: dataclasses.replace(pair[0], request_id=REQUEST_IDS[0], scope=pair[1])
    )
    history: list[Command] = [RegisterBranches(CommandId(b""), REQUEST_IDS[0], branches, 0)]
    history += draw(st.lists(closings(table), max_size=3))
    history += draw(st.lists(waits, max_size=3))
    machine = StateMachine()
    for number, command in enumerate(history):
        machine.apply(with_command_id(command, number))
    return machine.state, machine.state.requests[REQUEST_IDS[0]]


@given(crowds(), asked_scopes)
def test_a_branch_holds_a_wait_exactly_when_it_blocks_it(
    crowd: tuple[State, Request], scope: Scope
) -> None:
    # semantics: Q1, S1, S2, S3, S4, S5
    state, request = crowd
    told = verdicts(state, request, scope, request.branches)
    assert len(told) == len(request.branches) == len(BRANCH_IDS)
    holding = [b for b, v in zip(request.branches, told, strict=True) if v is Verdict.HOLDS]
    assert holding == list(queries.open_in_scope(state, request, scope))


@given(crowds(), asked_scopes)
def test_what_is_left_out_breaks_the_rule_that_is_named(
    crowd: tuple[State, Request], scope: Scope
) -> None:
    # semantics: Q1, S1, S2, S3, S4, S5
    state, request = crowd
    leases = state.leases_by_request.get(request.request_id, {}).values()
    waiting_zones = {lease.scope.zone for lease in leases if not lease.scope.services}
    waiting_services = {lease.scope.waiter_service for lease in leases}
    told = verdicts(state, request, scope, request.branches)
    for branch, verdict in zip(request.branches, told, strict=True):
        match verdict:
            case Verdict.HOLDS:
                assert branch.open_mask
            case Verdict.CLOSED:
                assert branch.branch_id not in request.open_branches
            case Verdict.OTHER_SERVICE:
                assert branch.service not in queries.scope_services(request, scope)
            case Verdict.OTHER_TAG:
                assert branch.tag != scope.tag != ""
            case Verdict.OTHER_REGION:
                assert branch.kind is not BranchKind.GLOBAL
                assert scope.region not in ("", *branch.open_regions())
            case Verdict.OWN_ZONE:
                assert branch.zone == scope.zone
            case Verdict.ZONE_WAITS:
                assert not scope.services
                assert branch.zone in waiting_zones
                assert branch.zone > scope.zone
            case Verdict.SERVICE_WAITS:
                assert not scope.services
                assert branch.service in waiting_services
                assert scope.waiter_service
            case _:
                raise AssertionError(f"the core cannot say {verdict}")
