"""What the rules need of a network: PySyncObj's transport interface and a little more."""

from __future__ import annotations

from collections.abc import Callable

from pysyncobj.node import Node
from pysyncobj.transport import Transport

__all__ = ["Links", "Node"]


class Links(Transport):
    """Links to the other members. Messages may get lost; each link keeps their order.

    Nothing leaves before what it says is on disk: see `outbox.py`.
    """

    def __init__(self) -> None:
        super().__init__(None, None, [])

    def is_open(self, node: Node) -> bool:
        """Whether there is a connection to the node, as far as is known."""
        raise NotImplementedError

    def has_room(self, node: Node) -> bool:
        """Whether the window of bytes in flight to the node has room (back-pressure)."""
        raise NotImplementedError

    def soon(self, callback: Callable[[], None]) -> None:
        """Calls back at the end of this turn."""
        raise NotImplementedError
