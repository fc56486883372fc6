"""The command line against a cluster of the imagination."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner, Result
from fake_cluster import MOMENT, FakeCluster, Invoke, description

from rendezvous_raft.cli.app import app
from rendezvous_raft.cli.session import Session
from rendezvous_raft.client import results
from rendezvous_raft.errors import RequestNotFound
from rendezvous_raft.types import Status, WaitOutcome


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(
        answers={
            "register_branch": results.RegisterBranchResult("r1", "b1", False, 41),
            "close_branch": results.CloseBranchResult(True, False, 42),
            "describe_request": description(),
            "wait_request": results.WaitResult(
                WaitOutcome.BLOCKED, True, False, 0.412, 43, (), True
            ),
            "take_snapshot": results.SnapshotResult(40, 50, 1234),
            "transfer_leadership": "n2",
            "list_requests": [
                results.RequestPage(
                    (
                        results.RequestSummary(
                            "r1", Status.OPEN, 2, 1, ("post-storage", "audit"), MOMENT
                        ),
                    ),
                    "",
                    40,
                )
            ],
        }
    )


@pytest.fixture
def invoke(cluster: FakeCluster) -> Invoke:
    """Runs the command line against the fake cluster."""

    def invoke(line: str, *more: str, env: dict[str, str] | None = None) -> Result:
        session = Session(connect=cluster.connect)
        arguments = [*shlex.split(line), *more]
        return CliRunner().invoke(
            app, arguments, obj=session, env=env, prog_name="rendezvous", catch_exceptions=False
        )

    return invoke


@pytest.fixture
def unknown_request(cluster: FakeCluster) -> FakeCluster:
    cluster.answers["describe_request"] = RequestNotFound("no request has the id r9")
    return cluster
