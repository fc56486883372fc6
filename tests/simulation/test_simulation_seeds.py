"""Simulated clusters of three, five and seven nodes under faults, 200 of them in each run.

Most are the same in every run; some are drawn from the seed of the run. A failure names the command
that shows it again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from rendezvous_raft.testing.simulation.run import Seed, Summary, run_seed, seeds_from

CHUNK = 10
FIXED = range(0, 160, CHUNK)
DRAWN = range(4)
DURATION_S = 30.0


def run(first: int) -> Summary:
    summary = Summary()
    for seed in seeds_from(first, CHUNK, None, DURATION_S):
        summary.add(*run_seed(seed))
    if summary.failures:
        pytest.fail("\n".join(f"{f.what}\n{f.replay}" for f in summary.failures), pytrace=False)
    return summary


def check_that_much_was_checked(summary: Summary) -> None:
    """A simulation in which little happens proves little."""
    assert summary.outcomes.acknowledged > 20 * CHUNK
    assert summary.outcomes.reads > 3 * CHUNK
    assert sum(summary.faults_bitten.values()) > 3 * CHUNK
    idle = [
        name
        for name in (
            "a majority has it on disk before it is committed",
            "an acknowledgement tells the truth",
            "committed entries never change",
            "entries are durable before they are acknowledged",
            "equal index, equal answers",
            "equal index, equal digest",
            "leader completeness",
            "log matching",
            "no acknowledged write is lost",
            "one vote per term",
            "terms never go down",
            "what is durable survives",
        )
        if summary.tallies[name].meaningful < CHUNK
    ]
    assert not idle


@pytest.mark.slow
@pytest.mark.parametrize("first", FIXED)
def test_nothing_that_must_hold_breaks(first: int) -> None:
    check_that_much_was_checked(run(first))


@pytest.mark.slow
@pytest.mark.parametrize("number", DRAWN)
def test_nothing_that_must_hold_breaks_for_other_seeds(number: int, seed: int) -> None:
    check_that_much_was_checked(run(seed + number * CHUNK))


_HASHES = """
import json, sys
from rendezvous_raft.testing.simulation.run import Seed, run_seed
seeds = [Seed(*fields) for fields in json.loads(sys.argv[1])]
print(json.dumps([run_seed(seed)[1].trace_hash for seed in seeds]))
"""


@pytest.mark.slow
def test_a_seed_takes_one_course_whatever_the_hash_seed(seed: int) -> None:
    chosen = list(seeds_from(seed, 6, None, 15.0))
    hashes = {_hashes(chosen, hash_seed) for hash_seed in ("0", "1", "4711")}
    assert len(hashes) == 1


def _hashes(seeds: list[Seed], hash_seed: str) -> str:
    fields = json.dumps([[one.seed, one.nodes, one.duration_s] for one in seeds])
    return subprocess.run(
        [sys.executable, "-c", _HASHES, fields],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_other_seeds_take_other_courses() -> None:
    hashes = {run_seed(seed)[1].trace_hash for seed in seeds_from(0, 4, 3, 5.0)}
    assert len(hashes) == 4


@pytest.mark.slow
def test_the_command_replays_a_seed_and_sums_up_many(tmp_path: object) -> None:
    program = [sys.executable, "-m", "rendezvous_raft.testing.simulation"]
    one = subprocess.run(
        [*program, "--seed", "7", "--nodes", "3", "--duration", "5"],
        text=True,
        capture_output=True,
        check=True,
    )
    assert "leads" in one.stdout
    path = f"{tmp_path}/summary.json"
    many = subprocess.run(
        [
            *program,
            "--seeds",
            "3",
            "--duration",
            "5",
            "--workers",
            "1",
            "--again",
            "1",
            "--json",
            path,
        ],
        text=True,
        capture_output=True,
        check=True,
    )
    assert "no violation" in many.stdout
    with open(path) as file:  # noqa: PTH123
        summary = json.load(file)
    assert summary["seeds"] == 3
    assert summary["run_again"] == 1
    assert summary["failures"] == []
