"""Clients that wait through the use-cases of a node, and what they may be told (semantics R1, R6).

A wait that was told "nothing is open" must be right at the revision that the answer names: nothing
in its scope was open then, but for branches whose close the very node had been sent before. That is
looked up at the end, in a model that shares no code with the state machine.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rendezvous_raft import errors
from rendezvous_raft.core.commands import Close, Scope
from rendezvous_raft.core.results import BranchesClosed
from rendezvous_raft.node.calls import BranchClosing, Freshness, WaitAnswer, WaitQuery
from rendezvous_raft.testing.naive_model import NaiveModel
from rendezvous_raft.testing.simulation.agenda import Agenda
from rendezvous_raft.testing.simulation.host import Host
from rendezvous_raft.testing.simulation.judge import Judge
from rendezvous_raft.testing.simulation.profile import Profile
from rendezvous_raft.testing.simulation.workload import REGIONS, Facts
from rendezvous_raft.types import (
    BranchId,
    Consistency,
    Region,
    RequestId,
    Revision,
    Service,
    WaitOutcome,
)

WAITERS = 3


@dataclass(frozen=True, slots=True)
class _Claim:
    """A wait was told that nothing is open."""

    node: str
    request_id: RequestId
    scope: Scope
    revision: Revision
    closes_sent: int
    """To this node before the answer, as a length of the list of all."""


class Waiters:
    """Clients that only wait, and close through the node that they wait at."""

    def __init__(
        self,
        agenda: Agenda,
        hosts: Sequence[Host],
        profile: Profile,
        judge: Judge,
        facts: Facts,
        rng: random.Random,
    ) -> None:
        self.released = 0
        self.timed_out = 0
        self._agenda = agenda
        self._hosts = hosts
        self._profile = profile
        self._judge = judge
        self._facts = facts
        self._rng = rng
        self._claims: list[_Claim] = []
        self._closes: dict[str, list[tuple[BranchId, Region]]] = {h.name: [] for h in hosts}
        self._ended = False

    def begin(self) -> None:
        """Each begins after a pause of its own."""
        if self._profile.use_cases:
            for number in range(WAITERS):
                self._pause(self._hosts[number % self._profile.nodes])

    def end(self) -> None:
        """No call begins any more."""
        self._ended = True

    def _pause(self, host: Host) -> None:
        pause_s = self._rng.expovariate(1.0 / self._profile.think_s)
        self._agenda.after(pause_s, self._operate, host)

    def _operate(self, host: Host) -> None:
        if self._ended:
            return
        self._pause(host)
        if not host.is_up or not self._facts.requests:
            return
        if self._facts.branches and self._rng.random() < 0.3:
            self._close(host)
        else:
            self._wait(host)

    def _close(self, host: Host) -> None:
        life, judge = host.living, self._judge
        node = life.node
        if node is None:
            return
        branch = self._rng.choice(self._facts.branches[-12:])
        region = self._rng.choice(branch.regions or (Region(""),))
        deadline_s = life.loop.time() + self._profile.deadline_s
        closing = BranchClosing((Close(branch.branch_id, region),))

        async def close() -> None:
            self._closes[host.name].append((branch.branch_id, region))
            try:
                result, revision = await node.close_branches(closing, deadline_s=deadline_s)
            except errors.RendezvousError:
                return
            self._closed(result, revision, judge)

        host.run(close, self._over)

    def _closed(self, result: BranchesClosed, revision: Revision, judge: Judge) -> None:
        _, known = judge.revisions.get(revision, (b"", None))
        judge.check(
            "an acknowledgement tells the truth",
            known is not None and known.result == result,
            f"a close was acknowledged at {revision}: {result}; the log says {known}",
        )
        judge.floor = max(judge.floor, revision)

    def _wait(self, host: Host) -> None:
        life, judge, rng = host.living, self._judge, self._rng
        node = life.node
        if node is None:
            return
        request_id = rng.choice(self._facts.requests[-8:])
        services = rng.choice(((), (Service("post"),)))
        scope = Scope(services=services, region=rng.choice((Region(""), *REGIONS)))
        linearizable = rng.random() < 0.5
        floor = judge.floor
        freshness = Freshness(
            Consistency.LINEARIZABLE if linearizable else Consistency.SESSION, Revision(floor)
        )
        timeout_s = rng.choice((0.0, 0.2, 2.0))
        query = WaitQuery(request_id, scope, timeout_s, freshness=freshness)
        deadline_s = life.loop.time() + timeout_s + self._profile.deadline_s

        async def wait() -> None:
            before = life.engine.state.revision
            try:
                answer = await node.wait(query, deadline_s=deadline_s)
            except errors.RendezvousError:
                return
            judge.read(f"a wait at {host.name}", floor=floor, before=before, found=answer.revision)
            self._answered(host, query, answer)

        host.run(wait, self._over)

    def _answered(self, host: Host, query: WaitQuery, answer: WaitAnswer) -> None:
        if answer.outcome is WaitOutcome.TIMED_OUT:
            self.timed_out += 1
            return
        self.released += 1
        sent = len(self._closes[host.name])
        self._claims.append(_Claim(host.name, query.request_id, query.scope, answer.revision, sent))

    def _over(self, task: asyncio.Task[Any]) -> None:
        if (error := task.exception()) is not None:
            self._judge.broke("errors are named", repr(error))

    def check(self) -> None:
        """Looks every answer up, at its revision."""
        model = NaiveModel()
        claims = sorted(self._claims, key=lambda claim: claim.revision)
        index = 1
        for claim in claims:
            while model.revision < claim.revision and index < self._judge.last_committed:
                index += 1
                for command in self._judge.log[index].commands:
                    # Revisions within an entry: no answer names one, entries are applied whole.
                    model.apply(command)
            self._look_up(claim, model)

    def _look_up(self, claim: _Claim, model: NaiveModel) -> None:
        blocking = model.blocking(claim.request_id, claim.scope)
        sent = self._closes[claim.node][: claim.closes_sent]
        covered = {branch_id for branch_id, region in sent if region == claim.scope.region}
        self._judge.check(
            "a wait that was released was right",
            model.revision == claim.revision and not blocking - covered,
            f"{claim} although {sorted(blocking - covered)} were open",
            meaningful=bool(model.of(claim.request_id)),
        )
