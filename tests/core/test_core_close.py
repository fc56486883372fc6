"""Closing: outcomes per close, what is told, when a request settles."""

from __future__ import annotations

import pytest
from core_builders import Log, branch

from rendezvous_raft.core.commands import Close
from rendezvous_raft.core.events import RegionClosed, RequestSettled
from rendezvous_raft.core.queries import branch_status
from rendezvous_raft.core.results import Applied, BranchesClosed, CloseOutcome
from rendezvous_raft.types import BranchId, Region, RequestId, Service, Status, Tag

R1 = RequestId("r1")
SETTLED = RequestSettled(R1)


def closed_event(branch_id: str, region: str, *, is_global: bool = False) -> RegionClosed:
    return RegionClosed(
        request_id=R1,
        branch_id=BranchId(branch_id),
        service=Service("post"),
        tag=Tag("t"),
        region=Region(region),
        is_global=is_global,
        monitored=True,
    )


def outcomes(applied: Applied) -> list[str]:
    assert isinstance(applied.result, BranchesClosed)
    return [outcome.value for outcome in applied.result.outcomes]


def test_each_region_is_closed_once_and_the_last_one_settles_the_request() -> None:
    # semantics: W4, W6, W4.1
    log = Log()
    log.add(branch("b1", "eu", "us", tag="t"))
    first = log.close("b1", "eu")
    assert outcomes(first) == ["closed"]
    assert first.events == (closed_event("b1", "eu"),)
    assert list(log.request().open_branches) == ["b1"]
    again = log.close("b1", "eu")
    assert outcomes(again) == ["already_closed"]
    assert again.events == ()
    last = log.close("b1", "us")
    assert last.events == (closed_event("b1", "us"), SETTLED)
    assert not log.request().open_branches


def test_a_request_settles_with_its_last_branch() -> None:
    # semantics: W6, W6.1
    log = Log()
    log.add(branch("b1", "eu", tag="t"), branch("b2", "eu", tag="t"))
    assert SETTLED not in log.close("b1", "eu").events
    assert SETTLED in log.close("b2", "eu").events
    log.add(branch("b3", "eu", tag="t"))
    assert SETTLED in log.close("b3", "eu").events


def test_all_regions_closes_what_is_left() -> None:
    # semantics: W4, W4.6
    log = Log()
    log.add(branch("b1", "ap", "eu", "us", tag="t"))
    log.close("b1", "eu")
    applied = log.close("b1", all_regions=True)
    assert outcomes(applied) == ["closed"]
    assert applied.events == (closed_event("b1", "ap"), closed_event("b1", "us"), SETTLED)
    assert outcomes(log.close("b1", all_regions=True)) == ["already_closed"]


def test_a_global_branch_is_closed_by_an_empty_region() -> None:
    # semantics: W4, W4.5
    log = Log()
    log.add(branch("g", tag="t"))
    assert outcomes(log.close("g", "eu")) == ["region_not_of_branch"]
    applied = log.close("g")
    assert applied.events == (closed_event("g", "", is_global=True), SETTLED)
    assert outcomes(log.close("g")) == ["already_closed"]


def test_a_global_branch_is_closed_by_all_regions() -> None:
    # semantics: W4, W4.6
    log = Log()
    log.add(branch("g", tag="t"))
    closing = log.close("g", all_regions=True)
    assert closing.events == (closed_event("g", "", is_global=True), SETTLED)


@pytest.mark.parametrize("region", ["", "eu"])
def test_a_regionless_branch_is_closed_by_all_regions_only(region: str) -> None:
    # semantics: W4, W4.6
    log = Log()
    log.add(branch("n", regionless=True, tag="t"))
    assert outcomes(log.close("n", region)) == ["region_not_of_branch"]
    assert log.close("n", all_regions=True).events == (closed_event("n", ""), SETTLED)


def test_what_cannot_be_closed_says_why() -> None:
    # semantics: W4, G5, G5.1, W4.2, W4.4
    log = Log()
    log.add(branch("gone", "eu"), request_id="r0")
    log.expire()
    log.add(branch("b1", "eu"))
    before = log.digest
    assert outcomes(log.close("nobody", "eu")) == ["branch_unknown"]
    assert outcomes(log.close("gone", "eu")) == ["request_expired"]
    assert outcomes(log.close("b1", "us")) == ["region_not_of_branch"]
    assert outcomes(log.close("b1")) == ["region_not_of_branch"]
    assert log.digest == before


def test_one_fault_never_fails_the_others() -> None:
    # semantics: W5
    log = Log()
    log.add(branch("b1", "eu", tag="t"), branch("b2", "eu", tag="t"))
    applied = log.close_many(
        Close(BranchId("b1"), Region("eu")),
        Close(BranchId("nobody"), Region("eu")),
        Close(BranchId("b1"), Region("eu")),
        Close(BranchId("b2"), Region("mars")),
        Close(BranchId("b2"), Region("eu")),
    )
    assert outcomes(applied) == [
        "closed",
        "branch_unknown",
        "already_closed",
        "region_not_of_branch",
        "closed",
    ]
    assert applied.events == (closed_event("b1", "eu"), closed_event("b2", "eu"), SETTLED)


def test_a_second_copy_of_a_close_answers_as_the_first() -> None:
    # semantics: G6, G6.1
    log = Log()
    assert outcomes(log.close("b1", "eu")) == ["branch_unknown"]
    unknown = log.commands[-1]
    log.add(branch("b1", "eu"))
    assert outcomes(log.apply(unknown)) == ["branch_unknown"]
    assert log.machine.state.branches[BranchId("b1")].open_mask


def test_times_of_closes_are_kept_for_people() -> None:
    # semantics: Q1
    log = Log()
    log.add(branch("b1", "eu", "us"), branch("g"))
    one, everywhere = log.request().branches
    assert one.closed_at_ms is None
    log.at_ms = 7
    log.close("b1", "us")
    log.close("g")
    assert one.closed_at_ms == [None, 7]
    assert everywhere.closed_at_ms == [7]
    assert [branch_status(one, slot) for slot in (0, 1)] == [Status.OPEN, Status.CLOSED]


def test_a_close_counts_as_activity() -> None:
    # semantics: L2
    log = Log()
    log.add(branch("b1", "eu", "us"))
    log.pulse(5)
    log.close("b1", "eu")
    assert log.request().last_activity_ms == 5
    log.pulse(5)
    log.close("b1", "eu")
    assert log.request().last_activity_ms == 5


def test_every_outcome_is_given_in_this_file() -> None:
    assert {outcome.value for outcome in CloseOutcome} == {
        "closed",
        "already_closed",
        "branch_unknown",
        "request_expired",
        "region_not_of_branch",
    }
