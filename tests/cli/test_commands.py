from __future__ import annotations

import json
from typing import Any

import pytest
from fake_cluster import MOMENT, FakeCluster, Invoke, status

from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.client import results
from rendezvous_raft.errors import (
    DeadlineExceeded,
    Disconnected,
    InvalidArgument,
    NoLeader,
    RendezvousError,
    RequestExpired,
)
from rendezvous_raft.types import Consistency, Status, WaitOutcome


def test_register_asks_with_what_was_given(invoke: Invoke, cluster: FakeCluster) -> None:
    outcome = invoke(
        "branch register --service post-storage --region eu --region us --request r1"
        " --branch b1 --tag write --zone z --locator bucket/key --timeout 1500ms"
    )
    assert outcome.exit_code == ExitCode.OK, outcome.output
    call = cluster.called("register_branch")
    assert call["args"] == ("post-storage",)
    assert call["regions"] == ("eu", "us")
    assert (call["request_id"], call["branch_id"], call["tag"]) == ("r1", "b1", "write")
    assert call["locator"] == b"bucket/key"
    assert call["monitored"] is True
    assert call["timeout"] == 1.5
    assert outcome.output.splitlines() == [
        "request\tbranch\trevision\texisted",
        "r1\tb1\t41\tno",
    ]


def test_register_in_json(invoke: Invoke) -> None:
    outcome = invoke("branch register --service s --region eu -o json")
    assert json.loads(outcome.stdout) == {
        "request_id": "r1",
        "branch_id": "b1",
        "already_existed": False,
        "revision": 41,
    }


@pytest.mark.parametrize("place", ["", "--global --region eu"])
def test_a_branch_is_global_only_on_purpose(
    invoke: Invoke, cluster: FakeCluster, place: str
) -> None:
    outcome = invoke(f"branch register --service s {place}")
    assert outcome.exit_code == ExitCode.USAGE
    assert cluster.calls == []


@pytest.mark.parametrize(
    ("place", "region", "all_regions"),
    [("--region us", "us", False), ("--all-regions", "", True), ("--global", "", False)],
)
def test_close(
    invoke: Invoke, cluster: FakeCluster, place: str, region: str, all_regions: bool
) -> None:
    outcome = invoke(f"branch close b1 {place} -o json")
    assert outcome.exit_code == ExitCode.OK
    call = cluster.called("close_branch")
    assert (call["args"], call["region"], call["all_regions"]) == (("b1",), region, all_regions)
    assert json.loads(outcome.stdout)["closed"] is True


@pytest.mark.parametrize("place", ["", "--region us --all-regions", "--global --all-regions"])
def test_close_needs_one_place(invoke: Invoke, place: str) -> None:
    assert invoke(f"branch close b1 {place}").exit_code == ExitCode.USAGE


def test_show_lists_branches_and_waiters(invoke: Invoke) -> None:
    outcome = invoke("request", "show", "r1")
    assert outcome.exit_code == ExitCode.OK
    assert "post-storage\tb1\topen\tus\teu\twrite" in outcome.stdout
    assert "n2\tpost-storage\tus\t-\t-\t412 ms" in outcome.stdout


def test_show_in_json_has_the_names_of_the_protos(invoke: Invoke) -> None:
    shown = json.loads(invoke("request", "show", "r1", "-o", "json").stdout)
    assert shown["branches"][0]["regions"][1] == {
        "region": "us",
        "status": "open",
        "closed_at": None,
        "subscribers": 0,
    }
    assert shown["nodes"] == [{"name": "n2", "region": "us", "grpc_address": "", "problem": None}]
    assert shown["branches"][0]["locator"] == "base64:/wA="
    assert shown["registered_at"] == MOMENT.isoformat()
    assert shown["waiters"][0]["scope"]["services"] == ["post-storage"]


def test_list_goes_through_the_pages(invoke: Invoke, cluster: FakeCluster) -> None:
    (page,) = cluster.answers["list_requests"]
    cluster.answers["list_requests"] = [
        results.RequestPage(page.requests, "next", 40),
        results.RequestPage(page.requests, "", 40),
    ]
    outcome = invoke("request list --status open -o jsonl")
    assert [json.loads(line)["request_id"] for line in outcome.stdout.splitlines()] == ["r1", "r1"]
    first, second = (call[3] for call in cluster.calls)
    assert (first["page_token"], second["page_token"]) == ("", "next")
    assert first["status"] is Status.OPEN
    assert second["page_size"] == 99


def test_list_says_when_there_are_more(invoke: Invoke, cluster: FakeCluster) -> None:
    (page,) = cluster.answers["list_requests"]
    cluster.answers["list_requests"] = [results.RequestPage(page.requests, "next", 40)]
    outcome = invoke("request list --limit 1 -o json")
    assert json.loads(outcome.stdout)["complete"] is False
    assert "more" in outcome.stderr


def test_wait_says_what_it_prevented(invoke: Invoke, cluster: FakeCluster) -> None:
    outcome = invoke("request wait r1 --service a --service b --region us --timeout 1m30s -o json")
    assert outcome.exit_code == ExitCode.OK
    assert json.loads(outcome.stdout)["outcome"] == "blocked"
    call = cluster.called("wait_request")
    assert call["args"] == ("r1",)
    assert (call["services"], call["region"], call["timeout"]) == (("a", "b"), "us", 90)
    assert call["zone"] is None  # not given is not the root zone


def test_wait_that_times_out_shows_why_and_exits_5(invoke: Invoke, cluster: FakeCluster) -> None:
    branch = results.OpenBranch("b1", "post-storage", "", "", ("us",), 1.9, True)
    cluster.answers["wait_request"] = results.WaitResult(
        WaitOutcome.TIMED_OUT, False, True, 5.0, 43, (branch,), True
    )
    outcome = invoke("request wait r1 --timeout 5s")
    assert outcome.exit_code == ExitCode.TIMED_OUT
    assert "timed_out" in outcome.stdout
    assert "post-storage\tb1\t-\tus\t1.9 s" in outcome.stdout


@pytest.mark.parametrize("timeout", ["5", "5 parsecs", "", "s", "-1s", "8d", "999h", "1s2"])
def test_durations_have_units(invoke: Invoke, timeout: str) -> None:
    outcome = invoke("request", "wait", "r1", "--timeout", timeout)
    assert outcome.exit_code == ExitCode.USAGE


def test_status_asks_members_that_were_not_named(invoke: Invoke, cluster: FakeCluster) -> None:
    outcome = invoke("--endpoints 127.0.0.1:7610 cluster status -o json")
    assert outcome.exit_code == ExitCode.OK
    shown = json.loads(outcome.stdout)
    assert shown["leader"] == "n1"
    assert [member["name"] for member in shown["members"]] == ["n1", "n2", "n3"]
    asked = [call[0] for call in cluster.calls]
    assert sorted(asked) == ["127.0.0.1:7600", "127.0.0.1:7610", "127.0.0.1:7620"]


def test_status_with_a_member_down_shows_it(invoke: Invoke, cluster: FakeCluster) -> None:
    del cluster.statuses["127.0.0.1:7620"]
    outcome = invoke("cluster", "status")
    assert outcome.exit_code == ExitCode.OK
    (row,) = [line for line in outcome.stdout.splitlines() if line.startswith("n3")]
    assert "ap\t127.0.0.1:7620" in row
    assert "not reachable: connection refused" in row


def test_status_of_nobody_exits_3(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.statuses.clear()
    outcome = invoke("cluster", "status")
    assert outcome.exit_code == ExitCode.UNREACHABLE
    assert "no node answers at 127.0.0.1:7600" in outcome.stderr


def test_health_of_a_healthy_cluster(invoke: Invoke) -> None:
    outcome = invoke("check", "health", "-o", "json")
    assert outcome.exit_code == ExitCode.OK
    assert json.loads(outcome.stdout)["healthy"] is True


@pytest.mark.parametrize(
    ("sick", "problem"),
    [
        (NoLeader("refused"), "not reachable: refused"),
        (status("n2", leader=""), "knows no leader"),
        (status("n2", commit_index=20_051), "20001 committed entries behind"),
    ],
)
def test_one_unhealthy_member_exits_1(
    invoke: Invoke, cluster: FakeCluster, sick: Any, problem: str
) -> None:
    cluster.statuses["127.0.0.1:7610"] = sick
    outcome = invoke("check", "health", "-o", "json")
    assert outcome.exit_code == ExitCode.FAILED
    shown = json.loads(outcome.stdout)
    assert shown["healthy"] is False
    assert [entry["problem"] for entry in shown["members"]] == [None, problem, None]


def test_local_health_asks_one_node(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.statuses["127.0.0.1:7610"] = NoLeader("refused")
    assert invoke("check", "health", "--local").exit_code == ExitCode.OK
    assert len(cluster.calls) == 1


def test_health_of_nobody_exits_3(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.statuses.clear()
    assert invoke("check", "health").exit_code == ExitCode.UNREACHABLE


def test_equal_digests(invoke: Invoke, cluster: FakeCluster) -> None:
    outcome = invoke("cluster", "digest", "-o", "json")
    assert outcome.exit_code == ExitCode.OK
    shown = json.loads(outcome.stdout)
    assert (shown["diverged"], shown["all_compared"]) == (False, True)
    asked = [call[3]["min_revision"] for call in cluster.calls if call[1] == "digest"]
    assert asked == [40, 40, 40]


def test_different_digests_at_one_revision_exit_1(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.digests["127.0.0.1:7610"] = results.DigestResult(40, "cd" * 32)
    outcome = invoke("cluster", "digest", "-o", "json")
    assert outcome.exit_code == ExitCode.FAILED
    assert json.loads(outcome.stdout)["diverged"] is True


def test_digests_are_asked_again_while_writes_go_on(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.digests["127.0.0.1:7610"] = [
        results.DigestResult(41, "cd" * 32),
        results.DigestResult(40, "ab" * 32),
    ]
    outcome = invoke("cluster", "digest", "-o", "json")
    assert outcome.exit_code == ExitCode.OK
    assert json.loads(outcome.stdout)["all_compared"] is True


def test_snapshot_is_of_the_first_endpoint(invoke: Invoke, cluster: FakeCluster) -> None:
    outcome = invoke("cluster snapshot --endpoints 127.0.0.1:7610,127.0.0.1:7600 -o json")
    assert json.loads(outcome.stdout)["size_bytes"] == 1234
    assert cluster.called("take_snapshot")["address"] == "127.0.0.1:7610"


def test_transfer_asks_the_leader(invoke: Invoke, cluster: FakeCluster) -> None:
    outcome = invoke("cluster transfer-leader n2 --endpoints 127.0.0.1:7620 -o json")
    assert json.loads(outcome.stdout) == {"target": "n2"}
    call = cluster.called("transfer_leadership")
    assert (call["address"], call["args"]) == ("127.0.0.1:7600", ("n2",))


def test_transfer_to_the_leader_does_nothing(invoke: Invoke, cluster: FakeCluster) -> None:
    assert invoke("cluster", "transfer-leader", "n1").exit_code == ExitCode.OK
    assert all(call[1] != "transfer_leadership" for call in cluster.calls)


def test_transfer_without_a_leader_exits_3(invoke: Invoke, cluster: FakeCluster) -> None:
    for address, known in list(cluster.statuses.items()):
        cluster.statuses[address] = status(known.name, leader="")
    assert invoke("cluster", "transfer-leader").exit_code == ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    ("error", "reading", "writing"),
    [
        (NoLeader("m"), ExitCode.UNREACHABLE, ExitCode.UNREACHABLE),
        (Disconnected("m"), ExitCode.UNREACHABLE, ExitCode.OUTCOME_UNKNOWN),
        (
            DeadlineExceeded("m", definite=False),
            ExitCode.TIMED_OUT,
            ExitCode.OUTCOME_UNKNOWN,
        ),
        (DeadlineExceeded("m", definite=True), ExitCode.TIMED_OUT, ExitCode.TIMED_OUT),
        (InvalidArgument("m"), ExitCode.USAGE, ExitCode.USAGE),
        (RequestExpired("m"), ExitCode.FAILED, ExitCode.FAILED),
    ],
)
def test_exit_codes(
    invoke: Invoke,
    cluster: FakeCluster,
    error: RendezvousError,
    reading: ExitCode,
    writing: ExitCode,
) -> None:
    cluster.answers["describe_request"] = cluster.answers["register_branch"] = error
    assert invoke("request", "show", "r1").exit_code == reading
    assert invoke("branch register --service s --region eu").exit_code == writing


def test_an_error_says_what_happened_its_effect_and_what_to_do(
    invoke: Invoke, cluster: FakeCluster
) -> None:
    cluster.answers["register_branch"] = Disconnected("the connection broke")
    outcome = invoke("branch register --service s --region eu")
    assert outcome.stdout == ""
    assert outcome.stderr.splitlines() == [
        "error: the connection broke",
        "effect: it may have taken effect",
        "next: run it again with the same ids: it then has one effect; or look with `request show`",
    ]


def test_an_error_in_json_goes_to_stderr(invoke: Invoke, unknown_request: FakeCluster) -> None:
    outcome = invoke("request", "show", "r9", "-o", "json")
    assert outcome.exit_code == ExitCode.FAILED
    assert outcome.stdout == ""
    error = json.loads(outcome.stderr)["error"]
    assert error["code"] == "request_not_found"
    assert error["definite"] is True
    assert error["effect"].startswith("nothing was changed")


@pytest.mark.parametrize(
    ("command", "method"),
    [
        ("request show r1", "describe_request"),
        ("request list", "list_requests"),
        ("request wait r1", "wait_request"),
    ],
)
@pytest.mark.parametrize(
    ("options", "consistency", "revision"),
    [
        ("", None, None),
        ("--consistency local", Consistency.LOCAL, None),
        ("--consistency session --min-revision 41", Consistency.SESSION, 41),
        ("--min-revision 0", None, 0),
    ],
)
def test_how_fresh_an_answer_has_to_be(
    invoke: Invoke,
    cluster: FakeCluster,
    command: str,
    method: str,
    options: str,
    consistency: Consistency | None,
    revision: int | None,
) -> None:
    # semantics: G3.1
    assert invoke(f"{command} {options}").exit_code == ExitCode.OK
    call = cluster.called(method)
    assert (call["consistency"], call["min_revision"]) == (consistency, revision)


def test_a_consistency_that_is_none_is_refused(invoke: Invoke, cluster: FakeCluster) -> None:
    assert invoke("request show r1 --consistency stale").exit_code == ExitCode.USAGE
    assert cluster.calls == []
