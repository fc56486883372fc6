"""A scripted life, ended by a kill or a power cut at every call that changes or syncs something."""

from __future__ import annotations

import random

import pytest

from rendezvous_raft.testing.durable_lives import Life, chance, crashes, payloads
from rendezvous_raft.testing.memory_files import Crash, MemoryFiles

POWER_LOSSES = 3
"""Tried at each crash point."""
PARTS = 8


async def first_life(life: Life) -> None:
    """Every kind of thing that can happen to a log; several segments of it."""
    rng = chance(7)
    life.open()
    life.set_term(1, "n1")
    await life.sync()
    for payload in payloads(rng, 8):
        life.append(payload)
    await life.sync()
    life.set_term(2, None)
    life.append(b"of term 2")
    life.append(b"x" * 40_000)  # larger than a segment
    await life.rest()
    life.truncate_from(8)
    life.set_term(3, "n2")
    for payload in payloads(rng, 6):
        life.append(payload)
    await life.rest()
    await life.save_snapshot(9)
    for payload in payloads(rng, 6):
        life.append(payload)
        await life.sync()
    life.set_term(4, "n1")
    life.truncate_from(life.model.log.last_index)
    await life.save_snapshot(14)
    life.append(b"after the second")
    await life.sync()
    await life.save_snapshot(15)
    await life.close()


async def second_life(life: Life) -> None:
    """What a laggard meets: it is restarted, overtaken, and goes on from a snapshot."""
    life.open()
    life.set_term(5, None)
    life.append(b"doomed", 5)
    life.append(b"doomed too", 5)
    await life.install(life.model.log.last_index + 10, 5)
    for number in range(12):
        life.append(b"later %d" % number + bytes(2000), 6)
        await life.sync()
    await life.save_snapshot(life.model.log.last_index - 3)
    await life.close()


async def later_life(life: Life) -> None:
    """Of a recovered log, which must bear being cut and added to."""
    life.set_term(max(7, life.model.term + 1), "n3")
    last = life.model.log.last_index
    if last > life.model.snapshot_index:
        life.truncate_from(last)
    for number in range(3):
        life.append(b"again %d" % number)
    await life.sync()


async def count_calls() -> tuple[int, int]:
    """Calls of the first life, and of the second."""
    life = Life(MemoryFiles())
    await first_life(life)
    first = len(life.files.calls)
    life = life.next_life(life.files.kill())
    await second_life(life)
    return first, len(life.files.calls)


async def crash_at(call: int, first_calls: int) -> Life:
    """A story that ends before a call; numbers go on through both lives."""
    life = Life(MemoryFiles())
    script = first_life
    if call >= first_calls:
        await first_life(life)
        life = life.next_life(life.files.kill())
        script, call = second_life, call - first_calls
    life.files.crash_at = call
    assert await crashes(script(life))
    return life


async def check_next_lives(life: Life, files: MemoryFiles, rng: random.Random) -> None:
    """Recovers, goes on, and loses power again; and once more with a crash in the recovery."""
    after = life.next_life(files.kill())
    after.open()
    recovery_calls = len(after.files.calls)
    await later_life(after)
    last = after.next_life(after.files.power_loss(rng))
    last.open()

    files.crash_at = rng.randrange(recovery_calls)
    interrupted = life.next_life(files)
    with pytest.raises(Crash):
        interrupted.open()
    life.next_life(files.power_loss(rng)).open()


@pytest.mark.parametrize("part", range(PARTS))
async def test_nothing_synced_is_lost_at_any_crash_point(part: int, seed: int) -> None:
    first, second = await count_calls()
    assert first + second > 250
    for call in range(part, first + second, PARTS):
        rng = chance(seed + call)
        life = await crash_at(call, first)
        await check_next_lives(life, life.files.kill(), rng)
        for _ in range(POWER_LOSSES):
            await check_next_lives(life, life.files.power_loss(rng), rng)


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


async def test_the_story_has_every_kind_of_call() -> None:
    life = Life(MemoryFiles())
    await first_life(life)
    calls = life.files.calls
    life = life.next_life(life.files.kill())
    await second_life(life)
    calls += life.files.calls
    kinds = {(call.split()[0], call.rpartition(".")[2]) for call in calls}
    assert kinds >= {
        ("rename", "log"),  # a spare becomes a segment
        ("create", "log"),  # one that is larger, or came too early
        ("unlink", "log"),
        ("rename", "snapshot"),
        ("unlink", "snapshot"),
    }
    assert "rename metadata" in calls
