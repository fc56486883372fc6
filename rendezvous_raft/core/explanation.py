"""Why a wait is blocked: what its scope makes of each branch, and by which rule (S1 to S5).

For people. What decides is `queries.open_in_scope`, which runs for every wait and stops at the
first branch that holds it; a property test holds the two together: a branch has the verdict HOLDS
exactly when it is among those.
"""

from __future__ import annotations

from collections.abc import Iterable

from rendezvous_raft.core import queries
from rendezvous_raft.core.commands import Scope
from rendezvous_raft.core.model import Branch, Request, State
from rendezvous_raft.types import Service, Verdict, Zone


def verdicts(
    state: State, request: Request, scope: Scope, branches: Iterable[Branch]
) -> list[Verdict]:
    """The verdict on each of these branches of the request, in their order.

    Where several rules leave a branch out, the first one in the order of the rules is named.
    """
    services = queries.scope_services(request, scope)
    zones_waiting, services_waiting = queries.mutual_waits_of(state, request, scope)
    return [
        _verdict(branch, scope, services, zones_waiting, services_waiting) for branch in branches
    ]


def _verdict(
    branch: Branch,
    scope: Scope,
    services: dict[Service, None],
    zones_waiting: dict[Zone, None],
    services_waiting: dict[Service, None],
) -> Verdict:
    if not branch.open_mask:
        return Verdict.CLOSED
    if services and branch.service not in services:
        return Verdict.OTHER_SERVICE
    if scope.tag and branch.tag != scope.tag:
        return Verdict.OTHER_TAG
    if not branch.is_open_in(scope.region):
        return Verdict.OTHER_REGION
    if scope.zone is not None and branch.zone == scope.zone:
        return Verdict.OWN_ZONE
    if branch.zone in zones_waiting:
        return Verdict.ZONE_WAITS
    if branch.service in services_waiting:
        return Verdict.SERVICE_WAITS
    return Verdict.HOLDS
