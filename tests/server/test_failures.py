"""Errors become a status and trailing metadata that say what happened (semantics G5, G6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest
from front_end import FrontEnd, failure_of
from scripted_node import Gate, ScriptedNode
from structlog.testing import capture_logs

from rendezvous_raft import errors
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.core.results import BranchesClosed, CloseOutcome
from rendezvous_raft.server.failures import status_of, to_failure
from rendezvous_raft.server.metadata_service import MetadataService

STATUS_BY_CODE = {
    "invalid": "INVALID_ARGUMENT",
    "conflict": "ALREADY_EXISTS",
    "not_found": "NOT_FOUND",
    "request_not_found": "NOT_FOUND",
    "branch_not_found": "NOT_FOUND",
    "service_not_found": "NOT_FOUND",
    "expired": "FAILED_PRECONDITION",
    "limit": "RESOURCE_EXHAUSTED",
    "overloaded": "RESOURCE_EXHAUSTED",
    "subscription_overflow": "RESOURCE_EXHAUSTED",
    "unavailable": "UNAVAILABLE",
    "no_leader": "UNAVAILABLE",
    "not_ready": "UNAVAILABLE",
    "draining": "UNAVAILABLE",
    "read_only": "UNAVAILABLE",
    "unknown": "UNKNOWN",
    "proposal_timeout": "UNKNOWN",
    "leader_changed": "UNKNOWN",
    "disconnected": "UNKNOWN",
    "deadline": "DEADLINE_EXCEEDED",
    "unauthenticated": "UNAUTHENTICATED",
    "permission": "PERMISSION_DENIED",
    "internal": "INTERNAL",
}
REGISTER = pb.RegisterBranchRequest(
    request_id="r", branch=pb.BranchSpec(branch_id="b", service="s")
)


def make(cls: type[errors.RendezvousError], **facts: object) -> errors.RendezvousError:
    if cls is errors.DeadlineExceeded:
        return cls("too late", definite=True, **facts)
    return cls("the reason", **facts)


def test_the_table_knows_every_class() -> None:
    assert set(errors.all_error_classes()) == set(STATUS_BY_CODE)


@pytest.mark.parametrize("code", sorted(STATUS_BY_CODE))
async def test_every_class_has_its_status(front: FrontEnd, code: str) -> None:
    """As the tree in `errors.py` says."""
    # semantics: G6
    cls = errors.all_error_classes()[code]
    raised = make(cls, details={"fact": "50 % \x00é"}, revision=7)
    front.node.answers["register_branches"] = raised
    error = await failure_of(front.stub.RegisterBranch(REGISTER))
    trailing = dict(error.trailing_metadata())
    assert error.code().name == STATUS_BY_CODE[code] == status_of(raised).name
    assert error.details() == raised.message
    assert trailing == {
        "rendezvous-code": code,
        "rendezvous-definite": str(raised.definite).lower(),
        "rendezvous-retryable": str(raised.retryable).lower(),
        "rendezvous-leader": "n2",
        "rendezvous-leader-address": "127.0.0.1:7602",
        "rendezvous-revision": "7",
        "rendezvous-detail-fact": "50 %25 %00%C3%A9",
    }


async def test_without_a_leader_there_is_no_hint(front: FrontEnd) -> None:
    front.node.cluster_status = replace(front.node.cluster_status, leader=None)
    front.node.answers["register_branches"] = errors.NoLeader("nobody leads")
    trailing = dict((await failure_of(front.stub.RegisterBranch(REGISTER))).trailing_metadata())
    assert "rendezvous-leader" not in trailing
    assert "rendezvous-leader-address" not in trailing
    assert trailing["rendezvous-revision"] == "41"  # what the node has


async def test_the_error_knows_better_who_leads(front: FrontEnd) -> None:
    front.node.answers["register_branches"] = errors.LeaderChanged("moved", leader="n1")
    trailing = dict((await failure_of(front.stub.RegisterBranch(REGISTER))).trailing_metadata())
    assert trailing["rendezvous-leader"] == "n1"
    assert trailing["rendezvous-leader-address"] == "127.0.0.1:7601"


@pytest.mark.parametrize("letter", ["x", "€"])
async def test_a_large_error_stays_small(front: FrontEnd, letter: str) -> None:
    """Trailers beyond 8 KiB are dropped by clients, and the error would be unexplained."""
    facts = {f"fact{i}": letter * 10_000 for i in range(20)}
    front.node.answers["register_branches"] = errors.AlreadyExists(letter * 10_000, details=facts)
    error = await failure_of(front.stub.RegisterBranch(REGISTER))
    trailing = error.trailing_metadata()
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS
    assert dict(trailing)["rendezvous-code"] == "conflict"
    assert "rendezvous-detail-fact0" in dict(trailing)
    size = sum(len(name) + len(value) + 32 for name, value in trailing)
    assert size + 3 * len(error.details().encode()) < 8_192


async def test_a_fault_of_ours_is_logged_once_and_has_an_incident_id(front: FrontEnd) -> None:
    front.node.answers["register_branches"] = ZeroDivisionError("secret of the inside")
    with capture_logs() as logs:
        error = await failure_of(front.stub.RegisterBranch(REGISTER))
    trailing = dict(error.trailing_metadata())
    (line,) = [line for line in logs if line["event"] == "call_failed"]
    assert error.code() is grpc.StatusCode.INTERNAL
    assert trailing["rendezvous-code"] == "internal"
    assert trailing["rendezvous-definite"] == "false"
    assert trailing["rendezvous-detail-incident"] == line["incident"]
    assert line["method"] == "rendezvous.v1.MetadataService/RegisterBranch"
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert "secret" not in error.details()


async def test_errors_of_ours_are_answered_and_not_logged(front: FrontEnd) -> None:
    front.node.answers["register_branches"] = errors.AlreadyExists("taken")
    with capture_logs() as logs:
        await failure_of(front.stub.RegisterBranch(REGISTER))
    assert logs == []


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (CloseOutcome.BRANCH_UNKNOWN, "branch_not_found"),
        (CloseOutcome.REQUEST_EXPIRED, "expired"),
        (CloseOutcome.REGION_NOT_OF_BRANCH, "invalid"),
    ],
)
async def test_a_single_close_that_failed_is_an_error(
    front: FrontEnd, outcome: CloseOutcome, code: str
) -> None:
    """W4; in a batch it is the result of its item (W5)."""
    # semantics: W4.2, W4.4, W5, G5.1
    front.node.answers["close_branches"] = (BranchesClosed((outcome,)), 43)
    spec = pb.CloseSpec(branch_id="b", region="eu")
    error = await failure_of(front.stub.CloseBranch(pb.CloseBranchRequest(close=spec)))
    assert dict(error.trailing_metadata())["rendezvous-code"] == code
    response = await front.stub.CloseBranches(pb.CloseBranchesRequest(closes=[spec]))
    assert response.results[0].failure.code == code
    assert response.results[0].failure.definite


async def test_closing_twice_is_fine(front: FrontEnd) -> None:
    # semantics: W4.1, G3
    front.node.answers["close_branches"] = (BranchesClosed((CloseOutcome.ALREADY_CLOSED,)), 43)
    response = await front.stub.CloseBranch(
        pb.CloseBranchRequest(close=pb.CloseSpec(branch_id="b"))
    )
    assert (response.closed, response.already_closed, response.revision) == (False, True, 43)


async def test_a_subscription_that_overflows_says_so(front: FrontEnd) -> None:
    """U3."""
    # semantics: U3
    front.node.subscription_batches = [errors.SubscriptionOverflow("too slow")]
    call = front.stub.Subscribe(pb.SubscribeRequest(service="s", region="eu"))
    error = await failure_of(call.read())
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(error.trailing_metadata())["rendezvous-code"] == "subscription_overflow"


async def test_a_cancelled_call_cancels_its_use_case(front: FrontEnd) -> None:
    """G7."""
    # semantics: G7
    gate = front.node.answers["wait"] = Gate()
    with capture_logs() as logs:
        call = front.stub.WaitRequest(pb.WaitRequestRequest(request_id="r"))
        waiting = asyncio.ensure_future(call.code())
        await gate.entered.wait()
        call.cancel()
        await gate.cancelled.wait()
        assert await waiting is grpc.StatusCode.CANCELLED
    assert logs == []


class BrokenStream:
    """A call whose client has gone while a message was on its way."""

    async def write(self, message: object) -> None:
        raise ConnectionError


async def test_a_broken_subscription_is_detached_at_once(node: ScriptedNode) -> None:
    """G7: not whenever the generator is collected."""
    # semantics: G7
    request = pb.SubscribeRequest(service="s", region="eu")
    with pytest.raises(ConnectionError) as caught:
        await MetadataService(node).subscribe(request, BrokenStream())
    assert caught.tb is not None  # it keeps the frames, so nothing is collected here
    assert node.subscription_ended.is_set()


def test_a_failure_inside_a_batch_says_the_same() -> None:
    error = errors.OutcomeUnknown("who knows", details={"a": "b"})
    assert to_failure(error) == pb.Failure(
        code="unknown", message="who knows", definite=False, retryable=True, details={"a": "b"}
    )
