"""Cluster time, expiry, tombstones, versions."""

from __future__ import annotations

import pytest
from core_builders import FOREVER_MS, Log, branch

from rendezvous_raft.core.events import ExpiredBranch, RequestExpired
from rendezvous_raft.core.results import (
    Nothing,
    Reason,
    Rejected,
    RequestsExpired,
    TimeAdvanced,
    VersionActivated,
)
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.types import BranchId, Region, RequestId, Service, Tag


def names(applied_events: tuple[object, ...]) -> list[str]:
    return [event.request_id for event in applied_events]  # type: ignore[attr-defined]


def test_only_pulses_move_time_and_only_forwards() -> None:
    # semantics: L1, L1.1
    log = Log()
    log.at_ms = FOREVER_MS
    log.add(branch("b1", "eu"))
    log.close("b1", "eu")
    assert log.machine.state.time_ms == 0
    assert log.pulse(7).result == TimeAdvanced(7)
    assert log.pulse(-3).result == TimeAdvanced(7)
    assert log.pulse(0).result == TimeAdvanced(7)
    assert log.pulse(1).result == TimeAdvanced(8)


def test_a_wall_clock_that_jumps_expires_nothing() -> None:
    # semantics: L1, L1.1
    log = Log()
    log.register("r1")
    log.at_ms = FOREVER_MS
    log.register("r2")
    assert log.expire(settled_ttl_ms=1, open_ttl_ms=1).result == RequestsExpired(0, 0, more=False)


def test_settled_and_open_requests_have_lives_of_their_own() -> None:
    # semantics: L2
    log = Log()
    log.register("empty")
    log.add(branch("b1", "eu"), request_id="open")
    log.add(branch("b2", "eu"), request_id="settled")
    log.close("b2", "eu")
    log.pulse(9)
    ttls = {"settled_ttl_ms": 10, "open_ttl_ms": 20}
    assert log.expire(**ttls).result == RequestsExpired(0, 0, more=False)
    log.pulse(1)
    first = log.expire(**ttls)
    assert first.result == RequestsExpired(settled=2, open=0, more=False)
    assert names(first.events) == ["empty", "settled"]
    log.pulse(9)
    assert log.expire(**ttls).events == ()
    log.pulse(1)
    second = log.expire(**ttls)
    assert second.result == RequestsExpired(settled=0, open=1, more=False)
    assert names(second.events) == ["open"]


def test_activity_prolongs_a_life_and_repeating_what_is_there_does_not() -> None:
    # semantics: L2
    log = Log()
    for name in ("r1", "r2", "r3", "r4"):
        log.add(branch(f"b-{name}", "eu", "us"), request_id=name)
    log.pulse(5)
    log.close("b-r1", "eu")
    log.add(branch("more", "eu"), request_id="r2")
    log.register("r3")
    log.add(branch("b-r4", "eu", "us"), request_id="r4")
    log.pulse(5)
    assert names(log.expire(open_ttl_ms=10).events) == ["r3", "r4"]
    log.pulse(5)
    assert names(log.expire(open_ttl_ms=10).events) == ["r1", "r2"]


def test_the_least_recently_active_go_first_and_the_bound_holds() -> None:
    # semantics: L2
    log = Log()
    for name in ("r1", "r2", "r3"):
        log.register(name)
    for name in ("r4", "r5"):
        log.add(branch(f"b-{name}", "eu"), request_id=name)
    log.add(branch("b-r1", "eu"), request_id="r1")
    log.close("b-r1", "eu")
    assert list(log.machine.state.settled_order) == ["r2", "r3", "r1"]
    first = log.expire(requests_max=1)
    assert (names(first.events), first.result) == (["r2"], RequestsExpired(1, 0, more=True))
    second = log.expire(requests_max=3)
    assert names(second.events) == ["r3", "r1", "r4"]
    assert second.result == RequestsExpired(settled=2, open=1, more=True)
    third = log.expire(requests_max=3)
    assert (names(third.events), third.result) == (["r5"], RequestsExpired(0, 1, more=False))


def test_a_bound_of_nothing_expires_nothing() -> None:
    # semantics: L2
    log = Log()
    log.register()
    assert log.expire(requests_max=0).result == RequestsExpired(0, 0, more=False)


def test_requests_with_a_live_waiter_are_kept_and_do_not_count() -> None:
    # semantics: L2, L2.2
    log = Log()
    for name in ("r1", "r2", "r3"):
        log.add(branch(f"b-{name}", "eu"), request_id=name)
    applied = log.expire("r1", "nobody", requests_max=1)
    assert names(applied.events) == ["r2"]
    assert names(log.expire("r1").events) == ["r3"]
    assert list(log.machine.state.requests) == ["r1"]


def test_a_young_request_stops_the_search() -> None:
    # semantics: L2
    log = Log()
    log.register("old")
    log.pulse(5)
    log.register("young")
    assert names(log.expire(settled_ttl_ms=5).events) == ["old"]


def test_expiry_tells_subscribers_what_they_lose() -> None:
    # semantics: L2, U1
    log = Log()
    log.add(
        branch("regional", "eu", "us", tag="t"),
        branch("everywhere"),
        branch("nowhere", regionless=True),
        branch("quiet", "eu", monitored=False),
        branch("closed", "eu"),
    )
    log.close("regional", "eu")
    log.close("closed", "eu")
    (event,) = log.expire().events
    post = Service("post")
    regional = ExpiredBranch(BranchId("regional"), post, Tag("t"), (Region("us"),), is_global=False)
    everywhere = ExpiredBranch(BranchId("everywhere"), post, Tag(""), (), is_global=True)
    r1 = RequestId("r1")
    assert event == RequestExpired(r1, settled=False, branches=(regional, everywhere))
    assert not log.machine.state.queues
    assert not log.machine.state.open_by_region
    assert log.machine.state.branches_open == 0


def test_a_tombstone_answers_for_its_request_and_branches() -> None:
    # semantics: L2, G5, L2.3, G5.1
    log = Log()
    log.add(branch("b1", "eu"))
    log.expire()
    expired = Rejected(Reason.REQUEST_EXPIRED, "r1")
    assert log.register().result == expired
    assert log.add(branch("b2")).result == expired
    # Its branch id is not free for another request either.
    assert log.add(branch("b1", "eu"), request_id="r2").result == expired
    assert RequestId("r2") not in log.machine.state.requests


def test_a_tombstone_ends_with_its_time() -> None:
    # semantics: L2, L2.3
    log = Log()
    log.add(branch("b1", "eu"))
    log.expire()
    log.pulse(9)
    log.expire(tombstone_ttl_ms=10)
    assert list(log.machine.state.tombstones) == ["r1"]
    log.pulse(1)
    log.expire(tombstone_ttl_ms=10)
    assert not log.machine.state.tombstones
    assert not log.machine.state.expired_branches


def test_a_younger_tombstone_stays() -> None:
    # semantics: L2, L2.3
    log = Log()
    log.add(branch("b1"), request_id="r1")
    log.expire()
    log.pulse(5)
    log.add(branch("b2"), request_id="r2")
    log.expire(tombstone_ttl_ms=5)
    assert list(log.machine.state.tombstones) == ["r2"]
    assert list(log.machine.state.expired_branches) == ["b2"]


@pytest.mark.parametrize(
    ("bound", "left"),
    [(8, ["r1", "r2", "r3"]), (7, ["r2", "r3"]), (4, ["r3"]), (3, ["r3"]), (2, []), (0, [])],
)
def test_tombstones_are_bounded_with_their_branch_ids_and_the_oldest_go(
    bound: int, left: list[str]
) -> None:
    # semantics: L2, L3, L2.3. r1, r2 and r3 leave an id and 1, 2 and 2 ids of branches.
    log = Log(StateLimits(tombstones_max=bound))
    log.add(branch("a"), request_id="r1")
    log.add(branch("b"), branch("c"), request_id="r2")
    log.add(branch("d"), branch("e"), request_id="r3")
    log.expire()
    assert list(log.machine.state.tombstones) == left
    assert not log.machine.state.requests


def test_versions_only_rise() -> None:
    log = Log()
    assert log.machine.state.version == 1
    assert log.activate(3).result == VersionActivated(3)
    assert log.activate(2).result == VersionActivated(3)


def test_a_barrier_changes_nothing_but_the_revision() -> None:
    # semantics: G3
    log = Log()
    log.add(branch("b1"))
    before = log.digest
    applied = log.barrier()
    assert (applied.revision, applied.result, applied.events) == (2, Nothing(), ())
    assert log.digest == before


def test_the_revision_counts_rejected_commands_and_retries_too() -> None:
    # semantics: G3
    log = Log()
    log.add(branch("c", parent="nobody"))
    log.retry()
    log.close("nobody")
    assert log.machine.revision == 3
