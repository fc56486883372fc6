"""The embedded store: lags, order, atomic markers, ground truth."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from statistics import median, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.devcluster.embedded_store import EmbeddedStore
from rendezvous_raft.devcluster.geo_store import GeoStore, GeoStoreError, GroundTruth
from rendezvous_raft.devcluster.replication_lag import ReplicationLag, ReplicationOrder
from rendezvous_raft.monitor.ports import PendingBranch
from rendezvous_raft.types import BranchId

SECONDS = 20.0
"""Bound of every wait; nothing is asserted about it."""
SHORT = ReplicationLag(median_ms=2.0, p99_ms=20.0)


@asynccontextmanager
async def running(
    directory: Path,
    *,
    lag: ReplicationLag = SHORT,
    order: ReplicationOrder = ReplicationOrder.COMMIT,
    regions: tuple[str, ...] = ("eu", "us"),
) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(directory, regions=regions, lag=lag, order=order, seed=3)
    async with asyncio.timeout(SECONDS):
        await store.start()
        try:
            yield store
        finally:
            await store.stop()


def test_lags_have_the_given_median_and_99th_percentile() -> None:
    lag, random = ReplicationLag(median_ms=80.0, p99_ms=400.0), Random(9)
    lags_ms = [1_000 * lag.draw_s(random) for _ in range(20_000)]
    assert median(lags_ms) == pytest.approx(80.0, rel=0.05)
    assert quantiles(lags_ms, n=100)[98] == pytest.approx(400.0, rel=0.1)


@given(
    seed=st.integers(),
    median_ms=st.floats(0.1, 1e4),
    factor=st.floats(1.0, 50.0),
    one_way_ms=st.floats(0.0, 1e3),
)
def test_no_lag_is_below_the_delay_of_the_network(
    seed: int, median_ms: float, factor: float, one_way_ms: float
) -> None:
    lag = ReplicationLag(median_ms=median_ms, p99_ms=median_ms * factor, one_way_ms=one_way_ms)
    lag_s = lag.draw_s(Random(seed))
    assert math.isfinite(lag_s)
    assert lag_s >= one_way_ms / 1_000


@pytest.mark.parametrize(("median_ms", "p99_ms"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_impossible_lags_are_refused(median_ms: float, p99_ms: float) -> None:
    with pytest.raises(ValueError, match="median"):
        ReplicationLag(median_ms=median_ms, p99_ms=p99_ms)


async def test_a_post_is_there_at_once_and_elsewhere_later(tmp_path: Path) -> None:
    lag = ReplicationLag(median_ms=30.0, p99_ms=30.0, one_way_ms=30.0)
    async with running(tmp_path, lag=lag, regions=("eu", "us", "sg")) as store:
        begun = time.monotonic()
        await store.write("p1", b"hello", "branch-1")
        assert await store.read("eu", "p1") == b"hello"
        written_at = store.visible_at("eu", "p1")
        assert written_at is not None
        assert written_at >= begun
        for region in ("us", "sg"):
            visible_at = await store.wait_visible(region, "p1")
            assert visible_at - written_at >= 0.030
            assert store.visible_at(region, "p1") == visible_at
            assert await store.read(region, "p1") == b"hello"
        assert await store.read("us", "other") is None
        assert store.visible_at("us", "other") is None


async def test_held_replication_shows_nothing_until_released(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        probe = store.make_probe("us")
        store.hold("us")
        await store.write("p1", b"hello", "branch-1")
        await store.write("p2", b"hello", None)
        pending = [PendingBranch(BranchId("branch-1"))]
        assert (await probe.find_many(pending)).absent == {"branch-1"}
        assert await store.read("us", "p1") is None
        assert store.visible_at("us", "p1") is None
        store.release("us")
        await store.wait_visible("us", "p2")
        assert (await probe.find_many(pending)).visible == {"branch-1"}
        await probe.close()


async def test_commit_order_is_kept_whatever_the_lags(tmp_path: Path) -> None:
    lag = ReplicationLag(median_ms=1.0, p99_ms=30.0)
    async with running(tmp_path, lag=lag) as store:
        names = [f"p{number}" for number in range(100)]
        for name in names:
            await store.write(name, b"x", None)
        moments = [await store.wait_visible("us", name) for name in names]
        assert moments == sorted(moments)


async def test_any_order_lets_fast_transactions_overtake_slow_ones(tmp_path: Path) -> None:
    lag = ReplicationLag(median_ms=5.0, p99_ms=100.0)
    async with running(tmp_path, lag=lag, order=ReplicationOrder.ANY) as store:
        names = [f"p{number}" for number in range(200)]
        for name in names:
            await store.write(name, b"x", None)
        moments = [await store.wait_visible("us", name) for name in names]
        assert moments != sorted(moments)


async def test_whoever_sees_the_marker_sees_the_data(tmp_path: Path) -> None:
    """V9, V21: a reader beside a probe, while posts come through the replication."""
    async with running(tmp_path, order=ReplicationOrder.ANY) as store:
        probe = store.make_probe("us")
        count = 500
        names = {BranchId(f"branch-{number}"): f"p{number}" for number in range(count)}

        async def write_all() -> None:
            for branch_id, post_id in names.items():
                await store.write(post_id, post_id.encode(), branch_id)

        writing = asyncio.create_task(write_all())
        unseen = dict(names)
        rounds_with_absent = 0
        while unseen:
            result = await probe.find_many([PendingBranch(name) for name in unseen])
            assert not result.failed
            rounds_with_absent += bool(result.absent)
            for branch_id in result.visible:
                post_id = unseen.pop(branch_id)
                assert await store.read("us", post_id) == post_id.encode()
        assert rounds_with_absent, "the race was run"
        await writing
        await probe.close()


async def test_writing_again_is_harmless(tmp_path: Path) -> None:
    """V10, V12: the same branch twice; an overwrite hides no older branch."""
    async with running(tmp_path) as store:
        await store.write("p1", b"one", "branch-1")
        await store.write("p1", b"one", "branch-1")
        await store.write("p1", b"two", "branch-2")
        await store.write("last", b"", None)
        await store.wait_visible("us", "last")
        probe = store.make_probe("us")
        pending = [PendingBranch(BranchId(name)) for name in ("branch-1", "branch-2")]
        assert (await probe.find_many(pending)).visible == {"branch-1", "branch-2"}
        assert await store.read("us", "p1") == b"two"
        await probe.close()


async def test_a_store_is_a_geo_store_and_names_its_regions(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        typed: GeoStore = store
        assert typed.regions == ("eu", "us")
        assert typed.writer_region == "eu"
        assert typed.name == "embedded"
        with pytest.raises(GeoStoreError, match="mars"):
            await store.read("mars", "p1")
        with pytest.raises(GeoStoreError, match="eu"):
            store.hold("eu")
    with pytest.raises(GeoStoreError, match="not open"):
        await store.write("p1", b"", None)
    await store.stop()


async def test_a_store_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "missing", regions=("eu",), lag=SHORT)
    with pytest.raises(GeoStoreError, match="unable to open"):
        await store.start()


async def test_the_truth_is_told_once_and_to_all_who_wait() -> None:
    truth = GroundTruth(("eu",))
    waits = [asyncio.create_task(truth.wait_visible("eu", "p1")) for _ in range(3)]
    await asyncio.sleep(0)
    waits[0].cancel()
    await asyncio.sleep(0)
    truth.tell("eu", "p1", 5.0)
    truth.tell("eu", "p1", 9.0)
    assert await asyncio.gather(*waits[1:]) == [5.0, 5.0]
    assert await truth.wait_visible("eu", "p1") == 5.0
