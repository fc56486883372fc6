"""The format of the original's branch `main`: `/rendezvous.ClientService/…` on its own port."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rendezvous_raft import errors
from rendezvous_raft._proto.compat import main_pb2 as pb
from rendezvous_raft.core.commands import Close, NewBranch, Scope
from rendezvous_raft.core.results import BranchesRegistered, CloseOutcome
from rendezvous_raft.limits import (
    BRANCHES_PER_CALL_MAX,
    REQUIRED_BRANCHES_MAX,
    SCOPE_SERVICES_MAX,
    StateLimits,
)
from rendezvous_raft.node.calls import (
    BranchClosing,
    BranchIsOpen,
    Freshness,
    NumberedRegistration,
    SubscriptionKey,
    WaitQuery,
)
from rendezvous_raft.server.compat import bids, refusals
from rendezvous_raft.server.compat.closing import close_one, request_is_known
from rendezvous_raft.server.compat.naming import await_known, register_below_parent
from rendezvous_raft.server.compat.waiting import Patience, timeout_s
from rendezvous_raft.server.fields import check_count, check_name, check_names
from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    Consistency,
    Region,
    RequestId,
    Service,
    Status,
    Tag,
    WaitOutcome,
    Zone,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rendezvous_raft.node.node import Node
    from rendezvous_raft.server.interceptors import Call

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ClientService"]
BIDS_VISIBLE_S = 30.0
"""How long a close waits for its `visible_bids`."""
NUMBERED = BranchId("")
"""A branch whose id the state numbers."""
BID_WITHOUT_REQUEST = "Unexpected error parsing bid"
NEGATIVE_TIMEOUT = "Invalid timeout. Value must to be greater than 0"
_REGIONS_MAX = StateLimits().regions_per_branch_max
_LINEARIZABLE = Freshness(Consistency.LINEARIZABLE)
_STATUSES = {Status.CLOSED: pb.CLOSED, Status.OPEN: pb.OPENED, Status.UNKNOWN: pb.UNKNOWN}


class MainService:
    """Translates, and nothing else: every rule is a use-case's or a row of the table."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._prefix = f"rv_{node.name}"

    async def register_request(
        self, request: pb.RegisterRequestMessage, call: Call
    ) -> pb.RegisterRequestResponse:
        """W1."""
        registration = NumberedRegistration(
            bids.check_request_id(request.rid, self._prefix),
            self._prefix,
            command_id=bids.command_id_of(call, "main RegisterRequest"),
        )
        with refusals.request_has_to_be_known():
            result, _ = await self._node.register_numbered(registration, deadline_s=call.deadline_s)
        return pb.RegisterRequestResponse(rid=result.request_id)

    async def register_branch(
        self, request: pb.RegisterBranchMessage, call: Call
    ) -> pb.RegisterBranchResponse:
        """W2."""
        rid = bids.check_request_id(request.rid, self._prefix)
        own = bids.own_part(request.bid, rid, self._prefix)
        parent = _parent(request.current_service_bid, rid)
        branch = _new_branch(request, own=own, parent=parent)
        result = await self._register(rid, (branch,), call, "main RegisterBranch")
        return pb.RegisterBranchResponse(rid=result.request_id, bid=result.branch_ids[0])

    async def register_branches(
        self, request: pb.RegisterBranchesMessage, call: Call
    ) -> pb.RegisterBranchesResponse:
        """W3."""
        check_count(len(request.branches), "branches", count_min=1, count_max=BRANCHES_PER_CALL_MAX)
        rid = bids.check_request_id(request.rid, self._prefix)
        parent = _parent(request.current_service_bid, rid)
        branches = tuple(_new_branch(branch, parent=parent) for branch in request.branches)
        result = await self._register(rid, branches, call, "main RegisterBranches")
        return pb.RegisterBranchesResponse(rid=result.request_id, bids=result.branch_ids)

    async def _register(
        self, rid: RequestId, branches: tuple[NewBranch, ...], call: Call, place: str
    ) -> BranchesRegistered:
        registration = NumberedRegistration(
            rid, self._prefix, branches, bids.command_id_of(call, place)
        )
        try:
            with refusals.request_has_to_be_known():
                answer = await register_below_parent(
                    self._node, registration, deadline_s=call.deadline_s
                )
        except (errors.AlreadyExists, errors.BranchNotFound) as error:
            raise errors.InvalidArgument(
                refusals.NOT_REGISTERED, revision=error.revision, details=error.details
            ) from None
        result = cast("BranchesRegistered", answer)
        if result.already_existed:
            raise refusals.invalid(refusals.NOT_REGISTERED)
        return result

    async def close_branch(self, request: pb.CloseBranchMessage, call: Call) -> pb.Empty:
        """W4. A second close is told from the first."""
        _, colon, rid = request.bid.partition(":")
        if not colon:
            raise refusals.unreadable_bid(BID_WITHOUT_REQUEST)
        bid = BranchId(bids.check_bid(request.bid, "bid"))
        close = Close(bid, Region(check_name(request.region, "region")))
        await self._await_visible(_visible_bids(request, rid), call)
        command_id = bids.command_id_of(call, "main CloseBranch")
        closing = BranchClosing((close,), command_id=command_id)
        outcome, at = await close_one(self._node, closing, deadline_s=call.deadline_s)
        match outcome:
            case CloseOutcome.ALREADY_CLOSED:
                raise refusals.not_found(refusals.UNKNOWN_BID)
            case CloseOutcome.REQUEST_EXPIRED:
                raise refusals.invalid(refusals.UNKNOWN_REQUEST)
            case CloseOutcome.BRANCH_UNKNOWN:
                await request_is_known(self._node, rid, at, deadline_s=call.deadline_s)
                raise refusals.invalid(refusals.NOT_IN_REGION)
            case CloseOutcome.REGION_NOT_OF_BRANCH:
                raise refusals.invalid(refusals.NOT_IN_REGION)
        return pb.Empty()

    async def _await_visible(self, visible: tuple[BranchId, ...], call: Call) -> None:
        end_s = min(call.deadline_s, self._node.clock.monotonic_s() + BIDS_VISIBLE_S)
        for bid in visible:
            if not await await_known(self._node, bid, deadline_s=end_s):
                raise errors.DeadlineExceeded(refusals.BIDS_NOT_VISIBLE, definite=True)

    async def wait_request(
        self, request: pb.WaitRequestMessage, call: Call
    ) -> pb.WaitRequestResponse:
        """R1 to R7. What the request never used is refused, but for a region alone."""
        patience_s = timeout_s(request.timeout, self._node.limits, negative=NEGATIVE_TIMEOUT)
        scope = _wait_scope(request)
        rid = RequestId(request.rid)
        patience = Patience(patience_s, self._node.clock)
        with refusals.request_has_to_be_known():
            known = await self._node.recognise(
                rid, scope, freshness=_LINEARIZABLE, deadline_s=patience.end_s(call.deadline_s)
            )
            if scope.services:
                if not known.place:
                    raise refusals.invalid(refusals.UNKNOWN_PLACE)
                if not known.tag:
                    raise refusals.invalid(
                        refusals.UNKNOWN_TAG if scope.region else refusals.UNKNOWN_PLACE
                    )
                if not known.waiter_service:
                    raise refusals.invalid(refusals.UNKNOWN_WAITER)
            freshness = Freshness(Consistency.SESSION, known.revision)
            query = WaitQuery(rid, scope, patience.left_s(), freshness=freshness)
            answer = await self._node.wait(query, deadline_s=call.deadline_s)
        return pb.WaitRequestResponse(
            prevented_inconsistency=answer.outcome is WaitOutcome.BLOCKED,
            timed_out=answer.outcome is WaitOutcome.TIMED_OUT,
        )

    async def check_status(
        self, request: pb.CheckStatusMessage, call: Call
    ) -> pb.CheckStatusResponse:
        """C1."""
        service = check_name(request.service, "service")
        scope = Scope(
            services=(Service(service),) if service else (),
            region=Region(check_name(request.region, "region")),
            zone=Zone(check_name(request.acsl, "acsl")),
        )
        with refusals.request_has_to_be_known():
            answer = await self._node.regional_status(
                RequestId(request.rid), scope, freshness=_LINEARIZABLE, deadline_s=call.deadline_s
            )
        response = pb.CheckStatusResponse(status=_STATUSES[answer.status])
        if request.detailed:
            for tag, status in (answer.tagged or {}).items():
                response.tagged[tag] = _STATUSES[status]
            for region, status in (answer.regions or {}).items():
                response.regions[region] = _STATUSES[status]
        return response

    async def fetch_dependencies(
        self, request: pb.FetchDependenciesMessage, call: Call
    ) -> pb.FetchDependenciesResponse:
        """D1."""
        acsl = check_name(request.acsl, "acsl")
        try:
            with refusals.request_has_to_be_known():
                answer = await self._node.fetch_dependencies(
                    RequestId(request.rid),
                    Service(check_name(request.service, "service")),
                    Zone(acsl) if acsl else None,
                    freshness=_LINEARIZABLE,
                    deadline_s=call.deadline_s,
                )
        except errors.ServiceNotFound as error:
            raise errors.InvalidArgument(
                refusals.UNKNOWN_SERVICE, revision=error.revision
            ) from None
        return pb.FetchDependenciesResponse(deps=answer.direct, indirect_deps=answer.indirect)

    async def subscribe(self, request: pb.SubscribeMessage, call: Call) -> None:
        """U1 to U4: monitored branches that are open in the region, then new ones."""
        key = SubscriptionKey(
            Service(check_name(request.service, "service")),
            Region(check_name(request.region, "region")),
        )
        batches = self._node.subscribe(key)
        try:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, BranchIsOpen):
                        bid = bids.shown_bid(event.branch_id, event.request_id)
                        await call.write(pb.SubscribeResponse(bid=bid, tag=event.tag))
        finally:
            await batches.aclose()


def _parent(bid: str, rid: RequestId) -> BranchId:
    return bids.full_bid(bid, rid, "current_service_bid") if bid else BranchId("")


def _visible_bids(request: pb.CloseBranchMessage, rid: str) -> tuple[BranchId, ...]:
    check_count(len(request.visible_bids), "visible_bids", count_max=REQUIRED_BRANCHES_MAX)
    named = enumerate(request.visible_bids)
    return tuple(bids.full_bid(bid, rid, f"visible_bids[{index}]") for index, bid in named)


def _new_branch(
    branch: pb.RegisterBranchMessage | pb.RegisterBranchesMessage.Branch,
    *,
    own: BranchId = NUMBERED,
    parent: BranchId,
) -> NewBranch:
    if not branch.service:
        raise refusals.invalid(refusals.EMPTY_SERVICE)
    regions = _regions(branch.regions)
    return NewBranch(
        own,
        Service(check_name(branch.service, "service")),
        Tag(check_name(branch.tag, "tag")),
        BranchKind.REGIONAL if regions else BranchKind.GLOBAL,
        regions,
        Zone(check_name(branch.acsl, "acsl")),
        parent,
        monitored=branch.monitor,
    )


def _regions(names: Iterable[str]) -> tuple[Region, ...]:
    """No region, or only an empty one, is everywhere."""
    distinct = sorted(dict.fromkeys(names))
    if distinct in ([], [""]):
        return ()
    if not distinct[0]:
        raise refusals.invalid(refusals.NOT_REGISTERED)
    return tuple(Region(name) for name in check_names(distinct, "regions", count_max=_REGIONS_MAX))


def _wait_scope(request: pb.WaitRequestMessage) -> Scope:
    """The zone counts always, the root zone too, but for a tag; a tag goes before dependencies."""
    if request.service and request.services:
        raise refusals.invalid(refusals.SERVICE_TWICE)
    if request.tag and not request.service:
        raise refusals.invalid(refusals.TAG_ALONE)
    named = [request.service] if request.service else request.services
    services = check_names(named, "services", count_max=SCOPE_SERVICES_MAX)
    tag, zone = Tag(check_name(request.tag, "tag")), Zone(check_name(request.acsl, "acsl"))
    return Scope(
        services=tuple(Service(name) for name in services),
        region=Region(check_name(request.region, "region")),
        tag=tag,
        zone=None if tag else zone,
        waiter_service=Service(check_name(request.current_service, "current_service")),
        wait_dependencies=request.wait_deps and not tag,
    )
