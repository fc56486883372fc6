"""What the use-cases tell whoever counts: facts, not metrics. Implemented in `observability/`."""

from __future__ import annotations

from typing import Protocol


class NodeObserver(Protocol):
    """Receives facts synchronously; must be cheap and must not raise."""

    def proposal_done(self, outcome: str, seconds: float) -> None:
        """A proposal ended: `applied`, `rejected`, or the code of an error."""
        ...

    def wait_done(self, outcome: str, seconds: float, region: str, *, prevented: bool) -> None:
        """A wait ended: `immediate`, `blocked`, `timed_out`, or the code of an error."""
        ...

    def branch_registered(self, service: str, count: int) -> None:
        """Branches were registered, seen on this replica."""
        ...

    def branch_closed(self, region: str, count: int) -> None:
        """Branches were closed in a region, seen on this replica."""
        ...

    def requests_expired(self, state: str, count: int) -> None:
        """Requests were dropped, by their state (`open`, `settled`)."""
        ...

    def subscription_resync(self, reason: str) -> None:
        """A subscription ended and must be taken up again."""
        ...

    def limit_exceeded(self, limit: str) -> None:
        """A bound of `limits.py` refused something."""
        ...


class SilentObserver:
    """Counts nothing; the base for observers that count some of it."""

    def proposal_done(self, outcome: str, seconds: float) -> None:
        """Ignored."""

    def wait_done(self, outcome: str, seconds: float, region: str, *, prevented: bool) -> None:
        """Ignored."""

    def branch_registered(self, service: str, count: int) -> None:
        """Ignored."""

    def branch_closed(self, region: str, count: int) -> None:
        """Ignored."""

    def requests_expired(self, state: str, count: int) -> None:
        """Ignored."""

    def subscription_resync(self, reason: str) -> None:
        """Ignored."""

    def limit_exceeded(self, limit: str) -> None:
        """Ignored."""
