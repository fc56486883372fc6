"""Two monitors of one group at two real nodes: they divide the work, and one alone does all of it.

The nodes are child processes, the monitors are the product's, each with a client of its own; only
the datastore is a fake that remembers who looked for what.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.request import urlopen

import pytest

from rendezvous_raft.client import AsyncClient
from rendezvous_raft.client.arguments import BranchSpec
from rendezvous_raft.devcluster.cluster import ClusterSettings, DevCluster
from rendezvous_raft.devcluster.layout import NodeLayout
from rendezvous_raft.monitor.metadata import SdkMetadata
from rendezvous_raft.monitor.monitor import Monitor
from rendezvous_raft.monitor.ports import PendingBranch, ProbeResult, Selection
from rendezvous_raft.types import BranchId, Region, Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SELECTION = Selection(Service("post-storage"), Region("eu"), group="posts")


class Store:
    """What is visible in eu."""

    def __init__(self) -> None:
        self.visible = False


class RememberingProbe:
    """Implements `monitor.ports.Probe`: all is visible or nothing is."""

    datastore, batch_max, endpoints = "fake", 100, ("fake",)

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: set[BranchId] = set()

    async def check(self) -> tuple[str, ...]:
        return ()

    async def find_many(self, pending: Sequence[PendingBranch]) -> ProbeResult:
        ids = [branch.branch_id for branch in pending]
        self.asked.update(ids)
        if self._store.visible:
            return ProbeResult(visible=frozenset(ids), absent=frozenset())
        return ProbeResult(visible=frozenset(), absent=frozenset(ids))

    async def close(self) -> None:
        """Nothing is held."""


async def until(condition: Callable[[], bool]) -> None:
    """Bounded by the test's own time."""
    while not condition():
        await asyncio.sleep(0.02)


def groups_of(node: NodeLayout) -> list[dict[str, object]]:
    """The groups that a node knows of, as its status page shows them."""
    with urlopen(f"http://{node.http_address}/statusz", timeout=20) as answer:
        groups: list[dict[str, object]] = json.load(answer)["groups"]
    return groups


async def known_everywhere(cluster: DevCluster, members: int) -> None:
    """Blocks until every node knows so many members."""
    wanted = {"service": "post-storage", "region": "eu", "group": "posts", "members": members}
    for node in cluster.nodes:
        while await asyncio.to_thread(groups_of, node) != [wanted]:
            await asyncio.sleep(0.05)


async def register(writer: AsyncClient, count: int) -> set[BranchId]:
    branches = [BranchSpec("post-storage", regions=["eu"]) for _ in range(count)]
    answer = await writer.register_branches(branches, request_id="r")
    return {BranchId(branch_id) for branch_id in answer.branch_ids}


async def test_monitors_at_two_nodes_share_and_take_over(tmp_path: Path) -> None:
    # semantics: U4, U5, U5.1
    settings = ClusterSettings(node_count=3, regions=("eu", "us", "ap"), data_dir=tmp_path)
    store = Store()
    one, other = RememberingProbe(store), RememberingProbe(store)
    async with (
        DevCluster(settings, report=lambda _event: None) as cluster,
        AsyncClient(cluster.nodes[2].grpc_address, timeout=30.0) as writer,
        AsyncClient(cluster.nodes[0].grpc_address, timeout=30.0) as first,
        AsyncClient(cluster.nodes[1].grpc_address, timeout=30.0) as second,
    ):
        monitors = [
            Monitor(selection=SELECTION, metadata=SdkMetadata(client), probe=probe)
            for client, probe in ((first, one), (second, other))
        ]
        running = [asyncio.create_task(monitor.run()) for monitor in monitors]
        for monitor in monitors:
            await monitor.wait_synced()
        await known_everywhere(cluster, 2)
        branches = await register(writer, 40)
        # Streams are in the order of the log: who looks for a later one was told of all before.
        later = await register(writer, 40)
        await until(lambda: one.asked | other.asked >= branches | later)
        assert one.asked & later
        assert other.asked & later
        assert not one.asked & other.asked & branches
        # The second monitor and its node are gone at once, without a word.
        os.kill(cluster.process("n2").pid, signal.SIGKILL)
        running[1].cancel()
        await until(lambda: one.asked >= branches | later)
        store.visible = True
        answer = await writer.wait_request(request_id="r", region="eu", timeout=60.0)
        assert not answer.timed_out
        monitors[0].stop()
        await asyncio.gather(*running, return_exceptions=True)
