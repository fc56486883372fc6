"""The arithmetic of the demo's report: percentiles, distributions, shares. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The value below which `fraction` of an ascending series lies, interpolated linearly.

    Raises:
        ValueError: The series is empty, or the fraction is outside 0 to 1.
    """
    if not ordered:
        raise ValueError("an empty series has no percentile")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction {fraction} is outside 0 to 1")
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A series in a few numbers, all of them in the unit of the series. Nothing is floored."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Distribution | None:
        """Sums a series up; None for an empty one."""
        ordered = sorted(values)
        if not ordered:
            return None
        return cls(
            count=len(ordered),
            mean=math.fsum(ordered) / len(ordered),
            p50=percentile(ordered, 0.50),
            p95=percentile(ordered, 0.95),
            p99=percentile(ordered, 0.99),
            lowest=ordered[0],
            highest=ordered[-1],
        )


def cumulative(values: Iterable[float]) -> tuple[list[float], list[float]]:
    """The empirical distribution function: ascending values, share at or below each."""
    ordered = sorted(values)
    return ordered, [(rank + 1) / len(ordered) for rank in range(len(ordered))]
