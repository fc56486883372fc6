"""The rules of time and faults: lag, partitions, crashes, and what leaders do with proposals."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from steps import Steps
from strategies import some


class Faults(Steps):
    """See the module's docstring."""

    @rule(seconds=st.sampled_from([0.5, 2.0, 7.0, 30.0]))
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

    @precondition(lambda self: self.dead or self.lagging or self.cut)
    @rule()
    def recover(self) -> None:
        self.all_is_well()
        self.done("recover", "all faults are over")
