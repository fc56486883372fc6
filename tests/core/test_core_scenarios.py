"""The transcripts in scenarios/ tell exactly what happens.

`pytest tests/core --rewrite` writes their traces anew. Commit a change only if you understand what
caused it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rendezvous_raft.testing import scenario
from rendezvous_raft.testing.scenario import ScenarioError

DIRECTORY = Path(__file__).parent / "scenarios"
TRANSCRIPTS = sorted(DIRECTORY.glob("*.txt"))
NAMES = {
    "batch",
    "dependencies",
    "expiry",
    "fan_out",
    "global_branch",
    "groups",
    "late_registration",
    "mutual_waits",
    "nested_zones",
    "overwrite",
    "post_notification",
    "reopen_after_settled",
    "service_cycle",
    "subscribers",
    "tags",
    "three_zones",
    "waiter_service",
    "why_a_wait_blocks",
}


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, pytestconfig: pytest.Config) -> None:
    expected = path.read_text(encoding="utf-8")
    told = scenario.run(expected)
    if pytestconfig.getoption("--rewrite", default=False):
        path.write_text(told, encoding="utf-8")
        return
    assert told == expected
    assert told.count("\n    ") > 5


def test_the_scenarios_are_there() -> None:
    assert {path.stem for path in TRANSCRIPTS} == NAMES


def test_a_wrong_trace_is_seen() -> None:
    assert scenario.run("register r1\n    1: nonsense\n") == (
        "register r1\n    1: r1 created\n        r1 opened\n"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dance", "dance is not known"),
        ("open b1 servce=a", "servce= is not known here"),
        ("wait w1 regoin=eu", "regoin= is not known here"),
        ("abandon w1", "line 1, 'abandon w1'"),
        ("use", "line 1, 'use'"),
        ("register r\nopen b\nwait w\nwait w", "line 4, 'wait w': w is parked already"),
        ("retry", "nothing to retry"),
        ("check", "line 1, 'check'"),
    ],
)
def test_a_line_that_is_not_understood_is_named(line: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        scenario.run(line)
