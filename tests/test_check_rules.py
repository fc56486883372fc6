"""The script that finds rules without a test finds them, and takes nothing else for a proof."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "check_rules.py"
RULES = """\
# The rules.

## Writes
W4    A close closes.
      It does so for ever.
W4.1  Twice is fine.
5.2   Reports.
"""
TESTS = """\
import pytest


@pytest.mark.parametrize("case", [
    # semantics: W4, 5.2
    1,
])
async def test_close(case):
    # semantics: W4.1. Twice, and then once more.
    assert case, "# semantics: W9"
"""


def check(tmp_path: Path, rules: str = RULES, tests: str = TESTS, scenario: str = "") -> list[str]:
    """What the script prints about such a repository, without its last line."""
    directory = tmp_path / "tests" / "core" / "scenarios"
    directory.mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "semantics-rules.txt").write_text(rules)
    (tmp_path / "tests" / "core" / "test_close.py").write_text(tests)
    (directory / "story.txt").write_text(scenario)
    (directory.parent / "notes.txt").write_text("# semantics: W9\n")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--root", tmp_path], capture_output=True, text=True, check=False
    )
    assert not done.stderr
    *findings, total = done.stdout.splitlines()
    assert "named" in total
    assert done.returncode == bool(findings)
    return findings


def test_every_rule_is_named(tmp_path: Path) -> None:
    assert check(tmp_path) == []


def test_a_rule_without_a_test_is_found(tmp_path: Path) -> None:
    assert check(tmp_path, rules=RULES + "W4.2  Unknown is NOT_FOUND.\n") == [
        "docs/semantics-rules.txt: no test names W4.2: Unknown is NOT_FOUND."
    ]


def test_a_scenario_may_name_it(tmp_path: Path) -> None:
    rules = RULES + "W5    Each for itself.\n"
    assert check(tmp_path, rules=rules, scenario="# semantics: W5\nregister r1\n") == []


@pytest.mark.parametrize(
    ("more", "finding"),
    [
        ("def test_other():\n    # semantics: W4, W5\n    pass\n", ":13: W5 is no rule"),
        ("def test_other():\n    # semantics: closes\n    pass\n", ":13: names no rule"),
        ("def helper():\n    # semantics: W4\n    pass\n", ":13: is not within a test that runs"),
        ("# semantics: W4\n", ":12: is not within a test that runs"),
        (
            "@pytest.mark.skip(reason='no')\ndef test_other():\n    # semantics: W4\n    pass\n",
            ":14: is not within a test that runs",
        ),
    ],
    ids=["unknown", "no id", "helper", "module", "skipped"],
)
def test_what_proves_nothing_is_found(tmp_path: Path, more: str, finding: str) -> None:
    assert check(tmp_path, tests=f"{TESTS}\n{more}") == [f"tests/core/test_close.py{finding}"]


@pytest.mark.parametrize("line", ["W4    Once more.", "X     No number.", "W7"])
def test_a_list_that_is_no_list_is_found(tmp_path: Path, line: str) -> None:
    (finding,) = check(tmp_path, rules=f"{RULES}{line}\n")
    assert finding.startswith("docs/semantics-rules.txt:8: no rule, or one that is there already")


def test_an_empty_list_is_found(tmp_path: Path) -> None:
    findings = check(tmp_path, rules="# Nothing.\n", tests="")
    assert findings == ["docs/semantics-rules.txt: has no rules"]
