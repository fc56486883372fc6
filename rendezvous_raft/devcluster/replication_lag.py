"""How long a replica stays behind: a lognormal distribution. Pure: chance is injected."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from random import Random
from statistics import NormalDist

_Z99 = NormalDist().inv_cdf(0.99)


class ReplicationOrder(enum.Enum):
    """In which order a region applies the transactions of another."""

    COMMIT = "commit"
    """As they were committed: a slow one holds up those behind it."""
    ANY = "any"
    """Each when its own lag is over; an overwrite may be overtaken by what it replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationLag:
    """Lags by their median and 99th percentile, never below the network's one-way delay."""

    median_ms: float
    p99_ms: float
    one_way_ms: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.median_ms <= self.p99_ms or self.one_way_ms < 0:
            raise ValueError("lags need 0 < median_ms <= p99_ms and one_way_ms >= 0")

    def draw_s(self, random: Random) -> float:
        """The lag of one transaction, in seconds."""
        sigma = math.log(self.p99_ms / self.median_ms) / _Z99
        lag_ms = random.lognormvariate(math.log(self.median_ms), sigma)
        return max(lag_ms, self.one_way_ms) / 1_000
