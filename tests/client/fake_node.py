"""A node in miniature on 127.0.0.1: answers by a script, and remembers everything it was asked."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2 as types
from rendezvous_raft.errors import PermissionDenied, RendezvousError, all_error_classes

Context = grpc.aio.ServicerContext
WRITES = {
    "RegisterRequest": "register_request",
    "RegisterBranch": "register_branch",
    "RegisterBranches": "register_branches",
    "CloseBranch": "close_branch",
    "CloseBranches": "close_branches",
}
STATUS_OF = {
    "InvalidArgument": grpc.StatusCode.INVALID_ARGUMENT,
    "AlreadyExists": grpc.StatusCode.ALREADY_EXISTS,
    "NotFound": grpc.StatusCode.NOT_FOUND,
    "RequestExpired": grpc.StatusCode.FAILED_PRECONDITION,
    "LimitExceeded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "Overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "Unavailable": grpc.StatusCode.UNAVAILABLE,
    "OutcomeUnknown": grpc.StatusCode.UNKNOWN,
    "DeadlineExceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
    "Unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "PermissionDenied": grpc.StatusCode.PERMISSION_DENIED,
    "InternalError": grpc.StatusCode.INTERNAL,
}


def status_of(error: RendezvousError) -> grpc.StatusCode:
    """The status of the error's class or of the nearest class above it."""
    return next(STATUS_OF[cls.__name__] for cls in type(error).__mro__ if cls.__name__ in STATUS_OF)


def metadata_of(error: RendezvousError) -> tuple[tuple[str, str], ...]:
    """The trailing metadata of a failure, as a node sends it."""
    pairs = [
        ("rendezvous-code", error.code),
        ("rendezvous-definite", str(error.definite).lower()),
        ("rendezvous-retryable", str(error.retryable).lower()),
    ]
    if error.leader:
        pairs.append(("rendezvous-leader", error.leader))
    if error.revision is not None:
        pairs.append(("rendezvous-revision", str(error.revision)))
    pairs += [(f"rendezvous-detail-{k}", quote(v)) for k, v in error.details.items()]
    return tuple(pairs)


def failure_of(error: RendezvousError) -> pb.Failure:
    """The failure of an item of a batch, as a node sends it."""
    return pb.Failure(
        code=error.code,
        message=error.message,
        definite=error.definite,
        retryable=error.retryable,
        details=error.details,
    )


@dataclass
class ChannelFault:
    """A status that carries nothing of ours."""

    status: grpc.StatusCode
    message: str = "from the channel"


class Hang:
    """No answer until the call is cancelled."""


class Refuse:
    """A refusal, when the test says so."""


class Die:
    """The node stops while it holds the call."""


Step = RendezvousError | ChannelFault | type[Hang] | type[Refuse] | type[Die] | Any
"""What a call meets: an error, a fault, silence, or the message to answer."""


class FakeNode:
    def __init__(self) -> None:
        self.received: list[Any] = []
        """Every request message, those of stream items too."""
        self.timeouts: list[float | None] = []
        self.batches: list[pb.ExecuteRequest] = []
        self.script: defaultdict[str, deque[Step]] = defaultdict(deque)
        """Steps by RPC; an RPC without steps left is answered well."""
        self.stream_faults: deque[Step] = deque()
        """What ends the next Execute streams after their first batch."""
        self.hold = asyncio.Event()
        """Results of streams are held back until it is set."""
        self.hold.set()
        self.refuse = asyncio.Event()
        self.batch_arrived = asyncio.Event()
        self.call_arrived = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.revision = 100
        self.events: list[pb.SubscribeResponse] = []
        self.descriptions: list[pb.DescribeRequestResponse] = []
        """What a watch gives."""
        self.stream_end: Step = None
        self._server: grpc.aio.Server | None = None
        self.address = ""

    async def start(self, options: tuple[tuple[str, int], ...] = ()) -> FakeNode:
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers(_handlers(self))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.address = f"127.0.0.1:{port}"
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)

    def received_of(self, message_type: type) -> list[Any]:
        return [request for request in self.received if isinstance(request, message_type)]

    def unary(self, name: str) -> Callable[[Any, Context], Awaitable[Any]]:
        async def play(request: Any, context: Context) -> Any:
            self.received.append(request)
            self.timeouts.append(context.time_remaining())
            self.call_arrived.set()
            step = self.script[name].popleft() if self.script[name] else None
            if step is None:
                return self._answer(name, request)
            return await self._step(step, context)

        return play

    async def _step(self, step: Step, context: Context) -> Any:
        if isinstance(step, RendezvousError):
            await context.abort(status_of(step), step.message, metadata_of(step))
        if isinstance(step, ChannelFault):
            await context.abort(step.status, step.message)
        if step is Refuse:
            await self.refuse.wait()
            step = PermissionDenied("no")
            await context.abort(status_of(step), step.message, metadata_of(step))
        if step is Die:
            self._dying = asyncio.create_task(self.stop())
        if step is Hang or step is Die:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return step

    def _next_revision(self) -> int:
        self.revision += 1
        return self.revision

    def _answer_write(self, field: str, request: Any) -> Any:
        revision = self._next_revision()
        if field == "register_request":
            return pb.RegisterRequestResponse(
                request_id=request.request_id, created=True, revision=revision
            )
        if field == "register_branch":
            return pb.RegisterBranchResponse(
                request_id=request.request_id,
                branch_id=request.branch.branch_id,
                revision=revision,
            )
        if field == "register_branches":
            return pb.RegisterBranchesResponse(
                request_id=request.request_id,
                branch_ids=[branch.branch_id for branch in request.branches],
                revision=revision,
            )
        if field == "close_branch":
            return pb.CloseBranchResponse(closed=True, revision=revision)
        results = [pb.CloseResult(closed=True) for _ in request.closes]
        return pb.CloseBranchesResponse(results=results, revision=revision)

    async def execute(
        self, batches: AsyncIterator[pb.ExecuteRequest], context: Context
    ) -> AsyncIterator[pb.ExecuteResponse]:
        async for batch in batches:
            self.batches.append(batch)
            self.batch_arrived.set()
            if self.stream_faults:
                await self._step(self.stream_faults.popleft(), context)
            await self.hold.wait()
            yield pb.ExecuteResponse(results=[self._execute_item(item) for item in batch.items])

    def _execute_item(self, item: pb.ExecuteItem) -> pb.ExecuteResult:
        field = item.WhichOneof("operation")
        request = getattr(item, field)
        self.received.append(request)
        steps = self.script["item"]
        step = steps.popleft() if steps else None
        if isinstance(step, RendezvousError):
            return pb.ExecuteResult(sequence=item.sequence, failure=failure_of(step))
        return pb.ExecuteResult(
            sequence=item.sequence, **{field: self._answer_write(field, request)}
        )

    async def subscribe(
        self, request: pb.SubscribeRequest, context: Context
    ) -> AsyncIterator[pb.SubscribeResponse]:
        self.received.append(request)
        self.timeouts.append(context.time_remaining())
        for event in self.events:
            yield event
        if self.stream_end is not None:
            await self._step(self.stream_end, context)

    async def watch_request(
        self, request: pb.WatchRequestRequest, context: Context
    ) -> AsyncIterator[pb.WatchRequestResponse]:
        self.received.append(request)
        self.timeouts.append(context.time_remaining())
        for description in self.descriptions:
            yield pb.WatchRequestResponse(description=description)
        if self.stream_end is not None:
            await self._step(self.stream_end, context)

    def _answer(self, name: str, request: Any) -> Any:
        if name in WRITES:
            return self._answer_write(WRITES[name], request)
        return getattr(self, f"_answer_{name}")(request)

    def _answer_WaitRequest(self, request: pb.WaitRequestRequest) -> pb.WaitRequestResponse:
        return pb.WaitRequestResponse(
            outcome=types.WAIT_OUTCOME_IMMEDIATE, revision=self._next_revision(), known=True
        )

    def _answer_CheckRequest(self, request: pb.CheckRequestRequest) -> pb.CheckRequestResponse:
        return pb.CheckRequestResponse(status=types.STATUS_CLOSED, revision=self.revision)

    def _answer_CheckRequestByRegions(
        self, request: pb.CheckRequestByRegionsRequest
    ) -> pb.CheckRequestByRegionsResponse:
        return pb.CheckRequestByRegionsResponse(statuses={"eu": types.STATUS_OPEN})

    def _answer_FetchDependencies(
        self, request: pb.FetchDependenciesRequest
    ) -> pb.FetchDependenciesResponse:
        return pb.FetchDependenciesResponse(direct=["a"], indirect=["b"], revision=self.revision)

    def _answer_DescribeRequest(
        self, request: pb.DescribeRequestRequest
    ) -> pb.DescribeRequestResponse:
        return pb.DescribeRequestResponse(
            request_id=request.request_id, status=types.STATUS_OPEN, revision=self.revision
        )

    def _answer_ListRequests(self, request: pb.ListRequestsRequest) -> pb.ListRequestsResponse:
        summary = types.RequestSummary(
            request_id=f"r{request.page_token}", status=types.STATUS_OPEN
        )
        return pb.ListRequestsResponse(
            requests=[summary], next_page_token="" if request.page_token else "2"
        )

    def _answer_GetClusterStatus(
        self, request: admin.GetClusterStatusRequest
    ) -> admin.GetClusterStatusResponse:
        member = admin.Member(
            name="n1", role=admin.ROLE_LEADER, connected=True, standing=admin.STANDING_JOINING
        )
        return admin.GetClusterStatusResponse(name="n1", role=admin.ROLE_LEADER, members=[member])

    def _answer_GetDigest(self, request: admin.GetDigestRequest) -> admin.GetDigestResponse:
        return admin.GetDigestResponse(revision=self.revision, digest="ab")

    def _answer_TakeSnapshot(
        self, request: admin.TakeSnapshotRequest
    ) -> admin.TakeSnapshotResponse:
        return admin.TakeSnapshotResponse(revision=self.revision, index=7, size_bytes=9)

    def _answer_TransferLeadership(
        self, request: admin.TransferLeadershipRequest
    ) -> admin.TransferLeadershipResponse:
        return admin.TransferLeadershipResponse(target=request.target or "n2")

    def _answer_AddMember(self, request: admin.AddMemberRequest) -> admin.AddMemberResponse:
        return admin.AddMemberResponse()

    def _answer_RemoveMember(
        self, request: admin.RemoveMemberRequest
    ) -> admin.RemoveMemberResponse:
        return admin.RemoveMemberResponse()


def _handlers(node: FakeNode) -> list[grpc.GenericRpcHandler]:
    """Every RPC of the contract, as its descriptors list them."""
    streams = {
        "Execute": node.execute,
        "Subscribe": node.subscribe,
        "WatchRequest": node.watch_request,
    }
    handlers = []
    for module in (pb, admin):
        for service in module.DESCRIPTOR.services_by_name.values():
            methods = {}
            for method in service.methods:
                if method.name in streams:
                    kind = (
                        grpc.stream_stream_rpc_method_handler
                        if method.client_streaming
                        else grpc.unary_stream_rpc_method_handler
                    )
                    behaviour: Any = streams[method.name]
                else:
                    kind = grpc.unary_unary_rpc_method_handler
                    behaviour = node.unary(method.name)
                methods[method.name] = kind(
                    behaviour,
                    getattr(module, method.input_type.name).FromString,
                    getattr(module, method.output_type.name).SerializeToString,
                )
            handlers.append(grpc.method_handlers_generic_handler(service.full_name, methods))
    return handlers


def one_of_each_error() -> list[RendezvousError]:
    """An instance of every error class with everything that travels."""
    made: list[RendezvousError] = []
    for code, cls in sorted(all_error_classes().items()):
        extra: dict[str, Any] = {"definite": False} if code == "deadline" else {}
        made.append(
            cls(
                f"about {code}",
                leader="n2",
                revision=41,
                details={"field": "branch.service", "limit": "ü = 1 %"},
                **extra,
            )
        )
    return made
