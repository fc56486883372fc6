"""Where a batch of proposals goes: into the log of this node if it leads, else to its leader."""

from __future__ import annotations

from rendezvous_raft.replication.batching import Batch
from rendezvous_raft.replication.codec import encode_entry
from rendezvous_raft.replication.observer import EngineObserver
from rendezvous_raft.replication.raft.faults import any_fault_halts
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.replication.raft.storage import DiskFull, StorageError
from rendezvous_raft.replication.raft.to_leader import ToLeader


class Submitting:
    """Hands batches to the log. `origin` names this life of the node in its entries."""

    def __init__(
        self, raft: Raft, to_leader: ToLeader, observer: EngineObserver, origin: bytes
    ) -> None:
        self._raft = raft
        self._to_leader = to_leader
        self._observer = observer
        self._origin = origin

    def submit(self, batch: Batch) -> bool:
        """Appends a batch, or forwards it; false if neither can be, and it certainly is nowhere."""
        taken = True  # as far as anybody knows, whatever goes wrong
        with any_fault_halts(self._raft.host.halt):
            if not self._raft.log.takes_entries:
                return False  # it would be applied elsewhere, and the callers here never answered
            entry = encode_entry(self._origin, batch.sequence, [p.encoded for p in batch.proposals])
            if self._raft.is_leader:
                taken = self._append(entry)
            else:
                taken = self._to_leader.forward(self._origin, batch.sequence, entry)
            if taken:
                self._observer.entry_made(len(batch.proposals))
        return taken

    def _append(self, entry: bytes) -> bool:
        if self._raft.handing_over:
            return False
        try:
            self._raft.propose(entry)
        except DiskFull:
            return False
        except StorageError:
            return True  # it may be on disk all the same; the halt that follows ends the callers
        self._raft.host.wake()
        return True
