"""Ids in the text format of the originals: `<own part>:<request id>`, split at the first colon."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rendezvous_raft.limits import StateLimits
from rendezvous_raft.server.fields import check_id
from rendezvous_raft.server.ids import IDEMPOTENCY_KEY
from rendezvous_raft.types import BranchId, CommandId, RequestId

if TYPE_CHECKING:
    from rendezvous_raft.node.node import Node
    from rendezvous_raft.server.interceptors import Call

_NUMBER_DIGITS = len(str(StateLimits().branches_per_request_max))


def check_request_id(rid: str, prefix: str) -> RequestId:
    """The request of a write; empty: the state numbers it.

    Raises:
        InvalidArgument: it is no id, or too long for the ids of its branches to be one.
    """
    if rid:
        check_id(rid, "rid")
        check_id(f"{prefix}_{'9' * _NUMBER_DIGITS}:{rid}", "rid with the bid before it")
    return RequestId(rid)


def own_part(bid: str, rid: str) -> BranchId:
    """What a client chose as a branch's id, without what follows the first colon.

    Raises:
        InvalidArgument: it is no id, or too long together with the request's.
    """
    if not bid:
        return BranchId("")  # the state numbers it
    own = check_id(bid.partition(":")[0], "bid")
    if rid:
        check_id(f"{own}:{rid}", "bid with the rid behind it")
    return BranchId(own)


def full_bid(bid: str, rid: str) -> BranchId:
    """A branch that a client names beside its request, with or without the request's part."""
    return BranchId(bid if ":" in bid or not bid else f"{bid}:{rid}")


def shown_bid(branch_id: BranchId, request_id: RequestId) -> str:
    """A branch as clients of the originals see it; those of the native API get the second part."""
    if branch_id.endswith(f":{request_id}"):
        return branch_id
    return f"{branch_id}:{request_id}"


def native_branch(bid: str, node: Node) -> BranchId | None:
    """The branch of the native API that is shown under this bid, as far as the node knows."""
    own, colon, rid = bid.partition(":")
    while colon:
        if node.request_of(BranchId(own)) == rid:
            return BranchId(own)
        more, colon, rid = rid.partition(":")
        own = f"{own}:{more}"
    return None


def command_id_of(call: Call, place: str) -> CommandId | None:
    """The same for every attempt of a call that has an idempotency key; else None.

    Raises:
        InvalidArgument: the key is no id.
    """
    key = call.idempotency_key()
    if key is None:
        return None
    check_id(key, IDEMPOTENCY_KEY)
    return CommandId(hashlib.sha256(f"{key} compat {place}".encode()).digest()[:12])
