"""What the state machine refuses, as errors for callers. The one place that knows both."""

from __future__ import annotations

from rendezvous_raft import errors
from rendezvous_raft.core.commands import Close
from rendezvous_raft.core.results import CloseOutcome, Reason, Rejected
from rendezvous_raft.types import Revision


def rejection_error(rejected: Rejected, revision: Revision) -> errors.RendezvousError:
    """The error that says why a command was rejected. All of them are definite."""
    detail = rejected.detail
    match rejected.reason:
        case Reason.REQUEST_EXPIRED:
            return errors.RequestExpired(f"request {detail} has expired", revision=revision)
        case Reason.BRANCH_CONFLICT:
            return errors.AlreadyExists(
                f"branch {detail} is registered with other content; choose another id",
                revision=revision,
                details={"field": "branch_id"},
            )
        case Reason.PARENT_UNKNOWN:
            return errors.BranchNotFound(
                f"no branch has the id {detail}, given as parent_branch_id",
                revision=revision,
                details={"field": "parent_branch_id"},
            )
        case Reason.PARENT_OF_OTHER_REQUEST:
            return errors.InvalidArgument(
                f"parent_branch_id: branch {detail} belongs to another request",
                revision=revision,
                details={"field": "parent_branch_id"},
            )
        case Reason.LIMIT:
            return errors.LimitExceeded(
                f"the limit {detail} is reached", revision=revision, details={"limit": detail}
            )


def close_error(
    close: Close, outcome: CloseOutcome, revision: Revision
) -> errors.RendezvousError | None:
    """The error of one close, or None if it went well (also when closed before)."""
    match outcome:
        case CloseOutcome.CLOSED | CloseOutcome.ALREADY_CLOSED:
            return None
        case CloseOutcome.BRANCH_UNKNOWN:
            return errors.BranchNotFound(
                f"no branch has the id {close.branch_id}", revision=revision
            )
        case CloseOutcome.REQUEST_EXPIRED:
            return errors.RequestExpired(
                f"the request of branch {close.branch_id} has expired", revision=revision
            )
        case CloseOutcome.REGION_NOT_OF_BRANCH:
            problem = (
                f"branch {close.branch_id} does not have the region {close.region!r}"
                if close.region
                else f"branch {close.branch_id} is not global; name a region or all_regions"
            )
            return errors.InvalidArgument(
                f"region: {problem}", revision=revision, details={"field": "region"}
            )
