"""What must hold in every state, and between a state and the one before it.

Used by the tests, the simulator and `--paranoid` nodes. Each function returns sentences about
what is broken; an empty list means that all is well. They cost time in proportion to the state.
"""

from __future__ import annotations

from rendezvous_raft.core.model import State
from rendezvous_raft.types import ALL_REGIONS, BranchId, BranchKind, Region, RequestId, Service


def check_basic(state: State) -> list[str]:
    """What must hold in a single state."""
    return [*_check_requests(state), *_check_indexes(state), *_check_lifetime(state)]


def _check_requests(state: State) -> list[str]:
    broken: list[str] = []
    seen: dict[BranchId, RequestId] = {}
    for request_id, request in state.requests.items():
        if (request_id in state.open_order) == (request_id in state.settled_order):
            broken.append(f"{request_id} is not in exactly one order")
        if bool(request.open_branches) != (request_id in state.open_order):
            broken.append(f"{request_id} is in the order of the other state")
        if request.last_activity_ms > state.time_ms:
            broken.append(f"{request_id} was active in the future")
        still_open = [b.branch_id for b in request.branches if b.open_mask]
        if still_open != list(request.open_branches):
            broken.append(f"{request_id}: open branches differ from the masks")
        for branch in request.branches:
            seen[branch.branch_id] = request_id
            if branch.request_id != request_id:
                broken.append(f"{branch.branch_id} is in the wrong request")
            if branch.open_mask >> branch.slots:
                broken.append(f"{branch.branch_id} is open in a region that it does not have")
            if list(branch.regions) != sorted(dict.fromkeys(branch.regions)):
                broken.append(f"{branch.branch_id}: regions are not a sorted set")
    if dict(sorted(seen.items())) != {
        branch_id: branch.request_id for branch_id, branch in sorted(state.branches.items())
    }:
        broken.append("the index of branches differs from the requests")
    return broken


def _check_indexes(state: State) -> list[str]:
    broken: list[str] = []
    queues: dict[tuple[Service, Region], list[BranchId]] = {}
    counts: dict[Region, int] = {}
    open_branches = [b for b in state.branches.values() if b.open_mask]
    for branch in sorted(open_branches, key=lambda branch: branch.sequence):
        for region in branch.open_regions() or (ALL_REGIONS,):
            counts[region] = counts.get(region, 0) + 1
            if branch.monitored and branch.kind is not BranchKind.REGIONLESS:
                queues.setdefault((branch.service, region), []).append(branch.branch_id)
    if queues != {key: list(queue) for key, queue in state.queues.items()}:
        broken.append("the queues differ from the open branches")
    if counts != state.open_by_region:
        broken.append("the counts per region differ from the open branches")
    if state.branches_open != len(open_branches):
        broken.append("the count of open branches is wrong")
    by_request = [lease_id for leases in state.leases_by_request.values() for lease_id in leases]
    if sorted(by_request) != sorted(state.leases):
        broken.append("the indexes of leases differ")
    by_group = {member_id: key for key, group in state.groups.items() for member_id in group}
    if sorted(by_group.items()) != sorted((m.member_id, m.key) for m in state.members.values()):
        broken.append("the indexes of group members differ")
    if not all(state.groups.values()):
        broken.append("a group without members is kept")
    return broken


def _check_lifetime(state: State) -> list[str]:
    broken: list[str] = []
    for order in (state.settled_order, state.open_order):
        stamps = [
            state.requests[request_id].last_activity_ms
            for request_id in order
            if request_id in state.requests
        ]
        if len(stamps) != len(order):
            broken.append("an order names a request that is not there")
        if stamps != sorted(stamps):
            broken.append("an order is not by activity")
    broken += [
        f"{key} is both alive and expired" for key in state.tombstones if key in state.requests
    ]
    of_stones = [b for stone in state.tombstones.values() for b in stone.branch_ids]
    if sorted(of_stones) != sorted(state.expired_branches):
        broken.append("the index of expired branches differs from the tombstones")
    return broken


class History:
    """Remembers what `check_delta` compares a later state with."""

    def __init__(self, state: State) -> None:
        self.revision = state.revision
        self.time_ms = state.time_ms
        self.version = state.version
        self.masks = {branch_id: b.open_mask for branch_id, b in state.branches.items()}
        self.numbers = dict(state.numbers)
        self.expired = dict.fromkeys(state.tombstones)


def check_delta(before: History, state: State) -> list[str]:
    """What must hold between an earlier state and a later one of the same machine."""
    broken: list[str] = []
    if state.revision < before.revision:
        broken.append("the revision went back")
    if state.time_ms < before.time_ms:
        broken.append("cluster time went back")
    if state.version < before.version:
        broken.append("the version went back")
    if any(state.numbers.get(prefix, 0) < number for prefix, number in before.numbers.items()):
        broken.append("a counter of request ids went back")
    for branch_id, mask in before.masks.items():
        branch = state.branches.get(branch_id)
        if branch is not None and branch.open_mask & ~mask:
            broken.append(f"{branch_id} was opened again")
    broken += [f"{key} came back" for key in before.expired if key in state.requests]
    return broken
