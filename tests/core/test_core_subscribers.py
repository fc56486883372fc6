"""What subscribers are listed first, the counts beside the queues, and the pages for people."""

from __future__ import annotations

import pytest
from core_builders import Log, branch

from rendezvous_raft.core import queries
from rendezvous_raft.types import Region, Service, Status


def test_regional_and_global_branches_are_listed_as_one_oldest_first() -> None:
    # semantics: U1
    log = Log()
    log.add(branch("b1", "eu", "us"), branch("g1"))
    log.add(branch("b2", "eu"), request_id="r2")
    log.add(branch("g2"), branch("b3", "us"), request_id="r3")
    assert log.listed("post", "eu") == ["b1", "g1", "b2", "g2"]
    assert log.listed("post", "us") == ["b1", "g1", "g2", "b3"]
    assert log.listed("post", "never") == ["g1", "g2"]
    assert log.listed("other", "eu") == []


def test_only_regional_branches_are_listed_in_order() -> None:
    # semantics: U1
    log = Log()
    log.add(branch("b2", "eu"), branch("b1", "eu"))
    assert log.listed("post", "eu") == ["b2", "b1"]


def test_a_close_takes_a_branch_off_the_list_of_its_region() -> None:
    # semantics: U1
    log = Log()
    log.add(branch("b1", "eu", "us"), branch("g1"), branch("b2", "eu"))
    log.close("b1", "eu")
    assert log.listed("post", "eu") == ["g1", "b2"]
    assert log.listed("post", "us") == ["b1", "g1"]
    log.close("g1")
    assert log.listed("post", "eu") == ["b2"]
    log.close("b2", "eu")
    log.close("b1", "us")
    assert not log.machine.state.queues


def test_services_have_lists_of_their_own() -> None:
    # semantics: U1
    log = Log()
    log.add(branch("a", "eu", service="a"), branch("b", "eu", service="b"))
    assert log.listed("a", "eu") == ["a"]
    log.close("a", "eu")
    assert log.listed("b", "eu") == ["b"]


def test_unmonitored_and_regionless_branches_are_not_delivered() -> None:
    # semantics: U1
    log = Log()
    log.add(
        branch("quiet", "eu", monitored=False),
        branch("quiet-global", monitored=False),
        branch("nowhere", regionless=True),
        branch("loud", "eu"),
    )
    for region in ("eu", ""):
        assert log.listed("post", region) == (["loud"] if region else [])
    log.close("quiet", "eu")
    log.close("quiet-global")
    log.close("nowhere", all_regions=True)
    assert log.listed("post", "eu") == ["loud"]


def test_a_subscriber_that_resumes_is_told_what_is_newer() -> None:
    # semantics: U1, U4, U1.3
    log = Log()
    revisions = [log.add(branch(f"b{n}", "eu")).revision for n in range(3)]
    assert log.listed("post", "eu", after=0) == ["b0", "b1", "b2"]
    assert log.listed("post", "eu", after=revisions[0]) == ["b1", "b2"]
    log.add(branch("g"))
    assert log.listed("post", "eu", after=revisions[2]) == ["g"]
    assert log.listed("post", "eu", after=log.machine.revision) == []


def test_a_branch_registered_before_any_subscriber_is_listed() -> None:
    # semantics: U2, U2.1
    log = Log()
    log.add(branch("early", "eu"))
    log.pulse(1)
    assert log.listed("post", "eu") == ["early"]


def test_open_branches_are_counted_per_region() -> None:
    log = Log()
    log.add(branch("b1", "eu", "us"), branch("g"), branch("n", regionless=True))
    state = log.machine.state
    assert (state.open_by_region, state.branches_open) == ({"eu": 1, "us": 1, "": 2}, 3)
    log.close("b1", "eu")
    log.close("n", all_regions=True)
    assert (state.open_by_region, state.branches_open) == ({"us": 1, "": 1}, 2)
    log.expire()
    assert (state.open_by_region, state.branches_open) == ({}, 0)


@pytest.fixture
def log() -> Log:
    """Five requests, the even ones settled, the first two of service a."""
    log = Log()
    for number in range(1, 6):
        name = f"r{number}"
        service = "a" if number <= 2 else "b"
        log.add(branch(f"b{number}", "eu", service=service), request_id=name)
        if number % 2 == 0:
            log.close(f"b{number}", "eu")
    return log


@pytest.mark.parametrize(
    ("wanted", "service", "names"),
    [
        (None, "", ["r1", "r2", "r3", "r4", "r5"]),
        (Status.OPEN, "", ["r1", "r3", "r5"]),
        (Status.CLOSED, "", ["r2", "r4"]),
        (None, "a", ["r1", "r2"]),
        (Status.CLOSED, "b", ["r4"]),
        (None, "never", []),
    ],
)
@pytest.mark.parametrize("page_size", [1, 2, 3, 5, 6])
def test_pages_are_all_there_once(
    log: Log, wanted: Status | None, service: str, names: list[str], page_size: int
) -> None:
    # semantics: Q1, Q1.1
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        page, after = queries.list_requests(
            log.machine.state, wanted, Service(service), after=after, page_size=page_size
        )
        assert len(page) == page_size or after is None
        found += [request.request_id for request in page]
    assert found == names


def test_a_page_goes_on_where_the_last_one_ended_also_when_requests_go() -> None:
    # semantics: Q1, Q1.1
    log = Log()
    for name in ("r1", "r2", "r3", "r4"):
        log.register(name)
    page, after = queries.list_requests(log.machine.state, None, Service(""), after=0, page_size=2)
    assert [request.request_id for request in page] == ["r1", "r2"]
    assert after is not None
    log.expire("r4")
    page, after = queries.list_requests(
        log.machine.state, None, Service(""), after=after, page_size=2
    )
    assert [request.request_id for request in page] == ["r4"]
    assert after is None


@pytest.mark.parametrize("page_size", [0, -1])
def test_a_page_has_room_for_one(log: Log, page_size: int) -> None:
    # semantics: Q1.1
    state = log.machine.state
    page, after = queries.list_requests(
        state, Status.CLOSED, Service(""), after=0, page_size=page_size
    )
    assert [request.request_id for request in page] == ["r2"]
    assert after is not None
    page, after = queries.list_requests(
        state, Status.CLOSED, Service(""), after=after, page_size=page_size
    )
    assert [request.request_id for request in page] == ["r4"]
    assert after is None


def test_status_of_a_request(log: Log) -> None:
    # semantics: Q1
    assert queries.request_status(log.request("r1")) is Status.OPEN
    assert queries.request_status(log.request("r2")) is Status.CLOSED
    assert log.request("r1").branches[0].open_regions() == (Region("eu"),)
