"""A short run of `python -m chaos kill`: no assertion about time, all of those about loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import kill
from chaos.report import summary

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def test_a_short_run_loses_nothing(tmp_path: Path, seed: int) -> None:
    plan = kill.KillPlan(seed=seed, data_dir=tmp_path, kills=2, all_kills=1)
    said: list[str] = []
    result = await kill.run(plan, said.append)
    assert result.verdict() == "pass", "\n".join(summary(result))
    assert (result.leader_kills, result.follower_kills, result.all_kills) == (1, 1, 1)
    assert result.proved_kills == 5
    assert sum("killed" in text for text in said) == 3
    assert len(result.failovers_s) == len(result.recoveries_s) == 1
    # Each operation that was told of, on each of three nodes.
    told = sum(result.ledger.outcomes.values())
    assert result.checked_at_the_end == 3 * told
    assert result.digests == 3
