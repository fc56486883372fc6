"""The machine: what clients and monitors do, beside time and faults, one step after the other.

A failing example is printed as the lines that the rules say, e.g. `n2: close b3 in eu`.
"""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from lives import PULSE_S, Call
from model import Branch, Scope
from operations import (
    Check,
    Close,
    Dependencies,
    Describe,
    Register,
    RegisterRequest,
    Subscribe,
    Wait,
)
from stories import Stories
from strategies import (
    BRANCHES,
    REQUESTS,
    SERVICES,
    how_fresh,
    mutual_scopes,
    names,
    patience,
    places,
    regions,
    requests,
    scopes,
    services,
    shapes,
    some,
    timeouts,
)


class Service(Stories):
    """See the module's docstring."""

    @initialize(begun=st.lists(st.tuples(requests, shapes), max_size=4), version=st.integers(1, 2))
    def begin(self, begun: list[tuple[str, Branch]], version: int) -> None:
        """Something to wait for, so that a story need not begin with it."""
        self.world.log.command_version = version
        self.world.settle(PULSE_S)  # the leader activates it
        lines = [f"commands are of version {version}"]
        for name, (chosen, shape) in zip(BRANCHES, begun, strict=False):
            known = [other for other, (owner, _) in self.contents.items() if owner == chosen]
            parent = known[0] if shape.parent and known else ""
            request, branch = self.content(chosen, name, shape._replace(parent=parent))
            operation = Register(request, (branch,))
            self.world.call("n1", operation)
            lines.append(f"n1: {operation}")
        self.done("begin", "\n".join(lines))

    # Writes

    @rule(node=some, request=requests)
    def register_request(self, node: int, request: str) -> None:
        self.call("register_request", node, RegisterRequest(request))

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
    def wait_for_each_other(self, node: int, other: int, which: int, lesser_first: bool) -> None:
        """Two zones of a request, on any nodes; the greater one gives way (semantics S5)."""
        request, *zones = self.pick(self.zones(), which)
        lines = []
        for number, zone in zip(
            (node, other), sorted(zones, reverse=not lesser_first), strict=True
        ):
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

    def grouped(self) -> list[Call]:
        return [call for call in self.world.streams if call.operation.group and call.life.alive]

    @precondition(lambda self: self.grouped())
    @rule(which=some, tags=st.sampled_from([(), (), ("t",)]))
    def join_group(self, which: int, tags: tuple[str, ...]) -> None:
        """One more member where there is one (semantics U5)."""
        call = self.pick(self.grouped(), which)
        joining = dataclasses.replace(call.operation, tags=tags, after=0)
        self.world.call(call.name, joining)
        self.done("join_group", f"{call.name}: {joining}")

    def overflowed(self) -> list[Call]:
        return [
            call
            for call in self.world.calls
            if call.facts.get("rendezvous-code") == "subscription_overflow" and call.life.alive
        ]

    @precondition(lambda self: self.overflowed())
    @rule(which=some)
    def resume_after_overflow(self, which: int) -> None:
        """As a monitor does: the same again, from the list (semantics U3)."""
        call = self.pick(self.overflowed()[::-1], which)
        again = dataclasses.replace(call.operation, after=0)
        self.world.call(call.name, again)
        self.done("resume_after_overflow", f"{call.name}: {again}")

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
