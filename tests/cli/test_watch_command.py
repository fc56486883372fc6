"""`rendezvous watch`: a service in a region, or a request, as it changes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest
from fake_cluster import FOREVER, MOMENT, FakeCluster, Invoke, description

from rendezvous_raft.cli import watch as watch_command
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.request_changes import ChangeKind, changes
from rendezvous_raft.client import results
from rendezvous_raft.client.results import SubscriptionEvent, SubscriptionEventKind
from rendezvous_raft.errors import (
    DeadlineExceeded,
    NoLeader,
    RequestExpired,
    RequestNotFound,
    SubscriptionOverflow,
)
from rendezvous_raft.types import BranchKind, Status, Verdict

OPEN, CLOSED, SYNCED = SubscriptionEventKind
SERVICE = "watch --service post-storage --region us"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_command, "AGAIN_S", 0)


def event(kind: SubscriptionEventKind, branch_id: str = "b1") -> SubscriptionEvent:
    return SubscriptionEvent(kind, branch_id, "r1", "t", b"", MOMENT, 40, False)


def test_watch_prints_events_as_they_come(invoke: Invoke, cluster: FakeCluster) -> None:
    # semantics: U1, U1.1
    cluster.answers["subscribe"] = [event(OPEN), event(SYNCED, ""), event(CLOSED)]
    outcome = invoke(f"{SERVICE} -o jsonl")
    kinds = [json.loads(line)["kind"] for line in outcome.stdout.splitlines()]
    assert kinds == ["open", "synced", "closed"]
    assert cluster.calls[0][2] == ("post-storage", "us", ())
    outcome = invoke(f"{SERVICE} --until-synced")
    assert [line.split("\t")[0] for line in outcome.stdout.splitlines()] == ["open", "synced"]


def test_people_get_words_in_80_columns(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["subscribe"] = [event(OPEN), event(SYNCED, ""), event(CLOSED)]
    lines = invoke(f"{SERVICE} -o table").stdout.splitlines()
    assert lines == [
        "OPEN  b1  since 03:04:05.000",
        "        request r1 · revision 40 · tag t",
        "---  all that was open at revision 40",
        "closed  b1  since 03:04:05.000",
        "        request r1 · revision 40 · tag t",
    ]


def test_watch_whose_stream_breaks_exits_3(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["subscribe"] = [event(OPEN), NoLeader("gone")]
    outcome = invoke("watch --service s --region us")
    assert outcome.exit_code == ExitCode.UNREACHABLE
    assert outcome.stdout.startswith("open")


@pytest.mark.parametrize(
    "end", [DeadlineExceeded("its hour", definite=True), SubscriptionOverflow("too slow")]
)
def test_a_stream_that_ends_is_taken_up_again_without_a_gap_or_a_repetition(
    invoke: Invoke, cluster: FakeCluster, end: Exception
) -> None:
    # semantics: U3
    first = [event(OPEN, "b1"), event(OPEN, "b2"), event(SYNCED, ""), event(CLOSED, "b9"), end]
    second = [event(OPEN, "b2"), event(OPEN, "b3"), event(SYNCED, "")]
    cluster.answers["subscribe"] = [first, second]
    outcome = invoke(f"{SERVICE} -o jsonl")
    assert outcome.exit_code == ExitCode.OK
    seen = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [(e["kind"], e["branch_id"]) for e in seen] == [
        ("open", "b1"),
        ("open", "b2"),
        ("synced", ""),
        ("closed", "b9"),
        ("open", "b3"),
        ("closed", "b1"),
        ("synced", ""),
    ]
    assert "watching again" in outcome.stderr


def test_a_stream_that_ends_at_once_is_no_view(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["subscribe"] = [DeadlineExceeded("late", definite=True)]
    assert invoke(SERVICE).exit_code == ExitCode.TIMED_OUT


@pytest.mark.parametrize("line", [SERVICE, "watch --request r1"])
def test_watch_ends_after_a_time(invoke: Invoke, cluster: FakeCluster, line: str) -> None:
    cluster.answers["subscribe"] = [event(OPEN), FOREVER]
    cluster.answers["watch_request"] = [description(), FOREVER]
    outcome = invoke(f"{line} --timeout 10ms -o jsonl")
    assert outcome.exit_code == ExitCode.TIMED_OUT
    assert len(outcome.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "watch",
        "watch --service s",
        "watch --region us",
        "watch --tag t",
        "watch --service s --region us --request r1",
        "watch --request r1 --until-synced",
        f"{SERVICE} --until-settled",
        f"{SERVICE} --await-registration 1s",
    ],
)
def test_what_does_not_go_together_is_a_usage_error(
    invoke: Invoke, cluster: FakeCluster, line: str
) -> None:
    assert invoke(line).exit_code == ExitCode.USAGE
    assert cluster.calls == []


# A request


def part(region: str, *, open_: bool, subscribers: int = 0) -> results.RegionStatus:
    closed_at = None if open_ else MOMENT + dt.timedelta(seconds=2)
    return results.RegionStatus(
        region, Status.OPEN if open_ else Status.CLOSED, closed_at, subscribers
    )


def branch(branch_id: str, *parts: results.RegionStatus, **changes: Any) -> Any:
    (made,) = description().branches
    return dataclasses.replace(made, branch_id=branch_id, regions=parts, **changes)


BEFORE = description(branches=(branch("b1", part("eu", open_=True), part("us", open_=True)),))
AFTER = description(
    revision=44,
    branches=(
        branch("b1", part("eu", open_=True, subscribers=1), part("us", open_=False)),
        branch("b2", part("eu", open_=True), part("us", open_=False)),
        branch("b3", part("", open_=True), kind=BranchKind.GLOBAL),
    ),
    waiters=(),
)
SETTLED = dataclasses.replace(AFTER, status=Status.CLOSED)


def test_a_request_is_shown_and_then_every_change(invoke: Invoke, cluster: FakeCluster) -> None:
    # semantics: Q1
    cluster.answers["watch_request"] = [BEFORE, AFTER, SETTLED]
    outcome = invoke("watch --request r1 --until-settled -o table")
    assert outcome.exit_code == ExitCode.OK
    lines = outcome.stdout.splitlines()
    assert lines[0] == "request r1"
    tail = lines[lines.index("--all-nodes asks every node") + 2 :]
    assert tail == [
        "03:04:09.000  now  post-storage  b1  in eu: 1 subscription at n2",
        "03:04:07.000  closed  post-storage  b1  in us",
        "03:04:05.000  OPEN  post-storage  b2  in eu, us",
        "03:04:07.000  closed  post-storage  b2  in us",
        "03:04:05.000  OPEN  post-storage  b3  everywhere",
        "03:04:09.000  wait ended  at n2  service post-storage · region us",
        "03:04:09.000  settled  nothing of the request is open",
    ]


def test_the_changes_of_a_request_in_json(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["watch_request"] = [BEFORE, AFTER, SETTLED]
    lines = invoke("watch --request r1 --until-settled -o json").stdout.splitlines()
    seen = [json.loads(line) for line in lines]
    kinds = [value["kind"] for value in seen]
    assert kinds == [
        *("described", "subscribers", "closed", "registered", "closed", "registered"),
        *("wait_ended", "settled"),
    ]
    assert seen[0]["request"]["request_id"] == "r1"
    assert (seen[1]["subscribers"], seen[1]["region"]) == (1, "eu")
    assert (seen[3]["branch_id"], seen[3]["regions"]) == ("b2", ["eu", "us"])
    assert seen[5]["is_global"] is True
    assert seen[6]["scope"]["region"] == "us"
    assert {value["revision"] for value in seen[1:]} == {44}


def test_the_changes_of_a_request_in_columns(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["watch_request"] = [BEFORE, AFTER, SETTLED]
    lines = invoke("watch --request r1 --until-settled").stdout.splitlines()
    assert lines[0].startswith("request\tstatus")
    assert lines[-7:][2] == "registered\t2030-01-02T03:04:05+00:00\t44\tn2\tpost-storage\tb2\teu,us"
    assert [line.split("\t")[0] for line in lines[-2:]] == ["wait_ended", "settled"]


def test_a_settled_request_ends_the_watch_at_once(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["watch_request"] = [SETTLED, FOREVER]
    assert invoke("watch --request r1 --until-settled").exit_code == ExitCode.OK


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (RequestExpired("gone"), ExitCode.FAILED),
        (RequestNotFound("who"), ExitCode.FAILED),
    ],
)
def test_a_request_that_is_gone_ends_the_watch(
    invoke: Invoke, cluster: FakeCluster, end: Exception, code: ExitCode
) -> None:
    cluster.answers["watch_request"] = [BEFORE, end]
    assert invoke("watch --request r1").exit_code == code


def test_a_broken_stream_of_a_request_is_taken_up_where_it_was(
    invoke: Invoke, cluster: FakeCluster
) -> None:
    """On another node, whose waits and subscriptions are not those of the first."""
    elsewhere = dataclasses.replace(AFTER, node="n3")
    cluster.answers["watch_request"] = [[BEFORE, NoLeader("gone")], [elsewhere, RequestExpired("")]]
    outcome = invoke("watch --request r1 --await-registration 2s -o jsonl")
    kinds = [json.loads(line)["kind"] for line in outcome.stdout.splitlines()]
    assert kinds == ["described", "closed", "registered", "closed", "registered"]
    assert "watching again: " in outcome.stderr
    assert [call[3]["await_registration"] for call in cluster.calls] == [2, 2]
    # A stream that tells nothing is not tried for ever.
    cluster.answers["watch_request"] = [NoLeader("gone")]
    assert invoke("watch --request r1").exit_code == ExitCode.UNREACHABLE


def test_changes_between_lists_of_open_branches() -> None:
    """What is not listed any more has closed, provided that everything open is listed."""
    two = (branch("b1", part("eu", open_=True)), branch("b2", part("eu", open_=True)))
    before = description(branches=two, branches_open=2)
    after = description(branches=two[1:], branches_open=1)
    (closed,) = changes(before, after)
    assert (closed.kind, closed.branch_id, closed.region) == (ChangeKind.CLOSED, "b1", "eu")
    assert changes(before, dataclasses.replace(after, branches_open=2)) == []
    held, free = (
        dataclasses.replace(two[0], verdict=v) for v in (Verdict.HOLDS, Verdict.ZONE_WAITS)
    )
    (change,) = changes(description(branches=(held,)), description(branches=(free,)))
    assert (change.kind, change.verdict) == (ChangeKind.VERDICT, Verdict.ZONE_WAITS)
    reopened = changes(description(status=Status.CLOSED), description())
    assert [change.kind for change in reopened] == [ChangeKind.REOPENED]


def test_equal_waits_are_counted() -> None:
    (waiter,) = description().waiters
    twice = description(waiters=(waiter, dataclasses.replace(waiter, blocked_for=3.0)))
    assert [c.kind for c in changes(description(), twice)] == [ChangeKind.WAIT_BEGAN]
    assert [c.kind for c in changes(twice, description())] == [ChangeKind.WAIT_ENDED]
