"""One long history from a printed seed: under two hash seeds, and against the naive model."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from pathlib import Path

import seeded_history
from seeded_history import fingerprint, history_of

from rendezvous_raft.core.invariants import History, check_basic, check_delta
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import BranchesClosed, CloseOutcome, Reason, Rejected
from rendezvous_raft.testing.naive_model import NaiveModel

LENGTH = 3_000


def test_the_hash_seed_decides_nothing(seed: int) -> None:
    program = Path(seeded_history.__file__)
    printed = [
        subprocess.run(
            [sys.executable, str(program), str(seed), str(LENGTH)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        ).stdout
        for hash_seed in ("0", "1")
    ]
    assert printed[0] == printed[1] == fingerprint(seed, LENGTH), f"history of seed {seed}"
    assert printed[0].startswith(f"{LENGTH} ")


def test_a_long_history_agrees_with_the_model(seed: int) -> None:
    machine, model = StateMachine(), NaiveModel()
    said: collections.Counter[object] = collections.Counter()
    for number, command in enumerate(history_of(seed, LENGTH)):
        before = History(machine.state)
        applied = machine.apply(command)
        assert applied.result == model.apply(command), f"command {number} of seed {seed}"
        assert check_delta(before, machine.state) == []
        said[type(applied.result)] += 1
        if isinstance(applied.result, Rejected):
            said[applied.result.reason] += 1
        if isinstance(applied.result, BranchesClosed):
            said.update(applied.result.outcomes)
        if number % 100 == 0:
            assert check_basic(machine.state) == []
    # A test that passes by doing nothing is a fault: every answer must have been given.
    wanted = {*CloseOutcome, *Reason} - {Reason.LIMIT}
    assert {answer for answer in wanted if said[answer] == 0} == set(), f"seed {seed}"
