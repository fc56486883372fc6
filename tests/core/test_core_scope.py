"""Which branches a wait looks at: the rules S1 to S4, what is known, dependencies, checks."""

from __future__ import annotations

import pytest
from core_builders import R1, Log, branch, scope

from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import Scope
from rendezvous_raft.types import BranchId, Region, Service, Status, Tag, Zone


@pytest.fixture
def log() -> Log:
    """One request: a -> b -> c -> a (a cycle), b -> d; a branch of each kind."""
    log = Log()
    log.add(
        branch("a1", "eu", "us", service="a", tag="read"),
        branch("b1", "eu", service="b", parent="a1", zone="z"),
        branch("c1", "us", service="c", parent="b1", zone="z/1"),
        branch("a2", "us", service="a", tag="write", parent="c1"),
        branch("d1", service="d", parent="b1"),
        branch("e1", "eu", service="e", tag="read"),
        branch("f1", service="f", regionless=True),
    )
    return log


ALL = ["a1", "b1", "c1", "a2", "d1", "e1", "f1"]


@pytest.mark.parametrize(
    ("asked", "blocking"),
    [
        # semantics: S1
        (scope(), ALL),
        (scope("a"), ["a1", "a2"]),
        (scope("a", "e"), ["a1", "a2", "e1"]),
        (scope("never"), []),
        (scope("never", "e"), ["e1"]),
        (scope("b", dependencies=True), ["a1", "b1", "c1", "a2", "d1"]),
        (scope("c", dependencies=True), ["a1", "b1", "c1", "a2", "d1"]),
        (scope("d", dependencies=True), ["d1"]),
        (scope("d", "e", dependencies=True), ["d1", "e1"]),
        (scope("never", dependencies=True), []),
        (scope(dependencies=True), ALL),
        # semantics: S2
        (scope("a", tag="read"), ["a1"]),
        (scope("a", tag="write"), ["a2"]),
        (scope("a", tag="other"), []),
        (scope("b", tag="read"), []),
        # semantics: S3
        (scope(region="eu"), ["a1", "b1", "d1", "e1"]),
        (scope(region="us"), ["a1", "c1", "a2", "d1"]),
        (scope(region="mars"), ["d1"]),
        (scope("f", region="eu"), []),
        (scope("f"), ["f1"]),
        # semantics: S4
        (scope(zone=None), ALL),
        (scope(zone=""), ["b1", "c1"]),
        (scope(zone="z"), ["a1", "c1", "a2", "d1", "e1", "f1"]),
        (scope(zone="z/1"), ["a1", "b1", "a2", "d1", "e1", "f1"]),
        (scope(zone="unused"), ALL),
        # All of them at once.
        (scope("a", "c", region="us", tag="write", zone="z/1"), ["a2"]),
        (scope("b", region="us", zone="", dependencies=True), ["c1"]),
    ],
)
def test_scope(log: Log, asked: Scope, blocking: list[str]) -> None:
    # semantics: S1.1, S3.1, S4.1
    assert log.blocking(asked) == blocking
    found = queries.status(log.machine.state, log.request(), asked)
    assert (found is Status.OPEN) == bool(blocking)


def test_a_closed_region_no_longer_blocks_there(log: Log) -> None:
    # semantics: S3
    log.close("a1", "eu")
    assert log.blocking(scope("a", region="eu")) == []
    assert log.blocking(scope("a", region="us")) == ["a1", "a2"]
    assert log.blocking(scope("a")) == ["a1", "a2"]
    log.close("a1", "us")
    assert log.blocking(scope("a")) == ["a2"]


def test_a_global_branch_blocks_everywhere_until_closed(log: Log) -> None:
    # semantics: S3, S3.1
    for region in ("eu", "us", "never"):
        assert log.blocking(scope("d", region=region)) == ["d1"]
    log.close("d1")
    for region in ("", "eu", "us", "never"):
        assert log.blocking(scope("d", region=region)) == []


def test_an_empty_and_a_settled_request_block_nobody(log: Log) -> None:
    # semantics: W6
    log.register("r2")
    assert log.blocking(scope(), "r2") == []
    for branch_id in ALL:
        log.close(branch_id, all_regions=True)
    assert log.blocking(scope()) == []


def test_other_requests_do_not_count(log: Log) -> None:
    # semantics: S1
    log.add(branch("x", "eu", service="a"), request_id="r2")
    assert log.blocking(scope("a"), "r2") == ["x"]
    assert "x" not in log.blocking(scope())


def test_dependencies_are_each_named_once_and_cycles_end(log: Log) -> None:
    # semantics: D1, 3.3
    def deps(*services: str) -> list[str]:
        wanted = [Service(service) for service in services]
        return list(queries.dependencies(log.request(), wanted))

    assert deps("a") == ["b", "c", "d", "a"]
    assert deps("b") == ["c", "d", "a", "b"]
    assert deps("d") == []
    assert deps("d", "a") == ["b", "c", "d", "a"]


def test_a_parent_of_the_same_service_is_no_edge() -> None:
    # semantics: D1, 3.1
    log = Log()
    log.add(branch("p", service="a"), branch("q", service="a", parent="p"))
    assert log.request().dependants == {}


def test_parents_of_other_services_make_edges_once() -> None:
    # semantics: 3.1, 3.2
    log = Log()
    log.add(branch("a1", service="a"), branch("b1", service="b"))
    assert log.request().dependants == {}
    for name in ("b2", "b3"):
        log.add(branch(name, service="b", parent="a1"))
    assert log.request().dependants == {"a": {"b": None}}
    # An edge is a fact about the services: it outlives what made it.
    for name in ("a1", "b2", "b3"):
        log.close(name)
    assert log.blocking(scope("a", dependencies=True)) == ["b1"]


def test_fetch_dependencies(log: Log) -> None:
    # semantics: D1, D1.1, 5.8
    def fetch(service: str, zone: str | None = None) -> tuple[list[str], list[str]]:
        given = None if zone is None else Zone(zone)
        direct, indirect = queries.fetch_dependencies(log.request(), Service(service), given)
        return list(direct), list(indirect)

    assert fetch("b") == (["c", "d"], ["a"])
    assert fetch("a") == (["b"], ["c", "d"])
    assert fetch("e") == ([], [])
    assert fetch("never") == ([], [])
    assert fetch("b", zone="z/1") == (["d"], ["a"])
    assert fetch("") == (["a", "b", "c", "d", "e", "f"], [])
    assert fetch("", zone="") == (["b", "c"], [])
    log.close("c1", "us")
    assert fetch("b") == (["d"], ["a"])
    log.close("d1")
    assert fetch("") == (["a", "b", "e", "f"], [])


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        (scope(), True),
        (scope("a"), True),
        (scope("a", "f"), True),
        (scope("a", "never"), False),
        (scope(region="us"), True),
        (scope(region="never"), False),
        (scope("a", tag="read"), True),
        (scope("b", tag="read"), False),
        (scope(tag="read"), True),
        (scope(tag="never"), False),
        (scope("d", region="eu"), True),
        (scope(zone="never"), True),
        (scope(waiter="never"), True),
    ],
)
def test_known_means_ever_used(log: Log, asked: Scope, known: bool) -> None:
    # semantics: R4
    assert queries.is_known(log.request(), asked) is known
    for branch_id in ALL:
        log.close(branch_id, all_regions=True)
    assert queries.is_known(log.request(), asked) is known
    expected = Status.CLOSED if known else Status.UNKNOWN
    # semantics: C1
    assert queries.status(log.machine.state, log.request(), asked) is expected


def test_a_request_without_branches_knows_only_the_empty_scope() -> None:
    # semantics: R4
    log = Log()
    log.register()
    assert queries.is_known(log.request(), scope())
    assert not queries.is_known(log.request(), scope("a"))


def test_an_open_global_branch_makes_a_check_open_in_a_region_never_used(log: Log) -> None:
    # semantics: C1, S3, S3.1
    state, asked = log.machine.state, scope(region="never")
    assert queries.status(state, log.request(), asked) is Status.OPEN
    log.close("d1")
    assert queries.status(state, log.request(), asked) is Status.UNKNOWN


def test_status_by_tag(log: Log) -> None:
    # semantics: C1, C1.1
    def tags(asked: Scope) -> dict[str, str]:
        found = queries.status_by_tag(log.request(), asked)
        return {str(tag): status.value for tag, status in found.items()}

    log.close("e1", "eu")
    assert tags(scope()) == {"read": "open", "write": "open"}
    assert tags(scope(region="eu")) == {"read": "open", "write": "closed"}
    assert tags(scope("e")) == {"read": "closed"}
    assert tags(scope("d")) == {}
    assert tags(scope("b", dependencies=True)) == {"read": "open", "write": "open"}
    # Zones do not count here.
    assert tags(scope("a", zone="")) == {"read": "open", "write": "open"}
    # One open branch of several with one tag is enough, whichever comes first.
    log.add(branch("e2", "eu", service="e", tag="read"))
    assert tags(scope("e")) == {"read": "open"}
    log.add(branch("e3", "us", service="e", tag="read"))
    log.close("e3", "us")
    assert tags(scope("e")) == {"read": "open"}


def test_status_by_region(log: Log) -> None:
    # semantics: C2
    def regions(*services: str) -> dict[str, str]:
        wanted = dict.fromkeys(Service(service) for service in services)
        found = queries.status_by_region(log.request(), wanted)
        return {str(region): status.value for region, status in found.items()}

    log.close("a1", "eu")
    assert regions("a") == {"eu": "closed", "us": "open"}
    assert regions("a", "e") == {"eu": "open", "us": "open"}
    assert regions("f") == {}
    assert regions("d") == {}
    assert regions() == {"eu": "open", "us": "open"}
    # An open global branch of these services is open in every region they used.
    assert regions("a", "d") == {"eu": "open", "us": "open"}
    log.close("d1")
    assert regions("a", "d") == {"eu": "closed", "us": "open"}


def test_required_branches_are_missing_until_registered_in_this_request(log: Log) -> None:
    # semantics: R1, R1.1
    log.add(branch("x", "eu"), request_id="r2")
    wanted = [BranchId("a1"), BranchId("x"), BranchId("later")]
    assert queries.missing_branches(log.machine.state, R1, wanted) == ["x", "later"]
    log.add(branch("later", "eu"))
    log.close("later", "eu")
    assert queries.missing_branches(log.machine.state, R1, wanted) == ["x"]


def test_services_and_tags_of_branches(log: Log) -> None:
    assert queries.uses_service(log.request(), Service("d"))
    assert not queries.uses_service(log.request(), Service("never"))
    assert {b.tag for b in log.request().branches} == {Tag("read"), Tag("write"), Tag("")}
    assert log.machine.state.branches[BranchId("a1")].is_open_in(Region("eu"))
