"""Builds the writes. Every id is chosen here, before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence

from rendezvous_raft._proto.rendezvous.v1 import metadata_service_pb2 as pb
from rendezvous_raft.client import _answers, results
from rendezvous_raft.client._calls import (
    CLOSE_BRANCH,
    CLOSE_BRANCHES,
    REGISTER_BRANCH,
    REGISTER_BRANCHES,
    REGISTER_REQUEST,
    Call,
    CallDefaults,
    names,
    optional_seconds,
)
from rendezvous_raft.client.arguments import BranchSpec, CloseSpec, Seconds
from rendezvous_raft.context import Session, current_session


def register_request(
    defaults: CallDefaults, request_id: str | None, *, timeout: Seconds | None
) -> Call[pb.RegisterRequestResponse, results.RegisterRequestResult]:
    """Builds RegisterRequest."""
    chosen, _ = _choose_request(defaults, request_id)
    return Call(
        REGISTER_REQUEST,
        pb.RegisterRequestRequest(request_id=chosen),
        _answers.registered_request,
        defaults.timeout(timeout),
    )


def register_branch(
    defaults: CallDefaults,
    spec: BranchSpec,
    *,
    request_id: str | None,
    await_registration: Seconds | None,
    timeout: Seconds | None,
) -> Call[pb.RegisterBranchResponse, results.RegisterBranchResult]:
    """Builds RegisterBranch."""
    chosen, session = _choose_request(defaults, request_id)
    branch = _branch(defaults, spec, session)
    patience_s = optional_seconds("await_registration", await_registration)
    request = pb.RegisterBranchRequest(
        request_id=chosen,
        branch=branch,
    )
    return Call(
        REGISTER_BRANCH,
        request,
        _answers.registered_branch,
        _timeout_s(defaults, timeout, patience_s),
        registering=(branch.branch_id,) if session is not None else (),
        blocking_s=patience_s,
        await_registration_s=patience_s,
    )


def register_branches(
    defaults: CallDefaults,
    specs: Sequence[BranchSpec],
    *,
    request_id: str | None,
    await_registration: Seconds | None,
    timeout: Seconds | None,
) -> Call[pb.RegisterBranchesResponse, results.RegisterBranchesResult]:
    """Builds RegisterBranches."""
    chosen, session = _choose_request(defaults, request_id)
    branches = [_branch(defaults, spec, session) for spec in specs]
    patience_s = optional_seconds("await_registration", await_registration)
    request = pb.RegisterBranchesRequest(
        request_id=chosen,
        branches=branches,
    )
    return Call(
        REGISTER_BRANCHES,
        request,
        _answers.registered_branches,
        _timeout_s(defaults, timeout, patience_s),
        registering=tuple(branch.branch_id for branch in branches) if session is not None else (),
        blocking_s=patience_s,
        await_registration_s=patience_s,
    )


def close_branch(
    defaults: CallDefaults,
    spec: CloseSpec,
    *,
    await_registration: Seconds | None,
    timeout: Seconds | None,
) -> Call[pb.CloseBranchResponse, results.CloseBranchResult]:
    """Builds CloseBranch."""
    patience_s = optional_seconds("await_registration", await_registration)
    request = pb.CloseBranchRequest(
        close=_close(spec),
    )
    return Call(
        CLOSE_BRANCH,
        request,
        _answers.closed_branch,
        _timeout_s(defaults, timeout, patience_s),
        blocking_s=patience_s,
        await_registration_s=patience_s,
    )


def close_branches(
    defaults: CallDefaults,
    specs: Sequence[CloseSpec],
    *,
    await_registration: Seconds | None,
    timeout: Seconds | None,
) -> Call[pb.CloseBranchesResponse, results.CloseBranchesResult]:
    """Builds CloseBranches."""
    patience_s = optional_seconds("await_registration", await_registration)
    request = pb.CloseBranchesRequest(
        closes=[_close(spec) for spec in specs],
    )
    return Call(
        CLOSE_BRANCHES,
        request,
        _answers.closed_branches,
        _timeout_s(defaults, timeout, patience_s),
        blocking_s=patience_s,
        await_registration_s=patience_s,
    )


def _choose_request(defaults: CallDefaults, request_id: str | None) -> tuple[str, Session | None]:
    """The id of the request, and the session if the request is the session's own."""
    session = current_session()
    if session is not None and request_id in {None, session.request_id}:
        return session.request_id, session
    return request_id or defaults.ids.request_id(), None


def _branch(defaults: CallDefaults, spec: BranchSpec, session: Session | None) -> pb.BranchSpec:
    zone = spec.zone
    if zone is None:
        zone = (session.zone if session is not None else None) or ""
    return pb.BranchSpec(
        branch_id=spec.branch_id or defaults.ids.branch_id(spec.service),
        service=spec.service,
        tag=spec.tag,
        regions=names("regions", spec.regions),
        zone=zone,
        parent_branch_id=spec.parent_branch_id,
        monitored=spec.monitored,
        locator=spec.locator,
    )


def _close(spec: CloseSpec) -> pb.CloseSpec:
    return pb.CloseSpec(branch_id=spec.branch_id, region=spec.region, all_regions=spec.all_regions)


def _timeout_s(defaults: CallDefaults, timeout: Seconds | None, patience_s: float | None) -> float:
    return defaults.timeout(timeout, blocking_s=patience_s or 0.0)
