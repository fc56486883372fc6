"""Why a wait is blocked and who waits, once and whenever it changes (semantics Q1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from node_bench import (
    LINEARIZABLE,
    LOCAL,
    R1,
    NodeBench,
    Reader,
    branch,
    close,
    failure_of,
    key,
    scope,
)

from rendezvous_raft import errors
from rendezvous_raft.core.commands import BeginWait, ExpireRequests, Pulse
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node import descriptions
from rendezvous_raft.node.calls import DescriptionQuery, RequestDescription
from rendezvous_raft.testing.virtual_time import advance, settle
from rendezvous_raft.types import BranchId, LeaseId, Status, Verdict


def verdicts(found: RequestDescription) -> dict[str, Verdict | None]:
    return {branch.branch_id: branch.verdict for branch in found.branches}


async def test_each_branch_tells_what_a_wait_makes_of_it(bench: NodeBench) -> None:
    # semantics: Q1, S1, S2, S3, S4
    bench.opened(
        branch("held", "eu", "us", tag="t"),
        branch("global", service="post", tag="t"),
        branch("closed", "us", tag="t"),
        branch("gone", "eu", "us", tag="t"),
        branch("elsewhere", "eu", tag="t"),
        branch("service", "us", service="other", tag="t"),
        branch("tag", "us"),
        branch("mine", "us", tag="t", zone="z"),
    )
    bench.elsewhere(bench.closing(close("closed", "us"), close("gone", "us")))
    found = await bench.describe(scope("post", region="us", tag="t", zone="z"))
    assert verdicts(found) == {
        "held": Verdict.HOLDS,
        "global": Verdict.HOLDS,
        "closed": Verdict.CLOSED,
        "gone": Verdict.OTHER_REGION,
        "elsewhere": Verdict.OTHER_REGION,
        "service": Verdict.OTHER_SERVICE,
        "tag": Verdict.OTHER_TAG,
        "mine": Verdict.OWN_ZONE,
    }
    assert set(verdicts(await bench.describe()).values()) == {None}
    left = await bench.describe(scope(), open_only=True)
    assert "closed" not in verdicts(left)
    assert (len(left.branches), left.branches_open, left.branches_total) == (7, 7, 8)


async def test_what_waits_itself_is_left_out_and_said_to_be(bench: NodeBench) -> None:
    # semantics: Q1, S5, S5.1
    bench.opened(branch("b", "eu", zone="b"), branch("c", "eu", service="gamma"))
    for lease, its in (("l1", scope(zone="b")), ("l2", scope("delta", waiter="gamma"))):
        begin = BeginWait(bench.ids.command_id(), LeaseId(lease), R1, "n9", its, 10_000)
        bench.elsewhere(begin)
    bench.opened(branch("d", "eu", service="delta"))
    found = await bench.describe(scope(zone="a", waiter="delta"))
    assert verdicts(found) == {
        "b": Verdict.ZONE_WAITS,
        "c": Verdict.SERVICE_WAITS,
        "d": Verdict.HOLDS,
    }
    # A wait that names services waits for all of them.
    named = await bench.describe(scope("gamma", "post", zone="a", waiter="delta"))
    assert list(verdicts(named).values()).count(Verdict.HOLDS) == 2


async def test_a_close_on_its_way_through_this_node_is_said_to_be(bench: NodeBench) -> None:
    # semantics: Q1, R6
    bench.opened(branch("b1", "eu", "us"))
    bench.engine.holding = True
    await bench.blocked(bench.close_all(close("b1", "us")))
    assert verdicts(await bench.describe(scope(region="us"))) == {"b1": Verdict.RELEASED_EARLY}
    assert verdicts(await bench.describe(scope(region="eu"))) == {"b1": Verdict.HOLDS}
    assert verdicts(await bench.describe(scope())) == {"b1": Verdict.HOLDS}


async def test_it_is_said_who_is_told_of_each_open_region(bench: NodeBench) -> None:
    """A branch that no subscription of its (service, region) is told of stays open for ever."""
    # semantics: Q1, U1, W2.7
    bench.opened(
        branch("b1", "eu", "us", tag="t"),
        branch("global", tag="u"),
        branch("quiet", "eu", monitored=False),
        branch("nowhere", regionless=True),
    )
    everything, tagged, other = (
        Reader(bench, key("post", "eu")),
        Reader(bench, key("post", "eu", tags=("t",))),
        Reader(bench, key("post", "ap")),
    )
    for reader in (everything, tagged, other):
        await reader.read()

    async def counts() -> dict[str, list[int]]:
        found = await bench.describe()
        return {b.branch_id: [part.subscribers for part in b.regions] for b in found.branches}

    assert await counts() == {"b1": [2, 0], "global": [2], "quiet": [0], "nowhere": [0]}
    await everything.close()
    bench.elsewhere(bench.closing(close("b1", "us")))
    assert await counts() == {"b1": [1, 0], "global": [1], "quiet": [0], "nowhere": [0]}
    await tagged.close()
    await other.close()
    assert (await counts())["global"] == [0]


async def test_it_is_said_who_waits_for_what_and_what_holds_them(bench: NodeBench) -> None:
    # semantics: Q1, R1.1, R4.1, R7
    bench.opened(branch("b1", "eu"), branch("b2", "eu", zone="z"))
    lease = LeaseId("far")
    bench.elsewhere(BeginWait(bench.ids.command_id(), lease, R1, "n9", scope(zone="z"), 10_000))
    bench.elsewhere(Pulse(bench.ids.command_id(), 4_000))
    await bench.blocked(bench.wait(scope("post", region="eu"), required=("b1", "later")))
    await bench.blocked(bench.wait(scope("never"), await_s=5))
    await bench.blocked(bench.wait(scope(zone="a")))
    await advance(2)
    by_required, by_patience, mutual, far = (await bench.describe()).waiters
    assert by_required.held_by == ("b1", "b2")
    assert by_required.missing_branches == ("later",)
    assert by_required.blocked_for_s == pytest.approx(2)
    assert not by_required.leased
    assert (by_patience.held_by, by_patience.awaits_registration) == ((), True)
    assert not by_required.awaits_registration
    # The branch of zone z does not hold the wait of zone a: z waits itself.
    assert (mutual.leased, mutual.held_by, mutual.lease_ends_in_s) == (True, ("b1",), None)
    assert (far.node, far.held_by, far.blocked_for_s) == ("n9", ("b1",), None)
    assert (far.leased, far.lease_ends_in_s) == (True, 6.0)
    await advance(4)
    # Its patience has ended: a service that was never used is an empty scope.
    assert [waiter.awaits_registration for waiter in (await bench.describe()).waiters] == [
        False
    ] * 3


async def test_holders_are_listed_to_a_bound(
    bench: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # semantics: Q1, L3
    await_ids = [f"b{i:02}" for i in range(11)]
    bench.opened(*(branch(name, "eu") for name in await_ids[:10]))
    await bench.blocked(bench.wait(scope(region="eu")))
    (waiter,) = (await bench.describe()).waiters
    assert (list(waiter.held_by), waiter.held_by_more) == (await_ids[:10], False)
    bench.opened(branch(await_ids[10], "eu"))
    (waiter,) = (await bench.describe()).waiters
    assert (list(waiter.held_by), waiter.held_by_more) == (await_ids[:10], True)
    monkeypatch.setattr(descriptions, "OPEN_BRANCHES_EXAMINED_MAX", 10)
    (waiter,) = (await bench.describe()).waiters
    assert (waiter.held_by, waiter.held_by_more) == ((), True)


async def test_a_description_says_whose_it_is_and_how_long_the_request_stays(
    bench: NodeBench,
) -> None:
    # semantics: Q1, L2
    bench.opened(branch("b1", "eu"))
    bench.elsewhere(Pulse(bench.ids.command_id(), 5_000))
    found = await bench.describe(required_branches=(BranchId("b1"), BranchId("b9")))
    assert (found.node, found.node_region) == ("n1", "eu")
    assert found.answered_at_ms == bench.clock.wall_ms()
    assert found.missing_branches == ("b9",)
    assert found.expires_in_s == bench.limits.open_ttl_ms / 1000 - 5
    bench.elsewhere(bench.closing(close("b1", "eu")))
    settled = await bench.describe()
    assert (settled.status, settled.expires_in_s) == (
        Status.CLOSED,
        bench.limits.settled_ttl_ms / 1000,
    )


class Watch:
    """A watcher that looks when it is told to."""

    def __init__(self, bench: NodeBench, patience_s: float = 0.0) -> None:
        query = DescriptionQuery(R1, freshness=LOCAL, await_registration_s=patience_s)
        self._bench = bench
        self._stream: AsyncGenerator[RequestDescription] = bench.node.watch(
            query, deadline_s=bench.deadline_s
        )

    async def next(self) -> RequestDescription:
        return await anext(self._stream)

    async def next_after(self, change: object) -> RequestDescription:
        """The description that a change brings about; there is none before it."""
        task = await self._bench.blocked(self.next())
        await advance(1)
        assert not task.done()
        if callable(change):
            change()
        return await task

    async def close(self) -> None:
        await self._stream.aclose()


async def test_a_watch_tells_of_every_change(bench: NodeBench) -> None:
    """Branches, closes, waits and subscriptions; and it leaves nothing behind."""
    # semantics: Q1, G7
    bench.opened(branch("b1", "eu"))
    watch = Watch(bench)
    assert (await watch.next()).branches_open == 1
    found = await watch.next_after(lambda: bench.opened(branch("b2", "eu")))
    assert [b.branch_id for b in found.branches] == ["b1", "b2"]
    close_b1 = bench.closing(close("b1", "eu"))
    found = await watch.next_after(lambda: bench.elsewhere(close_b1))
    assert [b.status for b in found.branches] == [Status.CLOSED, Status.OPEN]

    waits: list[asyncio.Task[object]] = []
    found = await watch.next_after(lambda: waits.append(bench.start(bench.wait(scope()))))
    assert len(found.waiters) == 1
    found = await watch.next_after(waits[0].cancel)
    assert found.waiters == ()

    reader = Reader(bench, key("post", "eu"))
    found = await watch.next_after(lambda: bench.start(reader.read()))
    assert found.branches[1].regions[0].subscribers == 1
    await reader.close()
    assert (await watch.next()).branches[1].regions[0].subscribers == 0

    # What happens elsewhere does not wake it.
    task = await bench.blocked(watch.next())
    bench.opened(branch("other", "eu"), request_id="r2")
    await advance(1)
    assert not task.done()
    bench.elsewhere(ExpireRequests(bench.ids.command_id(), 0, 0, 1_000, (), 10))
    assert isinstance(await failure_of(task), errors.RequestExpired)
    bench.nothing_is_left()


async def test_changes_in_quick_succession_come_as_one(bench: NodeBench) -> None:
    # semantics: Q1
    bench.opened(branch("b0", "eu"))
    watch = Watch(bench)
    await watch.next()
    task = await bench.blocked(watch.next())
    for number in range(1, 6):
        bench.opened(branch(f"b{number}", "eu"))
    await settle()
    assert not task.done()  # it pauses, whatever happens
    await advance(descriptions.WATCH_PAUSE_S)
    assert (await task).branches_total == 6
    await watch.next_after(lambda: bench.opened(branch("last", "eu")))
    await watch.close()
    bench.nothing_is_left()


async def test_a_watch_waits_for_the_request_as_long_as_it_is_told_to(bench: NodeBench) -> None:
    # semantics: Q1, G5
    assert isinstance(await failure_of(Watch(bench).next()), errors.RequestNotFound)
    patient = Watch(bench, patience_s=5)
    found = await patient.next_after(lambda: bench.elsewhere(bench.registering()))
    assert found.branches_total == 0
    await patient.close()
    bench.opened(branch("b1", "eu"), request_id="other")
    bench.elsewhere(ExpireRequests(bench.ids.command_id(), 0, 0, 1_000, (), 10))
    assert isinstance(await failure_of(Watch(bench, 5).next()), errors.RequestExpired)
    bench.nothing_is_left()


async def test_an_impatient_watch_gives_up(bench: NodeBench) -> None:
    # semantics: G5
    task = await bench.blocked(Watch(bench, patience_s=5).next())
    await advance(4)
    assert not task.done()
    await advance(1)
    assert isinstance(await failure_of(task), errors.RequestNotFound)
    bench.nothing_is_left()


async def test_a_watch_is_as_fresh_as_asked_and_does_not_wait_for_ever(bench: NodeBench) -> None:
    # semantics: G3.3, G4
    bench.opened(branch("b1", "eu"))
    bench.engine.lagging = True
    bench.elsewhere(bench.closing(close("b1", "eu")))
    query = DescriptionQuery(R1, freshness=LINEARIZABLE)
    stream = bench.node.watch(query, deadline_s=float("inf"))
    task = bench.start(anext_of(stream))
    await advance(bench.limits.call_timeout_ms_max / 1000 + 1)
    assert isinstance(await failure_of(task), errors.DeadlineExceeded)
    bench.nothing_is_left()


async def anext_of(stream: AsyncGenerator[RequestDescription]) -> RequestDescription:
    return await anext(stream)


async def test_a_drain_ends_watches_and_refuses_new_ones(bench: NodeBench) -> None:
    # semantics: G7
    bench.opened(branch("b1", "eu"))
    watch = Watch(bench)
    await watch.next()
    task = await bench.blocked(watch.next())
    await advance(1)
    bench.node.begin_drain()
    assert isinstance(await failure_of(task), errors.Draining)
    assert isinstance(await failure_of(Watch(bench).next()), errors.Draining)
    bench.nothing_is_left()


async def test_a_snapshot_that_replaces_the_state_is_a_change(bench: NodeBench) -> None:
    # semantics: Q1
    bench.opened(branch("b1", "eu"))
    watch = Watch(bench)
    await watch.next()
    await watch.next_after(bench.node._on_state_replaced)
    await watch.close()


async def test_there_are_not_too_many_watches() -> None:
    # semantics: L3
    bench = NodeBench(limits=NodeLimits(request_watches_max=1))
    bench.opened(branch("b1", "eu"))
    watch = Watch(bench)
    await watch.next()
    error = await failure_of(Watch(bench).next())
    assert isinstance(error, errors.LimitExceeded)
    assert error.details == {"limit": "request_watches_max", "value": "1"}
    assert bench.book.limits == ["request_watches_max"]
    await watch.close()
    again = Watch(bench)
    await again.next()
    await again.close()
    await bench.close()
