"""What the claims are told with: clients in regions, datastores that lag, monitors beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

from rendezvous_raft.client import AsyncClient, results
from rendezvous_raft.devcluster.embedded_store import EmbeddedStore
from rendezvous_raft.devcluster.replication_lag import ReplicationLag
from rendezvous_raft.monitor.metadata import SdkMetadata
from rendezvous_raft.monitor.monitor import Monitor
from rendezvous_raft.monitor.ports import PendingBranch, Probe, ProbeResult, Selection
from rendezvous_raft.types import BranchId, Region, Service

T = TypeVar("T")
PATIENCE_S = 30.0
NO_LAG = ReplicationLag(median_ms=1, p99_ms=2)
"""What lags is held and released by the test: who wins a race is no matter of luck."""


@dataclass(frozen=True)
class ClusterNode:
    name: str
    region: str
    grpc: str
    http: str


@asynccontextmanager
async def monitoring(client: AsyncClient, service: str, region: str, probe: Probe) -> AsyncIterator:
    """A monitor beside the datastore of a region, synced."""
    monitor = Monitor(
        selection=Selection(Service(service), Region(region)),
        metadata=SdkMetadata(client),
        probe=probe,
    )
    running = asyncio.create_task(monitor.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await monitor.wait_synced()
        yield monitor
    finally:
        monitor.stop()
        await running


class World:
    """Everything that one test starts; it ends with the test."""

    def __init__(
        self, nodes: Sequence[ClusterNode], directory: Path, stack: AsyncExitStack, *, name: str
    ) -> None:
        self.nodes = {node.region: node for node in nodes}
        self.name = name
        self._directory = directory
        self._stack = stack
        self._clients: dict[str, AsyncClient] = {}

    def service(self, kind: str = "posts") -> str:
        """A service of this test's own: the cluster is shared."""
        return f"{kind}-{self.name}"

    async def client(self, region: str) -> AsyncClient:
        """Of an application in a region; it talks to the region's node and to no other one."""
        if region not in self._clients:
            client = AsyncClient(self.nodes[region].grpc, region=region)
            self._clients[region] = await self._stack.enter_async_context(client)
        return self._clients[region]

    async def store(self) -> EmbeddedStore:
        """A geo-replicated datastore, written in eu, read in eu and us."""
        store = EmbeddedStore(self._directory, regions=("eu", "us"), lag=NO_LAG)
        await store.start()
        self._stack.push_async_callback(store.stop)
        return store

    async def monitor(self, service: str, region: str, probe: Probe) -> Monitor:
        """A monitor, synced, until the end of the test or until it is stopped."""
        # Of its own, as the process that a monitor usually is.
        client = AsyncClient(self.nodes[region].grpc, region=region)
        await self._stack.enter_async_context(client)
        return await self._stack.enter_async_context(monitoring(client, service, region, probe))

    async def prevented(self, region: str) -> float:
        """Prevented inconsistencies that the region's node has counted."""
        url = f"http://{self.nodes[region].http}/metrics"
        text = await asyncio.to_thread(lambda: urlopen(url, timeout=20).read().decode())
        prefix = f'rendezvous_inconsistencies_prevented_total{{region="{region}"}} '
        counts = (line.removeprefix(prefix) for line in text.splitlines())
        return sum(float(count) for count in counts if count.replace(".", "").isdigit())


async def until_described(
    client: AsyncClient, request_id: str, holds: Callable[[results.RequestDescription], bool]
) -> results.RequestDescription:
    """Watches a request at the client's node until something holds of it."""
    watching = client.watch_request(request_id, await_registration=PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S), aclosing(watching) as descriptions:
        async for found in descriptions:
            if holds(found):
                return found
    raise AssertionError(f"the watch of {request_id} ended")


async def blocked(client: AsyncClient, request_id: str, waiting: Awaitable[T]) -> asyncio.Task[T]:
    """Begins a wait, and returns when the node says that it is blocked."""
    before = len((await client.describe_request(request_id)).waiters)
    task = asyncio.ensure_future(waiting)
    await until_described(client, request_id, lambda found: len(found.waiters) > before)
    assert not task.done()
    return task  # type: ignore[return-value]


class LookupProbe:
    """The whole of what a datastore has to offer: whether it holds a marker. `find(m)`."""

    def __init__(self, find: Callable[[str], bool], datastore: str) -> None:
        self._find = find
        self.datastore = datastore
        self.batch_max = 100
        self.endpoints = (datastore,)

    async def check(self) -> tuple[str, ...]:
        return ()

    async def find_many(self, pending: Sequence[PendingBranch]) -> ProbeResult:
        asked = frozenset(branch.branch_id for branch in pending)
        visible = frozenset(branch_id for branch_id in asked if self._find(branch_id))
        return ProbeResult(visible=visible, absent=asked - visible)

    async def close(self) -> None:
        pass


def one_of(found: results.RequestDescription, branch_id: str) -> Any:
    """A branch of a description."""
    (branch,) = [b for b in found.branches if b.branch_id == BranchId(branch_id)]
    return branch
