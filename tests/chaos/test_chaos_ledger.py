"""The ledger: histories that it must reject, one for each kind of violation, and good ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaos.ledger import VIOLATIONS_KEPT, Ledger, Outcome, SeenBranch

OPEN = {"eu": False, "us": False}
CLOSED_EU = {"eu": True, "us": False}


def ledger(registration: Outcome, **closes: Outcome) -> Ledger:
    """Of one branch `b` of request `r`, with closes by region."""
    book = Ledger()
    book.registration("b", "r", registration)
    for region, outcome in closes.items():
        book.close("b", region, outcome)
    return book


GOOD = {
    "acknowledged and there": (ledger(Outcome.ACKNOWLEDGED), [SeenBranch("b", OPEN)], 1),
    "unknown and there": (ledger(Outcome.UNKNOWN), [SeenBranch("b", OPEN)], 1),
    "unknown and not there": (ledger(Outcome.UNKNOWN), [], 1),
    "failed and not there": (ledger(Outcome.FAILED), [], 1),
    "closed": (
        ledger(Outcome.ACKNOWLEDGED, eu=Outcome.ACKNOWLEDGED),
        [SeenBranch("b", CLOSED_EU)],
        2,
    ),
    "close unknown": (
        ledger(Outcome.ACKNOWLEDGED, eu=Outcome.UNKNOWN, us=Outcome.UNKNOWN),
        [SeenBranch("b", CLOSED_EU)],
        3,
    ),
    "close failed": (
        ledger(Outcome.ACKNOWLEDGED, eu=Outcome.FAILED),
        [SeenBranch("b", OPEN)],
        2,
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_history_is_accepted(case: str) -> None:
    book, seen, checked = GOOD[case]
    assert book.judge("n1", "r", seen) == checked
    assert not book.violations


BAD = {
    "a registration is lost": (ledger(Outcome.ACKNOWLEDGED), [], "lost"),
    "a close is lost": (
        ledger(Outcome.ACKNOWLEDGED, eu=Outcome.ACKNOWLEDGED),
        [SeenBranch("b", OPEN)],
        "lost",
    ),
    "the close of the other region": (
        ledger(Outcome.ACKNOWLEDGED, us=Outcome.ACKNOWLEDGED),
        [SeenBranch("b", {"eu": False, "us": False})],
        "lost",
    ),
    "a branch is doubled": (
        ledger(Outcome.ACKNOWLEDGED),
        [SeenBranch("b", OPEN), SeenBranch("b", OPEN)],
        "doubled",
    ),
    "a failed registration happened": (
        ledger(Outcome.FAILED),
        [SeenBranch("b", OPEN)],
        "a lie",
    ),
    "a failed close happened": (
        ledger(Outcome.ACKNOWLEDGED, eu=Outcome.FAILED),
        [SeenBranch("b", CLOSED_EU)],
        "a lie",
    ),
    "a branch from nowhere": (
        ledger(Outcome.ACKNOWLEDGED),
        [SeenBranch("b", OPEN), SeenBranch("c", OPEN)],
        "from nowhere",
    ),
    "a close from nowhere": (
        ledger(Outcome.ACKNOWLEDGED),
        [SeenBranch("b", CLOSED_EU)],
        "from nowhere",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_history_is_rejected(case: str) -> None:
    book, seen, kind = BAD[case]
    book.judge("n1", "r", seen)
    assert book.violations.counts == {kind: 1}
    assert len(book.violations.descriptions) == 1


def test_a_branch_of_another_request_is_from_nowhere() -> None:
    book = ledger(Outcome.ACKNOWLEDGED)
    book.judge("n1", "other", [SeenBranch("b", OPEN)])
    assert book.violations.counts == {"from nowhere": 1}


WHILE_RUNNING: dict[str, tuple[list[SeenBranch], dict[str, int]]] = {
    "all there": ([SeenBranch("b", CLOSED_EU)], {}),
    "what came since": ([SeenBranch("b", CLOSED_EU), SeenBranch("c", OPEN)], {}),
    "no branch": ([], {"lost": 1}),
    "no close": ([SeenBranch("b", OPEN)], {"lost": 1}),
}


@pytest.mark.parametrize("case", WHILE_RUNNING)
def test_while_it_runs_only_what_was_acknowledged_before_counts(case: str) -> None:
    seen, expected = WHILE_RUNNING[case]
    book = ledger(Outcome.ACKNOWLEDGED, eu=Outcome.ACKNOWLEDGED, us=Outcome.UNKNOWN)
    book.registration("d", "r", Outcome.UNKNOWN)
    acknowledged = book.acknowledged_now("r")
    assert acknowledged == {"b": ["eu"]}
    assert book.judge_while_running("n1", acknowledged, seen) == 2
    assert book.violations.counts == expected


ANSWERS: dict[str, tuple[Callable[[Ledger], None], dict[str, int]]] = {
    "the same operation twice": (lambda book: book.answered("a", 7), {}),
    "one revision for two": (lambda book: book.answered("b", 7), {"doubled": 1}),
    "a repetition is known": (lambda book: book.repetition("a", known=True), {}),
    "a repetition is news": (lambda book: book.repetition("a", known=False), {"lost": 1}),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_are_held_against_each_other(case: str) -> None:
    step, expected = ANSWERS[case]
    book = Ledger()
    book.answered("a", 7)
    step(book)
    assert book.violations.counts == expected
    assert book.revision == 7


def test_all_violations_are_counted_and_some_described() -> None:
    book = Ledger()
    for number in range(2 * VIOLATIONS_KEPT):
        book.violations.add("lost", str(number))
    assert book.violations.counts == {"lost": 2 * VIOLATIONS_KEPT}
    assert len(book.violations.descriptions) == VIOLATIONS_KEPT
