"""Bugs are planted, and the simulator has to find them: one that cannot proves nothing.

Which seed found each is logged (`--log-cli-level INFO`); the bounds leave room.
"""

from __future__ import annotations

import logging

import pytest
from planted_bugs import PLANTS, Kind, Plant

_LOG = logging.getLogger(__name__)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "kind", "seeds"), PLANTS, ids=[plant.__name__ for plant, _, _ in PLANTS]
)
def test_a_planted_bug_is_found(
    plant: Plant,
    kind: Kind,
    seeds: range,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    for seed in seeds:
        report = kind(seed).run()
        if report.violations:
            _LOG.info("%s: seed %d: %s", plant.__name__, seed, report.violations[0])
            return
    pytest.fail(f"{plant.__name__} was not found in {seeds}")
