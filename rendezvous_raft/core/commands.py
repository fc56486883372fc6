"""What may enter the log.

Every command carries a `command_id`, chosen once before the command is first proposed. A retry of
the proposal carries the same one and is answered with the first result (semantics 5.3). Times are
inputs: `at_ms` is the proposer's wall clock in milliseconds since the epoch, shown to people and
deciding nothing; only `Pulse` moves the time that decides (semantics L1).

Commands are built by the gates (`server/convert.py`, `node/`), which check sizes and alphabets.
The machine trusts those and rejects only what depends on the state.
"""

from __future__ import annotations

from typing import TypeAlias

from rendezvous_raft.types import (
    BranchId,
    BranchKind,
    CommandId,
    LeaseId,
    MemberId,
    Region,
    RequestId,
    Service,
    Tag,
    Zone,
)
from rendezvous_raft.values import value

GROUPS_VERSION = 2
"""The version that brought the commands of subscription groups."""


@value
class Scope:
    """Which branches of a request a wait or check looks at (semantics S1 to S5).

    `zone=None` means that none was given; `""` is the root zone, given.
    """

    services: tuple[Service, ...] = ()
    region: Region = Region("")
    tag: Tag = Tag("")
    zone: Zone | None = None
    waiter_service: Service = Service("")
    wait_dependencies: bool = False


@value
class NewBranch:
    """A branch to register. `regions` is sorted, without duplicates, and empty unless REGIONAL."""

    branch_id: BranchId
    service: Service
    tag: Tag = Tag("")
    kind: BranchKind = BranchKind.GLOBAL
    regions: tuple[Region, ...] = ()
    zone: Zone = Zone("")
    parent_branch_id: BranchId = BranchId("")
    monitored: bool = True
    locator: bytes = b""


@value
class Close:
    """Closes `region` of a branch, a global branch (`region=""`), or all its regions."""

    branch_id: BranchId
    region: Region = Region("")
    all_regions: bool = False


@value
class RegisterRequest:
    """W1."""

    command_id: CommandId
    request_id: RequestId
    at_ms: int


@value
class RegisterBranches:
    """W2 and W3: one or more branches of one request, all or nothing."""

    command_id: CommandId
    request_id: RequestId
    branches: tuple[NewBranch, ...]
    at_ms: int


@value
class RegisterNumbered:
    """Registers under ids that the state numbers itself (semantics 5.4).

    An empty `request_id` becomes `<prefix>_<n>`, with n counted per prefix, for ever. The
    `branch_id` of a branch is the part before `:<request id>`; an empty one becomes `<prefix>_<k>`,
    with k counted in the request. Without branches it registers the request alone.
    """

    command_id: CommandId
    request_id: RequestId
    prefix: str
    branches: tuple[NewBranch, ...]
    at_ms: int


@value
class CloseBranches:
    """W4 and W5: closes with a result each; none fails the others."""

    command_id: CommandId
    closes: tuple[Close, ...]
    at_ms: int


@value
class BeginWait:
    """R7: a blocked wait that rule S5 needs everybody to know. Repeating it renews the lease."""

    command_id: CommandId
    lease_id: LeaseId
    request_id: RequestId
    node: str
    scope: Scope
    ttl_ms: int
    """Cluster time after which the lease ends unless it is renewed."""


@value
class EndWait:
    """R7: the wait has ended, however it ended."""

    command_id: CommandId
    lease_id: LeaseId


@value
class JoinGroup:
    """U5: a subscription takes part in its group. Repeating it renews the membership."""

    command_id: CommandId
    member_id: MemberId
    service: Service
    region: Region
    group: str
    """Not empty."""
    tags: tuple[Tag, ...]
    """The subscription's filter; empty: every tag."""
    node: str
    """That serves the subscription, and renews the membership."""
    ttl_ms: int
    """Cluster time after which the membership ends unless it is renewed."""


@value
class RenewMembers:
    """U5: these memberships last this much longer from now. One that has ended stays ended."""

    command_id: CommandId
    member_ids: tuple[MemberId, ...]
    ttl_ms: int


@value
class LeaveGroups:
    """U5: these subscriptions have ended, however they ended."""

    command_id: CommandId
    member_ids: tuple[MemberId, ...]


@value
class Pulse:
    """L1: cluster time advances by the leader's monotonic time since its last pulse, capped."""

    command_id: CommandId
    elapsed_ms: int


@value
class ExpireRequests:
    """L2: drops what has been inactive for longer than the leader's configuration allows.

    Times are durations up to now in cluster time, so that the machine needs no configuration.
    """

    command_id: CommandId
    settled_ttl_ms: int
    open_ttl_ms: int
    tombstone_ttl_ms: int
    keep: tuple[RequestId, ...]
    """Requests with a live waiter somewhere; they stay."""
    requests_max: int
    """Bound of the requests dropped by this command."""


@value
class ActivateVersion:
    """Commands up to this version may be proposed from now on."""

    command_id: CommandId
    version: int


@value
class Barrier:
    """Changes nothing. Its application shows that everything before it is applied too."""

    command_id: CommandId


Command: TypeAlias = (
    RegisterRequest
    | RegisterBranches
    | RegisterNumbered
    | CloseBranches
    | BeginWait
    | EndWait
    | JoinGroup
    | RenewMembers
    | LeaveGroups
    | Pulse
    | ExpireRequests
    | ActivateVersion
    | Barrier
)
