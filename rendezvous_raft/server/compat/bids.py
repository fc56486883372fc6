"""Ids in the text format of the originals: `<own part>:<request id>`, split at the first colon."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from rendezvous_raft.config import COMPAT_NAME_LENGTH_MAX
from rendezvous_raft.errors import InvalidArgument
from rendezvous_raft.limits import ID_ALPHABET, ID_BYTES_MAX, StateLimits
from rendezvous_raft.server.fields import check_id
from rendezvous_raft.server.ids import IDEMPOTENCY_KEY
from rendezvous_raft.types import BranchId, CommandId, RequestId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rendezvous_raft.node.node import Node
    from rendezvous_raft.server.interceptors import Call

BID_BYTES_MAX = 2 * ID_BYTES_MAX + 1
"""Bytes of a bid that names a branch: of the native API, both ids and the colon between them."""
_NUMBER_DIGITS = len(str(StateLimits().branches_per_request_max))
_REQUEST_NUMBER_DIGITS = (
    ID_BYTES_MAX - 2 * (COMPAT_NAME_LENGTH_MAX + len("rv__")) - len(":") - _NUMBER_DIGITS
)
"""What an id `rv_<name>_<k>:rv_<name>_<n>` leaves for n when the name is as long as it may be."""
_BID = re.compile(f"{ID_ALPHABET}{{1,{BID_BYTES_MAX}}}").fullmatch


def check_request_id(rid: str, prefix: str) -> RequestId:
    """The request of a write; empty: the state numbers it.

    Raises:
        InvalidArgument: it is no id, or too long for the ids of its branches to be one.
    """
    if rid:
        check_id(rid, "rid")
        check_id(f"{prefix}_{'9' * _NUMBER_DIGITS}:{rid}", "rid with the bid before it")
    return RequestId(rid)


def own_part(bid: str, rid: str, prefix: str) -> BranchId:
    """What a client chose as a branch's id, without what follows the first colon.

    Raises:
        InvalidArgument: it is no id, or too long together with the request's; where the state
            numbers the request, with the longest id that it may get.
    """
    if not bid:
        return BranchId("")  # the state numbers it
    own = check_id(bid.partition(":")[0], "bid")
    rid = rid or f"{prefix}_{'9' * _REQUEST_NUMBER_DIGITS}"
    check_id(f"{own}:{rid}", "bid with the rid behind it")
    return BranchId(own)


def check_bid(bid: str, field: str) -> str:
    """A bid that names a branch, of the originals or of the native API.

    What stands in a proposal, or is taken apart on the loop, has to be bounded before.

    Raises:
        InvalidArgument: it is empty, too long, or has a character that no id has.
    """
    if _BID(bid):
        return bid
    if not bid:
        raise InvalidArgument.for_field(field, "must not be empty")
    size = len(bid.encode("utf-8", "surrogatepass"))
    if size > BID_BYTES_MAX:
        error = InvalidArgument.for_field(
            field, f"at most {BID_BYTES_MAX} bytes are allowed, not {size}"
        )
        error.details["limit"] = str(BID_BYTES_MAX)
        raise error
    raise InvalidArgument.for_field(field, f"only {ID_ALPHABET} are allowed")


def full_bid(bid: str, rid: str, field: str) -> BranchId:
    """A branch that a client names beside its request, with or without the request's part.

    Raises:
        InvalidArgument: as `check_bid`; the request's part counts.
    """
    return BranchId(check_bid(bid if ":" in bid or not bid else f"{bid}:{rid}", field))


def shown_bid(branch_id: BranchId, request_id: RequestId) -> str:
    """A branch as clients of the originals see it; those of the native API get the second part."""
    if branch_id.endswith(f":{request_id}"):
        return branch_id
    return f"{branch_id}:{request_id}"


def native_ids(bid: str) -> Iterator[tuple[BranchId, RequestId]]:
    """What a bid that was checked may stand for in the native API: a pair per place of the colon.

    Parts that are too long to be ids are left out.
    """
    for at, character in enumerate(bid):
        if character == ":" and at <= ID_BYTES_MAX and len(bid) - at - 1 <= ID_BYTES_MAX:
            yield BranchId(bid[:at]), RequestId(bid[at + 1 :])


def native_branch(bid: str, node: Node) -> BranchId | None:
    """The branch of the native API that is shown under this bid, as far as the node knows."""
    for branch_id, request_id in native_ids(bid):
        if node.request_of(branch_id) == request_id:
            return branch_id
    return None


def is_known(bid: str, node: Node) -> bool:
    """Whether the node knows a branch that has this bid as its id, or is shown under it."""
    return node.request_of(BranchId(bid)) is not None or native_branch(bid, node) is not None


def second_command_id(key: CommandId | None) -> CommandId | None:
    """Of what a call proposes after the state did not know a bid as an id.

    It is another command than the first one, and the same in every attempt of the call.
    """
    return None if key is None else CommandId(key + b"n")


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
