"""Real files and SIGKILL at a system call: what was acknowledged before is there afterwards.

`strace` kills the program right before the n-th call of a kind; the points are those of a recorded
run. This shows that the real file layer, and the kernel under it, keep what the injected one is
made to keep; a kill is no power cut, which only the injected layer can play
(`test_storage_crashes`). By default some points are taken; all with `RENDEZVOUS_CRASH_POINTS=all`.
"""

from __future__ import annotations

import collections
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_life import tell_story

from rendezvous_raft.replication.raft.files import RealFiles
from rendezvous_raft.replication.raft.verification import verify_directory
from rendezvous_raft.testing.durable_lives import Life, Model, chance
from rendezvous_raft.testing.durable_story import go_on
from rendezvous_raft.testing.memory_files import MemoryFiles

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("real_life.py")
CALLS = ("pwrite64", "fdatasync", "fsync", "rename", "unlink", "fallocate", "mkdir")
"""That change or sync something, as Python makes them on Linux."""
EVERY_POINT = os.environ.get("RENDEZVOUS_CRASH_POINTS") == "all"
SAMPLE = 21
SECOND_KILL_WITHIN = 12
"""Calls of one kind in a recovery, about."""


@dataclass(frozen=True)
class Told:
    """What a life said before it was killed."""

    begun: int
    synced: int
    killed: bool


def run_killed(strace: str, directory: Path, call: str, nth: int, *more: str) -> Told:
    """Runs the program until it is killed before the n-th call of a kind."""
    inject = f"inject={call}:signal=SIGKILL:when={nth}"
    # Not with --seccomp-bpf, under which strace 6.1 counts calls but sends no signal.
    command = [strace, "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    done = subprocess.run(
        [*command, sys.executable, "-B", str(PROGRAM), str(directory), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    numbers = collections.defaultdict(lambda: [0])
    for line in done.stdout.splitlines():
        kind, number = line.split()
        numbers[kind].append(int(number))
    return Told(max(numbers["b"]), max(numbers["s"]), killed=done.returncode == -9)


def recorded_points(strace: str, directory: Path) -> list[tuple[str, int]]:
    """Every call of a whole run: its kind and its number among those of its kind."""
    trace = directory.with_name("trace")
    command = [strace, "-f", "-s", "0", "-o", str(trace), "-e", f"trace={','.join(CALLS)}"]
    subprocess.run(
        [*command, sys.executable, "-B", str(PROGRAM), str(directory)],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    counts: collections.Counter[str] = collections.Counter()
    points = []
    for line in trace.read_text().splitlines():
        call = line.split(maxsplit=1)[1].partition("(")[0]
        if call in CALLS:
            counts[call] += 1
            points.append((call, counts[call]))
    return points


def chosen(points: list[tuple[str, int]], rng: random.Random) -> list[tuple[str, int]]:
    if EVERY_POINT:
        return points
    first = [rng.choice([point for point in points if point[0] == call]) for call in CALLS]
    return [*first, *rng.sample(points, SAMPLE - len(first))]


async def check_next_life(directory: Path, model: Model) -> Life:
    """The verdict without a node, then a life on what is there."""
    assert verify_directory(directory).is_sound
    life = Life(MemoryFiles(), model.fork(), disk=RealFiles(), directory=directory)
    life.open()
    return life


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a matter of Linux's calls")
@pytest.mark.timeout(3600 if EVERY_POINT else 120)
async def test_nothing_acknowledged_is_lost_by_a_real_kill(
    strace: str, tmp_path: Path, seed: int
) -> None:
    rng = chance(seed)
    files = MemoryFiles()
    whole = await tell_story(Model(), files, files, tmp_path / "memory")
    points = recorded_points(strace, tmp_path / "recorded")
    assert len(points) > 500
    assert {call for call, _ in points} == set(CALLS)
    kills = second_kills = acknowledged = 0
    for call, nth in chosen(points, rng):
        directory = tmp_path / "node"
        told = run_killed(strace, directory, call, nth)
        assert told.killed, f"{call} {nth} was not reached"
        kills += 1
        acknowledged += told.synced
        if not directory.exists():
            assert told.synced == 0
            continue
        last = told.begun + 1
        model = Model(whole.logs[:last], whole.terms[:last], told.synced)
        if (directory / "metadata").exists():
            again = rng.choice(("pwrite64", "fdatasync", "fsync", "rename", "unlink"))
            soon = rng.randrange(1, SECOND_KILL_WITHIN)
            second_kills += run_killed(strace, directory, again, soon, "--recover").killed
            life = await check_next_life(directory, model)
        else:
            life = Life(MemoryFiles(), model, disk=RealFiles(), directory=directory)
            life.open()
        await go_on(life)
        await life.close()
        after = await check_next_life(directory, life.model)
        await after.close()
        shutil.rmtree(directory)
    assert kills >= SAMPLE
    assert second_kills > 0
    assert acknowledged > kills  # most died after something had been acknowledged
