"""The branch semantics over three nodes, against a model of one page; see DESIGN.md."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test
from machine import Service
from steps import TALLY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a failing example is made short first

WITHOUT_EXPLANATION = [p for p in hypothesis.Phase if p is not hypothesis.Phase.explain]
WALKS_MAX = 20
"""Most need one to three; the rarest rule is taken in every second."""
HAS_TO_BE_SEEN = {"a wait is released before the commit", "Subscribe: subscription_overflow"}


def test_three_nodes_do_what_the_model_says() -> None:
    # semantics: G2, G2.1, G3, G3.1, G3.2, G3.3, G4, G5, G5.1, G6, G6.1, G7, G7.1
    # semantics: W1, W2, W2.3, W2.5, W3, W4, W4.1, W4.2, W4.4, W4.5, W4.6, W5, W6, W6.1
    # semantics: S1, S1.1, S2, S3, S3.1, S4, S5, S5.1, S5.2, R1, R1.1, R2, R2.1, R4, R5, R5.1
    # semantics: R6, R6.1, R6.2, R7, R7.1, R7.2, R7.3, C1, C1.1, D1, D1.1, Q1
    # semantics: U1, U1.1, U1.2, U1.3, U2, U2.1, U3, U4, U5, U5.1, L1, L2, L2.2, L2.3, 5.2, 5.3
    settings = hypothesis.settings(
        stateful_step_count=50, report_multiple_bugs=False, phases=WITHOUT_EXPLANATION
    )
    run_state_machine_as_test(Service, settings=settings)


def test_the_properties_are_not_vacuous() -> None:
    """Walks until all was come to that matters.

    How far one walk comes is not settled by its seed: Hypothesis also draws the constants of the
    modules that the process happens to have imported.
    """
    TALLY.clear()
    rules = {rule.function.__name__ for rule in Service.setup_state().rules}
    missing = rules
    for seed in range(WALKS_MAX):
        _walk(seed)
        vacuous = {name for name in TALLY.looked if not TALLY.meaningful[name]}
        unseen = {name for name in HAS_TO_BE_SEEN if not TALLY.seen[name]}
        missing = (rules - TALLY.rules.keys()) | vacuous | unseen
        if not missing:
            break
    assert not missing
    assert len(TALLY.looked) >= 30


def _walk(seed: int) -> None:
    settings = hypothesis.settings(
        max_examples=100,
        stateful_step_count=50,
        phases=[hypothesis.Phase.generate],
        database=None,
        report_multiple_bugs=False,
    )

    class OneSeed(Service):
        """The same rules; a class of its own has a seed of its own."""

    run_state_machine_as_test(hypothesis.seed(seed)(OneSeed), settings=settings)
