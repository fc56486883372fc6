"""The disk of a member on the bench: a list of entries, and what of it was synced."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rendezvous_raft.replication.raft.metadata import UNNAMED, Birth
from rendezvous_raft.replication.raft.storage import DiskFull, LogEntry, Recovered


@dataclass(slots=True)
class BenchDisk:
    """What survives a crash, or what would be written."""

    term: int = 0
    voted_for: str | None = None
    base: tuple[int, int] = (1, 0)
    entries: list[LogEntry] = field(default_factory=list)
    birth: Birth = UNNAMED

    def copy(self) -> BenchDisk:
        """Another disk with the same content."""
        return replace(self, entries=list(self.entries))


class BenchStore:
    """Has the interface of `DurableLog`; a sync happens when it is told to, or at once."""

    def __init__(self, durable: BenchDisk | None = None, *, birth: Birth | None = None) -> None:
        self.position = self.term_position = self.synced = 0
        self.read_only: str | None = None
        self.room = True
        """Whether there is room for another segment."""
        self.syncs_at_once = True
        self._durable = durable or BenchDisk(birth=birth or UNNAMED)
        self._cached = self._durable.copy()

    @property
    def term(self) -> int:
        """See `DurableLog.term`."""
        return self._cached.term

    def recovered(self) -> Recovered:
        """What a new life finds."""
        disk = self._durable
        return Recovered(
            term=disk.term,
            voted_for=disk.voted_for,
            base_index=disk.base[0],
            base_term=disk.base[1],
            entries=list(disk.entries),
            snapshot=None,
            birth=disk.birth,
        )

    def after_crash(self) -> BenchStore:
        """The store of the next life: nothing that was not synced is there."""
        return BenchStore(self._durable.copy())

    def sync(self) -> None:
        """Everything written is on stable storage now."""
        self._durable = self._cached.copy()
        self.synced = self.position

    def has_room(self) -> bool:
        """See `DurableLog.has_room`."""
        return self.room

    def append(self, payload: bytes, index: int, term: int) -> None:
        """See `DurableLog.append`."""
        if self.read_only is not None:
            raise DiskFull(self.read_only)
        self._cached.entries.append((payload, index, term))
        self._mutated()

    def truncate_from(self, index: int) -> None:
        """See `DurableLog.truncate_from`."""
        self._cached.entries = [entry for entry in self._cached.entries if entry[1] < index]
        self._mutated()

    def set_term(self, term: int, voted_for: str | None) -> None:
        """See `DurableLog.set_term`."""
        self._cached.term, self._cached.voted_for = term, voted_for
        self.term_position = self.position + 1
        self._mutated()

    def restart_at(self, index: int, term: int) -> None:
        """The log begins anew behind a snapshot."""
        self._cached.base, self._cached.entries = (index, term), []
        self._mutated()

    def _mutated(self) -> None:
        self.position += 1
        if self.syncs_at_once:
            self.sync()
