"""Progress of a demonstration: a bar on a terminal's standard error, or nothing."""

from __future__ import annotations

import sys
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class SilentProgress:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def phase(self, title: str, steps: int) -> None:
        """Ignores it."""

    def step(self) -> None:
        """Ignores it."""

    def stop(self) -> None:
        """Does nothing."""


class DemoBar:
    """One line per phase; those with a known length have a bar."""

    def __init__(self, *, color: bool | None) -> None:
        console = Console(file=sys.stderr, no_color=True if color is False else None)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._current: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def phase(self, title: str, steps: int) -> None:
        """Completes the line of the phase before and begins a new one."""
        self._complete()
        self._current = self._progress.add_task(title, total=steps or None)

    def step(self) -> None:
        """Moves the bar."""
        if self._current is not None:
            self._progress.advance(self._current)

    def stop(self) -> None:
        """Leaves the lines on the terminal as they are."""
        self._complete()
        self._progress.stop()

    def _complete(self) -> None:
        if self._current is not None:
            self._progress.stop_task(self._current)
            self._current = None
