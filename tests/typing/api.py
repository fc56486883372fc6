"""The public API as a type checker sees it. Never run: `tests/test_public_api.py` checks it."""

from __future__ import annotations

import datetime as dt
from typing import assert_type

from rendezvous_raft import (
    AsyncClient,
    BranchNotFound,
    BranchSpec,
    CheckResult,
    Client,
    CloseBranchesResult,
    CloseSpec,
    ClusterDescription,
    Consistency,
    Hooks,
    RegisterBranchesResult,
    RegisterBranchResult,
    RendezvousContext,
    RendezvousError,
    RequestPage,
    RequestSummary,
    RetryPolicy,
    Status,
    SubscriptionEvent,
    SubscriptionEventKind,
    WaitOutcome,
    WaitResult,
    current_context,
    use_context,
)


def write_and_wait(client: Client) -> None:
    with client.request(zone="mail") as request:
        assert_type(request.request_id, str)
        assert_type(request.context, RendezvousContext)
        branch = client.register_branch("posts", regions=["eu", "us"], locator=b"key")
        assert_type(branch, RegisterBranchResult)
        assert_type(branch.branch_id, str)
        batch = client.register_branches([BranchSpec("posts", ("eu",), tag="write")])
        assert_type(batch, RegisterBranchesResult)
        assert_type(batch.branch_ids, tuple[str, ...])
        closed = client.close_branches([CloseSpec(branch.branch_id, "eu")], timeout=1)
        assert_type(closed, CloseBranchesResult)
        assert_type(closed.results[0].failure, RendezvousError | None)
        result = client.wait_request(service="posts", timeout=dt.timedelta(seconds=5))
        assert_type(result, WaitResult)
        assert_type(result.outcome, WaitOutcome)
        assert_type(result.blocked_for, float)
    assert_type(client.cluster_status(), ClusterDescription)
    for summary in client.iter_requests(status=Status.OPEN):
        assert_type(summary, RequestSummary)


async def watch(client: AsyncClient) -> None:
    async with client, client.request("r1"):
        branch = await client.register_branch("posts", regions=("eu",))
        assert_type(branch, RegisterBranchResult)
        await client.close_branch(branch.branch_id, "eu")
        checked = await client.check_request(consistency=Consistency.LOCAL)
        assert_type(checked, CheckResult)
        assert_type(await client.list_requests(), RequestPage)
        async for event in client.subscribe("posts", "eu", group="g"):
            assert_type(event, SubscriptionEvent)
            assert_type(event.kind, SubscriptionEventKind)


def carry(headers: dict[str, str]) -> dict[str, str]:
    received = RendezvousContext.from_headers(headers, on_dropped=Hooks().context_dropped)
    assert_type(received, RendezvousContext | None)
    with use_context(received):
        context = current_context()
        assert_type(context, RendezvousContext | None)
        return {} if context is None else context.to_headers()


def construct() -> None:
    assert_type(Client("a:1,b:1", region="eu", timeout=1, retry=RetryPolicy()), Client)
    assert_type(AsyncClient(["a:1"], hooks=Hooks(), pipeline=False), AsyncClient)
    assert_type(Client.from_env(), Client)
    assert_type(AsyncClient.from_env(), AsyncClient)
    try:
        Client("a:1").close_branch("b", "eu")
    except BranchNotFound as error:
        assert_type(error.definite, bool)
        assert_type(error.details, dict[str, str])
