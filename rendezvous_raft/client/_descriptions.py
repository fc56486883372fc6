"""Descriptions of requests: builds the questions, converts the answers."""

from __future__ import annotations

from collections.abc import Sequence

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2 as types
from rendezvous_raft.client import results
from rendezvous_raft.client._answers import known, seconds_of, status_of, time_of
from rendezvous_raft.client._calls import (
    DESCRIBE_REQUEST,
    Call,
    CallDefaults,
    names,
    optional_duration,
)
from rendezvous_raft.client._reads import CONSISTENCIES, find_request, least_revision
from rendezvous_raft.client.arguments import Seconds
from rendezvous_raft.client.results import ScopeDescription
from rendezvous_raft.types import BranchKind, Consistency, Verdict

_KINDS = {
    int(types.BRANCH_KIND_REGIONAL): BranchKind.REGIONAL,
    int(types.BRANCH_KIND_GLOBAL): BranchKind.GLOBAL,
    int(types.BRANCH_KIND_REGIONLESS): BranchKind.REGIONLESS,
}
_VERDICTS = {
    int(types.VERDICT_UNSPECIFIED): None,
    int(types.VERDICT_HOLDS): Verdict.HOLDS,
    int(types.VERDICT_CLOSED): Verdict.CLOSED,
    int(types.VERDICT_OTHER_SERVICE): Verdict.OTHER_SERVICE,
    int(types.VERDICT_OTHER_TAG): Verdict.OTHER_TAG,
    int(types.VERDICT_OTHER_REGION): Verdict.OTHER_REGION,
    int(types.VERDICT_OWN_ZONE): Verdict.OWN_ZONE,
    int(types.VERDICT_ZONE_WAITS): Verdict.ZONE_WAITS,
    int(types.VERDICT_SERVICE_WAITS): Verdict.SERVICE_WAITS,
    int(types.VERDICT_RELEASED_EARLY): Verdict.RELEASED_EARLY,
}


def describe_request(
    defaults: CallDefaults,
    request_id: str | None,
    *,
    scope: ScopeDescription | None,
    required_branches: Sequence[str],
    open_only: bool,
    timeout: Seconds | None,
    min_revision: int | None,
    consistency: Consistency | None,
) -> Call[pb.DescribeRequestResponse, results.RequestDescription]:
    """Builds DescribeRequest."""
    request = pb.DescribeRequestRequest(
        request_id=find_request(request_id)[0],
        scope=_scope_message(scope),
        required_branches=names("required_branches", required_branches),
        open_only=open_only,
        min_revision=least_revision(min_revision),
        consistency=CONSISTENCIES[consistency],
    )
    return Call(DESCRIBE_REQUEST, request, described, defaults.timeout(timeout))


def watch_request(
    request_id: str | None,
    *,
    scope: ScopeDescription | None,
    required_branches: Sequence[str],
    open_only: bool,
    await_registration: Seconds | None,
    min_revision: int | None,
    consistency: Consistency | None,
) -> pb.WatchRequestRequest:
    """Builds the message of WatchRequest."""
    return pb.WatchRequestRequest(
        request_id=find_request(request_id)[0],
        scope=_scope_message(scope),
        required_branches=names("required_branches", required_branches),
        open_only=open_only,
        await_registration=optional_duration("await_registration", await_registration),
        min_revision=least_revision(min_revision),
        consistency=CONSISTENCIES[consistency],
    )


def _scope_message(scope: ScopeDescription | None) -> types.Scope | None:
    if scope is None:
        return None
    return types.Scope(
        services=names("services", scope.services),
        region=scope.region,
        tag=scope.tag,
        zone=scope.zone,
        waiter_service=scope.waiter_service,
        wait_dependencies=scope.wait_dependencies,
    )


def described(answer: pb.DescribeRequestResponse) -> results.RequestDescription:
    """Converts the answer of DescribeRequest."""
    return results.RequestDescription(
        request_id=answer.request_id,
        status=status_of(answer.status),
        registered_at=time_of(answer.registered_at),
        branches=tuple(_branch(branch) for branch in answer.branches),
        branches_total=answer.branches_total,
        waiters=tuple(_waiter(waiter) for waiter in answer.waiters),
        revision=answer.revision,
        node=answer.node,
        node_region=answer.node_region,
        answered_at=time_of(answer.answered_at) if answer.HasField("answered_at") else None,
        branches_open=answer.branches_open,
        expires_in=seconds_of(answer.expires_in),
        missing_branches=tuple(answer.missing_branches),
    )


def watched(answer: pb.WatchRequestResponse) -> results.RequestDescription:
    """Converts one message of WatchRequest."""
    return described(answer.description)


def _branch(branch: types.BranchDescription) -> results.BranchDescription:
    return results.BranchDescription(
        branch_id=branch.branch_id,
        service=branch.service,
        tag=branch.tag,
        zone=branch.zone,
        parent_branch_id=branch.parent_branch_id,
        kind=known(_KINDS, branch.kind, "branch kind"),
        regions=tuple(
            results.RegionStatus(
                region.region,
                status_of(region.status),
                time_of(region.closed_at) if region.HasField("closed_at") else None,
                region.subscribers,
            )
            for region in branch.regions
        ),
        monitored=branch.monitored,
        locator=branch.locator,
        registered_at=time_of(branch.registered_at),
        status=status_of(branch.status),
        # For people alone: one that a newer node gives and this version does not know is none.
        verdict=_VERDICTS.get(branch.verdict),
    )


def _waiter(waiter: types.WaiterDescription) -> results.WaiterDescription:
    scope = waiter.scope
    return results.WaiterDescription(
        node=waiter.node,
        scope=ScopeDescription(
            services=tuple(scope.services),
            region=scope.region,
            tag=scope.tag,
            zone=scope.zone if scope.HasField("zone") else None,
            waiter_service=scope.waiter_service,
            wait_dependencies=scope.wait_dependencies,
        ),
        blocked_for=seconds_of(waiter.blocked_for) if waiter.HasField("blocked_for") else None,
        leased=waiter.leased,
        held_by=tuple(waiter.held_by),
        held_by_more=waiter.held_by_more,
        missing_branches=tuple(waiter.missing_branches),
        awaits_registration=waiter.awaits_registration,
        lease_ends_in=seconds_of(waiter.lease_ends_in)
        if waiter.HasField("lease_ends_in")
        else None,
    )
