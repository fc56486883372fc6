"""What does not fit one message is refused by name, and never by the transport."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest
from front_end import FrontEnd, failure_of

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin_pb
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.limits import GRPC_MESSAGE_BYTES_MAX
from rendezvous_raft.node.calls import (
    BranchIsOpen,
    CheckAnswer,
    DependenciesAnswer,
    RegionsAnswer,
)
from rendezvous_raft.node.status import MemberStatus
from rendezvous_raft.types import Revision, Status

NAMES = tuple(f"{i:0>128}" for i in range(9_000))
REGIONS = dict.fromkeys(NAMES, Status.OPEN)
AT = Revision(42)


LARGE_READS = [
    ("check", CheckAnswer(Status.OPEN, None, REGIONS, AT), "CheckRequest"),
    ("check", CheckAnswer(Status.OPEN, REGIONS, None, AT), "CheckRequest"),
    ("check_by_regions", RegionsAnswer(REGIONS, AT), "CheckRequestByRegions"),
    ("fetch_dependencies", DependenciesAnswer(NAMES, (), AT), "FetchDependencies"),
]


def check_refused(error: grpc.aio.AioRpcError) -> None:
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailing = dict(error.trailing_metadata())
    assert trailing["rendezvous-code"] == "limit"
    assert trailing["rendezvous-definite"] == "true"
    assert trailing["rendezvous-retryable"] == "false"
    assert trailing["rendezvous-detail-limit"] == "grpc_message_bytes_max"
    value = int(trailing["rendezvous-detail-value"])
    assert value > GRPC_MESSAGE_BYTES_MAX
    assert f"{value} bytes, and at most {GRPC_MESSAGE_BYTES_MAX} are" in (error.details() or "")


@pytest.mark.parametrize(("use_case", "answer", "method"), LARGE_READS)
async def test_an_answer_that_is_too_large_names_the_limit(
    front: FrontEnd, use_case: str, answer: object, method: str
) -> None:
    # semantics: L3
    front.node.answers[use_case] = answer
    request = getattr(pb, f"{method}Request")(request_id="r")
    check_refused(await failure_of(getattr(front.stub, method)(request)))


async def test_so_does_the_status_of_a_cluster(front: FrontEnd) -> None:
    # semantics: L3
    status = front.node.cluster_status
    members = tuple(MemberStatus(name, "eu", name, name, None, True, 0) for name in NAMES)
    front.node.cluster_status = replace(status, members=members)
    check_refused(
        await failure_of(front.admin.GetClusterStatus(admin_pb.GetClusterStatusRequest()))
    )


async def test_so_does_an_event_of_a_stream(front: FrontEnd) -> None:
    # semantics: L3
    locator = bytes(GRPC_MESSAGE_BYTES_MAX)
    event = BranchIsOpen("b", "r", "", locator, 0, is_global=False, revision=AT)
    front.node.subscription_batches = [[event]]
    call = front.stub.Subscribe(pb.SubscribeRequest(service="s", region="eu"))
    check_refused(await failure_of(call.read()))


async def test_what_just_fits_is_given(front: FrontEnd) -> None:
    """The refusal begins exactly where the transport's does."""
    for size, fits in ((GRPC_MESSAGE_BYTES_MAX, True), (GRPC_MESSAGE_BYTES_MAX + 1, False)):
        empty = pb.FetchDependenciesResponse(direct=["x" * 100_000], revision=AT)
        name = "x" * (100_000 + size - empty.ByteSize())
        front.node.answers["fetch_dependencies"] = DependenciesAnswer((name,), (), AT)
        call = front.stub.FetchDependencies(pb.FetchDependenciesRequest(request_id="r"))
        if fits:
            assert (await call).ByteSize() == size
        else:
            check_refused(await failure_of(call))
