"""The small pure parts: back-off, rate, pending set, intersection."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.monitor.backoff import Backoff
from rendezvous_raft.monitor.pending import PendingSet
from rendezvous_raft.monitor.ports import BranchOpened, PendingBranch, ProbeError
from rendezvous_raft.monitor.probes.intersection import EndpointAnswer, intersect
from rendezvous_raft.monitor.rate import TokenRate
from rendezvous_raft.types import BranchId, RequestId, Revision, Tag

A, B, C = BranchId("a"), BranchId("b"), BranchId("c")


@given(seed=st.integers(), jitter=st.floats(0, 1))
def test_pauses_double_to_their_bound_and_are_never_zero(seed: int, jitter: float) -> None:
    backoff = Backoff(Random(seed), first_s=0.1, max_s=10.0, jitter=jitter)
    for expected in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0):
        pause_s = backoff.next_pause_s()
        assert 0 < pause_s <= expected * (1 + 1e-9)
        assert pause_s >= expected * (1 - jitter) * (1 - 1e-9)
    backoff.reset()
    assert backoff.next_pause_s() <= 0.1 * (1 + 1e-9)


def test_a_rate_allows_its_burst_and_then_what_time_brings() -> None:
    rate = TokenRate(per_second=10, burst=5)
    assert rate.available(100.0) == 5
    rate.take(100.0, 5)
    assert rate.available(100.0) == 0
    assert rate.ready_at(100.0) == pytest.approx(100.1)
    assert rate.available(100.21) == 2
    assert rate.available(1_000.0) == 5


def opened(branch_id: BranchId) -> BranchOpened:
    return BranchOpened(
        branch_id=branch_id,
        request_id=RequestId("r"),
        tag=Tag(""),
        locator=b"",
        registered_at_s=None,
        is_global=False,
        revision=Revision(1),
    )


def test_a_list_makes_the_pending_set_exactly_what_was_listed() -> None:
    """M1."""
    pending = PendingSet()
    pending.begin_list()
    assert pending.add(opened(A), since=0.0)
    assert pending.add(opened(B), since=0.0)
    assert pending.end_list() == []
    pending.begin_list()
    assert not pending.add(opened(B), since=5.0)
    assert pending.add(opened(C), since=5.0)
    pending.discard(C)
    assert pending.end_list() == [A]
    assert [known.opened.branch_id for known in pending] == [B]
    assert pending.end_list() == []


def test_an_unfinished_list_does_not_count() -> None:
    pending = PendingSet()
    pending.begin_list()
    pending.add(opened(A), since=0.0)
    pending.begin_list()
    pending.add(opened(B), since=0.0)
    assert pending.end_list() == [A], "closed between the two lists"


def test_a_list_that_breaks_removes_nothing() -> None:
    pending = PendingSet()
    pending.begin_list()
    pending.add(opened(A), since=0.0)
    pending.end_list()
    pending.begin_list()
    pending.begin_list()
    pending.add(opened(A), since=0.0)
    assert pending.end_list() == []
    assert A in pending


PENDING = [PendingBranch(A), PendingBranch(B), PendingBranch(C)]


def test_visible_is_what_every_endpoint_has() -> None:
    """V2."""
    answers = [
        EndpointAnswer("e1", 0.1, frozenset((A, B))),
        EndpointAnswer("e2", 0.1, frozenset((B, C))),
    ]
    result = intersect(PENDING, answers)
    assert result.visible == {B}
    assert result.absent == {A, C}
    assert not result.failed
    assert [(look.endpoint, look.visible, look.absent) for look in result.looks] == [
        ("e1", 2, 1),
        ("e2", 2, 1),
    ]


def test_an_endpoint_that_is_away_makes_nothing_visible() -> None:
    away = ProbeError("away")
    answers = [EndpointAnswer("e1", 0.1, frozenset((A,))), EndpointAnswer("e2", 0.1, error=away)]
    result = intersect(PENDING, answers)
    assert result.visible == frozenset()
    assert result.absent == {B, C}, "one endpoint lacks them: that much is known"
    assert dict(result.failed) == {A: away}


def test_no_endpoint_is_no_answer() -> None:
    with pytest.raises(ValueError, match="endpoint"):
        intersect(PENDING, [])


names = st.sampled_from([A, B, C])
endpoint_answers = st.one_of(
    st.frozensets(names).map(lambda found: EndpointAnswer("e", 0.0, found)),
    st.just(EndpointAnswer("e", 0.0, error=ProbeError("away"))),
)


@given(st.lists(endpoint_answers, min_size=1, max_size=4))
def test_every_branch_gets_exactly_one_of_three_answers(answers: list[EndpointAnswer]) -> None:
    """V3."""
    result = intersect(PENDING, answers)
    parts = (result.visible, result.absent, frozenset(result.failed))
    assert frozenset().union(*parts) == {A, B, C}
    assert sum(map(len, parts)) == 3
    for branch_id in result.visible:
        assert all(answer.error is None and branch_id in answer.visible for answer in answers)
