"""Whatever fails: streams, datastores, closes, the monitor itself. Nothing is lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_bench import Bench, scenario

from rendezvous_raft import errors
from rendezvous_raft.monitor.ports import ProbeError, ProbeMisconfigured
from rendezvous_raft.testing.virtual_time import advance, run_virtual
from rendezvous_raft.types import BranchId


@pytest.mark.parametrize(
    "error",
    [errors.Disconnected("x"), errors.SubscriptionOverflow("x"), errors.Draining("x")],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_stream_loses_nothing(error: errors.RendezvousError) -> None:
    """M2, U3: what was registered and closed during the break is known after it."""
    # semantics: U3

    async def story(bench: Bench) -> None:
        kept, gone = bench.register("kept"), bench.register("gone")
        await advance(1.0)
        bench.service.break_streams(error)
        missed = bench.register("missed")
        bench.service.settle(gone)
        assert not bench.service.streams
        await advance(0.1)
        assert bench.monitor.statistics().pending == 2
        bench.probe.visible.update((kept, missed))
        await advance(1.0)
        assert bench.service.closed == {kept, gone, missed}
        assert bench.observer.breaks == [error.code]

    scenario(story)


def test_looking_and_closing_go_on_while_the_stream_is_down() -> None:
    async def story(bench: Bench) -> None:
        branch_id = bench.register("b1")
        await advance(0.1)
        bench.service.list_faults = [errors.NoLeader("x")] * 1_000
        bench.service.break_streams(errors.NoLeader("x"))
        bench.probe.visible.add(branch_id)
        await advance(1.0)
        assert bench.service.closed == {branch_id}
        assert not bench.monitor.statistics().synced

    scenario(story)


def test_a_list_that_breaks_half_way_removes_nothing() -> None:
    async def story(bench: Bench) -> None:
        known = [bench.register(f"b{number}") for number in range(10)]
        await advance(0.1)
        bench.service.list_faults = [errors.Disconnected("x")] * 3
        bench.service.break_streams(errors.Disconnected("x"))
        await advance(5.0)
        bench.probe.visible.update(known)
        await advance(2.0)
        assert bench.service.closed == set(known)

    scenario(story)


def test_a_stream_that_always_breaks_is_taken_up_ever_more_rarely() -> None:
    async def story(bench: Bench) -> None:
        bench.service.list_faults = [errors.NoLeader("x")] * 10_000
        bench.service.break_streams(errors.NoLeader("x"))
        await advance(60.0)
        assert 30 <= bench.service.subscriptions <= 75

    scenario(story)


def test_a_stream_that_breaks_right_after_its_list_is_no_success() -> None:
    """Or a list a twentieth of a second would be asked for, for ever."""

    async def story(bench: Bench) -> None:
        bench.service.breaks_after_list = 10_000
        bench.service.break_streams(errors.NoLeader("x"))
        await advance(60.0)
        assert 30 <= bench.service.subscriptions <= 75

    scenario(story)


def test_a_refused_subscription_is_tried_again_rarely() -> None:
    async def story(bench: Bench) -> None:
        bench.service.list_faults = [errors.PermissionDenied("x")] * 3
        bench.service.break_streams(errors.Draining("x"))
        await advance(89.0)
        assert bench.service.subscriptions == 4
        await advance(30.0)
        assert bench.monitor.statistics().synced

    scenario(story)


@pytest.mark.parametrize(
    "error", [ProbeError("x"), TimeoutError(), OSError("x"), ZeroDivisionError("a probe's own")]
)
def test_a_failing_datastore_drops_no_branch(error: Exception) -> None:
    """V15."""

    async def story(bench: Bench) -> None:
        known = [bench.register(f"b{number}") for number in range(300)]
        bench.probe.faults = [error] * 10
        bench.probe.visible.update(known)
        await advance(0.05)
        assert not bench.service.closed
        assert bench.monitor.statistics().datastore_error
        await advance(60.0)
        assert bench.service.closed == set(known)
        assert bench.monitor.statistics().datastore_error is None

    scenario(story)


def test_a_datastore_that_is_away_for_long_is_asked_rarely_and_heals_soon() -> None:
    async def story(bench: Bench) -> None:
        known = [bench.register(f"b{number}") for number in range(300)]
        bench.probe.faults = [ProbeError("away")] * 10_000
        await advance(600.0)
        asked = len(bench.probe.looks)
        assert 60 <= asked <= 300, "a few times a minute"
        statistics = bench.monitor.statistics()
        assert not statistics.datastore_ready
        assert not statistics.ready
        bench.probe.faults.clear()
        bench.probe.visible.update(known)
        await advance(11.0)
        assert bench.service.closed == set(known)
        assert bench.monitor.statistics().ready

    scenario(story)


def test_an_endpoint_that_is_away_drops_no_branch_and_is_left_alone() -> None:
    """V15: the probe answers, but says that an endpoint did not."""

    async def story(bench: Bench) -> None:
        known = [bench.register(f"b{number}") for number in range(300)]
        bench.probe.endpoint_faults = 10
        bench.probe.visible.update(known)
        await advance(0.05)
        assert not bench.service.closed
        assert len(bench.probe.looks) <= 2
        assert bench.monitor.statistics().datastore_error == "away"
        await advance(60.0)
        assert bench.probe.endpoint_faults == 0
        assert bench.service.closed == set(known)
        assert bench.monitor.statistics().datastore_error is None

    scenario(story)


def test_a_hanging_datastore_is_a_failing_one() -> None:
    async def story(bench: Bench) -> None:
        branch_id = bench.register("b1")
        bench.probe.hangs = True
        await advance(20.0)
        assert 2 <= len(bench.probe.looks) <= 5
        bench.probe.hangs = False
        bench.probe.visible.add(branch_id)
        await advance(16.0)
        assert bench.service.closed == {branch_id}

    scenario(story)


@pytest.mark.parametrize("orderly", [True, False])
def test_a_driver_that_swallows_the_cancellation_does_not_keep_the_monitor(orderly: bool) -> None:
    async def run() -> None:
        bench = Bench()
        bench.register("b1")
        bench.probe.hangs = bench.probe.swallows_cancellation = True
        task = asyncio.create_task(bench.monitor.run())
        await advance(1.0)
        if orderly:
            bench.monitor.stop()
        else:
            task.cancel()
        async with asyncio.timeout(10.0):
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() != orderly

    run_virtual(run())


def test_one_failing_branch_does_not_slow_the_others_down() -> None:
    async def story(bench: Bench) -> None:
        poison, healthy = bench.register("poison"), bench.register("healthy")
        bench.probe.broken.add(poison)
        await advance(30.0)
        assert bench.probe.times[healthy] > 60
        assert bench.probe.times[poison] < 10
        bench.probe.broken.clear()
        bench.probe.visible.update((poison, healthy))
        await advance(11.0)
        assert bench.service.closed == {poison, healthy}

    scenario(story)


@pytest.mark.parametrize("kind", ["call", "lost", "item"])
def test_failing_closes_lose_nothing(kind: str) -> None:
    async def story(bench: Bench) -> None:
        faults: list[errors.RendezvousError | None] = [errors.LeaderChanged("x")] * 5
        if kind == "call":
            bench.service.call_faults = list(faults)
        elif kind == "lost":
            bench.service.lost_answers = 5
        else:
            bench.service.item_fault = lambda _: faults.pop() if faults else None
        known = [bench.register(f"b{number}") for number in range(20)]
        bench.probe.visible.update(known)
        await advance(20.0)
        assert bench.service.closed == set(known)
        assert bench.monitor.statistics().pending == 0

    scenario(story)


def test_a_killed_monitor_loses_nothing() -> None:
    """M9: the next one is told of everything that is open."""

    async def run() -> None:
        first, second = Bench(), Bench()
        second.service = second.monitor._subscriber._metadata = first.service
        second.monitor._closer._metadata = first.service
        known = [first.register(f"b{number}") for number in range(50)]
        first.service.close_takes_s = 1.0
        first.probe.visible.update(known[:25])
        task = asyncio.create_task(first.monitor.run())
        await advance(0.5)
        task.cancel()  # while closes are in flight
        await asyncio.gather(task, return_exceptions=True)
        assert not first.service.closed
        second.probe.visible.update(known)
        async with second.running():
            await advance(5.0)
            assert first.service.closed == set(known)

    run_virtual(run())


def test_a_datastore_that_must_not_be_probed_ends_the_monitor() -> None:
    async def run() -> None:
        bench = Bench()
        bench.probe.check_faults = [ProbeError("starting"), ProbeMisconfigured("evicts markers")]
        with pytest.raises(ExceptionGroup) as failure:
            await bench.monitor.run()
        assert failure.group_contains(ProbeMisconfigured, match="evicts")
        assert bench.probe.closed == 1

    run_virtual(run())


def test_a_datastore_that_is_away_at_the_start_is_waited_for() -> None:
    bench = Bench()
    bench.probe.check_faults = [ProbeError("starting")] * 5
    early = bench.service.register("b1")
    bench.probe.visible.add(early)

    async def story(bench: Bench) -> None:
        assert not bench.monitor.statistics().ready
        assert not bench.probe.looks
        await advance(10.0)
        assert bench.monitor.statistics().ready
        assert bench.service.closed == {early}

    scenario(story, bench)


def test_a_check_that_fails_as_nobody_foresaw_is_an_outage() -> None:
    """V15: the process does not end, and its branches are looked for once the check succeeds."""
    bench = Bench()
    bench.probe.check_faults = [RuntimeError("a driver's fault")] * 3
    early = bench.service.register("b1")
    bench.probe.visible.add(early)

    async def story(bench: Bench) -> None:
        await advance(0.01)
        assert "a driver's fault" in (bench.monitor.statistics().datastore_error or "")
        await advance(10.0)
        assert bench.service.closed == {early}

    scenario(story, bench)


CHAOS = st.lists(
    st.sampled_from(
        ["register", "register", "visible", "break", "overflow", "list", "probe", "close", "lost",
         "item", "settle", "wait", "wait"]
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(CHAOS)
def test_whatever_fails_every_visible_branch_is_closed_and_no_other(steps: list[str]) -> None:
    async def story(bench: Bench) -> None:
        known: list[BranchId] = []
        elsewhere: set[BranchId] = set()
        for number, step in enumerate(steps):
            match step:
                case "register":
                    known.append(bench.register(f"b{number}"))
                case "visible":
                    bench.probe.visible.update(known[: len(known) // 2 + 1])
                case "break":
                    bench.service.break_streams(errors.Disconnected("x"))
                case "overflow":
                    bench.service.break_streams(errors.SubscriptionOverflow("x"))
                case "list":
                    bench.service.list_faults.append(errors.NoLeader("x"))
                case "probe":
                    bench.probe.faults += [ProbeError("x"), None, TimeoutError()]
                case "close":
                    bench.service.call_faults += [errors.LeaderChanged("x"), None]
                case "lost":
                    bench.service.lost_answers += 1
                case "item":
                    fault = [errors.Overloaded("x")]
                    bench.service.item_fault = lambda _, fault=fault: fault.pop() if fault else None
                case "settle":
                    branch_id = next(iter(bench.service.open), None)
                    if branch_id is not None:
                        elsewhere.add(branch_id)
                        bench.service.settle(branch_id)
                case "wait":
                    await advance(0.3)
        await advance(200.0)
        assert bench.service.closed == (bench.probe.visible & set(known)) | elsewhere
        assert bench.monitor.statistics().pending == len(bench.service.open)
        bench.probe.visible.update(known)
        await advance(60.0)
        assert not bench.service.open
        assert bench.monitor.statistics().pending == 0

    scenario(story)
