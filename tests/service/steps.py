"""How a step goes: something is begun, all that follows from it happens, and is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis.stateful import RuleBasedStateMachine
from judge import Judge
from lives import NODES, PULSE_S, Call
from model import Branch
from operations import Freshness, Operation, Subscribe
from world import World

T = TypeVar("T")

ENOUGH_S = 4 * PULSE_S
"""After this nothing of a fault that is over is left."""


@dataclass
class Tally:
    """What the examples of this process came to."""

    examples: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    """Steps, by rule."""
    looked: Counter[str] = field(default_factory=Counter)
    """How often each property was looked at."""
    meaningful: Counter[str] = field(default_factory=Counter)
    """Of these, how often it could have failed."""
    seen: Counter[str] = field(default_factory=Counter)
    """How calls ended, and what else came about."""
    told: Callable[[], None] = lambda: None
    """Is called after each example."""

    def clear(self) -> None:
        """Begins anew."""
        self.examples = 0
        for counts in (self.rules, self.looked, self.meaningful, self.seen):
            counts.clear()


TALLY = Tally()


class Steps(RuleBasedStateMachine):
    """What all rules need."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.judge = Judge(self.world)
        self.contents: dict[str, tuple[str, Branch]] = {}
        """What each name stands for, since it was first used."""
        self.line = ""
        self.released = -5
        """The step at which the leader last let go of what it held back."""
        self.failed = False

    def _repr_step(self, rule: Any, data: Any, result: Any) -> str:
        """The plain line instead of Hypothesis's own."""
        return self.line

    def done(self, rule: str, line: str, seconds: float = 0.0) -> None:
        """Lets everything follow from what was just begun, and judges it."""
        self.line = line
        TALLY.rules[rule] += 1
        try:
            self.world.settle(seconds)
            self.judge.look()
        except BaseException:
            self.failed = True
            raise
        self.world.step += 1

    def call(
        self, rule: str, node: int, operation: Operation, deadline_s: float | None = None
    ) -> None:
        name = self.pick(self.living, node)
        self.world.call(name, operation, deadline_s)
        self.done(
            rule, f"{name}: {operation}" + (f" within {deadline_s:g} s" if deadline_s else "")
        )

    @staticmethod
    def pick(there: list[T], number: int) -> T:
        return there[number % len(there)]

    @property
    def living(self) -> list[str]:
        return [name for name, life in self.world.lives.items() if life.alive]

    @property
    def dead(self) -> list[str]:
        return [name for name in NODES if name not in self.living]

    @property
    def lagging(self) -> list[str]:
        return [name for name in self.living if self.world.lives[name].engine.lagging]

    @property
    def cut(self) -> list[str]:
        return [name for name in self.living if not self.world.log.is_connected(name)]

    @property
    def connected(self) -> list[str]:
        return [name for name in self.living if self.world.log.is_connected(name)]

    def parked(self) -> list[Call]:
        return [
            call
            for call in self.world.calls
            if call.in_progress and not isinstance(call.operation, Subscribe)
        ]

    def content(self, request: str, name: str, shape: Branch) -> tuple[str, Branch]:
        """What a name stands for; the same each time (semantics G2)."""
        parent = shape.parent if shape.parent != name else ""
        fresh = (request, shape._replace(name=name, parent=parent))
        return self.contents.setdefault(name, fresh)

    def freshness(self, kind: str) -> Freshness:
        acknowledged = self.world.acknowledged
        if kind == "future":
            return Freshness("session", acknowledged + 1)
        return Freshness(kind, acknowledged if kind == "session" else 0)

    def read_again(self, call: Call) -> None:
        gate, call.gate = call.gate, None
        if gate is not None and call.life.alive:
            call.life.loop.post(gate.set_result, None)

    def all_is_well(self) -> None:
        """No fault lasts."""
        world = self.world
        for name in self.dead:
            world.restart(name)
        for name, life in world.lives.items():
            life.engine.lagging = False
            world.log.heal(name)
            life.engine.post(life.engine.advance)
        world.log.holding = False
        world.log.commit()
        for stream in world.streams:
            self.read_again(stream)

    def teardown(self) -> None:
        """In the end all comes to the same, and with its callers gone nothing is left."""
        world = self.world
        try:
            if not self.failed:
                self.all_is_well()
                self.done("end", "all faults are over for good", ENOUGH_S)
                for call in world.calls:
                    if call.in_progress:
                        world.cancel(call)
                self.done("end", "all clients go away", ENOUGH_S)
                self.judge.look_at_the_end()
        finally:
            world.bury()
            TALLY.looked.update(world.counts)
            TALLY.meaningful.update(world.meaningful)
            TALLY.seen.update(world.seen)
            TALLY.examples += 1
            TALLY.told()
