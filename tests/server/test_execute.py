"""Execute, the pipelined form of the writes (semantics W7)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
import structlog
from front_end import FrontEnd, failure_of, scripted_server
from google.protobuf.duration_pb2 import Duration
from scripted_node import Gate, ScriptedNode
from structlog.testing import capture_logs

from rendezvous_raft import errors
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub
from rendezvous_raft.client._errors import error_from_failure
from rendezvous_raft.core.results import BranchesClosed, CloseOutcome
from rendezvous_raft.limits import GRPC_MESSAGE_BYTES_MAX
from rendezvous_raft.server.drain import DrainSignal
from rendezvous_raft.server.execute import ExecuteMethod
from rendezvous_raft.server.failures import FailureReporter
from rendezvous_raft.server.interceptors import Call
from rendezvous_raft.server.metadata_service import MetadataService
from rendezvous_raft.types import Revision


def item(sequence: int, request_id: str = "r") -> pb.ExecuteItem:
    return pb.ExecuteItem(
        sequence=sequence, register_request=pb.RegisterRequestRequest(request_id=request_id)
    )


def batch(*items: pb.ExecuteItem, **fields: object) -> pb.ExecuteRequest:
    return pb.ExecuteRequest(items=items, **fields)


async def finish(call: Any) -> list[pb.ExecuteResult]:
    await call.done_writing()
    results: list[pb.ExecuteResult] = []
    while (response := await call.read()) is not grpc.aio.EOF:
        results.extend(response.results)
    return results


async def test_every_kind_of_write(front: FrontEnd) -> None:
    # semantics: W7
    spec = pb.BranchSpec(branch_id="b", service="s")
    close = pb.CloseSpec(branch_id="b", region="eu")
    items = [
        item(1),
        pb.ExecuteItem(sequence=2, register_branch=pb.RegisterBranchRequest(branch=spec)),
        pb.ExecuteItem(sequence=3, register_branches=pb.RegisterBranchesRequest(branches=[spec])),
        pb.ExecuteItem(sequence=4, close_branch=pb.CloseBranchRequest(close=close)),
        pb.ExecuteItem(sequence=5, close_branches=pb.CloseBranchesRequest(closes=[close])),
    ]
    call = front.stub.Execute()
    await call.write(batch(*items))
    results = {result.sequence: result for result in await finish(call)}
    kinds = {sequence: result.WhichOneof("outcome") for sequence, result in results.items()}
    assert kinds == {
        1: "register_request",
        2: "register_branch",
        3: "register_branches",
        4: "close_branch",
        5: "close_branches",
    }
    assert results[2].register_branch.branch_id == "b"
    assert results[5].close_branches.results[0].closed


async def test_what_finishes_in_one_turn_travels_in_one_message(front: FrontEnd) -> None:
    # semantics: W7
    call = front.stub.Execute()
    await call.write(batch(*(item(i) for i in range(1_000))))
    await call.done_writing()
    responses = [len(response.results) async for response in call]
    assert sum(responses) == 1_000
    assert len(responses) <= 3


async def test_results_come_in_the_order_of_their_ends(front: FrontEnd) -> None:
    """A slow write holds up no other."""
    # semantics: W7.1
    gate = Gate()
    front.node.answers["register_request"] = lambda request_id: (
        gate if request_id == "slow" else errors.AlreadyExists("taken")
    )
    call = front.stub.Execute()
    await call.write(batch(item(1, "slow"), item(2, "fast")))
    first = await call.read()
    assert [result.sequence for result in first.results] == [2]
    gate.open.set()
    second = await call.read()
    assert [result.sequence for result in second.results] == [1]
    assert second.results[0].register_request.created
    assert await finish(call) == []


async def test_one_items_fault_is_its_own(front: FrontEnd) -> None:
    # semantics: W7.1
    front.node.answers["register_request"] = lambda request_id: (
        errors.AlreadyExists("taken") if request_id == "taken" else ZeroDivisionError()
    )
    call = front.stub.Execute()
    faulty = [item(1, "taken"), item(2, "not an id"), pb.ExecuteItem(sequence=3), item(4, "bug")]
    close = pb.CloseBranchRequest(close=pb.CloseSpec(branch_id="b"))
    with capture_logs() as logs:
        await call.write(batch(*faulty, pb.ExecuteItem(sequence=5, close_branch=close)))
        results = {result.sequence: result for result in await finish(call)}
    codes = {sequence: result.failure.code for sequence, result in results.items()}
    assert codes == {1: "conflict", 2: "invalid", 3: "invalid", 4: "internal", 5: ""}
    assert results[2].failure.details["field"] == "request_id"
    assert results[1].failure.definite
    assert not results[4].failure.definite
    assert results[5].close_branch.closed
    (line,) = [line for line in logs if line["event"] == "call_failed"]
    assert line["method"] == "Execute/register_request"
    assert await call.code() is grpc.StatusCode.OK


async def test_a_faulty_batch_fails_each_of_its_items_only(front: FrontEnd) -> None:
    # semantics: W7.1
    call = front.stub.Execute()
    await call.write(batch(*(item(i) for i in range(3)), timeout=Duration(seconds=-1)))
    await call.write(batch(item(9_999)))
    results = await finish(call)
    good = [result for result in results if result.HasField("register_request")]
    bad = [result.failure for result in results if result.HasField("failure")]
    assert [result.sequence for result in good] == [9_999]
    assert [failure.details["field"] for failure in bad] == ["timeout"] * 3


async def test_a_failure_says_who_leads_and_what_the_node_has(front: FrontEnd) -> None:
    """What a unary call says in its trailing metadata; the client goes by it."""
    # semantics: W7.1, G6
    front.node.answers["register_request"] = lambda request_id: (
        errors.LeaderChanged("moved", leader="n1", revision=7)
        if request_id == "moved"
        else errors.Overloaded("too much", details={f"fact{i}": "x" for i in range(20)})
    )
    call = front.stub.Execute()
    await call.write(batch(item(1, "moved"), item(2)))
    await call.write(batch(item(3), timeout=Duration(seconds=-1)))
    results = {result.sequence: result for result in await finish(call)}
    details = {sequence: result.failure.details for sequence, result in results.items()}
    assert details[1] == {"leader": "127.0.0.1:7601", "revision": "7"}
    for sequence in (2, 3):  # what the node knows, however many facts there are
        assert details[sequence]["leader"] == "127.0.0.1:7602"
        assert details[sequence]["revision"] == "41"
    assert error_from_failure(results[1].failure).leader == "127.0.0.1:7601"


async def test_a_failure_without_a_leader_names_none(front: FrontEnd) -> None:
    # semantics: G6
    front.node.cluster_status = replace(front.node.cluster_status, leader=None)
    front.node.answers["register_request"] = errors.NoLeader("nobody leads")
    call = front.stub.Execute()
    await call.write(batch(item(1)))
    (result,) = await finish(call)
    assert result.failure.details == {"revision": "41"}


async def test_a_batch_with_too_many_items_ends_the_stream(front: FrontEnd) -> None:
    """A result for each of them would cost the node far more than they cost the client."""
    # semantics: G1, G6
    gate = front.node.answers["register_request"] = Gate()
    call = front.stub.Execute()
    await call.write(batch(item(1)))
    await gate.entered.wait()
    await call.write(batch(*(pb.ExecuteItem() for _ in range(1_001))))
    gate.open.set()
    assert [result.sequence for result in (await call.read()).results] == [1]
    error = await failure_of(call.read())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "items: at most 1000 are allowed, not 1001"
    trailing = dict(error.trailing_metadata())
    assert trailing["rendezvous-detail-field"] == "items"
    assert trailing["rendezvous-detail-limit"] == "1000"
    assert trailing["rendezvous-definite"] == "true"
    assert len(front.node.calls) == 1


async def test_the_time_out_of_a_batch(front: FrontEnd) -> None:
    """Absent or too long: the node's maximum."""
    call = front.stub.Execute()
    for seconds in (None, 2, 1_000):
        timeout = None if seconds is None else Duration(seconds=seconds)
        await call.write(batch(item(1), timeout=timeout))
    await finish(call)
    assert [called.deadline_s for called in front.node.calls] == [1_030, 1_002, 1_030]


async def test_a_stream_is_not_read_beyond_its_bound(front: FrontEnd) -> None:
    """Back-pressure instead of a queue: the next item begins when a result has left."""
    front.node.limits = replace(front.node.limits, execute_items_in_flight_max=2)
    gates = [Gate() for _ in range(4)]
    pending = iter(gates)
    front.node.answers["register_request"] = lambda _: next(pending)
    server = await scripted_server(front.node)  # limits are taken when a server is built
    await server.start()
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        call = MetadataServiceStub(channel).Execute()
        await call.write(batch(*(item(i) for i in range(4))))
        await gates[0].entered.wait()
        await gates[1].entered.wait()
        gates[1].open.set()
        assert [result.sequence for result in (await call.read()).results] == [1]
        await gates[2].entered.wait()
        assert not gates[3].entered.is_set()
        for gate in gates:
            gate.open.set()
        results = await finish(call)
        assert sorted(result.sequence for result in results) == [0, 2, 3]
    await server.close(drain_timeout_s=5)


class UnreadContext:
    """A call whose client reads nothing until it is told to."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.responses: list[pb.ExecuteResponse] = []

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def write(self, message: pb.ExecuteResponse) -> None:
        await self.reading.wait()
        self.responses.append(message)


async def execute_on(
    node: ScriptedNode, context: UnreadContext, batches: AsyncIterator[pb.ExecuteRequest]
) -> None:
    service = MetadataService(node)
    method = ExecuteMethod(
        operations={
            "close_branches": service.close_branches,
            "register_branches": service.register_branches,
        },
        reporter=FailureReporter(status=node.status, logger=structlog.get_logger()),
        limits=node.limits,
        clock=node.clock,
        drain=DrainSignal(),
    )
    await method.execute(batches, Call(context, deadline_s=math.inf, ids=node.ids))


BAD_CLOSES = pb.CloseBranchesRequest(closes=[pb.CloseSpec()] * 100)
BAD_BRANCHES = pb.RegisterBranchesRequest(branches=[pb.BranchSpec()] * 100)


@pytest.mark.parametrize(
    ("item_", "timeout", "batches_begun"),
    [
        (pb.ExecuteItem(), Duration(seconds=-1), 4),  # refused as a whole
        (pb.ExecuteItem(), None, 4),
        (pb.ExecuteItem(close_branches=BAD_CLOSES), None, 1),  # each close has its own failure
        (pb.ExecuteItem(register_branches=BAD_BRANCHES), None, 1),
    ],
)
async def test_what_is_refused_is_bounded_like_all_else(
    node: ScriptedNode, item_: pb.ExecuteItem, timeout: Duration | None, batches_begun: int
) -> None:
    """A client that does not read cannot make the node collect results without end."""
    # semantics: W7
    node.limits = replace(node.limits, execute_items_in_flight_max=40)
    taken = 0

    async def batches() -> AsyncIterator[pb.ExecuteRequest]:
        nonlocal taken
        for _ in range(10):
            taken += 1
            yield batch(*[item_] * 10, timeout=timeout)
            await asyncio.sleep(0)

    context = UnreadContext()
    serving = asyncio.create_task(execute_on(node, context, batches()))
    for _ in range(100):  # turns in which the reader could go on
        await asyncio.sleep(0)
    assert taken == batches_begun + (batches_begun > 1)  # it holds one that waits for room
    context.reading.set()
    await serving
    assert sum(len(response.results) for response in context.responses) == 100


async def test_the_largest_results_fit_their_messages(node: ScriptedNode) -> None:
    """As long as ids and names may be, each close with a failure of its own."""
    # semantics: W7
    node.limits = replace(node.limits, execute_items_in_flight_max=10_000)
    name = "\U000e0001" * 32  # 128 bytes, and more where they are told
    closes = [pb.CloseSpec(branch_id=f"{i:0>128}", region=name) for i in range(1_000)]
    outcomes = BranchesClosed((CloseOutcome.REGION_NOT_OF_BRANCH,) * 1_000)
    node.answers["close_branches"] = (outcomes, Revision(42))
    large = pb.ExecuteItem(close_branches=pb.CloseBranchesRequest(closes=closes))
    branches = [pb.BranchSpec(branch_id=f"{i:0>128}", service="s") for i in range(1_000)]
    small = pb.ExecuteItem(register_branches=pb.RegisterBranchesRequest(branches=branches))

    async def batches() -> AsyncIterator[pb.ExecuteRequest]:
        yield batch(small, small, small, small, large, large)

    context = UnreadContext()
    context.reading.set()
    await execute_on(node, context, batches())
    assert [len(response.results) for response in context.responses] == [4, 1, 1]
    for response in context.responses:
        assert GRPC_MESSAGE_BYTES_MAX / 3 < response.ByteSize() <= GRPC_MESSAGE_BYTES_MAX


async def test_a_client_that_has_finished_still_gets_its_results(front: FrontEnd) -> None:
    gate = front.node.answers["register_request"] = Gate()
    call = front.stub.Execute()
    await call.write(batch(item(1)))
    await gate.entered.wait()
    await call.done_writing()
    for _ in range(20):  # turns in which the stream could end too early
        await asyncio.sleep(0)
    gate.open.set()
    assert [result.sequence for result in (await call.read()).results] == [1]
    assert await call.read() is grpc.aio.EOF


async def test_a_client_that_goes_away_leaves_nothing_behind(front: FrontEnd) -> None:
    """G7."""
    # semantics: G7
    gates = [Gate() for _ in range(3)]
    pending = iter(gates)
    front.node.answers["register_request"] = lambda _: next(pending)
    call = front.stub.Execute()
    with capture_logs() as logs:
        await call.write(batch(*(item(i) for i in range(3))))
        for gate in gates:
            await gate.entered.wait()
        call.cancel()
        for gate in gates:
            await gate.cancelled.wait()
    assert logs == []


async def test_a_malformed_batch_ends_the_stream_after_what_was_begun(front: FrontEnd) -> None:
    """The error is definite, so everything without a result must not have happened."""
    # semantics: G6
    gate = front.node.answers["register_request"] = Gate()
    call = front.channel.stream_stream("/rendezvous.v1.MetadataService/Execute")()
    await call.write(batch(item(1)).SerializeToString())
    await gate.entered.wait()
    await call.write(b"\xff\xff")
    reading = asyncio.ensure_future(call.read())
    gate.open.set()
    response = pb.ExecuteResponse.FromString(await reading)
    assert response.results[0].register_request.created
    error = await failure_of(call.read())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(error.trailing_metadata())["rendezvous-definite"] == "true"


async def test_a_drain_ends_the_stream_after_what_was_begun(front: FrontEnd) -> None:
    """What has no result did not happen: the client takes it elsewhere at once."""
    # semantics: G6
    gate = front.node.answers["register_request"] = Gate()
    call = front.stub.Execute()
    await call.write(batch(item(1)))
    await gate.entered.wait()
    closing = asyncio.create_task(front.server.close(drain_timeout_s=30))
    while "begin_drain" not in front.node.steps:
        await asyncio.sleep(0)
    for _ in range(20):  # turns in which the stream could end too early
        await asyncio.sleep(0)
    gate.open.set()
    response = await call.read()
    assert [result.sequence for result in response.results] == [1]
    error = await failure_of(call.read())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    trailing = dict(error.trailing_metadata())
    assert trailing["rendezvous-code"] == "draining"
    assert trailing["rendezvous-definite"] == "true"
    await closing
