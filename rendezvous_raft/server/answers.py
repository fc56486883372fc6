"""The way back through the gate: answers of the use-cases become messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin_pb
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2
from rendezvous_raft.core.results import CloseOutcome
from rendezvous_raft.limits import GRPC_MESSAGE_BYTES_MAX
from rendezvous_raft.node.calls import BranchIsOpen, Synced
from rendezvous_raft.node.rejections import close_error
from rendezvous_raft.server.failures import to_failure
from rendezvous_raft.types import Role, Standing, Status, WaitOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rendezvous_raft.core.commands import Close
    from rendezvous_raft.core.results import BranchesClosed, BranchesRegistered, RequestRegistered
    from rendezvous_raft.errors import InvalidArgument
    from rendezvous_raft.node import calls
    from rendezvous_raft.node.node import NodeStatistics
    from rendezvous_raft.node.status import ClusterStatus
    from rendezvous_raft.types import Revision

SERVICES_SHOWN_MAX = 100
"""Services of one request in a listing."""
RESPONSE_BYTES_MAX = GRPC_MESSAGE_BYTES_MAX * 3 // 4
"""Descriptions are cut here: they are for people, and the transport refuses what is larger."""

STATUSES = {
    Status.OPEN: types_pb2.STATUS_OPEN,
    Status.CLOSED: types_pb2.STATUS_CLOSED,
    Status.UNKNOWN: types_pb2.STATUS_UNKNOWN,
}
_OUTCOMES = {
    WaitOutcome.IMMEDIATE: types_pb2.WAIT_OUTCOME_IMMEDIATE,
    WaitOutcome.BLOCKED: types_pb2.WAIT_OUTCOME_BLOCKED,
    WaitOutcome.TIMED_OUT: types_pb2.WAIT_OUTCOME_TIMED_OUT,
}
_ROLES = {
    None: admin_pb.ROLE_UNSPECIFIED,
    Role.LEADER: admin_pb.ROLE_LEADER,
    Role.FOLLOWER: admin_pb.ROLE_FOLLOWER,
    Role.CANDIDATE: admin_pb.ROLE_CANDIDATE,
}
_STANDINGS = {
    Standing.VOTER: admin_pb.STANDING_VOTER,
    Standing.JOINING: admin_pb.STANDING_JOINING,
    Standing.NON_VOTER: admin_pb.STANDING_NON_VOTER,
}


def request_registered(result: RequestRegistered, at: Revision) -> pb.RegisterRequestResponse:
    """W1."""
    return pb.RegisterRequestResponse(
        request_id=result.request_id, created=result.created, revision=at
    )


def branch_registered(result: BranchesRegistered, at: Revision) -> pb.RegisterBranchResponse:
    """W2."""
    return pb.RegisterBranchResponse(
        request_id=result.request_id,
        branch_id=result.branch_ids[0],
        already_existed=result.already_existed,
        revision=at,
    )


def branches_registered(result: BranchesRegistered, at: Revision) -> pb.RegisterBranchesResponse:
    """W3."""
    return pb.RegisterBranchesResponse(
        request_id=result.request_id,
        branch_ids=result.branch_ids,
        already_existed=result.already_existed,
        revision=at,
    )


def branch_closed(outcome: CloseOutcome, at: Revision) -> pb.CloseBranchResponse:
    """W4, for an outcome that is no failure."""
    return pb.CloseBranchResponse(
        closed=outcome is CloseOutcome.CLOSED,
        already_closed=outcome is CloseOutcome.ALREADY_CLOSED,
        revision=at,
    )


def branches_closed(
    closes: Sequence[Close],
    closed: BranchesClosed,
    *,
    faults: Mapping[int, InvalidArgument],
    at: Revision,
) -> pb.CloseBranchesResponse:
    """W5: a result per item, those that never got past the gate put back in their places."""
    results = [
        _close_result(close, outcome, at)
        for close, outcome in zip(closes, closed.outcomes, strict=True)
    ]
    for index, fault in sorted(faults.items()):
        results.insert(index, pb.CloseResult(failure=to_failure(fault)))
    return pb.CloseBranchesResponse(results=results, revision=at)


def _close_result(close: Close, outcome: CloseOutcome, at: Revision) -> pb.CloseResult:
    error = close_error(close, outcome, at)
    if error is not None:
        return pb.CloseResult(failure=to_failure(error))
    return pb.CloseResult(
        closed=outcome is CloseOutcome.CLOSED,
        already_closed=outcome is CloseOutcome.ALREADY_CLOSED,
    )


def wait(answer: calls.WaitAnswer) -> pb.WaitRequestResponse:
    """R1, R2."""
    response = pb.WaitRequestResponse(
        outcome=_OUTCOMES[answer.outcome],
        prevented_inconsistency=answer.outcome is WaitOutcome.BLOCKED,
        timed_out=answer.outcome is WaitOutcome.TIMED_OUT,
        revision=answer.revision,
        known=answer.known,
    )
    response.blocked_for.FromNanoseconds(round(answer.blocked_for_s * 1e9))
    response.open_branches.extend(_open_branch(branch) for branch in answer.open_branches)
    return response


def _open_branch(branch: calls.OpenBranch) -> types_pb2.OpenBranch:
    return types_pb2.OpenBranch(
        branch_id=branch.branch_id,
        service=branch.service,
        tag=branch.tag,
        zone=branch.zone,
        regions=branch.regions,
        age=duration_of(branch.age_s),
        registered=branch.registered,
    )


def check(answer: calls.CheckAnswer) -> pb.CheckRequestResponse:
    """C1."""
    return pb.CheckRequestResponse(
        status=STATUSES[answer.status],
        tagged={tag: STATUSES[status] for tag, status in (answer.tagged or {}).items()},
        regions={region: STATUSES[status] for region, status in (answer.regions or {}).items()},
        revision=answer.revision,
    )


def check_by_regions(answer: calls.RegionsAnswer) -> pb.CheckRequestByRegionsResponse:
    """C2."""
    return pb.CheckRequestByRegionsResponse(
        statuses={region: STATUSES[status] for region, status in answer.statuses.items()},
        revision=answer.revision,
    )


def dependencies(answer: calls.DependenciesAnswer) -> pb.FetchDependenciesResponse:
    """D1."""
    return pb.FetchDependenciesResponse(
        direct=answer.direct, indirect=answer.indirect, revision=answer.revision
    )


def requests(page: calls.RequestPage) -> pb.ListRequestsResponse:
    """Q1, one page."""
    return pb.ListRequestsResponse(
        requests=[
            types_pb2.RequestSummary(
                request_id=summary.request_id,
                status=STATUSES[summary.status],
                branches=summary.branches,
                branches_open=summary.branches_open,
                services=summary.services[:SERVICES_SHOWN_MAX],
                registered_at=timestamp_of(summary.registered_at_ms),
            )
            for summary in page.requests
        ],
        next_page_token="" if page.next_after is None else str(page.next_after),
        revision=page.revision,
    )


def subscription_event(event: calls.SubscriptionEvent) -> pb.SubscribeResponse:
    """U1."""
    if isinstance(event, Synced):
        return pb.SubscribeResponse(kind=pb.SUBSCRIPTION_EVENT_KIND_SYNCED, revision=event.revision)
    response = pb.SubscribeResponse(
        kind=pb.SUBSCRIPTION_EVENT_KIND_CLOSED,
        branch_id=event.branch_id,
        request_id=event.request_id,
        revision=event.revision,
    )
    setattr(response, "global", event.is_global)  # the field is named like a keyword of Python
    if isinstance(event, BranchIsOpen):
        response.kind = pb.SUBSCRIPTION_EVENT_KIND_OPEN
        response.tag = event.tag
        response.locator = event.locator
        response.registered_at.CopyFrom(timestamp_of(event.registered_at_ms))
    return response


def cluster_status(
    status: ClusterStatus, statistics: NodeStatistics, *, version: str, pid: int
) -> admin_pb.GetClusterStatusResponse:
    """The node's view of its cluster."""
    return admin_pb.GetClusterStatusResponse(
        name=status.name,
        region=status.region,
        role=_ROLES[status.role],
        term=status.term,
        leader=status.leader or "",
        revision=status.revision,
        commit_index=status.commit_index,
        applied_index=status.applied_index,
        log_entries=status.log_entries,
        members=[
            admin_pb.Member(
                name=member.name,
                region=member.region,
                grpc_address=member.grpc_address,
                http_address=member.http_address,
                role=_ROLES[member.role],
                connected=member.connected,
                match_index=member.match_index,
                standing=_STANDINGS[member.standing],
                raft_address=member.raft_address,
            )
            for member in status.members
        ],
        version=version,
        durability=status.durability,
        requests=statistics.requests,
        branches_open=statistics.branches_open,
        waits_in_progress=statistics.waits_in_progress,
        pid=pid,
        not_member=status.not_member,
        unneeded_elections=status.unneeded_elections,
    )


def duration_of(seconds: float) -> Duration:
    """The message of a duration; a negative one is none."""
    duration = Duration()
    duration.FromNanoseconds(round(max(seconds, 0.0) * 1e9))
    return duration


def timestamp_of(at_ms: int) -> Timestamp:
    """The message of a moment."""
    return Timestamp(seconds=at_ms // 1000, nanos=at_ms % 1000 * 1_000_000)
