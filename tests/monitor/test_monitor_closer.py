"""Closes: batches (M8), every row of V16, at least once (M9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
from monitor_fakes import CountingObserver, FakeService

from rendezvous_raft import errors
from rendezvous_raft.monitor.closer import (
    BATCH_MAX,
    BATCHES_IN_FLIGHT_MAX,
    LINGER_S,
    Closer,
    CloseVerdict,
    verdict_of,
)
from rendezvous_raft.monitor.ports import BranchClose
from rendezvous_raft.testing.virtual_time import advance, now_s, run_virtual
from rendezvous_raft.types import BranchId, Region

EU = Region("eu")


class Bench:
    """A closer with a service, and what became of the closes."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.observer = CountingObserver()
        self.settled: dict[BranchId, CloseVerdict] = {}
        self.closer = Closer(
            metadata=self.service,
            region=EU,
            on_settled=self._settled,
            observer=self.observer,
            random=Random(11),
            now=now_s,
        )

    def close(self, *names: str) -> None:
        for name in names:
            branch_id = self.service.register(name)
            self.closer.close_soon(branch_id, is_global=False)

    def _settled(self, branch_id: BranchId, verdict: CloseVerdict) -> None:
        assert branch_id not in self.settled, "settled twice"
        self.settled[branch_id] = verdict


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    task = asyncio.create_task(bench.closer.run())
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def scenario(story: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running() as bench:
            await story(bench)

    run_virtual(run())


DONE = [
    (errors.BranchNotFound("x"), "not_found"),
    (errors.RequestNotFound("x"), "not_found"),
    (errors.RequestExpired("x"), "expired"),
    (errors.InvalidArgument.for_field("close.region", "x"), "invalid"),
]
RETRIED = [
    errors.Unavailable("x"),
    errors.NoLeader("x"),
    errors.Draining("x"),
    errors.DeadlineExceeded("x", definite=False),
    errors.LeaderChanged("x"),
    errors.ProposalTimeout("x"),
    errors.Disconnected("x"),
    errors.Overloaded("x"),
    errors.LimitExceeded("x"),
    errors.InternalError("x"),
    errors.OutcomeUnknown("x"),
    errors.AlreadyExists("x"),
]
DENIED = [errors.Unauthenticated("x"), errors.PermissionDenied("x")]


def name_of(error: object) -> str:
    return type(error).__name__


def test_every_class_of_error_has_a_row() -> None:
    rows = [*(error for error, _ in DONE), *RETRIED, *DENIED]
    for error in rows:
        assert verdict_of(error).settles == (error not in RETRIED and error not in DENIED)
    leaves = {"ServiceNotFound", "NotReady", "ReadOnly", "SubscriptionOverflow", "NotFound"}
    named = {name_of(error) for error in rows} | leaves
    assert named >= {cls.__name__ for cls in errors.all_error_classes().values()}


@pytest.mark.parametrize(("failure", "result"), DONE, ids=lambda value: name_of(value))
@pytest.mark.parametrize("whole_call", [False, True])
def test_answers_that_settle_a_close(
    failure: errors.RendezvousError, result: str, whole_call: bool
) -> None:
    async def story(bench: Bench) -> None:
        if whole_call:
            bench.service.call_faults = [failure]
        else:
            bench.service.item_fault = lambda _: failure
        bench.close("b1")
        assert await bench.closer.flush(timeout_s=1.0)
        assert bench.settled == {BranchId("b1"): CloseVerdict(result)}
        assert len(bench.service.calls) == 1
        assert bench.observer.answers == {result: 1}

    scenario(story)


@pytest.mark.parametrize("failure", RETRIED, ids=name_of)
@pytest.mark.parametrize("whole_call", [False, True])
def test_answers_after_which_the_same_close_is_sent_again(
    failure: errors.RendezvousError, whole_call: bool
) -> None:
    async def story(bench: Bench) -> None:
        fail_until = now_s() + 20.0
        if whole_call:
            bench.service.call_faults = [failure] * 6
        else:
            bench.service.item_fault = lambda _: failure if now_s() < fail_until else None
        bench.close("b1")
        assert await bench.closer.flush(timeout_s=60.0)
        assert bench.settled == {BranchId("b1"): CloseVerdict.CLOSED}
        assert set(bench.service.calls) == {(BranchClose(BranchId("b1"), EU),)}
        retries = bench.observer.answers["retry"]
        assert retries == 6 if whole_call else 5 < retries < 100, "with back-off, not in a spin"
        assert not bench.closer.denied

    scenario(story)


@pytest.mark.parametrize("failure", DENIED, ids=name_of)
@pytest.mark.parametrize("whole_call", [False, True])
def test_a_refused_identity_is_an_alarm_and_tried_again_rarely(
    failure: errors.RendezvousError, whole_call: bool
) -> None:
    async def story(bench: Bench) -> None:
        fail_until = now_s() + 100.0
        bench.service.item_fault = lambda _: failure if now_s() < fail_until else None
        if whole_call:
            bench.service.call_faults = [failure] * 4
            bench.service.item_fault = lambda _: None
        bench.close("b1")
        assert not await bench.closer.flush(timeout_s=90.0)
        assert bench.closer.denied
        assert len(bench.service.calls) <= 4
        assert await bench.closer.flush(timeout_s=90.0)
        assert not bench.closer.denied
        assert bench.settled == {BranchId("b1"): CloseVerdict.CLOSED}

    scenario(story)


def test_an_already_closed_branch_is_done() -> None:
    async def story(bench: Bench) -> None:
        branch_id = bench.service.register("b1")
        bench.service.settle(branch_id)
        bench.closer.close_soon(branch_id, is_global=False)
        assert await bench.closer.flush(timeout_s=1.0)
        assert bench.settled == {branch_id: CloseVerdict.ALREADY}

    scenario(story)


def test_a_global_branch_is_closed_with_an_empty_region() -> None:
    async def story(bench: Bench) -> None:
        branch_id = bench.service.register("b1", is_global=True)
        bench.closer.close_soon(branch_id, is_global=True)
        assert await bench.closer.flush(timeout_s=1.0)
        assert bench.settled == {branch_id: CloseVerdict.CLOSED}
        assert bench.service.calls == [(BranchClose(branch_id, Region("")),)]

    scenario(story)


def test_a_lost_answer_is_sent_again_and_found_already_closed() -> None:
    async def story(bench: Bench) -> None:
        bench.service.lost_answers = 2
        bench.close("b1", "b2")
        assert await bench.closer.flush(timeout_s=10.0)
        assert set(bench.settled.values()) == {CloseVerdict.ALREADY}
        assert len(set(bench.service.calls)) == 1, "the same batch again"

    scenario(story)


def test_one_close_at_fault_does_not_take_its_batch_with_it() -> None:
    async def story(bench: Bench) -> None:
        poison = BranchId("b37")
        real = bench.service.close_branches

        async def refuse(closes: list[BranchClose], *, timeout_s: float) -> object:
            if any(close.branch_id == poison for close in closes):
                raise errors.InvalidArgument.for_field("closes", "one is malformed")
            return await real(closes, timeout_s=timeout_s)

        bench.service.close_branches = refuse  # type: ignore[method-assign,assignment]
        bench.close(*(f"b{number}" for number in range(100)))
        assert await bench.closer.flush(timeout_s=10.0)
        assert bench.settled.pop(poison) is CloseVerdict.INVALID
        assert len(bench.settled) == 99
        assert set(bench.settled.values()) == {CloseVerdict.CLOSED}

    scenario(story)


def test_one_failing_item_never_fails_the_others() -> None:
    async def story(bench: Bench) -> None:
        unlucky = BranchId("b1")
        faults = [errors.NoLeader("x")] * 3
        bench.service.item_fault = lambda close: (
            faults.pop() if close.branch_id == unlucky and faults else None
        )
        bench.close("b0", "b1", "b2")
        await advance(0.001)
        assert set(bench.settled) == {BranchId("b0"), BranchId("b2")}
        assert await bench.closer.flush(timeout_s=10.0)
        assert set(bench.settled.values()) == {CloseVerdict.CLOSED}

    scenario(story)


def test_a_close_is_sent_at_once_when_nothing_is_in_flight() -> None:
    async def story(bench: Bench) -> None:
        begun = now_s()
        bench.close("b1")
        assert await bench.closer.flush(timeout_s=1.0)
        assert now_s() == begun

    scenario(story)


def test_closes_gather_while_a_batch_is_in_flight() -> None:
    async def story(bench: Bench) -> None:
        bench.service.close_takes_s = 0.050
        bench.close("b0")
        await advance(0.001)
        for number in range(1, 5):
            bench.close(f"b{number}")
            await advance(0.001)
        assert bench.observer.batches == [1]
        await advance(LINGER_S)
        assert bench.observer.batches == [1, 4]
        bench.close(*(f"c{number}" for number in range(BATCH_MAX + 10)))
        await advance(0.0)
        assert bench.observer.batches == [1, 4, BATCH_MAX], "a full batch does not linger"
        assert await bench.closer.flush(timeout_s=1.0)
        assert len(bench.settled) == 5 + BATCH_MAX + 10

    scenario(story)


def test_a_few_batches_are_in_flight_at_most() -> None:
    async def story(bench: Bench) -> None:
        count = (BATCHES_IN_FLIGHT_MAX + 6) * BATCH_MAX
        bench.service.close_takes_s = 0.050
        bench.close(*(f"b{number}" for number in range(count)))
        assert await bench.closer.flush(timeout_s=10.0)
        assert bench.service.in_flight_max == BATCHES_IN_FLIGHT_MAX
        assert max(bench.observer.batches) == BATCH_MAX
        assert len(bench.settled) == count

    scenario(story)


def test_a_service_that_is_away_gets_few_calls_and_then_everything() -> None:
    async def story(bench: Bench) -> None:
        bench.service.call_faults = [errors.Disconnected("away")] * 20
        number = 0
        while bench.service.call_faults:
            number += 1
            bench.close(f"b{number}")
            await advance(0.01)
        assert number > 1_000, "20 calls in more than 10 s"
        assert await bench.closer.flush(timeout_s=60.0)
        assert len(bench.settled) == number
        assert set(bench.settled.values()) == {CloseVerdict.CLOSED}

    scenario(story)


def test_closes_that_fail_as_a_whole_keep_their_order() -> None:
    async def story(bench: Bench) -> None:
        bench.service.call_faults = [errors.NoLeader("x")]
        bench.service.close_takes_s = 0.003
        bench.close("b0", "b1", "b2")
        await advance(0.001)
        bench.close("b3")  # while the call that fails is in flight
        assert await bench.closer.flush(timeout_s=10.0)
        assert [close.branch_id for close in bench.service.calls[-1]] == ["b0", "b1", "b2", "b3"]

    scenario(story)


def test_a_branch_on_its_way_is_not_taken_twice() -> None:
    async def story(bench: Bench) -> None:
        bench.close("b1")
        bench.closer.close_soon(BranchId("b1"), is_global=False)
        assert len(bench.closer) == 1
        assert await bench.closer.flush(timeout_s=1.0)
        assert bench.service.calls == [(BranchClose(BranchId("b1"), EU),)]

    scenario(story)


def test_answers_of_the_wrong_number_settle_nothing() -> None:
    async def story(bench: Bench) -> None:
        real = bench.service.close_branches
        wrong = [True]

        async def answer(closes: list[BranchClose], *, timeout_s: float) -> object:
            answers = await real(closes, timeout_s=timeout_s)
            return answers[:-1] if wrong and wrong.pop() else answers

        bench.service.close_branches = answer  # type: ignore[method-assign,assignment]
        bench.close("b1", "b2")
        assert await bench.closer.flush(timeout_s=10.0)
        assert set(bench.settled.values()) == {CloseVerdict.ALREADY}

    scenario(story)
