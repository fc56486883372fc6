"""The demonstration: one workload, first without Rendezvous, then with it, and what came of it.

Three nodes are processes of their own, with emulated distance between them. The writer is in the
first region, the reader in the second; the third has a node that votes. Monitors for both regions,
the writer and the reader run in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rendezvous_raft.client import AsyncClient
from rendezvous_raft.devcluster.cluster import ClusterSettings, DevCluster, NodeEvent
from rendezvous_raft.devcluster.embedded_store import EmbeddedStore
from rendezvous_raft.devcluster.geo_store import GeoStore
from rendezvous_raft.devcluster.guards import SERVICE, Guard, NoGuard, RendezvousGuard
from rendezvous_raft.devcluster.latencies import RegionLatencies
from rendezvous_raft.devcluster.leadership import lead_from
from rendezvous_raft.devcluster.post_notification import (
    PostNotification,
    RunTraces,
    WorkloadSettings,
)
from rendezvous_raft.devcluster.post_traces import RunSummary, find_problems, summarize
from rendezvous_raft.devcluster.redis_pair import RedisPair
from rendezvous_raft.devcluster.replication_lag import ReplicationLag, ReplicationOrder
from rendezvous_raft.errors import NotReady
from rendezvous_raft.monitor.metadata import SdkMetadata
from rendezvous_raft.monitor.monitor import Monitor
from rendezvous_raft.monitor.ports import Selection
from rendezvous_raft.types import Region, Service

MONITOR_SYNC_TIMEOUT_S = 20.0
WARM_UP_TIMEOUT_S = 300.0
"""More than any lag that can be asked for."""
DATASTORES = ("embedded", "redis")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What to demonstrate. The lag of the datastore is an input, not a finding."""

    regions: tuple[str, ...]
    """The writer's, the reader's, and those of further nodes."""
    latencies: RegionLatencies
    posts: int
    rate_per_s: float
    datastore: str
    """One of `DATASTORES`."""
    lag_median_ms: float
    lag_p99_ms: float
    seed: int
    with_rendezvous: bool = True
    wait_timeout_s: float = 30.0

    @property
    def writer_region(self) -> str:
        """Where posts are written."""
        return self.regions[0]

    @property
    def reader_region(self) -> str:
        """Where they are read."""
        return self.regions[1]


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run: its numbers and everything they were made from."""

    summary: RunSummary
    raw: RunTraces


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Both runs, and what went wrong."""

    settings: DemoSettings
    without: RunReport
    guarded: RunReport | None
    """None when only the run without Rendezvous was asked for."""
    leader_region: str
    """Where the cluster's leader was when the second run began; empty without one."""
    events: tuple[NodeEvent, ...]
    """Nodes that died on the way."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the demonstration failed; empty when it showed what it promises."""
        guarded = self.guarded.summary if self.guarded else None
        return find_problems(self.without.summary, guarded)


class DemoProgress(Protocol):
    """Is told how far the demonstration is. Must be quick."""

    def phase(self, title: str, steps: int) -> None:
        """A new phase begins; 0 steps: it is not known how long it takes."""
        ...

    def step(self) -> None:
        """One step of the phase is done."""
        ...


async def run_demo(
    settings: DemoSettings, *, directory: Path, progress: DemoProgress
) -> DemoReport:
    """Starts everything, makes both runs, stops everything.

    Args:
        settings: What to do.
        directory: An empty directory for the files of store and cluster; the caller removes it.
        progress: Who is told.

    Raises:
        GeoStoreError: The datastore could not be started.
        NodeFailed: A node could not be started.
        RendezvousError: The cluster did not become usable.
    """
    events: list[NodeEvent] = []
    async with AsyncExitStack() as stack:
        progress.phase("starting", 0)
        store = _make_store(settings, directory)
        stack.push_async_callback(store.stop)
        await store.start()
        await _warm_up(store, settings.reader_region)
        cluster = None
        if settings.with_rendezvous:
            # All child processes are started before the first gRPC channel is opened.
            cluster = await stack.enter_async_context(_cluster(settings, directory, events))
        without = await _run(settings, "without", store, NoGuard(), progress)
        guarded, leader_region = None, ""
        if cluster is not None:
            progress.phase("joining", 0)
            joined = _joined(settings, cluster, store)
            guard, leader_region = await stack.enter_async_context(joined)
            guarded = await _run(settings, "with", store, guard, progress)
        progress.phase("stopping", 0)
    return DemoReport(settings, without, guarded, leader_region, tuple(events))


async def _warm_up(store: GeoStore, region: str) -> None:
    """One post that is not counted: a replica that has just joined may get its first one late."""
    await store.write("warm-up", b"", None)
    async with asyncio.timeout(WARM_UP_TIMEOUT_S):
        await store.wait_visible(region, "warm-up")


def _make_store(settings: DemoSettings, directory: Path) -> GeoStore:
    regions = (settings.writer_region, settings.reader_region)
    store_directory = directory / "store"
    store_directory.mkdir(mode=0o700)
    if settings.datastore == "redis":
        # Chunks keep their order on the link, so a slow one holds up those behind it.
        return RedisPair(
            store_directory,
            one_way_s=settings.lag_median_ms / 1_000,
            jitter_s=(settings.lag_p99_ms - settings.lag_median_ms) / 1_000,
            writer_region=regions[0],
            replica_region=regions[1],
        )
    lag = ReplicationLag(
        median_ms=settings.lag_median_ms,
        p99_ms=settings.lag_p99_ms,
        one_way_ms=settings.latencies.one_way_s(*regions) * 1_000,
    )
    return EmbeddedStore(
        store_directory,
        regions=regions,
        lag=lag,
        order=ReplicationOrder.ANY,
        seed=settings.seed,
    )


def _cluster(settings: DemoSettings, directory: Path, events: list[NodeEvent]) -> DevCluster:
    return DevCluster(
        ClusterSettings(
            node_count=len(settings.regions),
            regions=settings.regions,
            data_dir=directory / "cluster",
            latencies=settings.latencies,
        ),
        report=events.append,
    )


@asynccontextmanager
async def _joined(
    settings: DemoSettings, cluster: DevCluster, store: GeoStore
) -> AsyncIterator[tuple[Guard, str]]:
    """Clients for writer and reader, the leader in the writer's region, monitors that are synced.

    The first registration of the run then costs what every other one costs.
    """
    async with AsyncExitStack() as stack:
        clients: dict[str, AsyncClient] = {}
        leader_region = await lead_from(cluster.nodes, settings.writer_region)
        for region in (settings.writer_region, settings.reader_region):
            clients[region] = await stack.enter_async_context(_client_in(region, cluster))
            # A monitor has connections of its own, as the process that it usually is.
            of_monitor = await stack.enter_async_context(_client_in(region, cluster))
            await stack.enter_async_context(_monitoring(region, of_monitor, store))
        yield (
            RendezvousGuard(
                writer=clients[settings.writer_region],
                reader=clients[settings.reader_region],
                writer_region=settings.writer_region,
                reader_region=settings.reader_region,
                wait_timeout_s=settings.wait_timeout_s,
            ),
            leader_region,
        )


def _client_in(region: str, cluster: DevCluster) -> AsyncClient:
    """A client that asks the region's own node, and the others when that is down."""
    nodes = sorted(cluster.nodes, key=lambda node: node.region != region)
    return AsyncClient([node.grpc_address for node in nodes], region=region)


@asynccontextmanager
async def _monitoring(region: str, client: AsyncClient, store: GeoStore) -> AsyncIterator[None]:
    """A monitor of the region runs during the block; its failure is raised at the end.

    Until then it shows: nothing of the region is closed any more, so waits run out of time.
    """
    monitor = Monitor(
        selection=Selection(Service(SERVICE), Region(region)),
        metadata=SdkMetadata(client),
        probe=store.make_probe(region),
    )
    running = asyncio.create_task(monitor.run(), name=f"monitor of {region}")
    synced = asyncio.create_task(monitor.wait_synced())
    try:
        tasks = (running, synced)
        timeout_s = MONITOR_SYNC_TIMEOUT_S
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not running.done() and not synced.done():
            raise NotReady(f"the monitor of {region} was not synced within {timeout_s:g} s")
        yield
    finally:
        synced.cancel()
        monitor.stop()
        await running


async def _run(
    settings: DemoSettings,
    name: str,
    store: GeoStore,
    guard: Guard,
    progress: DemoProgress,
) -> RunReport:
    progress.phase(f"{name} Rendezvous", settings.posts)
    region = settings.reader_region
    workload = PostNotification(
        run_name=name,
        store=store,
        guard=guard,
        settings=WorkloadSettings(
            posts=settings.posts,
            rate_per_s=settings.rate_per_s,
            seed=settings.seed,
            reader_region=region,
            notification_delay_s=settings.latencies.one_way_s(settings.writer_region, region),
        ),
        progress=progress.step,
    )
    raw = await workload.run()
    return RunReport(summarize(raw.traces, errors=raw.errors, guarded=guard.waits), raw)
