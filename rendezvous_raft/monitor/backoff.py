"""How long to pause before the next attempt. Pure: chance is injected."""

from __future__ import annotations

from random import Random


class Backoff:
    """Pauses that double from `first_s` to `max_s`, with jitter.

    `jitter` is the random share of each pause: 1.0 draws from (0, pause], 0.5 from the upper half.
    """

    def __init__(
        self, random: Random, *, first_s: float, max_s: float, jitter: float = 1.0
    ) -> None:
        if not 0 < first_s <= max_s or not 0 <= jitter <= 1:
            raise ValueError("a back-off needs 0 < first_s <= max_s and 0 <= jitter <= 1")
        self._random = random
        self._first_s = first_s
        self._max_s = max_s
        self._jitter = jitter
        self._pause_s = first_s
        self.failures = 0
        """Failures since the last success."""

    def next_pause_s(self) -> float:
        """Counts a failure and returns the pause after it, in seconds; always above 0."""
        self.failures += 1
        pause_s = self._pause_s
        self._pause_s = min(pause_s * 2, self._max_s)
        # 1 - random() lies in (0, 1]: a pause of exactly 0 would be a spin.
        return pause_s * (1 - self._jitter + self._jitter * (1 - self._random.random()))

    def reset(self) -> None:
        """Counts a success: the next failure pauses shortly again."""
        self.failures = 0
        self._pause_s = self._first_s
