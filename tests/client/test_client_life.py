"""Hooks, closing and the representation of both clients."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from fake_node import FakeNode, Hang
from twins import OpenClient, call, close, collect

from rendezvous_raft.client import (
    AttemptEnded,
    AttemptStarted,
    Hooks,
)
from rendezvous_raft.errors import (
    Disconnected,
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


async def test_the_representation_shows_no_secrets(node: FakeNode, open_client: OpenClient) -> None:
    client = open_client(node, region="eu", credentials=grpc.ssl_channel_credentials(b"secret"))
    assert node.address in repr(client)
    assert "'eu'" in repr(client)
    assert "secret" not in repr(client)
