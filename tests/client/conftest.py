from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fake_node import FakeNode
from twins import OpenClient, Twin, close

from rendezvous_raft.client import AsyncClient, Client, RetryPolicy


@pytest.fixture
async def start_node() -> AsyncIterator[Callable[[], Awaitable[FakeNode]]]:
    """Starts fake nodes and stops them in the end."""
    nodes: list[FakeNode] = []

    async def start() -> FakeNode:
        node = await FakeNode().start()
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        await node.stop()


@pytest.fixture
async def node(start_node: Callable[[], Awaitable[FakeNode]]) -> FakeNode:
    return await start_node()


@pytest.fixture
def brisk() -> RetryPolicy:
    """Pauses that a test does not notice."""
    return RetryPolicy(pause_s_base=0.001, pause_s_max=0.002)


@pytest.fixture(params=[AsyncClient, Client], ids=["async", "sync"])
async def open_client(
    request: pytest.FixtureRequest, brisk: RetryPolicy
) -> AsyncIterator[OpenClient]:
    async with AsyncExitStack() as stack:

        def open_one(*nodes: FakeNode, **options: Any) -> Twin:
            options.setdefault("retry", brisk)
            client: Twin = request.param([node.address for node in nodes], **options)
            stack.push_async_callback(close, client)
            return client

        yield open_one
