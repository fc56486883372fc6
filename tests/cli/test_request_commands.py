"""Checks, dependencies, pages and batches on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, Invoke

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.client import BranchSpec, CloseSpec, results
from rendezvous_raft.errors import BranchNotFound
from rendezvous_raft.types import Status

SCOPE = "--service a --service b --region us --tag t --zone '' --wait-dependencies"


def test_every_part_of_a_scope_has_an_option(invoke: Invoke, cluster: FakeCluster) -> None:
    # semantics: S1, S1.1, S2, S3, S4, S5.1
    cluster.answers["check_request"] = results.CheckResult(Status.CLOSED, {}, {}, 4)
    assert invoke(f"request wait r1 {SCOPE} --waiter-service w").exit_code == ExitCode.OK
    assert invoke(f"request check r1 {SCOPE}").exit_code == ExitCode.OK
    for method in ("wait_request", "check_request"):
        call = cluster.called(method)
        assert (call["services"], call["region"], call["tag"]) == (("a", "b"), "us", "t")
        assert (call["zone"], call["wait_dependencies"]) == ("", True)
    assert cluster.called("wait_request")["waiter_service"] == "w"
    assert invoke("request check r1 --waiter-service w").exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.CLOSED, ExitCode.OK),
        (Status.OPEN, ExitCode.FAILED),
        (Status.UNKNOWN, ExitCode.FAILED),
    ],
)
def test_a_check_says_by_its_status_whether_all_is_closed(
    invoke: Invoke, cluster: FakeCluster, status: Status, code: ExitCode
) -> None:
    # semantics: C1, C1.1
    cluster.answers["check_request"] = results.CheckResult(
        status, {"t": Status.OPEN}, {"us": Status.OPEN, "eu": Status.CLOSED}, 4
    )
    outcome = invoke("request check r1 --detailed")
    assert outcome.exit_code == code
    assert outcome.stdout.splitlines() == [
        "request\tstatus\trevision",
        f"r1\t{status.value}\t4",
        "tag\tstatus",
        "t\topen",
        "region\tstatus",
        "eu\tclosed",
        "us\topen",
    ]
    assert cluster.called("check_request")["detailed"] is True
    in_json = json.loads(invoke("request check r1 -o json").stdout)
    assert (in_json["status"], in_json["regions"]["eu"]) == (status.value, "closed")


def test_regions_and_dependencies(invoke: Invoke, cluster: FakeCluster) -> None:
    # semantics: C2, D1
    cluster.answers["check_request_by_regions"] = results.RegionStatuses({"eu": Status.OPEN}, 4)
    cluster.answers["fetch_dependencies"] = results.Dependencies(("a",), ("b",), 4)
    outcome = invoke("request check-regions r1 --service a --min-revision 3")
    assert outcome.stdout.splitlines() == ["region\tstatus", "eu\topen"]
    call = cluster.called("check_request_by_regions")
    assert (call["args"], call["services"], call["min_revision"]) == (("r1",), ("a",), 3)
    outcome = invoke("request dependencies r1 --service web --zone z")
    assert outcome.stdout.splitlines() == ["service\tdependence", "a\tdirect", "b\tindirect"]
    call = cluster.called("fetch_dependencies")
    assert (call["args"], call["service"], call["zone"]) == (("r1",), "web", "z")


def test_a_list_goes_on_where_another_ended(invoke: Invoke, cluster: FakeCluster) -> None:
    # semantics: Q1.1
    (page,) = cluster.answers["list_requests"]
    cluster.answers["list_requests"] = [results.RequestPage(page.requests, "9", 40)]
    outcome = invoke("request list --limit 1 --page-token 4 --service audit -o json")
    assert '"next_page_token": "9"' in outcome.stdout
    assert "--page-token 9 goes on" in outcome.stderr
    call = cluster.called("list_requests")
    assert (call["page_token"], call["service"]) == ("4", "audit")


@pytest.mark.parametrize(("given", "created", "existed"), [("r1", True, "no"), ("", False, "yes")])
def test_a_request_is_registered(
    invoke: Invoke, cluster: FakeCluster, given: str, created: bool, existed: str
) -> None:
    # semantics: W1
    cluster.answers["register_request"] = results.RegisterRequestResult("r1", created, 7)
    outcome = invoke("request", "register", *([given] if given else []))
    assert outcome.stdout.splitlines()[1] == f"r1\t7\t{existed}"
    assert cluster.called("register_request")["args"] == (given or None,)


LINES = """
{"service": "a", "regions": ["eu", "us"], "branch_id": "b1", "tag": "t", "locator": "k"}

{"service": "b", "global": true, "parent_branch_id": "b1", "zone": "z", "monitored": false}
"""
BRANCHES = [
    BranchSpec("a", ("eu", "us"), "b1", "t", None, "", True, b"k"),
    BranchSpec("b", (), None, "", "z", "b1", False, b""),
]


def batch(text: str, tmp_path: Path) -> str:
    (tmp_path / "branches").write_text(text)
    return f"branch register --file {tmp_path / 'branches'}"


@pytest.mark.parametrize("form", ["lines", "list"])
def test_branches_of_a_file_are_registered_together(
    invoke: Invoke, cluster: FakeCluster, tmp_path: Path, form: str
) -> None:
    # semantics: W3, W3.1
    cluster.answers["register_branches"] = results.RegisterBranchesResult(
        "r1", ("b1", "b-2"), False, 7
    )
    text = LINES if form == "lines" else json.dumps([json.loads(x) for x in LINES.split("\n") if x])
    outcome = invoke(f"{batch(text, tmp_path)} --request r1 --await-registration 2s")
    assert outcome.exit_code == ExitCode.OK, outcome.output
    assert outcome.stdout.splitlines()[1:] == ["r1\tb1\t7\tno", "r1\tb-2\t7\tno"]
    call = cluster.called("register_branches")
    assert call["args"] == (BRANCHES,)
    assert (call["request_id"], call["await_registration"]) == ("r1", 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1 to 1000 branches, not 0"),
        ("[]", "1 to 1000 branches, not 0"),
        ('{"service": "a", "regions": ["eu"]}\nnothing', "line 2: no JSON"),
        ('[{"service": "a", "regions": ["eu"]}, 7]', "branches[1]: an object"),
        ('{"service": "a"}', 'branches[0]: give "regions", or "global": true'),
        ('{"service": "a", "regions": ["eu"], "global": true}', 'give "regions", or "global"'),
        ('{"service": 7, "regions": ["eu"]}', "branches[0].service: a string"),
        ('{"service": "a", "regions": "eu"}', "branches[0].regions: a list of strings"),
        ('{"service": "a", "regions": [7]}', "branches[0].regions: a list of strings"),
        ('{"service": "a", "regions": ["eu"], "monitored": 1}', "branches[0].monitored: true or"),
        ('{"service": "a", "regoins": ["eu"]}', "branches[0].regoins: no such field"),
    ],
)
def test_a_file_that_holds_no_branches_is_refused_by_place(
    invoke: Invoke, cluster: FakeCluster, tmp_path: Path, text: str, problem: str
) -> None:
    # semantics: G1.2
    outcome = invoke(batch(text, tmp_path))
    assert outcome.exit_code == ExitCode.USAGE
    assert problem in outcome.stderr
    assert cluster.calls == []


@pytest.mark.parametrize("more", ["--service a", "--region eu", "--global", "--unmonitored"])
def test_a_file_says_all_of_its_branches(invoke: Invoke, tmp_path: Path, more: str) -> None:
    outcome = invoke(f"{batch(LINES, tmp_path)} {more}")
    assert outcome.exit_code == ExitCode.USAGE
    assert "--file says all of the branches" in outcome.stderr


def test_one_branch_needs_a_service(invoke: Invoke, cluster: FakeCluster) -> None:
    assert invoke("branch register --region eu").exit_code == ExitCode.USAGE
    assert cluster.calls == []


def test_several_branches_are_closed_each_with_an_answer(
    invoke: Invoke, cluster: FakeCluster
) -> None:
    # semantics: W5, W4.6
    answers = (
        results.CloseResult(True, False, None),
        results.CloseResult(False, True, None),
        results.CloseResult(False, False, BranchNotFound("no branch b3")),
    )
    cluster.answers["close_branches"] = results.CloseBranchesResult(answers, 9)
    line = "branch close b1 b2 b3 --all-regions --await-registration 1s"
    outcome = invoke(f"{line} -o json")
    assert outcome.exit_code == ExitCode.FAILED
    call: dict[str, Any] = cluster.called("close_branches")
    assert call["args"] == ([CloseSpec(name, "", True) for name in ("b1", "b2", "b3")],)
    assert call["await_registration"] == 1
    shown = json.loads(outcome.stdout)["results"]
    assert [entry["closed"] for entry in shown] == [True, False, False]
    assert shown[2]["failure"] == {"code": "branch_not_found", "message": "no branch b3"}
    rows = invoke(line).stdout.splitlines()[1:]
    assert [row.split("\t")[:2] for row in rows] == [
        ["b1", "now"],
        ["b2", "before"],
        ["b3", "no branch b3"],
    ]
    cluster.answers["close_branches"] = results.CloseBranchesResult(answers[:2], 9)
    assert invoke("branch close b1 b2 --region us").exit_code == ExitCode.OK
