"""What applying a command answers. Frozen values; expected faults are values too (`Rejected`)."""

from __future__ import annotations

import enum
from typing import TypeAlias

from rendezvous_raft.core.events import Event
from rendezvous_raft.types import BranchId, RequestId, Revision
from rendezvous_raft.values import value


class Reason(enum.Enum):
    """Why the state does not allow a command."""

    REQUEST_EXPIRED = "request_expired"
    BRANCH_CONFLICT = "branch_conflict"
    """The branch id is taken by a branch with other content."""
    PARENT_UNKNOWN = "parent_unknown"
    PARENT_OF_OTHER_REQUEST = "parent_of_other_request"
    LIMIT = "limit"
    """`detail` names the limit."""


@value
class Rejected:
    """The command changed nothing but the revision."""

    reason: Reason
    detail: str = ""
    """The id or the limit in question."""


@value
class RequestRegistered:
    """The request is there. `created` is False when it was there before."""

    request_id: RequestId
    created: bool


@value
class BranchesRegistered:
    """The branches are there. `already_existed` when every one of them was there before."""

    request_id: RequestId
    branch_ids: tuple[BranchId, ...]
    already_existed: bool


class CloseOutcome(enum.Enum):
    """Result of one item of CloseBranches."""

    CLOSED = "closed"
    ALREADY_CLOSED = "already_closed"
    BRANCH_UNKNOWN = "branch_unknown"
    REQUEST_EXPIRED = "request_expired"
    REGION_NOT_OF_BRANCH = "region_not_of_branch"


@value
class BranchesClosed:
    """One outcome per item, in order."""

    outcomes: tuple[CloseOutcome, ...]


@value
class LeaseChanged:
    """A wait lease began, was renewed, or ended. `known` is False for the end of an unknown one."""

    known: bool


@value
class MembersChanged:
    """Members joined, were renewed, or left: how many of those named were members before."""

    known: int


@value
class TimeAdvanced:
    """Cluster time after a pulse, in milliseconds since the cluster began."""

    time_ms: int


@value
class RequestsExpired:
    """How many requests were dropped, by their state when they were."""

    settled: int
    open: int
    more: bool
    """Whether the bound of the command was reached."""


@value
class VersionActivated:
    """The version in force."""

    version: int


@value
class Nothing:
    """Answer of a barrier."""


Result: TypeAlias = (
    Rejected
    | RequestRegistered
    | BranchesRegistered
    | BranchesClosed
    | LeaseChanged
    | MembersChanged
    | TimeAdvanced
    | RequestsExpired
    | VersionActivated
    | Nothing
)


@value
class Applied:
    """Outcome of one command: its revision, its answer, and the facts that others may wait for."""

    revision: Revision
    result: Result
    events: tuple[Event, ...] = ()
