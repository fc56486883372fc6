"""Hooks, closing and the representation of both clients."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from fake_node import ChannelFault, FakeNode, Hang
from twins import OpenClient, Twin, call, close, collect

from rendezvous_raft.client import (
    AttemptEnded,
    AttemptStarted,
    Client,
    Hooks,
)
from rendezvous_raft.client._sync_transport import SyncTransport
from rendezvous_raft.errors import (
    Disconnected,
    NoLeader,
    OutcomeUnknown,
    RendezvousError,
    Unavailable,
)


async def test_hooks_see_every_attempt(node: FakeNode, open_client: OpenClient) -> None:
    class Remembering(Hooks):
        def __init__(self) -> None:
            self.facts: list[AttemptStarted | AttemptEnded] = []

        def attempt_started(self, fact: AttemptStarted) -> None:
            self.facts.append(fact)

        def attempt_ended(self, fact: AttemptEnded) -> None:
            self.facts.append(fact)

    hooks = Remembering()
    client = open_client(node, hooks=hooks)
    node.script["RegisterRequest"].append(OutcomeUnknown("who knows"))
    await call(client, "register_request", "r")
    started, failed, again, done = hooks.facts
    assert started == AttemptStarted("RegisterRequest", node.address, 1)
    assert isinstance(failed, AttemptEnded)
    assert isinstance(failed.error, OutcomeUnknown)
    assert again == AttemptStarted("RegisterRequest", node.address, 2)
    assert isinstance(done, AttemptEnded)
    assert done.error is None
    assert done.seconds >= 0


async def test_a_closed_client_is_of_no_use(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node)
    await call(client, "register_request")
    await close(client)
    await close(client)
    with pytest.raises(RuntimeError, match="closed"):
        await call(client, "register_request")
    with pytest.raises(RuntimeError, match="closed"):
        await collect(client, "subscribe", "s", "eu")
    assert "closed" in repr(client)


@pytest.mark.parametrize(
    ("name", "error"), [("register_request", Disconnected), ("describe_request", Unavailable)]
)
async def test_closing_ends_calls_in_progress(
    node: FakeNode, open_client: OpenClient, name: str, error: type[RendezvousError]
) -> None:
    client = open_client(node)
    node.script["RegisterRequest"].append(Hang)
    node.script["DescribeRequest"].append(Hang)
    pending = asyncio.create_task(call(client, name, "r"))
    await node.call_arrived.wait()
    await close(client)
    with pytest.raises(error):
        await pending


class ClosingHooks(Hooks):
    """Another task or thread closes the client about its second attempt."""

    def __init__(self, *, before: bool) -> None:
        self.client: Twin | None = None
        self._before = before

    def attempt_started(self, fact: AttemptStarted) -> None:
        self._close(fact.number == 2 and self._before)

    def attempt_ended(self, fact: AttemptEnded) -> None:
        self._close(fact.number == 2)

    def _close(self, now: bool) -> None:
        if now and self.client is not None:
            self.client._closed = True


@pytest.mark.parametrize("before", [True, False], ids=["before-attempt", "after-attempt"])
async def test_closing_does_not_make_a_write_definite_that_may_have_been_done(
    node: FakeNode, open_client: OpenClient, before: bool
) -> None:
    """What the second attempt ends with says nothing of the first."""
    # semantics: R1.1
    hooks = ClosingHooks(before=before)
    hooks.client = client = open_client(node, hooks=hooks)
    node.script["RegisterBranch"].extend(
        [ChannelFault(grpc.StatusCode.UNAVAILABLE), NoLeader("none")]
    )
    with client.request("r") as request:
        with pytest.raises(Disconnected) as caught:
            await call(client, "register_branch", "s", branch_id="b")
        assert not caught.value.definite
        assert request.context.unacknowledged == ("b",)
    assert len(node.received) == (1 if before else 2)


async def test_closing_between_attempts_ends_a_call_with_an_error_of_its_own(
    node: FakeNode, open_client: OpenClient
) -> None:
    hooks = ClosingHooks(before=True)
    hooks.client = client = open_client(node, hooks=hooks)
    node.script["RegisterBranch"].append(NoLeader("none"))
    with client.request("r") as request:
        with pytest.raises(Unavailable, match="the client was closed") as caught:
            await call(client, "register_branch", "s", branch_id="b")
        assert caught.value.definite
        assert request.context.unacknowledged == ()


def test_a_client_that_is_closed_while_an_attempt_begins_sends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may close it at any moment; what it then opened would never be closed."""
    client = Client("127.0.0.1:1")
    find = client._transport_here
    opened: list[SyncTransport] = []

    def find_and_close() -> SyncTransport:
        if opened:  # the call has begun
            client.close()
        opened.append(find())
        return opened[-1]

    monkeypatch.setattr(client, "_transport_here", find_and_close)
    with pytest.raises(Unavailable, match="not sent: the client was closed"):
        client.register_request("r")
    assert all(transport.closed.is_set() for transport in opened)
    assert not any(transport._channels for transport in opened)


async def test_the_representation_shows_no_secrets(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node, region="eu", credentials=grpc.ssl_channel_credentials(b"secret"))
    assert node.address in repr(client)
    assert "'eu'" in repr(client)
    assert "secret" not in repr(client)
