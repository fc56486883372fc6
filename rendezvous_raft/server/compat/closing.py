"""What both formats need to close a branch and to say what was wrong with it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rendezvous_raft.core.commands import Scope
from rendezvous_raft.core.results import CloseOutcome
from rendezvous_raft.node.calls import BranchClosing, Freshness
from rendezvous_raft.server.compat import bids, refusals
from rendezvous_raft.types import Consistency, RequestId, Revision

if TYPE_CHECKING:
    from rendezvous_raft.node.node import Node


async def close_one(
    node: Node, closing: BranchClosing, *, deadline_s: float
) -> tuple[CloseOutcome, Revision]:
    """Closes the one branch of `closing`, also one of the native API by the bid it is shown under.

    The second form is tried only after the state has said that no branch has the first.
    """
    (close,) = closing.closes
    result, at = await node.close_branches(closing, deadline_s=deadline_s)
    if result.outcomes[0] is CloseOutcome.BRANCH_UNKNOWN:
        native = bids.native_branch(close.branch_id, node)
        if native is not None:
            second = BranchClosing(
                (dataclasses.replace(close, branch_id=native),),
                command_id=bids.second_command_id(closing.command_id),
            )
            result, at = await node.close_branches(second, deadline_s=deadline_s)
    return result.outcomes[0], at


async def request_is_known(node: Node, rid: str, at: Revision, *, deadline_s: float) -> None:
    """Returns if the request was there at this revision, which this node has applied.

    Raises:
        InvalidArgument: it was not.
    """
    freshness = Freshness(Consistency.SESSION, at)
    with refusals.request_has_to_be_known():
        await node.recognise(RequestId(rid), Scope(), freshness=freshness, deadline_s=deadline_s)
