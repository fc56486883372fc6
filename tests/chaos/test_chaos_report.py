"""The report of a run: its verdict, its figures, and that a run proving nothing says so."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from chaos.__main__ import parse_arguments
from chaos.kill import OPERATIONS_PER_KILL_MIN, KillPlan, KillResult
from chaos.ledger import Outcome
from chaos.nodes import choose_victim
from chaos.report import as_values, histogram, quantile, summary

KILLS = 4 + 3 * 1


def good_result() -> KillResult:
    """Of two kills of a leader, two of a follower and one of all."""
    result = KillResult(KillPlan(seed=5, data_dir=Path("x"), kills=4, all_kills=1))
    result.leader_kills = result.follower_kills = 2
    result.all_kills = 1
    result.proved_kills = KILLS
    result.failovers_s = [0.41, 0.44]
    result.recoveries_s = [2.0]
    result.seconds = 10.0
    result.ledger.outcomes[Outcome.ACKNOWLEDGED] = OPERATIONS_PER_KILL_MIN * KILLS
    return result


def test_a_good_run_passes_and_says_what_that_is_worth() -> None:
    first, *lines = summary(good_result())
    assert first.startswith("pass: 0 lost, 0 doubled in 5 trials")
    assert "60.0%" in first
    text = "\n".join(lines)
    assert "--kills 4 --all-kills 1 --rate 300 --seed 5" in text
    assert "median 0.410 s, p95 0.440 s, worst 0.440 s" in text
    assert json.loads(json.dumps(as_values(good_result())))["failovers_s"] == [0.41, 0.44]


def test_what_is_lost_fails_the_run_and_is_named() -> None:
    result = good_result()
    result.ledger.violations.add("lost", "b7 on n2")
    assert result.verdict() == "fail"
    first, *_, last = summary(result)
    assert first == "fail: 1 lost"
    assert last == "lost: b7 on n2"


def test_what_does_not_heal_fails_the_run() -> None:
    result = good_result()
    result.broken = "nobody leads for 60 s"
    assert next(summary(result)) == "fail: nobody leads for 60 s"


def test_a_kill_without_proof_proves_nothing() -> None:
    result = good_result()
    result.proved_kills -= 1
    assert next(summary(result)) == f"invalid: 1 of {KILLS} kills have no proof"


def test_a_run_without_load_proves_nothing() -> None:
    result = good_result()
    result.ledger.outcomes[Outcome.ACKNOWLEDGED] -= 1
    assert next(summary(result)).startswith("invalid: only 139 acknowledged operations")


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1)]
)
def test_quantiles_of_a_hundred(share: float, expected: int) -> None:
    values = [float(number) for number in range(1, 101)]
    random.Random(1).shuffle(values)
    assert quantile(values, share) == expected


def test_nothing_has_no_quantile_and_no_histogram() -> None:
    assert math.isnan(quantile([], 0.5))
    assert histogram([]) == {}


def test_a_histogram_has_every_bucket_in_between() -> None:
    assert histogram([0.31, 0.39, 0.55]) == {3: 2, 4: 0, 5: 1}


def test_every_second_victim_is_the_leader(seed: int) -> None:
    chance = random.Random(seed)
    victims = [choose_victim(("n1", "n2", "n3"), "n2", n, chance) for n in range(40)]
    assert victims[::2] == ["n2"] * 20
    assert {*victims[1::2]} == {"n1", "n3"}


def test_the_defaults_are_the_full_run() -> None:
    options = parse_arguments(["kill"])
    assert (options.nodes, options.kills, options.all_kills) == (3, 200, 20)
