"""Checks, dependencies, descriptions, listings: fresh enough or no answer (semantics G3 to Q1)."""

from __future__ import annotations

from collections.abc import Coroutine

import pytest
from node_bench import (
    LINEARIZABLE,
    LOCAL,
    R1,
    NodeBench,
    branch,
    close,
    failure_of,
    scope,
    session,
)

from rendezvous_raft import errors
from rendezvous_raft.core.commands import BeginWait, ExpireRequests, Scope
from rendezvous_raft.node.calls import CheckAnswer, DescriptionQuery, Freshness, RequestPage
from rendezvous_raft.types import (
    BranchKind,
    LeaseId,
    Region,
    RequestId,
    Service,
    Status,
    Tag,
    Zone,
)


async def check(
    bench: NodeBench, in_scope: Scope, *, detailed: bool = False, freshness: Freshness = LOCAL
) -> CheckAnswer:
    return await bench.node.check(
        R1, in_scope, detailed=detailed, freshness=freshness, deadline_s=bench.deadline_s
    )


def every_read(
    bench: NodeBench, freshness: Freshness, request_id: RequestId = R1
) -> list[Coroutine[object, object, object]]:
    node, fresh = bench.node, {"freshness": freshness, "deadline_s": bench.deadline_s}
    return [
        node.check(request_id, scope(), detailed=False, **fresh),
        node.check_by_regions(request_id, (), **fresh),
        node.fetch_dependencies(request_id, Service(""), None, **fresh),
        node.describe(
            DescriptionQuery(request_id, freshness=freshness), deadline_s=bench.deadline_s
        ),
    ]


async def page(
    bench: NodeBench, *, status: Status | None = None, service: str = "", after: int = 0
) -> RequestPage:
    return await bench.node.list_requests(
        status=status,
        service=Service(service),
        after=after,
        page_size=2,
        freshness=LOCAL,
        deadline_s=bench.deadline_s,
    )


async def test_a_check_says_open_closed_or_unknown(bench: NodeBench) -> None:
    # semantics: C1
    bench.opened(branch("b1", "eu", "us", tag="t"))
    bench.elsewhere(bench.closing(close("b1", "us")))
    assert (await check(bench, scope(region="eu"))).status is Status.OPEN
    assert (await check(bench, scope(region="us"))).status is Status.CLOSED
    for unknown in (scope(region="mars"), scope("other"), scope("post", tag="x")):
        assert (await check(bench, unknown)).status is Status.UNKNOWN


async def test_details_are_given_when_asked_for(bench: NodeBench) -> None:
    # semantics: C1, 5.5, C1.1
    bench.opened(branch("b1", "eu", "us", tag="t", zone="z"), branch("b2", "us", tag="x"))
    bench.elsewhere(bench.closing(close("b1", "us"), close("b2", "us")))
    plain = await check(bench, scope(zone="z"))
    assert (plain.status, plain.tagged, plain.regions) == (Status.CLOSED, None, None)
    detailed = await check(bench, scope(zone="z"), detailed=True)
    assert detailed.status is Status.CLOSED
    assert detailed.tagged == {Tag("t"): Status.OPEN, Tag("x"): Status.CLOSED}
    assert detailed.regions == {Region("eu"): Status.OPEN, Region("us"): Status.CLOSED}
    assert detailed.revision == 2


async def test_a_check_asks_what_is_open_not_who_waits(bench: NodeBench) -> None:
    # semantics: 5.5, S5
    bench.opened(branch("x", zone="b"), branch("y", zone="c"))
    lease = LeaseId("l")
    bench.elsewhere(BeginWait(bench.ids.command_id(), lease, R1, "n9", scope(zone="b"), 10_000))
    assert (await check(bench, scope(zone="c"))).status is Status.OPEN
    assert (await check(bench, scope(zone="a"))).status is Status.OPEN


async def test_statuses_per_region(bench: NodeBench) -> None:
    # semantics: C2
    bench.opened(branch("b1", "eu", "us"), branch("b2", "mars", service="other"))
    bench.elsewhere(bench.closing(close("b1", "us")))
    fresh = {"freshness": LOCAL, "deadline_s": bench.deadline_s}
    everything = await bench.node.check_by_regions(R1, (), **fresh)
    posts = await bench.node.check_by_regions(R1, (Service("post"),), **fresh)
    assert everything.statuses == {"eu": Status.OPEN, "us": Status.CLOSED, "mars": Status.OPEN}
    assert posts.statuses == {"eu": Status.OPEN, "us": Status.CLOSED}
    assert posts.revision == 2


async def test_dependencies_direct_and_indirect(bench: NodeBench) -> None:
    # semantics: D1, 5.8, D1.1
    bench.opened(
        branch("b1", service="a"),
        branch("b2", service="b", parent="b1"),
        branch("b3", service="c", parent="b2", zone="z"),
    )
    fresh = {"freshness": LOCAL, "deadline_s": bench.deadline_s}
    of_a = await bench.node.fetch_dependencies(R1, Service("a"), None, **fresh)
    without_z = await bench.node.fetch_dependencies(R1, Service("a"), Zone("z"), **fresh)
    of_all = await bench.node.fetch_dependencies(R1, Service(""), None, **fresh)
    assert (of_a.direct, of_a.indirect) == (("b",), ("c",))
    assert (without_z.direct, without_z.indirect) == (("b",), ())
    assert (of_all.direct, of_all.indirect) == (("a", "b", "c"), ())
    unknown = bench.node.fetch_dependencies(R1, Service("x"), None, **fresh)
    assert isinstance(await failure_of(unknown), errors.ServiceNotFound)


async def test_unknown_and_expired_requests_are_no_answer(bench: NodeBench) -> None:
    # semantics: G5, G5.1
    for call in every_read(bench, LOCAL):
        assert isinstance(await failure_of(call), errors.RequestNotFound)
    bench.elsewhere(
        bench.registering(), ExpireRequests(bench.ids.command_id(), 0, 0, 1_000, (), 10)
    )
    for call in every_read(bench, LOCAL):
        error = await failure_of(call)
        assert isinstance(error, errors.RequestExpired)
        assert error.revision == 2


@pytest.mark.parametrize("freshness", [LINEARIZABLE, session(2)], ids=str)
async def test_every_read_is_as_fresh_as_asked_for(bench: NodeBench, freshness: Freshness) -> None:
    # semantics: G3, G4, G3.2, G3.3
    bench.opened(branch("b1", "eu"))
    bench.engine.lagging = True
    bench.elsewhere(bench.closing(close("b1", "eu")))
    for call in every_read(bench, freshness):
        assert isinstance(await failure_of(call), errors.DeadlineExceeded)
    calls = [await bench.blocked(call) for call in every_read(bench, freshness)]
    bench.engine.catch_up()
    for call in calls:
        assert (await call).revision == 2  # type: ignore[attr-defined]


async def test_a_linearizable_read_may_ask_for_a_revision_as_well(bench: NodeBench) -> None:
    # semantics: G3, G3.3
    bench.opened(branch("b1", "eu"))
    freshness = Freshness(LINEARIZABLE.consistency, session(2).min_revision)
    call = await bench.blocked(check(bench, scope(), freshness=freshness))
    bench.opened(branch("b2", "eu"))
    assert (await call).revision == 2
    assert bench.engine.barriers == 1


async def test_local_reads_ask_nobody(bench: NodeBench) -> None:
    # semantics: G3, G3.4
    bench.opened(branch("b1", "eu"))
    bench.engine.confirming = False
    freshness = Freshness(LOCAL.consistency, session(99).min_revision)
    assert (await check(bench, scope(), freshness=freshness)).revision == 1


async def test_a_request_is_described_with_its_branches(bench: NodeBench) -> None:
    # semantics: Q1
    at_ms = bench.clock.wall_ms()
    bench.opened(
        branch("b1", "eu", "us", tag="t", zone="z"),
        branch("b2", parent="b1"),
        branch("b3", regionless=True),
    )
    bench.elsewhere(bench.closing(close("b1", "us"), close("b2")))
    described = await bench.describe()
    assert (described.status, described.registered_at_ms) == (Status.OPEN, at_ms)
    assert (described.branches_total, described.revision) == (3, 2)
    b1, b2, b3 = described.branches
    assert [(r.region, r.status, r.closed_at_ms) for r in b1.regions] == [
        ("eu", Status.OPEN, None),
        ("us", Status.CLOSED, at_ms),
    ]
    assert (b1.tag, b1.zone, b1.status) == ("t", "z", Status.OPEN)
    assert (b2.parent_branch_id, b2.kind, b2.status) == ("b1", BranchKind.GLOBAL, Status.CLOSED)
    assert [(r.region, r.closed_at_ms) for r in b2.regions] == [("", at_ms)]
    assert (b3.kind, b3.status) == (BranchKind.REGIONLESS, Status.OPEN)


async def test_waits_of_other_nodes_are_described_by_their_leases(bench: NodeBench) -> None:
    # semantics: Q1, R7
    bench.opened(branch("b1", zone="z"))
    lease = LeaseId("l")
    bench.elsewhere(BeginWait(bench.ids.command_id(), lease, R1, "n9", scope(zone="x"), 10_000))
    await bench.blocked(bench.wait(scope(zone="a")))
    described = await bench.describe()
    assert [(waiter.node, waiter.blocked_for_s) for waiter in described.waiters] == [
        ("n1", 0),
        ("n9", None),
    ]


async def test_requests_are_listed_in_pages(bench: NodeBench) -> None:
    # semantics: Q1, Q1.1
    for i in range(3):
        bench.opened(branch(f"b{i}", service="post"), request_id=f"r{i}")
    bench.opened(branch("b9", service="other"), request_id="r9")
    bench.elsewhere(bench.closing(close("b1")))
    first = await page(bench)
    assert [found.request_id for found in first.requests] == ["r0", "r1"]
    assert first.next_after is not None
    rest = await page(bench, after=first.next_after)
    assert [found.request_id for found in rest.requests] == ["r2", "r9"]
    assert rest.next_after is None
    settled = await page(bench, status=Status.CLOSED)
    (summary,) = settled.requests
    assert (summary.request_id, summary.branches, summary.branches_open) == ("r1", 1, 0)
    assert (summary.services, summary.status) == (("post",), Status.CLOSED)
    others = await page(bench, service="other")
    assert [found.request_id for found in others.requests] == ["r9"]
