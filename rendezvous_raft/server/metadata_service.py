"""`rendezvous.v1.MetadataService`, the unary methods: convert, one use-case, convert back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rendezvous_raft.core.results import BranchesClosed
from rendezvous_raft.node.rejections import close_error
from rendezvous_raft.server import answers, convert, descriptions

if TYPE_CHECKING:
    from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
    from rendezvous_raft.node.node import Node
    from rendezvous_raft.server.interceptors import Call, WriteCall

SERVICE = "rendezvous.v1.MetadataService"


class MetadataService:
    """Requests, their branches, and waiting for them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def register_request(
        self, request: pb.RegisterRequestRequest, call: WriteCall
    ) -> pb.RegisterRequestResponse:
        """W1."""
        request_id = convert.request_id(request.request_id, call.ids("RegisterRequest"))
        result, at = await self._node.register_request(request_id, deadline_s=call.deadline_s)
        return answers.request_registered(result, at)

    async def register_branch(
        self, request: pb.RegisterBranchRequest, call: WriteCall
    ) -> pb.RegisterBranchResponse:
        """W2."""
        registration = convert.branch_registration(
            request, call.ids("RegisterBranch"), self._node.limits
        )
        result, at = await self._node.register_branches(registration, deadline_s=call.deadline_s)
        return answers.branch_registered(result, at)

    async def register_branches(
        self, request: pb.RegisterBranchesRequest, call: WriteCall
    ) -> pb.RegisterBranchesResponse:
        """W3."""
        registration = convert.branches_registration(
            request, call.ids("RegisterBranches"), self._node.limits
        )
        result, at = await self._node.register_branches(registration, deadline_s=call.deadline_s)
        return answers.branches_registered(result, at)

    async def close_branch(
        self, request: pb.CloseBranchRequest, call: WriteCall
    ) -> pb.CloseBranchResponse:
        """W4."""
        closing = convert.branch_closing(request, self._node.limits)
        result, at = await self._node.close_branches(closing, deadline_s=call.deadline_s)
        error = close_error(closing.closes[0], result.outcomes[0], at)
        if error is not None:
            raise error
        return answers.branch_closed(result.outcomes[0], at)

    async def close_branches(
        self, request: pb.CloseBranchesRequest, call: WriteCall
    ) -> pb.CloseBranchesResponse:
        """W5."""
        closing, faults = convert.branches_closing(request, self._node.limits)
        at, outcomes = self._node.status().revision, BranchesClosed(())
        if closing.closes:
            outcomes, at = await self._node.close_branches(closing, deadline_s=call.deadline_s)
        return answers.branches_closed(closing.closes, outcomes, faults=faults, at=at)

    async def wait_request(
        self, request: pb.WaitRequestRequest, call: Call
    ) -> pb.WaitRequestResponse:
        """R1 to R7."""
        query = convert.wait_query(request, self._node.limits)
        return answers.wait(await self._node.wait(query, deadline_s=call.deadline_s))

    async def check_request(
        self, request: pb.CheckRequestRequest, call: Call
    ) -> pb.CheckRequestResponse:
        """C1."""
        answer = await self._node.check(
            convert.known_request_id(request.request_id),
            convert.scope(request.scope),
            detailed=request.detailed,
            freshness=convert.freshness(request),
            deadline_s=call.deadline_s,
        )
        return answers.check(answer)

    async def check_request_by_regions(
        self, request: pb.CheckRequestByRegionsRequest, call: Call
    ) -> pb.CheckRequestByRegionsResponse:
        """C2."""
        answer = await self._node.check_by_regions(
            convert.known_request_id(request.request_id),
            convert.services(request.services),
            freshness=convert.freshness(request),
            deadline_s=call.deadline_s,
        )
        return answers.check_by_regions(answer)

    async def fetch_dependencies(
        self, request: pb.FetchDependenciesRequest, call: Call
    ) -> pb.FetchDependenciesResponse:
        """D1."""
        service, zone = convert.dependencies_of(request)
        answer = await self._node.fetch_dependencies(
            convert.known_request_id(request.request_id),
            service,
            zone,
            freshness=convert.freshness(request),
            deadline_s=call.deadline_s,
        )
        return answers.dependencies(answer)

    async def describe_request(
        self, request: pb.DescribeRequestRequest, call: Call
    ) -> pb.DescribeRequestResponse:
        """Q1, one request."""
        query = convert.description_query(request)
        answer = await self._node.describe(query, deadline_s=call.deadline_s)
        return descriptions.description(answer)

    async def watch_request(self, request: pb.WatchRequestRequest, call: Call) -> None:
        """Q1, one request whenever it changes: ends as `Descriptions.watch` says."""
        query = convert.watch_query(request, self._node.limits)
        found = self._node.watch(query, deadline_s=call.deadline_s)
        try:
            async for answer in found:
                await call.write(descriptions.watched(answer))
        finally:
            await found.aclose()

    async def list_requests(
        self, request: pb.ListRequestsRequest, call: Call
    ) -> pb.ListRequestsResponse:
        """Q1, a page of them."""
        status, service, after, page_size = convert.page(request)
        while True:
            page = await self._node.list_requests(
                status=status,
                service=service,
                after=after,
                page_size=page_size,
                freshness=convert.freshness(request),
                deadline_s=call.deadline_s,
            )
            response = answers.requests(page)
            if response.ByteSize() <= answers.RESPONSE_BYTES_MAX or page_size == 1:
                return response
            page_size //= 2  # the page's token must fit to what is on it

    async def subscribe(self, request: pb.SubscribeRequest, call: Call) -> None:
        """U1 to U5: ends when the client goes away, the node drains, or the queue overflows."""
        batches = self._node.subscribe(convert.subscription_key(request))
        try:
            async for batch in batches:
                for event in batch:
                    await call.write(answers.subscription_event(event))
        finally:
            await batches.aclose()
