"""Clocks for tests: one that follows the running loop, one that is set by hand."""

from __future__ import annotations

import asyncio

WALL_BEGIN_MS = 1_700_000_000_000
"""Where the wall clocks begin: a date that nobody mistakes for a duration."""


class LoopClock:
    """Implements `node.ports.Clock` by the running loop's time, virtual or real."""

    def __init__(self) -> None:
        self.wall_jump_ms = 0
        """Added to the wall clock: what an operator or a time server does to it."""

    def monotonic_s(self) -> float:
        """The loop's seconds."""
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        """Milliseconds that pass with the loop's seconds, but for jumps."""
        return WALL_BEGIN_MS + round(self.monotonic_s() * 1000) + self.wall_jump_ms


class FakeClock:
    """Implements `node.ports.Clock` by a number; it moves only when it is told to."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def monotonic_s(self) -> float:
        """The number."""
        return self.now_s

    def wall_ms(self) -> int:
        """Milliseconds that pass with the number."""
        return WALL_BEGIN_MS + round(self.now_s * 1000)

    def advance(self, seconds: float) -> None:
        """Moves it forward."""
        self.now_s += seconds
