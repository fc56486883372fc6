"""What several replicas of a region say together (V2). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rendezvous_raft.monitor.ports import EndpointLook, PendingBranch, ProbeError, ProbeResult
from rendezvous_raft.types import BranchId


@dataclass(frozen=True, slots=True)
class EndpointAnswer:
    """Which of the branches asked for one endpoint has, or why it did not answer."""

    endpoint: str
    seconds: float
    visible: frozenset[BranchId] = frozenset()
    error: ProbeError | None = None


def intersect(pending: Sequence[PendingBranch], answers: Sequence[EndpointAnswer]) -> ProbeResult:
    """Visible is what every endpoint has; absent what one that answered lacks; the rest failed.

    Raises:
        ValueError: there is no endpoint, and nothing must be visible by default.
    """
    if not answers:
        raise ValueError("a probe needs at least one endpoint")
    asked = frozenset(branch.branch_id for branch in pending)
    candidates = asked
    for answer in answers:
        if answer.error is None:
            candidates &= answer.visible
    errors = [answer.error for answer in answers if answer.error is not None]
    failed = dict.fromkeys(sorted(candidates), errors[0]) if errors else {}
    return ProbeResult(
        visible=frozenset() if errors else candidates,
        absent=asked - candidates,
        failed=failed,
        looks=tuple(_look(answer, asked) for answer in answers),
    )


def _look(answer: EndpointAnswer, asked: frozenset[BranchId]) -> EndpointLook:
    if answer.error is not None:
        return EndpointLook(answer.endpoint, answer.seconds, 0, 0, len(asked), answer.error)
    visible = len(answer.visible & asked)
    return EndpointLook(answer.endpoint, answer.seconds, visible, len(asked) - visible, 0)
