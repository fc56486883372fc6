"""Ids that the front end chooses for a caller who left them empty (semantics G2).

They are chosen before the command is proposed. With an idempotency key they are derived from it,
so that every attempt of the call carries the same ones, on whichever node it arrives.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from rendezvous_raft.server.fields import check_id
from rendezvous_raft.types import BranchId, RequestId

if TYPE_CHECKING:
    from collections.abc import Callable

    from rendezvous_raft.node.ports import IdSource

IDEMPOTENCY_KEY = "rendezvous-idempotency-key"
"""Metadata key of a call."""


class CallIds(Protocol):
    """Chooses ids for one call."""

    def request_id(self) -> RequestId:
        """The id of the call's request."""
        ...

    def branch_id(self, service: str, index: int) -> BranchId:
        """The id of the call's branch number `index`."""
        ...


class ChosenIds:
    """Derived ids when the call has an idempotency key, new ones otherwise.

    The key is looked up only when an id is missing: most calls bring theirs.
    """

    __slots__ = ("_key", "_place", "_source")

    def __init__(self, source: IdSource, *, key: Callable[[], str | None], place: str) -> None:
        self._source = source
        self._key = key
        self._place = place

    def request_id(self) -> RequestId:
        """The request id of this call.

        Raises:
            InvalidArgument: the idempotency key is no id.
        """
        key = self._key()
        if key is None:
            return self._source.request_id()
        return DerivedIds(key=key, place=self._place).request_id()

    def branch_id(self, service: str, index: int) -> BranchId:
        """The id of the call's branch number `index`.

        Raises:
            InvalidArgument: the idempotency key is no id.
        """
        key = self._key()
        if key is None:
            return self._source.branch_id(service)
        return DerivedIds(key=key, place=self._place).branch_id(index)


class DerivedIds:
    """Ids that depend on the key, the method and the place in the call alone.

    Example:
        >>> DerivedIds(key="order-7", place="RegisterBranch").request_id()
        'r-81e19f04cfe9aee117189414766b7a81'
    """

    __slots__ = ("_prefix",)

    def __init__(self, *, key: str, place: str) -> None:
        """Checks the key.

        Args:
            key: the caller's idempotency key.
            place: the method, and for an Execute item its sequence too.

        Raises:
            InvalidArgument: the key is no id.
        """
        check_id(key, IDEMPOTENCY_KEY)
        self._prefix = f"{key} {place} "  # a space is in no key and no method: no two collide

    def request_id(self) -> RequestId:
        """The request id of every attempt."""
        return RequestId(f"r-{self._digest('request')}")

    def branch_id(self, index: int) -> BranchId:
        """The id of branch `index` of every attempt."""
        return BranchId(f"b-{self._digest(f'branch {index}')}")

    def _digest(self, part: str) -> str:
        return hashlib.sha256((self._prefix + part).encode()).hexdigest()[:32]
