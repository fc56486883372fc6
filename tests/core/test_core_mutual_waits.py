"""Rule S5: waits that would wait for each other, and the leases by which nodes know of them."""

from __future__ import annotations

import pytest
from core_builders import R1, Log, branch, scope

from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import Scope
from rendezvous_raft.core.events import WaitLeaseChanged
from rendezvous_raft.core.results import LeaseChanged, Reason, Rejected
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.testing.naive_model import NaiveModel
from rendezvous_raft.types import LeaseId, Status


@pytest.fixture
def log() -> Log:
    """Zones of one request, a branch in each; the parent zone is a prefix of its children."""
    log = Log()
    log.add(
        branch("root", "eu", service="web"),
        branch("z1", "eu", service="a", zone="z/1"),
        branch("z2", "eu", service="b", zone="z/2"),
    )
    return log


def test_a_greater_zone_that_waits_itself_does_not_block(log: Log) -> None:
    # semantics: S5
    assert log.blocking(scope(zone="z/1")) == ["root", "z2"]
    log.begin_wait("w2", scope(zone="z/2"))
    assert log.blocking(scope(zone="z/1")) == ["root"]
    assert log.blocking(scope(zone="")) == ["z1"]


def test_a_smaller_zone_that_waits_itself_does_block(log: Log) -> None:
    # semantics: S5. Exactly one of the two gives way, so that one of them waits on.
    log.begin_wait("w1", scope(zone="z/1"))
    log.begin_wait("w2", scope(zone="z/2"))
    assert log.blocking(scope(zone="z/2")) == ["root", "z1"]
    assert log.blocking(scope(zone="z/1")) == ["root"]


@pytest.mark.parametrize(
    "asked",
    [
        scope(),  # no zone given: nothing is left out
        scope("b", zone="z/1"),  # a wait for services means them
        scope(zone="z/3"),  # z/2 is not greater
    ],
    ids=["no zone", "services", "greater waiter"],
)
def test_the_zone_rule_needs_a_given_zone_and_no_services(log: Log, asked: Scope) -> None:
    # semantics: S5, S4, S5.2
    log.begin_wait("w2", scope(zone="z/2"))
    assert "z2" in log.blocking(asked)


@pytest.mark.parametrize("other", [scope("web", zone="z/2"), scope(), scope("web", waiter="b")])
def test_a_wait_with_services_or_without_zone_masks_no_zone(log: Log, other: Scope) -> None:
    # semantics: S5
    log.begin_wait("w2", other)
    assert log.blocking(scope(zone="z/1")) == ["root", "z2"]


def test_zones_are_compared_by_code_point(log: Log) -> None:
    # semantics: S5. U+FF5E is above the surrogates that UTF-16 would use for U+1F600.
    log.add(branch("emoji", "eu", zone="\U0001f600"), branch("tilde", "eu", zone="\uff5e"))
    log.begin_wait("w", scope(zone="\U0001f600"))
    assert "emoji" not in log.blocking(scope(zone="\uff5e"))
    log.end_wait("w")
    log.begin_wait("w", scope(zone="\uff5e"))
    assert "tilde" in log.blocking(scope(zone="\U0001f600"))


def test_a_service_that_waits_for_the_waiter_does_not_block_it(log: Log) -> None:
    # semantics: S5, S5.1, S5.2
    log.begin_wait("w", scope("web", waiter="a"))
    assert log.blocking(scope(waiter="web")) == ["root", "z2"]
    assert log.blocking(scope(waiter="b")) == ["root", "z1", "z2"]
    assert log.blocking(scope()) == ["root", "z1", "z2"]
    # A wait for services means them, mutual or not.
    assert log.blocking(scope("a", waiter="web")) == ["z1"]


def test_a_service_that_waits_for_dependencies_does_not_block_them() -> None:
    # semantics: S1.1, S5, S5.1. The waiter is not named, but what is named leads to it.
    log, model = Log(), NaiveModel()
    log.add(
        branch("a1", "us", service="a"),
        branch("w1", "us", service="w", parent="a1"),
        branch("b1", "us", service="b"),
    )
    log.begin_wait("l", scope("a", waiter="b", dependencies=True))
    for command in log.commands:
        model.apply(command)
    assert log.blocking(scope(waiter="w")) == ["a1", "w1"]
    assert model.blocking(R1, scope(waiter="w")) == {"a1", "w1"}


def test_a_wait_for_services_without_a_waiter_masks_no_service(log: Log) -> None:
    # semantics: S5, S5.1
    log.begin_wait("w", scope("web"))
    log.begin_wait("v", scope(waiter="a"))
    assert log.blocking(scope(waiter="web")) == ["root", "z1", "z2"]


def test_both_rules_at_once(log: Log) -> None:
    # semantics: S5, S5.1
    log.begin_wait("w1", scope("web", waiter="a"))
    log.begin_wait("w2", scope(zone="z/2"))
    assert log.blocking(scope(zone="", waiter="web")) == []


def test_a_lease_that_outlives_its_wait_masks_nothing(log: Log) -> None:
    # semantics: R7, R7.3. What w2 waits for is closed; its end is still on its way.
    log.begin_wait("w2", scope(zone="z/2"))
    log.close("root", "eu")
    assert log.blocking(scope(zone="z/1")) == []
    log.close("z1", "eu")
    assert log.blocking(scope(zone="z/1")) == ["z2"]


def test_a_lease_in_a_region_masks_while_that_region_is_open(log: Log) -> None:
    # semantics: R7, R7.3
    log.add(branch("m", "eu", "us", service="m"))
    log.begin_wait("w2", scope(region="us", zone="z/2"))
    assert "z2" not in log.blocking(scope(zone="z/1"))
    log.close("m", "us")
    assert "z2" in log.blocking(scope(zone="z/1"))


def test_leases_of_other_requests_mask_nothing(log: Log) -> None:
    # semantics: S5
    log.add(branch("x", "eu"), request_id="r2")
    log.begin_wait("w2", scope(zone="z/2"), request_id="r2")
    assert log.blocking(scope(zone="z/1")) == ["root", "z2"]


def test_a_check_ignores_mutual_waits(log: Log) -> None:
    # semantics: C1, S5, 5.5
    log.begin_wait("w2", scope(zone="z/2"))
    log.close("root", "eu")
    asked = scope(zone="z/1")
    assert log.blocking(asked) == []
    log.begin_wait("w3", scope("a", waiter="b"))
    log.close("z1", "eu")
    assert queries.status(log.machine.state, log.request(), asked) is Status.OPEN


def test_which_waits_need_a_lease() -> None:
    # semantics: R7
    assert queries.uses_mutual_waits(scope(zone=""))
    assert queries.uses_mutual_waits(scope(waiter="a"))
    assert queries.uses_mutual_waits(scope("a", waiter="b"))
    assert not queries.uses_mutual_waits(scope())
    assert not queries.uses_mutual_waits(scope("a", zone="z"))


def test_a_lease_begins_is_renewed_and_ends(log: Log) -> None:
    # semantics: R7
    changed = (WaitLeaseChanged(R1),)
    begun = log.begin_wait("w", scope(zone="z/2"), ttl_ms=10)
    assert (begun.result, begun.events) == (LeaseChanged(known=False), changed)
    log.pulse(6)
    renewed = log.begin_wait("w", scope(zone="z/2"), ttl_ms=10)
    assert (renewed.result, renewed.events) == (LeaseChanged(known=True), ())
    assert log.pulse(9).events == ()
    ended = log.end_wait("w")
    assert (ended.result, ended.events) == (LeaseChanged(known=True), changed)
    again = log.end_wait("w")
    assert (again.result, again.events) == (LeaseChanged(known=False), ())
    assert not log.machine.state.leases_by_request


def test_a_lease_that_is_not_renewed_ends_with_cluster_time(log: Log) -> None:
    # semantics: R7, L1, R7.2
    log.begin_wait("w", scope(zone="z/2"), ttl_ms=10)
    log.begin_wait("v", scope(zone="z/3"), ttl_ms=30)
    assert log.pulse(9).events == ()
    assert log.blocking(scope(zone="z/1")) == ["root"]
    assert log.pulse(1).events == (WaitLeaseChanged(R1),)
    assert list(log.machine.state.leases) == ["v"]
    assert log.blocking(scope(zone="z/1")) == ["root", "z2"]


def test_a_renewal_never_shortens_a_lease(log: Log) -> None:
    # semantics: R7. Renewals may be applied in another order than they were sent.
    log.begin_wait("w", scope(zone="z/2"), ttl_ms=10)
    log.begin_wait("w", scope(zone="z/2"), ttl_ms=3)
    log.pulse(9)
    assert list(log.machine.state.leases) == ["w"]


def test_leases_are_bounded_and_renewals_always_fit(log: Log) -> None:
    # semantics: L3
    log.machine.limits = StateLimits(leases_max=1)
    log.begin_wait("w", scope(zone="z/2"))
    before = log.digest
    rejected = log.begin_wait("v", scope(zone="z/2"))
    assert rejected.result == Rejected(Reason.LIMIT, "leases_max")
    assert log.digest == before
    assert log.begin_wait("w", scope(zone="z/2")).result == LeaseChanged(known=True)


def test_an_expired_request_takes_its_leases_along(log: Log) -> None:
    # semantics: R7, L2
    log.begin_wait("w", scope(zone="z/2"))
    log.begin_wait("v", scope(zone="z/3"))
    log.begin_wait("other", scope(zone="z"), request_id="r2")
    log.expire()
    assert list(log.machine.state.leases) == [LeaseId("other")]
    rejected = log.begin_wait("w", scope(zone="z/2"))
    assert rejected.result == Rejected(Reason.REQUEST_EXPIRED, "r1")
