"""The rules: what clients, monitors, time and faults do to three nodes, one step after the other.

A failing example is printed as the lines that the rules say, e.g. `n2: close b3 in eu`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from judge import Judge
from model import Branch, Scope
from operations import (
    Check,
    Close,
    Dependencies,
    Describe,
    Freshness,
    Operation,
    Register,
    RegisterRequest,
    Subscribe,
    Wait,
)
from world import NODES, PULSE_S, Call, World

T = TypeVar("T")

REQUESTS = ("r1", "r2")
BRANCHES = tuple(f"b{number}" for number in range(1, 9))
SERVICES = ("post", "media", "feed")
REGIONS = tuple(NODES.values())
TAGS = ("", "t", "u")
ZONES = ("", "a", "b")
ENOUGH_S = 4 * PULSE_S
"""After this nothing of a fault that is over is left."""

some = st.integers(0, 999)
"""One of what there is; the machine takes it modulo their number."""
requests = st.sampled_from(REQUESTS)
names = st.sampled_from(BRANCHES)
services = st.sampled_from(SERVICES)
regions = st.sampled_from(REGIONS)
parents = st.sampled_from(["", "", "", *BRANCHES[:4]])
shapes = st.tuples(
    st.just(""),
    services,
    st.sampled_from([("eu", "us"), ("eu",), ("us",), ("ap", "eu", "us"), ()]),
    st.sampled_from(TAGS),
    st.sampled_from(ZONES),
    parents,
    st.sampled_from([True, True, True, False]),
).map(Branch._make)
somewhere = st.sampled_from(["", *REGIONS])
named = services.map(lambda service: (service,))
scopes = st.one_of(
    somewhere.map(lambda region: Scope((), region)),
    st.tuples(named, somewhere).map(lambda parts: Scope(*parts)),
    st.tuples(named, somewhere).map(lambda parts: Scope(*parts, dependants=True)),
    st.tuples(named, somewhere, st.sampled_from(["t", "u"])).map(lambda parts: Scope(*parts)),
    somewhere.map(lambda region: Scope(SERVICES[:2], region)),
)
mutual_scopes = st.one_of(
    st.tuples(st.just(()), somewhere, st.just(""), st.sampled_from(ZONES)).map(
        lambda parts: Scope(*parts)
    ),
    st.tuples(services, somewhere).map(lambda parts: Scope((), parts[1], waiter=parts[0])),
    st.tuples(services, services).map(lambda parts: Scope((parts[0],), waiter=parts[1])),
)
places = st.sampled_from([*REGIONS, *REGIONS, "", "*"])
patience = st.sampled_from([0.0, 0.0, 0.0, 1.0, 3.0])
timeouts = st.sampled_from([30.0, 1.0, 5.0, 0.0])
how_fresh = st.sampled_from(["", "", "session", "future", "local"])


class Service(RuleBasedStateMachine):
    """See the module's docstring."""

    rules_done: Counter[str] = Counter()
    """Of all examples of this process, by rule; the rest by property."""
    looked: Counter[str] = Counter()
    meaningful: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    """How calls ended, and what else came about."""
    examples = 0
    told: Callable[[], None] = staticmethod(lambda: None)
    """Is called after each example."""

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

    # How a step goes

    def _repr_step(self, rule: Any, data: Any, result: Any) -> str:
        """The plain line instead of Hypothesis's own."""
        return self.line

    def done(self, rule: str, line: str, seconds: float = 0.0) -> None:
        """Lets everything follow from what was just begun, and judges it."""
        self.line = line
        Service.rules_done[rule] += 1
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

    def freshness(self, kind: str) -> Freshness:
        acknowledged = self.world.acknowledged
        if kind == "future":
            return Freshness("session", acknowledged + 1)
        return Freshness(kind, acknowledged if kind == "session" else 0)

    @initialize(begun=st.lists(st.tuples(requests, shapes), max_size=4))
    def begin(self, begun: list[tuple[str, Branch]]) -> None:
        """Something to wait for, so that a story need not begin with it."""
        lines = []
        for name, (request, shape) in zip(BRANCHES, begun, strict=False):
            known = [other for other, (owner, _) in self.contents.items() if owner == request]
            parent = known[0] if shape.parent and known else ""
            request, branch = self.content(request, name, shape._replace(parent=parent))
            operation = Register(request, (branch,))
            self.world.call("n1", operation)
            lines.append(f"n1: {operation}")
        self.done("begin", "\n".join(lines) or "nothing is registered")

    # Writes

    @rule(node=some, request=requests)
    def register_request(self, node: int, request: str) -> None:
        self.call("register_request", node, RegisterRequest(request))

    def content(self, request: str, name: str, shape: Branch) -> tuple[str, Branch]:
        """What a name stands for; the same each time (semantics G2)."""
        parent = shape.parent if shape.parent != name else ""
        fresh = (request, shape._replace(name=name, parent=parent))
        return self.contents.setdefault(name, fresh)

    @rule(node=some, request=requests, name=names, shape=shapes, patience_s=patience)
    def register(
        self, node: int, request: str, name: str, shape: Branch, patience_s: float
    ) -> None:
        request, branch = self.content(request, name, shape)
        self.call("register", node, Register(request, (branch,), patience_s))

    @rule(
        node=some,
        request=requests,
        named=st.lists(names, min_size=2, max_size=3, unique=True),
        shape=shapes,
        under=st.booleans(),
    )
    def register_batch(
        self, node: int, request: str, named: list[str], shape: Branch, under: bool
    ) -> None:
        first = named[0]
        for name in named:
            below = shape._replace(parent=first, service="feed") if under else shape
            self.content(request, name, shape if name == first else below)
        batch = tuple(self.contents[name][1] for name in named)
        self.call("register_batch", node, Register(request, batch, batch=True))

    @precondition(lambda self: self.contents)
    @rule(node=some, which=some, shape=shapes, elsewhere=st.booleans())
    def register_other_content(self, node: int, which: int, shape: Branch, elsewhere: bool) -> None:
        name = self.pick(list(self.contents), which)
        request, branch = self.contents[name]
        if elsewhere:
            request = next(other for other in REQUESTS if other != request)
        else:
            branch = shape._replace(name=name, parent="")
        self.call("register_other_content", node, Register(request, (branch,)))

    @rule(node=some, name=names, place=places, patience_s=patience)
    def close(self, node: int, name: str, place: str, patience_s: float) -> None:
        self.call("close", node, Close(((name, place),), patience_s))

    @rule(node=some, which=some, place=some)
    @precondition(lambda self: self.world.model.open)
    def close_what_is_open(self, node: int, which: int, place: int) -> None:
        name, region = self.pick(list(self.world.model.open), which)
        self.call("close_what_is_open", node, Close(((name, region),)))

    def blocked(self) -> list[tuple[Call, str]]:
        """Waits, each with a branch of its region that keeps it blocked."""
        model = self.world.model
        return [
            (call, name)
            for call in self.world.in_progress(Wait)
            if call.life.alive and call.operation.request in model.active
            for name in model.blocking(call.operation.request, call.operation.scope)
        ]

    @precondition(lambda self: self.blocked())
    @rule(node=some, which=some, here=st.booleans(), hold=st.booleans())
    def close_for_a_waiter(self, node: int, which: int, here: bool, hold: bool) -> None:
        """What it waits for; with `here` at its own node, which releases it before the commit."""
        call, name = self.pick(self.blocked(), which)
        places = [place for other, place in self.world.model.open if other == name]
        place = call.operation.scope.region if call.operation.scope.region in places else places[0]
        at = call.name if here else self.pick(self.living, node)
        self.world.log.holding = self.world.log.holding or hold
        self.world.call(at, Close(((name, place),)))
        held = "the leader holds back what is proposed\n" if hold else ""
        self.done("close_for_a_waiter", f"{held}{at}: {Close(((name, place),))}")

    @rule(
        node=some,
        closes=st.lists(st.tuples(names, places), min_size=2, max_size=3, unique=True),
        patience_s=patience,
    )
    def close_batch(self, node: int, closes: list[tuple[str, str]], patience_s: float) -> None:
        self.call("close_batch", node, Close(tuple(closes), patience_s, batch=True))

    @precondition(lambda self: any(call.operation.is_write for call in self.world.calls))
    @rule(node=some, which=some)
    def again(self, node: int, which: int) -> None:
        """A retry: the same ids, on any node."""
        writes = [call.operation for call in self.world.calls if call.operation.is_write]
        self.call("again", node, self.pick(writes[::-1], which))

    # Reads

    @rule(node=some, request=requests, scope=scopes, timeout_s=timeouts, fresh=how_fresh)
    def wait(self, node: int, request: str, scope: Scope, timeout_s: float, fresh: str) -> None:
        operation = Wait(request, scope, timeout_s or 30.0, freshness=self.freshness(fresh))
        self.call("wait", node, operation)

    @precondition(lambda self: self.world.model.open)
    @rule(node=some, which=some, region=st.booleans(), service=st.booleans(), fresh=how_fresh)
    def wait_for_what_is_open(
        self, node: int, which: int, region: bool, service: bool, fresh: str
    ) -> None:
        model = self.world.model
        name, place = self.pick(list(model.open), which)
        request, branch = model.branches[name]
        scope = Scope((branch.service,) if service else (), place if region else "")
        wait = Wait(request, scope, freshness=self.freshness(fresh))
        self.call("wait_for_what_is_open", node, wait)

    @rule(node=some, request=requests, scope=mutual_scopes, timeout_s=timeouts)
    def wait_mutually(self, node: int, request: str, scope: Scope, timeout_s: float) -> None:
        self.call("wait_mutually", node, Wait(request, scope, timeout_s or 30.0))

    def zones(self) -> list[tuple[str, str, str]]:
        """Requests with two zones in which something is open, the lesser one first."""
        model = self.world.model
        found: dict[str, dict[str, None]] = {}
        for name, _ in model.open:
            request, branch = model.branches[name]
            found.setdefault(request, {})[branch.zone] = None
        return [
            (request, lesser, greater)
            for request, zones in found.items()
            for lesser in zones
            for greater in zones
            if lesser < greater
        ]

    @precondition(lambda self: self.zones())
    @rule(node=some, other=some, which=some, lesser_first=st.booleans())
    def wait_for_each_other(
        self, node: int, other: int, which: int, lesser_first: bool
    ) -> None:
        """Two zones of a request, on any nodes; the greater one gives way (semantics S5)."""
        request, *zones = self.pick(self.zones(), which)
        lines = []
        for number, zone in zip((node, other), sorted(zones, reverse=not lesser_first), strict=True):
            name = self.pick(self.living, number)
            wait = Wait(request, Scope(zone=zone))
            self.world.call(name, wait)
            lines.append(f"{name}: {wait}")
        self.done("wait_for_each_other", "\n".join(lines))

    @rule(
        node=some,
        request=requests,
        scope=scopes,
        required=st.lists(names, max_size=2, unique=True),
        patience_s=patience,
        timeout_s=timeouts,
        deadline_s=st.sampled_from([None, None, 2.0]),
    )
    def wait_for_more(
        self,
        node: int,
        request: str,
        scope: Scope,
        required: list[str],
        patience_s: float,
        timeout_s: float,
        deadline_s: float | None,
    ) -> None:
        operation = Wait(request, scope, timeout_s or 30.0, tuple(required), patience_s)
        self.call("wait_for_more", node, operation, deadline_s)

    @rule(node=some, request=requests, scope=scopes, fresh=how_fresh)
    def check(self, node: int, request: str, scope: Scope, fresh: str) -> None:
        self.call("check", node, Check(request, scope, self.freshness(fresh)))

    @rule(node=some, request=requests, fresh=how_fresh)
    def describe(self, node: int, request: str, fresh: str) -> None:
        self.call("describe", node, Describe(request, self.freshness(fresh)))

    @rule(node=some, request=requests, service=st.sampled_from(["", *SERVICES]))
    def fetch_dependencies(self, node: int, request: str, service: str) -> None:
        self.call("fetch_dependencies", node, Dependencies(request, service))

    @precondition(lambda self: self.parked())
    @rule(which=some)
    def cancel(self, which: int) -> None:
        call = self.pick(self.parked(), which)
        self.world.cancel(call)
        self.done("cancel", f"the client of {call} goes away")

    # Subscriptions

    @rule(
        node=some,
        service=services,
        region=regions,
        tags=st.sampled_from([(), (), ("t",), ("t", "u")]),
        group=st.sampled_from(["", "g"]),
    )
    def subscribe(
        self, node: int, service: str, region: str, tags: tuple[str, ...], group: str
    ) -> None:
        self.call("subscribe", node, Subscribe(service, region, tags, group))

    @precondition(lambda self: self.world.model.open)
    @rule(node=some, which=some, region=regions, group=st.sampled_from(["", "g"]))
    def subscribe_to_what_is_open(self, node: int, which: int, region: str, group: str) -> None:
        name, place = self.pick(list(self.world.model.open), which)
        service = self.world.model.branches[name][1].service
        self.call("subscribe_to_what_is_open", node, Subscribe(service, place or region, (), group))

    @precondition(lambda self: any(isinstance(c.operation, Subscribe) for c in self.world.calls))
    @rule(node=some, which=some, resume=st.booleans())
    def subscribe_again(self, node: int, which: int, resume: bool) -> None:
        """As an earlier one, on any node; with `resume`, after what that one was told."""
        earlier = [c for c in self.world.calls if isinstance(c.operation, Subscribe)]
        call = self.pick(earlier[::-1], which)
        old = call.operation
        assert isinstance(old, Subscribe)
        after = (call.synced or 0) if resume else 0
        new = Subscribe(old.service, old.region, old.tags, old.group, after)
        self.call("subscribe_again", node, new)

    @precondition(lambda self: self.world.streams)
    @rule(which=some)
    def unsubscribe(self, which: int) -> None:
        call = self.pick(self.world.streams, which)
        self.world.cancel(call)
        self.done("unsubscribe", f"the subscriber of {call} goes away")

    @precondition(lambda self: any(s.gate is None for s in self.world.streams))
    @rule(which=some)
    def stop_reading(self, which: int) -> None:
        call = self.pick([s for s in self.world.streams if s.gate is None], which)
        call.gate = call.life.loop.create_future()
        self.done("stop_reading", f"the subscriber of {call} stops reading")

    @precondition(lambda self: any(s.gate is not None for s in self.world.streams))
    @rule(which=some)
    def read_on(self, which: int) -> None:
        call = self.pick([s for s in self.world.streams if s.gate is not None], which)
        self.read_again(call)
        self.done("read_on", f"the subscriber of {call} reads on")

    def read_again(self, call: Call) -> None:
        gate, call.gate = call.gate, None
        if gate is not None and call.life.alive:
            call.life.loop.post(gate.set_result, None)

    # Time and faults

    @rule(seconds=st.sampled_from([0.5, 2.0, 7.0, 15.0]))
    def time_passes(self, seconds: float) -> None:
        self.done("time_passes", f"{seconds:g} s pass", seconds)

    @precondition(lambda self: not self.world.log.holding and self.world.step > self.released + 4)
    @rule()
    def hold(self) -> None:
        self.world.log.holding = True
        self.done("hold", "the leader holds back what is proposed")

    @precondition(lambda self: self.world.log.waiting)
    @rule(count=st.integers(1, 3))
    def commit(self, count: int) -> None:
        self.world.log.commit(count)
        self.done("commit", f"the next {count} entries are committed")

    @precondition(lambda self: self.world.log.holding)
    @rule()
    def let_go(self) -> None:
        self.world.log.holding = False
        self.world.log.commit()
        self.released = self.world.step
        self.done("let_go", "the leader goes on")

    @precondition(lambda self: self.world.log.has_majority)
    @rule(node=some, kept=st.integers(0, 3))
    def elect(self, node: int, kept: int) -> None:
        name = self.pick(self.connected, node)
        self.world.log.elect(name, kept=kept)
        self.done("elect", f"{name} comes to lead, with {kept} of what was not committed")

    @rule(node=some)
    def lag(self, node: int) -> None:
        name = self.pick(self.living, node)
        self.world.lives[name].engine.lagging = True
        self.done("lag", f"{name} lags behind")

    @precondition(lambda self: self.lagging)
    @rule(node=some, count=st.sampled_from([None, 1, 2]))
    def catch_up(self, node: int, count: int | None) -> None:
        name = self.pick(self.lagging, node)
        engine = self.world.lives[name].engine
        engine.lagging = count is not None
        engine.post(lambda: engine.advance(count))
        self.done("catch_up", f"{name} applies {'everything' if count is None else count}")

    @precondition(lambda self: self.lagging)
    @rule(node=some)
    def install_snapshot(self, node: int) -> None:
        name = self.pick(self.lagging, node)
        engine = self.world.lives[name].engine
        if self.world.log.is_connected(name):
            engine.lagging = False
            engine.post(engine.install)
        self.done("install_snapshot", f"{name} is sent a snapshot")

    @rule(node=some)
    def take_snapshot(self, node: int) -> None:
        name = self.pick(self.living, node)
        life = self.world.lives[name]
        life.loop.post(lambda: life.loop.create_task(life.node.take_snapshot()))
        self.done("take_snapshot", f"{name} writes a snapshot")

    @precondition(lambda self: len(self.connected) > 1)
    @rule(node=some)
    def cut_off(self, node: int) -> None:
        name = self.pick(self.connected, node)
        self.world.log.cut(name)
        self.done("cut_off", f"{name} is cut off")

    @precondition(lambda self: self.cut)
    @rule(node=some)
    def heal(self, node: int) -> None:
        name = self.pick(self.cut, node)
        self.world.log.heal(name)
        self.done("heal", f"{name} is connected again")

    @precondition(lambda self: len(self.living) > 1)
    @rule(node=some)
    def crash(self, node: int) -> None:
        name = self.pick(self.living, node)
        self.world.crash(name)
        self.done("crash", f"{name} crashes")

    @precondition(lambda self: len(self.living) > 1)
    @rule(node=some)
    def stop(self, node: int) -> None:
        name = self.pick(self.living, node)
        self.world.stop(name)
        self.done("stop", f"{name} stops in order")

    @precondition(lambda self: self.dead)
    @rule(node=some)
    def restart(self, node: int) -> None:
        name = self.pick(self.dead, node)
        self.world.restart(name)
        self.done("restart", f"{name} starts again")

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

    @precondition(lambda self: self.dead or self.lagging or self.cut)
    @rule()
    def recover(self) -> None:
        self.all_is_well()
        self.done("recover", "all faults are over")

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
            Service.looked.update(world.counts)
            Service.meaningful.update(world.meaningful)
            Service.seen.update(world.seen)
            Service.examples += 1
            Service.told()
