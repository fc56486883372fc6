"""Long work on a state, in slices with a rest after each."""

from __future__ import annotations

import asyncio

ROWS_AT_ONCE = 250
"""Rows of a state in a slice: some milliseconds; most rows are a request or an answer."""
REST_S = 0.001
"""Pause after a slice. A loop that only looks at what is ready leaves the other threads no time:
that which syncs the log would wait for each of its steps, and a write for half a second."""


async def rest() -> None:
    """Lets others have their turn, and the threads beside the loop their time."""
    await asyncio.sleep(REST_S)
