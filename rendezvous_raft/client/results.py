"""What the calls answer: frozen values with the names of the protos (`global` is `is_global`).

Durations are seconds, times are aware datetimes in UTC, sequences are tuples. Every answer carries
the `revision` at which it holds.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass

from rendezvous_raft.errors import RendezvousError
from rendezvous_raft.types import BranchKind, Role, Standing, Status, Verdict, WaitOutcome


@dataclass(frozen=True, slots=True)
class RegisterRequestResult:
    """A registered request."""

    request_id: str
    created: bool
    """False when it existed before, also because of an earlier attempt of this call."""
    revision: int


@dataclass(frozen=True, slots=True)
class RegisterBranchResult:
    """A registered branch."""

    request_id: str
    branch_id: str
    already_existed: bool
    """True when it existed before, also because of an earlier attempt of this call."""
    revision: int


@dataclass(frozen=True, slots=True)
class RegisterBranchesResult:
    """Registered branches, in the order of the call."""

    request_id: str
    branch_ids: tuple[str, ...]
    already_existed: bool
    """True when every one of them existed before."""
    revision: int


@dataclass(frozen=True, slots=True)
class CloseBranchResult:
    """A closed branch."""

    closed: bool
    """True when this call closed something."""
    already_closed: bool
    revision: int


@dataclass(frozen=True, slots=True)
class CloseResult:
    """What became of one close of a batch."""

    closed: bool
    already_closed: bool
    failure: RendezvousError | None
    """Why this close failed; the others are not affected."""


@dataclass(frozen=True, slots=True)
class CloseBranchesResult:
    """One result per close, in the order of the call."""

    results: tuple[CloseResult, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class OpenBranch:
    """A branch that was still open when a wait timed out."""

    branch_id: str
    service: str
    """Empty for a required branch that is not registered yet."""
    tag: str
    zone: str
    regions: tuple[str, ...]
    """Where it is open; empty for a global branch."""
    age: float
    """Seconds since its registration, an estimate."""
    registered: bool


@dataclass(frozen=True, slots=True)
class WaitResult:
    """How a wait ended."""

    outcome: WaitOutcome
    prevented_inconsistency: bool
    """True when the call was blocked at least once and then released."""
    timed_out: bool
    """True when the time-out passed first: what the caller reads may be inconsistent."""
    blocked_for: float
    """Seconds."""
    revision: int
    open_branches: tuple[OpenBranch, ...]
    """After a time-out, up to 10 of the branches that are still open."""
    known: bool
    """False when the scope names a service, region or tag that the request never used."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Whether anything of a scope is open."""

    status: Status
    tagged: Mapping[str, Status]
    """Status by tag; empty without `detailed`."""
    regions: Mapping[str, Status]
    """Status by region; empty without `detailed`."""
    revision: int


@dataclass(frozen=True, slots=True)
class RegionStatuses:
    """Status of a request in every region that it ever used."""

    statuses: Mapping[str, Status]
    revision: int


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Services with open branches that depend on a service."""

    direct: tuple[str, ...]
    indirect: tuple[str, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """Status of a branch in one region."""

    region: str
    """Empty for a global or regionless branch."""
    status: Status
    closed_at: dt.datetime | None
    """None while open."""
    subscribers: int = 0
    """While open and monitored: subscriptions that are told of it, at the node that answers."""


@dataclass(frozen=True, slots=True)
class BranchDescription:
    """A branch with everything that is known about it."""

    branch_id: str
    service: str
    tag: str
    zone: str
    parent_branch_id: str
    kind: BranchKind
    regions: tuple[RegionStatus, ...]
    monitored: bool
    locator: bytes
    registered_at: dt.datetime
    status: Status
    verdict: Verdict | None = None
    """What a wait with the scope of the question makes of it; None without a scope."""


@dataclass(frozen=True, slots=True)
class ScopeDescription:
    """What a wait looks at."""

    services: tuple[str, ...] = ()
    """Empty: all."""
    region: str = ""
    """Empty: any region."""
    tag: str = ""
    zone: str | None = None
    """None: not given; empty: the root zone."""
    waiter_service: str = ""
    wait_dependencies: bool = False


@dataclass(frozen=True, slots=True)
class WaiterDescription:
    """A wait that is blocked on a request.

    One that the node which answers serves, or one that another node has told to all by a lease.
    Of other waits of other nodes, only those know.
    """

    node: str
    scope: ScopeDescription
    blocked_for: float | None
    """Seconds; None for a wait that another node serves."""
    leased: bool = False
    """Whether a lease tells all nodes of it: it takes part in mutual waits."""
    held_by: tuple[str, ...] = ()
    """The first 10 branches that hold it."""
    held_by_more: bool = False
    """Whether more hold it than are listed."""
    missing_branches: tuple[str, ...] = ()
    """Required and not registered; not known of a wait of another node."""
    awaits_registration: bool = False
    """Whether it waits for a service, region or tag to be used first; not known likewise."""
    lease_ends_in: float | None = None
    """Seconds until the lease of a wait of another node ends unless it is renewed."""


@dataclass(frozen=True, slots=True)
class RequestDescription:
    """A request with its branches and waiters, as one node knows them."""

    request_id: str
    status: Status
    registered_at: dt.datetime
    branches: tuple[BranchDescription, ...]
    """At most 1,000, in the order of their registration."""
    branches_total: int
    waiters: tuple[WaiterDescription, ...]
    """At most 100: those of the node that answers, then leases of others."""
    revision: int
    node: str = ""
    """Who answers: waits and subscriptions are its own."""
    node_region: str = ""
    answered_at: dt.datetime | None = None
    """By the clock of that node, as ages are; None where it does not say."""
    branches_open: int = 0
    expires_in: float = 0.0
    """Seconds until it may be dropped if nothing of it changes and nobody waits for it."""
    missing_branches: tuple[str, ...] = ()
    """Of the required branches of the question, those that are not registered in it."""


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """A request in a listing."""

    request_id: str
    status: Status
    branches: int
    branches_open: int
    services: tuple[str, ...]
    registered_at: dt.datetime


@dataclass(frozen=True, slots=True)
class RequestPage:
    """One page of a listing, oldest first."""

    requests: tuple[RequestSummary, ...]
    next_page_token: str
    """Gets the next page; empty: this was the last."""
    revision: int


class SubscriptionEventKind(enum.Enum):
    """What a subscription delivers."""

    OPEN = "open"
    """A branch is open in the region."""
    CLOSED = "closed"
    """A branch delivered before was closed there, by whomever, or expired."""
    SYNCED = "synced"
    """Everything that was open at `revision` has been delivered."""


@dataclass(frozen=True, slots=True)
class SubscriptionEvent:
    """One event of a subscription."""

    kind: SubscriptionEventKind
    branch_id: str
    """Empty for SYNCED."""
    request_id: str
    tag: str
    locator: bytes
    registered_at: dt.datetime | None
    """None for SYNCED, and where the node does not say."""
    revision: int
    is_global: bool
    """True for a global branch: it is closed with an empty region."""


@dataclass(frozen=True, slots=True)
class MemberDescription:
    """A member of the cluster as the node that answers sees it."""

    name: str
    region: str
    grpc_address: str
    http_address: str
    role: Role | None
    """None: not known."""
    connected: bool
    match_index: int
    """On the leader: last log index known to be on the member; 0 elsewhere."""
    standing: Standing | None
    """Voter, joining (a voter soon) or non-voter; None: not known."""
    raft_address: str


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """What a node knows of itself and its cluster."""

    name: str
    region: str
    role: Role | None
    term: int
    leader: str
    """Name of the leader; empty: none is known."""
    revision: int
    commit_index: int
    applied_index: int
    log_entries: int
    members: tuple[MemberDescription, ...]
    version: str
    durability: str
    """`disk` or `memory`."""
    requests: int
    branches_open: int
    waits_in_progress: int
    pid: int
    not_member: bool = False
    """Whether the leader told the node that it does not belong to the cluster, or not yet."""
    unneeded_elections: int = 0
    """Elections since its start that the node began although it could reach its leader."""


@dataclass(frozen=True, slots=True)
class DigestResult:
    """Digest of the state at a revision: equal revisions have equal digests."""

    revision: int
    digest: str


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """A snapshot that was written."""

    revision: int
    index: int
    size_bytes: int
