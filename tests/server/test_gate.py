"""The gate over a real gRPC server: every field out of its limits is INVALID_ARGUMENT and named.

Semantics G1, W2 to W5, R1, R3, S2, U1.
"""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from front_end import FrontEnd, failure_of
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin_pb
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2

LONG_ID = "i" * 129
LONG_NAME = "n" * 127 + "é"  # 128 characters, 129 bytes
BAD_IDS = {"long": LONG_ID, "space": "a b", "not ASCII": "é", "newline": "a\n"}
BAD_NAMES = {"long": LONG_NAME, "control": "a\x00", "DEL": "a\x7f", "C1": "a\x85", "tab": "\t"}
NEGATIVE = {"negative": Duration(seconds=-1), "negative nanos": Duration(nanos=-1)}


def register(
    request_id: str = "r", patience: Duration | None = None, **spec: object
) -> pb.RegisterBranchRequest:
    branch = pb.BranchSpec(**{"service": "s", **spec})
    return pb.RegisterBranchRequest(
        request_id=request_id, branch=branch, await_registration=patience
    )


def register_all(*specs: pb.BranchSpec) -> pb.RegisterBranchesRequest:
    return pb.RegisterBranchesRequest(request_id="r", branches=specs)


def close(**spec: object) -> pb.CloseBranchRequest:
    return pb.CloseBranchRequest(close=pb.CloseSpec(**{"branch_id": "b", **spec}))


def wait(**fields: object) -> pb.WaitRequestRequest:
    return pb.WaitRequestRequest(**{"request_id": "r", **fields})


def scoped(**scope: object) -> pb.WaitRequestRequest:
    return wait(scope=types_pb2.Scope(**scope))


def breaches() -> Iterator[tuple[str, Message, str]]:
    """(method, request, path of the field)."""
    for text in BAD_IDS.values():
        yield "RegisterRequest", pb.RegisterRequestRequest(request_id=text), "request_id"
        yield "RegisterBranch", register(request_id=text), "request_id"
        yield "RegisterBranch", register(branch_id=text), "branch.branch_id"
        yield "RegisterBranch", register(parent_branch_id=text), "branch.parent_branch_id"
        second = pb.BranchSpec(service="s", branch_id=text)
        request = register_all(pb.BranchSpec(service="s"), second)
        yield "RegisterBranches", request, "branches[1].branch_id"
        yield "CloseBranch", close(branch_id=text), "close.branch_id"
        yield "WaitRequest", wait(request_id=text), "request_id"
        yield "WaitRequest", wait(required_branches=["ok", text]), "required_branches[1]"
        for method, message in READS.items():
            yield method, message(request_id=text), "request_id"
    for text in BAD_NAMES.values():
        yield "RegisterBranch", register(service=text), "branch.service"
        yield "RegisterBranch", register(tag=text), "branch.tag"
        yield "RegisterBranch", register(zone=text), "branch.zone"
        yield "RegisterBranch", register(regions=["eu", "us", text]), "branch.regions[2]"
        yield "CloseBranch", close(region=text), "close.region"
        yield "WaitRequest", scoped(services=["a", text]), "scope.services[1]"
        yield "WaitRequest", scoped(region=text), "scope.region"
        yield "WaitRequest", scoped(services=["a"], tag=text), "scope.tag"
        yield "WaitRequest", scoped(zone=text), "scope.zone"
        yield "WaitRequest", scoped(waiter_service=text), "scope.waiter_service"
        check = pb.CheckRequestRequest(request_id="r", scope=types_pb2.Scope(region=text))
        yield "CheckRequest", check, "scope.region"
        by_regions = pb.CheckRequestByRegionsRequest(request_id="r", services=[text])
        yield "CheckRequestByRegions", by_regions, "services[0]"
        dependencies = pb.FetchDependenciesRequest
        yield "FetchDependencies", dependencies(request_id="r", service=text), "service"
        yield "FetchDependencies", dependencies(request_id="r", zone=text), "zone"
        yield "ListRequests", pb.ListRequestsRequest(service=text), "service"
        yield "TransferLeadership", admin_pb.TransferLeadershipRequest(target=text), "target"
    for duration in NEGATIVE.values():
        yield "RegisterBranch", register(patience=duration), "await_registration"
        request = pb.RegisterBranchesRequest(
            branches=[pb.BranchSpec(service="s")], await_registration=duration
        )
        yield "RegisterBranches", request, "await_registration"
        request = close()
        request.await_registration.CopyFrom(duration)
        yield "CloseBranch", request, "await_registration"
        request = pb.CloseBranchesRequest(
            closes=[pb.CloseSpec(branch_id="b")], await_registration=duration
        )
        yield "CloseBranches", request, "await_registration"
        yield "WaitRequest", wait(timeout=duration), "timeout"
        yield "WaitRequest", wait(await_registration=duration), "await_registration"
    yield from single_breaches()


def single_breaches() -> Iterator[tuple[str, Message, str]]:
    """What is wrong in one way only."""
    spec = pb.BranchSpec(service="s")
    yield "RegisterBranch", pb.RegisterBranchRequest(request_id="r"), "branch"
    yield "RegisterBranch", register(service=""), "branch.service"
    yield "RegisterBranch", register(regions=["eu", ""]), "branch.regions[1]"
    yield "RegisterBranch", register(locator=b"x" * 513), "branch.locator"
    yield "RegisterBranches", register_all(), "branches"
    yield "RegisterBranches", register_all(*[spec] * 1_001), "branches"
    twin = pb.BranchSpec(service="s", branch_id="same")
    yield "RegisterBranches", register_all(twin, spec, twin), "branches[2].branch_id"
    yield "CloseBranch", pb.CloseBranchRequest(), "close"
    yield "CloseBranch", close(branch_id=""), "close.branch_id"
    yield "CloseBranch", close(region="eu", all_regions=True), "close.region"
    yield "CloseBranches", pb.CloseBranchesRequest(), "closes"
    many = [pb.CloseSpec(branch_id="b")] * 1_001
    yield "CloseBranches", pb.CloseBranchesRequest(closes=many), "closes"
    for method, message in READS.items():
        yield method, message(request_id=""), "request_id"
        yield method, message(request_id="r", consistency=9), "consistency"
    yield "WaitRequest", scoped(services=[f"s{i}" for i in range(65)]), "scope.services"
    yield "WaitRequest", scoped(services=[""]), "scope.services[0]"
    yield "WaitRequest", scoped(tag="t"), "scope.tag"
    yield "WaitRequest", scoped(tag="t", services=["a", "b"]), "scope.tag"
    yield "WaitRequest", scoped(tag="t", services=["a"], wait_dependencies=True), "scope.tag"
    ids = [f"b{i}" for i in range(65)]
    yield "WaitRequest", wait(required_branches=ids), "required_branches"
    yield "WaitRequest", wait(timeout=Duration(seconds=315_576_000_001)), "timeout"
    yield "WaitRequest", wait(timeout=Duration(nanos=1_000_000_000)), "timeout"
    yield "ListRequests", pb.ListRequestsRequest(status=types_pb2.STATUS_UNKNOWN), "status"
    yield "ListRequests", pb.ListRequestsRequest(status=77), "status"
    yield "ListRequests", pb.ListRequestsRequest(page_size=1_001), "page_size"
    yield "ListRequests", pb.ListRequestsRequest(page_size=-1), "page_size"
    for token in ("x", "-1", "٣", "9" * 19):
        yield "ListRequests", pb.ListRequestsRequest(page_token=token), "page_token"
    yield "ListRequests", pb.ListRequestsRequest(consistency=9), "consistency"


READS = {
    "WaitRequest": pb.WaitRequestRequest,
    "CheckRequest": pb.CheckRequestRequest,
    "CheckRequestByRegions": pb.CheckRequestByRegionsRequest,
    "FetchDependencies": pb.FetchDependenciesRequest,
    "DescribeRequest": pb.DescribeRequestRequest,
}


async def test_every_breach_names_its_field(front: FrontEnd) -> None:
    """G1: anything else is INVALID_ARGUMENT that names the field, and nothing is proposed."""
    # semantics: G1, G1.1, W2.1, W2.2, W2.6, S2.1, R3.1, 5.7
    checked = 0
    for method, request, field in breaches():
        stub = front.admin if method == "TransferLeadership" else front.stub
        error = await failure_of(getattr(stub, method)(request))
        trailing = dict(error.trailing_metadata())
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (method, field, error)
        assert trailing["rendezvous-code"] == "invalid"
        assert trailing["rendezvous-definite"] == "true"
        assert trailing["rendezvous-detail-field"] == field, (method, error.details())
        assert error.details().startswith(f"{field}: ")
        checked += 1
    assert checked > 150
    assert front.node.calls == []


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.SubscribeRequest(service="", region="eu"), "service"),
        (pb.SubscribeRequest(service="s", region=""), "region"),
        (pb.SubscribeRequest(service="s", region="eu", tags=["a", "b\x00"]), "tags[1]"),
        (pb.SubscribeRequest(service="s", region="eu", tags=map(str, range(65))), "tags"),
        (pb.SubscribeRequest(service="s", region="eu", group=LONG_NAME), "group"),
    ],
)
async def test_subscriptions_pass_the_gate_too(
    front: FrontEnd, request_: Message, field: str
) -> None:
    # semantics: G1, G1.1
    error = await failure_of(front.stub.Subscribe(request_).read())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(error.trailing_metadata())["rendezvous-detail-field"] == field
    assert front.node.calls == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"request_id": ""}, "request_id"),
        ({"scope": types_pb2.Scope(tag="t")}, "scope.tag"),
        ({"required_branches": ["a b"]}, "required_branches[0]"),
        ({"required_branches": [f"b{i}" for i in range(65)]}, "required_branches"),
        ({"consistency": 9}, "consistency"),
        ({"await_registration": Duration(seconds=-1)}, "await_registration"),
    ],
)
async def test_watches_pass_the_gate_too(
    front: FrontEnd, fields: dict[str, object], field: str
) -> None:
    # semantics: G1, G1.1
    request = pb.WatchRequestRequest(**{"request_id": "r", **fields})
    error = await failure_of(front.stub.WatchRequest(request).read())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(error.trailing_metadata())["rendezvous-detail-field"] == field
    assert front.node.calls == []


async def test_limits_themselves_are_allowed(front: FrontEnd) -> None:
    """The nearest sound value of each limit passes."""
    # semantics: G1
    name, branch_id = "n" * 126 + "é", "i" * 128
    regions = [f"r{i}" for i in range(128)]
    specs = [pb.BranchSpec(service="s") for _ in range(1_000)]
    await front.stub.RegisterBranch(
        register(
            branch_id=branch_id,
            request_id="A-Za.z0_9:/@",
            service=name,
            tag=name,
            zone=name,
            regions=regions,
            locator=b"\x00" * 512,
            parent_branch_id=branch_id,
        )
    )
    await front.stub.RegisterBranches(register_all(*specs))
    closes = [pb.CloseSpec(branch_id="b")] * 1_000
    await front.stub.CloseBranches(pb.CloseBranchesRequest(closes=closes))
    await front.stub.WaitRequest(scoped(services=[f"s{i}" for i in range(64)]))
    await front.stub.WaitRequest(wait(required_branches=[f"b{i}" for i in range(64)]))
    await front.stub.ListRequests(pb.ListRequestsRequest(page_size=1_000, page_token="9" * 18))
    assert len(front.node.calls) == 6


async def test_too_many_regions_is_a_limit_of_the_state(front: FrontEnd) -> None:
    """L3: RESOURCE_EXHAUSTED with the limit's name; duplicates do not count."""
    # semantics: L3, W2.1
    names = [f"r{i}" for i in range(128)]
    await front.stub.RegisterBranch(register(regions=[*names, *names]))
    error = await failure_of(front.stub.RegisterBranch(register(regions=[*names, "one-more"])))
    trailing = dict(error.trailing_metadata())
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert trailing["rendezvous-detail-limit"] == "regions_per_branch_max"
    assert trailing["rendezvous-detail-value"] == "129"
    assert trailing["rendezvous-detail-field"] == "branch.regions"


async def test_one_faulty_close_does_not_fail_the_others(front: FrontEnd) -> None:
    """W5."""
    # semantics: W5
    specs = [
        pb.CloseSpec(branch_id="b0", region="eu"),
        pb.CloseSpec(branch_id="not an id"),
        pb.CloseSpec(branch_id="b2", region="eu", all_regions=True),
        pb.CloseSpec(branch_id="b3"),
    ]
    response = await front.stub.CloseBranches(pb.CloseBranchesRequest(closes=specs))
    (closing,) = front.node.arguments("close_branches")
    assert [close.branch_id for close in closing.closes] == ["b0", "b3"]
    assert [result.closed for result in response.results] == [True, False, False, True]
    failures = [result.failure for result in response.results[1:3]]
    assert [failure.code for failure in failures] == ["invalid", "invalid"]
    assert [failure.details["field"] for failure in failures] == [
        "closes[1].branch_id",
        "closes[2].region",
    ]
    assert response.revision == 42


async def test_closes_that_are_all_faulty_reach_nobody(front: FrontEnd) -> None:
    response = await front.stub.CloseBranches(
        pb.CloseBranchesRequest(closes=[pb.CloseSpec(branch_id="")])
    )
    assert response.results[0].failure.details["field"] == "closes[0].branch_id"
    assert response.revision == 41
    assert front.node.calls == []


async def test_bytes_that_are_no_message_are_an_invalid_argument(front: FrontEnd) -> None:
    call = front.channel.unary_unary("/rendezvous.v1.MetadataService/RegisterBranch")
    error = await failure_of(call(b"\xff\xff\xff"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(error.trailing_metadata())["rendezvous-code"] == "invalid"
