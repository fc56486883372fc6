"""Start, drain and end of a node in the order that loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from rendezvous_raft.errors import RendezvousError
from rendezvous_raft.types import Role

if TYPE_CHECKING:
    import socket

    import grpc.aio
    from structlog.typing import FilteringBoundLogger

    from rendezvous_raft.node.node import Node
    from rendezvous_raft.server.drain import DrainSignal
    from rendezvous_raft.server.health import HealthChecks
    from rendezvous_raft.server.http import HttpSurface
    from rendezvous_raft.server.watch import NodeWatch

TRANSFER_S_MAX = 2.0
"""Time that a leader takes to hand over before it drains."""
CLOSE_S_MAX = 10.0
"""Time that the engine gets to close; what is acknowledged is on disk long before."""


@dataclass(frozen=True, slots=True)
class ReadyNotice:
    """What others need to know of a node that serves."""

    name: str
    region: str
    grpc_address: str
    http_address: str
    version: str
    durability: str
    pid: int

    def to_line(self) -> str:
        """One line of JSON, for a parent process."""
        return json.dumps({"event": "ready", **asdict(self)})

    def to_banner(self) -> str:
        """For people: every URL, and what to do next."""
        memory = "  (nothing survives this process)" if self.durability == "memory" else ""
        return (
            f"Rendezvous {self.version}   node {self.name}   region {self.region}\n"
            f"  gRPC      {self.grpc_address}\n"
            f"  status    http://{self.http_address}/\n"
            f"  metrics   http://{self.http_address}/metrics\n"
            f"  data      {self.durability}{memory}\n"
            f"next:\n"
            f"  rendezvous cluster status --endpoints {self.grpc_address}\n"
            "  rendezvous branch register --service post-storage --region eu"
            f" --endpoints {self.grpc_address}\n"
            "Ctrl-C ends it in order.\n"
        )


@dataclass(frozen=True, slots=True)
class ServerParts:
    """What a server owns, wired by `build.py`."""

    node: Node
    grpc_servers: tuple[grpc.aio.Server, ...]
    """Of the native API, and those for clients of the originals."""
    http: HttpSurface
    http_listener: socket.socket
    checks: HealthChecks
    watch: NodeWatch
    disk_failed: asyncio.Event
    """Set when the process has to end, for nobody knows what is on its disk."""
    drain: DrainSignal
    logger: FilteringBoundLogger
    grpc_address: str
    http_address: str
    compat_addresses: dict[str, str]
    """By setting; only those that are served."""
    version: str
    drain_timeout_s: float


class Server:
    """A node with its front ends, in this process. Belongs to the loop that it was built on.

    Example:
        server = await build_server(NodeConfig(grpc_address="127.0.0.1:0"))
        notice = await server.start()
        ...
        await server.close()
    """

    def __init__(self, parts: ServerParts) -> None:
        self._parts = parts
        self._closing: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._stack = AsyncExitStack()

    @property
    def node(self) -> Node:
        """The use-cases behind the front ends."""
        return self._parts.node

    @property
    def disk_failed(self) -> asyncio.Event:
        """Set when the process has to end, for nobody knows what is on its disk."""
        return self._parts.disk_failed

    @property
    def grpc_address(self) -> str:
        """Where clients reach it, with the port that it got."""
        return self._parts.grpc_address

    @property
    def http_address(self) -> str:
        """Where its HTTP surface is, with the port that it got."""
        return self._parts.http_address

    @property
    def compat_addresses(self) -> dict[str, str]:
        """Where clients of the originals reach it, by setting, with the ports that they got."""
        return dict(self._parts.compat_addresses)

    async def start(self) -> ReadyNotice:
        """Serves HTTP, opens the engine, then serves clients. Does not wait for a leader.

        Raises:
            Exception: what the engine raises when it refuses its files; everything that was
                begun is ended again.
        """
        parts = self._parts
        try:
            await parts.http.start(parts.http_listener)
            parts.watch.start()
            await parts.node.open()
            for grpc_server in parts.grpc_servers:
                await grpc_server.start()
        except BaseException:
            await self._end()
            raise
        parts.checks.started()
        notice = self.notice()
        parts.logger.info("node_ready", **asdict(notice))
        return notice

    def notice(self) -> ReadyNotice:
        """How to reach this node."""
        parts = self._parts
        status = parts.node.status()
        return ReadyNotice(
            name=status.name,
            region=status.region,
            grpc_address=parts.grpc_address,
            http_address=parts.http_address,
            version=parts.version,
            durability=status.durability,
            pid=os.getpid(),
        )

    async def close(self, *, drain_timeout_s: float | None = None) -> None:
        """Drains and ends the node; whoever calls later waits for the same end.

        Readiness fails first; then leadership is handed over, new calls are refused, and those in
        progress get their time; then the engine closes.

        Args:
            drain_timeout_s: time for calls in progress; that of the configuration by default.
        """
        if self._closing is None:
            grace_s = self._parts.drain_timeout_s if drain_timeout_s is None else drain_timeout_s
            self._closing = asyncio.create_task(self._drain(grace_s))
        await asyncio.shield(self._closing)

    async def hurry(self) -> None:
        """Cuts a drain short: calls in progress are cancelled."""
        await self._stop_serving(None)

    async def wait_closed(self) -> None:
        """Returns when the node has ended."""
        await self._closed.wait()

    async def _drain(self, grace_s: float) -> None:
        parts = self._parts
        parts.logger.info("node_draining", drain_timeout_s=grace_s)
        parts.drain.give()
        try:
            await self._hand_over(min(TRANSFER_S_MAX, grace_s))
            parts.node.begin_drain()
            await self._stop_serving(grace_s)
        finally:
            await self._end()

    async def _hand_over(self, patience_s: float) -> None:
        """A courtesy: the cluster need not wait for an election. Failing is no fault."""
        node, logger = self._parts.node, self._parts.logger
        status = node.status()
        if status.role is not Role.LEADER or len(status.members) < 2 or status.halted:
            return
        try:
            async with asyncio.timeout(patience_s):
                successor = await node.transfer_leadership(
                    None, deadline_s=node.clock.monotonic_s() + patience_s
                )
        except (RendezvousError, TimeoutError) as error:
            logger.warning("leadership_kept", reason=str(error) or "timed out")
        else:
            logger.info("leadership_transferred", successor=successor)

    async def _end(self) -> None:
        """Ends whatever was begun; every step is taken even when another one fails."""
        parts = self._parts
        async with AsyncExitStack() as stack:
            stack.callback(self._closed.set)
            stack.callback(parts.logger.info, "node_stopped")
            stack.callback(parts.http_listener.close)
            stack.push_async_callback(parts.http.close)
            stack.push_async_callback(self._close_node)
            stack.callback(parts.watch.stop)
            stack.push_async_callback(self._stop_serving, None)

    async def _stop_serving(self, grace_s: float | None) -> None:
        """Refuses new calls on every port; calls in progress get the same time on each."""
        servers = self._parts.grpc_servers
        await asyncio.gather(*(grpc_server.stop(grace_s) for grpc_server in servers))

    async def _close_node(self) -> None:
        async with asyncio.timeout(CLOSE_S_MAX):
            await self._parts.node.close()


class StopSignals:
    """SIGTERM and SIGINT, caught while it is entered: what comes during the start is kept."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        """The node shall drain."""
        self.second = asyncio.Event()
        """It shall hurry."""

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._arrived)
        return self

    def __exit__(self, *exception: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    def _arrived(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


async def serve_until_signalled(server: Server, signals: StopSignals) -> bool:
    """Drains at the first signal, hurries at the second; returns when the node has ended.

    Returns:
        Whether that was wanted; False: the disk failed, and only a new process can go on.
    """
    if not await _wanted_to_end(server, signals):
        await server.close(drain_timeout_s=0)
        return False
    closing = asyncio.create_task(server.close())
    hurrying = asyncio.create_task(signals.second.wait())
    try:
        await asyncio.wait({closing, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        if not closing.done():
            await server.hurry()
        await closing
    finally:
        hurrying.cancel()
    return True


async def _wanted_to_end(server: Server, signals: StopSignals) -> bool:
    """Waits for a signal, or for a failure of the disk."""
    waiting = [asyncio.create_task(e.wait()) for e in (signals.first, server.disk_failed)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return signals.first.is_set()
