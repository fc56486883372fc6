"""Opening, draining, closing a node; what it tells of itself (semantics U4, G6)."""

from __future__ import annotations

import pytest
from node_bench import LINEARIZABLE, R1, NodeBench, Reader, branch, close, failure_of, key, scope

from rendezvous_raft import errors
from rendezvous_raft.core import snapshot
from rendezvous_raft.core.commands import EndWait, Pulse
from rendezvous_raft.testing.virtual_time import advance, now_s, settle
from rendezvous_raft.types import NodeName, Revision, Role


async def test_a_drain_ends_waits_and_streams(bench: NodeBench) -> None:
    # semantics: G6, U4
    bench.opened(branch("b1", "eu"))
    reader = Reader(bench, key())
    await reader.read()
    waiting = await bench.blocked(bench.wait(scope(region="eu")))
    bench.node.begin_drain()
    for ended in (await failure_of(waiting), await failure_of(reader.read())):
        assert isinstance(ended, errors.Draining)
        assert ended.definite
        assert ended.retryable
    assert bench.book.waits == [("draining", "eu", False)]
    assert bench.book.resyncs == ["draining"]
    bench.nothing_is_left()


async def test_a_node_that_was_removed_sends_its_callers_elsewhere(bench: NodeBench) -> None:
    """It hears of nothing any more: what is parked here would stay so for ever."""
    # semantics: U4
    bench.opened(branch("b1", "eu"))
    bench.engine.role = Role.FOLLOWER
    reader = Reader(bench, key())
    await reader.read()
    waiting = await bench.blocked(bench.wait(scope(region="eu")))
    bench.engine.removed = True
    await bench.node._expiry.pulse()
    for ended in (await failure_of(waiting), await failure_of(reader.read())):
        assert isinstance(ended, errors.Unavailable)
        assert ended.definite
        assert ended.retryable
    assert bench.book.resyncs == ["stalled"]
    bench.nothing_is_left()


async def test_a_node_that_has_halted_sends_its_callers_elsewhere(bench: NodeBench) -> None:
    """It applies nothing any more: who subscribes here would never be told of a new branch."""
    # semantics: U4, G6
    bench.opened(branch("b1", "eu"))
    reader = Reader(bench, key())
    await reader.read()
    parked = [
        await bench.blocked(bench.wait(scope(region="eu"))),
        await bench.blocked(bench.close_all(close("unknown"), await_s=60)),
    ]
    bench.engine.halted = "an entry of version 9"
    await bench.node._expiry.pulse()
    for ended in (*[await failure_of(call) for call in parked], await failure_of(reader.read())):
        assert isinstance(ended, errors.NotReady)
        assert "an entry of version 9" in ended.message
    for call in (bench.wait(), Reader(bench, key()).read()):
        assert isinstance(await failure_of(call), errors.NotReady)
    assert not bench.engine.proposed_of(Pulse)
    bench.nothing_is_left()


async def test_a_node_that_is_a_member_again_serves_again(bench: NodeBench) -> None:
    # semantics: U4
    bench.opened(branch("b1", "eu"))
    bench.engine.role = Role.FOLLOWER
    bench.engine.removed = True
    await bench.node._expiry.pulse()
    assert isinstance(await failure_of(bench.wait()), errors.NotReady)
    bench.engine.removed = False
    await bench.node._expiry.pulse()
    reader = Reader(bench, key())
    assert await reader.read()
    await reader.close()


async def test_a_draining_node_refuses_every_new_call(bench: NodeBench) -> None:
    bench.node.begin_drain()
    for call in (
        bench.register(branch("b1")),
        bench.node.register_request(R1, deadline_s=bench.deadline_s),
        bench.close_all(close("b1")),
        bench.wait(),
        Reader(bench, key()).read(),
    ):
        assert isinstance(await failure_of(call), errors.Draining)
    assert bench.engine.proposed == []
    assert bench.node.statistics().draining


async def test_a_wait_that_is_still_becoming_fresh_ends_too(bench: NodeBench) -> None:
    """It would park after the drain has ended the parked ones, and hold the node up."""
    bench.opened(branch("b1", "eu"))
    bench.engine.confirming = False
    waiting = await bench.blocked(bench.wait(freshness=LINEARIZABLE))
    bench.node.begin_drain()
    bench.engine.confirm()
    assert isinstance(await failure_of(waiting), errors.Draining)
    assert now_s() == 1_000
    bench.nothing_is_left()


async def test_what_is_proposed_goes_on_while_draining(bench: NodeBench) -> None:
    bench.engine.holding = True
    call = await bench.blocked(bench.register(branch("b1")))
    bench.node.begin_drain()
    await settle()
    assert not call.done()
    bench.engine.commit()
    assert await call == 1


async def test_a_drain_ends_what_waits_for_a_registration(bench: NodeBench) -> None:
    """Or a patient caller would hold the node up."""
    # semantics: G6, G7
    calls = [
        await bench.blocked(bench.register(branch("b1", parent="p1"), await_s=25)),
        await bench.blocked(bench.close_all(close("b9", "eu"), await_s=25)),
    ]
    bench.node.begin_drain()
    for call in calls:
        error = await failure_of(call)
        assert isinstance(error, errors.Draining)
        assert error.definite
        assert error.retryable
    assert now_s() == 1_000
    assert bench.engine.state.state.branches == {}
    bench.nothing_is_left()


async def test_a_drain_that_ends_a_close_half_way_says_that_some_may_be_done(
    bench: NodeBench,
) -> None:
    # semantics: G6, W5
    bench.opened(branch("b1", "eu"))
    call = await bench.blocked(bench.close_all(close("b1", "eu"), close("b9", "eu"), await_s=25))
    bench.node.begin_drain()
    error = await failure_of(call)
    assert isinstance(error, errors.OutcomeUnknown)
    assert not error.definite
    assert error.retryable
    assert error.revision == 2
    bench.nothing_is_left()


async def test_what_would_wait_for_a_registration_after_the_drain_began_does_not(
    bench: NodeBench,
) -> None:
    # semantics: G6
    bench.engine.holding = True
    call = await bench.blocked(bench.register(branch("b1", parent="p1"), await_s=25))
    bench.node.begin_drain()
    bench.engine.commit()
    assert isinstance(await failure_of(call), errors.Draining)
    assert now_s() == 1_000


async def test_a_drain_twice_is_one_drain(bench: NodeBench) -> None:
    reader = Reader(bench, key())
    await reader.read()
    bench.node.begin_drain()
    bench.node.begin_drain()
    assert bench.book.resyncs == ["draining"]
    await reader.close()


async def test_closing_ends_leases_before_the_engine(bench: NodeBench) -> None:
    # semantics: R7, R7.1
    bench.opened(branch("b1", zone="a"))
    await bench.blocked(bench.wait(scope(zone="")))
    assert len(bench.engine.state.state.leases) == 1
    await bench.node.close()
    assert bench.engine.state.state.leases == {}
    assert bench.engine.closed
    assert len(bench.engine.proposed_of(EndWait)) == 1


async def test_closing_does_not_wait_for_ever_for_leases(bench: NodeBench) -> None:
    bench.opened(branch("b1", zone="a"))
    await bench.blocked(bench.wait(scope(zone="")))
    bench.engine.holding = True
    await bench.node.close()
    assert bench.engine.closed
    assert now_s() == pytest.approx(1_001)


async def test_an_opened_node_pulses_until_it_is_closed(bench: NodeBench) -> None:
    # semantics: L1
    bench.opened(branch("b1"))
    await bench.node.open()
    assert bench.engine.opened
    await advance(3.5)
    assert len(bench.engine.proposed_of(Pulse)) == 2
    await bench.node.close()
    await advance(10)
    assert len(bench.engine.proposed_of(Pulse)) == 2


async def test_statistics_are_a_picture_of_one_instant(bench: NodeBench) -> None:
    bench.opened(branch("b1", "eu", "us"), branch("b2"))
    bench.opened(branch("b3", "eu"), request_id="r2")
    reader = Reader(bench, key())
    await reader.read()
    await bench.blocked(bench.wait(scope(region="eu")))
    bench.engine.holding = True
    await bench.blocked(bench.register(branch("b4")))
    before = bench.node.statistics()
    bench.opened(branch("b5", "eu"), branch("b6", "eu"))
    after = bench.node.statistics()
    assert before.revision == Revision(2)
    assert (before.requests, before.branches_open) == (2, 3)
    assert before.branches_open_by_region == {"eu": 2, "us": 1, "": 1}
    assert (before.waits_in_progress, before.proposals_in_flight) == (1, 1)
    assert before.subscribers == {("post", "eu"): 1}
    assert (before.subscription_queue_len_longest, before.draining) == (0, False)
    assert (after.branches_open, after.subscription_queue_len_longest) == (5, 2)
    await reader.close()
    assert bench.node.statistics().subscribers == {}


async def test_the_digest_is_of_a_state_that_is_new_enough(bench: NodeBench) -> None:
    bench.engine.lagging = True
    bench.opened(branch("b1"))
    digest = bench.node.digest(Revision(1), deadline_s=bench.deadline_s)
    call = await bench.blocked(digest)
    bench.engine.catch_up()
    assert await call == (1, snapshot.digest(bench.engine.state.state))
    late = bench.node.digest(Revision(2), deadline_s=now_s() + 1)
    assert isinstance(await failure_of(late), errors.DeadlineExceeded)


async def test_operating_the_engine_goes_through(bench: NodeBench) -> None:
    bench.opened(branch("b1"))
    assert bench.node.status() == bench.engine.status()
    assert (await bench.node.take_snapshot()).revision == 1
    successor = await bench.node.transfer_leadership(None, deadline_s=bench.deadline_s)
    assert successor == NodeName("n2")
