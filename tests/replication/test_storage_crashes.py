"""A story of one member's files, ended at every call that changes or syncs something.

By default some of the boundaries are judged, at least one of each kind; all of them are with
`RENDEZVOUS_CRASH_POINTS=all` in the environment, and with `scripts/crash_points --all`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Collection

import pytest

from rendezvous_raft.replication.raft.durable_end import DurableEnd
from rendezvous_raft.testing import memory_files
from rendezvous_raft.testing.crash_points import POINTS_AT_ONCE, Judge, kind_of, record, sample
from rendezvous_raft.testing.durable_lives import Life, chance, settle
from rendezvous_raft.testing.durable_story import STORY
from rendezvous_raft.testing.lagging_executor import LaggingExecutor
from rendezvous_raft.testing.memory_files import Crash, MemoryFiles

EVERY_POINT = os.environ.get("RENDEZVOUS_CRASH_POINTS") == "all"
SAMPLE = 20
"""Boundaries beside one of each kind."""
POWER_LOSSES = 2
KINDS = {
    *("mkdir node", "fsync_dir var", "fsync_dir node"),
    *(f"{call} metadata.tmp" for call in ("create", "write", "fdatasync")),
    "rename metadata",
    *(f"{call} segment" for call in ("create", "allocate", "write", "fdatasync", "unlink")),
    *(f"{call} spare" for call in ("create", "allocate", "write", "fdatasync")),
    "rename segment",  # a spare becomes one
    "unlink install.tmp",
    *(f"{call} end" for call in ("create", "write", "fdatasync")),
    *(f"{call} snapshot.tmp" for call in ("create", "write", "fdatasync", "unlink")),
    *("rename snapshot", "unlink snapshot"),
    *(f"{call} install.tmp" for call in ("create", "write", "fdatasync")),
    *(f"{call} reserve" for call in ("create", "allocate", "unlink")),
    *(f"{call} probe" for call in ("create", "allocate", "unlink")),
}


async def judged(numbers: Collection[int], judge: Judge) -> Judge:
    ordered = sorted(numbers)
    for start in range(0, len(ordered), POINTS_AT_ONCE):
        points, _ = await record(ordered[start : start + POINTS_AT_ONCE], lagging=judge.lagging)
        for point in points:
            await judge.judge(point)
    return judge


@pytest.mark.timeout(1800 if EVERY_POINT else 60)
@pytest.mark.parametrize("lagging", [False, True])
async def test_nothing_acknowledged_is_lost_at_any_crash_point(lagging: bool, seed: int) -> None:
    _, calls = await record((), lagging=lagging)
    numbers = range(len(calls)) if EVERY_POINT else sample(calls, SAMPLE, chance(seed))
    judge = await judged(numbers, Judge(seed, power_losses=POWER_LOSSES, lagging=lagging))
    assert not judge.failures, judge.failures[0]
    assert sum(judge.points.values()) == len(numbers) > 45
    assert judge.deaths["power"] == POWER_LOSSES * len(numbers)
    assert judge.deaths["torn"] > 0
    assert judge.second_kills == sum(judge.deaths.values())
    assert judge.cuts > 0


async def test_every_call_of_a_recovery_is_a_crash_point_too(seed: int) -> None:
    _, calls = await record((), lagging=False)
    numbers = chance(seed).sample(range(len(calls)), 3)
    judge = await judged(numbers, Judge(seed, power_losses=1, every_second=True))
    assert not judge.failures, judge.failures[0]
    assert judge.second_kills > 5 * sum(judge.deaths.values())


@pytest.mark.parametrize("lagging", [False, True])
async def test_the_story_has_every_kind_of_call_and_is_told_the_same_way(lagging: bool) -> None:
    _, calls = await record((), lagging=lagging)
    assert {kind_of(call) for call in calls} == KINDS
    assert len(calls) > 700
    assert (await record((), lagging=lagging))[1] == calls


async def test_with_a_lag_the_loop_writes_between_the_calls_of_a_sync() -> None:
    """Which is what a thread of its own makes possible, and inline execution does not."""
    in_a_round = 0
    for lagging in (False, True):
        _, calls = await record((), lagging=lagging)
        between = sum(
            first.startswith("fdatasync 0") and second.startswith("write 0")
            for first, second in itertools.pairwise(calls)
        )
        in_a_round, before = between, in_a_round
    assert in_a_round > before


async def test_a_disk_that_lies_is_caught(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge bites: with syncs that do nothing, acknowledged entries are found missing."""
    monkeypatch.setattr(memory_files._Content, "sync", lambda _content: None)
    points, _ = await record(range(100, 115), lagging=False, story=STORY[:1])
    judge = Judge(seed)
    for point in points:
        await judge.judge(point)
    assert judge.failures
    assert all(failure.replay.startswith("--point ") for failure in judge.failures)


async def test_nothing_is_built_on_names_that_may_be_lost(seed: int) -> None:
    """The first life ends while its first files are made; the second does too."""
    for first in range(12):
        life = Life(MemoryFiles())
        life.files.crash_at = first
        with pytest.raises(Crash):
            life.open()
        for second in range(12):
            files = life.files.kill()
            files.crash_at = second
            with pytest.raises(Crash):
                life.next_life(files).open()
            for variant in range(10):
                life.next_life(files.power_loss(chance(seed + variant))).open()
            await settle()  # what each life began in its worker ends with it


async def test_what_is_told_of_the_end_never_exceeds_what_is_durable(seed: int) -> None:
    """At any crash point the log reaches what `end` says, whatever of both has been lost."""
    _, calls = await record((), lagging=True)
    wanted = [number for number, call in enumerate(calls) if call == "write end"]
    points, _ = await record(chance(seed).sample(wanted, 10), lagging=True)
    told = 0
    for point in points:
        for variant in range(20):
            files = point.files.power_loss(chance(seed + variant))
            life = Life(files, point.model.fork())
            life.files.room_bytes = None
            life.open()
            told += DurableEnd(life.log._place).read() is not None
    assert told > 0


async def test_a_lagging_worker_can_be_ended_at_any_time() -> None:
    files = MemoryFiles()
    life = Life(files)
    executor = life.executor = LaggingExecutor(files)
    life.open()
    life.append(b"never synced")
    await life.rest(1)
    executor.end()
    executor.end()
    assert not executor._thread.is_alive()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
