"""Durations on the command line carry their unit: `500ms`, `5s`, `1m30s`."""

from __future__ import annotations

import re

import click

_SECONDS_BY_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
DURATION_S_MAX = 7 * 24 * 3_600.0
"""Longest duration taken: a week."""


class DurationType(click.ParamType[float]):
    """Turns `1m30s` into 90.0 seconds."""

    name = "duration"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; a number that already is one (a default) stays as it is."""
        if isinstance(value, int | float):
            return float(value)
        text = value.strip()
        parts = list(_PART.finditer(text))
        if not parts or "".join(part[0] for part in parts) != text:
            self.fail(f"{value!r} needs a unit, as in 500ms, 5s or 1m30s", param, ctx)
        seconds = sum(float(part[1]) * _SECONDS_BY_UNIT[part[2]] for part in parts)
        if seconds > DURATION_S_MAX:
            self.fail(f"{value!r} is longer than a week", param, ctx)
        return seconds


DURATION = DurationType()


def duration_text(seconds: float) -> str:
    """Seconds for people: `412 ms`, `1.9 s`, `3 min`."""
    if abs(seconds) < 1:
        return f"{seconds * 1_000:.0f} ms"
    if abs(seconds) < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min"
