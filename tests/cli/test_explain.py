"""`request wait --explain`: what is said while a wait is blocked, and how it ended."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest
from fake_cluster import FOREVER, MOMENT, BlockedUntil, FakeCluster, Invoke, description

from rendezvous_raft.cli import explaining
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.client import results
from rendezvous_raft.errors import Disconnected, NoLeader, RequestNotFound
from rendezvous_raft.types import Consistency, Status, Verdict, WaitOutcome


def branch(branch_id: str, verdict: Verdict, **changes: Any) -> results.BranchDescription:
    (made,) = description().branches
    return dataclasses.replace(made, branch_id=branch_id, verdict=verdict, **changes)


def told(*branches: results.BranchDescription, **changes: Any) -> results.RequestDescription:
    facts = {"branches": branches, "branches_open": len(branches), "branches_total": 9}
    return description(**{**facts, **changes})


HELD = branch("b1", Verdict.HOLDS)
CLOSED = dataclasses.replace(
    HELD,
    verdict=Verdict.OTHER_REGION,
    regions=(
        results.RegionStatus("eu", Status.OPEN, None),
        results.RegionStatus("us", Status.CLOSED, MOMENT + dt.timedelta(seconds=5)),
    ),
)
LAST_LOOK = "describe_request"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "EXPLAIN_AFTER_S", 0)


@pytest.fixture
def blocked(cluster: FakeCluster) -> FakeCluster:
    """A wait that is released after it was explained, by a close that the last look shows."""
    cluster.answers["wait_request"] = BlockedUntil("watch_request", cluster.answers["wait_request"])
    cluster.answers["watch_request"] = [told(HELD), FOREVER]
    cluster.answers["describe_request"] = told(CLOSED)
    return cluster


def test_a_blocked_wait_is_explained_and_so_is_its_end(
    invoke: Invoke, blocked: FakeCluster
) -> None:
    # semantics: Q1, R2
    outcome = invoke("request wait r1 --service post-storage --region us --explain")
    assert outcome.exit_code == ExitCode.OK, outcome.output
    said = outcome.stderr.splitlines()
    assert said[0] == "request r1"
    assert said[1].startswith("BLOCKED ")
    assert said[1].endswith(" at n2 (us), revision 40")
    assert said[2] == "waits for service post-storage · region us"
    held = said.index("held by")
    assert said[held + 1 : held + 4] == [
        "   post-storage  b1",
        "      tag write · locator '\\\\xff\\x00'",
        "      us  OPEN for 4.0 s   NO SUBSCRIPTION at n2",
    ]
    assert "   at n2  BLOCKED for 412 ms   service post-storage · region us" in said
    after = [line.partition("  ")[2] for line in said if line.startswith("+")]
    assert after == [
        "closed  post-storage  b1  in us",
        "now  post-storage  b1  not open in this region (S3)",
        "released after 412 ms: an inconsistency was prevented",
    ]
    # The answer itself stays alone on standard output.
    assert outcome.stdout.splitlines()[1].startswith("r1\tblocked\tyes\t412 ms")
    asked = blocked.called("watch_request")
    assert asked["scope"] == results.ScopeDescription(("post-storage",), "us")
    assert (asked["open_only"], asked["consistency"]) == (True, Consistency.LOCAL)


def test_what_is_left_out_is_named_with_its_rule(invoke: Invoke, blocked: FakeCluster) -> None:
    # semantics: S1, S2, S3, S4, S5, R6
    left_out = [verdict for verdict in Verdict if verdict is not Verdict.HOLDS]
    branches = [branch(f"b-{v.value}", v, zone="z") for v in left_out]
    blocked.answers["watch_request"] = [told(*branches, HELD), FOREVER]
    said = invoke("request wait r1 --region us --zone z --explain").stderr
    for verdict, rule in {
        Verdict.OTHER_SERVICE: "another service (S1), zone z",
        Verdict.OTHER_TAG: "another tag (S2), zone z",
        Verdict.OTHER_REGION: "not open in this region (S3), zone z",
        Verdict.OWN_ZONE: "the waiter's own zone (S4), zone z",
        Verdict.ZONE_WAITS: "its zone is greater and waits itself (S5), zone z",
        Verdict.SERVICE_WAITS: "its service waits for the waiter's (S5), zone z",
        Verdict.RELEASED_EARLY: "its close has come, not committed yet (R6), zone z",
    }.items():
        assert f"   post-storage  b-{verdict.value}\n      {rule}\n" in said
    assert said.index("held by") < said.index("left out, although open")


def test_many_that_are_left_out_are_counted(invoke: Invoke, blocked: FakeCluster) -> None:
    others = [branch(f"o{number}", Verdict.OTHER_TAG) for number in range(25)]
    found = told(*others, HELD, branches_open=30)
    blocked.answers["watch_request"] = [found, FOREVER]
    said = invoke("request wait r1 --explain").stderr
    assert said.count("another tag (S2)") == explaining.LEFT_OUT_MAX == 20
    assert "   and 5 more" in said
    assert "4 more open branches are not listed" in said


def test_branches_that_are_required_and_missing_are_named_until_they_are_there(
    invoke: Invoke, blocked: FakeCluster
) -> None:
    # semantics: R1.1
    blocked.answers["watch_request"] = [told(missing_branches=("late",)), FOREVER]
    outcome = invoke("request wait r1 --require late --explain")
    assert "   late\n      required, and not registered yet: counts as open" in outcome.stderr
    assert "  registered  late\n" in outcome.stderr
    assert blocked.called("watch_request")["required_branches"] == ("late",)


def test_a_wait_for_what_was_never_used_says_so(invoke: Invoke, blocked: FakeCluster) -> None:
    # semantics: R4.1
    blocked.answers["watch_request"] = [told(), FOREVER]
    said = invoke("request wait r1 --service x --await-registration 5s --explain").stderr
    assert "held by no branch that is listed: it waits for something to be registered" in said


def test_a_wait_without_an_explanation_waits_all_the_same(
    invoke: Invoke, blocked: FakeCluster
) -> None:
    blocked.answers["watch_request"] = [Disconnected("gone")]
    outcome = invoke("request wait r1 --explain")
    assert outcome.exit_code == ExitCode.OK
    assert "no more is known: " in outcome.stderr
    assert "released after 412 ms" in outcome.stderr


def test_a_request_that_is_not_there_yet_is_explained_when_it_comes(
    invoke: Invoke, blocked: FakeCluster
) -> None:
    # semantics: G5, R4.1
    blocked.answers["wait_request"] = BlockedUntil("watch_request", RESULT, calls=2)
    blocked.answers["watch_request"] = [[RequestNotFound("no r1")], [told(HELD), FOREVER]]
    said = invoke("request wait r1 --timeout 7s --await-registration 5s --explain").stderr
    assert said.startswith("request r1 is not registered at the node that serves the wait\n")
    assert "held by\n   post-storage  b1\n" in said
    asked = [call[3] for call in blocked.calls if call[1] == "watch_request"]
    assert [call["await_registration"] for call in asked] == [0, 7]


def test_the_last_look_may_fail(invoke: Invoke, blocked: FakeCluster) -> None:
    blocked.answers["describe_request"] = NoLeader("nobody")
    outcome = invoke("request wait r1 --explain")
    assert outcome.exit_code == ExitCode.OK
    assert "released after" in outcome.stderr


def test_descriptions_of_two_nodes_are_not_compared(invoke: Invoke, blocked: FakeCluster) -> None:
    """The client has moved on: another node's waits and subscriptions are no change."""
    blocked.answers["watch_request"] = [told(HELD), told(HELD, node="n3", waiters=()), FOREVER]
    blocked.answers["wait_request"] = BlockedUntil("watch_request", RESULT)
    said = invoke("request wait r1 --explain").stderr
    assert "wait ended" not in said


RESULT = results.WaitResult(WaitOutcome.TIMED_OUT, False, True, 5.0, 43, (), True)


def test_a_wait_that_times_out_says_that_the_reader_is_not_safe(
    invoke: Invoke, blocked: FakeCluster
) -> None:
    # semantics: R2.1
    blocked.answers["wait_request"] = BlockedUntil("watch_request", RESULT)
    outcome = invoke("request wait r1 --explain")
    assert outcome.exit_code == ExitCode.TIMED_OUT
    assert "timed out after 5.0 s: what is read now may be inconsistent" in outcome.stderr


def test_a_wait_that_was_never_blocked_has_nothing_to_explain(
    invoke: Invoke, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining, "EXPLAIN_AFTER_S", 5)
    cluster.answers["wait_request"] = results.WaitResult(
        WaitOutcome.IMMEDIATE, False, False, 0.0, 43, (), True
    )
    said = invoke("request wait r1 --explain").stderr
    assert said.endswith("nothing that is waited for is open\n")
    assert [call[1] for call in cluster.calls] == ["wait_request"]


def test_a_wait_that_fails_has_no_outcome(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["wait_request"] = NoLeader("nobody leads")
    cluster.answers["watch_request"] = [FOREVER]
    outcome = invoke("request wait r1 --explain")
    assert outcome.exit_code == ExitCode.UNREACHABLE
    assert "released" not in outcome.stderr


def test_the_explanation_in_json_is_one_value_a_line(invoke: Invoke, blocked: FakeCluster) -> None:
    outcome = invoke("request wait r1 --region us --explain -o json")
    assert json.loads(outcome.stdout)["outcome"] == "blocked"
    said = [json.loads(line) for line in outcome.stderr.splitlines()]
    assert [next(iter(value)) for value in said] == ["blocked", "change", "change", "ended"]
    first = said[0]["blocked"]
    assert first["request"]["branches"][0]["verdict"] == "holds"
    assert first["nodes"] == [{"name": "n2", "region": "us", "grpc_address": "", "problem": None}]
    change = said[1]["change"]
    assert (change["kind"], change["branch_id"], change["region"]) == ("closed", "b1", "us")
    assert said[2]["change"]["verdict"] == "other_region"
    assert said[3]["ended"]["prevented_inconsistency"] is True


def test_an_explanation_may_ask_all_nodes(invoke: Invoke, blocked: FakeCluster) -> None:
    of_others = [told(HELD, node="n1"), told(HELD, node="n3")]
    blocked.answers["describe_request"] = [*of_others, told(CLOSED)]
    blocked.answers["wait_request"] = BlockedUntil("describe_request", RESULT, calls=2)
    outcome = invoke("request wait r1 --explain --all-nodes -o json")
    first = json.loads(outcome.stderr.splitlines()[0])["blocked"]
    assert [node["name"] for node in first["nodes"]] == ["n1", "n2", "n3"]


def test_all_nodes_are_asked_for_an_explanation_only(invoke: Invoke, cluster: FakeCluster) -> None:
    assert invoke("request wait r1 --all-nodes").exit_code == ExitCode.USAGE
    assert cluster.calls == []
