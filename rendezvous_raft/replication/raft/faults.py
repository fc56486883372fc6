"""Whatever goes wrong in what the loop or a task calls halts the node (F8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def any_fault_halts(halt: Callable[[str], None]) -> Iterator[None]:
    """Around a callback: an exception there would be told to nobody, and going on would be a guess.

    The halt comes in a turn of its own, so that it finds nothing half done. Needs a running loop.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 (whatever it is)
        reason = f"{type(error).__name__}: {error}"
        asyncio.get_running_loop().call_soon(halt, reason)
