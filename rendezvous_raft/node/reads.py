"""Reads of the local replica, each after it is as fresh as was asked for (semantics G3 to G5)."""

from __future__ import annotations

from rendezvous_raft import errors
from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import Scope
from rendezvous_raft.core.model import Request, State
from rendezvous_raft.node.calls import (
    CheckAnswer,
    DependenciesAnswer,
    Freshness,
    RecognitionAnswer,
    RegionsAnswer,
    RequestPage,
    RequestSummary,
)
from rendezvous_raft.node.ports import Replicator
from rendezvous_raft.types import Consistency, RequestId, Service, Status, Zone


async def reach(replicator: Replicator, freshness: Freshness, deadline_s: float) -> None:
    """Blocks until the local state is as fresh as asked for. Raises rather than answer older."""
    if freshness.consistency is Consistency.LINEARIZABLE:
        await replicator.read_barrier(deadline_s=deadline_s)
    if freshness.min_revision and freshness.consistency is not Consistency.LOCAL:
        await replicator.wait_applied(freshness.min_revision, deadline_s=deadline_s)


def find_request(state: State, request_id: RequestId) -> Request:
    """The request. Raises `RequestNotFound` or `RequestExpired` (semantics G5)."""
    request = state.requests.get(request_id)
    if request is None:
        if request_id in state.tombstones:
            raise errors.RequestExpired(
                f"request {request_id} has expired", revision=state.revision
            )
        raise errors.RequestNotFound(f"no request has the id {request_id}", revision=state.revision)
    return request


class Reads:
    """The reading use-cases but for waits and descriptions."""

    def __init__(self, replicator: Replicator) -> None:
        self._replicator = replicator

    async def check(
        self,
        request_id: RequestId,
        scope: Scope,
        *,
        detailed: bool,
        freshness: Freshness,
        deadline_s: float,
    ) -> CheckAnswer:
        """C1."""
        await reach(self._replicator, freshness, deadline_s)
        state = self._replicator.state.state
        request = find_request(state, request_id)
        services = queries.scope_services(request, scope)
        return CheckAnswer(
            status=queries.status(state, request, scope),
            tagged=queries.status_by_tag(request, scope) if detailed else None,
            regions=queries.status_by_region(request, services) if detailed else None,
            revision=state.revision,
        )

    async def regional_status(
        self, request_id: RequestId, scope: Scope, *, freshness: Freshness, deadline_s: float
    ) -> CheckAnswer:
        """C1 as clients of the original `main` know it (`queries.regional_status`), in detail."""
        await reach(self._replicator, freshness, deadline_s)
        state = self._replicator.state.state
        request = find_request(state, request_id)
        services = queries.scope_services(request, scope)
        return CheckAnswer(
            status=queries.regional_status(state, request, scope),
            tagged=queries.status_by_tag(request, scope),
            regions=queries.status_by_region(request, services),
            revision=state.revision,
        )

    async def recognise(
        self, request_id: RequestId, scope: Scope, *, freshness: Freshness, deadline_s: float
    ) -> RecognitionAnswer:
        """What of the scope the request ever used."""
        await reach(self._replicator, freshness, deadline_s)
        state = self._replicator.state.state
        found = queries.recognise(find_request(state, request_id), scope)
        return RecognitionAnswer(found.place, found.tag, found.waiter_service, state.revision)

    async def check_by_regions(
        self,
        request_id: RequestId,
        services: tuple[Service, ...],
        *,
        freshness: Freshness,
        deadline_s: float,
    ) -> RegionsAnswer:
        """C2."""
        await reach(self._replicator, freshness, deadline_s)
        state = self._replicator.state.state
        request = find_request(state, request_id)
        statuses = queries.status_by_region(request, dict.fromkeys(services))
        return RegionsAnswer(statuses, state.revision)

    async def fetch_dependencies(
        self,
        request_id: RequestId,
        service: Service,
        zone: Zone | None,
        *,
        freshness: Freshness,
        deadline_s: float,
    ) -> DependenciesAnswer:
        """D1. Raises `ServiceNotFound` for a service that the request never used."""
        await reach(self._replicator, freshness, deadline_s)
        state = self._replicator.state.state
        request = find_request(state, request_id)
        if service and not queries.uses_service(request, service):
            raise errors.ServiceNotFound(
                f"request {request_id} never used the service {service}", revision=state.revision
            )
        direct, indirect = queries.fetch_dependencies(request, service, zone)
        return DependenciesAnswer(direct, indirect, state.revision)

    async def list_requests(
        self,
        *,
        status: Status | None,
        service: Service,
        after: int,
        page_size: int,
        freshness: Freshness,
        deadline_s: float,
    ) -> RequestPage:
        """Q1, a page."""
        await reach(self._replicator, freshness, deadline_s)
        state = self._replicator.state.state
        page, next_after = queries.list_requests(
            state, status, service, after=after, page_size=page_size
        )
        summaries = tuple(_summarise(request) for request in page)
        return RequestPage(summaries, next_after, state.revision)


def _summarise(request: Request) -> RequestSummary:
    services = dict.fromkeys(branch.service for branch in request.branches)
    return RequestSummary(
        request_id=request.request_id,
        status=queries.request_status(request),
        branches=len(request.branches),
        branches_open=len(request.open_branches),
        services=tuple(services),
        registered_at_ms=request.at_ms,
    )
