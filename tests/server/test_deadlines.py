"""Every call has an absolute deadline: the caller's, but no later than the node's cap."""

from __future__ import annotations

import pytest
from front_end import FrontEnd, failure_of
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.errors import RequestNotFound

NOW_S = 1_000.0  # of the manual clock
REGISTER = pb.RegisterRequestRequest(request_id="r")
WAIT = pb.WaitRequestRequest(request_id="r")


async def test_a_call_without_a_deadline_gets_the_cap(front: FrontEnd) -> None:
    # semantics: R3.2
    await front.stub.RegisterRequest(REGISTER)
    await front.stub.WaitRequest(WAIT)
    register, wait = front.node.calls
    assert register.deadline_s == NOW_S + 30
    assert wait.deadline_s == NOW_S + 300 + 5  # its own time-out comes first


async def test_a_late_deadline_is_capped(front: FrontEnd) -> None:
    await front.stub.RegisterRequest(REGISTER, timeout=1_000)
    await front.stub.WaitRequest(WAIT, timeout=1_000)
    assert [call.deadline_s for call in front.node.calls] == [NOW_S + 30, NOW_S + 305]


async def test_the_callers_deadline_arrives(front: FrontEnd) -> None:
    await front.stub.RegisterRequest(REGISTER, timeout=20)
    (call,) = front.node.calls
    # The caller's 20 s, not the cap of 30 s; gRPC rounds, and the call took its time.
    assert call.deadline_s == pytest.approx(NOW_S + 20, abs=9)


BRANCH = pb.BranchSpec(branch_id="b", service="s")
CLOSE = pb.CloseSpec(branch_id="b")
PATIENT_WRITES = [
    ("RegisterBranch", pb.RegisterBranchRequest(branch=BRANCH)),
    ("RegisterBranches", pb.RegisterBranchesRequest(branches=[BRANCH])),
    ("CloseBranch", pb.CloseBranchRequest(close=CLOSE)),
    ("CloseBranches", pb.CloseBranchesRequest(closes=[CLOSE])),
]


@pytest.mark.parametrize(("method", "request_"), PATIENT_WRITES)
async def test_a_write_waits_for_a_registration_no_longer_than_a_call_may_last(
    front: FrontEnd, method: str, request_: Message
) -> None:
    # semantics: W4.3, G7
    for seconds in (7, 31, 300_000_000_000):
        request_.await_registration.FromSeconds(seconds)
        await getattr(front.stub, method)(request_)
    asked = [call.argument.await_registration_s for call in front.node.calls]
    assert asked == [7, 30, 30]


async def test_a_read_waits_for_a_registration_no_longer_than_a_wait_may_last(
    front: FrontEnd,
) -> None:
    # semantics: R4.1, Q1
    front.node.watched = [RequestNotFound("scripted")]
    for seconds in (7, 301, 300_000_000_000):
        patience = Duration(seconds=seconds)
        asked = {"request_id": "r", "await_registration": patience}
        await front.stub.WaitRequest(pb.WaitRequestRequest(**asked))
        await failure_of(front.stub.WatchRequest(pb.WatchRequestRequest(**asked)).read())
    for method in ("wait", "watch"):
        queries = front.node.arguments(method)
        assert [query.await_registration_s for query in queries] == [7, 300, 300]
