"""An event loop whose clock jumps: nothing is waited for, and every run is the same.

When no callback is ready, the clock jumps to the next timer. A loop without a timer is blocked for
ever, which is an error. Nothing that comes from outside the loop (a socket, a thread) is waited
for, so this is for code that touches neither.

A test runs on it when it is decorated with `in_virtual_time`; all tests below a directory do with
this hook of pytest-asyncio in its `conftest.py`:

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": VirtualLoop}
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

BEGIN_S = 1_000.0
"""What a new loop's clock shows; not zero, so that a time that was forgotten stands out."""
TURNS_TO_SETTLE = 50
"""Turns that `settle` grants: more than any chain of callbacks in one use-case is long."""


class BlockedForEver(AssertionError):
    """No callback is ready and no timer is set: nothing can ever happen again."""


class _JumpingSelector(selectors.SelectSelector):
    """Finds what is ready and, instead of waiting for more, lets the clock jump."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = BEGIN_S
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise BlockedForEver("no callback is ready and no timer is set")
        self.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. `turns` counts its turns: what a spinning program has too many of."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.now_s

    @property
    def turns(self) -> int:
        """How often the loop has looked for work."""
        return self._jumping.turns


def run_virtual(coroutine: Coroutine[object, object, T]) -> T:
    """Runs a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def in_virtual_time(test: Callable[P, Coroutine[object, object, T]]) -> Callable[P, T]:
    """Makes a test out of a coroutine function, run to its end in virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtual(test(*args, **kwargs))

    return run


async def advance(seconds: float) -> None:
    """Lets virtual time pass; timers on the way fire in order."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise TypeError("real time would pass")
    reached: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, reached.set_result, None)
    await reached


async def take_turns(count: int) -> None:
    """Lets the loop turn so often; no time passes while there is something to do."""
    for _ in range(count):
        await asyncio.sleep(0)


async def settle(until: Callable[[], bool] | None = None) -> None:
    """Lets everything that is ready run to its end without letting time pass.

    With `until`, raises `AssertionError` if the condition does not hold then.
    """
    await take_turns(TURNS_TO_SETTLE)
    if until is not None and not until():
        raise AssertionError("the condition does not hold after everything has settled")


def now_s() -> float:
    """The clock of the running loop, in seconds."""
    return asyncio.get_running_loop().time()


def turns() -> int:
    """How often the running virtual loop has looked for work."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise TypeError("the running loop is not a virtual one")
    return loop.turns
