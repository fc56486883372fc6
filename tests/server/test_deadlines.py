"""Every call has an absolute deadline: the caller's, but no later than the node's cap."""

from __future__ import annotations

import pytest
from front_end import FrontEnd

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb

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
