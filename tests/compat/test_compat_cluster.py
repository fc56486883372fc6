"""`rendezvous dev --compat`: both formats on every node of a real cluster, also after a restart."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from wire_tables import OriginalClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@asynccontextmanager
async def dev(data_dir: Path) -> AsyncIterator[list[dict[str, Any]]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rendezvous_raft", "dev", "--nodes", "3", "--base-port", "0"),
        *("--compat", "--json", "--data-dir", str(data_dir)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())["nodes"]
    finally:
        process.terminate()
        await process.wait()


async def clients_of(
    stack: AsyncExitStack, nodes: list[dict[str, Any]], wire: str
) -> list[OriginalClient]:
    channels = [grpc.aio.insecure_channel(node[f"compat_{wire}"]) for node in nodes]
    return [OriginalClient(wire, await stack.enter_async_context(c)) for c in channels]


async def test_every_node_serves_both_formats_and_no_id_comes_twice(tmp_path: Path) -> None:
    # semantics: 5.4
    rids: list[str] = []
    bids: list[str] = []
    for _ in range(2):
        async with dev(tmp_path / "cluster") as nodes, AsyncExitStack() as stack:
            main = await clients_of(stack, nodes, "main")
            words23 = await clients_of(stack, nodes, "words23")
            for client in (*main, *words23):
                rids.append((await client.call("RegisterRequest")).rid)
            place = {"rid": "r", "service": "post"}
            for client in main:
                bids.append((await client.call("RegisterBranch", regions=["eu"], **place)).bid)
            for client in words23:
                bids.append((await client.call("RegisterBranch", region="eu", **place)).bid)
            wait = asyncio.ensure_future(main[0].call("Wait", rid="r", region="eu", acsl="reader"))
            for closer, bid in zip((*main, *words23), bids[-6:], strict=True):
                assert not wait.done()
                await closer.call("CloseBranch", bid=bid, region="eu")
            assert not (await wait).timed_out
            status = await words23[2].call("CheckRequest", rid="r")
            assert words23[2].status(status.status) == "CLOSED"
    assert rids[:6] == ["rv_n1_0", "rv_n2_0", "rv_n3_0", "n1_0", "n2_0", "n3_0"]
    assert rids[6:] == [f"{rid[:-1]}1" for rid in rids[:6]]
    assert len(set(bids)) == 12
