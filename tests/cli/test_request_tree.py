"""A request as a tree: everything an operator asks of it, in 80 columns."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json

import click
import pytest
from fake_cluster import MOMENT, FakeCluster, Invoke, description
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_raft.cli.everywhere import NodeAsked, ShownRequest, shown_by_one
from rendezvous_raft.cli.exits import ExitCode
from rendezvous_raft.cli.explaining import explanation_lines
from rendezvous_raft.cli.request_tree import COLUMNS, tree_lines
from rendezvous_raft.client import results
from rendezvous_raft.errors import DeadlineExceeded, NoLeader
from rendezvous_raft.types import BranchKind, Status, Verdict

SCOPE = results.ScopeDescription(("post-storage",), "us", "", "", "reader", True)


def branch(branch_id: str, **changes: object) -> results.BranchDescription:
    (made,) = description().branches
    return dataclasses.replace(made, branch_id=branch_id, **changes)  # type: ignore[arg-type]


def part(region: str, *, open_: bool = True, subscribers: int = 0) -> results.RegionStatus:
    closed_at = None if open_ else MOMENT + dt.timedelta(seconds=1.2)
    status = Status.OPEN if open_ else Status.CLOSED
    return results.RegionStatus(region, status, closed_at, subscribers)


def plain(shown: ShownRequest) -> list[str]:
    return [click.unstyle(line) for line in tree_lines(shown)]


def family() -> results.RequestDescription:
    """A branch of each kind, as a family."""
    branches = (
        branch("post-1", regions=(part("eu", open_=False), part("us", subscribers=2))),
        branch(
            "media-1",
            service="media",
            tag="",
            zone="a",
            parent_branch_id="post-1",
            locator=b"",
            regions=(part("us", subscribers=1), part("ap")),
        ),
        branch(
            "audit-1",
            service="audit",
            kind=BranchKind.GLOBAL,
            monitored=False,
            parent_branch_id="media-1",
            regions=(part(""),),
        ),
        branch(
            "words-1",
            service="words",
            kind=BranchKind.REGIONLESS,
            parent_branch_id="somewhere",
            regions=(part(""),),
        ),
    )
    lease = results.WaiterDescription(
        node="n3",
        scope=dataclasses.replace(SCOPE, services=("a", "b")),
        blocked_for=None,
        leased=True,
        held_by=("b1", "b2", "b3", "b4"),
        lease_ends_in=6.0,
    )
    waiter = results.WaiterDescription(
        node="n2",
        scope=SCOPE,
        blocked_for=0.412,
        held_by=("post-1",),
        missing_branches=("late-1",),
        awaits_registration=True,
    )
    return description(
        branches=branches, branches_total=6, branches_open=4, waiters=(waiter, lease)
    )


TREE = r"""
request r1
OPEN, 4 of 6 branches open; registered 4.0 s ago
as n2 (us) has it at revision 40
may be dropped in 60 min unless something changes or somebody waits

post-storage  post-1
   tag write · locator '\\xff\x00'
   eu  closed after 1.2 s
   us  OPEN for 4.0 s   2 subscriptions at n2

   └─ media  media-1
         zone a
         us  OPEN for 4.0 s   1 subscription at n2
         ap  OPEN for 4.0 s   NO SUBSCRIPTION at n2

      └─ audit  audit-1
            tag write · global · unmonitored · locator '\\xff\x00'
            everywhere  OPEN for 4.0 s
               no monitor is told of it; close it by hand

words  words-1
   tag write · regionless · locator '\\xff\x00' · under somewhere
   no region  OPEN for 4.0 s   no monitor is told of it; close it in all regions

2 more branches are not listed

blocked waits
   at n2  BLOCKED for 412 ms
      service post-storage · and what depends on them · region us · zone (root)
      · waiter reader
      held by post-1
      needs late-1, not registered yet
      waits for something that was never used to be registered
   at n3  BLOCKED told by a lease, 6.0 s left unless renewed
      services a, b · and what depends on them · region us · zone (root) ·
      waiter reader
      held by b1
      held by b2
      held by b3
      held by more

waits and subscriptions are those at n2, and waits that a lease tells of;
--all-nodes asks every node
"""


def test_everything_about_a_request_stands_in_its_tree() -> None:
    # semantics: Q1
    assert "\n".join(plain(shown_by_one(family()))) == TREE.strip("\n")


def test_a_branch_that_nobody_subscribes_to_is_the_operators_mistake_and_said_to_be() -> None:
    asked = tuple(NodeAsked(name, "eu", "", None) for name in ("n1", "n2"))
    everybody = plain(ShownRequest(family(), asked, True))
    assert "         ap  OPEN for 4.0 s   NOBODY SUBSCRIBES: no monitor will close it" in everybody
    assert "   us  OPEN for 4.0 s   2 subscriptions among n1, n2" in everybody
    assert not any("--all-nodes" in line for line in everybody)
    silent = NodeAsked("n3", "ap", "127.0.0.1:7620", "not reachable: refused")
    some = "\n".join(plain(ShownRequest(family(), (*asked, silent), True)))
    assert "NOBODY" not in some
    assert "ap  OPEN for 4.0 s   NO SUBSCRIPTION at n1, n2; n3 did not answer" in some
    assert "n3 did not tell of its own waits and subscriptions:   not reachable: refused" in some


names = st.text(st.sampled_from("abc-_./0123456789"), min_size=1, max_size=30)


@given(st.lists(names, min_size=1, max_size=30, unique=True), st.integers(0, 2**16), st.data())
def test_no_line_is_wider_than_a_terminal(ids: list[str], seed: int, data: st.DataObject) -> None:
    """Names of up to 30 characters in trees of any form; and every branch is there, once."""
    branches = []
    for index, name in enumerate(ids):
        parent = ids[data.draw(st.integers(0, index - 1))] if index else ""
        verdict = list(Verdict)[(seed + index) % len(Verdict)]
        branches.append(
            branch(
                name,
                parent_branch_id=parent,
                service=data.draw(names),
                tag=data.draw(names),
                verdict=verdict,
                regions=(part("us", subscribers=index % 2), part("eu", open_=bool(index % 3))),
            )
        )
    found = description(branches=tuple(branches), branches_total=len(ids))
    lines = plain(shown_by_one(found))
    assert all(len(line) <= COLUMNS for line in lines)
    words = [line.split()[-1] for line in lines if line.strip()]
    assert all(words.count(name) >= 1 for name in ids)
    explained = [click.unstyle(line) for line in explanation_lines(shown_by_one(found), SCOPE, 1.0)]
    assert all(len(line) <= COLUMNS for line in explained)


def test_a_long_chain_of_branches_is_shown_to_its_end() -> None:
    ids = [f"b{number}" for number in range(1_000)]
    chain = tuple(
        branch(name, parent_branch_id=ids[number - 1] if number else "")
        for number, name in enumerate(ids)
    )
    lines = plain(shown_by_one(description(branches=chain, branches_total=1_000)))
    assert all(len(line) <= COLUMNS for line in lines)
    assert any("under b998" in line for line in lines)


def test_the_tree_is_for_terminals_and_columns_for_pipes(invoke: Invoke) -> None:
    table = invoke("request show r1 -o table")
    assert table.exit_code == ExitCode.OK
    assert table.stdout.startswith("request r1\nOPEN, 1 of 1 branches open")
    columns = invoke("request show r1").stdout.splitlines()
    assert columns[0].split("\t")[0] == "request"
    assert any(line.endswith("\tregional\tyes\tus=0") for line in columns)
    assert any("\tno\tb1\t-" in line for line in columns)


@pytest.mark.parametrize(
    ("options", "env", "colored"),
    [("", {}, True), ("--no-color", {}, False), ("", {"NO_COLOR": "1"}, False)],
)
def test_colors_only_where_they_are_wanted(
    options: str, env: dict[str, str], colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from rendezvous_raft.cli.app import app
    from rendezvous_raft.cli.session import Session

    cluster = FakeCluster(answers={"describe_request": description()})
    arguments = ["request", "show", "r1", "-o", "table", *options.split()]
    for terminal in (True, False):
        monkeypatch.delenv("NO_COLOR", raising=False)
        outcome = CliRunner().invoke(
            app, arguments, obj=Session(connect=cluster.connect), env=env, color=terminal
        )
        assert ("\x1b[" in outcome.stdout) is (colored and terminal)


def seen_by(node: str, **changes: object) -> results.RequestDescription:
    return description(node=node, **changes)


def test_all_nodes_put_together_what_only_they_know(invoke: Invoke, cluster: FakeCluster) -> None:
    # semantics: Q1, R7
    (waiter,) = description().waiters
    lease = dataclasses.replace(waiter, node="n3", blocked_for=None, leased=True)
    own = dataclasses.replace(waiter, node="n3", leased=True, blocked_for=1.5)
    regions = (part("eu", open_=False), part("us", subscribers=1))
    watched = (branch("b1", regions=regions),)
    cluster.answers["describe_request"] = [
        seen_by("n1", waiters=(lease,)),
        seen_by("n2", branches=watched),
        seen_by("n3", branches=watched, waiters=(own,)),
    ]
    outcome = invoke("request show r1 --all-nodes -o json")
    shown = json.loads(outcome.stdout)
    # n3 was asked itself, so what its lease says of it is not said again.
    told = [(w["node"], w["blocked_for"]) for w in shown["waiters"]]
    assert told == [("n2", 0.412), ("n3", 1.5)]
    assert [p["subscribers"] for p in shown["branches"][0]["regions"]] == [0, 2]
    assert [(n["name"], n["problem"]) for n in shown["nodes"]] == [
        ("n1", None),
        ("n2", None),
        ("n3", None),
    ]
    asked = [call for call in cluster.calls if call[1] == "describe_request"]
    assert [call[0] for call in asked[1:]] == ["127.0.0.1:7610", "127.0.0.1:7620"]
    assert [call[3].get("min_revision") for call in asked] == [None, 40, 40]


def test_nodes_that_do_not_answer_are_named(invoke: Invoke, cluster: FakeCluster) -> None:
    (waiter,) = description().waiters
    lease = dataclasses.replace(waiter, node="n3", blocked_for=None, leased=True)
    del cluster.statuses["127.0.0.1:7620"]
    cluster.answers["describe_request"] = [
        seen_by("n1", waiters=(lease,)),
        DeadlineExceeded("behind", definite=True),
    ]
    shown = json.loads(invoke("request show r1 --all-nodes -o json").stdout)
    assert [n["problem"] for n in shown["nodes"]] == [
        None,
        "deadline: behind",
        "not reachable: connection refused",
    ]
    assert [w["node"] for w in shown["waiters"]] == ["n3"]  # its lease is all there is


def test_show_fails_only_if_the_first_answer_does(invoke: Invoke, cluster: FakeCluster) -> None:
    cluster.answers["describe_request"] = NoLeader("nobody")
    assert invoke("request show r1 --all-nodes").exit_code == ExitCode.UNREACHABLE


def test_only_open_branches(invoke: Invoke, cluster: FakeCluster) -> None:
    invoke("request show r1 --open")
    assert cluster.called("describe_request")["open_only"] is True
