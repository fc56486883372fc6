"""The whole demonstration with few posts: processes, delays, monitors, both runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
POSTS = 40


def perform(tmp_path: Path, *flags: str) -> tuple[subprocess.CompletedProcess[str], Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "rendezvous_raft", "demo", "--posts", str(POSTS)),
            *("--rate", "100", "--json", "numbers.json", *flags),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=150,
    )
    numbers = tmp_path / "numbers.json"
    return done, json.loads(numbers.read_text()) if numbers.exists() else None


def require(datastore: str) -> None:
    if datastore != "redis" or shutil.which("redis-server"):
        return
    if os.environ.get("RENDEZVOUS_REQUIRE_SERVERS") == "1":
        pytest.fail("redis-server is not installed")
    pytest.skip("redis-server is not installed")


@pytest.mark.parametrize("datastore", ["embedded", "redis"])
def test_inconsistent_without_and_consistent_with(tmp_path: Path, datastore: str) -> None:
    require(datastore)
    done, numbers = perform(tmp_path, "--datastore", datastore)
    assert done.returncode == 0, done.stderr + done.stdout
    without, guarded = numbers["runs"]["without"], numbers["runs"]["with"]
    assert without["summary"]["inconsistent"] > 0
    assert without["summary"]["prevented"] == 0
    assert guarded["summary"]["posts"] == POSTS
    assert guarded["summary"]["inconsistent"] == 0
    assert guarded["summary"]["timed_out"] == 0
    assert guarded["summary"]["errors"] == []
    # It did not succeed by doing nothing: waits were blocked, and every post was really there.
    assert guarded["summary"]["prevented"] > 0
    assert len(guarded["posts"]) == POSTS
    assert all(post["consistent"] for post in guarded["posts"])
    assert numbers["leader_region"] == "eu"
    assert (tmp_path / "rendezvous-demo.png").read_bytes().startswith(b"\x89PNG")


def test_without_rendezvous_no_cluster_is_needed(tmp_path: Path) -> None:
    done, numbers = perform(tmp_path, "--no-rendezvous")
    assert done.returncode == 0, done.stderr
    assert numbers["runs"]["with"] is None


def test_a_lag_shorter_than_the_notification_shows_nothing_and_fails(tmp_path: Path) -> None:
    require("redis")
    lag = ("--datastore", "redis", "--lag-median-ms", "1", "--rtt-ms", "eu-us=400")
    done, numbers = perform(tmp_path, "--no-rendezvous", *lag)
    assert done.returncode == 1
    assert "nothing was shown" in done.stderr
    assert numbers["ok"] is False
