"""What passes the gate arrives as meant, and what comes back says all of it."""

from __future__ import annotations

import grpc
import pytest
from front_end import FrontEnd, failure_of
from google.protobuf.duration_pb2 import Duration

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin_pb
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2
from rendezvous_raft.core.commands import Close, NewBranch, Scope
from rendezvous_raft.membership import AddMember, MemberConfig, RemoveMember
from rendezvous_raft.node.calls import (
    BranchIsClosed,
    BranchIsOpen,
    CheckAnswer,
    Freshness,
    OpenBranch,
    RequestPage,
    RequestSummary,
    SubscriptionKey,
    Synced,
    WaitAnswer,
)
from rendezvous_raft.types import (
    BranchKind,
    Consistency,
    NodeName,
    Region,
    Standing,
    Status,
    WaitOutcome,
)

NEW_MEMBER = {
    "name": "n4",
    "region": "ap",
    "raft_address": "10.0.0.4:3",
    "grpc_address": "10.0.0.4:1",
    "http_address": "10.0.0.4:2",
}


async def test_a_branch_arrives_with_its_regions_as_a_set(front: FrontEnd) -> None:
    """W2."""
    # semantics: W2, W2.1, W2.6
    spec = pb.BranchSpec(
        branch_id="b1",
        service="post",
        tag="t",
        regions=["us", "eu", "us"],
        zone="/0",
        parent_branch_id="b0",
        monitored=False,
        locator=b"\x00\xff",
    )
    request = pb.RegisterBranchRequest(
        request_id="r1", branch=spec, await_registration=Duration(seconds=1, nanos=500_000_000)
    )
    response = await front.stub.RegisterBranch(request)
    (registration,) = front.node.arguments("register_branches")
    assert registration.request_id == "r1"
    assert registration.await_registration_s == 1.5
    assert registration.branches == (
        NewBranch(
            "b1",
            "post",
            "t",
            BranchKind.REGIONAL,
            ("eu", "us"),
            "/0",
            "b0",
            monitored=False,
            locator=b"\x00\xff",
        ),
    )
    assert (response.request_id, response.branch_id, response.revision) == ("r1", "b1", 42)
    assert not response.already_existed


async def test_a_branch_without_regions_is_global_and_monitored(front: FrontEnd) -> None:
    # semantics: W2, W2.7
    request = pb.RegisterBranchRequest(branch=pb.BranchSpec(service="post", branch_id="b"))
    await front.stub.RegisterBranch(request)
    (registration,) = front.node.arguments("register_branches")
    (branch,) = registration.branches
    assert branch.kind is BranchKind.GLOBAL
    assert branch.monitored
    assert registration.await_registration_s == 0


async def test_closes_arrive_as_meant(front: FrontEnd) -> None:
    """W4."""
    # semantics: W4, W4.5, W4.6
    specs = [
        pb.CloseSpec(branch_id="a", region="eu"),
        pb.CloseSpec(branch_id="b"),
        pb.CloseSpec(branch_id="c", all_regions=True),
    ]
    await front.stub.CloseBranches(pb.CloseBranchesRequest(closes=specs))
    (closing,) = front.node.arguments("close_branches")
    assert closing.closes == (Close("a", "eu"), Close("b"), Close("c", all_regions=True))


async def test_zone_by_presence(front: FrontEnd) -> None:
    """S4: an empty zone that was given is the root zone; one not given excludes nothing."""
    # semantics: S4, S4.1
    for scope in (types_pb2.Scope(), types_pb2.Scope(zone=""), types_pb2.Scope(zone="/1")):
        await front.stub.WaitRequest(pb.WaitRequestRequest(request_id="r", scope=scope))
    await front.stub.WaitRequest(pb.WaitRequestRequest(request_id="r"))
    scopes = [query.scope for query in front.node.arguments("wait")]
    assert [scope.zone for scope in scopes] == [None, "", "/1", None]
    assert scopes[3] == Scope()


async def test_a_scope_arrives_whole(front: FrontEnd) -> None:
    """S1 to S5; a service named twice is one service, so a tag is allowed."""
    # semantics: S1, S2, S2.1, S3, S4, S5, R1.1
    scope = types_pb2.Scope(
        services=["post", "post"], region="eu", tag="t", zone="/0", waiter_service="reader"
    )
    request = pb.WaitRequestRequest(
        request_id="r", scope=scope, required_branches=["b2", "b1", "b2"]
    )
    await front.stub.WaitRequest(request)
    (query,) = front.node.arguments("wait")
    assert query.scope == Scope(("post",), "eu", "t", "/0", "reader")
    assert query.required_branches == ("b2", "b1")


@pytest.mark.parametrize(
    ("timeout", "expected_s"),
    [
        (None, 300.0),
        (Duration(), 300.0),
        (Duration(nanos=1_000_000), 0.001),
        (Duration(seconds=300), 300.0),
        (Duration(seconds=301), 300.0),
    ],
)
async def test_the_time_out_of_a_wait_is_capped(
    front: FrontEnd, timeout: Duration | None, expected_s: float
) -> None:
    """R3."""
    # semantics: R3
    await front.stub.WaitRequest(pb.WaitRequestRequest(request_id="r", timeout=timeout))
    (query,) = front.node.arguments("wait")
    assert query.timeout_s == expected_s


@pytest.mark.parametrize(
    ("min_revision", "consistency", "expected"),
    [
        (0, 0, Freshness(Consistency.LINEARIZABLE, 0)),
        (7, 0, Freshness(Consistency.SESSION, 7)),
        (0, 1, Freshness(Consistency.SESSION, 0)),
        (7, 2, Freshness(Consistency.LINEARIZABLE, 7)),
        (7, 3, Freshness(Consistency.LOCAL, 7)),
        (2**64 - 1, 0, Freshness(Consistency.SESSION, 2**64 - 1)),
    ],
)
async def test_consistency(
    front: FrontEnd, min_revision: int, consistency: int, expected: Freshness
) -> None:
    """G3: every read takes both, and the default depends on the revision."""
    # semantics: G3.1
    fields = {"request_id": "r", "min_revision": min_revision, "consistency": consistency}
    await front.stub.WaitRequest(pb.WaitRequestRequest(**fields))
    await front.stub.CheckRequest(pb.CheckRequestRequest(**fields))
    await front.stub.CheckRequestByRegions(pb.CheckRequestByRegionsRequest(**fields))
    await front.stub.FetchDependencies(pb.FetchDependenciesRequest(**fields))
    await front.stub.DescribeRequest(pb.DescribeRequestRequest(**fields))
    fields.pop("request_id")
    await front.stub.ListRequests(pb.ListRequestsRequest(**fields))
    (query,) = front.node.arguments("wait")
    others = [call.options["freshness"] for call in front.node.calls if call.method != "wait"]
    assert [query.freshness, *others] == [expected] * 6


async def test_a_wait_that_timed_out_tells_why(front: FrontEnd) -> None:
    """R2."""
    # semantics: R2.1, G3
    still = OpenBranch("b", "post", "t", "/0", ("eu",), 1.25, registered=True)
    front.node.answers["wait"] = WaitAnswer(WaitOutcome.TIMED_OUT, 2.5, 43, (still,), known=False)
    response = await front.stub.WaitRequest(pb.WaitRequestRequest(request_id="r"))
    assert response.outcome == types_pb2.WAIT_OUTCOME_TIMED_OUT
    assert (response.timed_out, response.prevented_inconsistency) == (True, False)
    assert response.blocked_for == Duration(seconds=2, nanos=500_000_000)
    assert response.open_branches == [
        types_pb2.OpenBranch(
            branch_id="b",
            service="post",
            tag="t",
            zone="/0",
            regions=["eu"],
            age=Duration(seconds=1, nanos=250_000_000),
            registered=True,
        )
    ]
    assert not response.known
    assert response.revision == 43


async def test_a_released_wait_has_prevented_an_inconsistency(front: FrontEnd) -> None:
    # semantics: R2
    front.node.answers["wait"] = WaitAnswer(WaitOutcome.BLOCKED, 0.1, 43, (), known=True)
    response = await front.stub.WaitRequest(pb.WaitRequestRequest(request_id="r"))
    assert (response.timed_out, response.prevented_inconsistency) == (False, True)


async def test_a_detailed_check(front: FrontEnd) -> None:
    """C1."""
    # semantics: C1, C1.1
    front.node.answers["check"] = CheckAnswer(
        Status.UNKNOWN, {"t": Status.OPEN}, {"eu": Status.CLOSED}, 43
    )
    response = await front.stub.CheckRequest(pb.CheckRequestRequest(request_id="r", detailed=True))
    assert front.node.calls[0].options["detailed"] is True
    assert response.status == types_pb2.STATUS_UNKNOWN
    assert dict(response.tagged) == {"t": types_pb2.STATUS_OPEN}
    assert dict(response.regions) == {"eu": types_pb2.STATUS_CLOSED}


async def test_regions_and_dependencies(front: FrontEnd) -> None:
    """C2, D1."""
    # semantics: C2, D1, 5.8
    by_regions = pb.CheckRequestByRegionsRequest(request_id="r", services=["a", "b", "a"])
    response = await front.stub.CheckRequestByRegions(by_regions)
    assert dict(response.statuses) == {"eu": types_pb2.STATUS_OPEN}
    assert front.node.calls[0].options["services"] == ("a", "b")
    for zone in (None, ""):
        request = pb.FetchDependenciesRequest(request_id="r", service="post", zone=zone)
        dependencies = await front.stub.FetchDependencies(request)
        assert (list(dependencies.direct), list(dependencies.indirect)) == (["a"], ["b"])
        assert front.node.calls[-1].options["zone"] == zone


def page(size: int, services: int) -> RequestPage:
    names = tuple(f"{i:0120}" for i in range(services))
    summary = RequestSummary("r" * 100, Status.OPEN, services, services, names, 1_500)
    return RequestPage((summary,) * size, size, 42)


async def test_pages(front: FrontEnd) -> None:
    # semantics: Q1.1
    front.node.answers["list_requests"] = page(2, 3)
    request = pb.ListRequestsRequest(status=types_pb2.STATUS_CLOSED, page_token=str(17))
    response = await front.stub.ListRequests(request)
    call = front.node.calls[0]
    assert call.argument == (Status.CLOSED, "")
    assert (call.options["after"], call.options["page_size"]) == (17, 100)
    assert int(response.next_page_token) == 2
    assert [summary.branches for summary in response.requests] == [3, 3]


async def test_a_page_shrinks_to_what_a_message_may_hold(front: FrontEnd) -> None:
    """The token that comes back fits to what is on the page."""
    # semantics: Q1.1
    sizes = iter((1_000, 500, 250, 125, 62, 31))
    front.node.answers["list_requests"] = lambda _: page(next(sizes), services=200)
    response = await front.stub.ListRequests(pb.ListRequestsRequest(page_size=1_000))
    asked = [call.options["page_size"] for call in front.node.calls]
    assert asked == [1_000, 500, 250, 125, 62, 31][: len(asked)]
    assert len(response.requests) == asked[-1] == int(response.next_page_token)
    assert len(asked) > 1


async def test_subscription_events(front: FrontEnd) -> None:
    """U1."""
    # semantics: U1, U1.1, U1.2, U1.3, W2.6
    opened = BranchIsOpen("b", "r", "t", b"key", 1_500, is_global=True, revision=40)
    closed = BranchIsClosed("b", "r", is_global=False, revision=42)
    front.node.subscription_batches = [[opened, Synced(41)], [closed]]
    call = front.stub.Subscribe(
        pb.SubscribeRequest(
            service="post", region="eu", tags=["t", "", "t"], resume_revision=9, group="g"
        )
    )
    events = [await call.read() for _ in range(3)]
    call.cancel()
    await front.node.subscription_ended.wait()
    assert front.node.arguments("subscribe") == [SubscriptionKey("post", "eu", ("t", ""), "g", 9)]
    assert [event.kind for event in events] == [
        pb.SUBSCRIPTION_EVENT_KIND_OPEN,
        pb.SUBSCRIPTION_EVENT_KIND_SYNCED,
        pb.SUBSCRIPTION_EVENT_KIND_CLOSED,
    ]
    assert [getattr(event, "global") for event in events] == [True, False, False]
    assert [event.revision for event in events] == [40, 41, 42]
    assert (events[0].tag, events[0].locator) == ("t", b"key")
    assert events[0].registered_at.ToMilliseconds() == 1_500


async def test_admin(front: FrontEnd) -> None:
    status = await front.admin.GetClusterStatus(admin_pb.GetClusterStatusRequest())
    assert (status.name, status.leader, status.term) == ("n1", "n2", 3)
    assert [member.role for member in status.members] == [
        admin_pb.ROLE_FOLLOWER,
        admin_pb.ROLE_LEADER,
    ]
    assert (status.requests, status.branches_open, status.waits_in_progress) == (4, 3, 5)
    digest = await front.admin.GetDigest(admin_pb.GetDigestRequest(min_revision=5))
    assert (digest.revision, digest.digest) == (42, "abc")
    snapshot = await front.admin.TakeSnapshot(admin_pb.TakeSnapshotRequest())
    assert (snapshot.revision, snapshot.index, snapshot.size_bytes) == (42, 9, 1_000)
    for target, expected in (("", None), ("n2", "n2")):
        request = admin_pb.TransferLeadershipRequest(target=target)
        assert (await front.admin.TransferLeadership(request)).target == "n2"
        assert front.node.calls[-1].argument == expected


@pytest.mark.parametrize(
    ("non_voter", "standing"), [(False, Standing.JOINING), (True, Standing.NON_VOTER)]
)
async def test_changes_of_the_members(
    front: FrontEnd, *, non_voter: bool, standing: Standing
) -> None:
    request = admin_pb.AddMemberRequest(**NEW_MEMBER, non_voter=non_voter)
    await front.admin.AddMember(request)
    member = MemberConfig(
        NodeName("n4"), Region("ap"), "10.0.0.4:3", "10.0.0.4:1", "10.0.0.4:2", standing
    )
    assert front.node.calls[-1].argument == AddMember(member)
    await front.admin.RemoveMember(admin_pb.RemoveMemberRequest(name="n4"))
    assert front.node.calls[-1].argument == RemoveMember(NodeName("n4"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "n 4"),
        ("name", "x" * 65),
        ("region", ""),
        ("region", "a\nb"),
        ("raft_address", "10.0.0.4"),
        ("raft_address", "[::]:1"),
        ("grpc_address", "10.0.0.4:0"),
        ("http_address", "10.0.0.4:99999"),
    ],
)
async def test_members_that_cannot_be_are_refused_at_the_gate(
    front: FrontEnd, field: str, value: str
) -> None:
    call = front.admin.AddMember(admin_pb.AddMemberRequest(**{**NEW_MEMBER, field: value}))
    error = await failure_of(call)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (error.details() or "")
    assert front.node.calls == []
