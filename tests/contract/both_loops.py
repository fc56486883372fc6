"""Runs a test on asyncio's own loop and on that of nodes: each has its own code for TLS."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

HANGS_AFTER_S = 30
"""A loop of C code does not notice pytest's own time-out."""

Test = Callable[..., Coroutine[Any, Any, None]]


async def _alone(test: Coroutine[Any, Any, None]) -> None:
    """Runs it, and fails when it leaves tasks behind."""
    async with asyncio.timeout(HANGS_AFTER_S):
        await test
    others = asyncio.all_tasks() - {asyncio.current_task()}
    left = (await asyncio.wait(others, timeout=2))[1] if others else others
    assert not left, f"tasks outlive the test: {left}"


def on_both_loops(test: Test) -> Callable[..., None]:
    """The test as one that pytest runs twice; its fixtures must not be asynchronous."""

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    @functools.wraps(test)
    def run(loop: str, **fixtures: Any) -> None:
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_alone(test(**fixtures)))

    taken = inspect.signature(test)
    first = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in taken.parameters.values()
    ]
    run.__signature__ = taken.replace(parameters=[first, *parameters])  # type: ignore[attr-defined]
    del run.__wrapped__  # type: ignore[attr-defined]
    return run
