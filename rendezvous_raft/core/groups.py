"""Who of a group watches a branch: rendezvous hashing over the replicated members (semantics U5).

A branch belongs to the member with the highest hash of member and branch (Thaler and Ravishankar,
"Using name-based mappings to increase hit rates", 1998): a member that joins takes its share from
all the others evenly, what a member leaves goes to all of them, and nothing else moves. Nodes with
the same state agree without a word, for the hash is no property of the process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from rendezvous_raft.core.model import GroupKey, GroupMember, State
from rendezvous_raft.types import BranchId, MemberId, Tag

_WEIGHT_BYTES = 8


def members_of(state: State, key: GroupKey) -> Iterable[GroupMember]:
    """The members of a group, oldest first; none of a group that nobody has joined."""
    return state.groups.get(key, {}).values()


def owner_of(members: Iterable[GroupMember], branch_id: BranchId, tag: Tag) -> MemberId | None:
    """The member that watches a branch; None when no member's filter lets its tag pass.

    Only members whose filter lets the tag pass take part, or a branch could fall to one that
    drops it. Costs a hash per member.
    """
    branch = branch_id.encode()
    candidates = [
        (_weight(member.member_id, branch), member.member_id)
        for member in members
        if not member.tags or tag in member.tags
    ]
    return max(candidates)[1] if candidates else None


def _weight(member_id: MemberId, branch: bytes) -> bytes:
    # No id has a zero byte (semantics G1), so that no two pairs make one text.
    seed = member_id.encode() + b"\x00"
    return hashlib.blake2b(seed + branch, digest_size=_WEIGHT_BYTES).digest()
