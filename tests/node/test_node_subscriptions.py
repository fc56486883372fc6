"""Subscriptions: list, SYNCED, then watch; slow readers; ends (semantics U1 to U4)."""

from __future__ import annotations

import pytest
from node_bench import NodeBench, Reader, branch, close, failure_of, ids_of, key

from rendezvous_raft import errors
from rendezvous_raft.core.commands import Command, ExpireRequests
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.calls import BranchIsClosed, BranchIsOpen, Synced
from rendezvous_raft.testing.virtual_time import run_virtual, settle, take_turns
from rendezvous_raft.types import BranchId, RequestId, Revision, Tag


async def test_what_is_open_is_listed_oldest_first_then_synced(bench: NodeBench) -> None:
    # semantics: U1, U2, U2.1
    bench.opened(
        branch("b1", "eu", "us"),
        branch("b2", "us"),
        branch("b3"),
        branch("b4", "eu", service="other"),
        branch("b5", "eu", monitored=False),
        branch("b6", regionless=True),
    )
    bench.opened(branch("b7", "eu"), request_id="r2")
    bench.opened(branch("b8", "eu"))
    bench.elsewhere(bench.closing(close("b8", "eu")))
    events = await Reader(bench, key()).read()
    assert ids_of(events) == ["b1", "b3", "b7", "SYNCED"]
    assert events[-1] == Synced(Revision(4))


async def test_an_event_says_all_that_a_monitor_needs(bench: NodeBench) -> None:
    # semantics: U1, W2
    at_ms = bench.clock.wall_ms()
    bench.opened(branch("b1", tag="t"))
    listed, _ = await Reader(bench, key()).read()
    reader = Reader(bench, key(region="us"))
    await reader.read()
    bench.opened(branch("b2", "us", tag="t"), request_id="r2")
    (watched,) = await reader.read()
    assert listed == BranchIsOpen(
        branch_id=BranchId("b1"),
        request_id=RequestId("r1"),
        tag=Tag("t"),
        locator=b"",
        registered_at_ms=at_ms,
        is_global=True,
        revision=Revision(1),
    )
    assert watched == BranchIsOpen(
        branch_id=BranchId("b2"),
        request_id=RequestId("r2"),
        tag=Tag("t"),
        locator=b"",
        registered_at_ms=at_ms,
        is_global=False,
        revision=Revision(2),
    )


async def test_after_the_list_comes_what_is_applied_in_order(bench: NodeBench) -> None:
    # semantics: U1, U2, U1.1
    reader = Reader(bench, key())
    assert ids_of(await reader.read()) == ["SYNCED"]
    bench.opened(branch("b1", "eu"), branch("b2", "us"), branch("b3"))
    bench.opened(branch("b4", "eu", service="other"), branch("b5", "eu", monitored=False))
    bench.opened(branch("b6", regionless=True), branch("b7", "eu"))
    bench.elsewhere(bench.closing(close("b1", "eu"), close("b2", "us")))
    events = await reader.read()
    assert ids_of(events) == ["b1", "b3", "b7", "b1"]
    assert events[-1] == BranchIsClosed(
        BranchId("b1"), RequestId("r1"), is_global=False, revision=Revision(4)
    )
    await reader.read_nothing()
    await reader.close()


def test_nothing_is_missed_between_list_and_watch() -> None:
    """Whatever turn a branch is applied in, it is delivered, and exactly once."""

    # semantics: U1, U2
    async def open_at(turn: int) -> None:
        bench = NodeBench()
        reader = Reader(bench, key())
        reading = bench.start(reader.read())
        await take_turns(turn)
        bench.opened(branch("b1", "eu"))
        events = await reading
        if ids_of(events) == ["SYNCED"]:
            events += await reader.read()
        assert sorted(ids_of(events)) == ["SYNCED", "b1"]
        await reader.read_nothing()
        await reader.close()
        await bench.close()

    for turn in range(10):
        run_virtual(open_at(turn))


async def test_closes_of_global_branches_reach_every_region(bench: NodeBench) -> None:
    # semantics: U1, W4, U1.1, W4.5
    readers = [Reader(bench, key(region=region)) for region in ("eu", "us")]
    bench.opened(branch("g"))
    for reader in readers:
        assert ids_of(await reader.read()) == ["g", "SYNCED"]
    bench.elsewhere(bench.closing(close("g")))
    for reader in readers:
        (event,) = await reader.read()
        assert isinstance(event, BranchIsClosed)
        assert event.is_global
        await reader.close()


async def test_closes_of_what_nobody_was_told_are_not_told(bench: NodeBench) -> None:
    # semantics: U1
    bench.opened(branch("b1", "eu", monitored=False), branch("b2", regionless=True))
    reader = Reader(bench, key())
    await reader.read()
    bench.elsewhere(bench.closing(close("b1", "eu"), close("b2", all_regions=True)))
    await reader.read_nothing()
    await reader.close()


async def test_tags_filter_list_and_watch(bench: NodeBench) -> None:
    # semantics: U1, U1.2
    bench.opened(*(branch(f"b{tag}", "eu", tag=tag) for tag in ("", "x", "y", "z")))
    reader = Reader(bench, key(tags=("x", "z")))
    assert ids_of(await reader.read()) == ["bx", "bz", "SYNCED"]
    bench.opened(branch("cy", "eu", tag="y"), branch("cz", "eu", tag="z"))
    bench.elsewhere(bench.closing(close("by", "eu"), close("bx", "eu")))
    assert ids_of(await reader.read()) == ["cz", "bx"]
    await reader.close()


async def test_a_resumed_stream_lists_what_came_after(bench: NodeBench) -> None:
    # semantics: U1, U1.3
    bench.opened(branch("b1", "eu"))
    bench.opened(branch("b2", "eu"))
    assert ids_of(await Reader(bench, key(resume=1)).read()) == ["b2", "SYNCED"]
    assert ids_of(await Reader(bench, key(resume=99)).read()) == ["SYNCED"]


async def test_an_expired_request_closes_its_branches(bench: NodeBench) -> None:
    # semantics: L2, U1, U1.1
    bench.opened(branch("b1", "eu", "us"), branch("b2"), branch("b3", "us"))
    bench.elsewhere(bench.closing(close("b1", "us")))
    readers = {region: Reader(bench, key(region=region)) for region in ("eu", "us")}
    for reader in readers.values():
        await reader.read()
    bench.elsewhere(ExpireRequests(bench.ids.command_id(), 0, 0, 1_000, (), 10))
    assert ids_of(await readers["eu"].read()) == ["b1", "b2"]
    assert ids_of(await readers["us"].read()) == ["b2", "b3"]
    for reader in readers.values():
        await reader.close()


async def test_a_slow_reader_is_ended_and_no_other_one() -> None:
    # semantics: U3
    bench = NodeBench(limits=NodeLimits(subscription_queue_len_max=5))
    slow, quick = Reader(bench, key()), Reader(bench, key())
    for reader in (slow, quick):
        assert ids_of(await reader.read()) == ["SYNCED"]
    for i in range(6):
        bench.opened(branch(f"b{i}", "eu"))
        assert ids_of(await quick.read()) == [f"b{i}"]
    error = await failure_of(slow.read())
    assert isinstance(error, errors.SubscriptionOverflow)
    assert error.details == {"limit": "subscription_queue_len_max"}
    assert error.retryable
    assert bench.book.resyncs == ["overflow"]
    again = Reader(bench, key())
    assert ids_of(await again.read()) == [*(f"b{i}" for i in range(6)), "SYNCED"]
    for reader in (slow, quick, again):
        await reader.close()
    assert bench.node.statistics().subscribers == {}
    await bench.close()


async def test_a_long_list_is_no_overflow() -> None:
    """The list is bounded by the state; the queue's bound is for what follows."""
    # semantics: U3
    bench = NodeBench(limits=NodeLimits(subscription_queue_len_max=5))
    bench.opened(*(branch(f"b{i}", "eu") for i in range(20)))
    assert len(await Reader(bench, key()).read()) == 21
    assert bench.book.resyncs == []
    await bench.close()


async def test_a_snapshot_ends_streams_so_that_they_list_anew(bench: NodeBench) -> None:
    # semantics: U2, U4
    reader = Reader(bench, key())
    await reader.read()
    bench.engine.lagging = True
    bench.opened(branch("b1", "eu"))
    bench.engine.catch_up_by_snapshot()
    assert isinstance(await failure_of(reader.read()), errors.SubscriptionOverflow)
    assert bench.book.resyncs == ["snapshot"]
    assert ids_of(await Reader(bench, key()).read()) == ["b1", "SYNCED"]


async def test_subscribers_per_key_are_bounded() -> None:
    # semantics: L3
    bench = NodeBench(limits=NodeLimits(subscribers_per_key_max=2))
    readers = [Reader(bench, key()) for _ in range(2)]
    for reader in readers:
        await reader.read()
    error = await failure_of(Reader(bench, key()).read())
    assert isinstance(error, errors.LimitExceeded)
    assert error.details == {"limit": "subscribers_per_key_max", "value": "2"}
    assert bench.book.limits == ["subscribers_per_key_max"]
    for other in (key(region="us"), key("other")):
        await Reader(bench, other).read()
    await readers[0].close()
    assert ids_of(await Reader(bench, key()).read()) == ["SYNCED"]
    await bench.close()


@pytest.mark.parametrize("turn", range(4))
async def test_a_reader_that_goes_is_forgotten(bench: NodeBench, turn: int) -> None:
    # semantics: G7
    reader = Reader(bench, key())
    reading = bench.start(reader.read())
    await take_turns(turn)
    reading.cancel()
    await reader.close()
    await settle()
    assert bench.node.statistics().subscribers == {}
    assert bench.node._subscriptions._by_service == {}


async def test_a_stream_is_taken_up_on_another_node(bench: NodeBench) -> None:
    """Its queue is part of the replicated state, so any node lists what the first one did not."""
    # semantics: U2, U4, U1.3
    other = NodeBench()
    nodes = (bench, other)

    def happens(*commands: Command) -> None:
        for node in nodes:
            node.elsewhere(*commands)

    reader = Reader(bench, key())
    happens(bench.registering(branch("b1", "eu"), branch("b2", "eu")))
    assert ids_of(await reader.read()) == ["b1", "b2", "SYNCED"]
    happens(bench.closing(close("b1", "eu")))
    (closed,) = await reader.read()
    bench.node.begin_drain()
    happens(bench.registering(branch("b3", "eu")))
    assert isinstance(await failure_of(reader.read()), errors.Draining)
    assert isinstance(closed, BranchIsClosed)
    resumed = Reader(other, key(resume=closed.revision))
    assert ids_of(await resumed.read()) == ["b3", "SYNCED"]
    anew = Reader(other, key())
    assert ids_of(await anew.read()) == ["b2", "b3", "SYNCED"]
    happens(bench.registering(branch("b4", "eu")))
    for stream in (resumed, anew):
        assert ids_of(await stream.read()) == ["b4"]
        await stream.close()
    await other.close()
