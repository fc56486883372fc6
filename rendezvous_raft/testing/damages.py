"""Damages one file of a member's directory at random, and judges what the next start makes of it.

Every damage must be *harmless* (the start finds everything that was acknowledged, and works on)
or *refused* with an error that names the file. It must never be served, nothing else be raised.
`wal verify` must come to the same verdict on the same files without changing one.

    flip    one bit
    tear    the rest of the file from some place on is gone
    drop    one sector of 512 bytes, or one block of 4096, reads as zeros
    zero    any range reads as zeros
    lose    the file is gone
"""

from __future__ import annotations

import collections
import random
from dataclasses import dataclass, field
from pathlib import Path

from rendezvous_raft.replication.raft.files import DamagedError
from rendezvous_raft.replication.raft.inspection import NoDataDirectory
from rendezvous_raft.replication.raft.verification import verify_directory
from rendezvous_raft.testing.crash_points import Failure
from rendezvous_raft.testing.durable_lives import DIRECTORY, Life, chance_of, payloads
from rendezvous_raft.testing.durable_story import go_on
from rendezvous_raft.testing.memory_files import MemoryFiles

DAMAGES_PER_LIFE = 20
BEYOND_SHARE = 0.1
"""Of damages that may hit what was never written, too."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What was done to which file."""

    kind: str
    path: Path
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path.name} {self.detail}"


@dataclass(slots=True)
class DamageJudge:
    """Judges damages, and counts. The same seed makes the same lives and damages."""

    seed: int
    ends: collections.Counter[tuple[str, str, str]] = field(default_factory=collections.Counter)
    """By kind of file, kind of damage, and `harmless` or `refused`."""
    failures: list[Failure] = field(default_factory=list)
    _life: tuple[int, Life] | None = None

    async def judge(self, number: int) -> None:
        """Does and judges damage number `number`. Never raises; see `failures`."""
        life = await self._life_for(number // DAMAGES_PER_LIFE)
        files = life.files.kill()
        damage = damage_at_random(files, chance_of(self.seed, "damage", number))
        sort = file_kind(damage.path, life.files)
        try:
            end = await _end_of(life.next_life(files), damage)
        except Exception as error:  # noqa: BLE001 (nothing but an end may come out of it)
            replay = f"--damage {number} --seed {self.seed}"
            self.failures.append(Failure(f"damage {number}: {damage}", replay, error))
        else:
            self.ends[sort, damage.kind, end] += 1

    async def _life_for(self, number: int) -> Life:
        if self._life is None or self._life[0] != number:
            self._life = (number, await random_life(chance_of(self.seed, "life", number)))
        return self._life[1]


async def random_life(rng: random.Random) -> Life:
    """A node that has worked for a while, and was closed or killed."""
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
        if rng.random() < 0.15:
            await life.close()
            life = life.next_life(life.files.kill())
            life.open()
    if rng.random() < 0.5:
        await life.close()
    else:
        await life.rest()
    return life


def damage_at_random(files: MemoryFiles, rng: random.Random) -> Damage:
    """Damages one file; mostly where something was written."""
    path = rng.choice(files.paths())
    content = files.content(path)
    written = len(content.rstrip(b"\0"))
    used = written if written and rng.random() >= BEYOND_SHARE else len(content)
    kind = rng.choice(("flip", "flip", "flip", "tear", "drop", "zero", "lose"))
    if kind == "lose" or not used:
        files.lose(path)
        return Damage("lose", path, "")
    at = rng.randrange(used)
    match kind:
        case "flip":
            bit = at * 8 + rng.randrange(8)
            files.flip_bit(path, bit)
            return Damage(kind, path, f"bit {bit}")
        case "tear":
            files.cut(path, at)
            return Damage(kind, path, f"at {at}")
        case "drop":
            size = rng.choice((512, 4096))
            at = at // size * size
        case _:
            size = rng.randrange(1, used - at + 1)
    files.zero(path, at, size)
    return Damage(kind, path, f"{size} bytes at {at}")


def file_kind(path: Path, files: MemoryFiles) -> str:
    """What sort of file it is, as a reader of the figures wants it."""
    if path.suffix == ".log":
        return "segment"
    if path.suffix == ".snapshot":
        newest = max(other for other in files.paths() if other.suffix == ".snapshot")
        return "newest snapshot" if path == newest else "older snapshot"
    return path.name


async def _end_of(life: Life, damage: Damage) -> str:
    """`harmless` or `refused`. Raises if it was neither."""
    refused = _refused_by_verify(life.files.kill())
    try:
        life.open()
    except DamagedError as error:
        # Of a file that is gone, its directory may be all that can be named.
        named = {damage.path, DIRECTORY} if damage.kind == "lose" else {damage.path}
        if error.path not in named or str(error.path) not in str(error) or error.offset < 0:
            raise AssertionError(f"another file is named: {error}") from error
        if error.path not in refused:
            raise AssertionError(f"verify finds {refused}, the start {error}") from error
        return "refused"
    if refused:
        raise AssertionError(f"verify refuses {refused}, the start does not")
    await go_on(life)
    life.next_life(life.files.kill()).open()
    return "harmless"


def _refused_by_verify(files: MemoryFiles) -> list[Path]:
    """The files for which a start would be refused, by `wal verify`."""
    try:
        verdict = verify_directory(DIRECTORY, files)
    except NoDataDirectory:
        return []
    if files.calls:
        raise AssertionError(f"verify changed files: {files.calls}")
    return [problem.path for problem in verdict.problems if problem.refused]
