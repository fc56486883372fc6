"""The log in memory, in the shape PySyncObj knows, over the durable log.

PySyncObj keeps its whole log as a list of (payload, index, term) whose first element is the base:
an entry that is known to be committed and serves only to compare terms with. Ours is the same,
written through to `DurableLog`; it also knows up to where the log is on stable storage, so that a
leader counts itself only for that. And it knows the membership that its last entry
of that kind names, for that one is in force as soon as it stands in the log (thesis 4.1).
"""

from __future__ import annotations

from collections import deque
from typing import overload

from pysyncobj.journal import Journal

from rendezvous_raft.membership import Membership
from rendezvous_raft.replication.raft.guard import NO_OP
from rendezvous_raft.replication.raft.memberships import MEMBERSHIP, decode_membership
from rendezvous_raft.replication.raft.storage import DurableLog, LogEntry, Recovered


class DurableJournal(Journal):
    """PySyncObj's journal interface over a `DurableLog`.

    Args:
        store: what keeps it.
        recovered: what `store` knew of earlier lives.
        membership: the one that is in force at the base.

    Raises:
        MembershipError: an entry has one that this version does not know.
    """

    def __init__(self, store: DurableLog, recovered: Recovered, membership: Membership) -> None:
        self._store = store
        base = (NO_OP, recovered.base_index, recovered.base_term)
        self._entries: list[LogEntry] = [base, *recovered.entries]
        self._term = recovered.term
        self._voted_for = recovered.voted_for
        self._unsynced: deque[tuple[int, int]] = deque()
        self._durable_index = self._entries[-1][1]
        self.bytes_added = 0
        """Of all entries that were ever in it, since the start."""
        self._memberships = [(recovered.base_index, membership)]
        for payload, index, _ in recovered.entries:
            self.bytes_added += len(payload)
            self._note_membership(payload, index)

    def _note_membership(self, payload: bytes, index: int) -> None:
        if payload[:1] == MEMBERSHIP:
            self._memberships.append((index, decode_membership(payload[1:])))

    @property
    def membership(self) -> Membership:
        """The one in force: the last of the log."""
        return self._memberships[-1][1]

    @property
    def membership_index(self) -> int:
        """Index of the entry that names it, or of the base."""
        return self._memberships[-1][0]

    def membership_at(self, index: int) -> Membership:
        """The one that the entries up to `index` name; `index` is not before the base."""
        return next(found for at, found in reversed(self._memberships) if at <= index)

    @property
    def base_index(self) -> int:
        """Index of the first element; entries after it can be sent."""
        return self._entries[0][1]

    @property
    def takes_entries(self) -> bool:
        """Whether there is room on the disk, as far as is known."""
        return self._store.read_only is None

    def has_room(self) -> bool:
        """Whether there is room for another segment too, as tried now."""
        return self.takes_entries and self._store.has_room()

    def durable_index(self) -> int:
        """Index of the last entry that is on stable storage."""
        synced = self._store.synced
        while self._unsynced and self._unsynced[0][0] <= synced:
            self._durable_index = self._unsynced.popleft()[1]
        return self._durable_index

    def term_at(self, index: int) -> int | None:
        """Term of an entry, or None outside the log."""
        offset = index - self._entries[0][1]
        if 0 <= offset < len(self._entries):
            return self._entries[offset][2]
        return None

    def first_index_of_term(self, index: int) -> int:
        """Index of the first entry with the term of the entry at `index` (conflict hint, F18)."""
        offset = index - self._entries[0][1]
        term = self._entries[offset][2]
        while offset > 0 and self._entries[offset - 1][2] == term:
            offset -= 1
        return self._entries[offset][1]

    def first_within(self, index: int, bytes_max: int) -> int:
        """The lowest base that leaves at most `bytes_max` of entries up to `index` behind it."""
        offset = index - self._entries[0][1]
        while offset > 0 and bytes_max >= len(self._entries[offset][0]):
            bytes_max -= len(self._entries[offset][0])
            offset -= 1
        return self._entries[offset][1]

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Appends. Raises `DiskFull` with nothing changed."""
        self._store.append(command, idx, term)
        self._entries.append((command, idx, term))
        self._unsynced.append((self._store.position, idx))
        self.bytes_added += len(command)
        self._note_membership(command, idx)

    def truncate_from(self, index: int) -> None:
        """Drops the entries from `index` on: a conflict with the leader's log."""
        self.durable_index()
        self._store.truncate_from(index)
        del self._entries[index - self._entries[0][1] :]
        self._durable_index = min(self._durable_index, index - 1)
        while self._unsynced and self._unsynced[-1][1] >= index:
            self._unsynced.pop()
        while self._memberships[-1][0] >= index:
            self._memberships.pop()

    def drop_before(self, index: int) -> None:
        """Makes `index` the base; its entries are in a durable snapshot."""
        del self._entries[: index - self._entries[0][1]]
        base = (index, self.membership_at(index))
        self._memberships = [base, *(each for each in self._memberships if each[0] > index)]

    def restart_at(self, index: int, term: int, membership: Membership) -> None:
        """Starts again, empty, after the install of a snapshot."""
        self._entries = [(NO_OP, index, term)]
        self._memberships = [(index, membership)]
        self._unsynced.clear()
        self._durable_index = index

    @overload
    def __getitem__(self, item: int) -> LogEntry: ...
    @overload
    def __getitem__(self, item: slice) -> list[LogEntry]: ...
    def __getitem__(self, item: int | slice) -> LogEntry | list[LogEntry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    # Term and vote; what PySyncObj calls them.

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        """Stores both; messages that tell of them leave after they are durable."""
        self._term, self._voted_for = term, votedForNodeId
        self._store.set_term(term, votedForNodeId)

    def getCurrentTerm(self) -> int:
        """The term on disk."""
        return self._term

    def getVotedForNodeId(self) -> str | None:
        """The vote on disk."""
        return self._voted_for

    def getRaftCommitIndex(self) -> int:
        """The base: everything after it is confirmed by a leader again."""
        return self.base_index

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Not stored: a restarted node learns it from the leader."""

    def _destroy(self) -> None:
        """The engine closes the store."""
