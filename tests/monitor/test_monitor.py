"""A monitor from end to end with a fake service and datastore: nothing is lost, nothing spins."""

from __future__ import annotations

import asyncio

import pytest
from monitor_bench import Bench, scenario

from rendezvous_raft import errors
from rendezvous_raft.monitor import monitor as monitor_module
from rendezvous_raft.monitor.monitor import FLUSH_S
from rendezvous_raft.monitor.ports import BranchClose
from rendezvous_raft.testing.virtual_time import BlockedForEver, advance, now_s, run_virtual, turns
from rendezvous_raft.types import BranchId, Region


def test_a_visible_branch_is_closed() -> None:
    async def story(bench: Bench) -> None:
        branch_id = bench.register("b1")
        await advance(0.2)
        assert bench.monitor.statistics().pending == 1
        assert not bench.service.closed
        bench.probe.visible.add(branch_id)
        await advance(0.05)
        assert bench.service.closed == {branch_id}
        assert bench.monitor.statistics().pending == 0
        assert bench.service.calls == [(BranchClose(branch_id, Region("eu")),)]
        assert bench.observer.answers == {"closed": 1}
        assert len(bench.observer.lags) == len(bench.observer.close_lags) == 1
        assert 0.2 <= bench.observer.lags[0] <= 0.25

    scenario(story)


def test_branches_registered_before_the_monitor_existed_are_closed() -> None:
    """U2, V19."""
    # semantics: U2.1
    bench = Bench()
    early = [bench.service.register(f"b{number}") for number in range(250)]
    bench.probe.visible.update(early)

    async def story(bench: Bench) -> None:
        await advance(1.0)
        assert bench.service.closed == set(early)

    scenario(story, bench)


def test_a_global_branch_is_closed_with_an_empty_region() -> None:
    async def story(bench: Bench) -> None:
        branch_id = bench.service.register("g", is_global=True)
        bench.probe.visible.add(branch_id)
        await advance(1.0)
        assert bench.service.calls == [(BranchClose(branch_id, Region("")),)]
        assert bench.service.closed == {branch_id}

    scenario(story)


@pytest.mark.parametrize(
    ("group", "ago_s", "skew_s", "age_s"),
    [("g", 600.0, 0.0, 600.0), ("g", 0.0, 4.0, 0.0), ("", 600.0, 0.0, 0.0)],
    ids=["handed over", "skewed clocks", "without a group"],
)
def test_what_another_member_leaves_is_as_old_as_it_is(
    group: str, ago_s: float, skew_s: float, age_s: float
) -> None:
    """It comes without a list, and must not pass for young: those are looked for more often."""
    # semantics: U5
    bench = Bench(group=group)
    bench.skew_s = skew_s

    async def story(bench: Bench) -> None:
        bench.register("b1", ago_s=ago_s)
        await advance(0.5)
        assert age_s < bench.monitor.statistics().oldest_pending_s < age_s + 1.0

    scenario(story, bench)


def test_a_branch_closed_by_someone_else_is_no_longer_looked_for() -> None:
    # semantics: U1.1
    async def story(bench: Bench) -> None:
        branch_id = bench.register("b1")
        await advance(1.0)
        bench.service.settle(branch_id)
        await advance(0.1)
        looks = len(bench.probe.looks)
        await advance(100.0)
        assert len(bench.probe.looks) == looks
        assert bench.monitor.statistics().pending == 0
        assert not bench.service.calls

    scenario(story)


def test_a_probe_may_report_branches_that_it_was_not_asked_for() -> None:
    """V6: superseded ones. Those that are not pending are ignored."""

    async def story(bench: Bench) -> None:
        old = bench.register("old")
        await advance(70.0)  # it is looked for rarely by now
        new = bench.register("new")
        bench.probe.unasked = {old, BranchId("unknown")}
        bench.probe.visible.add(new)
        await advance(0.1)
        assert bench.service.closed == {old, new}
        assert bench.observer.superseded_count == 1

    scenario(story)


def test_an_expired_branch_is_forgotten() -> None:
    async def story(bench: Bench) -> None:
        branch_id = bench.register("b1")
        bench.service.expired.add(branch_id)
        bench.probe.visible.add(branch_id)
        await advance(1.0)
        assert bench.observer.answers == {"expired": 1}
        assert bench.monitor.statistics().pending == 0

    scenario(story)


def test_an_idle_monitor_is_blocked() -> None:
    """M3: not one turn of the loop in an hour."""

    async def story(bench: Bench) -> None:
        await advance(1.0)
        before = turns()
        await advance(3_600.0)
        assert turns() - before <= 5
        assert not bench.probe.looks

    scenario(story)


def test_a_monitor_without_work_has_not_even_a_timer() -> None:
    async def story() -> None:
        async with Bench().running():
            await asyncio.get_running_loop().create_future()

    with pytest.raises(BlockedForEver):
        run_virtual(story())


def test_an_old_branch_costs_a_few_turns_a_minute() -> None:
    async def story(bench: Bench) -> None:
        bench.register("b1")
        await advance(600.0)
        before, looks = turns(), len(bench.probe.looks)
        await advance(600.0)
        assert 15 <= len(bench.probe.looks) - looks <= 26
        assert turns() - before <= 200

    scenario(story)


def test_a_rate_limit_holds() -> None:
    async def story(bench: Bench) -> None:
        for number in range(50):
            bench.register(f"b{number}")
        await advance(10.0)
        before = bench.probe.times.total()
        await advance(10.0)
        assert 90 <= bench.probe.times.total() - before <= 115
        assert len(bench.probe.times) == 50, "everyone gets a turn"

    scenario(story, Bench(rate=10.0))


def test_thousands_of_hopeless_branches_do_not_delay_a_new_one() -> None:
    """M6, from end to end: listed at once after a restart."""
    bench = Bench(batch_max=500)

    async def story(bench: Bench) -> None:
        looks = len(bench.probe.looks)
        fresh = bench.register("fresh")
        bench.probe.visible.add(fresh)
        await advance(0.1)
        assert fresh in bench.service.closed
        first = next(
            number for number, look in enumerate(bench.probe.looks[looks:]) if fresh in look
        )
        assert first <= 100

    async def run() -> None:
        for number in range(20_000):
            bench.register(f"old{number}", ago_s=3_000.0)
        async with bench.running():
            await story(bench)

    run_virtual(run())


def test_stopping_flushes_closes_and_looks_no_more() -> None:
    """M11."""

    async def run() -> None:
        bench = Bench()
        seen, unseen = bench.register("seen"), bench.register("unseen")
        bench.probe.visible.add(seen)
        bench.service.close_takes_s = 2.0
        async with bench.running():
            await advance(0.1)
            bench.monitor.stop()
            bench.probe.visible.add(unseen)
            looks = len(bench.probe.looks)
        assert len(bench.probe.looks) == looks
        assert bench.service.closed == {seen}
        assert not bench.service.streams, "the stream is ended"

    run_virtual(run())


def test_stopping_does_not_wait_for_ever() -> None:
    async def run() -> None:
        bench = Bench()
        bench.probe.visible.add(bench.register("b1"))
        bench.service.close_takes_s = 1_000.0
        async with bench.running():
            await advance(0.1)
            begun = now_s()
        assert now_s() - begun == pytest.approx(FLUSH_S)

    run_virtual(run())


@pytest.mark.parametrize("skew_s", [-3_600.0, 3_600.0])
def test_skewed_wall_clocks_do_not_slow_detection_down(skew_s: float) -> None:
    async def story(bench: Bench) -> None:
        bench.skew_s = skew_s
        live = bench.register("live")
        await advance(1.0)
        bench.service.break_streams(errors.Disconnected("x"))
        listed = bench.register("listed")
        await advance(1.0)
        bench.probe.visible.update((live, listed))
        await advance(0.6)
        assert bench.service.closed == {live, listed}

    scenario(story)


def test_too_many_pending_branches_wait_in_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "PENDING_MAX", 10)

    async def story(bench: Bench) -> None:
        known = [bench.register(f"b{number}") for number in range(25)]
        await advance(1.0)
        assert bench.monitor.statistics().pending == 10
        assert set(bench.observer.breaks) == {"limit"}
        bench.probe.visible.update(known)
        await advance(20.0)
        assert bench.service.closed == set(known)

    scenario(story)


def test_what_is_gone_makes_room_for_what_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """M1, V18: a full pending set of branches that expired unseen does not stay for ever."""
    monkeypatch.setattr(monitor_module, "PENDING_MAX", 10)

    async def story(bench: Bench) -> None:
        for number in range(10):
            bench.register(f"lost{number}")
        await advance(1.0)
        bench.service.open.clear()
        bench.service.break_streams(errors.SubscriptionOverflow("x"))
        known = {bench.register(f"new{number}") for number in range(3)}
        bench.probe.visible.update(known)
        await advance(5.0)
        assert bench.service.closed == known
        assert bench.monitor.statistics().pending == 0
        assert bench.monitor.statistics().synced

    scenario(story)


def test_a_list_without_room_for_all_of_it_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """M1, M2: what was left out is not taken for gone, and the monitor is not ready meanwhile."""
    monkeypatch.setattr(monitor_module, "PENDING_MAX", 10)

    async def story(bench: Bench) -> None:
        known = [bench.register(f"b{number}") for number in range(10)]
        await advance(1.0)
        bench.service.break_streams(errors.Disconnected("x"))
        left_out = bench.register("left out")
        await advance(60.0)
        statistics = bench.monitor.statistics()
        assert (statistics.pending, statistics.synced) == (10, False)
        assert statistics.last_break == "limit"
        assert bench.service.subscriptions <= 75
        bench.service.settle(known[0])
        await advance(3.0)
        statistics = bench.monitor.statistics()
        assert (statistics.pending, statistics.synced) == (10, True)
        bench.probe.visible.add(left_out)
        await advance(60.0)
        assert bench.service.closed == {known[0], left_out}

    scenario(story)


def test_pending_branches_are_shown_oldest_first() -> None:
    """M13."""

    async def story(bench: Bench) -> None:
        bench.register("b1")
        await advance(2.0)
        closing = bench.register("b2")
        bench.service.close_takes_s = 100.0
        bench.probe.visible.add(closing)
        await advance(0.5)
        shown = bench.monitor.pending(limit=10)
        assert [view.branch_id for view in shown] == ["b1", "b2"]
        assert shown[0].age_s == pytest.approx(2.5)
        assert shown[0].last_result == "absent"
        assert shown[0].tries > 10
        assert shown[0].next_look_in_s is not None
        assert shown[1].last_result == "visible, closing"
        assert len(bench.monitor.pending(limit=1)) == 1
        statistics = bench.monitor.statistics()
        assert (statistics.pending, statistics.closing) == (2, 1)
        assert statistics.oldest_pending_s == pytest.approx(2.5)

    scenario(story)
