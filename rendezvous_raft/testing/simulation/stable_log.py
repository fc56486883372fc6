"""What of a log is on stable storage, judged from the calls that reached the disk.

It follows the frames that were written, the files that were synced and the names that were made
durable, and so knows which entries a power loss would leave: not from what the engine believes.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_HEAD = struct.Struct("<IBQQ")
_NEW_LOG, _ENTRY, _CUT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class WrittenEntry:
    """An entry as it was written to a log."""

    index: int
    term: int
    payload: bytes


@dataclass(slots=True)
class SegmentFile:
    """A file that is of the log, or may become so."""

    in_log: bool = False
    """Whether it has the name of a segment."""
    synced_to: int = 0
    """Number of the last frame that a sync of this file covers."""
    named: bool = True
    """Whether its name is durable."""


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    file: SegmentFile
    kind: int
    index: int
    term: int


class StableLog:
    """The log that the next life would find at least.

    Args:
        lost: is told of every durable entry, index and term, that is durable no more.
    """

    def __init__(self, lost: Callable[[int, int], None] = lambda _index, _term: None) -> None:
        self._lost = lost
        self.base = 1
        """Index up to which a durable snapshot holds the state."""
        self.terms: list[int] = []
        """Of the durable entries behind the base."""
        self.term = 0
        """The member's durable term, and its vote in it."""
        self.voted_for: str | None = None
        self._frames: deque[_Frame] = deque()
        self._written = 0

    @property
    def last(self) -> int:
        """Index up to which everything is durable, in entries or a snapshot."""
        return self.base + len(self.terms)

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is durable, itself or in a snapshot."""
        if index <= self.base:
            return True
        offset = index - self.base - 1
        return offset < len(self.terms) and self.terms[offset] == term

    def reset(self, base: int, terms: list[int]) -> None:
        """A new life begins with this, all of it durable."""
        self.base, self.terms = base, terms
        self._frames.clear()

    def written(self, file: SegmentFile, content: bytes) -> WrittenEntry | None:
        """Bytes were written to a segment behind its header; the entry, if they are one."""
        if len(content) < _HEAD.size:
            return None
        length, kind, index, term = _HEAD.unpack_from(content)
        if kind not in (_ENTRY, _CUT):
            return None
        self._written += 1
        self._frames.append(_Frame(self._written, file, kind, index, term))
        if kind == _CUT:
            return None
        return WrittenEntry(index, term, content[_HEAD.size : _HEAD.size + length])

    def restarted(self, file: SegmentFile, first_index: int) -> None:
        """A segment was begun that goes on from none: once it is durable, all before is void."""
        self._written += 1
        self._frames.append(_Frame(self._written, file, _NEW_LOG, first_index, 0))

    def synced(self, file: SegmentFile) -> None:
        """A file was synced."""
        file.synced_to = self._written
        self._advance()

    def names_synced(self) -> None:
        """Names have become durable."""
        self._advance()

    def snapshot_published(self, index: int, term: int) -> None:
        """A snapshot is durable under its name."""
        if index <= self.base:
            return
        if self.holds(index, term):
            del self.terms[: index - self.base]
        else:
            self._drop_from(index + 1)
            self.terms = []
        self.base = index

    def _advance(self) -> None:
        frames = self._frames
        while frames and frames[0].file.named and frames[0].number <= frames[0].file.synced_to:
            frame = frames.popleft()
            offset = frame.index - self.base - 1
            if frame.kind in (_NEW_LOG, _CUT):
                self._drop_from(frame.index)
            elif offset == len(self.terms):
                self.terms.append(frame.term)

    def _drop_from(self, index: int) -> None:
        first = max(0, index - self.base - 1)
        for position, term in enumerate(self.terms[first:], start=self.base + 1 + first):
            self._lost(position, term)
        del self.terms[first:]
