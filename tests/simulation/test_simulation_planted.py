"""Bugs are planted, and the simulator has to find them: one that cannot proves nothing.

Which seed found each is logged (`--log-cli-level INFO`); the bounds leave room.
"""

from __future__ import annotations

import logging

import pytest
from membership_bugs import MEMBERSHIP_PLANTS
from planted_bugs import PLANTS, Kind, Plant

ALL_PLANTS = (*PLANTS, *MEMBERSHIP_PLANTS)

_LOG = logging.getLogger(__name__)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "kind", "seeds"), ALL_PLANTS, ids=[plant.__name__ for plant, _, _ in ALL_PLANTS]
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
