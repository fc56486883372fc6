"""Read-only questions to a state: the predicate of waits and checks, and what people want to see.

Every function looks at one state within one turn and hands out values or the records themselves;
callers read the records at once and never keep or change them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rendezvous_raft.core.commands import Scope
from rendezvous_raft.core.events import ExpiredBranch
from rendezvous_raft.core.model import Branch, Request, State, WaitLease
from rendezvous_raft.types import (
    ALL_REGIONS,
    BranchId,
    BranchKind,
    Region,
    RequestId,
    Service,
    Status,
    Tag,
    Zone,
)

ANY_SERVICE = Service("")


def open_in_scope(
    state: State, request: Request, scope: Scope, *, mutual_waits: bool = True
) -> Iterator[Branch]:
    """The branches that keep a wait with this scope blocked, in registration order (S1 to S5).

    `mutual_waits=False` leaves S5 out, as a check does (semantics 5.5).
    """
    if request.open_branches:
        holds = _holding(state, request, scope, mutual_waits=mutual_waits)
        yield from filter(holds, request.open_branches.values())


def is_held_by(state: State, request: Request, scope: Scope, branch_id: BranchId) -> bool:
    """Whether one branch keeps a wait with this scope blocked; looks at no other."""
    branch = request.open_branches.get(branch_id)
    return branch is not None and _holding(state, request, scope, mutual_waits=True)(branch)


def _holding(
    state: State, request: Request, scope: Scope, *, mutual_waits: bool
) -> Callable[[Branch], bool]:
    """Says of an open branch whether it keeps a wait with this scope blocked (S1 to S5)."""
    services = scope_services(request, scope)
    zones_waiting, services_waiting = (
        mutual_waits_of(state, request, scope) if mutual_waits else ({}, {})
    )

    def holds(branch: Branch) -> bool:
        return (
            (not services or branch.service in services)
            and (not scope.tag or branch.tag == scope.tag)
            and branch.is_open_in(scope.region)
            and (scope.zone is None or branch.zone != scope.zone)
            and branch.zone not in zones_waiting
            and branch.service not in services_waiting
        )

    return holds


def is_blocked(state: State, request: Request, scope: Scope) -> bool:
    """Whether a wait with this scope has to wait."""
    return next(open_in_scope(state, request, scope), None) is not None


def scope_services(request: Request, scope: Scope) -> dict[Service, None]:
    """S1: the services looked at; empty means all of them."""
    services = dict.fromkeys(scope.services)
    if services and scope.wait_dependencies:
        services.update(dict.fromkeys(dependencies(request, scope.services)))
    return services


def dependencies(request: Request, services: Iterable[Service]) -> tuple[Service, ...]:
    """deps(S) of semantics 3.3: all transitive descendants, each once, in order of discovery."""
    found: dict[Service, None] = {}
    pending = list(services)
    while pending:
        for child in request.dependants.get(pending.pop(0), ()):
            if child not in found:
                found[child] = None
                pending.append(child)
    return tuple(found)


def mutual_waits_of(
    state: State, request: Request, scope: Scope
) -> tuple[dict[Zone, None], dict[Service, None]]:
    """S5: zones and services whose own waits are blocked and must not block this one.

    None for a wait that names services.
    """
    zones: dict[Zone, None] = {}
    services: dict[Service, None] = {}
    if scope.services:
        return zones, services
    for lease in state.leases_by_request.get(request.request_id, {}).values():
        other = lease.scope
        masks_zone = (
            scope.zone is not None
            and other.zone is not None
            and not other.services
            and other.zone > scope.zone
        )
        masks_service = (
            bool(scope.waiter_service)
            and bool(other.waiter_service)
            and scope.waiter_service in scope_services(request, other)
        )
        if (masks_zone or masks_service) and _still_blocked(state, request, lease):
            if masks_zone and other.zone is not None:
                zones[other.zone] = None
            if masks_service:
                services[other.waiter_service] = None
    return zones, services


def _still_blocked(state: State, request: Request, lease: WaitLease) -> bool:
    """R7: a lease masks only while what it waits for is open; one that outlives its wait does not.

    S5 is left out here: two leases that mask each other must not depend on each other's answer.
    """
    blocking = open_in_scope(state, request, lease.scope, mutual_waits=False)
    return next(blocking, None) is not None


def uses_mutual_waits(scope: Scope) -> bool:
    """Whether other nodes must know of a blocked wait with this scope (R7)."""
    return (not scope.services and scope.zone is not None) or bool(scope.waiter_service)


def is_known(request: Request, scope: Scope) -> bool:
    """R4: whether the request ever used every service, the region and the tag of the scope."""
    missing_services = dict.fromkeys(scope.services)
    missing_region, missing_tag = bool(scope.region), bool(scope.tag)
    for branch in request.branches:
        missing_services.pop(branch.service, None)
        if missing_region and (scope.region in branch.regions):
            missing_region = False
        if (
            missing_tag
            and branch.tag == scope.tag
            and (not scope.services or branch.service in scope.services)
        ):
            missing_tag = False
        if not (missing_services or missing_region or missing_tag):
            return True
    return not (missing_services or missing_region or missing_tag)


def status(state: State, request: Request, scope: Scope) -> Status:
    """C1: OPEN, CLOSED, or UNKNOWN for a scope that names what the request never used."""
    if next(open_in_scope(state, request, scope, mutual_waits=False), None) is not None:
        return Status.OPEN
    return Status.CLOSED if is_known(request, scope) else Status.UNKNOWN


@dataclass(frozen=True, slots=True)
class Recognition:
    """What of a scope the request ever used; what the scope does not name counts as used."""

    place: bool
    """Each service in the region, or the region alone. A global branch is in every region."""
    tag: bool
    waiter_service: bool


def recognise(request: Request, scope: Scope) -> Recognition:
    """As `is_known`, but each part by itself, and the services in the region."""
    region = scope.region
    places = dict.fromkeys(scope.services or ((ANY_SERVICE,) if region else ()))
    tag, waiter_service = not scope.tag, not scope.waiter_service
    for branch in request.branches:
        if not region or branch.kind is BranchKind.GLOBAL or region in branch.regions:
            places.pop(branch.service, None)
            places.pop(ANY_SERVICE, None)
        if branch.tag == scope.tag and (not scope.services or branch.service in scope.services):
            tag = True
        if branch.service == scope.waiter_service:
            waiter_service = True
    return Recognition(not places, tag, waiter_service)


def regional_status(state: State, request: Request, scope: Scope) -> Status:
    """The status without global branches where the scope names service and region.

    The clients of the original `main` expect that; a wait with this scope blocks all the same.
    """
    regional_only = bool(scope.services and scope.region)
    for branch in open_in_scope(state, request, scope, mutual_waits=False):
        if not (regional_only and branch.kind is BranchKind.GLOBAL):
            return Status.OPEN
    return Status.CLOSED if recognise(request, scope).place else Status.UNKNOWN


def status_by_tag(request: Request, scope: Scope) -> dict[Tag, Status]:
    """C1, details: every tag used by the services looked at, in the region; zones do not count."""
    services = scope_services(request, scope)
    statuses: dict[Tag, Status] = {}
    for branch in request.branches:
        if branch.tag and (not services or branch.service in services):
            if branch.is_open_in(scope.region):
                statuses[branch.tag] = Status.OPEN
            else:
                statuses.setdefault(branch.tag, Status.CLOSED)
    return statuses


def status_by_region(request: Request, services: dict[Service, None]) -> dict[Region, Status]:
    """C2: every region ever used by these services (all, if empty).

    An open global branch is open in each of them.
    """
    statuses: dict[Region, Status] = {}
    open_everywhere = False
    for branch in request.branches:
        if services and branch.service not in services:
            continue
        if branch.kind is BranchKind.GLOBAL:
            open_everywhere = open_everywhere or bool(branch.open_mask)
        for region in branch.regions:
            if branch.is_open_in(region):
                statuses[region] = Status.OPEN
            else:
                statuses.setdefault(region, Status.CLOSED)
    return dict.fromkeys(statuses, Status.OPEN) if open_everywhere else statuses


def uses_service(request: Request, service: Service) -> bool:
    """Whether the request ever used the service."""
    return any(branch.service == service for branch in request.branches)


def open_services(request: Request, zone: Zone | None) -> dict[Service, None]:
    """Services with an open branch; branches of `zone` do not count."""
    return dict.fromkeys(
        branch.service
        for branch in request.open_branches.values()
        if zone is None or branch.zone != zone
    )


def fetch_dependencies(
    request: Request, service: Service, zone: Zone | None
) -> tuple[tuple[Service, ...], tuple[Service, ...]]:
    """D1: direct and other transitive dependants with open branches.

    An empty service asks for every service with an open branch.
    """
    still_open = open_services(request, zone)
    if not service:
        return tuple(still_open), ()
    direct = request.dependants.get(service, {})
    wanted = [s for s in dependencies(request, (service,)) if s in still_open and s != service]
    return (
        tuple(s for s in wanted if s in direct),
        tuple(s for s in wanted if s not in direct),
    )


def branches_for_subscriber(
    state: State, service: Service, region: Region, after: int
) -> list[Branch]:
    """U1: monitored branches open in the region or global, oldest first.

    Those registered at or before revision `after` are left out.
    """
    regional = state.queues.get((service, region), {})
    everywhere = state.queues.get((service, ALL_REGIONS), {})
    if everywhere and regional:
        branches = sorted(
            (*regional.values(), *everywhere.values()), key=lambda branch: branch.sequence
        )
    else:
        branches = list((regional or everywhere).values())
    return [branch for branch in branches if branch.revision > after]


def list_requests(
    state: State, wanted: Status | None, service: Service, *, after: int, page_size: int
) -> tuple[list[Request], int | None]:
    """Q1: a page of requests in registration order, and where the next one begins.

    Costs a scan of all requests up to the end of the page: for people, not for programs. A page
    has room for one request at least, so that page after page gets to the end.
    """
    room = max(1, page_size)
    page: list[Request] = []
    for request in state.requests.values():
        if request.sequence <= after:
            continue
        if wanted is not None and request_status(request) is not wanted:
            continue
        if service and not uses_service(request, service):
            continue
        if len(page) == room:
            return page, page[-1].sequence
        page.append(request)
    return page, None


def request_status(request: Request) -> Status:
    """OPEN, or CLOSED when settled."""
    return Status.OPEN if request.open_branches else Status.CLOSED


def branch_status(branch: Branch, slot: int) -> Status:
    """Status of one region (or of the whole, for a global or regionless branch)."""
    return Status.OPEN if branch.open_mask >> slot & 1 else Status.CLOSED


def missing_branches(
    state: State, request_id: RequestId, branch_ids: Iterable[BranchId]
) -> list[BranchId]:
    """R1: the required branches that are not registered in this request yet."""
    missing = []
    for branch_id in branch_ids:
        branch = state.branches.get(branch_id)
        if branch is None or branch.request_id != request_id:
            missing.append(branch_id)
    return missing


def inactive_requests(
    state: State,
    order: dict[RequestId, None],
    before_ms: int,
    keep: dict[RequestId, None],
    room: int,
) -> list[Request]:
    """L2: requests of an order inactive since `before_ms` or longer, oldest first, at most `room`.

    Those in `keep` have a live waiter and stay.
    """
    expired: list[Request] = []
    for request_id in order:
        if len(expired) >= room:
            break
        request = state.requests[request_id]
        if request.last_activity_ms > before_ms:
            break
        if request_id not in keep:
            expired.append(request)
    return expired


def lost_branches(request: Request) -> tuple[ExpiredBranch, ...]:
    """The monitored branches of a request that are still open: what subscribers lose with it."""
    return tuple(
        ExpiredBranch(
            branch.branch_id,
            branch.service,
            branch.tag,
            branch.open_regions(),
            branch.kind is BranchKind.GLOBAL,
        )
        for branch in request.open_branches.values()
        if branch.monitored and branch.kind is not BranchKind.REGIONLESS
    )
