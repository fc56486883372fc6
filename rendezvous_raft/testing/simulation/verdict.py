"""What a judge says: how often an invariant was evaluated, and where one did not hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """How often an invariant was evaluated."""

    evaluated: int = 0
    meaningful: int = 0
    """Of these, how often it could have failed."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never happen has happened."""

    now_s: float
    invariant: str
    what: str

    def __str__(self) -> str:
        return f"at {self.now_s:.4f} s: {self.invariant}: {self.what}"
