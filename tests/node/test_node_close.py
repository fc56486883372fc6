"""Closing: an outcome per close, waiting for branches to appear (semantics W4 to W6)."""

from __future__ import annotations

import pytest
from node_bench import NodeBench, branch, close, failure_of

from rendezvous_raft import errors
from rendezvous_raft.core.commands import CloseBranches
from rendezvous_raft.testing.virtual_time import advance, now_s, settle


async def test_one_outcome_per_close_in_order(bench: NodeBench) -> None:
    # semantics: W4, W5
    bench.opened(branch("b1", "eu", "us"), branch("b2"))
    outcomes = await bench.close_all(
        close("b1", "eu"),
        close("none", "eu"),
        close("b1", "mars"),
        close("b1", "eu"),
        close("b2"),
        close("b1", all_regions=True),
    )
    assert outcomes == [
        "closed",
        "branch_unknown",
        "region_not_of_branch",
        "already_closed",
        "closed",
        "closed",
    ]
    assert bench.book.closed == [("eu", 1), ("", 1), ("us", 1)]
    assert len(bench.engine.proposed) == 1


async def test_all_closes_of_a_call_are_one_command_with_the_time(bench: NodeBench) -> None:
    # semantics: W5, L1
    await bench.close_all(close("x"), close("y"))
    (command,) = bench.engine.proposed
    assert isinstance(command, CloseBranches)
    assert command.at_ms == bench.clock.wall_ms()
    assert command.closes == (close("x"), close("y"))


async def test_an_unknown_branch_is_an_outcome_and_no_error(bench: NodeBench) -> None:
    # semantics: W5
    started_s = now_s()
    assert await bench.close_all(close("b1", "eu")) == ["branch_unknown"]
    assert now_s() == started_s


async def test_a_branch_is_awaited_and_closed_when_it_appears(bench: NodeBench) -> None:
    # semantics: W4, W4.3
    call = await bench.blocked(bench.close_all(close("b1", "eu"), await_s=5))
    await advance(4.9)
    assert not call.done()
    bench.opened(branch("b1", "eu"))
    assert await call == ["closed"]
    assert now_s() == pytest.approx(1_004.9)
    bench.nothing_is_left()


async def test_only_what_was_unknown_is_sent_again(bench: NodeBench) -> None:
    # semantics: W5, W4.3
    bench.opened(branch("known", "eu"))
    call = await bench.blocked(
        bench.close_all(close("known", "eu"), close("later", "eu"), await_s=5)
    )
    bench.opened(branch("later", "eu"))
    assert await call == ["closed", "closed"]
    again = bench.engine.proposed[-1]
    assert isinstance(again, CloseBranches)
    assert again.closes == (close("later", "eu"),)


async def test_a_branch_that_never_appears_fails_no_other_one(bench: NodeBench) -> None:
    # semantics: W5
    call = await bench.blocked(
        bench.close_all(close("never", "eu"), close("later", "eu"), await_s=5)
    )
    bench.opened(branch("later", "eu"))
    assert await call == ["branch_unknown", "closed"]
    assert now_s() == pytest.approx(1_005)
    bench.nothing_is_left()


async def test_patience_ends(bench: NodeBench) -> None:
    # semantics: W4, G7, W4.2, W4.3
    assert await bench.close_all(close("b1", "eu"), await_s=5) == ["branch_unknown"]
    assert now_s() == pytest.approx(1_005)
    assert len(bench.engine.proposed) == 1
    bench.nothing_is_left()


async def test_a_branch_that_is_registered_while_the_close_is_on_its_way(
    bench: NodeBench,
) -> None:
    # semantics: W4, W4.3
    bench.engine.holding = True
    call = await bench.blocked(bench.close_all(close("b1", "eu"), await_s=5))
    bench.engine.commit()
    bench.opened(branch("b1", "eu"))
    bench.engine.holding = False
    assert await call == ["closed"]


async def test_a_cancelled_close_awaits_no_more(bench: NodeBench) -> None:
    # semantics: G7
    call = await bench.blocked(bench.close_all(close("b1", "eu"), await_s=5))
    call.cancel()
    await settle()
    bench.nothing_is_left()


async def test_a_proposal_that_fails_is_told(bench: NodeBench) -> None:
    # semantics: G6
    bench.opened(branch("b1", "eu"))
    bench.engine.fail_next(errors.NoLeader("nobody"))
    error = await failure_of(bench.close_all(close("b1", "eu")))
    assert isinstance(error, errors.NoLeader)
    assert error.definite
    assert await bench.close_all(close("b1", "eu")) == ["closed"]


async def test_what_fails_after_some_are_closed_is_not_definite(bench: NodeBench) -> None:
    # semantics: G6, G6.1
    bench.opened(branch("known", "eu"))
    call = await bench.blocked(
        bench.close_all(close("known", "eu"), close("later", "eu"), await_s=5)
    )
    bench.engine.fail_next(errors.NoLeader("nobody"))
    bench.opened(branch("later", "eu"))
    error = await failure_of(call)
    assert isinstance(error, errors.OutcomeUnknown)
    assert not error.definite
    assert await bench.close_all(close("known", "eu"), close("later", "eu")) == [
        "already_closed",
        "closed",
    ]
    bench.nothing_is_left()


async def test_what_fails_before_any_is_closed_is_definite(bench: NodeBench) -> None:
    # semantics: G6
    bench.opened(branch("known", "eu"))
    await bench.close_all(close("known", "eu"))
    call = await bench.blocked(
        bench.close_all(close("known", "eu"), close("later", "eu"), await_s=5)
    )
    bench.engine.fail_next(errors.NoLeader("nobody"))
    bench.opened(branch("later", "eu"))
    error = await failure_of(call)
    assert isinstance(error, errors.NoLeader)
    assert error.definite
    bench.nothing_is_left()


async def test_closes_of_an_expired_request_say_so(bench: NodeBench) -> None:
    # semantics: W5, G5, G5.1
    bench.opened(branch("b1", "eu"))
    state = bench.engine.state.state
    request = state.requests.pop(next(iter(state.requests)))
    assert request.request_id == "r1"
    state.branches.clear()
    state.expired_branches[request.branches[0].branch_id] = request.request_id
    assert await bench.close_all(close("b1", "eu"), await_s=5) == ["request_expired"]
    assert now_s() == 1_000
