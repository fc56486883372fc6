"""What an engine tells whoever counts: facts, not metrics. Implemented in `observability/`."""

from __future__ import annotations

from typing import Protocol


class EngineObserver(Protocol):
    """Receives facts synchronously; must be cheap and must not raise."""

    def leader_changed(self) -> None:
        """This node learned of another leader, or of none."""
        ...

    def elected_without_need(self) -> None:
        """This node stands for election although its leader can be reached.

        One of them stalls, or the timers are too short for the network.
        """
        ...

    def applied(self, count: int, seconds: float) -> None:
        """`count` commands were applied in one slice that took `seconds`."""
        ...

    def synced(self, seconds: float) -> None:
        """One fdatasync took `seconds`."""
        ...

    def read_barrier_done(self, seconds: float) -> None:
        """A linearizable read was confirmed after `seconds`."""
        ...

    def entry_made(self, commands: int) -> None:
        """This node made an entry of `commands` commands, for its own log or for the leader's."""
        ...

    def asked_leader(self, kind: str) -> None:
        """This follower sent its leader a message on behalf of its clients.

        `read_index` (for linearizable reads), `proposals` (a batch, or a batch once more) or
        `parked` (the one report a second of what is waited for).
        """
        ...

    def snapshot_done(self, seconds: float, size_bytes: int) -> None:
        """A snapshot was written."""
        ...


class SilentEngineObserver:
    """Counts nothing; the base for observers that count some of it."""

    def leader_changed(self) -> None:
        """Ignored."""

    def elected_without_need(self) -> None:
        """Ignored."""

    def applied(self, count: int, seconds: float) -> None:
        """Ignored."""

    def synced(self, seconds: float) -> None:
        """Ignored."""

    def read_barrier_done(self, seconds: float) -> None:
        """Ignored."""

    def entry_made(self, commands: int) -> None:
        """Ignored."""

    def asked_leader(self, kind: str) -> None:
        """Ignored."""

    def snapshot_done(self, seconds: float, size_bytes: int) -> None:
        """Ignored."""


class LinkObserver(Protocol):
    """Receives facts of the links between members; must be cheap and must not raise."""

    def peer_refused(self, peer: str, reason: str) -> None:
        """A connection from or to `peer` (a name, or an address before one is known) was refused.

        Whoever can reach the port can cause it, as often as they like.
        """
        ...


class SilentLinkObserver:
    """Tells nobody."""

    def peer_refused(self, peer: str, reason: str) -> None:
        """Ignored."""
