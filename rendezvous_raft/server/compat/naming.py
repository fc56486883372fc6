"""Finds branches by the bids that clients give: ids, or what those of the native API are shown as.

A bid is first taken for an id. Only then the possible places of the native colon are tried.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from rendezvous_raft import errors
from rendezvous_raft.server.compat import bids

if TYPE_CHECKING:
    from rendezvous_raft.core.results import BranchesRegistered, RequestRegistered
    from rendezvous_raft.node.calls import NumberedRegistration
    from rendezvous_raft.node.node import Node
    from rendezvous_raft.types import BranchId


async def register_below_parent(
    node: Node, registration: NumberedRegistration, *, deadline_s: float
) -> RequestRegistered | BranchesRegistered:
    """Registers branches that all have one parent, which may be a branch of the native API.

    Raises:
        BranchNotFound: there is no such parent.
    """
    try:
        result, _ = await node.register_numbered(registration, deadline_s=deadline_s)
    except errors.BranchNotFound:
        native = bids.native_branch(registration.branches[0].parent_branch_id, node)
        if native is None:
            raise
        branches = [
            dataclasses.replace(new, parent_branch_id=native) for new in registration.branches
        ]
        second = dataclasses.replace(
            registration,
            branches=tuple(branches),
            command_id=bids.second_command_id(registration.command_id),
        )
        result, _ = await node.register_numbered(second, deadline_s=deadline_s)
    return result


async def await_known(node: Node, bid: BranchId, *, deadline_s: float) -> bool:
    """Blocks until the branch with this bid is registered here; false at the deadline.

    Which branch of the native API the bid will stand for is not known before: all are awaited.
    """
    if bids.is_known(bid, node):
        return True
    candidates = dict.fromkeys((bid, *(branch_id for branch_id, _ in bids.native_ids(bid))))
    waits = [
        asyncio.ensure_future(node.await_registered((candidate,), deadline_s=deadline_s))
        for candidate in candidates
    ]
    try:
        for registered in asyncio.as_completed(waits):
            # A branch of another request may have the native id; that is not the one meant.
            if await registered and bids.is_known(bid, node):
                return True
        return False
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
