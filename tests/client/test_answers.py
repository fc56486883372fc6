"""From messages to results: every field arrives, and nothing unknown passes for harmless."""

from __future__ import annotations

import datetime as dt

import pytest

from rendezvous_raft._proto.rendezvous.v1 import admin_service_pb2 as admin
from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft._proto.rendezvous.v1 import types_pb2 as types
from rendezvous_raft.client import _answers, _descriptions, results
from rendezvous_raft.errors import InternalError
from rendezvous_raft.types import BranchKind, Role, Status, Verdict, WaitOutcome

AT = dt.datetime(2024, 5, 6, 7, 8, 9, 250_000, tzinfo=dt.UTC)


def described() -> pb.DescribeRequestResponse:
    answer = pb.DescribeRequestResponse(
        request_id="r", status=types.STATUS_OPEN, branches_total=1_001, revision=12
    )
    answer.registered_at.FromDatetime(AT)
    branch = answer.branches.add(
        branch_id="b", service="s", tag="t", zone="z", parent_branch_id="p",
        kind=types.BRANCH_KIND_REGIONAL, monitored=True, locator=b"k", status=types.STATUS_OPEN,
    )  # fmt: skip
    branch.registered_at.FromDatetime(AT)
    closed = branch.regions.add(region="eu", status=types.STATUS_CLOSED)
    closed.closed_at.FromDatetime(AT)
    branch.regions.add(region="us", status=types.STATUS_OPEN)
    here = answer.waiters.add(node="n1", scope=types.Scope(services=["s"], zone=""))
    here.blocked_for.FromMilliseconds(1_500)
    answer.waiters.add(node="n2", scope=types.Scope(region="eu"))
    return answer


def test_a_description_is_complete() -> None:
    assert _descriptions.described(described()) == results.RequestDescription(
        request_id="r",
        status=Status.OPEN,
        registered_at=AT,
        branches=(
            results.BranchDescription(
                branch_id="b",
                service="s",
                tag="t",
                zone="z",
                parent_branch_id="p",
                kind=BranchKind.REGIONAL,
                regions=(
                    results.RegionStatus("eu", Status.CLOSED, AT),
                    results.RegionStatus("us", Status.OPEN, None),
                ),
                monitored=True,
                locator=b"k",
                registered_at=AT,
                status=Status.OPEN,
            ),
        ),
        branches_total=1_001,
        waiters=(
            results.WaiterDescription(
                "n1", results.ScopeDescription(("s",), "", "", "", "", False), 1.5
            ),
            results.WaiterDescription(
                "n2", results.ScopeDescription((), "eu", "", None, "", False), None
            ),
        ),
        revision=12,
    )


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (types.WAIT_OUTCOME_IMMEDIATE, WaitOutcome.IMMEDIATE),
        (types.WAIT_OUTCOME_BLOCKED, WaitOutcome.BLOCKED),
        (types.WAIT_OUTCOME_TIMED_OUT, WaitOutcome.TIMED_OUT),
    ],
)
def test_outcomes(number: types.WaitOutcome.ValueType, outcome: WaitOutcome) -> None:
    answer = pb.WaitRequestResponse(outcome=number, prevented_inconsistency=True, known=True)
    assert _answers.waited(answer) == results.WaitResult(outcome, True, False, 0.0, 0, (), True)


def test_statuses_by_name() -> None:
    answer = pb.CheckRequestResponse(
        status=types.STATUS_UNKNOWN,
        tagged={"t": types.STATUS_OPEN},
        regions={"eu": types.STATUS_CLOSED},
        revision=3,
    )
    assert _answers.checked(answer) == results.CheckResult(
        Status.UNKNOWN, {"t": Status.OPEN}, {"eu": Status.CLOSED}, 3
    )


def test_every_enum_value_of_the_contract_is_known() -> None:
    assert len(_answers._STATUSES) == len(types.Status.values()) - 1 == len(Status)
    assert len(_answers._OUTCOMES) == len(types.WaitOutcome.values()) - 1 == len(WaitOutcome)
    assert len(_descriptions._KINDS) == len(types.BranchKind.values()) - 1 == len(BranchKind)
    assert len(_descriptions._VERDICTS) == len(types.Verdict.values()) == len(Verdict) + 1
    assert len(_answers._ROLES) == len(admin.Role.values()) - 1 == len(Role)
    kinds = pb.SubscriptionEventKind.values()
    assert len(_answers._EVENT_KINDS) == len(kinds) - 1 == len(results.SubscriptionEventKind)


def test_unknown_values_are_faults() -> None:
    answer = described()
    answer.branches[0].kind = 77  # type: ignore[assignment]
    with pytest.raises(InternalError, match="branch kind: 77"):
        _descriptions.described(answer)
    with pytest.raises(InternalError, match="subscription event"):
        _answers.subscription_event(pb.SubscribeResponse())
    tagged: dict[str, object] = {"t": 0}
    with pytest.raises(InternalError, match="status"):
        _answers.checked(pb.CheckRequestResponse(tagged=tagged, status=1))  # type: ignore[arg-type]


def test_a_role_that_is_not_known_is_none() -> None:
    answer = admin.GetClusterStatusResponse(members=[admin.Member(name="n2")])
    assert _answers.cluster(answer).role is None
    assert _answers.cluster(answer).members[0].role is None


@pytest.mark.parametrize(
    ("convert", "message", "result"),
    [
        (_answers.registered_request, pb.RegisterRequestResponse, results.RegisterRequestResult),
        (_answers.registered_branch, pb.RegisterBranchResponse, results.RegisterBranchResult),
        (_answers.registered_branches, pb.RegisterBranchesResponse, results.RegisterBranchesResult),
        (_answers.closed_branch, pb.CloseBranchResponse, results.CloseBranchResult),
        (_answers.closed_branches, pb.CloseBranchesResponse, results.CloseBranchesResult),
        (_answers.waited, pb.WaitRequestResponse, results.WaitResult),
        (_answers.checked, pb.CheckRequestResponse, results.CheckResult),
        (_answers.checked_by_regions, pb.CheckRequestByRegionsResponse, results.RegionStatuses),
        (_answers.dependencies, pb.FetchDependenciesResponse, results.Dependencies),
        (_descriptions.described, pb.DescribeRequestResponse, results.RequestDescription),
        (_answers.listed, pb.ListRequestsResponse, results.RequestPage),
        (_answers.cluster, admin.GetClusterStatusResponse, results.ClusterDescription),
        (_answers.digest, admin.GetDigestResponse, results.DigestResult),
        (_answers.snapshot, admin.TakeSnapshotResponse, results.SnapshotResult),
    ],
)
def test_results_have_the_fields_of_the_contract(
    convert: object, message: type, result: type
) -> None:
    """A field added to the contract is to be added here too."""
    assert set(result.__slots__) == {field.name for field in message.DESCRIPTOR.fields}
    assert callable(convert)
