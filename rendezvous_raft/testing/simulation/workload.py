"""Clients of a simulated cluster, and what they were told.

A client does one operation after the other: it writes with ids of its own, tries again elsewhere
with the same ids when it is not sure, or gives up; and it reads. What it is told goes to the judge.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from rendezvous_raft import errors
from rendezvous_raft.core.commands import (
    Close,
    CloseBranches,
    Command,
    NewBranch,
    RegisterBranches,
    RegisterRequest,
)
from rendezvous_raft.core.results import Applied
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.host import Host
from rendezvous_raft.testing.simulation.judge import Judge
from rendezvous_raft.testing.simulation.profile import Profile
from rendezvous_raft.testing.simulation.trace import Trace
from rendezvous_raft.types import BranchId, BranchKind, CommandId, Region, RequestId, Service

REGIONS = (Region("eu"), Region("us"), Region("ap"))
TRIES_MAX = 4
GRACE_S = 1.0
"""After the deadline of a call, until its client takes it for lost."""


@dataclass(slots=True)
class Tried:
    """A write on its way through its tries."""

    command: Command
    tries: int = 0
    unsure: bool = False
    """Whether a try may have had an effect."""
    acknowledged: bool = False
    over: bool = False


@dataclass(slots=True)
class Outcomes:
    """Operations by how they ended."""

    acknowledged: int = 0
    refused: int = 0
    unsure: int = 0
    reads: int = 0
    reads_failed: int = 0

    @property
    def operations(self) -> int:
        """All of them."""
        return self.acknowledged + self.refused + self.unsure + self.reads + self.reads_failed


@dataclass(slots=True)
class Facts:
    """What the clients share: which requests and branches there are, or may be."""

    requests: list[RequestId] = field(default_factory=list)
    branches: list[NewBranch] = field(default_factory=list)
    registered: list[RegisterBranches] = field(default_factory=list)
    """Acknowledged."""
    closed: list[CloseBranches] = field(default_factory=list)
    """Acknowledged."""
    created: list[RegisterRequest] = field(default_factory=list)
    """Acknowledged."""


class Clients:
    """All clients of a world."""

    def __init__(
        self,
        agenda: Agenda,
        hosts: Sequence[Host],
        profile: Profile,
        judge: Judge,
        rng: random.Random,
        trace: Trace,
    ) -> None:
        self.outcomes = Outcomes()
        self.facts = Facts()
        self._agenda = agenda
        self._hosts = hosts
        self._profile = profile
        self._judge = judge
        self._rng = rng
        self._trace = trace
        self._next_id = 0
        self._ended = False

    def begin(self) -> None:
        """Each client begins after a pause of its own, on a node of its own."""
        for number in range(self._profile.clients):
            home = self._hosts[number % self._profile.nodes]
            self._pause(home)

    def end(self) -> None:
        """No operation begins any more."""
        self._ended = True

    def _pause(self, home: Host) -> None:
        pause_s = self._rng.expovariate(1.0 / self._profile.think_s)
        self._agenda.after(pause_s, self._operate, home)

    def _operate(self, home: Host) -> None:
        if self._ended:
            return
        chosen = self._rng.random()
        host = home if self._rng.random() < 0.8 else self._rng.choice(self._hosts)
        if chosen < 0.6:
            self._try(Tried(self._draw_command()), home, host)
        else:
            self._read(home, host, session=chosen > 0.9)

    def write_once(self, host: Host) -> Tried:
        """One write to a node, tried once; to be looked at later."""
        tried = Tried(self._draw_command(), tries=TRIES_MAX - 1)
        self._try(tried, host, host)
        return tried

    # Writes

    def new_id(self) -> int:
        """A number that no other id has."""
        self._next_id += 1
        return self._next_id

    def _draw_command(self) -> Command:
        facts, rng = self.facts, self._rng
        number = self.new_id()
        command_id = CommandId(b"c%06d" % number)
        chosen = rng.random()
        if not facts.requests or chosen < 0.1:
            request_id = RequestId(f"r{number}")
            facts.requests.append(request_id)
            return RegisterRequest(command_id, request_id, at_ms=number)
        if not facts.branches or chosen < 0.6:
            request_id = rng.choice(facts.requests[-8:])
            branches = tuple(self._draw_branch(number, i) for i in range(rng.choice((1, 1, 3))))
            facts.branches.extend(branches)
            return RegisterBranches(command_id, request_id, branches, at_ms=number)
        branch = rng.choice(facts.branches[-12:])
        region = rng.choice(branch.regions or (Region(""),))
        return CloseBranches(command_id, (Close(branch.branch_id, region),), at_ms=number)

    def _draw_branch(self, number: int, position: int) -> NewBranch:
        regions = self._rng.sample(REGIONS, self._rng.randint(0, 3))
        return NewBranch(
            BranchId(f"b{number}.{position}"),
            Service(self._rng.choice(("post", "media"))),
            kind=BranchKind.REGIONAL if regions else BranchKind.GLOBAL,
            regions=tuple(sorted(regions)),
        )

    def _try(self, tried: Tried, home: Host, host: Host) -> None:
        life = host.life
        tried.tries += 1
        if life is None or not life.is_open:
            self._failed(tried, home, host, unsure=False)
            return
        engine, loop = life.engine, life.loop
        patience_s = self._profile.deadline_s * (0.5 + self._rng.random())

        async def propose() -> Applied:
            deadline_s = loop.time() + patience_s
            return await engine.propose(tried.command, deadline_s=deadline_s)

        self._call(host, propose, patience_s, lambda task: self._written(tried, home, host, task))

    def _call(
        self,
        host: Host,
        call: Callable[[], Coroutine[Any, Any, Any]],
        patience_s: float,
        ended: Callable[[asyncio.Task[Any] | None], None],
    ) -> None:
        """Calls a node; `ended` is told once, with None when the client has given up waiting."""
        life = host.living
        stops = -1 if life.loop.stopped else life.loop.stops
        over: list[bool] = []

        def end(task: asyncio.Task[Any] | None) -> None:
            if not over:
                over.append(True)
                # A process that was stopped, or is dead, answers late or not at all.
                answers = life is host.life and stops == life.loop.stops
                self._judge.check(
                    "every call ends by its deadline",
                    task is not None or not answers,
                    f"{host.name} has not answered a call of {patience_s:.1f} s",
                    meaningful=answers,
                )
                ended(task)
            elif task is not None and not task.cancelled():
                task.exception()  # the client has gone; nobody is interested

        host.run(call, end)
        self._agenda.after(patience_s + GRACE_S, end, None)

    def _written(
        self, tried: Tried, home: Host, host: Host, task: asyncio.Task[Applied] | None
    ) -> None:
        error = None if task is None else task.exception()
        if task is None:
            self._failed(tried, home, host, unsure=True)
        elif error is None:
            self._acknowledged(tried, task.result())
            self._pause(home)
        elif isinstance(error, errors.RendezvousError):
            self._failed(tried, home, host, unsure=not error.definite)
        else:
            self._judge.broke("errors are named", f"{host.name} answers {error!r}")

    def _acknowledged(self, tried: Tried, applied: Applied) -> None:
        command = tried.command
        self._trace.note(self._agenda.now_s, "client", "told", repr(applied.result).encode())
        tried.acknowledged = tried.over = True
        self._judge.acknowledged(command.command_id, applied)
        self.outcomes.acknowledged += 1
        if isinstance(command, RegisterBranches):
            self.facts.registered.append(command)
        elif isinstance(command, CloseBranches):
            self.facts.closed.append(command)
        elif isinstance(command, RegisterRequest):
            self.facts.created.append(command)

    def _failed(self, tried: Tried, home: Host, host: Host, *, unsure: bool) -> None:
        tried.unsure |= unsure
        if tried.tries < TRIES_MAX and self._rng.random() < 0.7 and not self._ended:
            other = self._rng.choice(self._hosts)
            pause_s = self._rng.random() * self._profile.deadline_s
            self._agenda.after(pause_s, self._try, tried, home, other)
            return
        tried.over = True
        if tried.unsure:
            self.outcomes.unsure += 1
        else:
            self.outcomes.refused += 1
            self._judge.refuse(tried.command)
        self._pause(home)

    # Reads

    def _read(self, home: Host, host: Host, *, session: bool) -> None:
        life = host.life
        if life is None or not life.is_open:
            self._pause(home)
            return
        engine, loop = life.engine, life.loop
        judge = self._judge
        patience_s = self._profile.deadline_s * (0.5 + self._rng.random())
        floor = judge.floor

        async def read() -> None:
            before = engine.state.revision
            deadline_s = loop.time() + patience_s
            if session:
                await engine.wait_applied(floor, deadline_s=deadline_s)  # type: ignore[arg-type]
            else:
                await engine.read_barrier(deadline_s=deadline_s)
            judge.read(host.name, floor=floor, before=before, found=engine.state.revision)

        self._call(host, read, patience_s, lambda task: self._was_read(home, host, task))

    def _was_read(self, home: Host, host: Host, task: asyncio.Task[None] | None) -> None:
        error = None if task is None else task.exception()
        if task is None or isinstance(error, errors.RendezvousError):
            self.outcomes.reads_failed += 1
        elif error is None:
            self.outcomes.reads += 1
        else:
            self._judge.broke("errors are named", f"{host.name} answers {error!r}")
        self._pause(home)
