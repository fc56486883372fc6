"""A sync worker that a test can interleave with the loop, the same way every time.

A real worker thread makes its file calls while the loop goes on writing. Here the thread stops
before each call until the loop has turned once more: what was one uninterrupted round of syncs
becomes as many steps as it has calls, with the loop's own writes between them, and no race.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from rendezvous_raft.testing.durable_lives import InlineExecutor
from rendezvous_raft.testing.memory_files import Crash, MemoryFiles


class LaggingExecutor(Executor):
    """Runs what it is given in one thread, one file call per turn of the loop.

    Exactly one of the loop and the thread runs at any time. Call `end` when the life is over: what
    was not done by then never is, as at the end of a process.
    """

    def __init__(self, files: MemoryFiles) -> None:
        self._queue: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._worker_may_run = threading.Semaphore(0)
        self._loop_may_run = threading.Semaphore(0)
        self._stepping = False
        self._over = False
        self._thread = threading.Thread(target=self._work, name="lagging-worker", daemon=True)
        self._thread.start()
        # First of all: others are told of a call when it really comes.
        files.before_call.insert(0, self._pause)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `Executor`. On the loop."""
        future: Future[Any] = Future()
        self._queue.append((future, lambda: fn(*args, **kwargs)))
        if not self._stepping:
            self._stepping = True
            asyncio.get_running_loop().call_soon(self._step)
        return future

    def end(self) -> None:
        """Ends the thread; what it was doing is never finished. Twice is fine."""
        if not self._over:
            self._over = True
            self._worker_may_run.release()
            self._thread.join()

    def _step(self) -> None:
        """Lets the thread go on to its next file call, and waits until it is there."""
        if self._over:
            return
        self._worker_may_run.release()
        self._loop_may_run.acquire()
        self._stepping = bool(self._queue)
        if self._stepping:
            asyncio.get_running_loop().call_soon(self._step)

    def _pause(self, _call: str) -> None:
        if threading.current_thread() is self._thread:
            self._loop_may_run.release()
            self._worker_may_run.acquire()
            if self._over:
                raise Crash("the life is over")

    def _work(self) -> None:
        while True:
            self._worker_may_run.acquire()
            if self._over:
                return
            future, call = self._queue[0]
            if future.set_running_or_notify_cancel():
                InlineExecutor.complete(future, call)
            if self._over:
                return
            self._queue.popleft()
            self._loop_may_run.release()
