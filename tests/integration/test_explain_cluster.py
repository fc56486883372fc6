"""Why a wait is blocked, who waits and who watches, asked of real nodes as operators do it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command of the product that goes on by itself; it has ended after the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rendezvous_raft", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def dev(directory: Path) -> Iterator[list[str]]:
    """The addresses of three nodes: eu, us, ap."""
    flags = ("dev", "--nodes", "3", "--base-port", "0", "--json", "--data-dir", str(directory))
    with program(*flags) as process:
        assert process.stdout is not None
        yield [node["grpc"] for node in json.loads(process.stdout.readline())["nodes"]]


def rendezvous(node: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "rendezvous_raft", "-o", "json", "--endpoints", node, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def next_line(stream: Any) -> Any:
    return json.loads(stream.readline())


def blocked_of(reader: subprocess.Popen[str]) -> Any:
    """The explanation; before it, a node that is behind may say that it knows of nothing."""
    while True:
        line = next_line(reader.stderr)
        if "blocked" in line:
            return line["blocked"]
        assert line == {"unexplained": "request_not_found"}


def until(stream: Any, kind: str) -> list[Any]:
    """The changes of a watch, to the first one of a kind."""
    seen = [next_line(stream)]
    while seen[-1]["kind"] != kind:
        seen.append(next_line(stream))
    return seen


def test_an_operator_finds_out_why_a_reader_hangs(tmp_path: Path) -> None:
    """A monitor for eu is missing: that is what every view says, until somebody closes by hand."""
    # semantics: Q1, U1
    with dev(tmp_path / "cluster") as (eu, us, ap):
        batch = tmp_path / "branches.jsonl"
        specs = [
            {"service": "post", "regions": ["eu", "us"], "branch_id": "p1", "tag": "write"},
            {"service": "mail", "global": True, "branch_id": "m1", "parent_branch_id": "p1"},
        ]
        batch.write_text("\n".join(json.dumps(spec) for spec in specs))
        rendezvous(eu, "branch", "register", "--request", "r1", "--file", str(batch))
        follow = ("watch", "--endpoints", us, "--service", "post", "--region", "us", "-o", "jsonl")
        wait = ("request", "wait", "r1", "--endpoints", ap, "--service", "post", "--region", "eu")
        with program(*follow) as monitor, program(*wait, "--explain", "-o", "jsonl") as reader:
            assert monitor.stdout is not None
            assert [next_line(monitor.stdout)["kind"] for _ in range(2)] == ["open", "synced"]
            blocked = blocked_of(reader)
            verdicts = {b["branch_id"]: b["verdict"] for b in blocked["request"]["branches"]}
            assert verdicts == {"p1": "holds", "m1": "other_service"}
            (waiter,) = blocked["request"]["waiters"]
            assert (waiter["node"], waiter["held_by"], waiter["leased"]) == ("n3", ["p1"], False)

            # The node in eu knows neither of the wait at ap nor of the subscription at us.
            alone = rendezvous(eu, "request", "show", "r1")
            assert (alone["waiters"], len(alone["nodes"])) == ([], 1)
            assert [p["subscribers"] for p in alone["branches"][0]["regions"]] == [0, 0]
            shown = rendezvous(eu, "request", "show", "r1", "--all-nodes")
            assert [w["node"] for w in shown["waiters"]] == ["n3"]
            assert [p["subscribers"] for p in shown["branches"][0]["regions"]] == [0, 1]
            assert all(node["problem"] is None for node in shown["nodes"])
            tree = ("--endpoints", eu, "request", "show", "r1", "--all-nodes", "-o", "table")
            with program(*tree) as process:
                text = process.communicate(timeout=60)[0]
            assert "eu  OPEN" in text
            assert text.count("NOBODY SUBSCRIBES: no monitor will close it") == 2
            assert all(len(line) <= 80 for line in text.splitlines())

            view = ("watch", "--endpoints", us, "--request", "r1", "--until-settled", "-o", "json")
            with program(*view) as watcher:
                assert next_line(watcher.stdout)["kind"] == "described"
                rendezvous(us, "branch", "close", "p1", "--region", "eu")
                closed = until(watcher.stdout, "closed")[-1]
                assert (closed["branch_id"], closed["region"]) == ("p1", "eu")
                rendezvous(us, "branch", "close", "p1", "--region", "us")
                rendezvous(us, "branch", "close", "m1", "--global")
                until(watcher.stdout, "settled")
                assert watcher.wait(60) == 0

            said = [json.loads(line) for line in reader.stderr or ()]
            ended = said.pop()["ended"]
            assert ended["prevented_inconsistency"] is True
            changed = [line["change"] for line in said]
            assert ("closed", "p1", "eu") in [
                (change["kind"], change["branch_id"], change["region"]) for change in changed
            ]
            assert reader.stdout is not None
            assert json.loads(reader.stdout.read())["outcome"] == "blocked"
            assert reader.wait(60) == 0


def test_waits_that_mask_each_other_are_seen_from_every_node(tmp_path: Path) -> None:
    # semantics: Q1, S5, R7
    with dev(tmp_path / "cluster") as (eu, us, ap):
        for zone in ("a", "b"):
            place = ("--service", "post", "--region", "eu", "--zone", zone, "--branch", zone)
            rendezvous(eu, "branch", "register", "--request", "r1", *place)
        wait = ("request", "wait", "r1", "--explain", "-o", "jsonl", "--endpoints")
        with program(*wait, us, "--zone", "b") as greater:
            held = blocked_of(greater)["request"]
            assert {b["branch_id"]: b["verdict"] for b in held["branches"]} == {
                "a": "holds",
                "b": "own_zone",
            }
            # From everywhere: a lease tells of it.
            with program("watch", "--request", "r1", "-o", "jsonl", "--endpoints", ap) as watcher:
                first = next_line(watcher.stdout)["request"]
                if not first["waiters"]:
                    until(watcher.stdout, "wait_began")
                waiters = rendezvous(ap, "request", "show", "r1")["waiters"]
                assert [(w["node"], w["leased"], w["blocked_for"]) for w in waiters] == [
                    ("n2", True, None)
                ]
                # So the wait of the lesser zone is not blocked at all.
                result = rendezvous(ap, "request", "wait", "r1", "--zone", "a")
                assert result["outcome"] == "immediate"
                rendezvous(ap, "branch", "close", "a", "--region", "eu")
                until(watcher.stdout, "wait_ended")
            assert greater.wait(60) == 0
