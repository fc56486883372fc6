"""Every test here runs in virtual time, against one node over a scripted replicator."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from group_bench import Cluster
from node_bench import NodeBench

from rendezvous_raft.testing.virtual_time import VirtualLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, type[VirtualLoop]]:
    return {"virtual": VirtualLoop}


@pytest.fixture
async def bench() -> AsyncIterator[NodeBench]:
    bench = NodeBench()
    yield bench
    await bench.close()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = await Cluster(3).open()
    yield cluster
    await cluster.close()
