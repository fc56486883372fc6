"""Faults are planted, and the machine has to find them: one that cannot proves nothing."""

from __future__ import annotations

import hypothesis
import pytest
from chronicle import Violation
from hypothesis.stateful import run_state_machine_as_test
from machine import Service
from planted_faults import PLANTS, Plant

EXAMPLES_MAX = 400
"""Most seeds take some ten; the bound leaves room for other versions of Hypothesis."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "seed", "shown_by"), PLANTS, ids=[plant.__name__ for plant, _, _ in PLANTS]
)
def test_a_planted_fault_is_found(
    plant: Plant, seed: int, shown_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    settings = hypothesis.settings(
        max_examples=EXAMPLES_MAX,
        stateful_step_count=50,
        phases=[hypothesis.Phase.generate],
        database=None,
        report_multiple_bugs=False,
    )

    class Planted(Service):
        """The same rules; a class of its own has a seed of its own."""

    with pytest.raises(Violation) as found:
        run_state_machine_as_test(hypothesis.seed(seed)(Planted), settings=settings)
    assert found.typename == shown_by
