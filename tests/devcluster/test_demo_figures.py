from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.devcluster.figures import Distribution, cumulative, percentile
from rendezvous_raft.devcluster.post_traces import PostTrace, find_problems, summarize

SERIES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def trace(**changes: object) -> PostTrace:
    """A post written at 10.0, notified at 10.1, visible at 10.3, released at 10.31."""
    fields: dict[str, object] = {
        "post_id": "p",
        "write_started_at_s": 9.99,
        "written_at_s": 10.0,
        "notified_at_s": 10.1,
        "released_at_s": 10.31,
        "visible_at_s": 10.3,
        "consistent": True,
    }
    return PostTrace(**{**fields, **changes})  # type: ignore[arg-type]


def test_percentiles_interpolate() -> None:
    assert percentile([1, 2, 3, 4], 0.5) == 2.5
    assert percentile([1, 2, 3, 4], 0) == 1
    assert percentile([1, 2, 3, 4], 1) == 4
    assert percentile([7], 0.99) == 7
    assert percentile(range(101), 0.95) == 95


@pytest.mark.parametrize(("series", "fraction"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_percentiles_refuse_nonsense(series: list[float], fraction: float) -> None:
    with pytest.raises(ValueError):
        percentile(series, fraction)


@given(SERIES, st.floats(0, 1))
def test_a_percentile_is_within_the_series_and_monotonic(
    series: list[float], fraction: float
) -> None:
    ordered = sorted(series)
    value = percentile(ordered, fraction)
    slack = 1e-9 * max(1.0, abs(ordered[0]), abs(ordered[-1]))
    assert ordered[0] - slack <= value <= ordered[-1] + slack
    assert percentile(ordered, fraction / 2) <= value + slack


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60))
def test_the_median_agrees_with_the_standard_library(series: list[float]) -> None:
    assert percentile(sorted(series), 0.5) == pytest.approx(statistics.median(series), abs=1e-6)


def test_a_distribution_keeps_negative_values() -> None:
    distribution = Distribution.of([5.0, -3.0, 1.0])
    assert distribution is not None
    assert distribution.count == 3
    assert distribution.lowest == -3.0
    assert distribution.highest == 5.0
    assert distribution.mean == pytest.approx(1.0)
    assert distribution.p50 == 1.0
    assert Distribution.of([]) is None


@given(SERIES)
def test_the_cumulative_share_rises_to_one(series: list[float]) -> None:
    values, shares = cumulative(series)
    assert values == sorted(series)
    assert shares[-1] == 1.0
    assert shares == sorted(shares)


def test_moments_of_a_post() -> None:
    post = trace()
    assert post.replication_lag_s == pytest.approx(0.3)
    assert post.window_s == pytest.approx(0.2)
    assert post.added_s == pytest.approx(0.01)


def test_added_latency_counts_from_the_later_of_notification_and_data() -> None:
    assert trace(visible_at_s=10.05, released_at_s=10.13).added_s == pytest.approx(0.03)
    assert trace(released_at_s=10.29).added_s == pytest.approx(-0.01)  # never floored


def test_a_summary_adds_up() -> None:
    traces = [
        trace(),
        trace(visible_at_s=10.05),  # there before its notification: no window
        trace(consistent=False, write_started_at_s=10.99),
    ]
    summary = summarize(traces, errors=["post 4: lost"], guarded=False)
    assert summary.posts == 4
    assert summary.inconsistent == 1
    assert summary.inconsistent_share == 0.25
    assert summary.stale_after_grant == 0  # nothing was granted: nobody waited
    assert summary.rate_per_s == pytest.approx(2.0)
    assert summary.consistency_window_ms is not None
    assert summary.consistency_window_ms.count == 2
    assert summary.consistency_window_ms.p50 == pytest.approx(200)
    assert summary.added_ms is None
    assert summary.replication_lag_ms is not None
    assert summary.replication_lag_ms.count == 3


def test_an_empty_run_has_a_summary() -> None:
    summary = summarize([], guarded=True)
    assert summary.posts == 0
    assert summary.added_ms is None
    assert summary.rate_per_s == 0


def test_a_good_demo_has_no_problems() -> None:
    without = summarize([trace(consistent=False), trace()], guarded=False)
    guarded = summarize([trace(prevented=True), trace()], guarded=True)
    assert guarded.prevented == 1
    assert find_problems(without, guarded) == ()
    assert find_problems(without, None) == ()


def test_a_stale_read_after_a_grant_is_a_failure() -> None:
    without = summarize([trace(consistent=False)], guarded=False)
    guarded = summarize([trace(consistent=False), trace()], guarded=True)
    assert "stale" in find_problems(without, guarded)[0]


def test_a_time_out_is_a_failure_even_when_the_read_was_lucky() -> None:
    without = summarize([trace(consistent=False)], guarded=False)
    guarded = summarize([trace(timed_out=True)], guarded=True)
    assert guarded.stale_after_grant == 0
    assert find_problems(without, guarded) == ("with Rendezvous: 1 waits timed out",)


def test_a_stale_read_after_a_time_out_counts_as_a_time_out_and_as_inconsistent() -> None:
    guarded = summarize([trace(timed_out=True, consistent=False)], guarded=True)
    assert (guarded.timed_out, guarded.inconsistent, guarded.stale_after_grant) == (1, 1, 0)


def test_a_baseline_that_shows_nothing_is_a_failure() -> None:
    without = summarize([trace()], guarded=False)
    assert "nothing was shown" in find_problems(without, summarize([trace()], guarded=True))[0]


def test_posts_that_failed_are_a_failure_of_either_run() -> None:
    without = summarize([trace(consistent=False)], errors=["a"], guarded=False)
    guarded = summarize([trace()], errors=["b", "c"], guarded=True)
    problems = find_problems(without, guarded)
    assert "1 posts failed, the first: a" in problems[0]
    assert "2 posts failed, the first: b" in problems[1]
