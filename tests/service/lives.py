"""The lives of nodes, and the calls that clients make to them.

A life is a loop of its own with the real use-cases behind the real servicers, over a member of a
simulated log; a call goes through the servicer's wrappers, so that it ends with a status and the
details that travel with it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from operations import Operation

from rendezvous_raft.core import commands as c
from rendezvous_raft.core.results import Applied
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.node import Node
from rendezvous_raft.node.observer import SilentObserver
from rendezvous_raft.node.ports import IdSource
from rendezvous_raft.observability.metrics import MetricsRegistry, ServerMetrics
from rendezvous_raft.server.drain import DrainSignal
from rendezvous_raft.server.rpcs import RpcTable
from rendezvous_raft.testing.agreed_log import AgreedLog, LogReplicator
from rendezvous_raft.testing.fake_clock import WALL_BEGIN_MS
from rendezvous_raft.testing.simulation.loop import ProcessLoop
from rendezvous_raft.types import NodeName, Region

NODES = {"n1": "eu", "n2": "us", "n3": "ap"}
LIMITS = NodeLimits(
    call_timeout_ms_max=5_000,
    wait_timeout_ms_max=30_000,
    subscription_queue_len_max=2,
    entries_unpaced_max=64,  # two entries of one instant are two entries, as with time between
    entry_pace_ms_max=0,
    settled_ttl_ms=6_000,
    open_ttl_ms=12_000,
    tombstone_ttl_ms=20_000,
    lease_ttl_ms=20_000,
    pulse_interval_ms=2_000,
    pulse_elapsed_ms_max=5_000,
)
PULSE_S = LIMITS.pulse_interval_ms / 1000
_METRICS = ServerMetrics(MetricsRegistry(), version="0", python="0")
CALL: contextvars.ContextVar[Call | None] = contextvars.ContextVar("call", default=None)
"""The call on whose behalf something runs."""


class Aborted(Exception):
    """How a servicer ends a call with a status."""

    def __init__(self, status: grpc.StatusCode, metadata: Sequence[tuple[str, str]]) -> None:
        super().__init__(status, metadata)
        self.status = status
        self.facts = dict(metadata)


@dataclass(eq=False)
class Call:
    """A call of a client, from its begin to its end."""

    number: int
    operation: Operation
    life: Life
    begun_s: float
    deadline_s: float | None
    begun_turn: int
    floor: int
    """Highest revision that any write had been acknowledged with when it began."""
    begun_revision: int
    status: str = ""
    """Of gRPC; CANCELLED by its client, GONE with its node; empty while in progress."""
    answer: Any = None
    facts: dict[str, str] = field(default_factory=dict)
    ended_s: float = 0.0
    ended_step: int = 0
    task: asyncio.Task[None] | None = None
    on_way: list[c.Command] = field(default_factory=list)
    """Its commands that are proposed and not answered."""
    fresh_index: int | None = None
    """Entries that its node must have applied for it to look."""
    fresh_s: float | None = None
    """When it had certainly looked."""
    events: list[Any] = field(default_factory=list)
    """Of a subscription."""
    gate: asyncio.Future[None] | None = None
    """Of a subscriber who does not read at present."""
    seen: int = 0
    """Events of it that were judged."""
    synced: int | None = None
    """Revision of the mark that ended its list."""
    opened: dict[str, None] = field(default_factory=dict)
    """Branches that it was told are open."""
    due: list[Any] = field(default_factory=list)
    """What it has to be told next."""
    followed: int = 0
    """Revision up to which `due` was worked out."""

    @property
    def in_progress(self) -> bool:
        return not self.status

    @property
    def name(self) -> str:
        return self.life.name

    def __str__(self) -> str:
        return f"call {self.number} ({self.name}: {self.operation})"


class Context:
    """What gRPC gives a method, as far as the servicers use it."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def time_remaining(self) -> float | None:
        return self._call.deadline_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def write(self, message: Any) -> None:
        if self._call.gate is not None:
            await self._call.gate
        self._call.events.append(message)

    async def abort(self, status: grpc.StatusCode, _message: str, metadata: Any) -> None:
        raise Aborted(status, metadata)


class Logger:
    """What a servicer logs is an INTERNAL error, which its caller is told of as well."""

    def error(self, *_facts: object, **_more: object) -> None:
        """Forgets it: what the dead say is void."""


class Clock:
    """Implements `node.ports.Clock` by the loop of a process."""

    def __init__(self, loop: ProcessLoop) -> None:
        self.monotonic_s = loop.time

    def wall_ms(self) -> int:
        return WALL_BEGIN_MS + round(self.monotonic_s() * 1000)


class Member(LogReplicator):
    """Shows the world what is proposed, and by which call."""

    proposed: Callable[[str, c.Command, Call | None], None]
    installed = False
    """Whether it has taken over a snapshot: it may have missed the answers to its proposals."""

    def install(self) -> None:
        self.installed = True
        super().install()

    async def propose(self, command: c.Command, *, deadline_s: float) -> Applied:
        call = CALL.get()
        self.proposed(self.name, command, call)
        if call is None:
            return await super().propose(command, deadline_s=deadline_s)
        call.on_way.append(command)
        try:
            return await super().propose(command, deadline_s=deadline_s)
        finally:
            call.on_way.remove(command)


@dataclass(eq=False)
class Life:
    """One life of a node."""

    name: str
    loop: ProcessLoop
    engine: Member
    node: Node
    methods: dict[str, Any]
    alive: bool = True
    drained: bool = False

    @property
    def revision(self) -> int:
        return self.engine.state.revision


def begin_life(
    log: AgreedLog,
    name: str,
    loop: ProcessLoop,
    ids: IdSource,
    proposed: Callable[[str, c.Command, Call | None], None],
) -> Life:
    """A node starts in a process of its own."""
    clock = Clock(loop)
    engine = Member(log, name, clock=clock, limits=LIMITS, post=loop.post)
    engine.proposed = proposed
    node = Node(
        name=NodeName(name),
        region=Region(NODES[name]),
        replicator=engine,
        clock=clock,
        ids=ids,
        limits=LIMITS,
        observer=SilentObserver(),
    )
    table = RpcTable(node=node, metrics=_METRICS, logger=Logger(), drain=DrainSignal(), version="0")
    methods = {
        method: table.wrap(rpc, service="MetadataService", method=method)
        for method, rpc in table.metadata_rpcs().items()
    }
    loop.post(lambda: loop.create_task(node.open()))
    return Life(name, loop, engine, node, methods)
