"""The kit's own loop, clocks and replicator: what other tests take for granted."""

from __future__ import annotations

import asyncio

import pytest
from node_bench import NodeBench, branch, failure_of

from rendezvous_raft import errors
from rendezvous_raft.node.ports import Clock, Replicator
from rendezvous_raft.testing.fake_clock import FakeClock, LoopClock
from rendezvous_raft.testing.virtual_time import (
    BlockedForEver,
    VirtualLoop,
    advance,
    in_virtual_time,
    now_s,
    run_virtual,
    settle,
)
from rendezvous_raft.types import Revision


async def test_time_jumps_to_the_next_timer_in_order() -> None:
    seen: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    for name, seconds in (("late", 3_600.0), ("early", 1.0)):
        loop.call_later(seconds, lambda name=name: seen.append((name, now_s())))
    turns = loop.turns
    await advance(7_200)
    assert seen == [("early", 1_001), ("late", 4_600)]
    assert now_s() == 8_200
    assert loop.turns - turns < 10


async def test_no_time_passes_while_there_is_something_to_do() -> None:
    await settle()
    assert now_s() == 1_000
    with pytest.raises(AssertionError, match="settled"):
        await settle(lambda: False)


def test_what_is_blocked_for_ever_is_found() -> None:
    async def block() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(BlockedForEver):
        run_virtual(block())


def test_real_time_is_not_waited_for() -> None:
    with pytest.raises(TypeError, match="real time"):
        asyncio.run(advance(1))


@in_virtual_time
async def test_a_single_test_can_run_in_virtual_time() -> None:
    await advance(1_000_000)
    assert now_s() == 1_001_000


async def test_clocks_move_as_they_are_told() -> None:
    by_loop, by_hand = LoopClock(), FakeClock(5.0)
    clocks: list[Clock] = [by_loop, by_hand]
    walls = [clock.wall_ms() for clock in clocks]
    await advance(2)
    by_hand.advance(3)
    assert [clock.monotonic_s() for clock in clocks] == [1_002, 8]
    assert [clock.wall_ms() - wall for clock, wall in zip(clocks, walls, strict=True)] == [
        2_000,
        3_000,
    ]
    by_loop.wall_jump_ms = -1
    assert by_loop.wall_ms() == walls[0] + 1_999


async def test_the_replicator_follows_its_script(bench: NodeBench) -> None:
    engine = bench.engine
    port: Replicator = engine
    engine.holding = engine.lagging = True
    calls = [await bench.blocked(bench.register(branch(name))) for name in ("b1", "b2")]
    engine.commit(1)
    engine.catch_up(1)
    assert await calls[0] == 1
    late = port.wait_applied(Revision(2), deadline_s=now_s() + 1)
    assert isinstance(await failure_of(late), errors.DeadlineExceeded)
    engine.commit()
    barrier = await bench.blocked(port.read_barrier(deadline_s=bench.deadline_s))
    engine.catch_up_by_snapshot()
    await barrier
    assert list(engine.state.state.branches) == ["b1", "b2"]
    assert isinstance(await failure_of(calls[1]), errors.ProposalTimeout)
