"""The gate: what comes from outside becomes domain values here, or is refused.

Everything behind it trusts sizes, alphabets and ranges. A refusal is definite: nothing has been
proposed. It names the path of the field, e.g. `branch.regions[2]`, and the limit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2
from rendezvous_raft.core.commands import Close, NewBranch, Scope
from rendezvous_raft.errors import InvalidArgument, LimitExceeded
from rendezvous_raft.limits import (
    BRANCHES_PER_CALL_MAX,
    LOCATOR_BYTES_MAX,
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
    REQUIRED_BRANCHES_MAX,
    SCOPE_SERVICES_MAX,
    SUBSCRIPTION_TAGS_MAX,
    StateLimits,
)
from rendezvous_raft.node.calls import (
    BranchClosing,
    BranchRegistration,
    DescriptionQuery,
    Freshness,
    SubscriptionKey,
    WaitQuery,
)
from rendezvous_raft.server.fields import (
    check_bytes,
    check_count,
    check_given_name,
    check_id,
    check_ids,
    check_name,
    check_names,
    check_optional_id,
    duration_s,
)
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    Consistency,
    Region,
    RequestId,
    Revision,
    Service,
    Status,
    Tag,
    Zone,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    from google.protobuf.duration_pb2 import Duration

    from rendezvous_raft.limits import NodeLimits
    from rendezvous_raft.server.ids import CallIds

    class FreshnessFields(Protocol):
        """The two fields that every read has."""

        @property
        def min_revision(self) -> int:
            """Revision that the answering node must have applied."""
            ...

        @property
        def consistency(self) -> types_pb2.Consistency.ValueType:
            """How fresh the answer must be."""
            ...

    class PatientFields(Protocol):
        """What a call has that waits for something to be registered."""

        @property
        def await_registration(self) -> Duration:
            """How long; absent or 0: not at all."""
            ...


_REGIONS_MAX = StateLimits().regions_per_branch_max
_SESSION = Consistency.SESSION
_LINEARIZABLE_NOW = Freshness(consistency=Consistency.LINEARIZABLE)
_CONSISTENCIES = {
    types_pb2.CONSISTENCY_SESSION: Consistency.SESSION,
    types_pb2.CONSISTENCY_LINEARIZABLE: Consistency.LINEARIZABLE,
    types_pb2.CONSISTENCY_LOCAL: Consistency.LOCAL,
}
_LISTED_STATUSES = {
    types_pb2.STATUS_UNSPECIFIED: None,
    types_pb2.STATUS_OPEN: Status.OPEN,
    types_pb2.STATUS_CLOSED: Status.CLOSED,
}


def request_id(text: str, ids: CallIds) -> RequestId:
    """The request of a write; an empty id is chosen."""
    return RequestId(check_id(text, "request_id")) if text else ids.request_id()


def known_request_id(text: str) -> RequestId:
    """The request of a read; it has to be named."""
    return RequestId(check_id(text, "request_id"))


def branch_registration(
    request: pb.RegisterBranchRequest, ids: CallIds, limits: NodeLimits
) -> BranchRegistration:
    """W2."""
    if not request.HasField("branch"):
        raise InvalidArgument.for_field("branch", "must be given")
    return BranchRegistration(
        request_id(request.request_id, ids),
        (_new_branch(request.branch, "branch", index=0, ids=ids),),
        _write_patience_s(request, limits),
    )


def branches_registration(
    request: pb.RegisterBranchesRequest, ids: CallIds, limits: NodeLimits
) -> BranchRegistration:
    """W3: all of them or none."""
    check_count(len(request.branches), "branches", count_min=1, count_max=BRANCHES_PER_CALL_MAX)
    branches = tuple(
        _new_branch(spec, f"branches[{index}]", index=index, ids=ids)
        for index, spec in enumerate(request.branches)
    )
    places: dict[BranchId, int] = {}
    for index, branch in enumerate(branches):
        first = places.setdefault(branch.branch_id, index)
        if first != index:
            raise InvalidArgument.for_field(
                f"branches[{index}].branch_id", f"is the same as branches[{first}].branch_id"
            )
    return BranchRegistration(
        request_id(request.request_id, ids),
        branches,
        _write_patience_s(request, limits),
    )


def _new_branch(spec: pb.BranchSpec, parent: str, *, index: int, ids: CallIds) -> NewBranch:
    service = check_given_name(spec.service, "service", parent)
    branch_id = spec.branch_id
    if branch_id:
        check_id(branch_id, "branch_id", parent)
    else:
        branch_id = ids.branch_id(service, index)
    names = spec.regions
    regions = _regions(names, parent) if names else ()
    return NewBranch(
        BranchId(branch_id),
        Service(service),
        Tag(check_name(spec.tag, "tag", parent)),
        BranchKind.REGIONAL if regions else BranchKind.GLOBAL,
        regions,
        Zone(check_name(spec.zone, "zone", parent)),
        BranchId(check_optional_id(spec.parent_branch_id, "parent_branch_id", parent)),
        spec.monitored if spec.HasField("monitored") else True,
        check_bytes(spec.locator, "locator", parent, bytes_max=LOCATOR_BYTES_MAX),
    )


def _regions(names: Sequence[str], parent: str) -> tuple[Region, ...]:
    """A set of names, sorted; how many there may be is a limit of the state (L3)."""
    regions = sorted(set(names))
    try:
        for name in regions:
            check_given_name(name, "regions", parent)
    except InvalidArgument:
        check_names(names, f"{parent}.regions", count_max=len(names))  # which one is it?
        raise
    if len(regions) > _REGIONS_MAX:
        field = f"{parent}.regions"
        raise LimitExceeded(
            f"{field}: at most {_REGIONS_MAX} regions are allowed, not {len(regions)}",
            details={
                "limit": "regions_per_branch_max",
                "value": str(len(regions)),
                "field": field,
            },
        )
    return cast("tuple[Region, ...]", tuple(regions))


def branch_closing(request: pb.CloseBranchRequest, limits: NodeLimits) -> BranchClosing:
    """W4."""
    if not request.HasField("close"):
        raise InvalidArgument.for_field("close", "must be given")
    return BranchClosing(
        (_close(request.close, "close"),),
        _write_patience_s(request, limits),
    )


def branches_closing(
    request: pb.CloseBranchesRequest, limits: NodeLimits
) -> tuple[BranchClosing, dict[int, InvalidArgument]]:
    """W5: the sound items, and the faults of the others by their place.

    One item's fault never fails the others, so only what is about the whole call is raised.
    """
    check_count(len(request.closes), "closes", count_min=1, count_max=BRANCHES_PER_CALL_MAX)
    closes: list[Close] = []
    faults: dict[int, InvalidArgument] = {}
    for index, spec in enumerate(request.closes):
        try:
            closes.append(_close(spec, f"closes[{index}]"))
        except InvalidArgument as fault:
            faults[index] = fault
    return BranchClosing(tuple(closes), _write_patience_s(request, limits)), faults


def _write_patience_s(request: PatientFields, limits: NodeLimits) -> float:
    """For an unknown parent or branch, which never outlasts the longest call."""
    return _patience_s(request, limits.call_timeout_ms_max / 1000)


def _patience_s(request: PatientFields, max_s: float) -> float:
    return min(duration_s(request.await_registration, "await_registration"), max_s)


def _close(spec: pb.CloseSpec, parent: str) -> Close:
    branch_id = BranchId(check_id(spec.branch_id, "branch_id", parent))
    region = Region(check_name(spec.region, "region", parent))
    if region and spec.all_regions:
        raise InvalidArgument.for_field(f"{parent}.region", "must be empty with all_regions")
    return Close(branch_id, region, spec.all_regions)


def wait_query(request: pb.WaitRequestRequest, limits: NodeLimits) -> WaitQuery:
    """R1 to R4; no time-out, or a longer one, is the node's maximum."""
    timeout_max_s = limits.wait_timeout_ms_max / 1000
    timeout_s = duration_s(request.timeout, "timeout") or timeout_max_s
    required = request.required_branches
    return WaitQuery(
        known_request_id(request.request_id),
        scope(request.scope),
        min(timeout_s, timeout_max_s),
        tuple(
            BranchId(branch_id)
            for branch_id in check_ids(
                required, "required_branches", count_max=REQUIRED_BRANCHES_MAX
            )
        )
        if required
        else (),
        _patience_s(request, timeout_max_s),
        freshness(request),
    )


def scope(spec: types_pb2.Scope) -> Scope:
    """S1 to S5; an absent scope is everything."""
    services = spec.services and check_names(
        spec.services, "scope.services", count_max=SCOPE_SERVICES_MAX
    )
    tag = check_name(spec.tag, "tag", "scope")
    if tag and len(services) != 1:
        raise InvalidArgument.for_field("scope.tag", "needs exactly one service")
    if tag and spec.wait_dependencies:
        raise InvalidArgument.for_field("scope.tag", "must be empty with wait_dependencies")
    return Scope(
        tuple(Service(service) for service in services),
        Region(check_name(spec.region, "region", "scope")),
        Tag(tag),
        Zone(check_name(spec.zone, "zone", "scope")) if spec.HasField("zone") else None,
        Service(check_name(spec.waiter_service, "waiter_service", "scope")),
        spec.wait_dependencies,
    )


def freshness(request: FreshnessFields) -> Freshness:
    """G3: SESSION when a revision is given, LINEARIZABLE otherwise, unless told."""
    given, min_revision = request.consistency, request.min_revision
    if not given:
        return Freshness(_SESSION, Revision(min_revision)) if min_revision else _LINEARIZABLE_NOW
    consistency = _CONSISTENCIES.get(given)
    if consistency is None:
        raise InvalidArgument.for_field("consistency", f"{given} is not one of the enum's values")
    return Freshness(consistency, Revision(min_revision))


def description_query(
    request: pb.DescribeRequestRequest | pb.WatchRequestRequest,
) -> DescriptionQuery:
    """Q1; without a scope nothing is said of what a wait makes of a branch."""
    required = check_ids(
        request.required_branches, "required_branches", count_max=REQUIRED_BRANCHES_MAX
    )
    return DescriptionQuery(
        request_id=known_request_id(request.request_id),
        scope=scope(request.scope) if request.HasField("scope") else None,
        required_branches=tuple(BranchId(branch_id) for branch_id in required),
        open_only=request.open_only,
        freshness=freshness(request),
    )


def watch_query(request: pb.WatchRequestRequest, limits: NodeLimits) -> DescriptionQuery:
    """Q1, with patience for an unknown request: at most as much as a wait has."""
    patience_s = _patience_s(request, limits.wait_timeout_ms_max / 1000)
    return replace(description_query(request), await_registration_s=patience_s)


def services(names: Iterable[str]) -> tuple[Service, ...]:
    """The services of CheckRequestByRegions; none means all."""
    checked = check_names(names, "services", count_max=SCOPE_SERVICES_MAX)
    return tuple(Service(name) for name in checked)


def dependencies_of(request: pb.FetchDependenciesRequest) -> tuple[Service, Zone | None]:
    """D1: the service, and the zone to leave out."""
    zone = Zone(check_name(request.zone, "zone")) if request.HasField("zone") else None
    return Service(check_name(request.service, "service")), zone


def page(request: pb.ListRequestsRequest) -> tuple[Status | None, Service, int, int]:
    """Q1: status, service, what to begin after, and the size of the page."""
    if request.status not in _LISTED_STATUSES:
        raise InvalidArgument.for_field("status", "must be OPEN, CLOSED or UNSPECIFIED")
    if request.page_size < 0:
        raise InvalidArgument.for_field("page_size", "must not be negative")
    check_count(request.page_size, "page_size", count_max=PAGE_SIZE_MAX)
    token = request.page_token
    if token and not (token.isascii() and token.isdecimal() and len(token) <= 18):
        raise InvalidArgument.for_field("page_token", "is not one that this service gave")
    service = Service(check_name(request.service, "service"))
    after, size = int(token or 0), request.page_size or PAGE_SIZE_DEFAULT
    return _LISTED_STATUSES[request.status], service, after, size


def subscription_key(request: pb.SubscribeRequest) -> SubscriptionKey:
    """U1, U5."""
    tags = dict.fromkeys(
        check_name(tag, f"tags[{index}]") for index, tag in enumerate(request.tags)
    )
    check_count(len(tags), "tags", count_max=SUBSCRIPTION_TAGS_MAX)
    return SubscriptionKey(
        service=Service(check_given_name(request.service, "service")),
        region=Region(check_given_name(request.region, "region")),
        tags=tuple(Tag(tag) for tag in tags),
        group=check_name(request.group, "group"),
        resume_revision=Revision(request.resume_revision),
    )


def item_timeout_s(request: pb.ExecuteRequest, limits: NodeLimits) -> float:
    """Time for each write of an Execute batch; absent or too long is the node's maximum."""
    timeout_max_s = limits.call_timeout_ms_max / 1000
    return min(duration_s(request.timeout, "timeout") or timeout_max_s, timeout_max_s)
