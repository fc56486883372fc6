"""Time-outs of the originals: whole seconds, 0 for none; one covers a whole wait (R3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rendezvous_raft.server.compat import refusals

if TYPE_CHECKING:
    from rendezvous_raft.limits import NodeLimits
    from rendezvous_raft.node.ports import Clock


def timeout_s(seconds: int, limits: NodeLimits, *, negative: str) -> float:
    """Seconds that a wait may last; 0 and what is too long are the node's maximum.

    Raises:
        InvalidArgument: it is negative, with the words `negative`.
    """
    if seconds < 0:
        raise refusals.invalid(negative)
    timeout_max_s = limits.wait_timeout_ms_max / 1000
    return min(float(seconds), timeout_max_s) if seconds else timeout_max_s


class Patience:
    """The time-out of one wait, which two use-cases share; it counts from here."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._clock = clock
        self._end_s = clock.monotonic_s() + seconds

    def end_s(self, deadline_s: float) -> float:
        """When it ends, or the call does, in monotonic seconds."""
        return min(self._end_s, deadline_s)

    def left_s(self) -> float:
        """Seconds of it that are left."""
        return max(0.0, self._end_s - self._clock.monotonic_s())
