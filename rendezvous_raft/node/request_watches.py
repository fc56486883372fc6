"""Who watches which request: told that something of it changed, not what (semantics Q1).

A watcher gets the whole state again, so changes in quick succession cost one message, a slow
reader needs no queue, and nothing can be missed between a list and what follows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rendezvous_raft import errors
from rendezvous_raft.limits import NodeLimits
from rendezvous_raft.node.observer import NodeObserver
from rendezvous_raft.types import RequestId


class RequestWatcher:
    """One watcher of one request."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._error: errors.RendezvousError | None = None

    def begin_look(self) -> None:
        """Before the state is looked at: what changes from now on is a change."""
        self._changed.clear()
        if self._error is not None:
            raise self._error

    async def wait_changed(self, timeout_s: float | None = None) -> bool:
        """Blocks until something changed since the last look; false if that took too long.

        Raises what `end` was given.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        if self._error is not None:
            raise self._error
        return True

    def tell(self) -> None:
        """Something changed."""
        self._changed.set()

    def end(self, error: errors.RendezvousError) -> None:
        """Ends the watch with an error."""
        self._error = error
        self._changed.set()


class RequestWatches:
    """The watchers of this node, by request."""

    def __init__(self, limits: NodeLimits, observer: NodeObserver) -> None:
        self._limits = limits
        self._observer = observer
        self._watchers: dict[RequestId, dict[RequestWatcher, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def watch(self, request_id: RequestId) -> Iterator[RequestWatcher]:
        """A watcher of a request, known or not, until the end of the block.

        Raises:
            LimitExceeded: too many watch requests here.
        """
        if self._count >= self._limits.request_watches_max:
            self._observer.limit_exceeded("request_watches_max")
            raise errors.LimitExceeded(
                f"{self._count} requests are watched on this node",
                details={"limit": "request_watches_max", "value": str(self._count)},
            )
        watcher = RequestWatcher()
        of_request = self._watchers.setdefault(request_id, {})
        of_request[watcher] = None
        self._count += 1
        try:
            yield watcher
        finally:
            self._count -= 1
            del of_request[watcher]
            if not of_request:
                del self._watchers[request_id]

    def changed(self, request_id: RequestId) -> None:
        """Something of a request changed."""
        for watcher in self._watchers.get(request_id, ()):
            watcher.tell()

    def changed_all(self) -> None:
        """Something changed that can concern every request."""
        for request_id in self._watchers:
            self.changed(request_id)

    def end_all(self, error: errors.RendezvousError) -> None:
        """Ends every watch, when the node shuts down."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end(error)
