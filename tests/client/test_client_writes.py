"""Writes of both clients: ids, retries, batches."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from fake_node import ChannelFault, Die, FakeNode, Hang
from twins import OpenClient, StartNode, call, collect

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.client import (
    BranchSpec,
    CloseSpec,
)
from rendezvous_raft.client._calls import REQUEST_BYTES_MAX
from rendezvous_raft.errors import (
    BranchNotFound,
    DeadlineExceeded,
    Disconnected,
    InvalidArgument,
    LimitExceeded,
    NoLeader,
    OutcomeUnknown,
)


async def test_ids_are_chosen_before_anything_is_sent(
    node: FakeNode, open_client: OpenClient
) -> None:
    # semantics: G2.2
    client = open_client(node)
    result = await call(client, "register_branch", "post-storage", regions=["eu", "us"])
    (sent,) = node.received_of(pb.RegisterBranchRequest)
    assert sent.request_id
    assert sent.branch.branch_id.startswith("post-storage-")
    assert sent.branch.monitored
    assert list(sent.branch.regions) == ["eu", "us"]
    assert not sent.HasField("await_registration")
    assert (result.request_id, result.branch_id) == (sent.request_id, sent.branch.branch_id)
    assert result.revision == 101


@pytest.mark.parametrize(
    "fault",
    [
        OutcomeUnknown("who knows"),
        ChannelFault(grpc.StatusCode.UNAVAILABLE),
        ChannelFault(grpc.StatusCode.CANCELLED),
        NoLeader("none"),
    ],
    ids=["indefinite", "channel-unavailable", "channel-cancelled", "definite"],
)
async def test_a_retry_carries_the_same_ids(
    node: FakeNode, open_client: OpenClient, fault: Any
) -> None:
    # semantics: G2.2
    client = open_client(node)
    node.script["RegisterBranch"].append(fault)
    result = await call(client, "register_branch", "s", regions=["eu"], locator=b"\x00key")
    first, second = node.received_of(pb.RegisterBranchRequest)
    assert first == second
    assert first.branch.branch_id == result.branch_id


async def test_a_batch_keeps_its_ids_over_retries(node: FakeNode, open_client: OpenClient) -> None:
    # semantics: G2.2
    client = open_client(node)
    node.script["RegisterBranches"].append(OutcomeUnknown("who knows"))
    specs = [BranchSpec("a", ["eu"]), BranchSpec("b", branch_id="mine", monitored=False)]
    result = await call(client, "register_branches", specs)
    first, second = node.received_of(pb.RegisterBranchesRequest)
    assert first == second
    assert result.branch_ids == tuple(branch.branch_id for branch in first.branches)
    assert result.branch_ids[1] == "mine"
    assert not first.branches[1].monitored


async def test_a_dying_node_is_left_for_another_with_the_same_ids(
    start_node: StartNode, open_client: OpenClient
) -> None:
    # semantics: G2.2
    first, second = await start_node(), await start_node()
    client = open_client(first, second)
    first.script["RegisterBranch"].append(Die)
    result = await call(client, "register_branch", "s")
    (lost,), (kept,) = first.received, second.received
    assert lost == kept
    assert result.branch_id == kept.branch.branch_id


async def test_a_leader_hint_is_followed(start_node: StartNode, open_client: OpenClient) -> None:
    nodes = [await start_node() for _ in range(3)]
    client = open_client(*nodes)
    nodes[0].script["CloseBranch"].append(NoLeader("not me", leader=nodes[2].address))
    assert (await call(client, "close_branch", "b", "eu")).closed
    assert [len(node.received) for node in nodes] == [1, 0, 1]


async def test_what_is_not_retryable_is_raised_at_once(
    node: FakeNode, open_client: OpenClient
) -> None:
    client = open_client(node)
    node.script["CloseBranch"].append(BranchNotFound("none", details={"branch_id": "b"}))
    with pytest.raises(BranchNotFound) as caught:
        await call(client, "close_branch", "b", "eu")
    assert caught.value.details == {"branch_id": "b"}
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert len(node.received) == 1


async def test_a_write_in_doubt_until_the_deadline_ends_in_doubt(
    node: FakeNode, open_client: OpenClient
) -> None:
    client = open_client(node, timeout=0.2)
    node.script["RegisterRequest"].extend([ChannelFault(grpc.StatusCode.UNAVAILABLE)] * 1_000)
    with pytest.raises((Disconnected, DeadlineExceeded)) as caught:  # whichever came last
        await call(client, "register_request", "r")
    assert not caught.value.definite
    assert len(node.received) > 1
    assert {sent.request_id for sent in node.received} == {"r"}


@pytest.mark.parametrize(
    ("name", "definite"), [("register_request", False), ("describe_request", True)]
)
async def test_a_deadline_is_definite_for_reads_only(
    node: FakeNode, open_client: OpenClient, name: str, definite: bool
) -> None:
    client = open_client(node)
    node.script["RegisterRequest"].append(Hang)
    node.script["DescribeRequest"].append(Hang)
    with pytest.raises(DeadlineExceeded) as caught:
        await call(client, name, "r", timeout=0.1)
    assert caught.value.definite is definite
    await node.cancelled.wait()


async def test_closes_have_results_of_their_own(node: FakeNode, open_client: OpenClient) -> None:
    # semantics: W5
    client = open_client(node)
    failure = pb.Failure(code="branch_not_found", message="none", definite=True)
    node.script["CloseBranches"].append(
        pb.CloseBranchesResponse(
            results=[pb.CloseResult(closed=True), pb.CloseResult(failure=failure)], revision=7
        )
    )
    closes = [CloseSpec("a", "eu"), CloseSpec("b", all_regions=True)]
    result = await call(client, "close_branches", closes, await_registration=1.5)
    (sent,) = node.received
    assert [(c.branch_id, c.region, c.all_regions) for c in sent.closes] == [
        ("a", "eu", False),
        ("b", "", True),
    ]
    assert (sent.await_registration.seconds, sent.await_registration.nanos) == (1, 500_000_000)
    assert result.results[0].closed
    assert result.results[0].failure is None
    assert isinstance(result.results[1].failure, BranchNotFound)


LARGE = "x" * 2**20


@pytest.mark.parametrize(
    ("name", "args", "field"),
    [
        ("register_branch", (LARGE,), "branch"),
        ("register_branches", ([BranchSpec("s", tag=LARGE)],), "branches"),
        ("close_branch", (LARGE,), "close"),
        ("close_branches", ([CloseSpec("b", LARGE)],), "closes"),
        ("register_request", (LARGE,), "request_id"),
        ("wait_request", (LARGE,), "request_id"),
        ("check_request_by_regions", (LARGE,), "request_id"),
        ("transfer_leadership", (LARGE,), "target"),
        ("subscribe", ("s", LARGE), "region"),
        ("watch_request", (LARGE,), "request_id"),
    ],
)
async def test_what_grpc_would_refuse_is_refused_by_name(
    node: FakeNode, open_client: OpenClient, name: str, args: tuple[Any, ...], field: str
) -> None:
    client = open_client(node)
    send = collect if name in {"subscribe", "watch_request"} else call
    with pytest.raises(LimitExceeded, match=f"^{field}: ") as caught:
        await send(client, name, *args)
    assert caught.value.definite
    assert caught.value.details["field"] == field
    assert caught.value.details["limit"] == "grpc_message_bytes_max"
    assert not node.received


async def test_the_largest_write_passes_and_larger_ones_disturb_nobody(
    node: FakeNode, open_client: OpenClient
) -> None:
    """One message that gRPC refused broke the stream that it shared with others."""
    # semantics: W7
    client = open_client(node)
    largest = "x" * (REQUEST_BYTES_MAX - 4)  # the field's tag and length
    ids = ["a", "b", largest, largest + "x", LARGE, "c"]
    results = await asyncio.gather(
        *(call(client, "register_request", name) for name in ids), return_exceptions=True
    )
    failed = [isinstance(result, LimitExceeded) for result in results]
    assert failed == [False, False, False, True, True, False]
    assert sorted(len(sent.request_id) for sent in node.received) == [1, 1, 1, len(largest)]


async def test_a_string_is_not_a_sequence_of_names(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node)
    with pytest.raises(InvalidArgument, match="regions"):
        await call(client, "register_branch", "s", regions="eu")
    with pytest.raises(InvalidArgument, match="services"):
        await call(client, "wait_request", "r", services="eu")
    assert not node.received
