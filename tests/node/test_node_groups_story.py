"""Everything that can happen to a group on three nodes, in any order (semantics U5)."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from group_bench import Cluster, Monitor, joined, read_all
from node_bench import NodeBench, branch, close

from rendezvous_raft.testing.virtual_time import advance


class Story:
    """A walk over everything that can happen to a group on three nodes."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self.cluster = cluster
        self.chance = chance
        self.monitors: list[Monitor] = []
        self.still_open: set[str] = set()
        self.seen: Counter[str] = Counter()
        self.opened = 0

    async def step(self) -> None:
        chance, cluster = self.chance, self.cluster
        kind = chance.choice(("join", "leave", "open", "open", "close", "lag", "hold", "time"))
        self.seen[kind] += 1
        bench: NodeBench = chance.choice(cluster.benches)
        if kind == "join" and len(self.monitors) < 6:
            self.monitors += await joined(bench)
        elif kind == "leave" and len(self.monitors) > (chance.random() < 0.9):
            await self.monitors.pop(chance.randrange(len(self.monitors))).reader.close()
        elif kind == "open":
            self.opened += 1
            name = f"b{self.opened}"
            cluster.opened(branch(name, "eu") if chance.random() < 0.7 else branch(name))
            self.still_open.add(name)
        elif kind == "close" and self.still_open:
            name = chance.choice(sorted(self.still_open))
            regions = cluster.benches[0].engine.state.state.branches[name].regions
            where = "eu" if regions else ""
            cluster.everywhere(cluster.benches[0].closing(close(name, where)))
            self.still_open.discard(name)
        elif kind == "lag" and bench is not cluster.benches[0]:
            bench.engine.lagging = not bench.engine.lagging
            if not bench.engine.lagging:
                bench.engine.catch_up()
        elif kind == "hold" and bench is not cluster.benches[0]:
            bench.engine.holding = not bench.engine.holding
            if not bench.engine.holding:
                bench.engine.commit()
        elif kind == "time":
            await advance(chance.choice((0.3, 2.0, 12.0)))
        if chance.random() < 0.5:
            await read_all(self.monitors)

    async def heal(self) -> None:
        for bench in self.cluster.benches:
            bench.engine.lagging = bench.engine.holding = False
            bench.engine.commit()
            bench.engine.catch_up()
        await advance(3)
        await read_all(self.monitors)


@pytest.mark.parametrize("walk", range(6))
async def test_nothing_open_is_without_a_watcher(cluster: Cluster, seed: int, walk: int) -> None:
    """Whatever happens: once it is over, all that is open is watched, by its owner at least."""
    # semantics: U2, U4, U5, U5.1
    story = Story(cluster, random.Random(f"{seed} {walk}"))
    checked = 0
    for _ in range(6):
        for _ in range(25):
            await story.step()
        await story.heal()
        cluster.check()
        if story.monitors:
            assert await read_all(story.monitors) == story.still_open
            assert len(cluster.members()) == len(story.monitors)
            shares = cluster.shares()
            assert {*shares} == {monitor.member_id for monitor in story.monitors}
            for monitor in story.monitors:
                assert shares[monitor.member_id] <= monitor.watched == monitor.remembered()
            checked += 1
        else:
            assert cluster.members() == []
    assert checked > 1
    assert min(story.seen.values()) > 3
