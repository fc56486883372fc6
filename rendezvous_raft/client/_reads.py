"""Builds the reads, the wait, the subscription and the orders to a node."""

from __future__ import annotations

from collections.abc import Sequence

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2 as types
from rendezvous_raft.client import _answers, results
from rendezvous_raft.client._calls import (
    ADD_MEMBER,
    CHECK_BY_REGIONS,
    CHECK_REQUEST,
    CLUSTER_STATUS,
    DIGEST,
    FETCH_DEPENDENCIES,
    LIST_REQUESTS,
    REMOVE_MEMBER,
    TAKE_SNAPSHOT,
    TRANSFER_LEADERSHIP,
    WAIT_REQUEST,
    Call,
    CallDefaults,
    names,
    optional_seconds,
    revision,
    wait_margin_s,
)
from rendezvous_raft.client.arguments import MemberSpec, Seconds
from rendezvous_raft.context import Session, current_session
from rendezvous_raft.errors import InvalidArgument, LimitExceeded
from rendezvous_raft.limits import PAGE_SIZE_MAX, REQUIRED_BRANCHES_MAX, NodeLimits
from rendezvous_raft.types import Consistency, Status

_WAIT_S_MAX = NodeLimits().wait_timeout_ms_max / 1_000

CONSISTENCIES = {
    None: types.CONSISTENCY_UNSPECIFIED,
    Consistency.SESSION: types.CONSISTENCY_SESSION,
    Consistency.LINEARIZABLE: types.CONSISTENCY_LINEARIZABLE,
    Consistency.LOCAL: types.CONSISTENCY_LOCAL,
}
_STATUSES = {
    None: types.STATUS_UNSPECIFIED,
    Status.OPEN: types.STATUS_OPEN,
    Status.CLOSED: types.STATUS_CLOSED,
}


def wait_request(
    request_id: str | None,
    *,
    scope: types.Scope,
    timeout: Seconds | None,
    required_branches: Sequence[str] | None,
    await_registration: Seconds | None,
    min_revision: int | None,
    consistency: Consistency | None,
) -> Call[pb.WaitRequestResponse, results.WaitResult]:
    """Builds WaitRequest; its times are set anew for each attempt.

    Raises:
        LimitExceeded: More registrations are on their way than a wait can require.
    """
    chosen, session = find_request(request_id)
    if required_branches is not None:
        required = tuple(names("required_branches", required_branches))
    else:
        required = _on_their_way(session)
    request = pb.WaitRequestRequest(
        request_id=chosen,
        scope=scope,
        required_branches=required,
        min_revision=least_revision(min_revision),
        consistency=CONSISTENCIES[consistency],
    )
    asked_s = optional_seconds("timeout", timeout) or _WAIT_S_MAX
    return Call(
        WAIT_REQUEST,
        request,
        _answers.waited,
        asked_s + wait_margin_s(asked_s),
        required=required if session is not None else (),
        blocking_s=asked_s,
        await_registration_s=optional_seconds("await_registration", await_registration),
    )


def _on_their_way(session: Session | None) -> tuple[str, ...]:
    """The branches that a wait requires by itself. To leave one out could hide a write."""
    if session is None:
        return ()
    branches = session.unacknowledged
    if len(branches) > REQUIRED_BRANCHES_MAX:
        raise LimitExceeded(
            f"required_branches: {len(branches)} registrations of this request are on their way or"
            f" ended with an unknown outcome, and a wait can require {REQUIRED_BRANCHES_MAX};"
            " await or repeat some of them before the wait",
            details={
                "field": "required_branches",
                "limit": "required_branches_max",
                "value": str(len(branches)),
            },
        )
    return branches


def scope(
    defaults: CallDefaults,
    request_id: str | None,
    *,
    service: str,
    services: Sequence[str],
    region: str | None,
    tag: str,
    zone: str | None,
    waiter_service: str,
    wait_dependencies: bool,
) -> types.Scope:
    """Builds the scope of a wait or check.

    Raises:
        InvalidArgument: Both `service` and `services` are given, or no request is known.
    """
    if service and services:
        raise InvalidArgument.for_field("service", "either service or services, not both")
    _, session = find_request(request_id)
    if zone is None and session is not None:
        zone = session.zone
    return types.Scope(
        services=(service,) if service else names("services", services),
        region=defaults.region if region is None else region,
        tag=tag,
        zone=zone,
        waiter_service=waiter_service,
        wait_dependencies=wait_dependencies,
    )


def check_request(
    defaults: CallDefaults,
    request_id: str | None,
    *,
    scope: types.Scope,
    detailed: bool,
    timeout: Seconds | None,
    min_revision: int | None,
    consistency: Consistency | None,
) -> Call[pb.CheckRequestResponse, results.CheckResult]:
    """Builds CheckRequest."""
    request = pb.CheckRequestRequest(
        request_id=find_request(request_id)[0],
        scope=scope,
        detailed=detailed,
        min_revision=least_revision(min_revision),
        consistency=CONSISTENCIES[consistency],
    )
    return Call(CHECK_REQUEST, request, _answers.checked, defaults.timeout(timeout))


def check_by_regions(
    defaults: CallDefaults,
    request_id: str | None,
    *,
    services: Sequence[str],
    timeout: Seconds | None,
    min_revision: int | None,
    consistency: Consistency | None,
) -> Call[pb.CheckRequestByRegionsResponse, results.RegionStatuses]:
    """Builds CheckRequestByRegions."""
    request = pb.CheckRequestByRegionsRequest(
        request_id=find_request(request_id)[0],
        services=names("services", services),
        min_revision=least_revision(min_revision),
        consistency=CONSISTENCIES[consistency],
    )
    return Call(CHECK_BY_REGIONS, request, _answers.checked_by_regions, defaults.timeout(timeout))


def fetch_dependencies(
    defaults: CallDefaults,
    request_id: str | None,
    *,
    service: str,
    zone: str | None,
    timeout: Seconds | None,
    min_revision: int | None,
    consistency: Consistency | None,
) -> Call[pb.FetchDependenciesResponse, results.Dependencies]:
    """Builds FetchDependencies."""
    request = pb.FetchDependenciesRequest(
        request_id=find_request(request_id)[0],
        service=service,
        zone=zone,
        min_revision=least_revision(min_revision),
        consistency=CONSISTENCIES[consistency],
    )
    return Call(FETCH_DEPENDENCIES, request, _answers.dependencies, defaults.timeout(timeout))


def list_requests(
    defaults: CallDefaults,
    *,
    status: Status | None,
    service: str,
    page_size: int,
    page_token: str,
    timeout: Seconds | None,
    min_revision: int | None,
    consistency: Consistency | None,
) -> Call[pb.ListRequestsResponse, results.RequestPage]:
    """Builds ListRequests."""
    if status is Status.UNKNOWN:
        raise InvalidArgument.for_field("status", "OPEN, CLOSED or None")
    if not 0 <= page_size <= PAGE_SIZE_MAX:
        raise InvalidArgument.for_field("page_size", f"0 to {PAGE_SIZE_MAX}")
    request = pb.ListRequestsRequest(
        status=_STATUSES[status],
        service=service,
        page_size=page_size,
        page_token=page_token,
        min_revision=least_revision(min_revision),
        consistency=CONSISTENCIES[consistency],
    )
    return Call(LIST_REQUESTS, request, _answers.listed, defaults.timeout(timeout))


def subscribe(
    defaults: CallDefaults,
    service: str,
    region: str | None,
    *,
    tags: Sequence[str],
    group: str,
    resume_revision: int,
) -> pb.SubscribeRequest:
    """Builds the message of Subscribe."""
    return pb.SubscribeRequest(
        service=service,
        region=defaults.region if region is None else region,
        tags=names("tags", tags),
        group=group,
        resume_revision=revision("resume_revision", resume_revision),
    )


def cluster_status(
    defaults: CallDefaults, *, timeout: Seconds | None
) -> Call[admin.GetClusterStatusResponse, results.ClusterDescription]:
    """Builds GetClusterStatus."""
    request = admin.GetClusterStatusRequest()
    return Call(CLUSTER_STATUS, request, _answers.cluster, defaults.timeout(timeout))


def digest(
    defaults: CallDefaults, *, min_revision: int, timeout: Seconds | None
) -> Call[admin.GetDigestResponse, results.DigestResult]:
    """Builds GetDigest."""
    request = admin.GetDigestRequest(min_revision=revision("min_revision", min_revision))
    return Call(DIGEST, request, _answers.digest, defaults.timeout(timeout))


def take_snapshot(
    defaults: CallDefaults, *, timeout: Seconds | None
) -> Call[admin.TakeSnapshotResponse, results.SnapshotResult]:
    """Builds TakeSnapshot."""
    request = admin.TakeSnapshotRequest()
    return Call(TAKE_SNAPSHOT, request, _answers.snapshot, defaults.timeout(timeout))


def transfer_leadership(
    defaults: CallDefaults, *, target: str, timeout: Seconds | None
) -> Call[admin.TransferLeadershipResponse, str]:
    """Builds TransferLeadership; its result is the name of the member that was told."""
    request = admin.TransferLeadershipRequest(target=target)
    return Call(
        TRANSFER_LEADERSHIP, request, lambda answer: answer.target, defaults.timeout(timeout)
    )


def add_member(
    defaults: CallDefaults, member: MemberSpec, *, timeout: Seconds | None
) -> Call[admin.AddMemberResponse, None]:
    """Builds AddMember."""
    request = admin.AddMemberRequest(
        name=member.name,
        region=member.region,
        raft_address=member.raft_address,
        grpc_address=member.grpc_address,
        http_address=member.http_address,
        non_voter=member.non_voter,
    )
    return Call(ADD_MEMBER, request, lambda _answer: None, defaults.timeout(timeout))


def remove_member(
    defaults: CallDefaults, *, name: str, timeout: Seconds | None
) -> Call[admin.RemoveMemberResponse, None]:
    """Builds RemoveMember."""
    request = admin.RemoveMemberRequest(name=name)
    return Call(REMOVE_MEMBER, request, lambda _answer: None, defaults.timeout(timeout))


def find_request(request_id: str | None) -> tuple[str, Session | None]:
    """The id of the request, and the session if the request is the session's own.

    Raises:
        InvalidArgument: No id is given and no context is there to take it from. Not knowing what
            to look at must never pass for "nothing is open".
    """
    session = current_session()
    if session is not None and request_id in {None, session.request_id}:
        return session.request_id, session
    if not request_id:
        raise InvalidArgument.for_field("request_id", "give one, or call within a request")
    return request_id, None


def least_revision(min_revision: int | None) -> int:
    """The revision given, or else that of the current context.

    Raises:
        InvalidArgument: It is no revision.
    """
    if min_revision is not None:
        return revision("min_revision", min_revision)
    session = current_session()
    return session.min_revision if session is not None else 0
