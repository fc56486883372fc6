"""The schedule: intervals, fairness, jitter (M4-M6, V15, V18). Nothing sleeps."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rendezvous_raft.monitor.schedule import (
    INTERVAL_MAX_S,
    LAGS_MAX,
    OLD_AGE_S,
    OLD_INTERVAL_MAX_S,
    LookOutcome,
    Schedule,
)
from rendezvous_raft.types import BranchId


class Middle(Random):
    """Chance without chance: always the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def ids(count: int, prefix: str = "b") -> list[BranchId]:
    return [BranchId(f"{prefix}{number}") for number in range(count)]


B = BranchId("b")


def look_until(schedule: Schedule, until: float, *, begin: float = 0.0) -> list[float]:
    """Answers "absent" to every look of a single branch; returns when the looks were."""
    looks = []
    while (at := schedule.next_wakeup()) is not None and at <= until:
        at = max(at, begin)
        assert schedule.due(at, 10) == [B]
        looks.append(at)
        schedule.result(B, LookOutcome.ABSENT, at)
    return looks


def test_the_first_look_comes_after_5_ms_while_no_lag_is_known() -> None:
    schedule = Schedule(Middle())
    schedule.add(B, 100.0)
    assert schedule.next_wakeup() == pytest.approx(100.005)
    assert schedule.due(100.004, 10) == []
    assert schedule.due(100.006, 10) == [B]


@pytest.mark.parametrize(
    ("age_s", "interval_s"),
    [(0.005, 0.010), (0.050, 0.010), (0.1, 0.015), (1.0, 0.15), (3.3, 0.495), (10, 0.5), (60, 0.5)],
)
def test_young_branches_are_looked_for_every_15_percent_of_their_age(
    age_s: float, interval_s: float
) -> None:
    schedule = Schedule(Middle())
    schedule.add(B, 0.0)
    assert schedule.due(age_s, 1) == [B]
    schedule.result(B, LookOutcome.ABSENT, age_s)
    assert schedule.next_wakeup() == pytest.approx(age_s + interval_s)


def test_old_branches_are_looked_for_half_as_rarely_again_each_time_up_to_30_s() -> None:
    schedule = Schedule(Middle())
    schedule.add(B, 0.0)
    looks = look_until(schedule, 400.0)
    intervals = [later - earlier for earlier, later in pairwise(looks)]
    old = [gap for at, gap in zip(looks, intervals, strict=False) if at > OLD_AGE_S]
    assert old[:3] == pytest.approx([0.75, 1.125, 1.6875])
    assert old[-1] == pytest.approx(OLD_INTERVAL_MAX_S)
    assert max(old) <= OLD_INTERVAL_MAX_S + 1e-9


def test_a_branch_costs_about_150_looks_in_its_first_minute() -> None:
    schedule = Schedule(Random(1))
    schedule.add(B, 0.0)
    assert 120 <= len(look_until(schedule, OLD_AGE_S)) <= 180


@given(seed=st.integers(), age_s=st.floats(0.0, 1_000.0))
def test_jitter_stays_within_a_fifth(seed: int, age_s: float) -> None:
    plain, jittered = Schedule(Middle()), Schedule(Random(seed))
    for schedule in (plain, jittered):
        schedule.add(B, 0.0)
        assert schedule.due(age_s + 1.0, 1) == [B]
        schedule.result(B, LookOutcome.ABSENT, age_s)
    expected = (plain.next_wakeup() or 0.0) - age_s
    interval_s = (jittered.next_wakeup() or 0.0) - age_s
    assert 0.8 * expected - 1e-6 <= interval_s <= 1.2 * expected + 1e-6


@given(seed=st.integers(), lag_s=st.floats(0.0, 3.0))
def test_detection_adds_at_most_15_percent_and_jitter(seed: int, lag_s: float) -> None:
    """M5: up to 3.3 s the look after the write became visible comes within 0.15 x 1.2 of it."""
    schedule = Schedule(Random(seed))
    schedule.add(B, 0.0)
    at = 0.0
    while True:
        at = schedule.next_wakeup() or 0.0
        assert schedule.due(at, 1) == [B]
        if at >= lag_s:
            break
        schedule.result(B, LookOutcome.ABSENT, at)
    assert at - lag_s <= max(0.18 * lag_s, 0.012) + 1e-9


def observe_lag(schedule: Schedule, name: str, *, begin: float, lag_s: float) -> float:
    """Follows one branch whose write becomes visible after `lag_s`; returns its first look."""
    branch_id = BranchId(name)
    schedule.add(branch_id, begin)
    first = at = schedule.next_wakeup() or 0.0
    while True:
        assert schedule.due(at, 1) == [branch_id]
        if at - begin >= lag_s:
            schedule.result(branch_id, LookOutcome.VISIBLE, at)
            return first - begin
        schedule.result(branch_id, LookOutcome.ABSENT, at)
        at = schedule.next_wakeup() or 0.0


def test_the_first_look_follows_the_lags_up_and_down_again() -> None:
    """Were the found lag taken as it is, the 10th percentile could only grow."""
    schedule = Schedule(Random(3))
    for number in range(LAGS_MAX):
        observe_lag(schedule, f"slow{number}", begin=10.0 * number, lag_s=0.2)
    assert 0.15 < schedule.first_look_s < 0.25
    for number in range(2 * LAGS_MAX):
        observe_lag(schedule, f"fast{number}", begin=10_000 + 10.0 * number, lag_s=0.01)
    assert schedule.first_look_s < 0.02


def test_after_an_outage_new_branches_wait_half_a_second_at_most() -> None:
    schedule = Schedule(Random(3))
    for branch_id in ids(LAGS_MAX):
        schedule.add(branch_id, 0.0)
    for branch_id in schedule.due(1.0, LAGS_MAX):
        schedule.result(branch_id, LookOutcome.ABSENT, 1.0)
    for branch_id in schedule.due(600.0, LAGS_MAX):
        schedule.result(branch_id, LookOutcome.VISIBLE, 600.0)
    assert schedule.first_look_s == INTERVAL_MAX_S


def test_branches_first_seen_long_after_their_registration_teach_no_lag() -> None:
    schedule = Schedule(Middle())
    schedule.add(B, 0.0)
    assert schedule.due(600.0, 1) == [B]
    schedule.result(B, LookOutcome.VISIBLE, 600.0)
    assert schedule.first_look_s == pytest.approx(0.005)


def test_due_branches_come_in_order_of_due_time() -> None:
    schedule = Schedule(Middle())
    for number, branch_id in enumerate(reversed(ids(5))):
        schedule.add(branch_id, float(number))
    assert schedule.due(10.0, 3) == [BranchId("b4"), BranchId("b3"), BranchId("b2")]
    assert schedule.due(10.0, 3) == [BranchId("b1"), BranchId("b0")]
    assert schedule.due(10.0, 3) == []


def test_the_old_get_a_quarter_of_a_batch_while_young_ones_are_due() -> None:
    schedule = Schedule(Middle())
    for branch_id in ids(100, "old"):
        schedule.add(branch_id, 0.0)
    for branch_id in ids(100, "new"):
        schedule.add(branch_id, 599.0)
    batch = schedule.due(600.0, 40)
    assert [name[:3] for name in batch].count("old") == 10
    assert [name[:3] for name in batch].count("new") == 30


def test_a_hundred_thousand_hopeless_branches_delay_a_new_one_by_one_batch() -> None:
    """M6, also right after a restart, when all of them are listed at once."""
    schedule = Schedule(Random(5))
    for branch_id in ids(100_000, "old"):
        schedule.add(branch_id, 0.0)
    assert len(schedule.due(600.0, 500)) == 500
    schedule.add(B, 599.9)
    assert B in schedule.due(600.0, 500)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 500])
def test_the_old_are_not_starved_whatever_the_batch(limit: int) -> None:
    schedule = Schedule(Middle())
    for branch_id in ids(2_000, "new"):
        schedule.add(branch_id, 599.0)
    for branch_id in ids(100, "old"):
        schedule.add(branch_id, 0.0)
    taken = [name[:3] for _ in range(4) for name in schedule.due(600.0, limit)]
    assert taken.count("old") == limit if limit < 4 else 4 * (limit // 4)


def test_without_young_ones_the_old_fill_the_batch() -> None:
    schedule = Schedule(Middle())
    for branch_id in ids(10):
        schedule.add(branch_id, 0.0)
    assert len(schedule.due(600.0, 8)) == 8


def test_failures_pause_longer_and_longer_but_do_not_use_up_the_schedule() -> None:
    schedule = Schedule(Middle())
    schedule.add(B, 0.0)
    at, pauses = 1.0, []
    for _ in range(10):
        assert schedule.due(at, 1) == [B]
        schedule.result(B, LookOutcome.FAILED, at)
        due_at = schedule.next_wakeup() or 0.0
        pauses.append(due_at - at)
        at = due_at
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert pauses[-1] == pytest.approx(10.0)
    assert schedule.due(at, 1) == [B]
    schedule.result(B, LookOutcome.ABSENT, at)
    assert (schedule.next_wakeup() or 0.0) - at == pytest.approx(INTERVAL_MAX_S)


def test_a_branch_put_back_is_due_when_it_was() -> None:
    schedule = Schedule(Middle())
    schedule.add(B, 0.0)
    assert schedule.due(1.0, 1) == [B]
    assert schedule.next_wakeup() is None
    schedule.put_back([B])
    assert schedule.next_wakeup() == pytest.approx(0.005)
    assert schedule.due(1.0, 1) == [B]


def test_removed_branches_are_forgotten_wherever_they_are() -> None:
    schedule = Schedule(Middle())
    waiting, looked_for = ids(2)
    schedule.add(looked_for, 0.0)
    assert schedule.due(1.0, 1) == [looked_for]
    schedule.add(waiting, 0.0)
    for branch_id in (waiting, looked_for):
        schedule.remove(branch_id)
    schedule.result(looked_for, LookOutcome.ABSENT, 2.0)
    schedule.put_back([looked_for])
    assert len(schedule) == 0
    assert schedule.next_wakeup() is None


def test_adding_a_branch_twice_changes_nothing() -> None:
    schedule = Schedule(Middle())
    schedule.add(B, 0.0)
    schedule.add(B, 50.0)
    assert schedule.due(1.0, 5) == [B]
    schedule.add(B, 1.0)
    assert schedule.due(1.0, 5) == []


def test_removed_branches_leave_no_memory_behind() -> None:
    schedule = Schedule(Middle())
    for number in range(20_000):
        schedule.add(BranchId(str(number)), 0.0)
        schedule.remove(BranchId(str(number)))
    assert len(schedule._young) + len(schedule._old) < 2_000


class ScheduleMachine(RuleBasedStateMachine):
    """Any order of calls: no branch is lost, none is handed out twice, none before it is due."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(Random(7))
        self.now = 0.0
        self.waiting: set[BranchId] = set()
        self.looked_for: set[BranchId] = set()
        self.number = 0

    @rule(ago=st.sampled_from([0.0, 0.5, 30.0, 59.9, 60.1, 4_000.0]))
    def add(self, ago: float) -> None:
        self.number += 1
        branch_id = BranchId(f"b{self.number}")
        self.schedule.add(branch_id, self.now - ago)
        self.waiting.add(branch_id)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.02, 0.4, 5.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(0, 6))
    def take_due(self, limit: int) -> None:
        wakeup = self.schedule.next_wakeup()
        taken = self.schedule.due(self.now, limit)
        assert len(taken) <= limit
        assert set(taken) <= self.waiting
        assert len(set(taken)) == len(taken)
        assert bool(taken) == (limit > 0 and wakeup is not None and wakeup <= self.now)
        self.waiting -= set(taken)
        self.looked_for |= set(taken)

    @precondition(lambda self: self.looked_for)
    @rule(outcome=st.sampled_from(LookOutcome), number=st.integers(0, 100))
    def tell(self, outcome: LookOutcome, number: int) -> None:
        branch_id = sorted(self.looked_for)[number % len(self.looked_for)]
        self.looked_for.discard(branch_id)
        self.schedule.result(branch_id, outcome, self.now)
        if outcome is not LookOutcome.VISIBLE:
            self.waiting.add(branch_id)
            history = self.schedule.history(branch_id)
            assert history is not None
            assert history.next_look_at is not None
            assert self.now < history.next_look_at <= self.now + 1.2 * OLD_INTERVAL_MAX_S

    @precondition(lambda self: self.looked_for)
    @rule()
    def put_back_all(self) -> None:
        self.schedule.put_back(sorted(self.looked_for))
        self.waiting |= self.looked_for
        self.looked_for.clear()

    @precondition(lambda self: self.waiting or self.looked_for)
    @rule(number=st.integers(0, 100))
    def remove(self, number: int) -> None:
        known = sorted(self.waiting | self.looked_for)
        branch_id = known[number % len(known)]
        self.schedule.remove(branch_id)
        self.waiting.discard(branch_id)
        self.looked_for.discard(branch_id)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.schedule) == len(self.waiting) + len(self.looked_for)
        assert (self.schedule.next_wakeup() is None) == (not self.waiting)

    def teardown(self) -> None:
        """V18: whatever happened, everything that waits comes up again."""
        found: set[BranchId] = set()
        for _ in range(10_000):
            if found == self.waiting:
                return
            wakeup = self.schedule.next_wakeup()
            assert wakeup is not None
            self.now = max(self.now, wakeup)
            found |= set(self.schedule.due(self.now, 3))
        raise AssertionError("a branch never came up")


TestScheduleMachine = ScheduleMachine.TestCase
