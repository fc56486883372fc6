"""Bounds of what one node takes on at a time; beyond them it says so at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rendezvous_raft import errors
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.observer import NodeObserver


class Admission:
    """Counts what is under way and refuses what is too much, or comes after the drain began."""

    def __init__(self, limits: NodeLimits, observer: NodeObserver) -> None:
        self._limits = limits
        self._observer = observer
        self.draining = False
        self.stalled: str | None = None
        """Why this node hears of nothing any more; None: it does."""
        self.proposals = 0
        self.waits = 0

    def refuse_when_draining(self) -> None:
        """Raises `Draining` once the node shuts down."""
        if self.draining:
            raise errors.Draining("the node is shutting down; use another one")

    def refuse_to_park(self) -> None:
        """Raises `Draining`, or `NotReady` where what is parked would stay so for ever."""
        self.refuse_when_draining()
        if self.stalled is not None:
            raise errors.NotReady(self.stalled)

    @contextmanager
    def proposal(self) -> Iterator[None]:
        """Holds a place for a proposal. Raises `Draining` or `Overloaded`."""
        self.refuse_when_draining()
        if self.proposals >= self._limits.proposals_in_flight_max:
            raise self._overloaded("proposals_in_flight_max")
        self.proposals += 1
        try:
            yield
        finally:
            self.proposals -= 1

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Holds a place for a wait. Raises `Draining`, `NotReady` or `Overloaded`."""
        self.refuse_to_park()
        if self.waits >= self._limits.waiters_max:
            raise self._overloaded("waiters_max")
        self.waits += 1
        try:
            yield
        finally:
            self.waits -= 1

    def _overloaded(self, limit: str) -> errors.Overloaded:
        self._observer.limit_exceeded(limit)
        return errors.Overloaded(
            f"this node has reached {limit}={getattr(self._limits, limit)}; try again later",
            details={"limit": limit},
        )
