"""Arguments and answers of the use-cases, as the front end and the use-cases exchange them.

Deadlines are absolute, in seconds of `Clock.monotonic_s()`. Durations are seconds.
"""

from __future__ import annotations

from rendezvous_raft.core.commands import Close, NewBranch, Scope
from rendezvous_raft.types import (
    ALL_REGIONS,
    BranchId,
    BranchKind,
    CommandId,
    Consistency,
    Region,
    RequestId,
    Revision,
    Service,
    Status,
    Tag,
    Verdict,
    WaitOutcome,
    Zone,
)
from rendezvous_raft.values import value


@value
class Freshness:
    """How fresh a read has to be (semantics G3)."""

    consistency: Consistency = Consistency.LINEARIZABLE
    min_revision: Revision = Revision(0)


@value
class BranchRegistration:
    """W2, W3. A missing request id is chosen by the caller of the use-case, before this."""

    request_id: RequestId
    branches: tuple[NewBranch, ...]
    await_registration_s: float = 0.0


@value
class NumberedRegistration:
    """5.4: ids are numbered by the state; see `RegisterNumbered` for what is left empty."""

    request_id: RequestId
    prefix: str
    branches: tuple[NewBranch, ...] = ()
    command_id: CommandId | None = None
    """Of every attempt of the call, so that a retry gets the first answer; None chooses one."""


@value
class BranchClosing:
    """W4, W5."""

    closes: tuple[Close, ...]
    await_registration_s: float = 0.0
    command_id: CommandId | None = None
    """As in `NumberedRegistration`; not together with `await_registration_s`."""


@value
class WaitQuery:
    """R1."""

    request_id: RequestId
    scope: Scope
    timeout_s: float
    """Already capped; counts from the begin of the call."""
    required_branches: tuple[BranchId, ...] = ()
    await_registration_s: float = 0.0
    freshness: Freshness = Freshness()
    await_place: bool = False
    """Whether services are awaited in the region (`queries.recognise`), not each by itself."""


@value
class OpenBranch:
    """A branch that keeps a wait blocked."""

    branch_id: BranchId
    service: Service
    tag: Tag
    zone: Zone
    regions: tuple[Region, ...]
    age_s: float
    """By the wall clocks of two nodes: an estimate."""
    registered: bool


@value
class WaitAnswer:
    """How a wait ended."""

    outcome: WaitOutcome
    blocked_for_s: float
    revision: Revision
    open_branches: tuple[OpenBranch, ...]
    known: bool
    """False when the scope names a service, region or tag that the request never used."""


@value
class CheckAnswer:
    """C1. The maps are None unless details were asked for."""

    status: Status
    tagged: dict[Tag, Status] | None
    regions: dict[Region, Status] | None
    revision: Revision


@value
class RecognitionAnswer:
    """What of a scope the request ever used (`queries.Recognition`)."""

    place: bool
    tag: bool
    waiter_service: bool
    revision: Revision


@value
class RegionsAnswer:
    """C2: status per region ever used."""

    statuses: dict[Region, Status]
    revision: Revision


@value
class DependenciesAnswer:
    """D1: services with open branches that depend on the one asked for."""

    direct: tuple[Service, ...]
    indirect: tuple[Service, ...]
    revision: Revision


@value
class DescriptionQuery:
    """Q1. With a scope, each branch tells what a wait with that scope makes of it."""

    request_id: RequestId
    scope: Scope | None = None
    required_branches: tuple[BranchId, ...] = ()
    """What such a wait requires."""
    open_only: bool = False
    """Leaves out the branches that are closed."""
    freshness: Freshness = Freshness()
    await_registration_s: float = 0.0
    """For a watch: how long to wait for an unknown request."""


@value
class RegionDescription:
    """Status of a branch in one region; `closed_at_ms` is None while open."""

    region: Region
    status: Status
    closed_at_ms: int | None
    subscribers: int = 0
    """While open and monitored: subscriptions of this node that are told of it."""


@value
class BranchDescription:
    """A branch, for people."""

    branch_id: BranchId
    service: Service
    tag: Tag
    zone: Zone
    parent_branch_id: BranchId
    kind: BranchKind
    regions: tuple[RegionDescription, ...]
    monitored: bool
    locator: bytes
    registered_at_ms: int
    status: Status
    verdict: Verdict | None = None
    """None: no scope was asked about."""


@value
class WaiterDescription:
    """A blocked wait of this node, or a lease of another one."""

    node: str
    scope: Scope
    blocked_for_s: float | None
    """None for one that another node serves."""
    leased: bool = False
    """Whether a lease tells all nodes of it (R7)."""
    held_by: tuple[BranchId, ...] = ()
    """The first branches that hold it, in registration order."""
    held_by_more: bool = False
    missing_branches: tuple[BranchId, ...] = ()
    """Required and not registered; unknown for a wait of another node."""
    awaits_registration: bool = False
    """Whether it waits for something that was never used (R4); unknown likewise."""
    lease_ends_in_s: float | None = None
    """For a wait of another node: cluster time until its lease ends unless it is renewed."""


@value
class RequestDescription:
    """Q1: a request with its branches and waiters, as one node knows them."""

    request_id: RequestId
    status: Status
    registered_at_ms: int
    branches: tuple[BranchDescription, ...]
    branches_total: int
    waiters: tuple[WaiterDescription, ...]
    revision: Revision
    node: str = ""
    node_region: Region = ALL_REGIONS
    answered_at_ms: int = 0
    branches_open: int = 0
    expires_in_s: float = 0.0
    """Cluster time until it may be dropped if nothing changes and nobody waits (L2)."""
    missing_branches: tuple[BranchId, ...] = ()
    """Of those that the question requires."""


@value
class RequestSummary:
    """A request in a listing."""

    request_id: RequestId
    status: Status
    branches: int
    branches_open: int
    services: tuple[Service, ...]
    registered_at_ms: int


@value
class RequestPage:
    """One page of a listing; `next_after` is None on the last."""

    requests: tuple[RequestSummary, ...]
    next_after: int | None
    revision: Revision


@value
class SubscriptionKey:
    """What a subscriber watches."""

    service: Service
    region: Region
    tags: tuple[Tag, ...] = ()
    group: str = ""
    resume_revision: Revision = Revision(0)


@value
class BranchIsOpen:
    """Subscription event: a monitored branch is open in the region."""

    branch_id: BranchId
    request_id: RequestId
    tag: Tag
    locator: bytes
    registered_at_ms: int
    is_global: bool
    revision: Revision


@value
class BranchIsClosed:
    """Subscription event: a branch of the subscription was closed there, or expired."""

    branch_id: BranchId
    request_id: RequestId
    is_global: bool
    revision: Revision


@value
class Synced:
    """Subscription event: everything open at `revision` has been delivered."""

    revision: Revision


SubscriptionEvent = BranchIsOpen | BranchIsClosed | Synced
