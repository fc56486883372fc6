"""The durable outbox: nothing leaves a node before what it says is on disk (replication 3).

Every message is stamped with the position of the log at which it was made, and is sent once the
log is synced to there. The one rule covers votes, acknowledgements, and entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from pysyncobj.node import Node

MESSAGES_HELD_MAX = 10_000
"""Messages that wait for a sync; beyond them new ones are dropped, as a network may do."""


class Positions(Protocol):
    """How far a log is written, and how far it is synced."""

    @property
    def position(self) -> int:
        """Increases with every change."""
        ...

    @property
    def synced(self) -> int:
        """Highest position known to be on stable storage."""
        ...


class Outbox:
    """Holds messages until the log is synced to where they were made."""

    def __init__(
        self, positions: Positions, deliver: Callable[[Node, dict[str, Any]], None]
    ) -> None:
        self._positions = positions
        self._deliver = deliver
        self._held: deque[tuple[int, Node, dict[str, Any]]] = deque()
        self.dropped = 0

    def send(self, node: Node, message: dict[str, Any]) -> None:
        """Delivers now, or when the log is synced."""
        position = self._positions.position
        if not self._held and self._positions.synced >= position:
            self._deliver(node, message)
        elif len(self._held) < MESSAGES_HELD_MAX:
            self._held.append((position, node, message))
        else:
            self.dropped += 1

    def release(self) -> None:
        """Delivers what may leave now; called when a sync has ended."""
        synced = self._positions.synced
        while self._held and self._held[0][0] <= synced:
            _, node, message = self._held.popleft()
            self._deliver(node, message)
