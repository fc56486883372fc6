"""Three real nodes, a load, and SIGKILL: nothing acknowledged is lost, nothing is doubled.

Every acknowledged registration and close is found on every node afterwards, at one digest; every
wait that was answered "nothing open" was right. The nodes are child processes with real files.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rendezvous_raft.client import AsyncClient
from rendezvous_raft.devcluster.cluster import ClusterSettings, DevCluster
from rendezvous_raft.errors import OutcomeUnknown, RendezvousError
from rendezvous_raft.types import Status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WRITERS = 16
REGIONS = ("eu", "us", "ap")


class Ledger:
    """What was acknowledged, and what may have happened."""

    def __init__(self) -> None:
        self.registered: dict[str, str] = {}
        """Branch id to request id."""
        self.closed: dict[str, None] = {}
        """Branches whose close in eu was acknowledged."""
        self.unknown = 0
        self.failed = 0


@asynccontextmanager
async def running_cluster(data_dir: Path) -> AsyncIterator[DevCluster]:
    settings = ClusterSettings(node_count=3, regions=REGIONS, data_dir=data_dir, restart=True)
    async with DevCluster(settings, report=lambda _event: None) as cluster:
        yield cluster


async def write_until(stop: asyncio.Event, client: AsyncClient, ledger: Ledger, name: str) -> None:
    """Registers and closes, one pair after the other."""
    number = 0
    while not stop.is_set():
        number += 1
        branch_id, request_id = f"{name}-{number}", f"request-{name}-{number % 50}"
        try:
            result = await client.register_branch(
                "post-storage", regions=["eu", "us"], branch_id=branch_id, request_id=request_id
            )
            ledger.registered[result.branch_id] = result.request_id
            await client.close_branch(branch_id, "eu")
            ledger.closed[branch_id] = None
        except OutcomeUnknown:
            ledger.unknown += 1
        except RendezvousError:
            ledger.failed += 1


async def leader_of(client: AsyncClient) -> str:
    """Name of the leader, once there is one."""
    while True:
        try:
            status = await client.cluster_status()
            if status.leader:
                return status.leader
        except RendezvousError:
            pass
        await asyncio.sleep(0.05)


async def acknowledged_grows(ledger: Ledger, by: int) -> None:
    """Blocks until the cluster works again."""
    goal = len(ledger.closed) + by
    while len(ledger.closed) < goal:
        await asyncio.sleep(0.02)


async def same_digest_everywhere(endpoints: list[str]) -> str:
    """The digest at one revision on every node."""
    async with AsyncClient(endpoints) as client:
        revision = (await client.register_request("the-last-one")).revision
    while True:
        answers = []
        for endpoint in endpoints:
            async with AsyncClient(endpoint, timeout=30.0) as client:
                answers.append(await client.digest(min_revision=revision))
        if len({answer.revision for answer in answers}) == 1:
            assert len({answer.digest for answer in answers}) == 1
            return answers[0].digest
        revision = max(answer.revision for answer in answers)  # a pulse came in between


async def check_ledger(endpoints: list[str], ledger: Ledger) -> None:
    """Every acknowledged write is on every node, once."""
    for endpoint in endpoints:
        async with AsyncClient(endpoint, timeout=30.0) as client:
            found: dict[str, bool] = {}
            for request_id in dict.fromkeys(ledger.registered.values()):
                description = await client.describe_request(request_id)
                for branch in description.branches:
                    assert branch.branch_id not in found, "a branch is there twice"
                    status = {region.region: region.status for region in branch.regions}
                    found[branch.branch_id] = status["eu"] is Status.CLOSED
            lost = [branch_id for branch_id in ledger.registered if branch_id not in found]
            reopened = [branch_id for branch_id in ledger.closed if not found[branch_id]]
            assert (lost, reopened) == ([], [])


@pytest.mark.parametrize("victim", ["leader", "follower", "all"])
async def test_sigkill_under_load_loses_nothing(victim: str, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with running_cluster(tmp_path) as cluster:
        endpoints = [node.grpc_address for node in cluster.nodes]
        ledger, stop = Ledger(), asyncio.Event()
        async with AsyncClient(endpoints, timeout=20.0) as client:
            writers = [
                asyncio.create_task(write_until(stop, client, ledger, f"w{i}"))
                for i in range(WRITERS)
            ]
            for _ in range(2):
                await acknowledged_grows(ledger, by=200)
                leader = await leader_of(client)
                names = [node.name for node in cluster.nodes]
                if victim != "all":
                    others = [name for name in names if name != leader]
                    names = [leader] if victim == "leader" else [chance.choice(others)]
                pids = [cluster.process(name).pid for name in names]
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                await acknowledged_grows(ledger, by=200)
                while any(cluster.process(name).pid in pids for name in names):
                    await asyncio.sleep(0.05)
            stop.set()
            await asyncio.gather(*writers)
        await same_digest_everywhere(endpoints)
        await check_ledger(endpoints, ledger)
    assert len(ledger.closed) >= 800
