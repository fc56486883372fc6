"""What of a batch of registrations is new, or why the batch cannot be: reads, decides no change."""

from __future__ import annotations

from rendezvous_raft.core.commands import NewBranch
from rendezvous_raft.core.model import Request, State
from rendezvous_raft.core.results import Reason, Rejected
from rendezvous_raft.limits import StateLimits
from rendezvous_raft.types import BranchId, RequestId


def fresh_branches(
    state: State, request_id: RequestId, branches: tuple[NewBranch, ...]
) -> list[NewBranch] | Rejected:
    """Those that are not registered yet, or why the batch cannot be (all or nothing, W3)."""
    fresh: dict[BranchId, NewBranch] = {}
    for new in branches:
        branch_id = new.branch_id
        existing = state.branches.get(branch_id)
        if existing is not None:
            if existing.request_id != request_id or not existing.has_content_of(new):
                return Rejected(Reason.BRANCH_CONFLICT, branch_id)
            continue
        if branch_id in state.expired_branches:
            return Rejected(Reason.REQUEST_EXPIRED, state.expired_branches[branch_id])
        if branch_id in fresh:
            if fresh[branch_id] != new:
                return Rejected(Reason.BRANCH_CONFLICT, branch_id)
            continue
        parent_id = new.parent_branch_id
        if parent_id and parent_id not in fresh:
            parent = state.branches.get(parent_id)
            if parent_id in state.expired_branches:
                return Rejected(Reason.REQUEST_EXPIRED, state.expired_branches[parent_id])
            if parent is None:
                return Rejected(Reason.PARENT_UNKNOWN, parent_id)
            if parent.request_id != request_id:
                return Rejected(Reason.PARENT_OF_OTHER_REQUEST, parent_id)
        fresh[branch_id] = new
    return list(fresh.values())


def limit_exceeded(
    state: State, limits: StateLimits, request: Request | None, fresh: list[NewBranch]
) -> str:
    """Name of the bound that the batch would exceed, or `""`."""
    if request is None and len(state.requests) >= limits.requests_open_max:
        return "requests_open_max"
    held = len(request.branches) if request else 0
    if held + len(fresh) > limits.branches_per_request_max:
        return "branches_per_request_max"
    for new in fresh:
        if len(new.regions) > limits.regions_per_branch_max:
            return "regions_per_branch_max"
    return ""
