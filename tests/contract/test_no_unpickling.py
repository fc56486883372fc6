"""Nothing that arrives from a socket or a file is unpickled (F14)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
PROGRAM = Path(__file__).with_name("audited_cluster.py")


def audited(*arguments: str) -> dict[str, Any]:
    """What the program saw; it must live through everything."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["branches"] == 6 * 200
    assert len(found["installed"]) == 1
    assert found["snapshot_bytes"] > 2 * 4_096
    return found


def test_a_cluster_unpickles_nothing_in_its_whole_life(tmp_path: Path) -> None:
    assert audited(str(tmp_path))["seen"] == []


def test_what_is_unpickled_would_be_seen(tmp_path: Path) -> None:
    seen = audited(str(tmp_path), "plant")["seen"]
    assert [what.partition(" in ")[0] for what in seen] == [
        "pickle.loads is called",
        "pickle.find_class",
        "pickle.loads is called",
        "marshal.loads",
    ]
