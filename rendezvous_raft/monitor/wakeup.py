"""What loops that run until they are cancelled need: a bell, and to notice the cancellation."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """Raises the cancellation of this task that a library has swallowed.

    For the head of loops that end only by cancellation: some drivers, and asyncio itself before
    Python 3.12, let a cancellation disappear when it meets the end of what it interrupts.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Wakeup:
    """Wakes its one sleeper. A ring while nobody sleeps is remembered, many rings count once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wakes the sleeper; never blocks."""
        self._event.set()

    async def wait_until(self, at: float | None) -> None:
        """Sleeps until rung, or until `at` on the loop's clock; None sleeps until rung."""
        try:
            async with asyncio.timeout_at(at):
                await self._event.wait()
        except TimeoutError:
            return
        self._event.clear()
