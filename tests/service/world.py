"""Three nodes in one process and in virtual time, and the model beside them.

Each life of a node is a loop of its own with the real use-cases behind the real servicers, over a
member of a simulated log. Whatever is committed is told to the model by the *call* that brought it
about. A step of the machine lets something happen and then everything that follows from it without
time passing; `judge.Judge` looks at what is there then.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from model import Lease, Model
from operations import Close, Operation, Register, RegisterRequest, Subscribe, Wait

from rendezvous_raft.core import commands as c
from rendezvous_raft.core import snapshot
from rendezvous_raft.core.results import Applied
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.node import Node
from rendezvous_raft.node.observer import SilentObserver
from rendezvous_raft.observability.metrics import MetricsRegistry, ServerMetrics
from rendezvous_raft.server.drain import DrainSignal
from rendezvous_raft.server.rpcs import RpcTable
from rendezvous_raft.testing.common_log import CommonLog, LogReplicator
from rendezvous_raft.testing.fake_clock import WALL_BEGIN_MS
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.host import SeededIds
from rendezvous_raft.testing.simulation.loop import ProcessLoop
from rendezvous_raft.types import NodeName, Region

NODES = {"n1": "eu", "n2": "us", "n3": "ap"}
LIMITS = NodeLimits(
    call_timeout_ms_max=5_000,
    wait_timeout_ms_max=30_000,
    subscription_queue_len_max=2,
    entries_unpaced_max=64,  # two entries of one instant are two entries, as with time between
    settled_ttl_ms=6_000,
    open_ttl_ms=12_000,
    tombstone_ttl_ms=20_000,
    lease_ttl_ms=20_000,
    pulse_interval_ms=2_000,
    pulse_elapsed_ms_max=5_000,
)
PULSE_S = LIMITS.pulse_interval_ms / 1000
ELECTION_S = 1.0
"""After this a leader without a majority falls, and a majority without a leader has one."""

_METRICS = ServerMetrics(MetricsRegistry(), version="0", python="0")
_CALL: contextvars.ContextVar[Call | None] = contextvars.ContextVar("call", default=None)


class Violation(AssertionError):
    """A property does not hold; each has a class of its own, so that shrinking keeps to it."""


@functools.cache
def _violation_of(prop: str) -> type[Violation]:
    return type(prop, (Violation,), {})


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

    world: World
    installed = False
    """Whether it has taken over a snapshot: it may have missed the answers to its proposals."""

    def install(self) -> None:
        self.installed = True
        super().install()

    async def propose(self, command: c.Command, *, deadline_s: float) -> Applied:
        call = _CALL.get()
        self.world.proposed(self.name, command, call)
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


@dataclass(frozen=True)
class Origin:
    """Where a command comes from."""

    name: str
    call: Call | None
    waited_for: tuple[str, ...]
    """Requests that had waiters, as its node had to know when it proposed."""


@dataclass(frozen=True)
class Effect:
    """What a committed command did, by the model."""

    call: Call | None
    said: Any
    changed: bool


class World:
    """See the module's docstring."""

    def __init__(self) -> None:
        self.agenda = Agenda()
        self.log = CommonLog(list(NODES), lambda callback: self.agenda.after(0.0, callback))
        self.log.committed = self._committed
        self.history = [Model()]
        """The model at each revision."""
        self.effects = [Effect(None, None, False)]
        self.digests = [snapshot.digest(self.log.machine.state)]
        self.origins: dict[bytes, Origin] = {}
        self.first: dict[bytes, Any] = {}
        """What was said to the first copy of a command."""
        self.calls: list[Call] = []
        self.streams: list[Call] = []
        """Subscriptions that are not judged to their end."""
        self.leases: dict[str, Call] = {}
        """The waits behind the leases."""
        self.lease_steps: dict[str, int] = {}
        """The steps in which the leases began."""
        self.fresh: dict[str, list[int]] = {}
        """When each name was registered; more than once if it was forgotten in between."""
        self.acknowledged = 0
        self.step = 0
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.meaningful: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        """How calls ended, and what else came about."""
        self.confirmable_s: dict[str, float | None] = dict.fromkeys(NODES)
        """Since when each node's reads can be confirmed."""
        self.confirmable_turn = dict.fromkeys(NODES, 0)
        """Likewise, by how often everything had settled; for what happens at one time."""
        self.turn = 0
        self.held_s = 0.0
        """When anything was last held up."""
        self.leading_s = 0.0
        """Since when the same leader has led."""
        self._led = ("", 0)
        self._rng = random.Random(1)
        self.lives = {name: self._begin_life(name) for name in NODES}
        self._graves: list[Life] = []
        self.agenda.after(ELECTION_S, self._tend)
        self.settle()

    # Properties

    def check(self, prop: str, holds: bool, what: object = "", *, meaningful: bool = True) -> None:
        """Counts that a property was looked at; raises its `Violation` if it does not hold."""
        self.counts[prop] += 1
        self.meaningful[prop] += meaningful
        if not holds:
            raise _violation_of(prop)(f"{prop}: {what}")

    # Time

    @property
    def now_s(self) -> float:
        return self.agenda.now_s

    def settle(self, seconds: float = 0.0) -> None:
        """Lets time pass, and everything happen that is due."""
        self.turn += 1
        self.agenda.run_until(self.now_s + seconds)
        for name in NODES:
            since = self.confirmable_s[name]
            if since is None:
                self.confirmable_turn[name] = self.turn
            can = self.log.can_confirm(name) and self.lives[name].alive
            self.confirmable_s[name] = (self.now_s if since is None else since) if can else None
        if self.log.holding or any(life.engine.lagging for life in self.lives.values()):
            self.held_s = self.now_s
        led = (self.log.leader or "", self.log.term)
        if led != self._led:
            self._led, self.leading_s = led, self.now_s

    def _tend(self) -> None:
        """Elections, as they come about by time-outs."""
        self.agenda.after(ELECTION_S, self._tend)
        log = self.log
        for name in NODES:
            if name != log.leader and log.believes_to_lead(name):
                log.notice(name)
        if log.has_majority:
            if log.leader is None:
                log.elect(next(name for name in NODES if log.is_connected(name)))
        else:
            log.fall()

    # Lives

    def _begin_life(self, name: str) -> Life:
        # Asyncio's class declares much that no node uses; at run time none of it is abstract.
        loop = ProcessLoop(
            self.agenda,
            None,
            clock_begin_s=1000.0 + 1000.0 * self._rng.randrange(9),
            clock_rate=1.0,
            faults=self.faults.append,
            afterwards=lambda: None,
        )
        clock = Clock(loop)
        engine = Member(self.log, name, clock=clock, limits=LIMITS, post=loop.post)
        engine.world = self
        ids = SeededIds(random.Random(self._rng.getrandbits(64)))
        node = Node(
            name=NodeName(name),
            region=Region(NODES[name]),
            replicator=engine,
            clock=clock,
            ids=ids,
            limits=LIMITS,
            observer=SilentObserver(),
        )
        table = RpcTable(
            node=node,
            metrics=_METRICS,
            logger=Logger(),
            drain=DrainSignal(),
            version="0",
        )
        methods = {
            method: table.wrap(rpc, service="MetadataService", method=method)
            for method, rpc in table.metadata_rpcs().items()
        }
        loop.post(lambda: loop.create_task(node.open()))
        return Life(name, loop, engine, node, methods)

    def crash(self, name: str) -> None:
        """The process ends at once; what its callers waited for is gone."""
        life = self.lives[name]
        life.alive = False
        life.loop.kill()
        self._graves.append(life)
        self.log.crash(name)
        for call in self.calls:
            if call.life is life and call.in_progress:
                self._end(call, "GONE")

    def stop(self, name: str) -> None:
        """The process ends in order: it drains, ends its leases, and is gone."""
        life = self.lives[name]
        life.drained = True
        done: list[object] = []
        close = life.node.close

        def begin() -> None:
            life.loop.create_task(close()).add_done_callback(done.append)

        life.loop.post(begin)
        self.agenda.run_until(self.now_s + 2.0, lambda: bool(done))
        self.check("a node that is told to stop ends", bool(done), name)
        self.settle()
        self.crash(name)

    def restart(self, name: str) -> None:
        """A new process, with what the last one had on disk."""
        self.lives[name] = self._begin_life(name)

    def bury(self) -> None:
        """Frees what the processes held."""
        for call in self.calls:
            self._end(call, "GONE")
        for life in (*self._graves, *self.lives.values()):
            life.loop.bury()

    # Calls

    def call(self, name: str, operation: Operation, deadline_s: float | None = None) -> Call:
        """A client begins a call."""
        life = self.lives[name]
        call = Call(
            len(self.calls) + 1,
            operation,
            life,
            self.now_s,
            deadline_s,
            self.turn,
            self.acknowledged,
            life.revision,
        )
        self.calls.append(call)
        if isinstance(operation, Subscribe):
            self.streams.append(call)
        life.loop.post(self._begin, call)
        return call

    def _begin(self, call: Call) -> None:
        token = _CALL.set(call)
        call.task = call.life.loop.create_task(self._run(call))
        _CALL.reset(token)

    async def _run(self, call: Call) -> None:
        operation = call.operation
        try:
            method = call.life.methods[operation.method]
            call.answer = await method(operation.message(), Context(call))
        except Aborted as ended:
            call.facts = ended.facts
            self._end(call, ended.status.name)
        except asyncio.CancelledError:
            self._end(call, "CANCELLED")
            raise
        else:
            self._end(call, "OK")
            if operation.is_write:
                self.acknowledged = max(self.acknowledged, call.answer.revision)

    def _end(self, call: Call, status: str) -> None:
        if call.status:
            return  # it went with its node, and what its coroutine still says is void
        call.status, call.ended_s, call.ended_step = status, self.now_s, self.step
        self.seen[f"{call.operation.method}: {call.facts.get('rendezvous-code', status)}"] += 1

    def cancel(self, call: Call) -> None:
        """Its client goes away."""
        if call.task is not None:
            call.life.loop.post(call.task.cancel)

    def in_progress(self, kind: type[Operation], life: Life | None = None) -> list[Call]:
        """Calls that have not ended."""
        return [
            call
            for call in self.calls
            if call.in_progress and isinstance(call.operation, kind) and life in (None, call.life)
        ]

    # What becomes of them

    @property
    def model(self) -> Model:
        """As of everything committed."""
        return self.history[-1]

    def proposed(self, name: str, command: c.Command, call: Call | None) -> None:
        """A node proposes a command."""
        waited_for: tuple[str, ...] = ()
        if isinstance(command, c.ExpireRequests):
            waited_for = tuple(self._waited_for(name))
        self.origins[command.command_id] = Origin(name, call, waited_for)

    def _waited_for(self, leader: str) -> list[str]:
        """L2.2, 5.2: whose waiters a leader has to know of."""
        known = []
        for call in self.in_progress(Wait):
            here = call.name == leader
            since_s = max(self.leading_s, call.fresh_s or 0.0, self.confirmable_s[call.name] or 0.0)
            told = self.confirmable_s[call.name] is not None and since_s <= self.now_s - 2 * PULSE_S
            if call.fresh_s is not None and call.life.alive and (here or told):
                known.append(call.operation.request)
        return known

    def _committed(self, batch: Sequence[c.Command], _answers: Sequence[Applied]) -> None:
        for command in batch:
            model = self.model.next()
            origin = self.origins[command.command_id]
            remembered = not isinstance(command, c.BeginWait | c.EndWait | c.ExpireRequests)
            if remembered and command.command_id in self.first:
                self.seen["a command is in the log twice"] += 1
                said = self.first[command.command_id]
            else:
                said = self._tell(model, command, origin)
                self.first[command.command_id] = said
            changed = model.content() != self.model.content()
            for name in model.branches:
                if name not in self.model.branches:
                    self.fresh.setdefault(name, []).append(model.revision)
            self.history.append(model)
            self.effects.append(Effect(origin.call, said, changed))
        # The machine has applied the whole entry: what is within it has no digest of its own.
        self.digests += [""] * (len(batch) - 1)
        self.digests.append(snapshot.digest(self.log.machine.state))

    def _tell(self, model: Model, command: c.Command, origin: Origin) -> Any:
        """What the call that wrote the command means."""
        operation = origin.call.operation if origin.call is not None else None
        match command, operation:
            case c.RegisterRequest(), RegisterRequest():
                return model.register_request(operation.request)
            case c.RegisterBranches(), Register():
                return model.register(operation.request, operation.branches)
            case c.CloseBranches(), Close():
                return self._tell_closes(model, command, operation)
            case c.BeginWait(), Wait():
                ends_ms = model.time_ms + LIMITS.lease_ttl_ms
                self.leases.setdefault(command.lease_id, origin.call)
                self.lease_steps.setdefault(command.lease_id, self.step)
                lease = Lease(operation.request, operation.scope, origin.name, ends_ms)
                return model.begin_wait(command.lease_id, lease)
            case c.EndWait(), _:
                return model.leases.pop(command.lease_id, None)
            case c.Pulse(), None:
                self.check(
                    "a pulse is capped",
                    0 < command.elapsed_ms <= LIMITS.pulse_elapsed_ms_max,
                    command,
                )
                return model.pulse(command.elapsed_ms)
            case c.ExpireRequests(), None:
                return self._tell_expiry(model, command, origin)
        return self.check("a call becomes the command that it says", False, (command, operation))

    def _tell_closes(self, model: Model, command: c.CloseBranches, close: Close) -> Any:
        items = [(one.branch_id, "*" if one.all_regions else one.region) for one in command.closes]
        wanted = [item for item in close.closes if item in items]
        prop = "a call becomes the command that it says"
        self.check(
            prop,
            items == wanted and (bool(close.patience_s) or len(items) == len(close.closes)),
            command,
        )
        said = {}
        for name, region in items:
            said[name, region] = model.close(name, region, everywhere=region == "*")
        return said

    def _tell_expiry(self, model: Model, command: c.ExpireRequests, origin: Origin) -> None:
        before = dict(model.active)
        model.expire(
            LIMITS.settled_ttl_ms, LIMITS.open_ttl_ms, LIMITS.tombstone_ttl_ms, command.keep
        )
        dropped = [request for request in before if request not in model.active]
        self.check(
            "a request with a waiter is not dropped",
            not set(dropped) & set(origin.waited_for),
            (dropped, origin),
            meaningful=bool(origin.waited_for),
        )

    def registered(self, model: Model, name: str) -> int:
        """The revision at which a branch of a model was registered."""
        return max(revision for revision in self.fresh[name] if revision <= model.revision)
