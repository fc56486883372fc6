"""Real nodes under load, seen through `strace`: no acknowledgement leaves before its fdatasync.

Answers to clients need a majority's fdatasync; what a follower acknowledges to its leader, and the
votes, need that of its own disk. Nothing of the nodes is trusted: the bytes of their log, of their
Raft frames and of their answers are read from their system calls.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from acknowledgements import STRING_BYTES, TRACED, Findings, Ports, judge, read_node

from rendezvous_raft.client import AsyncClient
from rendezvous_raft.devcluster.cluster import ClusterSettings, DevCluster, node_command
from rendezvous_raft.devcluster.layout import NodeLayout

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a matter of Linux's calls"),
]

WRITERS = 12
WRITES_EACH = 20
TRACE_ENDS_S = 20.0

CARELESS_OUTBOX = """
from rendezvous_raft.replication.raft.outbox import Outbox
Outbox.send = lambda self, node, message: self._deliver(node, message)
"""
"""Messages leave at once, whatever the disk has."""
CARELESS_LEADER = """
from rendezvous_raft.replication.raft.journal import DurableJournal
DurableJournal.durable_index = lambda self: self[-1][1]
"""
"""Counts itself for what it has only written."""
RUN = """
from rendezvous_raft.cli.app import main
main()
"""


class TracedCluster:
    """Nodes under `strace`, each with a trace that is whole when it has ended."""

    def __init__(self, strace: str, directory: Path, fault: str) -> None:
        self._strace = strace
        self._directory = directory
        self._fault = fault
        self._traces: dict[str, tuple[Path, threading.Thread]] = {}

    def command(self, node: NodeLayout, config: Path) -> Sequence[str]:
        """How a node is started; the tracer is its grandchild, so that signals reach the node."""
        name = f"{node.name}-{len(self._traces)}"
        pipe, trace = self._directory / f"{name}.pipe", self._directory / f"{name}.trace"
        os.mkfifo(pipe)
        # The pipe ends with the tracer, when all has been written.
        reader = threading.Thread(target=_copy, args=(pipe, trace), daemon=True)
        reader.start()
        self._traces[node.name] = (trace, reader)
        program = list(node_command(node, config))
        if self._fault:
            program = [sys.executable, "-c", self._fault + RUN, *program[3:]]
        options = ["-D", "-f", "--seccomp-bpf", "-ttt", "-yy", "-s", str(STRING_BYTES)]
        return [
            self._strace,
            *options,
            "-e",
            f"trace={','.join(TRACED)}",
            "-o",
            str(pipe),
            *program,
        ]

    def findings(self, nodes: Sequence[NodeLayout]) -> Findings:
        """What the traces show, once all nodes have ended."""
        raft_ports = {_port(node.raft_address): node.name for node in nodes}
        read = []
        for node in nodes:
            trace, reader = self._traces[node.name]
            reader.join(TRACE_ENDS_S)
            assert not reader.is_alive(), "the tracer does not end"
            ports = Ports(grpc=_port(node.grpc_address), raft=_port(node.raft_address))
            peers = {port: name for port, name in raft_ports.items() if name != node.name}
            read.append(read_node(trace, node.name, ports, peers))
        return judge(read, quorum=len(nodes) // 2 + 1)


def _copy(pipe: Path, trace: Path) -> None:
    with pipe.open("rb") as source, trace.open("wb") as target:
        while part := source.read(1 << 16):
            target.write(part)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


async def write(endpoint: str, writer: int) -> None:
    async with AsyncClient(endpoint, timeout=30.0) as client:
        for number in range(WRITES_EACH):
            await client.register_request(f"traced-{writer}-{number}-x")


async def seen(strace: str, directory: Path, nodes: int, fault: str = "") -> Findings:
    """What a cluster does under a load of writes at every node."""
    traced = TracedCluster(strace, directory, fault)
    settings = ClusterSettings(node_count=nodes, regions=("eu", "us", "ap"), data_dir=directory)
    async with DevCluster(settings, report=lambda _: None, command=traced.command) as cluster:
        layout = cluster.nodes
        endpoints = [layout[writer % nodes].grpc_address for writer in range(WRITERS)]
        await asyncio.gather(*(write(endpoint, i) for i, endpoint in enumerate(endpoints)))
    return traced.findings(layout)


@pytest.mark.parametrize("nodes", [1, 3])
async def test_every_acknowledgement_follows_an_fdatasync_that_covers_it(
    nodes: int, strace: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    findings = await seen(strace, tmp_path, nodes)
    record_property("acknowledgements", str(findings))
    assert findings.breaches == []
    assert findings.answers == WRITERS * WRITES_EACH
    assert findings.covering_syncs > WRITES_EACH
    if nodes > 1:
        assert findings.replies > WRITES_EACH
        assert findings.votes >= 2  # the leader's for itself, and one that elected it


@pytest.mark.parametrize(("nodes", "fault"), [(3, CARELESS_OUTBOX), (1, CARELESS_LEADER)])
async def test_a_node_that_does_not_wait_for_its_disk_is_caught(
    nodes: int, fault: str, strace: str, tmp_path: Path
) -> None:
    findings = await seen(strace, tmp_path, nodes, fault)
    assert len(findings.breaches) > WRITES_EACH
