"""A rate limit as a pure object: time is an argument."""

from __future__ import annotations

REFILL_S = 0.005
"""An exhausted rate is left alone for so long at least: a look per token would cost more."""


class TokenRate:
    """Allows `per_second` looks a second, in bursts of at most `burst`."""

    def __init__(self, *, per_second: float, burst: int) -> None:
        if per_second <= 0 or burst < 1:
            raise ValueError("a rate needs per_second > 0 and burst >= 1")
        self._per_second = per_second
        self._burst = burst
        self._tokens = float(burst)
        self._at: float | None = None

    def available(self, now: float) -> int:
        """Looks allowed at `now`."""
        self._refill(now)
        return int(self._tokens)

    def take(self, now: float, count: int) -> None:
        """Uses up `count` looks, which `available` has allowed."""
        self._refill(now)
        self._tokens -= count

    def ready_at(self, now: float) -> float:
        """When at least one look is allowed; `now` if one is."""
        self._refill(now)
        missing = 1 - self._tokens
        return now if missing <= 0 else now + max(missing / self._per_second, REFILL_S)

    def _refill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            grown = self._tokens + (now - self._at) * self._per_second
            self._tokens = min(grown, float(self._burst))
        self._at = now if self._at is None else max(now, self._at)
