"""Read barriers: one read index for all readers of a turn, then its application (F10)."""

from __future__ import annotations

import asyncio

import pytest

from rendezvous_raft import errors
from rendezvous_raft.replication.observer import SilentEngineObserver
from rendezvous_raft.replication.raft.reads import RETRY_S, ReadBarriers
from rendezvous_raft.testing.fake_clock import LoopClock
from rendezvous_raft.testing.virtual_time import advance, in_virtual_time, now_s, settle


class Observer(SilentEngineObserver):
    def __init__(self) -> None:
        self.done: list[float] = []

    def read_barrier_done(self, seconds: float) -> None:
        self.done.append(round(seconds, 6))


class Bench:
    def __init__(self, life: bytes = b"") -> None:
        self.reachable = True
        self.asked: list[int] = []
        self.applied = 10
        self.leader: str | None = "n2"
        self.observer = Observer()
        self.barriers = ReadBarriers(
            ask=self._ask,
            applied_index=lambda: self.applied,
            clock=LoopClock(),
            observer=self.observer,
            life=life,
        )

    def _ask(self, read_id: int) -> bool:
        if self.reachable:
            self.asked.append(read_id)
        return self.reachable

    def read(self, seconds: float = 10.0) -> asyncio.Task[None]:
        call = self.barriers.wait(now_s() + seconds, lambda: self.leader)
        return asyncio.get_running_loop().create_task(call)

    def apply(self, index: int) -> None:
        self.applied = index
        self.barriers.applied()

    def nothing_is_left(self) -> None:
        self.barriers.applied()
        assert self.barriers._confirmed == []
        assert self.barriers._gathering == []


@in_virtual_time
async def test_all_readers_of_a_turn_share_a_read_index() -> None:
    bench = Bench()
    readers = [bench.read() for _ in range(5)]
    await settle()
    assert bench.asked == [1]
    bench.barriers.confirmed(1, 10)
    await asyncio.gather(*readers)
    assert bench.observer.done == [0.0] * 5
    bench.nothing_is_left()


@in_virtual_time
async def test_a_reader_that_comes_later_asks_anew() -> None:
    """An index that was asked for before the call does not count for it."""
    bench = Bench()
    first = bench.read()
    await settle()
    second = bench.read()
    await settle()
    assert bench.asked == [1, 2]
    bench.barriers.confirmed(1, 10)
    await first
    await settle(lambda: not second.done())
    bench.barriers.confirmed(2, 10)
    await second


@in_virtual_time
async def test_a_reader_waits_until_the_index_is_applied_here() -> None:
    bench = Bench()
    reader = bench.read()
    await settle()
    bench.barriers.confirmed(1, 12)
    await settle(lambda: not reader.done())
    bench.apply(11)
    await settle(lambda: not reader.done())
    bench.apply(12)
    await reader
    bench.nothing_is_left()


@in_virtual_time
async def test_what_is_not_answered_is_asked_again_and_either_answer_counts() -> None:
    bench = Bench()
    reader = bench.read()
    await advance(2.5 * RETRY_S)
    assert bench.asked == [1, 2, 3]
    bench.barriers.confirmed(2, 10)
    await reader
    bench.barriers.confirmed(3, 10)
    bench.barriers.confirmed(99, 10)
    bench.nothing_is_left()


@in_virtual_time
async def test_a_confirmed_reader_asks_no_more() -> None:
    bench = Bench()
    reader = bench.read()
    await settle()
    bench.barriers.confirmed(1, 12)
    await advance(5 * RETRY_S)
    assert bench.asked == [1]
    bench.apply(12)
    await reader


@in_virtual_time
async def test_a_refused_reader_asks_again_after_a_moment() -> None:
    bench = Bench()
    reader = bench.read()
    await settle()
    bench.barriers.refused(1)
    await advance(1.5 * RETRY_S)
    assert bench.asked == [1, 2]
    bench.barriers.confirmed(1, 10)  # the refused one answers nobody
    await settle(lambda: not reader.done())
    bench.barriers.confirmed(2, 10)
    await reader


@pytest.mark.parametrize("leader", ["n2", None])
def test_without_a_confirmation_nobody_is_current(leader: str | None) -> None:
    # semantics: G4
    @in_virtual_time
    async def check() -> None:
        bench = Bench()
        bench.reachable, bench.leader = leader is not None, leader
        with pytest.raises(errors.NoLeader) as failed:
            await bench.read(seconds=3)
        assert failed.value.leader == leader
        assert now_s() == pytest.approx(1_003)
        bench.nothing_is_left()

    check()


@in_virtual_time
async def test_an_index_that_is_not_applied_in_time_is_a_deadline() -> None:
    # semantics: G4, G6
    bench = Bench()
    reader = bench.read(seconds=3)
    await settle()
    bench.barriers.confirmed(1, 12)
    with pytest.raises(errors.DeadlineExceeded) as failed:
        await reader
    assert failed.value.definite
    bench.nothing_is_left()


@in_virtual_time
async def test_it_goes_on_when_a_leader_can_be_asked_again() -> None:
    bench = Bench()
    bench.reachable = False
    reader = bench.read()
    await advance(3)
    assert bench.asked == []
    bench.reachable = True
    await advance(RETRY_S)
    (read_id,) = bench.asked
    bench.barriers.confirmed(read_id, 10)
    await reader


@in_virtual_time
async def test_a_cancelled_reader_leaves_nothing() -> None:
    # semantics: G7
    bench = Bench()
    unconfirmed, unapplied = bench.read(), bench.read()
    await settle()
    bench.barriers.confirmed(1, 12)
    unapplied.cancel()
    unconfirmed.cancel()
    await settle()
    bench.nothing_is_left()
    reader = bench.read()
    await settle()
    assert list(bench.barriers._asked) == [2]
    bench.barriers.confirmed(2, 10)
    await reader


@in_virtual_time
async def test_an_answer_to_an_earlier_life_answers_nobody() -> None:
    """It was asked before what this life's reader has to see, so its index may be older."""
    # semantics: G3.3
    earlier, bench = Bench(b"one life"), Bench(b"the next")
    earlier_reader = earlier.read()
    reader = bench.read()
    await settle()
    bench.barriers.confirmed(earlier.asked[0], 10)
    await settle()
    assert not reader.done()
    bench.barriers.confirmed(bench.asked[0], 10)
    await settle()
    assert reader.done()
    earlier_reader.cancel()
