"""Handing leadership over, on the bench (3.10): what its caller is told holds afterwards."""

from __future__ import annotations

import asyncio

from pysyncobj.node import Node

from rendezvous_raft import errors
from rendezvous_raft.replication.raft.handover import hand_over
from rendezvous_raft.testing.raft_bench import RaftBench
from rendezvous_raft.testing.virtual_time import advance, in_virtual_time, settle

B, C = Node("b"), Node("c")
PATIENCE_S = 0.2


def led_by_a() -> RaftBench:
    bench = RaftBench("a", "b", "c")
    bench.elect("a")
    bench.propose("a", b"x")
    bench.settle()
    return bench


def order(bench: RaftBench, successor: Node) -> asyncio.Task[None]:
    deadline_s = bench.clock.now_s + PATIENCE_S
    call = hand_over(bench["a"].raft, successor, deadline_s)
    return asyncio.get_running_loop().create_task(call)


async def answer(task: asyncio.Task[None]) -> errors.RendezvousError | None:
    await advance(1.0)
    assert task.done()
    error = task.exception()
    assert error is None or isinstance(error, errors.RendezvousError)
    return error


@in_virtual_time
async def test_leadership_is_handed_over() -> None:
    bench = led_by_a()
    task = order(bench, B)
    await settle()
    assert bench["a"].raft.handing_over
    bench.settle()
    assert await answer(task) is None
    assert bench.leaders() == ["b"]
    assert not bench["a"].raft.handing_over


@in_virtual_time
async def test_the_outcome_is_unknown_once_the_successor_was_told() -> None:
    # semantics: G6, G6.1
    bench = led_by_a()
    task = order(bench, B)
    await settle()
    told = bench.take("timeout_now")
    bench.clock.advance(PATIENCE_S)
    error = await answer(task)
    assert isinstance(error, errors.OutcomeUnknown)
    assert error.leader == "a"
    # And so it is: the word arrives late.
    bench.deliver(told[0])
    bench.settle()
    assert bench.leaders() == ["b"]


@in_virtual_time
async def test_the_outcome_is_unknown_when_somebody_else_leads() -> None:
    # semantics: G6
    bench = led_by_a()
    task = order(bench, B)
    await settle()
    bench.take("timeout_now")
    bench.elect("c")
    assert isinstance(await answer(task), errors.OutcomeUnknown)


@in_virtual_time
async def test_a_successor_that_does_not_catch_up_is_never_told() -> None:
    # semantics: G6, G6.1
    bench = led_by_a()
    bench.propose("a", b"y")
    bench.take(receiver="b")
    task = order(bench, B)
    await settle()
    bench.clock.advance(PATIENCE_S)
    error = await answer(task)
    assert isinstance(error, errors.Unavailable)
    assert "was not told" in str(error)
    assert bench.on_the_way("timeout_now") == []
    bench.settle()
    assert bench.leaders() == ["a"]


@in_virtual_time
async def test_a_second_order_is_refused_and_the_first_goes_on() -> None:
    bench = led_by_a()
    bench["a"].raft.propose(b"y")
    first, second = order(bench, B), order(bench, C)
    await settle()
    assert second.done()
    assert "handed over to b already" in str(second.exception())
    assert bench["a"].raft.handing_over, "no proposal may come between"
    bench.settle()
    await advance(0.1)
    bench.settle()
    assert await answer(first) is None
    assert bench.leaders() == ["b"]
    third = order(bench, C)
    assert isinstance(await answer(third), errors.Unavailable)
    assert not bench["a"].raft.handing_over
