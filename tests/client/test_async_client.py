"""What only the asyncio client does: share a stream, follow its loop, obey cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from fake_node import ChannelFault, FakeNode, Hang

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.client import AsyncClient, BranchSpec, CloseSpec, RetryPolicy
from rendezvous_raft.context import current_context
from rendezvous_raft.errors import AlreadyExists, Draining, OutcomeUnknown, PermissionDenied

StartNode = Callable[[], Awaitable[FakeNode]]


@pytest.fixture
async def client(node: FakeNode, brisk: RetryPolicy) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(node.address, retry=brisk) as client:
        yield client


def registrations(client: AsyncClient, count: int, **more: Any) -> list[asyncio.Task[Any]]:
    return [
        asyncio.create_task(client.register_branch("s", branch_id=f"b{n}", **more))
        for n in range(count)
    ]


def streamed(node: FakeNode) -> list[pb.ExecuteItem]:
    return [item for batch in node.batches for item in batch.items]


async def test_a_single_write_travels_alone(node: FakeNode, client: AsyncClient) -> None:
    await client.register_branch("s")
    await client.close_branch("b", "eu")
    assert len(node.received) == 2
    assert node.batches == []


async def test_concurrent_writes_share_a_stream(node: FakeNode, client: AsyncClient) -> None:
    # semantics: W7
    with client.request("r") as request:
        results = await asyncio.gather(*registrations(client, 200))
        assert [result.branch_id for result in results] == [f"b{n}" for n in range(200)]
        assert request.context.min_revision == max(result.revision for result in results) == 300
        assert request.context.unacknowledged == ()
    assert len(streamed(node)) == 199  # the first one was alone when it left
    assert len(node.batches) < 50
    assert all(batch.HasField("timeout") for batch in node.batches)


async def test_every_write_may_travel_on_the_stream(node: FakeNode, client: AsyncClient) -> None:
    await asyncio.gather(
        client.register_request("alone"),
        client.register_request("r"),
        client.register_branch("s"),
        client.register_branches([BranchSpec("s"), BranchSpec("t")]),
        client.close_branch("b", "eu"),
        client.close_branches([CloseSpec("b", "eu")]),
    )
    kinds = {item.WhichOneof("operation") for item in streamed(node)}
    assert kinds == {
        "register_request",
        "register_branch",
        "register_branches",
        "close_branch",
        "close_branches",
    }


async def test_a_write_that_may_block_does_not_hold_up_the_others(
    node: FakeNode, client: AsyncClient
) -> None:
    await asyncio.gather(*registrations(client, 3, await_registration=0.5))
    assert node.batches == []
    assert len(node.received) == 3


async def test_without_a_pipeline_writes_travel_one_by_one(node: FakeNode) -> None:
    async with AsyncClient(node.address, pipeline=False) as client:
        await asyncio.gather(*registrations(client, 20))
    assert node.batches == []
    assert len(node.received) == 20


@pytest.mark.parametrize(
    "fault",
    [ChannelFault(grpc.StatusCode.UNAVAILABLE), Draining("bye")],
    ids=["channel", "draining"],
)
async def test_writes_of_a_broken_stream_are_sent_again_with_the_same_ids(
    node: FakeNode, client: AsyncClient, fault: Any
) -> None:
    # semantics: G2.2, W7
    node.stream_faults.append(fault)
    results = await asyncio.gather(*registrations(client, 20, request_id="r"))
    assert len(results) == 20
    first = {item.register_branch.branch.branch_id for item in node.batches[0].items}
    again = {sent.branch.branch_id for sent in node.received_of(pb.RegisterBranchRequest)}
    assert first
    assert first <= again  # answered in the second try, on the stream or alone
    assert len(again) == len(node.received) == 20


async def test_items_of_a_stream_fail_and_are_retried_one_by_one(
    node: FakeNode, client: AsyncClient
) -> None:
    node.script["item"].extend([AlreadyExists("other content"), OutcomeUnknown("who knows")])
    results = await asyncio.gather(*registrations(client, 10), return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    assert [type(error) for error in failed] == [AlreadyExists]
    ids = [sent.branch.branch_id for sent in node.received]
    assert len(ids) == 11
    assert len(set(ids)) == 10


async def test_a_refused_stream_is_not_tried_again(node: FakeNode, client: AsyncClient) -> None:
    node.stream_faults.extend([PermissionDenied("not yours")] * 100)
    results = await asyncio.gather(*registrations(client, 5), return_exceptions=True)
    assert {type(result) for result in results if isinstance(result, BaseException)} == {
        PermissionDenied
    }
    assert len(node.batches) <= 2


async def test_streams_fail_over(start_node: StartNode, brisk: RetryPolicy) -> None:
    first, second = await start_node(), await start_node()
    async with AsyncClient([first.address, second.address], retry=brisk) as client:
        first.hold.clear()
        writes = registrations(client, 30, request_id="r")
        await first.batch_arrived.wait()
        await first.stop()
        await asyncio.gather(*writes)
    assert {sent.branch.branch_id for sent in second.received} >= {
        item.register_branch.branch.branch_id for item in streamed(first)
    }


async def test_registrations_in_tasks_are_seen_by_the_parent(
    node: FakeNode, client: AsyncClient
) -> None:
    """The write and the registration start together; the context carries what is on its way."""
    node.hold.clear()
    node.script["RegisterBranch"].append(Hang)
    with client.request("r"):
        writes = registrations(client, 3)
        await node.batch_arrived.wait()
        context = current_context()
        assert context is not None
        assert set(context.unacknowledged) == {"b0", "b1", "b2"}
        assert set(context.encode().partition("q=")[2].split(",")) == {"b0", "b1", "b2"}
        for write in writes:
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)
        after = current_context()
        assert after is not None
        assert set(after.unacknowledged) == {"b0", "b1", "b2"}  # they may have been done


async def test_a_cancelled_wait_is_cancelled_at_the_node(
    node: FakeNode, client: AsyncClient
) -> None:
    # semantics: G7
    node.script["WaitRequest"].append(Hang)
    wait = asyncio.create_task(client.wait_request("r"))
    await node.call_arrived.wait()
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    await node.cancelled.wait()


async def test_leaving_a_subscription_cancels_it(node: FakeNode, client: AsyncClient) -> None:
    # semantics: G7
    node.events = [pb.SubscribeResponse(kind=pb.SUBSCRIPTION_EVENT_KIND_SYNCED, revision=5)]
    node.stream_end = Hang
    subscription = client.subscribe("s", "eu")
    async for event in subscription:
        assert event.revision == 5
        break
    await subscription.aclose()
    await node.cancelled.wait()


async def test_closing_the_client_ends_a_subscription(node: FakeNode, client: AsyncClient) -> None:
    node.events = [pb.SubscribeResponse(kind=pb.SUBSCRIPTION_EVENT_KIND_SYNCED, revision=5)]
    node.stream_end = Hang
    subscription = client.subscribe("s", "eu")
    await anext(subscription)
    following = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(Exception, match="closed"):
        await following


async def test_writes_in_progress_are_counted_down(node: FakeNode, client: AsyncClient) -> None:
    node.script["item"].append(AlreadyExists("other content"))
    await asyncio.gather(*registrations(client, 5), return_exceptions=True)
    assert client._writes_out == 0


def test_each_loop_gets_connections_of_its_own() -> None:
    """A channel of gRPC is bound to the loop that opened it."""
    client = AsyncClient("127.0.0.1:1")

    async def transport() -> object:
        found = client._transport_here()
        assert client._transport_here() is found
        return found

    assert asyncio.run(transport()) is not asyncio.run(transport())
