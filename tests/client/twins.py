"""What it takes to tell one story with both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fake_node import FakeNode

from rendezvous_raft.client import AsyncClient, Client

Twin = AsyncClient | Client
OpenClient = Callable[..., Twin]
StartNode = Callable[[], Awaitable[FakeNode]]


async def call(client: Twin, name: str, *args: Any, **kwargs: Any) -> Any:
    """Calls either twin; the synchronous one in a thread, which takes the context along."""
    method = getattr(client, name)
    if isinstance(client, AsyncClient):
        return await method(*args, **kwargs)
    return await asyncio.to_thread(method, *args, **kwargs)


async def collect(client: Twin, name: str, *args: Any, **kwargs: Any) -> list[Any]:
    """Everything that an iterator of either twin gives."""
    iterator = getattr(client, name)(*args, **kwargs)
    if isinstance(client, AsyncClient):
        return [found async for found in iterator]
    return await asyncio.to_thread(list, iterator)


async def close(client: Twin) -> None:
    if isinstance(client, AsyncClient):
        await client.close()
    else:
        await asyncio.to_thread(client.close)
