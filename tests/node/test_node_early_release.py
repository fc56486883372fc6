"""Early release: what a close does to this node's waits before it commits (semantics R6)."""

from __future__ import annotations

import asyncio

import pytest
from node_bench import LOCAL, R1, NodeBench, branch, close, scope

from rendezvous_raft import errors
from rendezvous_raft.testing.virtual_time import advance, settle
from rendezvous_raft.types import Status, WaitOutcome


@pytest.fixture
async def closing(bench: NodeBench) -> NodeBench:
    """Proposals of this node wait from now on."""
    bench.opened(branch("b1", "eu", "us"), branch("b2", "us"))
    bench.engine.holding = True
    return bench


async def status_in(bench: NodeBench, region: str) -> Status:
    answer = await bench.node.check(
        R1, scope(region=region), detailed=False, freshness=LOCAL, deadline_s=bench.deadline_s
    )
    return answer.status


async def test_waits_of_the_region_are_released_before_the_commit(closing: NodeBench) -> None:
    # semantics: R6
    waiting = await closing.blocked(closing.wait(scope(region="eu")))
    closed = await closing.blocked(closing.close_all(close("b1", "eu")))
    answer = await waiting
    assert answer.outcome is WaitOutcome.BLOCKED
    assert answer.revision == 1
    assert not closed.done()


async def test_waits_of_other_regions_and_of_all_stay(closing: NodeBench) -> None:
    # semantics: R6
    other = await closing.blocked(closing.wait(scope(region="us")))
    everywhere = await closing.blocked(closing.wait(scope()))
    await closing.blocked(closing.close_all(close("b1", "eu"), close("b2", "us")))
    assert not other.done()
    assert not everywhere.done()


async def test_a_wait_that_begins_meanwhile_sees_it_too(closing: NodeBench) -> None:
    # semantics: R6
    await closing.blocked(closing.close_all(close("b1", "eu")))
    answer = await closing.wait(scope(region="eu"))
    assert answer.outcome is WaitOutcome.IMMEDIATE


async def test_checks_see_committed_closes_only(closing: NodeBench) -> None:
    # semantics: R6, 5.5, R6.2
    await closing.blocked(closing.close_all(close("b1", "eu")))
    assert await status_in(closing, "eu") is Status.OPEN
    closing.engine.commit()
    assert await status_in(closing, "eu") is Status.CLOSED


@pytest.mark.parametrize(
    "error", [errors.NoLeader("none"), errors.LeaderChanged("lost"), errors.Overloaded("much")]
)
async def test_a_close_that_fails_blocks_again(
    closing: NodeBench, error: errors.RendezvousError
) -> None:
    # semantics: R6, R6.1
    closing.engine.fail_next(error)
    released = await closing.blocked(closing.wait(scope(region="eu")))
    with pytest.raises(type(error)):
        await closing.close_all(close("b1", "eu"))
    assert (await released).outcome is WaitOutcome.BLOCKED
    await closing.blocked(closing.wait(scope(region="eu")))


async def test_a_close_that_is_cancelled_blocks_again(closing: NodeBench) -> None:
    # semantics: R6, G7, R6.1
    call = await closing.blocked(closing.close_all(close("b1", "eu")))
    call.cancel()
    await settle()
    await closing.blocked(closing.wait(scope(region="eu")))


async def test_a_close_that_is_lost_blocks_again_at_its_deadline(closing: NodeBench) -> None:
    # semantics: R6, R6.1
    call = await closing.blocked(closing.close_all(close("b1", "eu")))
    closing.engine.lose()
    assert (await closing.wait(scope(region="eu"))).outcome is WaitOutcome.IMMEDIATE
    with pytest.raises(errors.ProposalTimeout):
        await call
    await closing.blocked(closing.wait(scope(region="eu")))


async def test_of_two_closes_the_one_that_is_left_still_counts(closing: NodeBench) -> None:
    # semantics: R6
    first = await closing.blocked(closing.close_all(close("b1", "eu")))
    second = await closing.blocked(closing.close_all(close("b1", "eu")))
    first.cancel()
    await settle()
    assert (await closing.wait(scope(region="eu"))).outcome is WaitOutcome.IMMEDIATE
    second.cancel()
    await settle()
    await closing.blocked(closing.wait(scope(region="eu")))


async def test_nothing_of_the_overlay_outlives_the_proposals(closing: NodeBench) -> None:
    # semantics: R6
    early = closing.node._waits._early
    assert early is not None
    calls = [
        await closing.blocked(closing.close_all(close("b1", "eu"), close("none", "eu")))
        for _ in range(3)
    ]
    assert early._counts
    closing.engine.commit()
    await asyncio.gather(*calls)
    assert early._counts == {}


async def test_a_close_is_no_early_release_of_what_it_cannot_close(closing: NodeBench) -> None:
    """A region that the branch does not have is refused by the state; so it releases nobody."""
    # semantics: R6, W4
    closing.opened(branch("g"), request_id="r2")
    waiting = await closing.blocked(closing.wait(scope(region="eu"), request_id="r2"))
    call = await closing.blocked(closing.close_all(close("g", "eu")))
    assert not waiting.done()
    closing.engine.commit()
    assert await call == ["region_not_of_branch"]
    assert not waiting.done()


async def test_closes_everywhere_wait_for_their_commit(closing: NodeBench) -> None:
    # semantics: R6
    waiting = await closing.blocked(closing.wait(scope(region="eu")))
    await closing.blocked(closing.close_all(close("b1", all_regions=True)))
    assert not waiting.done()
    closing.engine.commit()
    assert (await waiting).outcome is WaitOutcome.BLOCKED


async def test_required_branches_are_not_released_by_it(closing: NodeBench) -> None:
    # semantics: R1, R6, R1.1
    waiting = await closing.blocked(closing.wait(scope(region="eu"), required=("b9",)))
    await closing.blocked(closing.close_all(close("b9", "eu"), close("b1", "eu")))
    assert not waiting.done()


async def test_it_can_be_switched_off() -> None:
    # semantics: R6, R6.3
    bench = NodeBench(early_release=False)
    bench.opened(branch("b1", "eu"))
    bench.engine.holding = True
    waiting = await bench.blocked(bench.wait(scope(region="eu")))
    call = await bench.blocked(bench.close_all(close("b1", "eu")))
    await advance(1)
    assert not waiting.done()
    bench.engine.commit()
    assert await call == ["closed"]
    assert (await waiting).outcome is WaitOutcome.BLOCKED
    await bench.close()
