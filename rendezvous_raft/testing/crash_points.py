"""Ends a story of a member's files at every call that changes or syncs something, and judges.

The story (`durable_story`) is told once, and before each of its calls the disk and what had been
acknowledged are copied: that is what a death at this boundary leaves. Each copy then dies in every
way there is:

- *kill*: the process alone ends, everything written is there;
- *torn*: it was killed in the middle of the write before;
- *power*: what was not synced is there in any part, and in any order, as a seed decides.

The next life must find everything that was acknowledged, go on, and survive a power loss again. And
its recovery dies too, at its own calls (the *second kill*), after which the life thereafter must
find the same. `Judge.failures` holds what did not; each names the arguments that replay it.
"""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rendezvous_raft.replication.raft.inspection import NoDataDirectory
from rendezvous_raft.replication.raft.storage import DiskFull
from rendezvous_raft.replication.raft.verification import verify_directory
from rendezvous_raft.testing.durable_lives import DIRECTORY, Life, Model, chance, chance_of, settle
from rendezvous_raft.testing.durable_story import STORY, Chapter, go_on
from rendezvous_raft.testing.lagging_executor import LaggingExecutor
from rendezvous_raft.testing.memory_files import MemoryFiles

POINTS_AT_ONCE = 40
"""Copies of the disk that are kept at a time."""


@dataclass(frozen=True, slots=True)
class Point:
    """The world before a call."""

    number: int
    """Of the call in the story, from 0."""
    chapter: str
    call: str
    before: str | None
    """The call before it in the same chapter."""
    files: MemoryFiles
    model: Model

    @property
    def kind(self) -> str:
        """What sort of call on what sort of file."""
        return kind_of(self.call)


@dataclass(frozen=True, slots=True)
class Failure:
    """A death after which the next life was not what it must be."""

    point: str
    replay: str
    """Arguments of `scripts/crash_points`."""
    error: BaseException


@dataclass(slots=True)
class Judge:
    """Judges points, and counts.

    Args:
        seed: of power losses and of what is chosen.
        power_losses: tried at each point.
        every_second: whether a recovery is ended at each of its calls, or at one that is chosen.
        lagging: whether the syncs of the story are interleaved with its writes.
    """

    seed: int
    power_losses: int = 3
    every_second: bool = False
    lagging: bool = False
    points: collections.Counter[str] = field(default_factory=collections.Counter)
    """Boundaries that were judged, by kind."""
    deaths: collections.Counter[str] = field(default_factory=collections.Counter)
    """By way of dying."""
    second_kills: int = 0
    cuts: int = 0
    """Recoveries that cut a torn tail."""
    starved: int = 0
    """Starts that were refused because the disk was full, and then had room."""
    failures: list[Failure] = field(default_factory=list)

    async def judge(self, point: Point) -> None:
        """Lets the world die at a point in every way. Never raises; see `failures`."""
        self.points[point.kind] += 1
        for way, files in self._deaths(point):
            self.deaths[way.split()[0]] += 1
            try:
                await self._judge_death(point, way, files)
            except Exception as error:  # noqa: BLE001 (whatever it is, it must not come from files)
                told = f"before call {point.number} ({point.call}, in {point.chapter!r}), {way}"
                replay = f"--point {point.number} --seed {self.seed}"
                replay += " --lagging" if self.lagging else " --inline"
                replay += f" --power-losses {self.power_losses}"
                replay += " --every-second" if self.every_second else ""
                self.failures.append(Failure(told, replay, error))

    def _deaths(self, point: Point) -> Iterator[tuple[str, MemoryFiles]]:
        yield "kill", point.files.kill()
        if point.before is not None and point.before.startswith("write "):
            torn = point.files.kill()
            path = DIRECTORY / point.before.split()[1]
            torn.tear_last_write(path, chance(self.seed + point.number))
            yield "torn", torn
        for loss in range(self.power_losses):
            yield f"power {loss}", point.files.power_loss(chance_of(self.seed, point.number, loss))

    async def _judge_death(self, point: Point, way: str, files: MemoryFiles) -> None:
        rng = chance_of(self.seed, point.number, way, "second")
        check_verdict(files)
        life = Life(files.kill(), point.model.fork())
        seconds = capture(life)
        self._open(life)
        life.files.before_call.clear()
        self.cuts += life.recovered.cut is not None
        await go_on(life)
        life.next_life(life.files.power_loss(rng)).open()
        await settle()
        worlds = list(seconds)
        chosen = worlds if self.every_second else [rng.choice(worlds)]
        for world in chosen:
            self.second_kills += 1
            for after in (world.kill(), world.power_loss(rng)):
                self._open(Life(after, point.model.fork()))

    def _open(self, life: Life) -> None:
        """Begins the next life; where there is not even room for that, once there is."""
        try:
            life.open()
        except DiskFull:
            self.starved += 1
            life.files.room_bytes = None
            life.open()


def capture(life: Life) -> list[MemoryFiles]:
    """A list that grows by a copy of the disk before each call of a life."""
    worlds: list[MemoryFiles] = []
    life.files.before_call.append(lambda _call: worlds.append(life.files.kill()))
    return worlds


def check_verdict(files: MemoryFiles) -> None:
    """A death is no damage: `wal verify` must say so. Raises `AssertionError`."""
    looked_at = files.kill()
    try:
        verdict = verify_directory(DIRECTORY, looked_at)
    except NoDataDirectory:
        return
    if not verdict.is_sound:
        raise AssertionError(f"verify finds damage: {verdict.problems}")
    if looked_at.calls:
        raise AssertionError(f"verify changed files: {looked_at.calls}")


async def record(
    wanted: Collection[int], *, lagging: bool, story: tuple[Chapter, ...] = STORY
) -> tuple[list[Point], list[str]]:
    """Tells the story once; the worlds before the wanted calls, and all calls of it."""
    points: list[Point] = []
    calls: list[str] = []
    files, model = MemoryFiles(), Model()
    for chapter in story:
        others = asyncio.all_tasks()
        life = Life(files, model)
        if lagging:
            life.executor = LaggingExecutor(files)
        files.before_call.append(_recorder(life, chapter.name, wanted, points, calls))
        await chapter.script(life)
        # What the life would still do by itself is never done.
        files.before_call.clear()
        seed = chapter.loses_power
        files = files.kill() if seed is None else files.power_loss(chance(seed))
        model = life.model.fork()
        if isinstance(life.executor, LaggingExecutor):
            life.executor.end()
        for task in asyncio.all_tasks() - others:
            task.cancel()
        await settle()
    return points, calls


def _recorder(
    life: Life, chapter: str, wanted: Collection[int], points: list[Point], calls: list[str]
) -> Callable[[str], None]:
    before: list[str | None] = [None]

    def told(call: str) -> None:
        if len(calls) in wanted:
            copies = (life.files.kill(), life.model.fork())
            points.append(Point(len(calls), chapter, call, before[0], *copies))
        calls.append(call)
        before[0] = call

    return told


def sample(calls: Sequence[str], count: int, rng: random.Random) -> list[int]:
    """Numbers of points, in order: one of each kind of call, and `count` more of any."""
    by_kind: dict[str, list[int]] = {}
    for number, call in enumerate(calls):
        by_kind.setdefault(kind_of(call), []).append(number)
    more = rng.sample(range(len(calls)), min(count, len(calls)))
    return sorted({*map(rng.choice, by_kind.values()), *more})


def kind_of(call: str) -> str:
    """Sort of a call: `write segment`, `rename metadata`."""
    name, _, file = call.partition(" ")
    suffix = Path(file).suffix
    kinds = {".log": "segment", ".snapshot": "snapshot"}
    return f"{name} {kinds.get(suffix, file)}"
