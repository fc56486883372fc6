from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import pytest

from rendezvous_raft.context import RendezvousContext, current_session
from rendezvous_raft.devcluster.geo_store import GeoStoreError, GroundTruth
from rendezvous_raft.devcluster.guards import (
    SERVICE,
    Guard,
    NoGuard,
    Registration,
    Release,
    RendezvousGuard,
)
from rendezvous_raft.devcluster.post_notification import (
    PostNotification,
    RunTraces,
    WorkloadSettings,
)
from rendezvous_raft.devcluster.post_traces import find_problems, summarize
from rendezvous_raft.errors import InvalidArgument, NoLeader
from rendezvous_raft.monitor.ports import Probe
from rendezvous_raft.types import Consistency


class SlowStore:
    """Replicates a post when it is told to, or a moment after it was read in vain."""

    name = "slow"
    writer_region = "eu"
    regions = ("eu", "us")

    def __init__(self, *, broken: str = "", reads_in_vain: int = 1) -> None:
        self.truth = GroundTruth(self.regions)
        self.bodies: dict[str, bytes] = {}
        self.written: list[tuple[str, bytes, str | None]] = []
        self._broken = broken
        self._reads_in_vain = reads_in_vain

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def write(self, post_id: str, body: bytes, branch_id: str | None) -> None:
        if post_id == self._broken:
            raise GeoStoreError("the disk is full")
        self.written.append((post_id, body, branch_id))
        self.bodies[post_id] = body
        if not self._reads_in_vain:
            self.truth.tell("us", post_id, time.monotonic())

    async def read(self, region: str, post_id: str) -> bytes | None:
        assert region == "us"
        if self.truth.visible_at("us", post_id) is not None:
            return self.bodies[post_id]
        loop = asyncio.get_running_loop()
        loop.call_soon(self.replicate, post_id)
        return None

    def replicate(self, post_id: str) -> None:
        if self._reads_in_vain < 10:
            self.truth.tell("us", post_id, time.monotonic())

    def visible_at(self, region: str, post_id: str) -> float | None:
        return self.truth.visible_at(region, post_id)

    async def wait_visible(self, region: str, post_id: str) -> float:
        return await self.truth.wait_visible(region, post_id)

    def make_probe(self, region: str) -> Probe:
        raise NotImplementedError


class HonestGuard(NoGuard):
    """Releases a reader when the post is there."""

    waits = True

    def __init__(self, store: SlowStore) -> None:
        self._store = store
        self._next = 0

    async def release(self, headers: Mapping[str, str]) -> Release:
        post_id = f"run-{self._next:06d}"
        self._next += 1
        self._store.replicate(post_id)
        return Release(prevented=True)


class HastyGuard(NoGuard):
    """Says that it waited."""

    waits = True


class FailingGuard(NoGuard):
    waits = True

    async def release(self, headers: Mapping[str, str]) -> Release:
        raise NoLeader("an election runs")


async def run(
    store: SlowStore,
    guard: Guard,
    *,
    posts: int = 20,
    seed: int = 7,
    settle_timeout_s: float = 20,
    progress: Callable[[], None] = lambda: None,
) -> RunTraces:
    settings = WorkloadSettings(
        posts=posts,
        rate_per_s=10_000,
        seed=seed,
        reader_region="us",
        notification_delay_s=0.0,
        settle_timeout_s=settle_timeout_s,
    )
    workload = PostNotification(
        run_name="run", store=store, guard=guard, settings=settings, progress=progress
    )
    return await workload.run()


async def test_readers_that_do_not_wait_miss_the_posts() -> None:
    steps: list[int] = []
    raw = await run(SlowStore(), NoGuard(), progress=lambda: steps.append(1))
    assert len(raw.traces) == len(steps) == 20
    assert not any(trace.consistent for trace in raw.traces)
    assert all(trace.window_s > 0 for trace in raw.traces)
    assert all(trace.released_at_s >= trace.notified_at_s for trace in raw.traces)
    assert all(trace.notified_at_s >= trace.written_at_s for trace in raw.traces)
    assert raw.errors == ()


async def test_readers_that_wait_find_them() -> None:
    store = SlowStore()
    raw = await run(store, HonestGuard(store))
    assert [trace.consistent for trace in raw.traces] == [True] * 20
    summary = summarize(raw.traces, errors=raw.errors, guarded=True)
    assert (summary.prevented, summary.inconsistent) == (20, 0)


async def test_a_guard_that_lies_is_found_out() -> None:
    without = await run(SlowStore(), NoGuard())
    lied = await run(SlowStore(), HastyGuard())
    problems = find_problems(
        summarize(without.traces, guarded=False), summarize(lied.traces, guarded=True)
    )
    assert problems == ("with Rendezvous: 20 stale reads after a granted wait",)


async def test_a_write_that_fails_is_counted_and_holds_nobody_up() -> None:
    raw = await run(SlowStore(broken="run-000003"), NoGuard())
    assert len(raw.traces) == 19
    assert raw.errors == ("post run-000003: GeoStoreError: the disk is full",)


async def test_a_wait_that_fails_is_an_error_and_no_read() -> None:
    raw = await run(SlowStore(), FailingGuard(), posts=3)
    assert raw.traces == ()
    assert len(raw.errors) == 3
    assert "NoLeader: an election runs" in raw.errors[0]


async def test_posts_that_never_arrive_are_errors() -> None:
    raw = await run(SlowStore(reads_in_vain=10), NoGuard(), posts=3, settle_timeout_s=0)
    assert raw.traces == ()
    assert len(raw.errors) == 3
    assert "never became visible" in raw.errors[0]


async def test_the_seed_decides_the_posts() -> None:
    stores = [SlowStore(reads_in_vain=0) for _ in range(3)]
    for store, seed in zip(stores, (7, 7, 8), strict=True):
        raw = await run(store, NoGuard(), seed=seed)
        assert all(trace.consistent for trace in raw.traces)
    first, second, third = ({post: body for post, body, _ in store.written} for store in stores)
    assert first == second
    assert first != third
    assert {branch for _, _, branch in stores[0].written} == {
        f"post-storage-{post}" for post in first
    }


class FakeClient:
    """Registers when it is told to; remembers with what it was asked to wait."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.registered: dict[str, object] = {}
        self.waited: dict[str, object] = {}

    async def register_branch(self, service: str, **arguments: object) -> None:
        session = current_session()
        assert session is not None
        self.registered = {"service": service, "request_id": session.request_id, **arguments}
        await self.may_answer.wait()
        session.acknowledge([str(arguments["branch_id"])], revision=12)

    async def wait_request(self, **arguments: object) -> FakeResult:
        session = current_session()
        assert session is not None
        self.waited = {"context": session.context, **arguments}
        return FakeResult()


class FakeResult:
    prevented_inconsistency = True
    timed_out = False


def guard_of(client: FakeClient) -> RendezvousGuard:
    return RendezvousGuard(
        writer=client,  # type: ignore[arg-type]
        reader=client,  # type: ignore[arg-type]
        writer_region="eu",
        reader_region="us",
        wait_timeout_s=9,
    )


async def test_until_it_is_acknowledged_a_branch_is_required() -> None:
    client = FakeClient()
    guard = guard_of(client)
    registration = guard.register("p1", "b1")
    # From the first moment, before the task of the registration has had a turn.
    assert RendezvousContext.from_headers(registration.headers) == RendezvousContext(
        "p1", unacknowledged=("b1",)
    )
    client.may_answer.set()
    assert await registration.acknowledged_after_s() >= 0
    assert RendezvousContext.from_headers(registration.headers) == RendezvousContext(
        "p1", min_revision=12
    )
    assert client.registered["service"] == SERVICE
    assert client.registered["regions"] == ("eu", "us")
    assert client.registered["request_id"] == "p1"


async def test_the_reader_waits_with_the_context_of_the_notification() -> None:
    client = FakeClient()
    headers = RendezvousContext("p1", unacknowledged=("b1",)).to_headers()
    release = await guard_of(client).release(headers)
    assert release == Release(prevented=True)
    assert client.waited["context"] == RendezvousContext("p1", unacknowledged=("b1",))
    assert client.waited["service"] == SERVICE
    assert client.waited["region"] == "us"
    assert client.waited["consistency"] is Consistency.SESSION
    assert client.waited["timeout"] == 9


async def test_a_notification_without_context_is_never_taken_for_consistent() -> None:
    with pytest.raises(InvalidArgument):
        await guard_of(FakeClient()).release({})


async def test_an_abandoned_registration_leaves_nothing_behind() -> None:
    registration = guard_of(FakeClient()).register("p1", "b1")
    assert isinstance(registration, Registration)
    registration.abandon()
    with pytest.raises(asyncio.CancelledError):
        await registration.acknowledged_after_s()
