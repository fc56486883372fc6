"""What people are told of a wait is what decides it, for every history and every scope."""

from __future__ import annotations

from history_strategies import histories, replay, scopes
from hypothesis import given

from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import Command, Scope
from rendezvous_raft.core.explanation import verdicts
from rendezvous_raft.types import BranchKind, Verdict


@given(histories(), scopes)
def test_a_branch_holds_a_wait_exactly_when_it_blocks_it(
    history: list[Command], scope: Scope
) -> None:
    # semantics: Q1, S1, S2, S3, S4, S5
    state = replay(history).state
    for request in state.requests.values():
        told = verdicts(state, request, scope, request.branches)
        assert len(told) == len(request.branches)
        holding = [b for b, v in zip(request.branches, told, strict=True) if v is Verdict.HOLDS]
        assert holding == list(queries.open_in_scope(state, request, scope))


@given(histories(), scopes)
def test_what_is_left_out_breaks_the_rule_that_is_named(
    history: list[Command], scope: Scope
) -> None:
    # semantics: Q1, S1, S2, S3, S4, S5
    state = replay(history).state
    for request in state.requests.values():
        leases = state.leases_by_request.get(request.request_id, {}).values()
        waiting_zones = {lease.scope.zone for lease in leases if not lease.scope.services}
        waiting_services = {lease.scope.waiter_service for lease in leases}
        for branch, verdict in zip(
            request.branches, verdicts(state, request, scope, request.branches), strict=True
        ):
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
                    assert branch.zone in waiting_zones
                    assert branch.zone > scope.zone
                case Verdict.SERVICE_WAITS:
                    assert branch.service in waiting_services
                    assert scope.waiter_service
                case _:
                    raise AssertionError(f"the core cannot say {verdict}")
