"""The format of the original's branch `words23`: `/rendezvous.ClientService/…` on its own port."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rendezvous_raft import errors
from rendezvous_raft._proto.compat import words23_pb2 as pb
from rendezvous_raft.core.commands import Close, NewBranch, Scope
from rendezvous_raft.core.results import BranchesRegistered, CloseOutcome
from rendezvous_raft.limits import BRANCHES_PER_CALL_MAX, StateLimits
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
from rendezvous_raft.server.compat.session import context_of, freshness_of
from rendezvous_raft.server.compat.waiting import Patience, timeout_s
from rendezvous_raft.server.fields import check_count, check_name, check_names
from rendezvous_raft.server.interceptors import MALFORMED
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
    WaitOutcome,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from rendezvous_raft.node.node import Node
    from rendezvous_raft.server.interceptors import Call

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ClientService"]
BID_WITHOUT_REQUEST = "Unexpected error parsing full bid"
NEGATIVE_TIMEOUT = "Invalid timeout. Value needs to be greater than 0"
_REGIONS_MAX = StateLimits().regions_per_branch_max
_STATUSES = {Status.CLOSED: pb.CLOSED, Status.OPEN: pb.OPENED, Status.UNKNOWN: pb.UNKNOWN}


class Words23Service:
    """Translates, and nothing else: every rule is a use-case's or a row of the table."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._prefix: str = node.name

    async def register_request(
        self, request: pb.RegisterRequestMessage, call: Call
    ) -> pb.RegisterRequestResponse:
        """W1."""
        registration = NumberedRegistration(
            bids.check_request_id(request.rid, self._prefix),
            self._prefix,
            command_id=bids.command_id_of(call, "words23 RegisterRequest"),
        )
        with refusals.request_has_to_be_known():
            result, at = await self._node.register_numbered(
                registration, deadline_s=call.deadline_s
            )
        return pb.RegisterRequestResponse(rid=result.request_id, context=context_of(at))

    async def register_branch(
        self, request: pb.RegisterBranchMessage, call: Call
    ) -> pb.RegisterBranchResponse:
        """W2. Without a region it is a branch of no region."""
        regions = _regions([request.region]) if request.region else ()
        branch = _new_branch(request.service, request.tag, regions)
        place = "words23 RegisterBranch"
        result, at = await self._register(request.rid, [branch], call, place)
        return pb.RegisterBranchResponse(
            rid=result.request_id, bid=result.branch_ids[0], context=context_of(at)
        )

    async def register_branches(
        self, request: pb.RegisterBranchesMessage, call: Call
    ) -> pb.RegisterBranchesResponse:
        """W2: one branch in several regions."""
        branch = _new_branch(request.service, request.tag, _regions(request.regions))
        place = "words23 RegisterBranches"
        result, at = await self._register(request.rid, [branch], call, place)
        return pb.RegisterBranchesResponse(
            rid=result.request_id, bid=result.branch_ids[0], context=context_of(at)
        )

    async def register_branches_datastores(
        self, request: pb.RegisterBranchesDatastoresMessage, call: Call
    ) -> pb.RegisterBranchesDatastoresResponse:
        """W3: a branch per datastore, in the same regions, then those with regions of their own."""
        count = len(request.datastores) + len(request.branches)
        check_count(count, "datastores", count_min=1, count_max=BRANCHES_PER_CALL_MAX)
        branches = []
        if request.datastores:
            regions = _regions(request.regions)
            tags = [*request.tags, *[""] * len(request.datastores)]
            branches = [
                _new_branch(datastore, tag, regions)
                for datastore, tag in zip(request.datastores, tags, strict=False)
            ]
        branches += [
            _new_branch(branching.datastore, branching.tag, _regions(branching.regions))
            for branching in request.branches
        ]
        place = "words23 RegisterBranchesDatastores"
        result, at = await self._register(request.rid, branches, call, place)
        return pb.RegisterBranchesDatastoresResponse(
            rid=result.request_id, bids=result.branch_ids, context=context_of(at)
        )

    async def _register(
        self, rid: str, branches: list[NewBranch], call: Call, place: str
    ) -> tuple[BranchesRegistered, Revision]:
        registration = NumberedRegistration(
            bids.check_request_id(rid, self._prefix),
            self._prefix,
            tuple(branches),
            bids.command_id_of(call, place),
        )
        with refusals.request_has_to_be_known():
            result, at = await self._node.register_numbered(
                registration, deadline_s=call.deadline_s
            )
        return cast("BranchesRegistered", result), at

    async def close_branch(self, request: pb.CloseBranchMessage, call: Call) -> pb.Empty:
        """W4. Closing twice is the same as closing once."""
        await self._close(request, call, "words23 CloseBranch", call.deadline_s)
        return pb.Empty()

    async def close_branches(
        self, requests: AsyncIterator[pb.CloseBranchMessage], call: Call
    ) -> pb.Empty:
        """W5, but the first fault ends the stream (5.9); what came before it stays closed."""
        node, number = self._node, 0
        each_s = node.limits.call_timeout_ms_max / 1000
        async for request in requests:
            if request is MALFORMED:
                raise errors.InvalidArgument("the message cannot be parsed")
            deadline_s = min(call.deadline_s, node.clock.monotonic_s() + each_s)
            await self._close(request, call, f"words23 CloseBranches {number}", deadline_s)
            number += 1
        return pb.Empty()

    async def _close(
        self, request: pb.CloseBranchMessage, call: Call, place: str, deadline_s: float
    ) -> None:
        if not request.region:
            raise refusals.invalid(refusals.EMPTY_REGION)
        _, colon, rid = request.bid.partition(":")
        if not colon:
            raise refusals.unreadable_bid(BID_WITHOUT_REQUEST)
        bid = BranchId(bids.check_bid(request.bid, "bid"))
        close = Close(bid, Region(check_name(request.region, "region")))
        closing = BranchClosing((close,), command_id=bids.command_id_of(call, place))
        outcome, at = await close_one(self._node, closing, deadline_s=deadline_s)
        match outcome:
            case CloseOutcome.REQUEST_EXPIRED:
                raise refusals.invalid(refusals.UNKNOWN_REQUEST)
            case CloseOutcome.BRANCH_UNKNOWN:
                await request_is_known(self._node, rid, at, deadline_s=deadline_s)
                raise refusals.not_found(refusals.UNKNOWN_BID)
            case CloseOutcome.REGION_NOT_OF_BRANCH:
                raise refusals.invalid(refusals.NOT_IN_REGION)

    async def wait_request(
        self, request: pb.WaitRequestMessage, call: Call
    ) -> pb.WaitRequestResponse:
        """R1 to R4. `async` waits for the registration of what is not known yet, too."""
        patience_s = timeout_s(request.timeout, self._node.limits, negative=NEGATIVE_TIMEOUT)
        scope = _scope(request.service, request.region, request.tag)
        rid = RequestId(request.rid)
        freshness = freshness_of(request.context)
        patience = Patience(patience_s, self._node.clock)
        with refusals.request_has_to_be_known():
            known = await self._node.recognise(
                rid, scope, freshness=freshness, deadline_s=patience.end_s(call.deadline_s)
            )
            left_s = patience.left_s()
            query = WaitQuery(
                rid,
                scope,
                left_s,
                await_registration_s=left_s if getattr(request, "async") else 0.0,
                await_place=True,
                freshness=Freshness(Consistency.SESSION, known.revision),
            )
            answer = await self._node.wait(query, deadline_s=call.deadline_s)
        return pb.WaitRequestResponse(
            prevented_inconsistency=answer.outcome is WaitOutcome.BLOCKED,
            timed_out=answer.outcome is WaitOutcome.TIMED_OUT,
        )

    async def check_request(
        self, request: pb.CheckRequestMessage, call: Call
    ) -> pb.CheckRequestResponse:
        """C1."""
        with refusals.request_has_to_be_known():
            answer = await self._node.check(
                RequestId(request.rid),
                _scope(request.service, request.region, ""),
                detailed=False,
                freshness=freshness_of(request.context),
                deadline_s=call.deadline_s,
            )
        return pb.CheckRequestResponse(status=_STATUSES[answer.status])

    async def check_request_by_regions(
        self, request: pb.CheckRequestByRegionsMessage, call: Call
    ) -> pb.CheckRequestByRegionsResponse:
        """C2."""
        with refusals.request_has_to_be_known():
            answer = await self._node.check_by_regions(
                RequestId(request.rid),
                _scope(request.service, "", "").services,
                freshness=freshness_of(request.context),
                deadline_s=call.deadline_s,
            )
        response = pb.CheckRequestByRegionsResponse()
        for region, status in answer.statuses.items():
            response.statuses[region] = _STATUSES[status]
        return response

    async def subscribe_branches(self, request: pb.SubscribeBranchesMessage, call: Call) -> None:
        """U1 to U4: a stream is for one tag; the empty tag is one as well."""
        key = SubscriptionKey(
            Service(check_name(request.service, "service")),
            Region(check_name(request.region, "region")),
            (Tag(check_name(request.tag, "tag")),),
        )
        batches = self._node.subscribe(key)
        try:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, BranchIsOpen):
                        bid = bids.shown_bid(event.branch_id, event.request_id)
                        await call.write(pb.SubscribeBranchesResponse(bid=bid))
        finally:
            await batches.aclose()


def _new_branch(service: str, tag: str, regions: tuple[Region, ...]) -> NewBranch:
    return NewBranch(
        BranchId(""),  # the state numbers it
        Service(check_name(service, "service")),
        Tag(check_name(tag, "tag")),
        BranchKind.REGIONAL if regions else BranchKind.REGIONLESS,
        regions,
    )


def _regions(names: Iterable[str]) -> tuple[Region, ...]:
    distinct = sorted(dict.fromkeys(names))
    if not distinct or not distinct[0]:
        raise refusals.invalid(refusals.EMPTY_REGION)
    return tuple(Region(name) for name in check_names(distinct, "regions", count_max=_REGIONS_MAX))


def _scope(service: str, region: str, tag: str) -> Scope:
    """No zones here; a tag without a service says nothing."""
    services = (Service(check_name(service, "service")),) if service else ()
    return Scope(
        services=services,
        region=Region(check_name(region, "region")),
        tag=Tag(check_name(tag, "tag")) if services else Tag(""),
    )
