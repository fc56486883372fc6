"""A simulated world: machines, network, clients and faults, from one seed.

Phases: everything starts; faults and clients for a while (safety); everything is healed, and now
has to work (liveness); the end, where all of it is compared.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rendezvous_raft.core.commands import Barrier
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied
from rendezvous_raft.membership import MemberConfig, Membership
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.electorate import Electorate, NodeRecord
from rendezvous_raft.testing.simulation.faults import Faults
from rendezvous_raft.testing.simulation.host import Around, Host
from rendezvous_raft.testing.simulation.judge import Judge
from rendezvous_raft.testing.simulation.loop import Spinning
from rendezvous_raft.testing.simulation.network import Link, Network
from rendezvous_raft.testing.simulation.profile import Profile, draw_profile
from rendezvous_raft.testing.simulation.stable_log import StableLog
from rendezvous_raft.testing.simulation.trace import Trace
from rendezvous_raft.testing.simulation.verdict import Tally, Violation
from rendezvous_raft.testing.simulation.waits import Waiters
from rendezvous_raft.testing.simulation.watchers import Watchers
from rendezvous_raft.testing.simulation.workload import Clients, Outcomes
from rendezvous_raft.types import CommandId, NodeName, Region

LOOK_S = 0.05
CONVERGE_S = 30.0
"""After healing, until every node must have everything and take writes."""


@dataclass(slots=True)
class Report:
    """What came of a seed."""

    seed: int
    nodes: int
    simulated_s: float
    trace_hash: str
    events: int
    violations: list[Violation]
    tallies: dict[str, Tally]
    outcomes: Outcomes
    faults_begun: dict[str, int]
    faults_bitten: dict[str, int]
    entries: int
    counts: dict[str, int] = field(default_factory=dict)


class World:
    """One simulated cluster. Build it, `run` it once.

    Args:
        seed: of all chance.
        profile: the kind of world; drawn from the seed by default.
        nodes: how many, if the profile is drawn.
        duration_s: simulated seconds, if the profile is drawn.
        keep: events of the trace that are kept for people.
    """

    def __init__(
        self,
        seed: int,
        *,
        profile: Profile | None = None,
        nodes: int = 3,
        duration_s: float = 30.0,
        keep: int = 0,
    ) -> None:
        self.seed = seed
        self.profile = profile or draw_profile(
            self.rng("profile"), nodes=nodes, duration_s=duration_s
        )
        self.agenda = Agenda()
        self.trace = Trace(keep)
        count = self.profile.nodes
        names = [f"n{number}" for number in range(1, count + self.profile.spares + 1)]
        founders = tuple(
            MemberConfig(NodeName(name), Region("eu"), f"{name}:1") for name in names[:count]
        )
        self.judge = Judge(Electorate(Membership(founders)))
        self.network = Network(
            self.agenda,
            self.rng("network"),
            names,
            self._make_link,
            self.profile.grid_s,
            self._arrives,
        )
        around = Around(
            self.agenda, self.network, self.judge, self.trace, self.profile, founders, self.rng
        )
        self.hosts = [Host(around, name) for name in names]
        parts = (self.hosts, self.profile)
        self.clients = Clients(self.agenda, *parts, self.judge, self.rng("clients"), self.trace)
        self.waiters = Waiters(
            self.agenda, *parts, self.judge, self.clients.facts, self.rng("waiters")
        )
        self.watchers = Watchers(
            self.agenda, self.members, self.profile, self.judge, self.rng("watchers")
        )
        self.faults = Faults(
            self.agenda, self.network, *parts, self.judge, self.rng("faults"), self.trace
        )

    def rng(self, purpose: str) -> random.Random:
        """Chance for a purpose; the same for every process that runs this seed."""
        return random.Random(f"{self.seed} {purpose}")  # noqa: S311 (not for secrets)

    def _make_link(self, _sender: str, _receiver: str) -> Link:
        return Link(self.profile.delay_s, self.profile.jitter_s)

    def _arrives(self, sender: str, receiver: str, content: bytes) -> None:
        self.trace.note(self.agenda.now_s, f"{sender}>{receiver}", "arrives", content)

    # Running

    def run(self) -> Report:
        """Lets it all happen; ends early at the first violation."""
        with self.living():
            try:
                self.begin()
                self.clients.begin()
                self.waiters.begin()
                self.watchers.begin()
                self.faults.begin()
                self.advance(self.profile.heal_s)
                self.heal()
                self.settle()
            except Spinning as error:
                self.judge.broke("nothing spins", str(error))
        return self.report()

    @contextmanager
    def living(self) -> Iterator[None]:
        """Around everything that happens in the world; buries it at the end.

        Without garbage collection: that would run the `finally` of the dead among the living.
        """
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            for host in self.hosts:
                host.bury()
            if was_enabled:
                gc.enable()

    def begin(self) -> None:
        """Starts the founders' machines."""
        for host in self.hosts[: self.profile.nodes]:
            host.start()
        self._look()

    def advance(self, seconds: float) -> None:
        """Lets time pass, until the first violation."""
        self.agenda.run_until(self.agenda.now_s + seconds, self._is_broken)

    def _is_broken(self) -> bool:
        self.judge.now_s = self.agenda.now_s
        return bool(self.judge.violations)

    def _look(self) -> None:
        self.faults.look()
        self.agenda.after(LOOK_S, self._look)

    def leader(self) -> Host:
        """Who leads. Raises `LookupError` unless it is one."""
        leaders = [host for host in self.hosts if host.is_leader]
        if len(leaders) != 1:
            raise LookupError(f"{len(leaders)} nodes lead")
        return leaders[0]

    def heal(self) -> None:
        """Makes everything good again."""
        self.faults.heal()

    def settle(self) -> None:
        """The clients end; within a bound every node takes a write and all have everything."""
        judge = self.judge
        if judge.violations:
            return
        self.advance(self.profile.quiet_s * 3 / 4)
        self.clients.end()
        self.waiters.end()
        self.watchers.end()
        end_s = self.agenda.now_s + CONVERGE_S
        taken: dict[str, None] = {}
        while not self._is_settled(taken) and self.agenda.now_s < end_s:
            for number, host in enumerate(self.hosts):
                if host.name not in taken and host.is_up and self._is_member(host):
                    self._write(host, number, taken)
            self.advance(self.profile.quiet_s / 8)
        if judge.violations:
            return
        judge.check(
            "after healing every node takes writes",
            all(host.name in taken for host in self.members()),
            f"only {', '.join(taken) or 'nobody'} did within {CONVERGE_S} s: {self.state_line()}",
        )
        judge.check(
            "after healing every node converges",
            self._has_converged(taken),
            f"not within {CONVERGE_S} s: {self.state_line()}",
        )
        if not judge.violations:
            self._compare()
        self.advance(self.profile.duration_s - self.agenda.now_s)

    def _is_settled(self, taken: dict[str, None]) -> bool:
        return self._has_converged(taken) and (
            bool(self.judge.violations) or self.watchers.are_settled()
        )

    def _has_converged(self, taken: dict[str, None]) -> bool:
        """Whether every member has taken a write, has applied everything, and votes if it shall."""
        return bool(self.judge.violations) or (
            all(host.name in taken and self._is_level(host) for host in self.members())
            and self.judge.electorate.is_settled()
        )

    def _is_level(self, host: Host) -> bool:
        return host.is_up and host.living.raft.last_applied == self.judge.last_committed

    def members(self) -> list[Host]:
        """The machines of the members in force."""
        return [host for host in self.hosts if self._is_member(host)]

    def _is_member(self, host: Host) -> bool:
        return self.judge.electorate.committed.find(host.name) is not None

    def _write(self, host: Host, number: int, taken: dict[str, None]) -> None:
        engine, loop = host.living.engine, host.living.loop
        command = Barrier(CommandId(b"end %d" % number))

        def done(task: asyncio.Task[Applied]) -> None:
            if task.exception() is None:
                taken[host.name] = None

        deadline_s = loop.time() + self.profile.quiet_s / 8
        host.run(lambda: engine.propose(command, deadline_s=deadline_s), done)

    def _compare(self) -> None:
        """Every node has what was acknowledged, in a state that the log alone explains."""
        judge = self.judge
        machine = StateMachine()
        for index in range(2, judge.last_committed + 1):
            for command in judge.log[index].commands:
                machine.apply(command)
        for host in self.members():
            life = host.living
            judge.state(host.record, life.raft.last_applied, life.engine.state)
            self._has_what_was_acknowledged(host)
        judge.state(NodeRecord("the log", StableLog()), judge.last_committed, machine)
        self.waiters.check()
        self.watchers.check()

    def _has_what_was_acknowledged(self, host: Host) -> None:
        state, facts = host.living.engine.state.state, self.clients.facts
        missing = [c.request_id for c in facts.created if c.request_id not in state.requests]
        branches = state.branches
        lost = [
            branch.branch_id
            for command in facts.registered
            for branch in command.branches
            if branch.branch_id not in branches
        ]
        self.judge.check(
            "no acknowledged write is lost",
            not missing and not lost,
            f"{host.name} has not {missing} {lost}",
            meaningful=bool(facts.registered),
        )

    def state_line(self) -> str:
        """Where every node is, for people."""
        return "; ".join(map(_where, self.hosts))

    def report(self) -> Report:
        """What came of it."""
        counts = self.network.counts
        bitten = dict(self.faults.bitten)
        failed = sum(host.disk.failed_calls for host in self.hosts)
        if failed > bitten.get("call_fails", 0):
            bitten["sync_fails"] = failed - bitten.get("call_fails", 0)
        return Report(
            seed=self.seed,
            nodes=self.profile.nodes,
            simulated_s=self.agenda.now_s,
            trace_hash=self.trace.digest(),
            events=self.agenda.performed,
            violations=self.judge.violations,
            tallies=self.judge.tallies,
            outcomes=self.clients.outcomes,
            faults_begun=self.faults.begun,
            faults_bitten=bitten,
            entries=self.judge.last_committed,
            counts={
                "messages": counts.messages,
                "connections": counts.connections,
                "lost": counts.lost,
                "held": counts.held,
                "replayed": counts.replayed,
                "waits released": self.waiters.released,
                "waits timed out": self.waiters.timed_out,
                "group streams": self.watchers.streams,
                "syncs": sum(host.disk.syncs for host in self.hosts),
                "lives": sum(host.lives for host in self.hosts),
                "halts": sum(host.halts for host in self.hosts),
            },
        )


def _where(host: Host) -> str:
    if not host.is_up:
        return f"{host.name} is down"
    raft = host.living.raft
    role = ("follows", "stands", "leads")[raft.role_code]
    return f"{host.name} {role} in {raft.term}, applied {raft.last_applied} of {raft.last_index()}"
