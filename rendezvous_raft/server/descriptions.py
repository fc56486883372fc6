"""Descriptions of requests, to messages of the API and to JSON over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2
from rendezvous_raft.server.answers import (
    RESPONSE_BYTES_MAX,
    STATUSES,
    duration_of,
    timestamp_of,
)
from rendezvous_raft.types import BranchKind, Verdict

if TYPE_CHECKING:
    from rendezvous_raft.core.commands import Scope
    from rendezvous_raft.node import calls

_KINDS = {
    BranchKind.REGIONAL: types_pb2.BRANCH_KIND_REGIONAL,
    BranchKind.GLOBAL: types_pb2.BRANCH_KIND_GLOBAL,
    BranchKind.REGIONLESS: types_pb2.BRANCH_KIND_REGIONLESS,
}
_VERDICTS = {
    None: types_pb2.VERDICT_UNSPECIFIED,
    Verdict.HOLDS: types_pb2.VERDICT_HOLDS,
    Verdict.CLOSED: types_pb2.VERDICT_CLOSED,
    Verdict.OTHER_SERVICE: types_pb2.VERDICT_OTHER_SERVICE,
    Verdict.OTHER_TAG: types_pb2.VERDICT_OTHER_TAG,
    Verdict.OTHER_REGION: types_pb2.VERDICT_OTHER_REGION,
    Verdict.OWN_ZONE: types_pb2.VERDICT_OWN_ZONE,
    Verdict.ZONE_WAITS: types_pb2.VERDICT_ZONE_WAITS,
    Verdict.SERVICE_WAITS: types_pb2.VERDICT_SERVICE_WAITS,
    Verdict.RELEASED_EARLY: types_pb2.VERDICT_RELEASED_EARLY,
}


def description(answer: calls.RequestDescription) -> pb.DescribeRequestResponse:
    """Q1: cut to what a message may hold."""
    response = pb.DescribeRequestResponse(
        request_id=answer.request_id,
        status=STATUSES[answer.status],
        registered_at=timestamp_of(answer.registered_at_ms),
        branches_total=answer.branches_total,
        revision=answer.revision,
        node=answer.node,
        node_region=answer.node_region,
        answered_at=timestamp_of(answer.answered_at_ms),
        branches_open=answer.branches_open,
        expires_in=duration_of(answer.expires_in_s),
        missing_branches=answer.missing_branches,
    )
    size = 0
    for waiter in answer.waiters:
        shown = _waiter(waiter)
        size += shown.ByteSize()
        if size > RESPONSE_BYTES_MAX // 2:
            break
        response.waiters.append(shown)
    for branch in answer.branches:
        described = _branch(branch)
        size += described.ByteSize()
        if size > RESPONSE_BYTES_MAX:
            break
        response.branches.append(described)
    return response


def watched(answer: calls.RequestDescription) -> pb.WatchRequestResponse:
    """Q1, one of a watch."""
    return pb.WatchRequestResponse(description=description(answer), revision=answer.revision)


def _branch(branch: calls.BranchDescription) -> types_pb2.BranchDescription:
    return types_pb2.BranchDescription(
        branch_id=branch.branch_id,
        service=branch.service,
        tag=branch.tag,
        zone=branch.zone,
        parent_branch_id=branch.parent_branch_id,
        kind=_KINDS[branch.kind],
        regions=[
            types_pb2.RegionStatus(
                region=part.region,
                status=STATUSES[part.status],
                closed_at=None if part.closed_at_ms is None else timestamp_of(part.closed_at_ms),
                subscribers=part.subscribers,
            )
            for part in branch.regions
        ],
        monitored=branch.monitored,
        locator=branch.locator,
        registered_at=timestamp_of(branch.registered_at_ms),
        status=STATUSES[branch.status],
        verdict=_VERDICTS[branch.verdict],
    )


def _waiter(waiter: calls.WaiterDescription) -> types_pb2.WaiterDescription:
    blocked_for_s, lease_ends_in_s = waiter.blocked_for_s, waiter.lease_ends_in_s
    return types_pb2.WaiterDescription(
        node=waiter.node,
        scope=_scope(waiter.scope),
        blocked_for=None if blocked_for_s is None else duration_of(blocked_for_s),
        leased=waiter.leased,
        held_by=waiter.held_by,
        held_by_more=waiter.held_by_more,
        missing_branches=waiter.missing_branches,
        awaits_registration=waiter.awaits_registration,
        lease_ends_in=None if lease_ends_in_s is None else duration_of(lease_ends_in_s),
    )


def _scope(scope: Scope) -> types_pb2.Scope:
    return types_pb2.Scope(
        services=scope.services,
        region=scope.region,
        tag=scope.tag,
        zone=scope.zone,
        waiter_service=scope.waiter_service,
        wait_dependencies=scope.wait_dependencies,
    )
