"""One damage to one file: harmless, or refused with the file's name; never served."""

from __future__ import annotations

import collections
import random

import pytest
from hypothesis import settings

from rendezvous_raft.replication.raft.storage import DamagedError
from rendezvous_raft.testing.durable_lives import DIRECTORY, Life, chance, payloads
from rendezvous_raft.testing.memory_files import MemoryFiles

CASES = 500
CASES_PER_LIFE = 20
CASES_LONG = 10_000
"""With `--hypothesis-profile long`."""


async def seeded_life(seed: int) -> Life:
    """A node that has worked for a while, and was closed or killed."""
    rng = chance(seed)
    life = Life(MemoryFiles())
    life.open()
    for round_ in range(rng.randrange(3, 10)):
        life.set_term(round_ + 1, rng.choice((None, "n1", "n2")))
        lowest = max(life.model.snapshot_index + 1, life.model.log.last_index - 2)
        if lowest <= life.model.log.last_index and rng.random() < 0.4:
            life.truncate_from(lowest)
        for payload in payloads(rng, rng.randrange(1, 8)):
            life.append(payload)
            if rng.random() < 0.3:
                await life.sync()
        await life.rest()
        index = life.model.log.last_index - rng.randrange(3)
        if index > life.model.snapshot_index and rng.random() < 0.3:
            await life.save_snapshot(index)
        if rng.random() < 0.1:
            await life.install(life.model.log.last_index + 3, life.model.term)
            await life.sync()
    if rng.random() < 0.5:
        await life.close()
    else:
        await life.rest()
    return life


def damage(files: MemoryFiles, rng: random.Random) -> str:
    """Damages something that is used; says what."""
    path = rng.choice(files.paths())
    content = files.content(path)
    used = len(content.rstrip(b"\0"))
    kind = rng.choice(("flip", "flip", "flip", "zero", "cut", "lose"))
    if kind == "flip" and used:
        bit = rng.randrange(used * 8)
        files.flip_bit(path, bit)
        return f"flip {path.name} bit {bit}"
    if kind == "zero" and used:
        size = rng.choice((512, 4096))
        offset = rng.randrange(used) // size * size
        files.zero(path, offset, size)
        return f"zero {path.name} {offset} {size}"
    if kind == "cut" and content:
        size = rng.randrange(len(content))
        files.cut(path, size)
        return f"cut {path.name} {size}"
    files.lose(path)
    return f"lose {path.name}"


@pytest.mark.timeout(1800)  # with the profile `long`
async def test_damage_is_harmless_or_refused_and_named(seed: int) -> None:
    cases = CASES_LONG if settings.default.max_examples >= CASES_LONG else CASES
    ends: collections.Counter[str] = collections.Counter()
    for start in range(0, cases, CASES_PER_LIFE):
        life = await seeded_life(seed + start)
        for case in range(start, start + CASES_PER_LIFE):
            files = life.files.kill()
            what = damage(files, chance(seed * 7919 + case))
            ends[f"{what.split()[0]} {end_of(life.next_life(files), what)}"] += 1
    assert sum(ends.values()) == cases
    # It can tell: most of what is used matters.
    assert ends["flip refused"] > ends["flip harmless"]
    assert min(ends[f"{kind} refused"] for kind in ("zero", "cut", "lose")) > 0


def end_of(life: Life, what: str) -> str:
    """Opens damaged files; fails if they are served as if nothing was."""
    refusal: DamagedError | None = None
    try:
        life.open()
    except DamagedError as error:
        refusal = error
    except AssertionError as error:
        raise AssertionError(f"{what}: was served") from error
    if refusal is None:
        return "harmless"
    damaged = DIRECTORY / what.split()[1]
    named = {damaged, DIRECTORY} if what.startswith("lose") else {damaged}
    assert refusal.path in named, f"{what}: {refusal}"
    assert str(refusal.path) in str(refusal)
    assert refusal.offset >= 0
    return "refused"
