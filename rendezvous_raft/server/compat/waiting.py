"""Time-outs of the originals: whole seconds, 0 for none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rendezvous_raft.server.compat import refusals

if TYPE_CHECKING:
    from rendezvous_raft.limits import NodeLimits


def timeout_s(seconds: int, limits: NodeLimits, *, negative: str) -> float:
    """Seconds that a wait may last; 0 and what is too long are the node's maximum.

    Raises:
        InvalidArgument: it is negative, with the words `negative`.
    """
    if seconds < 0:
        raise refusals.invalid(negative)
    timeout_max_s = limits.wait_timeout_ms_max / 1000
    return min(float(seconds), timeout_max_s) if seconds else timeout_max_s
