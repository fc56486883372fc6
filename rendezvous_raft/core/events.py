"""Facts that applying a command brings about: what waiters and subscribers are woken by."""

from __future__ import annotations

from typing import TypeAlias

from rendezvous_raft.types import BranchId, Region, RequestId, Revision, Service, Tag
from rendezvous_raft.values import value


@value
class RequestOpened:
    """A request was registered.

    Fields:
        request_id: the new request.
    """

    request_id: RequestId


@value
class BranchOpened:
    """A branch was registered.

    Fields:
        request_id, branch_id, service, tag: of the branch.
        regions: where it is open; empty for a global or regionless branch.
        is_global: open everywhere.
        monitored: whether subscribers are told.
        locator: where the data is.
        at_ms: the proposer's wall clock at registration.
        revision: of the registration.
    """

    request_id: RequestId
    branch_id: BranchId
    service: Service
    tag: Tag
    regions: tuple[Region, ...]
    is_global: bool
    monitored: bool
    locator: bytes
    at_ms: int
    revision: Revision


@value
class RegionClosed:
    """A branch was closed in a region.

    Fields:
        request_id, branch_id, service, tag: of the branch.
        region: the region, or "" for a global or regionless branch.
        is_global: the branch was open everywhere.
        monitored: whether subscribers were told of the branch.
    """

    request_id: RequestId
    branch_id: BranchId
    service: Service
    tag: Tag
    region: Region
    is_global: bool
    monitored: bool


@value
class RequestSettled:
    """The last open branch of a request was closed."""

    request_id: RequestId


@value
class ExpiredBranch:
    """A monitored branch that was still open when its request was dropped.

    Fields:
        branch_id, service, tag: of the branch.
        regions: where it was still open; empty for a global branch.
        is_global: it was open everywhere.
    """

    branch_id: BranchId
    service: Service
    tag: Tag
    regions: tuple[Region, ...]
    is_global: bool


@value
class RequestExpired:
    """A request was dropped.

    Fields:
        request_id: the request.
        settled: whether nothing of it was open.
        branches: its monitored branches that were still open.
    """

    request_id: RequestId
    settled: bool
    branches: tuple[ExpiredBranch, ...]


@value
class WaitLeaseChanged:
    """A replicated wait of this request began or ended: rule S5 may decide otherwise now."""

    request_id: RequestId


@value
class GroupChanged:
    """A member joined a subscription group or left it: its branches are divided anew.

    Fields:
        service, region, group: which group.
    """

    service: Service
    region: Region
    group: str


Event: TypeAlias = (
    RequestOpened
    | BranchOpened
    | RegionClosed
    | RequestSettled
    | RequestExpired
    | WaitLeaseChanged
    | GroupChanged
)
