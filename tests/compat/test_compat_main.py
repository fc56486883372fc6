"""The format `main`: one test per row of the behaviour table (semantics 4), named after its row."""

from __future__ import annotations

import asyncio
from typing import Any

from wire_tables import OriginalClient

from rendezvous_raft.server.lifecycle import Server

INVALID = "INVALID_ARGUMENT"
UNKNOWN_RID = (INVALID, "Invalid request identifier")
NOT_IN_REGION = (INVALID, "Branch does not exist in the given region")
UNKNOWN_PLACE = (INVALID, "Invalid service or region provided")
FRESH = {"acsl": "reader"}
"""A zone of its own: the root zone's waits exclude the root zone's branches."""


async def blocked(server: Server, call: Any, *, waits: int = 1) -> asyncio.Task[Any]:
    """The call as a task, once it is parked."""
    task = asyncio.ensure_future(call)
    while server.node.statistics().waits_in_progress < waits:
        assert not task.done(), task.result()
        await asyncio.sleep(0)
    return task


async def a_branch(main: OriginalClient, *regions: str, **fields: Any) -> Any:
    fields = {"service": "post", "monitor": True, **fields}
    return await main.call("RegisterBranch", regions=regions, **fields)


async def test_register_wait_close(main: OriginalClient, server: Server) -> None:
    # semantics: 4.1
    rid = (await main.call("RegisterRequest")).rid
    branch = await a_branch(main, "eu", "us", rid=rid)
    waiting = await blocked(server, main.call("WaitRequest", rid=rid, region="eu", **FRESH))
    await main.call("CloseBranch", bid=branch.bid, region="eu")
    answer = await waiting
    assert (answer.prevented_inconsistency, answer.timed_out) == (True, False)
    again = await main.call("WaitRequest", rid=rid, region="eu", **FRESH)
    assert not again.prevented_inconsistency


async def test_wait_is_another_name(main: OriginalClient, server: Server) -> None:
    # semantics: 4.1
    branch = await a_branch(main, "eu")
    waiting = await blocked(server, main.call("Wait", rid=branch.rid, **FRESH))
    await main.call("CloseBranch", bid=branch.bid, region="eu")
    assert (await waiting).prevented_inconsistency


async def test_ids(main: OriginalClient) -> None:
    # semantics: 4.1
    first, second = [await main.call("RegisterRequest") for _ in range(2)]
    assert [first.rid, second.rid] == ["rv_n1_0", "rv_n1_1"]
    bids = [(await a_branch(main, "eu", rid=first.rid)).bid for _ in range(2)]
    assert bids == ["rv_n1_0:rv_n1_0", "rv_n1_1:rv_n1_0"]
    assert (await a_branch(main, "eu", rid=second.rid)).bid == "rv_n1_0:rv_n1_1"
    for given in ("mine", "yours:whatever:else"):
        bid = (await a_branch(main, "eu", rid=first.rid, bid=given)).bid
        assert bid == f"{given.partition(':')[0]}:{first.rid}"
    named = await a_branch(main, "eu", rid="a:b")
    assert named.bid == "rv_n1_0:a:b"
    await main.call("CloseBranch", bid=named.bid, region="eu")


async def test_unknown_rid_in_register_branch_is_created(main: OriginalClient) -> None:
    # semantics: 4.1
    assert (await a_branch(main, "eu", rid="mine")).rid == "mine"
    branches = [{"service": "a"}, {"service": "b", "regions": ["eu"], "tag": "t"}]
    answer = await main.call("RegisterBranches", rid="other", branches=branches)
    assert (answer.rid, list(answer.bids)) == ("other", ["rv_n1_0:other", "rv_n1_1:other"])
    assert (await a_branch(main, "eu")).rid == "rv_n1_0"


async def test_unknown_rid_in_wait_check_close(main: OriginalClient) -> None:
    # semantics: 4.1
    for method in ("WaitRequest", "Wait", "CheckStatus", "FetchDependencies"):
        assert await main.refused(method, rid="nobody") == UNKNOWN_RID
    assert await main.refused("CloseBranch", bid="b:nobody", region="eu") == UNKNOWN_RID


async def test_empty_service_in_register_branch(main: OriginalClient) -> None:
    # semantics: 4.1
    empty = (INVALID, "Service cannot be empty")
    assert await main.refused("RegisterBranch", rid="r", regions=["eu"]) == empty
    assert await main.refused("RegisterBranches", rid="r", branches=[{"tag": "t"}]) == empty


async def test_same_bid_again(main: OriginalClient) -> None:
    # semantics: 4.1
    await a_branch(main, "eu", rid="r", bid="b")
    for service in ("post", "other"):
        again = {"rid": "r", "bid": "b", "service": service, "regions": ["eu"], "monitor": True}
        assert await main.refused("RegisterBranch", **again) == (
            INVALID,
            "Error registering branch",
        )


async def test_regions_empty_is_a_global_branch(main: OriginalClient, server: Server) -> None:
    # semantics: 4.1
    for number, regions in enumerate(((), ("",))):
        branch = await a_branch(main, *regions, rid=f"r{number}")
        waiting = await blocked(server, main.call("Wait", rid=branch.rid, region="ap", **FRESH))
        await main.call("CloseBranch", bid=branch.bid)
        assert (await waiting).prevented_inconsistency
    mixed = await main.refused("RegisterBranch", rid="r", service="post", regions=["", "eu"])
    assert mixed == (INVALID, "Error registering branch")


async def test_second_close(main: OriginalClient) -> None:
    # semantics: 4.1
    branch = await a_branch(main, "eu", "us")
    await main.call("CloseBranch", bid=branch.bid, region="eu")
    second = await main.refused("CloseBranch", bid=branch.bid, region="eu")
    assert second == ("NOT_FOUND", "No branch was found with the provided bid")
    await main.call("CloseBranch", bid=branch.bid, region="us")


async def test_unknown_bid_in_close(main: OriginalClient) -> None:
    # semantics: 4.1
    await main.call("RegisterRequest", rid="r")
    assert await main.refused("CloseBranch", bid="b:r", region="eu") == NOT_IN_REGION


async def test_region_not_of_the_branch(main: OriginalClient) -> None:
    # semantics: 4.1
    branch = await a_branch(main, "eu")
    everywhere = await a_branch(main)
    assert await main.refused("CloseBranch", bid=branch.bid, region="us") == NOT_IN_REGION
    assert await main.refused("CloseBranch", bid=branch.bid) == NOT_IN_REGION
    assert await main.refused("CloseBranch", bid=everywhere.bid, region="us") == NOT_IN_REGION


async def test_bid_without_colon(main: OriginalClient) -> None:
    # semantics: 4.1
    unreadable = ("INTERNAL", "Unexpected error parsing bid")
    assert await main.refused("CloseBranch", bid="rv_n1_0", region="eu") == unreadable


async def test_close_with_empty_region_closes_a_global_branch(main: OriginalClient) -> None:
    # semantics: 4.1
    branch = await a_branch(main)
    await main.call("CloseBranch", bid=branch.bid)
    status = await main.call("CheckStatus", rid=branch.rid, **FRESH)
    assert main.status(status.status) == "CLOSED"


async def test_wait_timeout_below_zero(main: OriginalClient) -> None:
    # semantics: 4.1
    wrong = (INVALID, "Invalid timeout. Value must to be greater than 0")
    assert await main.refused("Wait", rid="nobody", timeout=-1) == wrong


async def test_wait_service_and_services(main: OriginalClient) -> None:
    # semantics: 4.1
    wrong = (INVALID, "Cannot provide either 'service' or 'services' simultaneously")
    assert await main.refused("Wait", rid="r", service="a", services=["b"]) == wrong


async def test_wait_tag_without_service(main: OriginalClient) -> None:
    # semantics: 4.1
    wrong = (INVALID, "Tag can only be specified when service is specified")
    assert await main.refused("Wait", rid="r", tag="t") == wrong
    assert await main.refused("Wait", rid="r", tag="t", services=["a"]) == wrong


async def test_wait_unknown_region_only(main: OriginalClient) -> None:
    # semantics: 4.1
    branch = await a_branch(main, "eu")
    answer = await main.call("Wait", rid=branch.rid, region="nowhere", **FRESH)
    assert (answer.prevented_inconsistency, answer.timed_out) == (False, False)


async def test_wait_unknown_service_or_region_of_it(main: OriginalClient) -> None:
    # semantics: 4.1
    await a_branch(main, "eu", rid="r")
    await a_branch(main, "us", rid="r", service="other")
    for scope in (
        {"service": "nobody"},
        {"services": ["post", "nobody"]},
        {"service": "post", "region": "us"},
    ):
        assert await main.refused("Wait", rid="r", **scope) == UNKNOWN_PLACE


async def test_wait_unknown_tag(main: OriginalClient) -> None:
    # semantics: 4.1
    await a_branch(main, "eu", rid="r", tag="write")
    scope = {"rid": "r", "service": "post", "tag": "read"}
    assert await main.refused("Wait", **scope) == UNKNOWN_PLACE
    assert await main.refused("Wait", region="eu", **scope) == (INVALID, "Invalid service tag")


async def test_wait_unknown_current_service(main: OriginalClient) -> None:
    # semantics: 4.1
    await a_branch(main, "eu", rid="r")
    wrong = "Current service branch needs to be registered before any wait call"
    scope = {"rid": "r", "current_service": "nobody"}
    assert await main.refused("Wait", service="post", **scope) == (INVALID, wrong)
    answer = await main.call("Wait", region="us", **scope, **FRESH)
    assert not answer.timed_out


async def test_own_zone_is_excluded_but_for_tags(main: OriginalClient, server: Server) -> None:
    # semantics: 4.1
    root = await a_branch(main, "eu", rid="root", tag="t")
    inside = await a_branch(main, "eu", rid="inside", acsl="z")
    assert not (await main.call("Wait", rid="root")).prevented_inconsistency
    assert not (await main.call("Wait", rid="root", service="post")).prevented_inconsistency
    assert not (await main.call("Wait", rid="inside", acsl="z")).prevented_inconsistency
    by_tag = await blocked(server, main.call("Wait", rid="root", service="post", tag="t"))
    by_root = await blocked(server, main.call("Wait", rid="inside"), waits=2)
    for branch in (root, inside):
        await main.call("CloseBranch", bid=branch.bid, region="eu")
    assert (await by_tag).prevented_inconsistency
    assert (await by_root).prevented_inconsistency


async def test_status_of_service_and_region_with_an_open_global_branch(
    main: OriginalClient, server: Server
) -> None:
    # semantics: 4.1
    branch = await a_branch(main)
    place = {"rid": branch.rid, "service": "post", "region": "eu", **FRESH}
    waiting = await blocked(server, main.call("Wait", **place))
    status = await main.call("CheckStatus", **place)
    assert main.status(status.status) == "CLOSED"
    for scope in ({}, {"service": "post"}, {"region": "eu"}):
        wider = await main.call("CheckStatus", rid=branch.rid, **scope, **FRESH)
        assert main.status(wider.status) == "OPENED"
    await main.call("CloseBranch", bid=branch.bid)
    assert (await waiting).prevented_inconsistency


async def test_status_is_never_unknown_without_service_and_region(main: OriginalClient) -> None:
    # semantics: 4.1
    await main.call("RegisterRequest", rid="r")
    assert main.status((await main.call("CheckStatus", rid="r")).status) == "CLOSED"
    for scope in ({"service": "a"}, {"region": "b"}, {"service": "a", "region": "b"}):
        status = await main.call("CheckStatus", rid="r", **scope)
        assert main.status(status.status) == "UNKNOWN"


async def test_status_in_detail(main: OriginalClient) -> None:
    # semantics: 4.1
    first = await a_branch(main, "eu", "us", rid="r", tag="write")
    await a_branch(main, "us", rid="r", tag="index")
    await main.call("CloseBranch", bid=first.bid, region="eu")
    await main.call("CloseBranch", bid=first.bid, region="us")
    status = await main.call("CheckStatus", rid="r", service="post", detailed=True, **FRESH)
    names = [
        {name: main.status(value) for name, value in found.items()}
        for found in (status.tagged, status.regions)
    ]
    assert main.status(status.status) == "OPENED"
    assert names == [{"write": "CLOSED", "index": "OPENED"}, {"eu": "CLOSED", "us": "OPENED"}]
    plain = await main.call("CheckStatus", rid="r", service="post", **FRESH)
    assert not plain.tagged


async def test_subscriptions_have_monitored_branches_of_the_service(main: OriginalClient) -> None:
    # semantics: 4.1
    before = await a_branch(main, "eu", rid="r", tag="t")
    stream = main.stream("Subscribe", service="post", region="eu")
    first = await anext(aiter(stream))
    assert (first.bid, first.tag) == (before.bid, "t")
    await a_branch(main, "eu", rid="r", monitor=False)
    await a_branch(main, "us", rid="r")
    await a_branch(main, "eu", rid="r", service="other")
    await main.call("CloseBranch", bid=before.bid, region="eu")
    after = await a_branch(main, rid="r")
    assert (await anext(aiter(stream))).bid == after.bid
    stream.cancel()


async def test_timeout_zero_is_no_limit(main: OriginalClient, server: Server) -> None:
    # semantics: 4.1
    branch = await a_branch(main, "eu")
    waiting = await blocked(server, main.call("Wait", rid=branch.rid, timeout=0, **FRESH))
    timed = await main.call("Wait", rid=branch.rid, timeout=1, **FRESH)
    assert (timed.prevented_inconsistency, timed.timed_out) == (False, True)
    assert not waiting.done()
    await main.call("CloseBranch", bid=branch.bid, region="eu")
    assert (await waiting).prevented_inconsistency
