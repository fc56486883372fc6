"""Faults are planted, and the machine has to find them: one that cannot proves nothing."""

from __future__ import annotations

import hypothesis
import pytest
from chronicle import Violation
from hypothesis.stateful import run_state_machine_as_test
from machine import Service
from planted_faults import PLANTS, Plant

SEEDS = range(1, 17)
"""Of which one must find it; each finds the hardest in every second case."""
EXAMPLES = 120
"""Of each seed."""


@pytest.mark.slow
@pytest.mark.timeout(300)  # the hardest may take many seeds
@pytest.mark.parametrize(("plant", "shown_by"), PLANTS, ids=[plant.__name__ for plant, _ in PLANTS])
def test_a_planted_fault_is_found(
    plant: Plant, shown_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    found = next((found for seed in SEEDS if (found := _violated(seed))), "")
    assert found.startswith(shown_by), found
    assert found


def _violated(seed: int) -> str:
    """The property that does not hold with this seed; empty if all do."""
    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        stateful_step_count=50,
        phases=[hypothesis.Phase.generate],
        database=None,
        report_multiple_bugs=False,
    )

    class Planted(Service):
        """The same rules; a class of its own has a seed of its own."""

    try:
        run_state_machine_as_test(hypothesis.seed(seed)(Planted), settings=settings)
    except Violation as found:
        return str(type(found).__name__)
    return ""
