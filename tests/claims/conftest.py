"""One cluster for all claims: three nodes in three regions, each a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from claims_world import ClusterNode, World


@pytest.fixture(scope="session")
def cluster_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ClusterNode]]:
    """Of `rendezvous dev`, as its users start it. Tests share it: use names of your own."""
    directory = tmp_path_factory.mktemp("claims")
    command = [
        *(sys.executable, "-m", "rendezvous_raft", "dev", "--nodes", "3", "--base-port", "0"),
        *("--regions", "eu,us,ap", "--json", "--data-dir", str(directory)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            started = json.loads(process.stdout.readline())["nodes"]
            yield [ClusterNode(n["name"], n["region"], n["grpc"], n["http"]) for n in started]
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
async def world(
    cluster_nodes: list[ClusterNode], tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """Clients, stores and monitors of one test, gone after it."""
    async with AsyncExitStack() as stack:
        yield World(cluster_nodes, tmp_path, stack, name=request.node.name.partition("[")[0][:60])
