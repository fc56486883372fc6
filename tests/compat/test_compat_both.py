"""What both formats share: ids for ever, retries, sessions, one set of requests for all three."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_tables import OriginalClient

from rendezvous_raft._proto.compat import words23_pb2
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as native_pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2
from rendezvous_raft._proto.rendezvous.v1.metadata_service_pb2_grpc import MetadataServiceStub
from rendezvous_raft.config import NodeConfig
from rendezvous_raft.node.calls import Freshness
from rendezvous_raft.server.build import build_server
from rendezvous_raft.server.compat.session import HIGH_KEY, LOW_KEY, context_of, freshness_of
from rendezvous_raft.server.lifecycle import Server
from rendezvous_raft.types import Consistency, Revision

ADDRESSES = ("grpc_address", "http_address", "compat_main_address", "compat_words23_address")
PORTS = dict.fromkeys(ADDRESSES, "127.0.0.1:0")


async def test_no_id_is_issued_again_after_a_restart_of_all_nodes(tmp_path: Path) -> None:
    # semantics: 5.4
    async def issued() -> list[str]:
        server = await build_server(NodeConfig(name="n1", data_dir=tmp_path / "n1", **PORTS))
        await server.start()
        ids: list[str] = []
        for wire in ("main", "words23"):
            address = server.compat_addresses[f"compat_{wire}_address"]
            async with grpc.aio.insecure_channel(address) as channel:
                client = OriginalClient(wire, channel)
                ids.append((await client.call("RegisterRequest")).rid)
                branch = {"rid": f"kept-{wire}", "service": "post"}
                ids.append((await client.call("RegisterBranch", **branch)).bid)
        await server.close(drain_timeout_s=5)
        return ids

    first, second = await issued(), await issued()
    assert first == ["rv_n1_0", "rv_n1_0:kept-main", "n1_0", "n1_0:kept-words23"]
    assert second == ["rv_n1_1", "rv_n1_1:kept-main", "n1_1", "n1_1:kept-words23"]


async def test_an_attempt_that_is_repeated_has_one_effect(main: OriginalClient) -> None:
    # semantics: 5.3, 5.4
    """What was closed or registered by this very call is not "before"."""
    rids = [(await main.call("RegisterRequest", key="a")).rid for _ in range(2)]
    assert rids == ["rv_n1_0"] * 2
    fields = {"service": "post", "regions": ["eu"]}
    branches = [await main.call("RegisterBranch", key="a", **fields) for _ in range(2)]
    assert branches[0] == branches[1]
    own = {"rid": "r", "bid": "mine", **fields}
    assert len({(await main.call("RegisterBranch", key="b", **own)).bid for _ in range(2)}) == 1
    for _ in range(2):
        await main.call("CloseBranch", key="a", bid="mine:r", region="eu")
    assert (await main.refused("CloseBranch", bid="mine:r", region="eu"))[0] == "NOT_FOUND"


async def test_visible_bids_are_waited_for(main: OriginalClient) -> None:
    # semantics: 5.9
    branch = await main.call("RegisterBranch", rid="r", service="post", regions=["eu"])
    close = {"bid": branch.bid, "region": "eu", "visible_bids": [branch.bid, "later"]}
    closing = asyncio.ensure_future(main.call("CloseBranch", **close))
    status = await main.call("CheckStatus", rid="r", acsl="z")
    assert main.status(status.status) == "OPENED"
    await main.call("RegisterBranch", rid="r", bid="later", service="a", regions=["us"])
    await closing


async def test_visible_bids_that_never_come(
    main: OriginalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # semantics: 5.9
    monkeypatch.setattr("rendezvous_raft.server.compat.main_service.BIDS_VISIBLE_S", 0.0)
    branch = await main.call("RegisterBranch", service="post", regions=["eu"])
    close = {"bid": branch.bid, "region": "eu", "visible_bids": ["never:r"]}
    late = ("DEADLINE_EXCEEDED", "Timedout while waiting for bids to be visible")
    assert await main.refused("CloseBranch", **close) == late


async def test_the_same_requests_for_all(
    main: OriginalClient, words23: OriginalClient, native: MetadataServiceStub
) -> None:
    # semantics: 4.2
    """Also for a monitor that knows the originals' bids alone."""
    branch = native_pb.BranchSpec(branch_id="a:b", service="post", regions=["eu", "us"])
    request = native_pb.RegisterBranchRequest(request_id="r:1", branch=branch)
    await native.RegisterBranch(request)
    streams = [
        main.stream("Subscribe", service="post", region="eu"),
        words23.stream("SubscribeBranches", service="post", region="us"),
    ]
    bids = [(await anext(aiter(stream))).bid for stream in streams]
    assert bids == ["a:b:r:1"] * 2
    await main.call("CloseBranch", bid=bids[0], region="eu")
    await words23.call("CloseBranch", bid=bids[1], region="us")
    described = await native.DescribeRequest(native_pb.DescribeRequestRequest(request_id="r:1"))
    assert described.status == types_pb2.STATUS_CLOSED
    for stream in streams:
        stream.cancel()


async def test_dependencies(main: OriginalClient) -> None:
    # semantics: 4.1, 5.8
    async def branch(service: str, parent: str = "", acsl: str = "") -> Any:
        fields = {"service": service, "regions": ["eu"], "current_service_bid": parent}
        return await main.call("RegisterBranch", rid="r", acsl=acsl, **fields)

    post = await branch("post")
    index = await branch("index", post.bid)
    await branch("feed", index.bid.partition(":")[0], acsl="z")
    answer = await main.call("FetchDependencies", rid="r", service="post")
    assert (list(answer.deps), list(answer.indirect_deps)) == (["index"], ["feed"])
    answer = await main.call("FetchDependencies", rid="r", service="post", acsl="z")
    assert (list(answer.deps), list(answer.indirect_deps)) == (["index"], [])
    wrong = await main.refused("FetchDependencies", rid="r", service="nobody")
    assert wrong == ("INVALID_ARGUMENT", "Invalid service")
    orphan = {"rid": "r", "service": "post", "current_service_bid": "nobody"}
    wrong = await main.refused("RegisterBranch", **orphan)
    assert wrong == ("INVALID_ARGUMENT", "Error registering branch")


async def test_a_context_that_comes_back_is_read_as_a_session(
    words23: OriginalClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # semantics: 5.1
    answer = await words23.call("RegisterBranch", rid="r", service="post", region="eu")
    asked: list[str] = []
    replicator = server.node.replicator
    for name in ("read_barrier", "wait_applied"):
        original = getattr(replicator, name)

        def seen(*args: Any, _name: str = name, _original: Any = original, **kwargs: Any) -> Any:
            asked.append(_name)
            return _original(*args, **kwargs)

        monkeypatch.setattr(replicator, name, seen)
    await words23.call("CheckRequest", rid="r", context=answer.context)
    assert asked == ["wait_applied"]
    asked.clear()
    await words23.call("CheckRequest", rid="r")
    await words23.call("CheckRequest", rid="r", context={"versions": {"other": 7}})
    assert asked == ["read_barrier"] * 2


@given(st.integers(1, 2**62 - 1).map(Revision))
def test_a_revision_survives_its_two_halves(revision: Revision) -> None:
    # semantics: 5.1
    wire = context_of(revision).SerializeToString()
    found = freshness_of(words23_pb2.RequestContext.FromString(wire))
    assert found == Freshness(Consistency.SESSION, revision)


def test_what_is_no_context_of_ours_is_none() -> None:
    # semantics: 5.1
    for versions in (
        {},
        {HIGH_KEY: 1},
        {LOW_KEY: 1},
        {HIGH_KEY: -1, LOW_KEY: 1},
        {HIGH_KEY: 0, LOW_KEY: 0},
    ):
        context = words23_pb2.RequestContext(versions=versions)
        assert freshness_of(context).consistency is Consistency.LINEARIZABLE


async def test_expired_requests_are_unknown_ones(main: OriginalClient, server: Server) -> None:
    # semantics: 5.9
    from rendezvous_raft.core.commands import ExpireRequests

    node = server.node
    branch = await main.call("RegisterBranch", rid="r", service="post", regions=["eu"])
    command = ExpireRequests(node.ids.command_id(), 0, 0, 1_000, (), 10)
    await node.replicator.propose(command, deadline_s=node.clock.monotonic_s() + 20)
    unknown = ("INVALID_ARGUMENT", "Invalid request identifier")
    assert await main.refused("Wait", rid="r") == unknown
    assert await main.refused("CloseBranch", bid=branch.bid, region="eu") == unknown
    assert await main.refused("RegisterBranch", rid="r", service="post") == unknown


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("RegisterRequest", {"rid": "with space"}),
        ("RegisterRequest", {"rid": "r" * 121}),
        ("RegisterBranch", {"service": "s", "rid": "r", "bid": "with space:r"}),
        ("RegisterBranch", {"service": "s", "rid": "r" * 60, "bid": "b" * 68}),
        ("RegisterBranch", {"service": "s", "regions": ["a\x00"]}),
        ("RegisterBranches", {"rid": "r"}),
        ("Wait", {"rid": "r", "service": "s" * 129}),
    ],
)
async def test_what_is_too_long_or_has_other_characters_is_refused(
    main: OriginalClient, server: Server, method: str, fields: dict[str, Any]
) -> None:
    # semantics: G1
    assert (await main.refused(method, **fields))[0] == "INVALID_ARGUMENT"
    assert server.node.statistics().requests == 0
