"""From the messages of the wire to `results`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2 as types
from rendezvous_raft.client import results
from rendezvous_raft.client._errors import error_from_failure
from rendezvous_raft.errors import InternalError
from rendezvous_raft.types import Role, Standing, Status, WaitOutcome

_STATUSES = {
    int(types.STATUS_OPEN): Status.OPEN,
    int(types.STATUS_CLOSED): Status.CLOSED,
    int(types.STATUS_UNKNOWN): Status.UNKNOWN,
}
_OUTCOMES = {
    int(types.WAIT_OUTCOME_IMMEDIATE): WaitOutcome.IMMEDIATE,
    int(types.WAIT_OUTCOME_BLOCKED): WaitOutcome.BLOCKED,
    int(types.WAIT_OUTCOME_TIMED_OUT): WaitOutcome.TIMED_OUT,
}
_ROLES = {
    int(admin.ROLE_LEADER): Role.LEADER,
    int(admin.ROLE_FOLLOWER): Role.FOLLOWER,
    int(admin.ROLE_CANDIDATE): Role.CANDIDATE,
}
_STANDINGS = {
    int(admin.STANDING_VOTER): Standing.VOTER,
    int(admin.STANDING_JOINING): Standing.JOINING,
    int(admin.STANDING_NON_VOTER): Standing.NON_VOTER,
}
_EVENT_KINDS = {
    int(pb.SUBSCRIPTION_EVENT_KIND_OPEN): results.SubscriptionEventKind.OPEN,
    int(pb.SUBSCRIPTION_EVENT_KIND_CLOSED): results.SubscriptionEventKind.CLOSED,
    int(pb.SUBSCRIPTION_EVENT_KIND_SYNCED): results.SubscriptionEventKind.SYNCED,
}

EnumT = TypeVar("EnumT")


def registered_request(answer: pb.RegisterRequestResponse) -> results.RegisterRequestResult:
    """Converts the answer of RegisterRequest."""
    return results.RegisterRequestResult(answer.request_id, answer.created, answer.revision)


def registered_branch(answer: pb.RegisterBranchResponse) -> results.RegisterBranchResult:
    """Converts the answer of RegisterBranch."""
    return results.RegisterBranchResult(
        answer.request_id, answer.branch_id, answer.already_existed, answer.revision
    )


def registered_branches(answer: pb.RegisterBranchesResponse) -> results.RegisterBranchesResult:
    """Converts the answer of RegisterBranches."""
    return results.RegisterBranchesResult(
        answer.request_id, tuple(answer.branch_ids), answer.already_existed, answer.revision
    )


def closed_branch(answer: pb.CloseBranchResponse) -> results.CloseBranchResult:
    """Converts the answer of CloseBranch."""
    return results.CloseBranchResult(answer.closed, answer.already_closed, answer.revision)


def closed_branches(answer: pb.CloseBranchesResponse) -> results.CloseBranchesResult:
    """Converts the answer of CloseBranches."""
    return results.CloseBranchesResult(
        tuple(
            results.CloseResult(
                result.closed,
                result.already_closed,
                error_from_failure(result.failure, revision=answer.revision)
                if result.HasField("failure")
                else None,
            )
            for result in answer.results
        ),
        answer.revision,
    )


def waited(answer: pb.WaitRequestResponse) -> results.WaitResult:
    """Converts the answer of WaitRequest."""
    return results.WaitResult(
        outcome=known(_OUTCOMES, answer.outcome, "wait outcome"),
        prevented_inconsistency=answer.prevented_inconsistency,
        timed_out=answer.timed_out,
        blocked_for=seconds_of(answer.blocked_for),
        revision=answer.revision,
        open_branches=tuple(_open_branch(branch) for branch in answer.open_branches),
        known=answer.known,
    )


def checked(answer: pb.CheckRequestResponse) -> results.CheckResult:
    """Converts the answer of CheckRequest."""
    return results.CheckResult(
        status=status_of(answer.status),
        tagged={name: status_of(status) for name, status in answer.tagged.items()},
        regions={name: status_of(status) for name, status in answer.regions.items()},
        revision=answer.revision,
    )


def checked_by_regions(answer: pb.CheckRequestByRegionsResponse) -> results.RegionStatuses:
    """Converts the answer of CheckRequestByRegions."""
    return results.RegionStatuses(
        {name: status_of(status) for name, status in answer.statuses.items()}, answer.revision
    )


def dependencies(answer: pb.FetchDependenciesResponse) -> results.Dependencies:
    """Converts the answer of FetchDependencies."""
    return results.Dependencies(tuple(answer.direct), tuple(answer.indirect), answer.revision)


def listed(answer: pb.ListRequestsResponse) -> results.RequestPage:
    """Converts the answer of ListRequests."""
    return results.RequestPage(
        requests=tuple(
            results.RequestSummary(
                request_id=summary.request_id,
                status=status_of(summary.status),
                branches=summary.branches,
                branches_open=summary.branches_open,
                services=tuple(summary.services),
                registered_at=time_of(summary.registered_at),
            )
            for summary in answer.requests
        ),
        next_page_token=answer.next_page_token,
        revision=answer.revision,
    )


def subscription_event(answer: pb.SubscribeResponse) -> results.SubscriptionEvent:
    """Converts one message of Subscribe."""
    return results.SubscriptionEvent(
        kind=known(_EVENT_KINDS, answer.kind, "subscription event"),
        branch_id=answer.branch_id,
        request_id=answer.request_id,
        tag=answer.tag,
        locator=answer.locator,
        registered_at=time_of(answer.registered_at) if answer.HasField("registered_at") else None,
        revision=answer.revision,
        # The field's name is a keyword of Python.
        is_global=bool(getattr(answer, "global")),
    )


def cluster(answer: admin.GetClusterStatusResponse) -> results.ClusterDescription:
    """Converts the answer of GetClusterStatus."""
    return results.ClusterDescription(
        name=answer.name,
        region=answer.region,
        role=_ROLES.get(answer.role),
        term=answer.term,
        leader=answer.leader,
        revision=answer.revision,
        commit_index=answer.commit_index,
        applied_index=answer.applied_index,
        log_entries=answer.log_entries,
        members=tuple(
            results.MemberDescription(
                name=member.name,
                region=member.region,
                grpc_address=member.grpc_address,
                http_address=member.http_address,
                role=_ROLES.get(member.role),
                connected=member.connected,
                match_index=member.match_index,
                standing=_STANDINGS.get(member.standing),
                raft_address=member.raft_address,
            )
            for member in answer.members
        ),
        version=answer.version,
        durability=answer.durability,
        requests=answer.requests,
        branches_open=answer.branches_open,
        waits_in_progress=answer.waits_in_progress,
        pid=answer.pid,
        not_member=answer.not_member,
        unneeded_elections=answer.unneeded_elections,
    )


def digest(answer: admin.GetDigestResponse) -> results.DigestResult:
    """Converts the answer of GetDigest."""
    return results.DigestResult(answer.revision, answer.digest)


def snapshot(answer: admin.TakeSnapshotResponse) -> results.SnapshotResult:
    """Converts the answer of TakeSnapshot."""
    return results.SnapshotResult(answer.revision, answer.index, answer.size_bytes)


def _open_branch(branch: types.OpenBranch) -> results.OpenBranch:
    return results.OpenBranch(
        branch_id=branch.branch_id,
        service=branch.service,
        tag=branch.tag,
        zone=branch.zone,
        regions=tuple(branch.regions),
        age=seconds_of(branch.age),
        registered=branch.registered,
    )


def status_of(number: int) -> Status:
    """A status."""
    return known(_STATUSES, number, "status")


def known(values: Mapping[int, EnumT], number: int, what: str) -> EnumT:
    """The value of an enum; one that this version does not know must not pass for a harmless one.

    Raises:
        InternalError: it is not known.
    """
    value = values.get(number)
    if value is None:
        raise InternalError(f"the node answered with an unknown {what}: {number}")
    return value


def seconds_of(duration: Duration) -> float:
    """A duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def time_of(timestamp: Timestamp) -> dt.datetime:
    """A moment, in UTC."""
    return timestamp.ToDatetime(tzinfo=dt.UTC)
