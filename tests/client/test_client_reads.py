"""Waits, reads, subscriptions and orders of both clients."""

from __future__ import annotations

import datetime as dt
from typing import Any

import grpc
import pytest
from fake_node import ChannelFault, FakeNode, Hang
from twins import OpenClient, StartNode, call, collect

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2 as types
from rendezvous_raft.client import (
    BranchSpec,
    CloseSpec,
    MemberSpec,
    RetryPolicy,
    _calls,
)
from rendezvous_raft.client.results import (
    RequestDescription,
    ScopeDescription,
    SubscriptionEventKind,
)
from rendezvous_raft.errors import (
    DeadlineExceeded,
    Disconnected,
    Draining,
    InternalError,
    InvalidArgument,
    NoLeader,
    PermissionDenied,
    RequestExpired,
    SubscriptionOverflow,
    Unavailable,
)
from rendezvous_raft.types import Role, Standing, Status, Verdict, WaitOutcome


async def test_a_time_out_of_a_wait_is_a_result(node: FakeNode, open_client: OpenClient) -> None:
    # semantics: R2.1
    client = open_client(node)
    answer = pb.WaitRequestResponse(
        outcome=types.WAIT_OUTCOME_TIMED_OUT, timed_out=True, revision=9, known=True
    )
    answer.blocked_for.FromTimedelta(dt.timedelta(seconds=2.5))
    open_branch = answer.open_branches.add(branch_id="b", service="s", regions=["eu"])
    open_branch.age.FromTimedelta(dt.timedelta(seconds=3))
    node.script["WaitRequest"].append(answer)
    result = await call(client, "wait_request", "r", service="s", timeout=2.5)
    assert result.outcome is WaitOutcome.TIMED_OUT
    assert result.timed_out
    assert not result.prevented_inconsistency
    assert result.blocked_for == 2.5
    assert result.open_branches[0].branch_id == "b"
    assert result.open_branches[0].age == 3.0
    assert not result.open_branches[0].registered


@pytest.mark.parametrize(
    ("timeout", "asked_s"), [(2.0, 2.0), (dt.timedelta(seconds=1), 1.0), (None, 300.0), (0, 300.0)]
)
async def test_the_rpc_of_a_wait_lasts_longer_than_the_wait(
    node: FakeNode, open_client: OpenClient, timeout: Any, asked_s: float
) -> None:
    client = open_client(node)
    await call(client, "wait_request", "r", timeout=timeout)
    (wait,) = node.received
    told_s = wait.timeout.seconds + wait.timeout.nanos / 1e9
    assert asked_s - 1 < told_s <= asked_s
    (left_s,) = node.timeouts
    assert left_s is not None
    margin_s = min(5.0, max(1.0, asked_s / 10))
    assert told_s < left_s < asked_s + margin_s + 2  # gRPC rounds long time-outs up


async def test_a_wait_whose_node_is_silent_asks_another_and_keeps_its_time(
    start_node: StartNode, open_client: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took five seconds longer than asked for, and the healthy node was never asked."""
    # semantics: R2.1
    monkeypatch.setattr(_calls, "WAIT_MARGIN_S_MIN", 2.0)
    first, second = await start_node(), await start_node()
    client = open_client(first, second)
    first.script["WaitRequest"].append(Hang)
    result = await call(client, "wait_request", "r", timeout=0.1)
    assert result.outcome is WaitOutcome.IMMEDIATE
    (left_s,) = first.timeouts
    assert left_s is not None
    assert left_s < 1.5  # of 2.1: the wait and half of the margin
    (after,) = second.received
    assert 0 < after.timeout.ToNanoseconds() < 1_000_000_000  # the RPC lasts longer


async def test_patience_for_a_registration_is_not_counted_anew(
    node: FakeNode, open_client: OpenClient
) -> None:
    client = open_client(node)
    for name, args in (("wait_request", ("r",)), ("close_branch", ("b", "eu"))):
        rpc = "".join(word.title() for word in name.split("_"))
        node.script[rpc].append(NoLeader("none"))
        await call(client, name, *args, await_registration=5)
        before, after = node.received
        assert before.await_registration.ToNanoseconds() == 5 * 10**9
        assert after.await_registration.ToNanoseconds() < 5 * 10**9
        node.received.clear()


async def test_an_order_may_take_longer_than_an_attempt(
    start_node: StartNode, open_client: OpenClient
) -> None:
    first, second = await start_node(), await start_node()
    client = open_client(first, second, retry=RetryPolicy(attempt_s_max=0.5))
    await call(client, "take_snapshot", timeout=30)
    (left_s,) = first.timeouts
    assert left_s is not None
    assert left_s > 20


async def test_a_wait_that_fails_over_keeps_its_deadline(
    start_node: StartNode, open_client: OpenClient
) -> None:
    # semantics: R3.2
    first, second = await start_node(), await start_node()
    client = open_client(first, second)
    first.script["WaitRequest"].append(Draining("bye"))
    result = await call(client, "wait_request", "r", timeout=20)
    assert result.outcome is WaitOutcome.IMMEDIATE
    (before,), (after,) = first.received, second.received
    assert after.timeout.ToNanoseconds() < before.timeout.ToNanoseconds() <= 20 * 10**9


async def test_an_unknown_outcome_never_passes_for_consistent(
    node: FakeNode, open_client: OpenClient
) -> None:
    client = open_client(node)
    node.script["WaitRequest"].append(pb.WaitRequestResponse(revision=3))
    with pytest.raises(InternalError):
        await call(client, "wait_request", "r")
    node.script["CheckRequest"].append(pb.CheckRequestResponse(status=99))  # type: ignore[arg-type]
    with pytest.raises(InternalError):
        await call(client, "check_request", "r")


async def test_every_call_sets_a_deadline(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node, timeout=7.0)
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("register_request", (), {}),
        ("register_branch", ("s",), {}),
        ("register_branches", ([BranchSpec("s")],), {}),
        ("close_branch", ("b", "eu"), {}),
        ("close_branches", ([CloseSpec("b", "eu")],), {}),
        ("wait_request", ("r",), {"timeout": 1}),
        ("check_request", ("r",), {}),
        ("check_request_by_regions", ("r",), {}),
        ("fetch_dependencies", ("r",), {}),
        ("describe_request", ("r",), {}),
        ("list_requests", (), {}),
        ("cluster_status", (), {}),
        ("digest", (), {}),
        ("take_snapshot", (), {}),
        ("transfer_leadership", (), {}),
    ]
    for name, args, kwargs in calls:
        await call(client, name, *args, **kwargs)
    await collect(client, "subscribe", "s", "eu")
    assert len(node.timeouts) == len(calls) + 1
    assert all(left is not None for left in node.timeouts)
    assert all(left < 8.0 for left in node.timeouts[:-1] if left is not None)


async def test_a_read_fails_over_when_the_channel_breaks(
    start_node: StartNode, open_client: OpenClient
) -> None:
    first, second = await start_node(), await start_node()
    client = open_client(first, second)
    await first.stop()
    assert (await call(client, "check_request", "r")).status is Status.CLOSED
    assert (await call(client, "check_request", "r")).status is Status.CLOSED
    assert len(second.received) == 2


async def test_small_reads(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node)
    regions = await call(client, "check_request_by_regions", "r", services=["s"])
    assert regions.statuses == {"eu": Status.OPEN}
    dependencies = await call(client, "fetch_dependencies", "r", service="s", zone="")
    assert (dependencies.direct, dependencies.indirect) == (("a",), ("b",))
    assert node.received[1].HasField("zone")
    status = await call(client, "cluster_status")
    assert status.role is Role.LEADER
    assert status.members[0].connected
    assert status.members[0].standing is Standing.JOINING
    assert (await call(client, "digest", min_revision=3)).digest == "ab"
    assert (await call(client, "take_snapshot")).size_bytes == 9


async def test_lists_go_page_by_page(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node)
    page = await call(client, "list_requests", status=Status.OPEN, page_size=1)
    assert [summary.request_id for summary in page.requests] == ["r"]
    assert page.next_page_token == "2"  # noqa: S105
    everything = await collect(client, "iter_requests", service="s")
    assert [summary.request_id for summary in everything] == ["r", "r2"]
    assert [sent.service for sent in node.received] == ["", "s", "s"]
    with pytest.raises(InvalidArgument):
        await call(client, "list_requests", status=Status.UNKNOWN)


async def test_members_are_added_and_removed(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node)
    spec = MemberSpec("n4", "ap", "h:1", "h:2", "h:3", non_voter=True)
    await call(client, "add_member", spec)
    await call(client, "remove_member", "n4")
    added, removed = node.received
    assert (added.name, added.region, added.non_voter) == ("n4", "ap", True)
    assert (added.raft_address, added.grpc_address, added.http_address) == ("h:1", "h:2", "h:3")
    assert removed.name == "n4"
    node.script["AddMember"].append(ChannelFault(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(Disconnected):
        await call(client, "add_member", spec)


async def test_an_order_is_not_repeated_when_it_may_have_been_done(
    node: FakeNode, open_client: OpenClient
) -> None:
    client = open_client(node)
    node.script["TransferLeadership"].append(ChannelFault(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(Disconnected):
        await call(client, "transfer_leadership", "n2")
    node.script["TransferLeadership"].append(NoLeader("wait"))
    assert await call(client, "transfer_leadership", "n2") == "n2"
    assert len(node.received) == 3


async def test_a_subscription_delivers_typed_events(
    node: FakeNode, open_client: OpenClient
) -> None:
    client = open_client(node, region="eu")
    first = pb.SubscribeResponse(
        kind=pb.SUBSCRIPTION_EVENT_KIND_OPEN, branch_id="b", request_id="r", tag="t", locator=b"k",
        revision=4, **{"global": True},
    )  # fmt: skip
    first.registered_at.FromMilliseconds(1_000)
    node.events = [first, pb.SubscribeResponse(kind=pb.SUBSCRIPTION_EVENT_KIND_SYNCED, revision=5)]
    opened, synced = await collect(
        client, "subscribe", "s", tags=["t"], group="g", resume_revision=3
    )
    assert opened.kind is SubscriptionEventKind.OPEN
    assert opened.is_global
    assert opened.locator == b"k"
    assert opened.registered_at == dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
    assert (synced.kind, synced.revision) == (SubscriptionEventKind.SYNCED, 5)
    assert synced.registered_at is None
    (sent,) = node.received
    assert (sent.service, sent.region, list(sent.tags)) == ("s", "eu", ["t"])
    assert (sent.group, sent.resume_revision) == ("g", 3)


async def test_a_broken_subscription_raises_and_the_next_goes_elsewhere(
    start_node: StartNode, open_client: OpenClient
) -> None:
    first, second = await start_node(), await start_node()
    client = open_client(first, second)
    first.stream_end = ChannelFault(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(Unavailable):
        await collect(client, "subscribe", "s", "eu")
    assert await collect(client, "subscribe", "s", "eu") == []
    assert len(first.received) == len(second.received) == 1


async def test_a_subscription_that_overflowed_leaves_its_endpoint_in_service(
    start_node: StartNode, open_client: OpenClient
) -> None:
    """The subscriber was slow, which says nothing of the node."""
    first, second = await start_node(), await start_node()
    client = open_client(first, second)
    first.stream_end = SubscriptionOverflow("too slow")
    with pytest.raises(SubscriptionOverflow):
        await collect(client, "subscribe", "s", "eu")
    await call(client, "check_request", "r")
    assert len(first.received) == 2
    assert second.received == []


@pytest.mark.parametrize("name", ["subscribe", "watch_request"])
async def test_a_stream_that_lasted_its_time_may_be_followed_by_another(
    start_node: StartNode, open_client: OpenClient, name: str
) -> None:
    first, second = await start_node(), await start_node()
    client = open_client(first, second)
    first.stream_end = ChannelFault(grpc.StatusCode.DEADLINE_EXCEEDED)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded) as caught:
            await collect(client, name, "s")
        assert caught.value.retryable
    assert second.received == []


async def test_a_subscription_tells_what_the_node_said(
    node: FakeNode, open_client: OpenClient
) -> None:
    node.stream_end = PermissionDenied("not yours")
    with pytest.raises(PermissionDenied, match="not yours"):
        await collect(open_client(node), "subscribe", "s", "eu")


def full_description() -> pb.DescribeRequestResponse:
    answer = pb.DescribeRequestResponse(
        request_id="r", status=types.STATUS_OPEN, revision=9, node="n1", node_region="eu",
        branches_total=2, branches_open=1, missing_branches=["m"],
    )  # fmt: skip
    answer.expires_in.FromSeconds(60)
    answer.answered_at.FromMilliseconds(2_000)
    branch = answer.branches.add(
        branch_id="b", service="s", kind=types.BRANCH_KIND_GLOBAL, status=types.STATUS_OPEN,
        verdict=types.VERDICT_OWN_ZONE,
    )  # fmt: skip
    branch.regions.add(status=types.STATUS_OPEN, subscribers=3)
    waiter = answer.waiters.add(
        node="n1", held_by=["b"], held_by_more=True, missing_branches=["m"],
        awaits_registration=True, leased=True,
    )  # fmt: skip
    waiter.blocked_for.FromSeconds(4)
    answer.waiters.add(node="n2", leased=True).lease_ends_in.FromSeconds(5)
    return answer


def check_full(found: RequestDescription) -> None:
    assert (found.node, found.node_region, found.branches_open) == ("n1", "eu", 1)
    assert found.answered_at == dt.datetime(1970, 1, 1, 0, 0, 2, tzinfo=dt.UTC)
    assert (found.expires_in, found.missing_branches) == (60.0, ("m",))
    (branch,) = found.branches
    assert (branch.verdict, branch.regions[0].subscribers) == (Verdict.OWN_ZONE, 3)
    here, far = found.waiters
    assert (here.held_by, here.held_by_more, here.missing_branches) == (("b",), True, ("m",))
    assert (here.awaits_registration, here.leased, here.lease_ends_in) == (True, True, None)
    assert (here.blocked_for, far.blocked_for, far.lease_ends_in) == (4.0, None, 5.0)


async def test_a_description_has_all_that_the_node_tells(
    node: FakeNode, open_client: OpenClient
) -> None:
    # semantics: Q1
    node.script["DescribeRequest"].append(full_description())
    scope = ScopeDescription(("s",), "us", "t", "", "w", True)
    question = {"scope": scope, "required_branches": ["m"], "open_only": True}
    client = open_client(node)
    check_full(await call(client, "describe_request", "r", **question))
    (sent,) = node.received
    assert (list(sent.required_branches), sent.open_only) == (["m"], True)
    assert sent.scope == types.Scope(
        services=["s"], region="us", tag="t", zone="", waiter_service="w", wait_dependencies=True
    )
    await call(client, "describe_request", "r")
    assert not node.received[-1].HasField("scope")


async def test_what_a_newer_node_makes_of_a_branch_is_shown_as_nothing(
    node: FakeNode, open_client: OpenClient
) -> None:
    answer = full_description()
    answer.branches[0].verdict = 99  # type: ignore[assignment]
    node.script["DescribeRequest"].append(answer)
    found = await call(open_client(node), "describe_request", "r")
    assert found.branches[0].verdict is None


async def test_a_watch_gives_descriptions_and_then_how_it_ended(
    node: FakeNode, open_client: OpenClient
) -> None:
    # semantics: Q1
    node.descriptions = [full_description()]
    client = open_client(node)
    (found,) = await collect(
        client, "watch_request", "r", await_registration=2, min_revision=7, open_only=True
    )
    check_full(found)
    (sent,) = node.received
    assert (sent.request_id, sent.min_revision, sent.open_only) == ("r", 7, True)
    assert sent.await_registration.ToSeconds() == 2
    # gRPC rounds long time-outs up to ten seconds.
    assert 3_000 < node.timeouts[-1] <= 3_610
    node.stream_end = RequestExpired("gone")
    with pytest.raises(RequestExpired, match="gone"):
        await collect(client, "watch_request", "r")


async def test_a_broken_watch_raises_and_the_next_goes_elsewhere(
    start_node: StartNode, open_client: OpenClient
) -> None:
    first, second = await start_node(), await start_node()
    client = open_client(first, second)
    first.stream_end = ChannelFault(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(Unavailable):
        await collect(client, "watch_request", "r")
    assert await collect(client, "watch_request", "r") == []
    assert len(first.received) == len(second.received) == 1


async def test_a_watch_needs_a_request(node: FakeNode, open_client: OpenClient) -> None:
    with pytest.raises(InvalidArgument, match="request_id"):
        await collect(open_client(node), "watch_request")
