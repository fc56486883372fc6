"""Which requests have waiters parked on other nodes, as those tell the leader (semantics 5.2)."""

from __future__ import annotations

from collections.abc import Sequence

from rendezvous_raft.node.ports import Clock
from rendezvous_raft.types import RequestId

LIFETIME_S = 5.0
"""After this a report that was not repeated is forgotten."""


class ParkedReports:
    """The last report of each node: hints with a lifetime."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[float, tuple[RequestId, ...]]] = {}

    def heard(self, name: str, request_ids: Sequence[str]) -> None:
        """A node told what is parked there."""
        ids = tuple(RequestId(request_id) for request_id in request_ids)
        self._reports[name] = (self._clock.monotonic_s(), ids)

    def recent(self) -> tuple[RequestId, ...]:
        """What was reported lately."""
        since_s = self._clock.monotonic_s() - LIFETIME_S
        self._reports = {k: v for k, v in self._reports.items() if v[0] >= since_s}
        return tuple(request_id for _, ids in self._reports.values() for request_id in ids)
