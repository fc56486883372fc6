"""Three nodes in one process and in virtual time, and the model beside them.

A step of the machine lets something happen and then everything that follows from it without time
passing; `judge.Judge` looks at what is there then.
"""

from __future__ import annotations

import asyncio
import random

from chronicle import Chronicle
from lives import CALL, NODES, PULSE_S, Aborted, Call, Context, Life, begin_life
from operations import Operation, Subscribe, Wait

from rendezvous_raft.testing.agreed_log import AgreedLog
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.host import SeededIds
from rendezvous_raft.testing.simulation.loop import ProcessLoop

ELECTION_S = 1.0
"""After this a leader without a majority falls, and a majority without a leader has one."""


class World(Chronicle):
    """See the module's docstring."""

    def __init__(self) -> None:
        self.agenda = Agenda()
        super().__init__(AgreedLog(list(NODES), lambda call: self.agenda.after(0.0, call)))
        self.calls: list[Call] = []
        self.streams: list[Call] = []
        """Subscriptions that are not judged to their end."""
        self.acknowledged = 0
        """Highest revision that a write was acknowledged with."""
        self.faults: list[str] = []
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
        ids = SeededIds(random.Random(self._rng.getrandbits(64)))
        return begin_life(self.log, name, loop, ids, self.proposed)

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
        token = CALL.set(call)
        call.task = call.life.loop.create_task(self._run(call))
        CALL.reset(token)

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

    def waited_for(self, leader: str) -> list[str]:
        """L2.2, 5.2: whose waiters a leader has to know of."""
        known = []
        for call in self.in_progress(Wait):
            here = call.name == leader
            since_s = max(self.leading_s, call.fresh_s or 0.0, self.confirmable_s[call.name] or 0.0)
            told = self.confirmable_s[call.name] is not None and since_s <= self.now_s - 2 * PULSE_S
            if call.fresh_s is not None and call.life.alive and (here or told):
                known.append(call.operation.request)
        return known
