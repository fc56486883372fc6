"""Named checks of a node, and `grpc.health.v1` on top of them.

Readiness says whether clients should come here. Liveness says whether the process turns at all: it
never looks at the cluster, or an orchestrator would kill the minority side of a partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2

if TYPE_CHECKING:
    from rendezvous_raft.node.node import Node
    from rendezvous_raft.node.status import ClusterStatus
    from rendezvous_raft.server.drain import DrainSignal
    from rendezvous_raft.server.interceptors import Context

ENGINE_IDLE_S_MAX = 5.0
"""An engine that was not driven for so long is stuck."""
WATCH_INTERVAL_S = 0.5
"""How often a health watch looks."""
HEALTH_SERVICE = "grpc.health.v1.Health"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: `[+]raft ok` or `[-]apply_lag 9312 entries`."""

    name: str
    ok: bool
    detail: str

    def __str__(self) -> str:
        return f"[{'+' if self.ok else '-'}]{self.name} {self.detail}"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The checks that were made; healthy when all of them are."""

    checks: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether every check went well."""
        return all(check.ok for check in self.checks)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.checks), "ok" if self.ok else "failed"])


class HealthChecks:
    """What `/livez`, `/readyz` and the gRPC health service ask."""

    def __init__(
        self,
        *,
        node: Node,
        drain: DrainSignal,
        ready_lag_max: int,
        loop_idle_s: Callable[[], float],
        engine_idle_s: Callable[[], float],
    ) -> None:
        """Keeps what the checks look at.

        Args:
            node: the node.
            drain: fails readiness as soon as it is given.
            ready_lag_max: entries that a ready node may be behind.
            loop_idle_s: seconds since the loop last turned.
            engine_idle_s: seconds since the engine was last driven.
        """
        self._node = node
        self._drain = drain
        self._ready_lag_max = ready_lag_max
        self._loop_idle_s = loop_idle_s
        self._engine_idle_s = engine_idle_s
        self._started = False

    def started(self) -> None:
        """The node has opened; before that it is not ready."""
        self._started = True

    def live(self, *, exclude: Collection[str] = ()) -> HealthReport:
        """Whether the process turns. Never depends on other nodes."""
        # While it opens, the engine reads its files and is not driven.
        engine_idle_s = self._engine_idle_s() if self._started else 0.0
        idle = {"loop": self._loop_idle_s(), "engine": engine_idle_s}
        return HealthReport(
            tuple(
                CheckResult(name, seconds < ENGINE_IDLE_S_MAX, _idle_detail(seconds))
                for name, seconds in idle.items()
                if name not in exclude
            )
        )

    def ready(self, *, exclude: Collection[str] = ()) -> HealthReport:
        """Whether clients should come here."""
        status = self._node.status()
        lag = max(status.commit_index - status.applied_index, 0)
        draining = self._drain.given or self._node.statistics().draining
        checks = (
            CheckResult("started", self._started, "ok" if self._started else "not yet"),
            CheckResult("raft", status.leader is not None, _raft_detail(status)),
            CheckResult("apply_lag", lag <= self._ready_lag_max, f"{lag} entries"),
            CheckResult("halted", status.halted is None, _reason(status.halted)),
            CheckResult("disk", status.read_only is None, _reason(status.read_only)),
            CheckResult("drain", not draining, "shutting down" if draining else "ok"),
        )
        return HealthReport(tuple(check for check in checks if check.name not in exclude))


def _raft_detail(status: ClusterStatus) -> str:
    if status.leader is not None:
        return "ok"
    return "not a member: see `rendezvous cluster add`" if status.not_member else "no leader"


def _idle_detail(seconds: float) -> str:
    return "ok" if seconds < ENGINE_IDLE_S_MAX else f"idle for {seconds:.1f} s"


def _reason(text: str | None) -> str:
    return "ok" if text is None else text


class HealthService:
    """`grpc.health.v1.Health`: asks the checks at each call, so that it is never stale."""

    def __init__(
        self, checks: HealthChecks, *, services: Collection[str], drain: DrainSignal
    ) -> None:
        self._checks = checks
        self._services = frozenset({"", *services})
        self._drain = drain

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to a server."""
        parse = health_pb2.HealthCheckRequest.FromString
        serialize = health_pb2.HealthCheckResponse.SerializeToString
        return grpc.method_handlers_generic_handler(
            HEALTH_SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self.check, parse, serialize),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch, parse, serialize),
            },
        )

    async def check(self, request: Any, context: Context) -> Any:
        """Answers at once; NOT_FOUND for a service that this node does not have."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self._serving_status(request.service))

    async def watch(self, request: Any, context: Context) -> None:
        """Sends the status now and whenever it has changed, until the node drains."""
        drained = asyncio.Event()
        self._drain.add_listener(drained.set)
        last = None
        try:
            while True:
                draining = self._drain.given  # before the write: during it, it may be given
                status = self._serving_status(request.service)
                if status != last:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    last = status
                if draining:
                    return
                await _wait_at_most(drained, WATCH_INTERVAL_S)
        finally:
            self._drain.remove_listener(drained.set)

    def _serving_status(self, service: str) -> int:
        values = health_pb2.HealthCheckResponse
        if service not in self._services:
            return int(values.SERVICE_UNKNOWN)
        return int(values.SERVING if self._checks.ready().ok else values.NOT_SERVING)


async def _wait_at_most(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
