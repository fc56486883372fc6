"""Closing what is open of a request by hand."""

from __future__ import annotations

import dataclasses
import json

from fake_cluster import FakeCluster, Invoke, description

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.client import CloseSpec, results
from rendezvous_raft.errors import BranchNotFound, OutcomeUnknown
from rendezvous_raft.types import BranchKind, Consistency, Status

(LISTED,) = description().branches
CLOSED = results.CloseResult(closed=True, already_closed=False, failure=None)


def _branch(name: str, service: str = "post-storage", *, region: str = "us") -> object:
    if not region:
        return dataclasses.replace(
            LISTED, branch_id=name, service=service, kind=BranchKind.GLOBAL, regions=()
        )
    part = results.RegionStatus(region, Status.OPEN, None)
    return dataclasses.replace(LISTED, branch_id=name, service=service, regions=(part,))


def _listed(*branches: object, more: int = 0) -> results.RequestDescription:
    return description(branches=branches, branches_open=len(branches) + more)


def test_what_is_open_is_closed_everywhere(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["describe_request"] = _listed(_branch("b1"), _branch("g1", region=""))
    cluster.answers["close_branches"] = results.CloseBranchesResult((CLOSED, CLOSED), 43)
    outcome = invoke("request close r1 --all-regions --yes")
    assert outcome.exit_code == ExitCode.OK, outcome.output
    assert outcome.stdout.splitlines() == ["request\tclosed\tfailed\trevision", "r1\t2\t0\t43"]
    looked = cluster.called("describe_request")
    assert (looked["open_only"], looked["consistency"]) == (True, Consistency.LINEARIZABLE)
    (closes,) = cluster.called("close_branches")["args"]
    assert closes == [CloseSpec("b1", "", True), CloseSpec("g1", "", True)]


def test_only_what_was_chosen_is_closed(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["describe_request"] = _listed(
        _branch("b1"), _branch("b2", "audit"), _branch("b3", region="eu"), _branch("g1", region="")
    )
    cluster.answers["close_branches"] = results.CloseBranchesResult((CLOSED,), 43)
    outcome = invoke("request close r1 --service post-storage --region us --yes -o json")
    (closes,) = cluster.called("close_branches")["args"]
    assert closes == [CloseSpec("b1", "us", False)]
    assert json.loads(outcome.stdout) == {
        "request_id": "r1",
        "closed": ["b1"],
        "failures": [],
        "revision": 43,
    }


def test_it_asks_before(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["describe_request"] = _listed(_branch("b1"), _branch("b2", region="eu"))
    outcome = invoke("request close r1 --region us")  # nobody answers
    assert outcome.exit_code == ExitCode.FAILED
    assert "Close 1 of the 2 open branches of r1 in us?" in outcome.stderr
    assert not cluster.count("close_branches")


def test_it_asks_for_what_it_has_not_seen_too(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["describe_request"] = _listed(_branch("b1"), more=7)
    outcome = invoke("request close r1 --all-regions")
    assert "Close at least 1 of the 8 open branches of r1 everywhere?" in outcome.stderr


def test_nothing_open_is_no_failure_and_no_question(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["describe_request"] = _listed()
    outcome = invoke("request close r1 --all-regions")
    assert outcome.exit_code == ExitCode.OK
    assert outcome.stdout.splitlines()[1] == "r1\t0\t0\t40"
    assert not cluster.count("close_branches")


def test_more_than_one_list(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["describe_request"] = [
        _listed(_branch("b1"), more=1),
        _listed(_branch("b2")),
    ]
    cluster.answers["close_branches"] = results.CloseBranchesResult((CLOSED,), 43)
    outcome = invoke("request close r1 --all-regions --yes")
    assert outcome.exit_code == ExitCode.OK
    assert outcome.stdout.splitlines()[1] == "r1\t2\t0\t43"
    assert "1 closed" in outcome.stderr


def test_what_no_list_shows_is_told(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["describe_request"] = _listed(_branch("b1", "audit"), more=7)
    outcome = invoke("request close r1 --service post-storage --all-regions --yes")
    assert outcome.exit_code == ExitCode.FAILED
    assert "7 more branches are open that a node does not list" in outcome.stderr


def test_a_failure_of_one_is_told_and_ends_it(invoke: Invoke, cluster: FakeCluster) -> None:
    gone = results.CloseResult(
        closed=False, already_closed=False, failure=BranchNotFound("no branch has the id b2")
    )
    cluster.answers["describe_request"] = _listed(_branch("b1"), _branch("b2"), more=5)
    cluster.answers["close_branches"] = results.CloseBranchesResult((CLOSED, gone), 43)
    outcome = invoke("request close r1 --all-regions --yes")
    assert outcome.exit_code == ExitCode.FAILED
    assert "no branch has the id b2" in outcome.stdout
    assert cluster.count("close_branches") == 1


def test_an_unknown_outcome_is_said(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["describe_request"] = _listed(_branch("b1"))
    cluster.answers["close_branches"] = OutcomeUnknown("the leader went away")
    outcome = invoke("request close r1 --all-regions --yes")
    assert outcome.exit_code == ExitCode.OUTCOME_UNKNOWN
    assert "it may have taken effect" in outcome.stderr


def test_where_has_to_be_said(invoke: Invoke) -> None:
    for line in ("request close r1", "request close r1 --region us --all-regions"):
        assert invoke(line).exit_code == ExitCode.USAGE
