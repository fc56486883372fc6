"""The durable outbox: nothing leaves a node before what it says is on disk.

Every message says a term, and some say what is in this node's log. It is stamped with the position
at which that was written, and is sent once the log is synced to there. The one rule covers votes
and acknowledgements. A leader's entries say nothing of its own disk, so they leave while it writes
them too (thesis 10.2.1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from pysyncobj.node import Node

MESSAGES_HELD_MAX = 10_000
"""Messages that wait for a sync; beyond them new ones are dropped, as a network may do."""

_SAYS_ONLY_A_TERM = ("append", "commit", "snapshot", "forward", "read", "read_reply")
"""Messages that say nothing of what this node's own log holds. All others wait for everything: a
type that is forgotten here leaves late, never too early."""

_Held: TypeAlias = tuple[int, Node, dict[str, Any]]
"""A message that waits for the log to be synced to a position."""


class Positions(Protocol):
    """How far a log is written, and how far it is synced."""

    @property
    def position(self) -> int:
        """Increases with every change."""
        ...

    @property
    def term_position(self) -> int:
        """Where the term and the vote changed last."""
        ...

    @property
    def term(self) -> int:
        """The newest term, synced or not."""
        ...

    @property
    def synced(self) -> int:
        """Highest position known to be on stable storage."""
        ...


class Outbox:
    """Holds messages until the log is synced to what they say.

    Messages of either kind keep their order; those that wait for the term alone may overtake
    others. What is still held when a later term begins never leaves: it may have acknowledged
    entries that the leader of that term has replaced since, and would be told by a node that knows
    better.
    """

    def __init__(
        self, positions: Positions, deliver: Callable[[Node, dict[str, Any]], None]
    ) -> None:
        self._positions = positions
        self._deliver = deliver
        self._for_term: deque[_Held] = deque()
        self._for_log: deque[_Held] = deque()
        self.dropped = 0

    def send(self, node: Node, message: dict[str, Any]) -> None:
        """Delivers now, or when the log is synced."""
        positions = self._positions
        if message["type"] in _SAYS_ONLY_A_TERM:
            queue, position = self._for_term, positions.term_position
        else:
            queue, position = self._for_log, positions.position
        if not queue and positions.synced >= position:
            self._deliver(node, message)
        elif len(queue) < MESSAGES_HELD_MAX:
            queue.append((position, node, message))
        else:
            self.dropped += 1

    def release(self) -> None:
        """Delivers what may leave now; called when a sync has ended."""
        synced, term = self._positions.synced, self._positions.term
        for queue in (self._for_term, self._for_log):
            while queue and queue[0][0] <= synced:
                _, node, message = queue.popleft()
                if message["term"] >= term:
                    self._deliver(node, message)
