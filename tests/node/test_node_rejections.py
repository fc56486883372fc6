"""What the state refuses, as errors: each names what it is about (semantics G6)."""

from __future__ import annotations

import pytest
from node_bench import close

from rendezvous_raft import errors
from rendezvous_raft.core.results import CloseOutcome, Reason, Rejected
from rendezvous_raft.node.rejections import close_error, rejection_error
from rendezvous_raft.types import Revision

REVISION = Revision(7)

OF_REASONS = {
    Reason.REQUEST_EXPIRED: (errors.RequestExpired, {}),
    Reason.BRANCH_CONFLICT: (errors.AlreadyExists, {"field": "branch_id"}),
    Reason.PARENT_UNKNOWN: (errors.BranchNotFound, {"field": "parent_branch_id"}),
    Reason.PARENT_OF_OTHER_REQUEST: (errors.InvalidArgument, {"field": "parent_branch_id"}),
    Reason.LIMIT: (errors.LimitExceeded, {"limit": "x1"}),
}
OF_OUTCOMES = {
    CloseOutcome.CLOSED: None,
    CloseOutcome.ALREADY_CLOSED: None,
    CloseOutcome.BRANCH_UNKNOWN: errors.BranchNotFound,
    CloseOutcome.REQUEST_EXPIRED: errors.RequestExpired,
    CloseOutcome.REGION_NOT_OF_BRANCH: errors.InvalidArgument,
}


@pytest.mark.parametrize("reason", Reason)
def test_every_rejection_is_a_definite_error_that_names_its_cause(reason: Reason) -> None:
    # semantics: G6
    kind, details = OF_REASONS[reason]
    error = rejection_error(Rejected(reason, "x1"), REVISION)
    assert type(error) is kind
    assert "x1" in error.message
    assert error.details == details
    assert error.revision == REVISION
    assert error.definite
    assert not error.retryable


@pytest.mark.parametrize("outcome", CloseOutcome)
def test_every_outcome_of_a_close_is_an_error_or_none(outcome: CloseOutcome) -> None:
    # semantics: W4, W5, G6
    error = close_error(close("b1", "eu"), outcome, REVISION)
    kind = OF_OUTCOMES[outcome]
    if kind is None:
        assert error is None
    else:
        assert type(error) is kind
        assert error is not None
        assert "b1" in error.message
        assert error.revision == REVISION
        assert error.definite


def test_a_close_without_region_of_a_regional_branch_says_what_to_do() -> None:
    # semantics: W4
    error = close_error(close("b1"), CloseOutcome.REGION_NOT_OF_BRANCH, REVISION)
    assert error is not None
    assert "all_regions" in error.message
    assert error.details == {"field": "region"}
