"""What a follower sends to its leader on behalf of its clients, counted by kind.

A session read or wait sends none of it: that is what serving reads locally means, and the count is
how anybody can see it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rendezvous_raft.replication.observer import EngineObserver
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.types import RequestId


class ToLeader:
    """The ways in which the clients of this node can cost its leader something."""

    def __init__(self, raft: Raft, observer: EngineObserver) -> None:
        self._raft = raft
        self._observer = observer

    def request_read(self, read_id: int) -> bool:
        """Asks for a read index, of this node itself if it leads; false if nobody can be asked."""
        asked = self._raft.request_read(read_id)
        if asked and not self._raft.is_leader:
            self._observer.asked_leader("read_index")
        return asked

    def forward(self, origin: bytes, sequence: int, payload: bytes) -> bool:
        """Sends a batch of proposals; false if the leader cannot be reached."""
        sent = self._raft.forward(origin, sequence, payload)
        if sent:
            self._observer.asked_leader("proposals")
        return sent

    def report_parked(self, request_ids: Sequence[RequestId]) -> None:
        """Tells which requests have waiters parked here, once a second for all of them."""
        if self._raft.report_parked(request_ids):
            self._observer.asked_leader("parked")
