#!/usr/bin/env python3
"""Fills a running cluster with requests, and tells whether its size ever stopped it.

    rendezvous dev --nodes 3 --regions eu,us,ap --base-port 7700
    python scripts/bench_state.py --endpoints 127.0.0.1:7700,127.0.0.1:7710,127.0.0.1:7720

Registers branches, each in a request of its own, at the first endpoint; then has every node make
the digest of its state, and then a snapshot, while a write follows the other. The term counts the
elections.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable

from rendezvous_raft import AsyncClient

TIMEOUT_S = 60.0


async def term_of(client: AsyncClient) -> int:
    """The term of the cluster, which each election raises."""
    return (await client.cluster_status()).term


async def fill(client: AsyncClient, count: int, outstanding: int) -> None:
    """Registers so many branches and tells the longest times without any answer."""
    numbers = iter(range(count))
    pauses_s: list[float] = []
    began_s = last_s = time.perf_counter()

    async def caller() -> None:
        nonlocal last_s
        for _ in numbers:
            await client.register_branch("post", regions=["eu", "us"], timeout=TIMEOUT_S)
            now_s = time.perf_counter()
            pauses_s.append(now_s - last_s)
            last_s = now_s

    await asyncio.gather(*(caller() for _ in range(outstanding)))
    rate = count / (time.perf_counter() - began_s)
    longest = ", ".join(f"{pause_s:.2f}" for pause_s in sorted(pauses_s)[-3:])
    print(f"{count} registered at {rate:.0f} /s; longest without an answer: {longest} s")


async def digest_of(node: AsyncClient) -> int:
    """Has a node make the digest of its state; returns the revision."""
    return (await node.digest(timeout=TIMEOUT_S)).revision


async def snapshot_of(node: AsyncClient) -> int:
    """Has a node take a snapshot; returns the revision."""
    return (await node.take_snapshot(timeout=TIMEOUT_S)).revision


async def ask_each(
    client: AsyncClient, endpoints: list[str], ask: Callable[[AsyncClient], Awaitable[int]]
) -> None:
    """Asks each node for something large, and tells the slowest write meanwhile."""
    slowest_s = 0.0

    async def write_on() -> None:
        nonlocal slowest_s
        while True:
            began_s = time.perf_counter()
            await client.register_branch("post", regions=["eu", "us"], timeout=TIMEOUT_S)
            slowest_s = max(slowest_s, time.perf_counter() - began_s)

    before = await term_of(client)
    writing = asyncio.create_task(write_on())
    for endpoint in endpoints:
        slowest_s, began_s = 0.0, time.perf_counter()
        async with AsyncClient(endpoint) as node:
            revision = await ask(node)
        seconds = time.perf_counter() - began_s
        print(
            f"{ask.__name__} {endpoint} at revision {revision}: {seconds:.1f} s; "
            f"slowest write meanwhile: {slowest_s:.2f} s"
        )
    if writing.done():
        writing.result()  # it never ends but by a fault
    writing.cancel()
    await asyncio.wait([writing])
    print(f"elections: {await term_of(client) - before}")


async def run(endpoints: list[str], count: int, outstanding: int) -> None:
    """All of it, and the elections that each part led to."""
    async with AsyncClient(endpoints[0], region="eu") as client:
        at_first = await term_of(client)
        await fill(client, count, outstanding)
        print(f"elections: {await term_of(client) - at_first}")
        await ask_each(client, endpoints, digest_of)
        await ask_each(client, endpoints, snapshot_of)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--endpoints", default="127.0.0.1:7600", help="host:port,host:port")
    parser.add_argument("--count", type=int, default=150_000, help="requests to register")
    parser.add_argument("--outstanding", type=int, default=256, help="registrations at a time")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.endpoints.split(","), arguments.count, arguments.outstanding))
