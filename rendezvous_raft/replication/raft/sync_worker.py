"""The one thread in which a member waits for its disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from rendezvous_raft.replication.raft.files import StorageError, is_full

P = ParamSpec("P")
T = TypeVar("T")


class SyncWorker:
    """Runs calls one after the other, in the order in which they were asked for.

    Args:
        executor: for tests: where they run, instead of in a thread of its own.
    """

    def __init__(self, executor: Executor | None) -> None:
        self._owns_executor = executor is None
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="log-sync")
        self._on_failed: Callable[[BaseException], None] | None = None
        self.failed = False
        """Whether the disk failed: nothing that was not synced before may be relied on."""

    def start(self, on_failed: Callable[[BaseException], None]) -> None:
        """Names who is told of the first failure, on the loop, in a turn of its own."""
        self._on_failed = on_failed

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs something and waits for it. A broken disk ends everything, a full one does not."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, partial(call, *args, **kwargs))
        except OSError as error:
            if not isinstance(error, StorageError) and not is_full(error):
                self.fail(error)
            raise

    def submit(self, call: Callable[[], T], then: Callable[[asyncio.Future[T]], None]) -> None:
        """Runs something, and calls `then` on the loop when it is done."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, call)
        future.add_done_callback(then)

    def watch(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Begins something for which nobody waits; its failure ends everything."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._watched)
        return task

    def fail(self, error: BaseException) -> None:
        """Nothing is relied on from here on; the process has to end."""
        if not self.failed:
            self.failed = True
            if self._on_failed is not None:
                asyncio.get_running_loop().call_soon(self._on_failed, error)

    def close(self) -> None:
        """Ends the thread. Blocks until what was asked for is done."""
        if self._owns_executor:
            self._executor.shutdown()

    def _watched(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)
