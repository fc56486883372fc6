"""The format `words23`: one test per row of the behaviour table (semantics 4), named after it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from wire_tables import OriginalClient

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as native_pb
from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub
from rendezvous_raft.server.lifecycle import Server

INVALID = "INVALID_ARGUMENT"
UNKNOWN_RID = (INVALID, "Invalid request identifier")
UNKNOWN_BID = ("NOT_FOUND", "No branch was found with the provided bid")
NOT_IN_REGION = (INVALID, "Branch does not exist in the given region")
EMPTY_REGION = (INVALID, "Region cannot be empty")


async def blocked(server: Server, call: Any) -> asyncio.Task[Any]:
    """The call as a task, once it is parked."""
    task = asyncio.ensure_future(call)
    while not server.node.statistics().waits_in_progress:
        assert not task.done(), task.result()
        await asyncio.sleep(0)
    return task


async def a_branch(words23: OriginalClient, *regions: str, **fields: Any) -> Any:
    fields = {"service": "post", **fields}
    if len(regions) == 1:
        return await words23.call("RegisterBranch", region=regions[0], **fields)
    return await words23.call("RegisterBranches", regions=regions, **fields)


async def test_register_wait_close(words23: OriginalClient, server: Server) -> None:
    # semantics: 4.1
    rid = (await words23.call("RegisterRequest")).rid
    branch = await a_branch(words23, "eu", "us", rid=rid)
    waiting = await blocked(server, words23.call("WaitRequest", rid=rid, region="eu"))
    await words23.call("CloseBranch", bid=branch.bid, region="eu")
    answer = await waiting
    assert (answer.prevented_inconsistency, answer.timed_out) == (True, False)


async def test_ids(words23: OriginalClient) -> None:
    # semantics: 4.1
    rids = [(await words23.call("RegisterRequest")).rid for _ in range(2)]
    assert rids == ["n1_0", "n1_1"]
    bids = [(await a_branch(words23, "eu", rid=rids[0])).bid for _ in range(2)]
    assert bids == ["n1_0:n1_0", "n1_1:n1_0"]
    several = await a_branch(words23, "eu", "us", rid=rids[1])
    assert several.bid == "n1_0:n1_1"


async def test_unknown_rid_in_register_branch_is_created(words23: OriginalClient) -> None:
    # semantics: 4.1
    assert (await a_branch(words23, "eu", rid="mine")).rid == "mine"
    assert (await a_branch(words23, "eu", "us", rid="other")).rid == "other"


async def test_register_branches_datastores(words23: OriginalClient) -> None:
    # semantics: 4.1
    answer = await words23.call(
        "RegisterBranchesDatastores",
        rid="r",
        datastores=["a", "b"],
        regions=["eu"],
        tags=["t"],
        branches=[{"datastore": "c", "tag": "u", "regions": ["us"]}],
    )
    assert list(answer.bids) == ["n1_0:r", "n1_1:r", "n1_2:r"]
    streams = [
        words23.stream("SubscribeBranches", service=service, tag=tag, region=region)
        for service, tag, region in (("a", "t", "eu"), ("b", "", "eu"), ("c", "u", "us"))
    ]
    assert [(await anext(aiter(s))).bid for s in streams] == list(answer.bids)
    for stream in streams:
        stream.cancel()
    for wrong in ({"datastores": ["a"]}, {"branches": [{"datastore": "a"}]}):
        assert await words23.refused("RegisterBranchesDatastores", **wrong) == EMPTY_REGION


async def test_unknown_rid_in_wait_check_close(words23: OriginalClient) -> None:
    # semantics: 4.1
    for method in ("WaitRequest", "CheckRequest", "CheckRequestByRegions"):
        assert await words23.refused(method, rid="nobody") == UNKNOWN_RID
    assert await words23.refused("WaitRequest", **{"rid": "x", "async": True}) == UNKNOWN_RID
    assert await words23.refused("CloseBranch", bid="b:nobody", region="eu") == UNKNOWN_RID


async def test_empty_service_in_register_branch_is_allowed(words23: OriginalClient) -> None:
    # semantics: 4.1
    branch = await words23.call("RegisterBranch", rid="r", region="eu")
    await words23.call("CloseBranch", bid=branch.bid, region="eu")


async def test_region_empty_is_a_branch_of_no_region(
    words23: OriginalClient, native: MetadataServiceStub, server: Server
) -> None:
    # semantics: 4.1
    branch = await words23.call("RegisterBranch", rid="r", service="post")
    region = await words23.call("WaitRequest", rid="r", region="eu")
    assert not region.prevented_inconsistency
    for scope in ({}, {"service": "post"}):
        status = await words23.call("CheckRequest", rid="r", **scope)
        assert words23.status(status.status) == "OPENED"
    waiting = await blocked(server, words23.call("WaitRequest", rid="r", service="post"))
    close = native_pb.CloseSpec(branch_id=branch.bid, all_regions=True)
    await native.CloseBranch(native_pb.CloseBranchRequest(close=close))
    assert (await waiting).prevented_inconsistency


async def test_regions_empty_in_register_branches(words23: OriginalClient) -> None:
    # semantics: 4.1
    for regions in ([], [""], ["", "eu"]):
        fields = {"rid": "r", "service": "post", "regions": regions}
        assert await words23.refused("RegisterBranches", **fields) == EMPTY_REGION


async def test_second_close_is_ok(words23: OriginalClient) -> None:
    # semantics: 4.1
    branch = await a_branch(words23, "eu")
    for _ in range(2):
        await words23.call("CloseBranch", bid=branch.bid, region="eu")


async def test_unknown_bid_in_close(words23: OriginalClient) -> None:
    # semantics: 4.1
    await words23.call("RegisterRequest", rid="r")
    assert await words23.refused("CloseBranch", bid="b:r", region="eu") == UNKNOWN_BID


async def test_region_not_of_the_branch(words23: OriginalClient) -> None:
    # semantics: 4.1
    branch = await a_branch(words23, "eu")
    assert await words23.refused("CloseBranch", bid=branch.bid, region="us") == NOT_IN_REGION


async def test_bid_without_colon(words23: OriginalClient) -> None:
    # semantics: 4.1
    unreadable = ("INTERNAL", "Unexpected error parsing full bid")
    assert await words23.refused("CloseBranch", bid="n1_0", region="eu") == unreadable


async def test_close_with_empty_region(words23: OriginalClient) -> None:
    # semantics: 4.1
    branch = await a_branch(words23, "eu")
    assert await words23.refused("CloseBranch", bid=branch.bid) == EMPTY_REGION


async def test_close_branches_ends_at_the_first_fault(words23: OriginalClient) -> None:
    # semantics: 4.1, 5.9
    bids = [(await a_branch(words23, "eu", rid="r")).bid for _ in range(3)]
    items = [{"bid": bid, "region": "eu"} for bid in (bids[0], "b:r", bids[1])]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await words23.send("CloseBranches", items)
    assert (caught.value.code().name, caught.value.details()) == UNKNOWN_BID
    stream = words23.stream("SubscribeBranches", service="post", region="eu")
    reader = aiter(stream)
    assert [(await anext(reader)).bid for _ in range(2)] == bids[1:]
    stream.cancel()
    await words23.send("CloseBranches", [{"bid": bid, "region": "eu"} for bid in bids])
    status = await words23.call("CheckRequest", rid="r")
    assert words23.status(status.status) == "CLOSED"


async def test_wait_timeout_below_zero(words23: OriginalClient) -> None:
    # semantics: 4.1
    wrong = (INVALID, "Invalid timeout. Value needs to be greater than 0")
    assert await words23.refused("WaitRequest", rid="nobody", timeout=-1) == wrong


async def test_wait_tag_without_service_is_ignored(words23: OriginalClient, server: Server) -> None:
    # semantics: 4.1
    branch = await a_branch(words23, "eu", tag="write")
    waiting = await blocked(server, words23.call("WaitRequest", rid=branch.rid, tag="other"))
    await words23.call("CloseBranch", bid=branch.bid, region="eu")
    assert (await waiting).prevented_inconsistency


async def test_wait_unknown_region_only(words23: OriginalClient) -> None:
    # semantics: 4.1
    branch = await a_branch(words23, "eu")
    answer = await words23.call("WaitRequest", rid=branch.rid, region="nowhere")
    assert (answer.prevented_inconsistency, answer.timed_out) == (False, False)


async def test_wait_unknown_service(words23: OriginalClient, server: Server) -> None:
    # semantics: 4.1
    branch = await a_branch(words23, "eu")
    scope = {"rid": branch.rid, "service": "later", "region": "us"}
    answer = await words23.call("WaitRequest", **scope)
    assert (answer.prevented_inconsistency, answer.timed_out) == (False, False)
    waiting = await blocked(server, words23.call("WaitRequest", **{**scope, "async": True}))
    later = await a_branch(words23, "us", rid=branch.rid, service="later")
    assert not waiting.done()
    await words23.call("CloseBranch", bid=later.bid, region="us")
    assert (await waiting).prevented_inconsistency


async def test_wait_async_with_a_service_that_is_in_another_region_yet(
    words23: OriginalClient, server: Server
) -> None:
    # semantics: 4.1
    """Also when another service has used the region."""
    for service, region in (("post", "eu"), ("other", "us")):
        branch = await a_branch(words23, region, rid="r", service=service)
        await words23.call("CloseBranch", bid=branch.bid, region=region)
    scope = {"rid": "r", "service": "post", "region": "us", "async": True}
    waiting = await blocked(server, words23.call("WaitRequest", **scope))
    later = await a_branch(words23, "us", rid="r")
    await words23.call("CloseBranch", bid=later.bid, region="us")
    assert (await waiting).prevented_inconsistency


async def test_wait_async_with_a_region_only(words23: OriginalClient, server: Server) -> None:
    # semantics: 4.1
    branch = await a_branch(words23, "eu")
    scope = {"rid": branch.rid, "region": "us", "async": True}
    waiting = await blocked(server, words23.call("WaitRequest", **scope))
    later = await a_branch(words23, "us", rid=branch.rid)
    await words23.call("CloseBranch", bid=later.bid, region="us")
    assert (await waiting).prevented_inconsistency
    scope = {"rid": branch.rid, "region": "ap", "async": True, "timeout": 1}
    assert (await words23.call("WaitRequest", **scope)).timed_out


async def test_no_zone_is_excluded(
    words23: OriginalClient, main: OriginalClient, server: Server
) -> None:
    # semantics: 4.1
    fields = {"rid": "r", "service": "post", "regions": ["eu"]}
    branch = await main.call("RegisterBranch", **fields)
    waiting = await blocked(server, words23.call("WaitRequest", rid="r"))
    await words23.call("CloseBranch", bid=branch.bid, region="eu")
    assert (await waiting).prevented_inconsistency


async def test_status_is_never_unknown_without_service_and_region(
    words23: OriginalClient,
) -> None:
    # semantics: 4.1
    await words23.call("RegisterRequest", rid="r")
    status = await words23.call("CheckRequest", rid="r")
    assert words23.status(status.status) == "CLOSED"
    for scope in ({"service": "a"}, {"region": "b"}, {"service": "a", "region": "b"}):
        status = await words23.call("CheckRequest", rid="r", **scope)
        assert words23.status(status.status) == "UNKNOWN"


async def test_status_by_regions(words23: OriginalClient) -> None:
    # semantics: 4.1
    branch = await a_branch(words23, "eu", "us", rid="r")
    await a_branch(words23, "ap", rid="r", service="other")
    await words23.call("CloseBranch", bid=branch.bid, region="eu")
    answers = [
        await words23.call("CheckRequestByRegions", rid="r", service=service)
        for service in ("post", "")
    ]
    statuses = [{k: words23.status(v) for k, v in answer.statuses.items()} for answer in answers]
    assert statuses == [
        {"eu": "CLOSED", "us": "OPENED"},
        {"eu": "CLOSED", "us": "OPENED", "ap": "OPENED"},
    ]


async def test_subscriptions_are_by_service_and_tag(words23: OriginalClient) -> None:
    # semantics: 4.1
    plain = await a_branch(words23, "eu", rid="r")
    tagged = await a_branch(words23, "eu", rid="r", tag="t")
    by_tag = words23.stream("SubscribeBranches", service="post", tag="t", region="eu")
    by_none = words23.stream("SubscribeBranches", service="post", region="eu")
    assert (await anext(aiter(by_tag))).bid == tagged.bid
    assert (await anext(aiter(by_none))).bid == plain.bid
    later = [(await a_branch(words23, "eu", rid="r", tag=tag)).bid for tag in ("", "t")]
    assert (await anext(aiter(by_none))).bid == later[0]
    assert (await anext(aiter(by_tag))).bid == later[1]
    by_tag.cancel()
    by_none.cancel()


async def test_timeout_zero_is_no_limit(words23: OriginalClient, server: Server) -> None:
    # semantics: 4.1
    branch = await a_branch(words23, "eu")
    waiting = await blocked(server, words23.call("WaitRequest", rid=branch.rid, timeout=0))
    timed = await words23.call("WaitRequest", rid=branch.rid, timeout=1)
    assert (timed.prevented_inconsistency, timed.timed_out) == (False, True)
    assert not waiting.done()
    await words23.call("CloseBranch", bid=branch.bid, region="eu")
    assert (await waiting).prevented_inconsistency
