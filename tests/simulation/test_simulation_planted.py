"""Bugs are planted, and the simulator has to find them: one that cannot proves nothing.

Which seed found each is recorded (`--junit-xml`); the bounds leave room for other courses.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from planted_bugs import PLANTS, Kind, Plant


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "kind", "seeds"), PLANTS, ids=[plant.__name__ for plant, _, _ in PLANTS]
)
def test_a_planted_bug_is_found(
    plant: Plant,
    kind: Kind,
    seeds: range,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    plant(monkeypatch)
    for seed in seeds:
        report = kind(seed).run()
        if report.violations:
            record_property("seed", seed)
            record_property("violation", str(report.violations[0]))
            return
    pytest.fail(f"{plant.__name__} was not found in {seeds}")
