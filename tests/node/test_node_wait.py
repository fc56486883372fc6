"""Waiting: outcomes, the time-out, required branches, what is not known (semantics R1 to R4)."""

from __future__ import annotations

import pytest
from node_bench import NodeBench, branch, close, failure_of, scope

from rendezvous_raft import errors
from rendezvous_raft.core.commands import ExpireRequests
from rendezvous_raft.node.calls import OpenBranch
from rendezvous_raft.testing.virtual_time import advance, now_s
from rendezvous_raft.types import BranchId, Region, Service, Tag, WaitOutcome, Zone


async def test_nothing_open_is_immediate(bench: NodeBench) -> None:
    # semantics: R1, R2
    bench.opened(branch("b1", "us"))
    answer = await bench.wait(scope(region="eu"))
    assert answer.outcome is WaitOutcome.IMMEDIATE
    assert answer.blocked_for_s == 0
    assert answer.revision == 1
    assert answer.open_branches == ()
    assert bench.book.waits == [("immediate", "eu", False)]
    bench.nothing_is_left()


async def test_an_open_branch_blocks_until_it_is_closed(bench: NodeBench) -> None:
    # semantics: R1, R2, S3
    bench.opened(branch("b1", "eu", "us"))
    call = await bench.blocked(bench.wait(scope(region="eu")))
    await advance(2)
    bench.elsewhere(bench.closing(close("b1", "us")))
    await advance(3)
    assert not call.done()
    bench.elsewhere(bench.closing(close("b1", "eu")))
    answer = await call
    assert answer.outcome is WaitOutcome.BLOCKED
    assert answer.blocked_for_s == pytest.approx(5)
    assert answer.revision == 3
    assert answer.known
    assert bench.book.waits == [("blocked", "eu", True)]
    bench.nothing_is_left()


async def test_a_timed_out_wait_says_what_is_still_open(bench: NodeBench) -> None:
    # semantics: R2, R3, R2.1
    bench.opened(branch("b1", "eu", "us", tag="t", zone="z"))
    bench.elsewhere(bench.closing(close("b1", "us")))
    await advance(3)
    answer = await bench.wait(scope(), timeout_s=20)
    assert answer.outcome is WaitOutcome.TIMED_OUT
    assert answer.blocked_for_s == pytest.approx(20)
    assert answer.open_branches == (
        OpenBranch(
            branch_id=BranchId("b1"),
            service=Service("post"),
            tag=Tag("t"),
            zone=Zone("z"),
            regions=(Region("eu"),),
            age_s=23.0,
            registered=True,
        ),
    )
    assert bench.book.waits == [("timed_out", "", False)]
    bench.nothing_is_left()


async def test_at_most_ten_are_listed_missing_ones_first(bench: NodeBench) -> None:
    # semantics: R1, R2, R1.1, R2.1
    bench.opened(*(branch(f"b{i:02}") for i in range(12)))
    answer = await bench.wait(required=("m1", "b00", "m2"))
    shown = [(shown.branch_id, shown.registered) for shown in answer.open_branches]
    assert shown == [("m1", False), ("m2", False), *((f"b{i:02}", True) for i in range(8))]


async def test_a_clock_that_was_set_back_gives_no_negative_age(bench: NodeBench) -> None:
    # semantics: L1, R2, L1.1
    bench.opened(branch("b1"))
    bench.clock.wall_jump_ms = -3_600_000
    answer = await bench.wait(timeout_s=1)
    assert answer.outcome is WaitOutcome.TIMED_OUT
    assert answer.open_branches[0].age_s == 0


async def test_the_deadline_of_the_call_is_an_error(bench: NodeBench) -> None:
    # semantics: R3, G6, R3.2
    bench.opened(branch("b1"))
    deadline_s = now_s() + 5
    error = await failure_of(bench.wait(timeout_s=20, deadline_s=deadline_s))
    assert isinstance(error, errors.DeadlineExceeded)
    assert error.definite
    assert error.revision == 1
    assert now_s() == pytest.approx(deadline_s)
    assert bench.book.waits == [("deadline", "", False)]
    bench.nothing_is_left()


async def test_required_branches_count_as_open_until_registered(bench: NodeBench) -> None:
    # semantics: R1, R1.1
    bench.opened(branch("b1", "us"))
    call = await bench.blocked(bench.wait(scope(region="eu"), required=("b2",)))
    bench.opened(branch("b3", "us"))
    await advance(1)
    assert not call.done()
    bench.opened(branch("b2", "us"))
    assert (await call).outcome is WaitOutcome.BLOCKED


async def test_a_required_branch_that_is_open_when_registered_goes_on_blocking(
    bench: NodeBench,
) -> None:
    # semantics: R1, R1.1
    bench.opened(branch("b1", "us"))
    call = await bench.blocked(bench.wait(scope(region="eu"), required=("b2",)))
    bench.opened(branch("b2", "eu"))
    await advance(1)
    assert not call.done()
    bench.elsewhere(bench.closing(close("b2", "eu")))
    assert (await call).outcome is WaitOutcome.BLOCKED


async def test_required_branches_make_an_unknown_request_one_to_come(bench: NodeBench) -> None:
    # semantics: R1, R1.1
    call = await bench.blocked(bench.wait(scope(region="eu"), required=("b1",)))
    bench.elsewhere(bench.registering())
    await advance(1)
    assert not call.done()
    bench.opened(branch("b1", "us"))
    assert (await call).outcome is WaitOutcome.BLOCKED


async def test_required_branches_that_never_come_time_out(bench: NodeBench) -> None:
    # semantics: R1, R2, R1.1
    answer = await bench.wait(required=("b1",))
    assert answer.outcome is WaitOutcome.TIMED_OUT
    assert [shown.branch_id for shown in answer.open_branches] == ["b1"]


async def test_a_required_branch_of_another_request_does_not_count(bench: NodeBench) -> None:
    # semantics: R1, R1.1
    bench.opened(branch("b1", "us"), request_id="r2")
    bench.opened(branch("b2", "us"))
    answer = await bench.wait(scope(region="eu"), required=("b1",))
    assert answer.outcome is WaitOutcome.TIMED_OUT


async def test_a_wait_that_gives_up_on_an_unknown_request_says_so(bench: NodeBench) -> None:
    # semantics: R4, R2.1
    answer = await bench.wait(scope("post"), timeout_s=1, await_s=5)
    assert answer.outcome is WaitOutcome.TIMED_OUT
    assert not answer.known
    answer = await bench.wait(scope("post"), timeout_s=1, required=("b1",))
    assert answer.outcome is WaitOutcome.TIMED_OUT
    assert not answer.known
    bench.nothing_is_left()


async def test_an_unknown_request_is_not_found(bench: NodeBench) -> None:
    # semantics: G5
    started_s = now_s()
    with pytest.raises(errors.RequestNotFound):
        await bench.wait()
    assert now_s() == started_s
    assert bench.book.waits == [("request_not_found", "", False)]
    bench.nothing_is_left()


async def test_an_expired_request_is_no_answer(bench: NodeBench) -> None:
    # semantics: G5, G5.1
    bench.elsewhere(bench.registering(), expire_everything(bench))
    with pytest.raises(errors.RequestExpired):
        await bench.wait()
    with pytest.raises(errors.RequestExpired):
        await bench.wait(required=("b1",), await_s=5)


async def test_a_request_that_expires_under_a_wait_ends_it(bench: NodeBench) -> None:
    # semantics: 5.2, G5, G5.1
    bench.opened(branch("b1"))
    call = await bench.blocked(bench.wait())
    bench.elsewhere(expire_everything(bench))
    with pytest.raises(errors.RequestExpired):
        await call
    assert bench.book.waits == [("expired", "", False)]
    assert bench.book.expired == [("open", 1)]
    bench.nothing_is_left()


def expire_everything(bench: NodeBench) -> ExpireRequests:
    return ExpireRequests(bench.ids.command_id(), 0, 0, 1_000, (), 1_000)


async def test_what_was_never_used_is_an_empty_scope(bench: NodeBench) -> None:
    # semantics: R4
    bench.opened(branch("b1", "eu", tag="t"))
    for unknown in (scope("other"), scope(region="mars"), scope("post", tag="x")):
        answer = await bench.wait(unknown)
        assert answer.outcome is WaitOutcome.IMMEDIATE
        assert not answer.known


async def test_registration_can_be_awaited(bench: NodeBench) -> None:
    # semantics: R4, R4.1
    bench.opened(branch("b1", "eu"))
    call = await bench.blocked(bench.wait(scope("other", region="eu"), await_s=5))
    await advance(4)
    bench.opened(branch("b2", "us", service="other"), branch("b3", "eu", service="x"))
    assert (await call).outcome is WaitOutcome.BLOCKED


async def test_what_is_awaited_blocks_when_it_comes_open(bench: NodeBench) -> None:
    # semantics: R4, R4.1
    bench.opened(branch("b1", "eu"))
    call = await bench.blocked(bench.wait(scope("other", region="eu"), await_s=5))
    bench.opened(branch("b2", "eu", service="other"))
    await advance(10)
    assert not call.done()
    bench.elsewhere(bench.closing(close("b2", "eu")))
    answer = await call
    assert answer.outcome is WaitOutcome.BLOCKED
    assert answer.blocked_for_s == pytest.approx(10)


async def test_awaited_registration_ends_with_its_patience(bench: NodeBench) -> None:
    """Nothing was open and nothing came: no inconsistency was prevented."""
    # semantics: R2, R4, R4.1
    bench.opened(branch("b1", "eu"))
    answer = await bench.wait(scope("other"), await_s=5)
    assert answer.outcome is WaitOutcome.IMMEDIATE
    assert answer.blocked_for_s == pytest.approx(5)
    assert not answer.known
    assert answer.open_branches == ()
    assert now_s() == pytest.approx(1_005)
    assert bench.book.waits == [("immediate", "", False)]
    bench.nothing_is_left()


@pytest.mark.parametrize("registered_first", [True, False])
async def test_what_was_required_and_came_counts_also_when_patience_ends(
    bench: NodeBench, *, registered_first: bool
) -> None:
    # semantics: R1.1, R2, R4.1
    if registered_first:
        bench.opened(branch("b1", "eu"))
    call = await bench.blocked(bench.wait(scope("other"), required=("b2",), await_s=5))
    bench.opened(branch("b2", "us"))
    answer = await call
    assert answer.outcome is WaitOutcome.BLOCKED
    assert not answer.known
    assert now_s() == pytest.approx(1_005)


async def test_what_was_open_beside_counts_also_when_patience_ends(bench: NodeBench) -> None:
    # semantics: R2, R4.1
    bench.opened(branch("b1", "eu"))
    call = await bench.blocked(bench.wait(scope("post", "other"), await_s=5))
    bench.elsewhere(bench.closing(close("b1", "eu")))
    await advance(4.9)
    assert not call.done()
    answer = await call
    assert answer.outcome is WaitOutcome.BLOCKED
    assert not answer.known
    assert now_s() == pytest.approx(1_005)


async def test_awaited_requests_that_do_not_come_are_not_found(bench: NodeBench) -> None:
    # semantics: R4, G5, R4.1
    with pytest.raises(errors.RequestNotFound):
        await bench.wait(await_s=5)
    assert now_s() == pytest.approx(1_005)
    bench.nothing_is_left()


async def test_patience_beyond_the_time_out_ends_with_it(bench: NodeBench) -> None:
    # semantics: R3, R4, R4.1, R3.2
    bench.opened(branch("b1", "eu"))
    answer = await bench.wait(scope("other"), await_s=50, timeout_s=20)
    assert answer.outcome is WaitOutcome.TIMED_OUT
    assert not answer.known
    assert now_s() == pytest.approx(1_020)


async def test_an_awaited_request_that_expires_ends_the_wait(bench: NodeBench) -> None:
    # semantics: 5.2, R4, R4.1
    bench.elsewhere(bench.registering())
    call = await bench.blocked(bench.wait(scope("post"), await_s=5))
    bench.elsewhere(expire_everything(bench))
    with pytest.raises(errors.RequestExpired):
        await call


async def test_waiters_are_described_with_their_request(bench: NodeBench) -> None:
    # semantics: Q1
    bench.opened(branch("b1", "eu"))
    await bench.blocked(bench.wait(scope(region="eu")))
    await advance(3)
    described = await bench.describe()
    (waiter,) = described.waiters
    assert (waiter.node, waiter.scope) == ("n1", scope(region="eu"))
    assert waiter.blocked_for_s == pytest.approx(3)
