#!/usr/bin/env python3
"""Fills a running cluster with requests, and tells whether its size ever stopped it.

    rendezvous dev --nodes 3 --regions eu,us,ap --base-port 7700
    python scripts/bench_state.py --endpoints 127.0.0.1:7700,127.0.0.1:7710,127.0.0.1:7720

Registers branches, each in a request of its own, at the first endpoint; then has every node make
the digest of its state, while a write follows the other. The term counts the elections.
"""

from __future__ import annotations

import argparse
import asyncio
import time

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


async def digest_all(client: AsyncClient, endpoints: list[str]) -> None:
    """Has each node make a digest, and tells the slowest write meanwhile."""
    slowest_s = 0.0

    async def write_on() -> None:
        nonlocal slowest_s
        while True:
            began_s = time.perf_counter()
            await client.register_branch("post", regions=["eu", "us"], timeout=TIMEOUT_S)
            slowest_s = max(slowest_s, time.perf_counter() - began_s)

    writing = asyncio.create_task(write_on())
    for endpoint in endpoints:
        began_s = time.perf_counter()
        async with AsyncClient(endpoint) as one:
            digest = await one.digest(timeout=TIMEOUT_S)
        seconds = time.perf_counter() - began_s
        print(f"digest of {endpoint} at revision {digest.revision}: {seconds:.1f} s")
    if writing.done():
        writing.result()  # it never ends but by a fault
    writing.cancel()
    await asyncio.wait([writing])
    print(f"slowest write meanwhile: {slowest_s:.2f} s")


async def run(endpoints: list[str], count: int, outstanding: int) -> None:
    """Both, and the elections that each led to."""
    async with AsyncClient(endpoints[0], region="eu") as client:
        at_first = await term_of(client)
        await fill(client, count, outstanding)
        filled = await term_of(client)
        print(f"elections: {filled - at_first}")
        await digest_all(client, endpoints)
        print(f"elections: {await term_of(client) - filled}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--endpoints", default="127.0.0.1:7600", help="host:port,host:port")
    parser.add_argument("--count", type=int, default=150_000, help="requests to register")
    parser.add_argument("--outstanding", type=int, default=256, help="registrations at a time")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.endpoints.split(","), arguments.count, arguments.outstanding))
