"""Waiting: no lost wake-up, predicate before clock, nothing left behind (semantics R3, R5, G7)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from node_bench import (
    LINEARIZABLE,
    LOCAL,
    NodeBench,
    branch,
    close,
    failure_of,
    scope,
    session,
)

from rendezvous_raft import errors
from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import Scope
from rendezvous_raft.core.model import Branch, Request, State
from rendezvous_raft.node.calls import Freshness
from rendezvous_raft.testing.virtual_time import advance, now_s, run_virtual, settle, take_turns
from rendezvous_raft.types import WaitOutcome

TURNS = 15
"""More than any call here takes from its begin to its parking, and from its release to its end."""


@pytest.mark.parametrize("freshness", [LOCAL, LINEARIZABLE, session(1)], ids=str)
@pytest.mark.parametrize("early", [True, False])
def test_a_close_at_any_turn_wakes(freshness: Freshness, *, early: bool) -> None:
    """Whatever turn of the loop a close is applied in, the wait sees it without time passing."""
    # semantics: R5, R5.1
    seen: Counter[WaitOutcome] = Counter()

    async def close_at(turn: int) -> None:
        bench = NodeBench(early_release=early)
        bench.opened(branch("b1", "eu"))
        started_s = now_s()
        call = bench.start(bench.wait(scope(region="eu"), freshness=freshness))
        await take_turns(turn)
        bench.elsewhere(bench.closing(close("b1", "eu")))
        answer = await call
        assert now_s() == started_s, f"turn {turn}"
        assert answer.revision >= freshness.min_revision
        seen[answer.outcome] += 1
        bench.nothing_is_left()
        await bench.close()

    for turn in range(TURNS):
        run_virtual(close_at(turn))
    assert seen[WaitOutcome.IMMEDIATE] > 0
    assert seen[WaitOutcome.BLOCKED] > 0
    assert seen.total() == TURNS


async def test_whoever_waits_looks_once_at_all_that_a_turn_brought_about(
    bench: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look may cost as much as is open; one for each close would hold the node up for seconds."""
    # semantics: R5, R6
    bench.opened(*(branch(f"b{i}", "eu", "us") for i in range(20)))
    waits = [await bench.blocked(bench.wait(scope(region="eu"))) for _ in range(3)]
    looks = Counter[str]()
    open_in_scope = queries.open_in_scope

    def counted(
        state: State, request: Request, in_scope: Scope, *, mutual_waits: bool = True
    ) -> Iterator[Branch]:
        looks["from the begin"] += 1
        return open_in_scope(state, request, in_scope, mutual_waits=mutual_waits)

    monkeypatch.setattr(queries, "open_in_scope", counted)
    bench.elsewhere(bench.closing(*(close(f"b{i}", "eu") for i in range(1, 10))))
    assert not looks, "what held them at first still does"
    bench.elsewhere(bench.closing(*(close(f"b{i}", "eu") for i in (0, 10, 11))))
    assert looks == {"from the begin": 3}
    looks.clear()
    await bench.close_all(*(close(f"b{i}", "eu") for i in range(12, 20)))
    assert looks == {"from the begin": 3}, "when they came; then nobody waited any more"
    for call in waits:
        assert (await call).outcome is WaitOutcome.BLOCKED


def test_a_close_through_this_node_at_any_turn_wakes() -> None:
    # semantics: R5, R6, R5.1
    async def close_at(turn: int) -> None:
        bench = NodeBench()
        bench.opened(branch("b1", "eu"))
        call = bench.start(bench.wait(scope(region="eu"), freshness=LINEARIZABLE))
        await take_turns(turn)
        assert await bench.close_all(close("b1", "eu")) == ["closed"]
        await call
        assert now_s() == 1_000
        await bench.close()

    for turn in range(TURNS):
        run_virtual(close_at(turn))


def test_a_registration_at_any_turn_wakes_who_requires_it() -> None:
    # semantics: R1, R5, R1.1, R5.1
    async def register_at(turn: int) -> None:
        bench = NodeBench()
        call = bench.start(bench.wait(scope(region="eu"), required=("b1",)))
        await take_turns(turn)
        bench.opened(branch("b1", "us"))
        await call
        assert now_s() == 1_000
        await bench.close()

    for turn in range(TURNS):
        run_virtual(register_at(turn))


def test_a_snapshot_at_any_turn_wakes() -> None:
    # semantics: R5, R5.1
    async def replace_at(turn: int) -> None:
        bench = NodeBench()
        bench.opened(branch("b1", "eu"))
        call = bench.start(bench.wait(scope(region="eu")))
        await take_turns(turn)
        bench.engine.lagging = True
        bench.elsewhere(bench.closing(close("b1", "eu")))
        bench.engine.catch_up_by_snapshot()
        await call
        assert now_s() == 1_000
        await bench.close()

    for turn in range(TURNS):
        run_virtual(replace_at(turn))


@pytest.mark.parametrize("turn", range(TURNS))
async def test_a_cancel_at_any_turn_leaves_nothing_behind(bench: NodeBench, turn: int) -> None:
    # semantics: G7, G7.1
    bench.opened(branch("b1", "eu"))
    call = bench.start(bench.wait(scope(zone="a"), freshness=LINEARIZABLE, await_s=5))
    await take_turns(turn)
    call.cancel()
    await settle()
    assert call.cancelled()
    assert bench.book.waits in ([("cancelled", "", False)], [])
    bench.nothing_is_left()
    assert bench.engine.state.state.leases == {}


async def test_the_predicate_is_looked_at_before_the_clock(bench: NodeBench) -> None:
    """A close in the very turn in which the time ends: it is seen."""
    # semantics: R3, R3.3
    bench.opened(branch("b1", "eu"))
    call = await bench.blocked(bench.wait(scope(region="eu"), timeout_s=20))
    closing = bench.closing(close("b1", "eu"))
    loop = asyncio.get_running_loop()
    loop.call_at(1_020, bench.elsewhere, closing)
    assert (await call).outcome is WaitOutcome.BLOCKED
    assert now_s() == 1_020


async def test_a_state_that_changed_without_a_word_is_seen_at_the_end(bench: NodeBench) -> None:
    # semantics: R3, R3.3
    bench.opened(branch("b1", "eu"))
    call = await bench.blocked(bench.wait(scope(region="eu"), timeout_s=20))
    bench.engine.set_listener(lambda _batch: None, lambda: None)
    bench.elsewhere(bench.closing(close("b1", "eu")))
    answer = await call
    assert answer.outcome is WaitOutcome.BLOCKED
    assert now_s() == 1_020


async def test_many_waiters_are_woken_by_what_concerns_them(bench: NodeBench) -> None:
    # semantics: R5, R5.1
    bench.opened(branch("b1", "eu", "us"))
    bench.opened(branch("b2", "eu"), request_id="r2")
    calls = {
        name: await bench.blocked(bench.wait(in_scope, request_id=request_id))
        for name, in_scope, request_id in (
            ("eu", scope(region="eu"), "r1"),
            ("us", scope(region="us"), "r1"),
            ("all", scope(), "r1"),
            ("other", scope(), "r2"),
        )
    }
    assert bench.node.statistics().waits_in_progress == 4
    bench.elsewhere(bench.closing(close("b1", "eu")))
    await settle()
    assert [name for name, call in calls.items() if call.done()] == ["eu"]
    bench.elsewhere(bench.closing(close("b1", "us")))
    await settle()
    assert [name for name, call in calls.items() if call.done()] == ["eu", "us", "all"]


async def test_a_global_branch_wakes_every_region(bench: NodeBench) -> None:
    # semantics: S3, W4, S3.1, W4.5
    bench.opened(branch("g"))
    calls = [
        await bench.blocked(bench.wait(scope(region=region))) for region in ("eu", "us", "mars", "")
    ]
    bench.elsewhere(bench.closing(close("g")))
    assert [(await call).outcome for call in calls] == [WaitOutcome.BLOCKED] * 4


async def test_a_branch_opened_between_wake_up_and_answer_does_not_undo_the_release(
    bench: NodeBench,
) -> None:
    """The answer is as of the look that released: at that revision nothing was open."""
    # semantics: R2, R5
    bench.opened(branch("b1", "eu"))
    call = await bench.blocked(bench.wait(scope(region="eu")))
    bench.elsewhere(bench.closing(close("b1", "eu")))
    bench.opened(branch("b2", "eu"))
    answer = await call
    assert answer.outcome is WaitOutcome.BLOCKED
    assert answer.revision == 2


async def test_session_reads_wait_for_their_revision(bench: NodeBench) -> None:
    # semantics: G3, G4, G3.2
    bench.engine.lagging = True
    bench.opened(branch("b1", "eu"))
    call = await bench.blocked(bench.wait(scope(region="eu"), freshness=session(1)))
    assert bench.engine.barriers == 0
    bench.engine.catch_up()
    await settle()
    assert not call.done()
    bench.elsewhere(bench.closing(close("b1", "eu")))
    bench.engine.catch_up()
    assert (await call).outcome is WaitOutcome.BLOCKED


async def test_linearizable_reads_wait_for_everything_acknowledged(bench: NodeBench) -> None:
    # semantics: G3, G4, G3.3
    bench.engine.lagging = True
    bench.opened(branch("b1", "us"))
    call = await bench.blocked(bench.wait(scope(region="eu"), freshness=LINEARIZABLE))
    assert bench.engine.barriers == 1
    bench.engine.catch_up()
    answer = await call
    assert (answer.outcome, answer.revision) == (WaitOutcome.IMMEDIATE, 1)


async def test_local_reads_answer_from_what_is_there(bench: NodeBench) -> None:
    # semantics: G3, G3.4
    bench.engine.confirming = False
    bench.opened(branch("b1", "us"))
    bench.engine.lagging = True
    bench.opened(branch("b2", "eu"))
    assert (await bench.wait(scope(region="eu"))).revision == 1
    assert bench.engine.barriers == 0


async def test_never_an_older_answer(bench: NodeBench) -> None:
    # semantics: G4, G6, G7
    bench.opened(branch("b1", "us"))
    bench.engine.lagging = True
    bench.opened(branch("b2", "us"))
    for freshness in (session(2), LINEARIZABLE):
        error = await failure_of(bench.wait(scope(region="eu"), freshness=freshness, timeout_s=3))
        assert isinstance(error, errors.DeadlineExceeded)
        assert error.definite
    bench.engine.confirming = False
    error = await failure_of(bench.wait(scope(region="eu"), freshness=LINEARIZABLE, timeout_s=3))
    assert isinstance(error, errors.NoLeader)
    assert now_s() == pytest.approx(1_009)
    bench.nothing_is_left()


async def test_the_time_to_become_fresh_counts(bench: NodeBench) -> None:
    """One deadline covers the whole call."""
    # semantics: R3, R3.2
    bench.opened(branch("b1", "eu"))
    bench.engine.confirming = False
    call = await bench.blocked(bench.wait(freshness=LINEARIZABLE, timeout_s=20))
    await advance(8)
    bench.engine.confirm()
    answer = await call
    assert answer.outcome is WaitOutcome.TIMED_OUT
    assert answer.blocked_for_s == pytest.approx(12)
    assert now_s() == pytest.approx(1_020)


async def test_after_the_first_look_only_the_local_replica_is_asked(bench: NodeBench) -> None:
    # semantics: R5
    bench.opened(branch("b1", "eu"))
    call = await bench.blocked(bench.wait(scope(region="eu"), freshness=LINEARIZABLE))
    bench.engine.confirming = False
    bench.elsewhere(bench.closing(close("b1", "eu")))
    assert (await call).outcome is WaitOutcome.BLOCKED
    assert bench.engine.barriers == 1
