"""A real pair of redis-servers behind a delayed link, and the probe on it."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from rendezvous_raft.devcluster.geo_store import GeoStore, GeoStoreError
from rendezvous_raft.devcluster.layout import free_ports
from rendezvous_raft.devcluster.redis_pair import MARKER_TTL_S, RedisPair
from rendezvous_raft.devcluster.redis_server import RedisServer, connect
from rendezvous_raft.monitor.ports import PendingBranch, ProbeError, ProbeMisconfigured
from rendezvous_raft.monitor.probes.redis import BATCH_MAX, RedisProbe, marker_key
from rendezvous_raft.types import BranchId

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="install redis-server"),
]
SECONDS = 30.0
"""Bound of every wait; nothing is asserted about it."""
ONE_WAY_S = 0.010


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[RedisPair]:
    async with asyncio.timeout(SECONDS), RedisPair(tmp_path, one_way_s=ONE_WAY_S) as running:
        yield running


def pending(names: Sequence[str]) -> list[PendingBranch]:
    return [PendingBranch(BranchId(name)) for name in names]


async def test_a_post_is_there_at_once_and_in_the_replica_later(pair: RedisPair) -> None:
    typed: GeoStore = pair
    assert typed.regions == ("eu", "us")
    begun = time.monotonic()
    await pair.write("p1", b"hello", "branch-1")
    assert await pair.read("eu", "p1") == b"hello"
    visible_at = await pair.wait_visible("us", "p1")
    assert visible_at - begun >= ONE_WAY_S
    assert await pair.read("us", "p1") == b"hello"
    assert await pair.read("us", "other") is None
    assert pair.visible_at("eu", "p1") is not None
    async with aclosing(connect(pair.server("us").port)) as replica:
        ttl_s = await replica.ttl(marker_key("branch-1"))
        assert MARKER_TTL_S - 60 <= ttl_s <= MARKER_TTL_S


async def test_post_and_marker_are_written_as_one(pair: RedisPair) -> None:
    """T1."""
    for number in range(3):
        await pair.write(f"p{number}", b"x", f"branch-{number}")
    async with aclosing(connect(pair.server("eu").port)) as primary:
        calls = await primary.info("commandstats")
    assert calls["cmdstat_exec"]["calls"] == 3
    assert calls["cmdstat_set"]["calls"] == 6


async def test_markers_are_absent_before_the_replication_and_visible_after(
    pair: RedisPair,
) -> None:
    """V21."""
    near, far = pair.make_probe("eu"), pair.make_probe("us")
    assert await far.check() == ()
    pair.link.cut()
    await pair.write("p1", b"hello", "branch-1")
    asked = pending(["branch-1", "unknown"])
    assert (await near.find_many(asked)).visible == {"branch-1"}
    result = await far.find_many(asked)
    assert result.absent == {"branch-1", "unknown"}
    assert not result.failed
    pair.link.heal()
    await pair.wait_visible("us", "p1")
    result = await far.find_many(asked)
    assert (result.visible, result.absent) == ({"branch-1"}, {"unknown"})
    for probe in (near, far):
        await probe.close()


async def test_whoever_sees_the_marker_sees_the_data(pair: RedisPair) -> None:
    """V9, V21: posts through a delayed link, a reader in the region of the probe."""
    probe = pair.make_probe("us")
    names = {BranchId(f"branch-{number}"): f"p{number}" for number in range(2_000)}

    async def write_all() -> None:
        for branch_id, post_id in names.items():
            await pair.write(post_id, post_id.encode(), branch_id)

    writing = asyncio.create_task(write_all())
    unseen = dict(names)
    rounds_with_absent = 0
    while unseen:
        result = await probe.find_many(pending(list(unseen)[:BATCH_MAX]))
        assert not result.failed
        rounds_with_absent += bool(result.absent)
        for branch_id in result.visible:
            post_id = unseen.pop(branch_id)
            assert await pair.read("us", post_id) == post_id.encode()
    assert rounds_with_absent, "the race was run"
    await writing
    await probe.close()


async def test_overwrites_and_repetitions_hide_nothing(pair: RedisPair) -> None:
    """V10, V12, V21; ids with every legal character."""
    odd = "aZ09_.:/@-" + "x" * 118
    for branch_id, body in (("m1", b"1"), ("m1", b"1"), ("m2", b"2"), (odd, b"3")):
        await pair.write("p1", body, branch_id)
    await pair.write("last", b"", None)
    await pair.wait_visible("us", "last")
    probe = pair.make_probe("us")
    result = await probe.find_many(pending(["m1", "m2", odd, "last"]))
    assert (result.visible, result.absent) == ({"m1", "m2", odd}, {"last"})
    await probe.close()


async def test_several_endpoints_are_intersected(pair: RedisPair) -> None:
    """V2: one replica that lacks the marker makes it absent, one that is away makes it failed."""
    probe = RedisProbe([pair.server("eu").url, pair.server("us").url])
    pair.link.cut()
    await pair.write("p1", b"x", "branch-1")
    result = await probe.find_many(pending(["branch-1"]))
    assert result.absent == {"branch-1"}
    assert [(look.visible, look.absent) for look in result.looks] == [(1, 0), (0, 1)]
    pair.link.heal()
    await pair.wait_visible("us", "p1")
    assert (await probe.find_many(pending(["branch-1"]))).visible == {"branch-1"}
    await pair.server("us").kill()
    result = await probe.find_many(pending(["branch-1"]))
    assert set(result.failed) == {"branch-1"}
    assert result.looks[0].error is None
    assert isinstance(result.looks[1].error, ProbeError)
    await probe.close()


async def test_a_killed_server_fails_and_comes_back(pair: RedisPair) -> None:
    """V15, V21: no id lost, none falsely visible."""
    await pair.write("p1", b"x", "branch-1")
    await pair.wait_visible("us", "p1")
    probe = pair.make_probe("us")
    assert (await probe.find_many(pending(["branch-1"]))).visible == {"branch-1"}
    await pair.server("us").kill()
    for _ in range(3):
        result = await probe.find_many(pending(["branch-1", "branch-2"]))
        assert set(result.failed) == {"branch-1", "branch-2"}
        assert not result.visible
    with pytest.raises(GeoStoreError):
        await pair.read("us", "p1")
    await pair.server("us").start()
    await pair.server("us").wait_info("replication", "master_link_status", "up")
    result = await probe.find_many(pending(["branch-1", "branch-2"]))
    assert (result.visible, result.absent) == ({"branch-1"}, {"branch-2"})
    await pair.write("p2", b"y", "branch-2")
    await pair.wait_visible("us", "p2")
    await probe.close()


async def test_a_frozen_server_answers_nothing_until_it_goes_on(
    pair: RedisPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pair.write("p1", b"x", "branch-1")
    await pair.wait_visible("us", "p1")
    probe = pair.make_probe("us")
    pair.server("us").pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await probe.find_many(pending(["branch-1"]))
    pair.server("us").resume()
    assert (await probe.find_many(pending(["branch-1"]))).visible == {"branch-1"}
    await probe.close()


async def test_a_server_that_evicts_markers_is_warned_of_or_refused(tmp_path: Path) -> None:
    """T3."""
    server = RedisServer(tmp_path, options=("--maxmemory-policy", "allkeys-lru"))
    async with asyncio.timeout(SECONDS):
        await server.start()
        try:
            tolerant, strict = RedisProbe([server.url]), RedisProbe([server.url], strict=True)
            (warning,) = await tolerant.check()
            assert "allkeys-lru" in warning
            with pytest.raises(ProbeMisconfigured, match="allkeys-lru"):
                await strict.check()
            for probe in (tolerant, strict):
                await probe.close()
        finally:
            await server.stop()


async def test_a_cluster_is_refused(tmp_path: Path) -> None:
    """T4."""
    (bus,) = free_ports(1)  # by default it is 10,000 above the other, which may be too high
    options = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
    server = RedisServer(tmp_path, options=options)
    async with asyncio.timeout(SECONDS):
        await server.start()
        try:
            probe = RedisProbe([server.url])
            with pytest.raises(ProbeMisconfigured, match="Cluster"):
                await probe.check()
            await probe.close()
        finally:
            await server.stop()


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, options=("--no-such-option", "1"))
    with pytest.raises(GeoStoreError, match="ended while it started"):
        await server.start()


async def test_stopping_leaves_nothing_behind(tmp_path: Path) -> None:
    pair = RedisPair(tmp_path, one_way_s=0.0)
    await pair.start()
    pids = []
    for region in pair.regions:
        process = pair.server(region)._process
        assert process is not None
        pids.append(process.pid)
    await pair.stop()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    await pair.stop()
    with pytest.raises(GeoStoreError):
        await pair.write("p1", b"", None)


async def test_an_endpoint_is_named_without_its_password() -> None:
    probe = RedisProbe(["redis://user:secret@127.0.0.1:6390/2"])
    assert probe.endpoints == ("127.0.0.1:6390",)
    await probe.close()
    with pytest.raises(ProbeMisconfigured):
        RedisProbe(["http://127.0.0.1"])
    with pytest.raises(ProbeMisconfigured):
        RedisProbe([])
