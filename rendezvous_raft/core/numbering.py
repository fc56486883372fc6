"""Ids that the state numbers itself (semantics 5.4); reads the state, decides no change.

A request's number comes from a counter per prefix that is part of the state and never goes back.
A branch's number is how many branches its request has: a request loses none before it expires, and
takes none afterwards. What a client has chosen by itself is stepped over.
"""

from __future__ import annotations

import dataclasses

from rendezvous_raft.core.commands import NewBranch
from rendezvous_raft.core.model import State
from rendezvous_raft.types import BranchId, RequestId


def next_request_id(state: State, prefix: str) -> tuple[RequestId, int]:
    """An id that was never issued, and what the counter is after it."""
    number = state.numbers.get(prefix, 0)
    while True:
        request_id = RequestId(f"{prefix}_{number}")
        number += 1
        if request_id not in state.requests and request_id not in state.tombstones:
            return request_id, number


def name_branches(
    state: State, request_id: RequestId, prefix: str, branches: tuple[NewBranch, ...]
) -> tuple[NewBranch, ...]:
    """The branches with their full ids; an empty id gets the next free number."""
    request = state.requests.get(request_id)
    number = 0 if request is None else len(request.branches)
    chosen = dict.fromkeys(full_id(new.branch_id, request_id) for new in branches if new.branch_id)
    named: list[NewBranch] = []
    for new in branches:
        if new.branch_id:
            branch_id = full_id(new.branch_id, request_id)
        else:
            while True:
                branch_id = full_id(f"{prefix}_{number}", request_id)
                number += 1
                if branch_id not in state.branches and branch_id not in chosen:
                    break
        named.append(dataclasses.replace(new, branch_id=branch_id))
    return tuple(named)


def full_id(own: str, request_id: RequestId) -> BranchId:
    """The text format of a branch id: its own part, a colon, the request's id."""
    return BranchId(f"{own}:{request_id}")
