"""The order to shut down, for those parts of the front end that would otherwise go on for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class DrainSignal:
    """Given once; whoever listens is told in the same turn of the loop."""

    def __init__(self) -> None:
        self._listeners: dict[Callable[[], None], None] = {}
        self.given = False
        """Whether the node shuts down."""

    def give(self) -> None:
        """Tells every listener. Doing so again has no effect."""
        if self.given:
            return
        self.given = True
        for listener in list(self._listeners):
            listener()

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Will be called when the signal is given; it must be removed again."""
        self._listeners[listener] = None

    def remove_listener(self, listener: Callable[[], None]) -> None:
        """Takes a listener off."""
        self._listeners.pop(listener, None)
