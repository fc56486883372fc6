"""A cluster of child processes on this machine: started together, supervised, stopped together.

Between nodes of different regions stand links that delay: each node's configuration names, for
every peer, the near end of *its* link to that peer. The links live in this process's event loop,
so this process must not be blocked while the cluster runs.
"""

from __future__ import annotations

import asyncio
import enum
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Self

from rendezvous_raft.devcluster.certificates import ClusterCertificates, make_certificates
from rendezvous_raft.devcluster.delay_link import DelayLink
from rendezvous_raft.devcluster.latencies import RegionLatencies
from rendezvous_raft.devcluster.layout import NodeLayout, node_toml, plan_nodes
from rendezvous_raft.devcluster.processes import NodeFailed, NodeProcess, describe_exit

READY_TIMEOUT_S = 30.0
"""Time that a whole cluster has to become ready."""
RESTART_PAUSE_S = 1.0
"""Time between the death of a node and its restart."""
RESTARTS_IN_A_ROW_MAX = 10
"""Restarts of a node that does not become ready in between, after which it stays dead."""
PORT_ATTEMPTS_MAX = 3
"""Plans with free ports, when somebody else took one of them before the node bound it."""
PORT_TAKEN = ("cannot listen on", "address already in use")
"""What a node says that finds its port taken."""
STOP_GRACE_S = 10.0
"""Time between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """What cluster to run."""

    node_count: int
    regions: tuple[str, ...]
    data_dir: Path
    """Holds one directory per node, and the cluster's id."""
    base_port: int = 0
    """First port (see layout.py); 0 takes free ones."""
    latencies: RegionLatencies = field(default_factory=RegionLatencies)
    restart: bool = False
    """Whether a node that dies is started again. Otherwise it stays dead."""
    tls: bool = False
    """Whether nodes speak TLS with each other and with clients; certificates are made for it."""
    compat: bool = False
    """Whether nodes serve the formats of the originals, on ports of their own."""
    ready_timeout_s: float = READY_TIMEOUT_S


class NodeChange(enum.Enum):
    """What became of a node after the cluster was ready."""

    DIED = "node_died"
    RESTARTED = "node_restarted"
    GAVE_UP = "node_given_up"


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """A change that somebody should be told of."""

    change: NodeChange
    node: str
    pid: int
    detail: str


def node_command(_node: NodeLayout, config_path: Path) -> Sequence[str]:
    """The command of a real node: this interpreter, this package, dying with this process."""
    return (
        sys.executable,
        "-m",
        "rendezvous_raft",
        "server",
        "run",
        "--config",
        str(config_path),
        "--die-with-parent",
        str(os.getpid()),
    )


class DevCluster:
    """Runs the nodes of `settings` until it is stopped. Belongs to one event loop.

    Example:
        async with DevCluster(settings, report=print) as cluster:
            endpoints = cluster.endpoints
    """

    def __init__(
        self,
        settings: ClusterSettings,
        *,
        report: Callable[[NodeEvent], None],
        command: Callable[[NodeLayout, Path], Sequence[str]] = node_command,
    ) -> None:
        self._settings = settings
        self._report = report
        self._command = command
        self._nodes: tuple[NodeLayout, ...] = ()
        self._certificates: ClusterCertificates | None = None
        self._processes: dict[str, NodeProcess] = {}
        self._links: list[DelayLink] = []
        self._supervisors: list[asyncio.Task[None]] = []

    @property
    def nodes(self) -> tuple[NodeLayout, ...]:
        """Where the nodes are; empty before the start."""
        return self._nodes

    @property
    def endpoints(self) -> str:
        """The gRPC addresses of all nodes, as clients want them: comma-separated."""
        return ",".join(node.grpc_address for node in self._nodes)

    @property
    def certificates(self) -> ClusterCertificates | None:
        """Those that nodes and clients use; None without TLS, and before the start."""
        return self._certificates

    def process(self, name: str) -> NodeProcess:
        """The process of a node, e.g. to kill it."""
        return self._processes[name]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts every node and returns once all of them are ready.

        Raises:
            NodeFailed: One did not become ready; the others have been stopped.
            OSError: A directory, file or process cannot be made.
        """
        for attempt in range(1, PORT_ATTEMPTS_MAX + 1):
            try:
                await self._start_once()
            except NodeFailed as error:
                await self.stop()
                lost_a_port = any(words in error.log_tail for words in PORT_TAKEN)
                if self._settings.base_port or not lost_a_port or attempt == PORT_ATTEMPTS_MAX:
                    raise
            except BaseException:
                await self.stop()
                raise
            else:
                break
        self._supervisors = [
            asyncio.create_task(self._supervise(process), name=f"supervise {name}")
            for name, process in self._processes.items()
        ]

    async def stop(self) -> None:
        """Stops every node and link. Harmless when nothing runs; twice is fine."""
        for supervisor in self._supervisors:
            supervisor.cancel()
        ended = await asyncio.gather(*self._supervisors, return_exceptions=True)
        self._supervisors = []
        stops = [process.stop(grace_s=STOP_GRACE_S) for process in self._processes.values()]
        await asyncio.gather(*stops)
        links, self._links = self._links, []
        for link in links:
            await link.stop()
        for outcome in ended:
            if isinstance(outcome, BaseException) and not isinstance(
                outcome, asyncio.CancelledError
            ):
                raise outcome

    async def _start_once(self) -> None:
        settings = self._settings
        self._nodes = plan_nodes(
            count=settings.node_count,
            regions=settings.regions,
            base_port=settings.base_port,
            compat=settings.compat,
        )
        cluster_id = _cluster_id(settings.data_dir)
        if settings.tls:
            self._certificates = make_certificates(
                settings.data_dir / "certs",
                cluster_id=cluster_id,
                names=[node.name for node in self._nodes],
            )
        self._processes = {}
        for node in self._nodes:
            config_path = await self._write_config(node, cluster_id)
            self._processes[node.name] = NodeProcess(
                name=node.name,
                command=self._command(node, config_path),
                http_address=node.http_address,
                log_path=config_path.with_name("node.log"),
            )
        for process in self._processes.values():
            await process.start()
        await self._wait_until_ready(time.monotonic() + settings.ready_timeout_s)

    async def _wait_until_ready(self, deadline_s: float) -> None:
        try:
            async with asyncio.TaskGroup() as waits:
                for process in self._processes.values():
                    waits.create_task(process.wait_until_ready(deadline_s))
        except ExceptionGroup as failures:
            # One that fails ends the wait for the others; the first tells enough.
            raise failures.exceptions[0] from None

    async def _write_config(self, node: NodeLayout, cluster_id: str) -> Path:
        directory = self._settings.data_dir / node.name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = node_toml(
            node,
            nodes=self._nodes,
            cluster_id=cluster_id,
            data_dir=str(directory / "state"),
            raft_address_by_peer=await self._open_links(node),
            rtt_ms_max=self._settings.latencies.rtt_ms_max,
            reflection=True,
            tls=self._certificates.settings_of(node.name) if self._certificates else None,
        )
        config_path = directory / "node.toml"
        _write_private(config_path, text)
        return config_path

    async def _open_links(self, node: NodeLayout) -> dict[str, str]:
        """Opens the links from `node` to its distant peers: name of the peer to address."""
        addresses: dict[str, str] = {}
        for peer in self._nodes:
            one_way_s = self._settings.latencies.one_way_s(node.region, peer.region)
            if peer.name != node.name and one_way_s > 0:
                host, _, port = peer.raft_address.rpartition(":")
                link = DelayLink(target_host=host, target_port=int(port), one_way_s=one_way_s)
                await link.start()
                self._links.append(link)
                addresses[peer.name] = link.address
        return addresses

    async def _supervise(self, process: NodeProcess) -> None:
        """Tells of the death of a node and, when asked to, starts it again."""
        failures_in_a_row = 0
        while True:
            status = await process.wait_exit()
            self._tell(NodeChange.DIED, process, describe_exit(status))
            if not self._settings.restart:
                return
            if failures_in_a_row == RESTARTS_IN_A_ROW_MAX:
                detail = f"{failures_in_a_row} restarts in a row failed"
                self._tell(NodeChange.GAVE_UP, process, detail)
                return
            await asyncio.sleep(RESTART_PAUSE_S)
            await process.start()
            try:
                await process.wait_until_ready(time.monotonic() + self._settings.ready_timeout_s)
            except NodeFailed:
                # Alive but not ready, e.g. without a majority: that is no reason to kill it.
                failures_in_a_row = 0 if process.running else failures_in_a_row + 1
            else:
                failures_in_a_row = 0
            if process.running:
                self._tell(NodeChange.RESTARTED, process, f"pid {process.pid}")

    def _tell(self, change: NodeChange, process: NodeProcess, detail: str) -> None:
        self._report(NodeEvent(change, process.name, process.pid, detail))


def _cluster_id(data_dir: Path) -> str:
    """The id of the cluster that lives in this directory; made on the first start."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data_dir / "cluster_id"
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    cluster_id = f"dev-{token_hex(8)}"
    _write_private(path, cluster_id + "\n")
    return cluster_id


def _write_private(path: Path, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
