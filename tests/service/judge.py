"""What must hold whenever nothing is left to be done without time passing."""

from __future__ import annotations

import answers
import streams
from lives import LIMITS, PULSE_S, Call, Life
from model import Model
from operations import Close, Register, RegisterRequest, Subscribe, Wait
from world import World

from rendezvous_raft.core import commands as c
from rendezvous_raft.core import snapshot
from rendezvous_raft.core.model import State
from rendezvous_raft.types import Region

GRACE_S = 0.2
"""Deadlines of proposals are looked at ten times a second."""
READ_RETRY_S = 0.6
"""A read that nobody confirmed is asked again twice a second."""
WRITES = (RegisterRequest, Register, Close)


class Judge:
    """Looks at a world after each step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._judged = 0
        self._unended: list[Call] = []
        self._revisions: dict[Life, int] = {}
        self._compared = 0
        self._stray_s: dict[str, float] = {}
        """Since when a lease has been one that its node could end."""

    def look(self) -> None:
        """Judges everything."""
        world = self._world
        world.check("nothing is raised that nobody catches", not world.faults, world.faults)
        self._judge_calls()
        self._check_log()
        for life in world.lives.values():
            if life.alive:
                self._check_replica(life)
                self._check_waits(life)
                self._check_writes(life)
                self._check_leftovers(life)
        self._check_deadlines()
        self._check_leases()
        self._check_expiry()
        streams.check(world)

    def look_at_the_end(self) -> None:
        """After all faults are over and all callers gone: nodes agree, and nothing is held."""
        world = self._world
        revisions = {life.revision for life in world.lives.values()}
        world.check("all nodes come to the same", revisions == {world.model.revision}, revisions)
        left = [str(call) for call in world.calls if call.in_progress]
        world.check("what has ended leaves nothing behind", not left, left)
        world.check("a lease ends with its wait", not world.model.leases, world.model.leases)
        members = world.model.members
        world.check("a member leaves with its subscription", not members, members)

    def _judge_calls(self) -> None:
        world = self._world
        pending = [*self._unended, *world.calls[self._judged :]]
        self._judged = len(world.calls)
        self._unended = [call for call in pending if call.in_progress]
        for call in pending:
            if not call.in_progress and not isinstance(call.operation, Subscribe):
                answers.judge(world, call)

    # The log and the replicas

    def _check_log(self) -> None:
        """What was committed since the last step did what the model says, and nothing else."""
        world = self._world
        for revision in range(self._compared + 1, len(world.history)):
            effect, digest = world.effects[revision], world.digests[revision]
            before = world.digests[revision - 1]
            if digest and before:
                world.check(
                    "what changes nothing leaves the digest as it was",
                    (digest != before) == effect.changed,
                    f"revision {revision}: {effect}",
                    meaningful=not effect.changed,
                )
            call = effect.call
            if call is not None and not call.in_progress and effect.changed:
                definite = call.facts.get("rendezvous-definite") == "true"
                world.check(
                    "what definitely did not happen has no effect",
                    not (definite and call.operation.is_write),
                    f"{call} had said {call.status}, and took effect at {revision}",
                )
        self._compared = len(world.history) - 1
        self._check_state(world.log.machine.state, world.model, "the log")

    def _check_replica(self, life: Life) -> None:
        world, revision = self._world, life.revision
        if self._revisions.get(life) == revision:
            return
        prop = "a node's revision only grows"
        world.check(prop, self._revisions.get(life, 0) <= revision, life.name)
        self._revisions[life] = revision
        state = life.engine.state.state
        digest = world.digests[revision]
        world.check(
            "equal revision, equal digest",
            not digest or snapshot.digest(state) == digest,
            f"{life.name} at {revision}",
            meaningful=bool(digest) and bool(state.requests),
        )
        self._check_state(state, world.history[revision], life.name)

    def _check_state(self, state: State, model: Model, where: str) -> None:
        """The replicated state against the model: what is open, what is gone, who waits."""
        open_pairs = {
            (name, place)
            for name, branch in state.branches.items()
            for place in (branch.regions or ("",))
            if branch.open_mask and branch.is_open_in(Region(place))
        }
        leases = {name: (lease.node, lease.expires_ms) for name, lease in state.leases.items()}
        members = {name: (one.node, one.expires_ms) for name, one in state.members.items()}
        pairs = (
            ("time", state.time_ms, model.time_ms),
            ("requests", dict.fromkeys(state.requests), dict.fromkeys(model.active)),
            ("branches", set(state.branches), set(model.branches)),
            ("open regions", open_pairs, set(model.open)),
            ("expired requests", set(state.tombstones), set(model.gone)),
            ("members", members, {k: (v.node, v.ends_ms) for k, v in model.members.items()}),
            ("leases", leases, {k: (v.node, v.ends_ms) for k, v in model.leases.items()}),
        )
        for what, found, expected in pairs:
            self._world.check(
                "the state is the model's",
                found == expected,
                f"{where} at {model.revision}: {what} are {found}, not {expected}",
                meaningful=bool(expected),
            )

    # Calls

    def _check_waits(self, life: Life) -> None:
        """R5.1: who is parked is blocked, at what this node has applied."""
        world = self._world
        model = world.history[life.revision]
        on_way = [
            (close.branch_id, close.region)
            for call in world.in_progress(Close, life)
            for command in call.on_way
            if isinstance(command, c.CloseBranches)
            for close in command.closes
            if close.region
        ]
        for call in world.in_progress(Wait, life):
            wait = call.operation
            assert isinstance(wait, Wait)
            if not self._has_looked(call):
                continue
            if call.fresh_s is None:
                call.fresh_s = world.now_s
            request, scope = wait.request, wait.scope
            patient = world.now_s < call.begun_s + wait.patience_s
            is_there = request in model.active
            missing = [
                name
                for name in wait.required
                if name not in model.branches or model.branches[name][0] != request
            ]
            is_open = [
                name
                for name in (model.blocking(request, scope) if is_there else ())
                if (name, scope.region) not in on_way
                or scope.region not in model.branches[name][1].regions
            ]
            unknown = not is_there or not model.knows(request, scope)
            world.check(
                "no wake-up is lost",
                request not in model.gone and bool(missing or is_open or (patient and unknown)),
                f"{call} sleeps at {life.revision} although nothing of it is open",
                meaningful=bool(is_open),
            )

    def _has_looked(self, call: Call) -> bool:
        """Whether a wait has certainly become as fresh as it wants to be."""
        world, engine = self._world, call.life.engine
        freshness = call.operation.freshness
        if call.fresh_s is not None:
            return True
        if freshness.kind == "linearizable" and call.fresh_index is None:
            since_s = world.confirmable_s[call.name]
            if since_s is None:
                return False
            asked_at_once = world.confirmable_turn[call.name] <= call.begun_turn
            if not asked_at_once and world.now_s < since_s + READ_RETRY_S:
                return False
            call.fresh_index = len(world.log.entries)
        least = freshness.revision if freshness.kind != "local" else 0
        return engine.applied >= (call.fresh_index or 0) and call.life.revision >= least

    def _check_writes(self, life: Life) -> None:
        """What nothing holds up has been answered."""
        world, log = self._world, self._world.log
        since_s = world.confirmable_s[life.name]
        if since_s is None or log.holding or life.engine.lagging or life.engine.installed:
            return
        for kind in WRITES:
            for call in world.in_progress(kind, life):
                stuck = [command for command in call.on_way if not isinstance(command, c.BeginWait)]
                world.check("a write that nothing holds up ends", not stuck, f"{call}: {stuck}")

    def _check_deadlines(self) -> None:
        world = self._world
        for call in self._unended:
            operation = call.operation
            if isinstance(operation, Subscribe) or not call.life.alive:
                continue
            patience_s = getattr(operation, "timeout_s", LIMITS.call_timeout_ms_max / 1000)
            if call.deadline_s is not None:
                patience_s = min(patience_s, call.deadline_s)
            if isinstance(operation, Register | Close):
                patience_s += operation.patience_s
            world.check(
                "no call outlives its deadline",
                world.now_s <= call.begun_s + patience_s + GRACE_S,
                f"{call}, begun {world.now_s - call.begun_s:g} s ago",
            )

    def _check_leftovers(self, life: Life) -> None:
        """G7: what a node holds belongs to calls in progress."""
        world, node = self._world, life.node
        waits = world.in_progress(Wait, life)
        writes = [call for kind in WRITES for call in world.in_progress(kind, life)]
        streams_here = world.in_progress(Subscribe, life)
        closes = [
            close
            for call in writes
            for command in call.on_way
            if isinstance(command, c.CloseBranches)
            for close in command.closes
            if close.region
        ]
        early = node._closing._early
        assert early is not None
        patient = [call for call in writes if getattr(call.operation, "patience_s", 0.0)]
        awaiting = [call for call in patient if not call.on_way]
        found = {
            "waits": node._admission.waits == len(waits) + len(awaiting),
            "parked": sum(call.fresh_s is not None for call in waits)
            <= len(node._index)
            <= len(waits),
            "writes": node._admission.proposals == len(writes) - len(awaiting),
            "subscribers": sum(node._subscriptions.counts().values()) == len(streams_here)
            or life.drained
            or any(s.gate is not None for s in streams_here),
            "early releases": sum(early._counts.values()) == len(closes),
            "watchers": not node._watch._watchers or bool(patient),
        }
        for what, fits in found.items():
            world.check("what has ended leaves nothing behind", fits, f"{life.name}: {what}")

    # Leases and time

    def _check_leases(self) -> None:
        """R7.1, R7.2, G7.1: a lease is that of a wait in progress, or will soon be no more."""
        world = self._world
        leases = world.model.leases
        self._stray_s = {k: v for k, v in self._stray_s.items() if k in leases}
        for lease_id, lease in leases.items():
            wait, life = world.leases[lease_id], world.lives[lease.node]
            if wait.in_progress:
                continue
            nothing_in_the_way = (
                life.alive
                and world.confirmable_s[lease.node] is not None
                and not world.log.holding
                and not life.engine.lagging
            )
            # One whose end got lost is found by the next pulse of its node.
            since_s = self._stray_s.get(lease_id)
            begins_late = wait.ended_step < world.step == world.lease_steps[lease_id]
            unanswered = since_s is None and life.engine.installed
            if not nothing_in_the_way or begins_late or unanswered:
                self._stray_s[lease_id] = world.now_s
                continue
            world.check(
                "a lease ends with its wait",
                since_s is not None and world.now_s <= since_s + 2 * PULSE_S,
                f"{lease} outlives {wait}",
            )
        for lease_id, wait in world.leases.items():
            if wait.ended_step == world.step and not wait.in_progress and lease_id not in leases:
                world.check("a lease ends with its wait", True)

    def _check_expiry(self) -> None:
        """L2: what is old enough is gone, unless somebody waits for it."""
        world = self._world
        leader = world.log.leader
        if (
            leader is None
            or world.log.holding
            or not world.lives[leader].alive
            or world.lives[leader].engine.lagging
            or world.confirmable_s[leader] is None
            or world.leading_s > world.now_s - 2 * PULSE_S
            or (world.confirmable_s[leader] or 0.0) > world.now_s - 2 * PULSE_S
            or world.held_s > world.now_s - 2 * PULSE_S
        ):
            return
        model = world.model
        waited_for = {
            call.operation.request
            for call in world.calls
            if isinstance(call.operation, Wait)
            and (call.in_progress or call.ended_s > world.now_s - 10.0)
        }
        for request, active_ms in model.active.items():
            ttl_ms = LIMITS.open_ttl_ms if model.is_open(request) else LIMITS.settled_ttl_ms
            world.check(
                "what is old enough is dropped",
                model.time_ms - active_ms < ttl_ms or request in waited_for,
                f"{request}, active {model.time_ms - active_ms} ms ago",
            )
        for request, (gone_ms, _) in model.gone.items():
            world.check(
                "a tombstone is kept for its time",
                model.time_ms - gone_ms < LIMITS.tombstone_ttl_ms,
                request,
            )
