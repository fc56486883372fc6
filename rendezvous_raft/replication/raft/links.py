"""What the rules need of a network: PySyncObj's transport interface and a little more."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Protocol

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from rendezvous_raft.replication.raft.metadata import Birth
from rendezvous_raft.replication.raft.outbox import Positions

__all__ = ["EngineLinks", "Links", "MakeLinks", "Node"]


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


class EngineLinks(Links):
    """What the engine needs of them beside that: a life, peers, the word that the log is synced."""

    async def open(self) -> None:
        """Listens, and begins to connect to the peers."""
        raise NotImplementedError

    async def close(self) -> None:
        """Closes every connection; nothing is received afterwards."""
        raise NotImplementedError

    def set_peers(self, peers: Mapping[str, str]) -> None:
        """The members have changed: links to new ones, none to those that are gone.

        Who stays at its address keeps its connections. Messages for those that are gone are
        dropped, and their connections are closed. Does not block.

        Args:
            peers: addresses of the others, by name.
        """
        raise NotImplementedError

    def release(self) -> None:
        """The log was synced: sends what waited for that."""
        raise NotImplementedError

    def silence(self) -> None:
        """Cuts every connection for good: a node that has halted neither speaks nor listens."""
        raise NotImplementedError


class MakeLinks(Protocol):
    """Makes the links of one member.

    Args:
        name: of the member.
        cluster_id: members of other clusters are refused.
        listen: the member's own address, host:port.
        address: where others dial it; told to those who do not know this member.
        birth: of its data directory; told to everybody.
        peers: addresses of the others, by name.
        positions: how far the log is synced; what is sent waits for it.
        on_connected: is told that a link to a peer stands.
        on_greeted: is told which directory speaks for a peer that can be heard now, and which
            version of commands it knows.
        on_lost: is told that a peer cannot be heard any more.
        rng: chance, for pauses.
    """

    def __call__(
        self,
        *,
        name: str,
        cluster_id: str,
        listen: str,
        address: str,
        birth: Birth,
        peers: Mapping[str, str],
        positions: Positions,
        on_connected: Callable[[Node], None],
        on_greeted: Callable[[Node, Birth, int], None],
        on_lost: Callable[[Node], None],
        rng: random.Random,
    ) -> EngineLinks:
        """The links, not open yet."""
        ...
