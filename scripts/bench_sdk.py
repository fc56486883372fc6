#!/usr/bin/env python3
"""Measures a running cluster through the SDK: registrations, and waits with nothing open.

    rendezvous dev --nodes 3 --regions eu,us,ap --base-port 7700
    python scripts/bench_sdk.py --endpoints 127.0.0.1:7700,127.0.0.1:7710,127.0.0.1:7720

Closed loop: each caller sends its next call when it has the answer to the last.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from functools import partial

from rendezvous_raft import AsyncClient


async def measure(call: Callable[[], Awaitable[object]], count: int, outstanding: int) -> str:
    """Makes `count` calls, so many at a time; rate and latencies as text."""
    numbers = iter(range(count))
    seconds: list[float] = []

    async def caller() -> None:
        for _ in numbers:
            started = time.perf_counter()
            await call()
            seconds.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(outstanding)))
    rate = count / (time.perf_counter() - started)
    seconds.sort()
    p50_ms, p99_ms = seconds[count // 2] * 1000, seconds[count * 99 // 100] * 1000
    return f"{rate:8.0f} /s   p50 {p50_ms:8.2f} ms   p99 {p99_ms:8.2f} ms"


async def registrations(endpoint: str, label: str, count: int) -> None:
    """Registers branches at one node, with few and with many callers."""
    for outstanding in (1, 64, 1000):
        calls = min(count, 300) if outstanding == 1 else count
        async with AsyncClient(endpoint, region="eu") as client:
            register = partial(client.register_branch, "post", regions=["eu", "us"])
            text = await measure(register, calls, outstanding)
        print(f"register at the {label}, {outstanding:4} outstanding  {text}")


async def waits(endpoint: str, count: int) -> None:
    """Session waits on a follower for a request of which nothing is open there."""
    async with AsyncClient(endpoint, region="us") as client:
        branch = await client.register_branch("post", regions=["eu", "us"])
        closed = await client.close_branch(branch.branch_id, "us")
        text = await measure(
            lambda: client.wait_request(
                branch.request_id, service="post", min_revision=closed.revision
            ),
            count,
            1,
        )
    print(f"wait with nothing open at a follower, 1 outstanding  {text}")


async def run(endpoints: list[str], count: int) -> None:
    """Everything, at the leader and at a follower."""
    async with AsyncClient(endpoints) as client:
        status = await client.cluster_status()
    addresses = {member.name: member.grpc_address for member in status.members}
    leader = addresses[status.leader]
    follower = next(itertools.chain((a for a in endpoints if a != leader), [leader]))
    await registrations(leader, "leader", count)
    await registrations(follower, "follower", count)
    await waits(follower, 1000)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--endpoints", default="127.0.0.1:7600", help="host:port,host:port")
    parser.add_argument("--count", type=int, default=10_000, help="calls per measurement")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.endpoints.split(","), arguments.count))
