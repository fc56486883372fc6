"""What both clients take from the context, and what they teach it."""

from __future__ import annotations

import asyncio

import pytest
from fake_node import FakeNode, Hang, Refuse
from twins import OpenClient, call

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2 as types
from rendezvous_raft.client import (
    BranchSpec,
    Client,
)
from rendezvous_raft.context import RendezvousContext, current_context, current_session, use_context
from rendezvous_raft.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    LimitExceeded,
    PermissionDenied,
    RendezvousError,
)
from rendezvous_raft.types import Consistency


async def test_calls_within_a_request_belong_to_it(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node, region="eu")
    with client.request(zone="mail") as request:
        result = await call(client, "register_branch", "s", regions=["eu"])
        assert result.request_id == request.request_id
        assert request.context == RendezvousContext(request.request_id, "mail", 101)
        await call(client, "wait_request")
        await call(client, "check_request", region="")
    assert current_context() is None
    register, wait, check = node.received
    assert register.branch.zone == "mail"
    assert (wait.request_id, wait.scope.zone, wait.scope.region) == (
        request.request_id,
        "mail",
        "eu",
    )
    assert wait.min_revision == 101
    assert check.scope.region == ""
    assert check.min_revision == 102
    assert check.consistency == types.CONSISTENCY_UNSPECIFIED


async def test_a_branch_on_its_way_is_required_by_waits(
    node: FakeNode, open_client: OpenClient
) -> None:
    """A notification that overtakes the registration must not overtake the branch."""
    # semantics: R1.1
    client = open_client(node)
    node.script["RegisterBranch"].append(Hang)
    with client.request("r"):
        registration = asyncio.create_task(
            call(client, "register_branch", "s", branch_id="b", timeout=0.5)
        )
        await node.call_arrived.wait()
        context = current_context()
        assert context is not None
        assert context.unacknowledged == ("b",)
        await call(client, "wait_request", timeout=1)
        assert list(node.received[1].required_branches) == ["b"]
        with pytest.raises(DeadlineExceeded):
            await registration


async def test_an_acknowledged_branch_is_covered_by_the_revision(
    node: FakeNode, open_client: OpenClient
) -> None:
    client = open_client(node)
    with client.request("r") as request:
        await call(client, "register_branch", "s")
        await call(client, "register_branches", [BranchSpec("s"), BranchSpec("t")])
        assert request.context == RendezvousContext("r", None, 102, ())


@pytest.mark.parametrize(
    ("error", "kept"),
    [(PermissionDenied("no"), ()), (InternalError("boom"), ("b",))],
    ids=["definite", "indefinite"],
)
async def test_a_failed_registration_is_kept_unless_it_was_not_done(
    node: FakeNode, open_client: OpenClient, error: RendezvousError, kept: tuple[str, ...]
) -> None:
    client = open_client(node)
    error.revision = 77
    node.script["RegisterBranch"].append(error)
    with client.request("r") as request:
        with pytest.raises(type(error)):
            await call(client, "register_branch", "s", branch_id="b")
        assert request.context == RendezvousContext("r", None, 77, kept)


async def test_a_definite_failure_does_not_clear_an_earlier_doubt(
    node: FakeNode, open_client: OpenClient
) -> None:
    client = open_client(node)
    node.script["RegisterBranch"].extend([InternalError("boom"), PermissionDenied("no")])
    with client.request("r") as request:
        for _ in range(2):
            with pytest.raises(RendezvousError):
                await call(client, "register_branch", "s", branch_id="b")
        assert request.context.unacknowledged == ("b",)
        await call(client, "register_branch", "s", branch_id="b")
        assert request.context.unacknowledged == ()


async def test_the_first_call_with_a_branch_may_fail_while_another_is_on_its_way(
    node: FakeNode, open_client: OpenClient
) -> None:
    """The failure of the call that began first was taken for the fate of both."""
    # semantics: R1.1
    client = open_client(node, pipeline=False)
    node.script["RegisterBranch"].extend([Refuse, Hang])
    with client.request("r") as request:
        first = asyncio.create_task(call(client, "register_branch", "s", branch_id="b"))
        await node.call_arrived.wait()
        node.call_arrived.clear()
        second = asyncio.create_task(
            call(client, "register_branch", "s", branch_id="b", timeout=0.5)
        )
        await node.call_arrived.wait()
        node.refuse.set()
        with pytest.raises(PermissionDenied):
            await first
        assert request.context.unacknowledged == ("b",)
        with pytest.raises(DeadlineExceeded):
            await second


async def test_a_wait_names_what_to_await_when_too_much_is_on_its_way(
    node: FakeNode, open_client: OpenClient
) -> None:
    """To leave a branch out could hide a write; the node would blame a field nobody gave."""
    # semantics: R1.1
    client = open_client(node)
    with client.request("r"):
        session = current_session()
        assert session is not None
        session.begin(f"b{n}" for n in range(65))
        with pytest.raises(LimitExceeded, match="await or repeat") as caught:
            await call(client, "wait_request")
        assert caught.value.definite
        assert caught.value.details["limit"] == "required_branches_max"
        assert node.received == []
        session.acknowledge(["b7"], revision=3)
        await call(client, "wait_request")
        assert len(node.received[0].required_branches) == 64


@pytest.mark.parametrize("timed_out", [False, True])
async def test_a_finished_wait_knows_its_required_branches(
    node: FakeNode, open_client: OpenClient, timed_out: bool
) -> None:
    client = open_client(node)
    outcome = types.WAIT_OUTCOME_TIMED_OUT if timed_out else types.WAIT_OUTCOME_BLOCKED
    node.script["WaitRequest"].append(
        pb.WaitRequestResponse(outcome=outcome, timed_out=timed_out, revision=50)
    )
    with use_context(RendezvousContext("r", None, 5, ("b",))) as session:
        await call(client, "wait_request")
        assert session is not None
        expected = ("b",) if timed_out else ()
        assert session.context == RendezvousContext("r", None, 50, expected)


async def test_another_request_takes_the_revision_and_nothing_else(
    node: FakeNode, open_client: OpenClient
) -> None:
    client = open_client(node)
    with use_context(RendezvousContext("mine", "zone", 30, ("b",))) as session:
        await call(client, "register_branch", "s", request_id="other")
        await call(client, "wait_request", "other")
        await call(client, "describe_request", "other")
        assert session is not None
        assert session.context == RendezvousContext("mine", "zone", 102, ("b",))
    register, wait, describe = node.received
    assert register.branch.zone == ""
    assert not wait.scope.HasField("zone")
    assert list(wait.required_branches) == []
    assert wait.min_revision == 101
    assert describe.min_revision == 102


async def test_explicit_arguments_win(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node, region="eu")
    with use_context(RendezvousContext("r", "zone", 30, ("b",))):
        await call(
            client,
            "wait_request",
            zone="",
            region="us",
            required_branches=["c"],
            min_revision=0,
            consistency=Consistency.LINEARIZABLE,
        )
    (wait,) = node.received
    assert wait.scope.HasField("zone")
    assert wait.scope.zone == ""
    assert wait.scope.region == "us"
    assert list(wait.required_branches) == ["c"]
    assert wait.min_revision == 0
    assert wait.consistency == types.CONSISTENCY_LINEARIZABLE


@pytest.mark.parametrize(
    "name",
    ["wait_request", "check_request", "check_request_by_regions", "fetch_dependencies",
     "describe_request"],
)  # fmt: skip
async def test_without_a_request_a_read_is_refused(
    node: FakeNode, open_client: OpenClient, name: str
) -> None:
    client = open_client(node)
    with pytest.raises(InvalidArgument, match="request_id"):
        await call(client, name)
    assert not node.received


def test_blocks_of_one_request_share_what_is_on_its_way() -> None:
    """A block that ended dropped what others had begun meanwhile, and brought back the settled."""
    # semantics: R1.1
    client = Client("127.0.0.1:1")
    with client.request("r"):
        outer = current_session()
        assert outer is not None
        outer.begin(["kept", "settled"])
        with client.request("r", zone="z") as block:
            inner = current_session()
            assert inner is not None
            assert block.context == RendezvousContext("r", "z", 0, ("kept", "settled"))
            inner.begin(["from-inside"])
            outer.begin(["from-outside"])
            outer.withdraw(["settled"])
            on_their_way = ("kept", "from-inside", "from-outside")
            assert inner.unacknowledged == outer.unacknowledged == on_their_way
            inner.acknowledge(["kept"], revision=5)
        assert outer.context == RendezvousContext("r", None, 5, ("from-inside", "from-outside"))
    assert current_session() is None


async def test_requests_nest(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node)
    with client.request("outer", zone="z") as outer:
        await call(client, "register_request")
        with client.request("outer") as same:
            assert same.context == RendezvousContext("outer", "z", 101)
        async with client.request() as inner:
            assert inner.context.zone is None
            assert inner.context.min_revision == 101
            await call(client, "register_request")
        assert outer.context == RendezvousContext("outer", "z", 102)
    assert [sent.request_id for sent in node.received] == ["outer", inner.request_id]
