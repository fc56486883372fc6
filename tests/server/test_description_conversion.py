"""Descriptions of requests, there and back (semantics Q1)."""

from __future__ import annotations

from dataclasses import replace

import grpc
from front_end import FrontEnd, failure_of
from google.protobuf.duration_pb2 import Duration

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2
from rendezvous_raft.core.commands import Scope
from rendezvous_raft.errors import RequestExpired
from rendezvous_raft.node.calls import (
    BranchDescription,
    DescriptionQuery,
    Freshness,
    RegionDescription,
    RequestDescription,
    WaiterDescription,
)
from rendezvous_raft.types import BranchKind, Consistency, Status, Verdict


def description(branches: int) -> RequestDescription:
    branch = BranchDescription(
        branch_id="b",
        service="post",
        tag="",
        zone="",
        parent_branch_id="",
        kind=BranchKind.REGIONAL,
        regions=(
            RegionDescription("eu", Status.CLOSED, 2_250),
            RegionDescription("us", Status.OPEN, None, subscribers=2),
        ),
        monitored=True,
        locator=b"key",
        registered_at_ms=1_500,
        status=Status.OPEN,
        verdict=Verdict.ZONE_WAITS,
    )
    waiters = (
        WaiterDescription(
            "n1",
            Scope(region="eu"),
            0.5,
            held_by=("b",),
            held_by_more=True,
            missing_branches=("m",),
            awaits_registration=True,
        ),
        WaiterDescription("n2", Scope(), None, leased=True, lease_ends_in_s=3.0),
    )
    return RequestDescription(
        request_id="r",
        status=Status.OPEN,
        registered_at_ms=1_500,
        branches=(branch,) * branches,
        branches_total=branches,
        waiters=waiters,
        revision=42,
        node="n1",
        node_region="eu",
        answered_at_ms=3_000,
        branches_open=1,
        expires_in_s=60.0,
        missing_branches=("m",),
    )


async def test_a_description(front: FrontEnd) -> None:
    """Q1."""
    # semantics: Q1
    front.node.answers["describe"] = description(1)
    response = await front.stub.DescribeRequest(pb.DescribeRequestRequest(request_id="r"))
    (branch,) = response.branches
    assert branch.registered_at.ToMilliseconds() == 1_500
    assert branch.regions[0].closed_at.ToMilliseconds() == 2_250
    assert not branch.regions[1].HasField("closed_at")
    assert response.waiters[0].blocked_for == Duration(nanos=500_000_000)
    assert not response.waiters[1].HasField("blocked_for")
    assert not response.waiters[0].scope.HasField("zone")
    assert [part.subscribers for part in branch.regions] == [0, 2]
    assert branch.verdict == types_pb2.VERDICT_ZONE_WAITS
    here, far = response.waiters
    assert (list(here.held_by), here.held_by_more, here.leased) == (["b"], True, False)
    assert (list(here.missing_branches), here.awaits_registration) == (["m"], True)
    assert (far.leased, far.lease_ends_in) == (True, Duration(seconds=3))
    assert not here.HasField("lease_ends_in")
    assert (response.node, response.node_region, response.branches_open) == ("n1", "eu", 1)
    assert response.answered_at.ToMilliseconds() == 3_000
    assert (response.expires_in, list(response.missing_branches)) == (Duration(seconds=60), ["m"])


async def test_every_verdict_has_a_message_of_its_own(front: FrontEnd) -> None:
    (branch,) = description(1).branches
    branches = tuple(replace(branch, verdict=verdict) for verdict in (None, *Verdict))
    front.node.answers["describe"] = replace(description(1), branches=branches)
    response = await front.stub.DescribeRequest(pb.DescribeRequestRequest(request_id="r"))
    names = [types_pb2.Verdict.Name(found.verdict) for found in response.branches]
    assert names[0] == "VERDICT_UNSPECIFIED"
    assert names[1:] == [f"VERDICT_{verdict.name}" for verdict in Verdict]
    assert len(names) == len(types_pb2.Verdict.keys())


async def test_what_a_description_is_asked_for(front: FrontEnd) -> None:
    # semantics: Q1
    await front.stub.DescribeRequest(pb.DescribeRequestRequest(request_id="r"))
    asked = {"request_id": "r", "required_branches": ["b", "b"], "open_only": True}
    asked |= {"scope": types_pb2.Scope(services=["s"], zone=""), "min_revision": 7}
    await front.stub.DescribeRequest(pb.DescribeRequestRequest(**asked))
    patience = Duration(seconds=2)
    watch = pb.WatchRequestRequest(**asked, await_registration=patience)
    front.node.watched = [description(1), RequestExpired("r has expired")]
    call = front.stub.WatchRequest(watch)
    response = await call.read()
    assert response.description.branches[0].branch_id == "b"
    assert response.revision == response.description.revision == 42
    error = await failure_of(call.read())
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    queries = [made.options["query"] for made in front.node.calls[:2]]
    queries += front.node.arguments("watch")
    full = DescriptionQuery(
        "r", Scope(("s",), zone=""), ("b",), True, Freshness(Consistency.SESSION, 7)
    )
    assert queries == [DescriptionQuery("r"), full, replace(full, await_registration_s=2.0)]


async def test_a_watch_ends_with_its_client(front: FrontEnd) -> None:
    # semantics: G7
    front.node.watched = [description(1)]
    call = front.stub.WatchRequest(pb.WatchRequestRequest(request_id="r"))
    await call.read()
    call.cancel()
    await front.node.subscription_ended.wait()


async def test_a_description_is_cut_to_what_a_message_may_hold(front: FrontEnd) -> None:
    large = replace(description(1).branches[0], locator=b"x" * 2_000)
    front.node.answers["describe"] = replace(
        description(1), branches=(large,) * 1_000, branches_total=1_000
    )
    response = await front.stub.DescribeRequest(pb.DescribeRequestRequest(request_id="r"))
    assert 100 < len(response.branches) < 1_000
    assert response.branches_total == 1_000
