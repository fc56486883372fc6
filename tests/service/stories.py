"""Rules of several calls in a row, for what single ones rarely lead to."""

from __future__ import annotations

import dataclasses

from faults import Faults
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lives import Call
from model import Branch, Lease, Scope
from operations import Close, Register, Subscribe, Wait
from strategies import BRANCHES, requests, some

BURST = 3
"""Branches at once that are too many for any subscriber's queue."""


class Stories(Faults):
    """See the module's docstring."""

    def unused(self) -> list[str]:
        return [name for name in BRANCHES if name not in self.contents]

    def reading(self) -> list[Call]:
        return [s for s in self.world.streams if s.in_progress and s.gate is None]

    @precondition(lambda self: len(self.unused()) >= BURST and self.reading())
    @rule(node=some, which=some, request=requests)
    def overwhelm(self, node: int, which: int, request: str) -> None:
        """A burst ends a stream; its subscriber subscribes again, from the list (semantics U3)."""
        stream = self.pick(self.reading(), which)
        old = stream.operation
        assert isinstance(old, Subscribe)
        tag = old.tags[0] if old.tags else ""
        batch = tuple(
            self.content(request, name, Branch(name, old.service, (old.region,), tag))[1]
            for name in self.unused()[:BURST]
        )
        name = self.pick(self.living, node)
        burst = Register(request, batch, batch=True)
        self.world.call(name, burst)
        self.world.settle()
        again = dataclasses.replace(old, after=0)
        lines = [f"{name}: {burst}"]
        if stream.life.alive and not stream.in_progress:
            self.world.call(stream.name, again)
            lines.append(f"{stream.name}: {again}")
        self.done("overwhelm", "\n".join(lines))

    @precondition(lambda self: self.world.model.open)
    @rule(node=some, other=some, which=some, region=st.sampled_from(["eu", "us", "ap"]))
    def share(self, node: int, other: int, which: int, region: str) -> None:
        """Two members of a group, on any nodes (semantics U5)."""
        name, place = self.pick(list(self.world.model.open), which)
        service = self.world.model.branches[name][1].service
        both = Subscribe(service, place or region, (), "g")
        lines = []
        for number in (node, other):
            at = self.pick(self.living, number)
            self.world.call(at, both)
            lines.append(f"{at}: {both}")
        self.done("share", "\n".join(lines))

    def members(self) -> list[Call]:
        return [s for s in self.world.streams if s.operation.group and s.in_progress]

    @precondition(lambda self: self.members())
    @rule(which=some)
    def member_leaves(self, which: int) -> None:
        call = self.pick(self.members(), which)
        self.world.cancel(call)
        self.done("member_leaves", f"the subscriber of {call} goes away")

    def leases(self) -> list[Lease]:
        return [
            lease
            for lease in self.world.model.leases.values()
            if lease.scope.zone and lease.node in self.living and not lease.scope.services
        ]

    @precondition(lambda self: len(self.living) == 3 and self.leases())
    @rule(node=some, which=some)
    def lease_is_left_behind(self, node: int, which: int) -> None:
        """A node dies, what its wait waited for is closed, and another zone waits (R7.3)."""
        lease = self.pick(self.leases(), which)
        lines = [f"{lease.node} crashes"]
        self.world.crash(lease.node)
        self.world.settle(2.0)
        name = self.pick(self.living, node)
        model = self.world.model
        blocking = model.blocking(lease.request, lease.scope, mutual=False)
        closes = tuple((branch, "*") for branch in blocking)
        if closes:
            closing = Close(closes, batch=True)
            self.world.call(name, closing)
            self.world.settle()
            lines.append(f"{name}: {closing}")
        wait = Wait(lease.request, Scope(zone=""))
        self.world.call(name, wait)
        lines.append(f"{name}: {wait}")
        self.done("lease_is_left_behind", "\n".join(lines))
