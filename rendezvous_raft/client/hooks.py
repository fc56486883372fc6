"""Callbacks for metrics and tracing; the SDK itself neither logs nor counts."""

from __future__ import annotations

from dataclasses import dataclass

from rendezvous_raft.errors import RendezvousError


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """One try of a call begins."""

    method: str
    """Name of the RPC, e.g. `RegisterBranch`."""
    endpoint: str
    number: int
    """1 for the first try of a call."""


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """One try of a call is over."""

    method: str
    endpoint: str
    number: int
    seconds: float
    error: RendezvousError | None
    """None when it succeeded. The call itself may still be retried."""


class Hooks:
    """Override what is of interest; every method does nothing by default.

    The methods run inside the call, in its thread or loop: they must be quick and must not raise.
    The synchronous client calls them from every thread that uses it.

    Example:
        >>> class Printing(Hooks):
        ...     def attempt_ended(self, fact: AttemptEnded) -> None:
        ...         print(fact.method, fact.error)
    """

    def attempt_started(self, fact: AttemptStarted) -> None:
        """A try of a call is about to be sent."""

    def attempt_ended(self, fact: AttemptEnded) -> None:
        """A try of a call was answered or failed."""

    def context_dropped(self, reason: str) -> None:
        """A foreign context was dropped: pass this as `on_dropped` to `RendezvousContext.decode`.

        `reason` is `too_long`, `version` or `malformed`.
        """
