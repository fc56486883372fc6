"""Bids and parents are bounded before anything is done with them; native branches can be named."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lone_node import LoneNode
from wire_tables import OriginalClient

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as native_pb
from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub
from rendezvous_raft.server.compat.naming import await_known
from rendezvous_raft.server.lifecycle import Server
from rendezvous_raft.testing.virtual_time import in_virtual_time, now_s, settle
from rendezvous_raft.types import BranchId

INVALID = "INVALID_ARGUMENT"
LONG = "b" * 130 + ":" + "r" * 127
"""One byte more than two ids and a colon."""
BRANCH = {"rid": "r", "service": "post", "regions": ["eu"]}


@pytest.mark.parametrize(
    ("method", "field", "fields"),
    [
        ("CloseBranch", "bid", {"bid": LONG, "region": "eu"}),
        ("CloseBranch", "bid", {"bid": "with space:r", "region": "eu"}),
        (
            "CloseBranch",
            "visible_bids[1]",
            {"bid": "b:r", "region": "eu", "visible_bids": ["b:r", LONG]},
        ),
        ("CloseBranch", "visible_bids[0]", {"bid": "b:r", "region": "eu", "visible_bids": [""]}),
        (
            "CloseBranch",
            "visible_bids",
            {"bid": "b:r", "region": "eu", "visible_bids": ["b:r"] * 65},
        ),
        ("RegisterBranch", "current_service_bid", {**BRANCH, "current_service_bid": LONG}),
        ("RegisterBranch", "current_service_bid", {**BRANCH, "current_service_bid": "p" * 256}),
        ("RegisterBranch", "current_service_bid", {**BRANCH, "current_service_bid": "p\n:r"}),
        (
            "RegisterBranches",
            "current_service_bid",
            {"rid": "r", "branches": [{"service": "post"}], "current_service_bid": LONG},
        ),
    ],
)
async def test_main_refuses_bids_that_are_none_before_it_proposes(
    main: OriginalClient, server: Server, method: str, field: str, fields: dict[str, Any]
) -> None:
    # semantics: G1, G1.1, G1.2
    await main.call("RegisterBranch", bid="b", **BRANCH)
    before = server.node.replicator.state.state.revision
    status, message = await main.refused(method, **fields)
    assert status == INVALID
    assert message.startswith(f"{field}: ")
    assert server.node.replicator.state.state.revision == before


@pytest.mark.parametrize("bid", [LONG, "with space:r", ":" * 300_000])
async def test_words23_refuses_bids_that_are_none_before_it_proposes(
    words23: OriginalClient, server: Server, bid: str
) -> None:
    # semantics: G1, G1.1, G1.2
    await words23.call("RegisterBranch", rid="r", service="post", region="eu")
    before = server.node.replicator.state.state.revision
    status, message = await words23.refused("CloseBranch", bid=bid, region="eu")
    assert status == INVALID
    assert message.startswith("bid: ")
    assert server.node.replicator.state.state.revision == before


async def test_the_limit_of_a_bid_is_told(main: OriginalClient) -> None:
    # semantics: G1.1
    refused = await main.refused("CloseBranch", bid=LONG, region="eu")
    assert refused == (INVALID, "bid: at most 257 bytes are allowed, not 258")


async def test_the_longest_bid_of_a_native_branch_closes_it(
    main: OriginalClient, native: MetadataServiceStub, server: Server
) -> None:
    # semantics: 4.2, G1
    branch_id, rid = ":" * 128, ":" * 128
    await a_native_branch(native, branch_id, rid)
    await main.call("CloseBranch", bid=f"{branch_id}:{rid}", region="eu")
    assert not server.node.replicator.state.state.branches[BranchId(branch_id)].open_mask


async def test_a_bid_leaves_room_for_the_request_that_the_state_numbers(
    main: OriginalClient, native: MetadataServiceStub
) -> None:
    # semantics: G1, 5.4
    """The native API can name every branch, so no id is longer than it allows."""
    fields = {"service": "post", "regions": ["eu"]}
    longest = 128 - len(":rv_n1_") - 18
    refused = await main.refused("RegisterBranch", bid="b" * (longest + 1), **fields)
    assert refused[0] == INVALID
    assert "at most 128 bytes" in refused[1]
    branch = await main.call("RegisterBranch", bid="b" * longest, **fields)
    close = native_pb.CloseSpec(branch_id=branch.bid, region="eu")
    await native.CloseBranch(native_pb.CloseBranchRequest(close=close))


async def a_native_branch(native: MetadataServiceStub, branch_id: str, rid: str) -> None:
    branch = native_pb.BranchSpec(branch_id=branch_id, service="post", regions=["eu"])
    await native.RegisterBranch(native_pb.RegisterBranchRequest(request_id=rid, branch=branch))


@pytest.mark.parametrize("named", ["a", "a:r", "a:b", "a:b:r"])
async def test_a_native_branch_can_be_the_parent(
    main: OriginalClient, native: MetadataServiceStub, named: str
) -> None:
    # semantics: 4.2, 5.3
    """By its id, or by what it is shown under; every attempt of the call has one effect."""
    await a_native_branch(native, "a", "r")
    await a_native_branch(native, "a:b", "r")
    child = {"rid": "r", "service": "index", "regions": ["eu"], "current_service_bid": named}
    bids = {(await main.call("RegisterBranch", key="k", **child)).bid for _ in range(2)}
    assert bids == {"rv_n1_2:r"}
    branches = [{"service": "feed"}, {"service": "feed"}]
    answer = await main.call(
        "RegisterBranches", rid="r", branches=branches, current_service_bid=named
    )
    assert len(answer.bids) == 2
    found = await main.call("FetchDependencies", rid="r", service="post")
    assert list(found.deps) == ["index", "feed"]


async def test_a_native_branch_of_another_request_is_no_parent(
    main: OriginalClient, native: MetadataServiceStub
) -> None:
    # semantics: 4.2, W2.5
    await a_native_branch(native, "a", "other")
    child = {"rid": "r", "service": "index", "current_service_bid": "a:r"}
    refused = await main.refused("RegisterBranch", **child)
    assert refused == (INVALID, "Error registering branch")


@pytest.mark.parametrize("named", ["a:b", "a:b:r"])
async def test_native_branches_are_visible_bids(
    main: OriginalClient, native: MetadataServiceStub, server: Server, named: str
) -> None:
    # semantics: 4.2, 5.9
    await a_native_branch(native, "a:b", "r")
    await main.call("RegisterBranch", bid="mine", **BRANCH)
    await main.call("CloseBranch", bid="mine:r", region="eu", visible_bids=[named])
    assert not server.node.replicator.state.state.branches[BranchId("mine:r")].open_mask


@in_virtual_time
async def test_visible_bids_wait_for_native_branches() -> None:
    # semantics: 4.2, 5.9, G7
    """What another request has under the same id is not meant; nothing is left behind."""
    lone = LoneNode()
    lone.register("a", "other")
    end_s = lone.clock.monotonic_s() + 30.0
    bid = BranchId("a:b:c:r")
    awaiting = asyncio.ensure_future(await_known(lone.node, bid, deadline_s=end_s))
    await settle()
    lone.register("a:b", "other")
    await settle()
    assert not awaiting.done()
    lone.register("a:b:c", "r")
    await settle()
    assert awaiting.done()
    assert await awaiting
    assert asyncio.all_tasks() == {asyncio.current_task()}
    begun_s = now_s()
    assert not await await_known(lone.node, BranchId("a:never"), deadline_s=begun_s + 3.0)
    assert now_s() - begun_s == pytest.approx(3.0)
    await lone.node.close()
