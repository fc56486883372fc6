"""Who sleeps on which request, and who waits for a branch to be registered.

Looking and parking happen in one turn of the loop, and so do applying and waking; between them
there is no turn in which a change could be missed (semantics R5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from rendezvous_raft.core.commands import Scope
from rendezvous_raft.types import BranchId, Region, RequestId


@dataclass(slots=True, eq=False)
class Waiter:
    """A parked wait. `look` evaluates it again; true means that it needs to wait no more."""

    request_id: RequestId
    scope: Scope
    look: Callable[[], bool]
    woken: asyncio.Future[None]
    since_s: float
    """When it was parked first, in monotonic seconds."""
    required_branches: tuple[BranchId, ...] = ()
    """This and what follows is for people."""
    awaits_registration: bool = False
    leased: bool = False

    def looks_at(self, regions: Collection[Region]) -> bool:
        """Whether a change in one of these regions (`""`: everywhere) can matter to it."""
        return not self.scope.region or "" in regions or self.scope.region in regions


class Wakes:
    """Requests whose waiters have to look again, and where something changed.

    A look may cost as much as there is open, so there is one for all that one turn brought about.
    """

    def __init__(self) -> None:
        self.regions: dict[RequestId, dict[Region, None]] = {}
        """By request; `""`: everywhere."""

    def add(self, request_id: RequestId, region: Region = Region("")) -> None:
        """Something of the request changed in this region."""
        self.regions.setdefault(request_id, {})[region] = None


class WaitIndex:
    """Parked waits by request.

    Args:
        changed: is told of requests whose parked waits have become more or fewer.
    """

    def __init__(self, changed: Callable[[RequestId], None] = lambda _: None) -> None:
        self._changed = changed
        self._parked: dict[RequestId, dict[Waiter, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def park(self, waiter: Waiter) -> None:
        """Adds a waiter; the caller removes it again in `finally`."""
        self._parked.setdefault(waiter.request_id, {})[waiter] = None
        self._count += 1
        self._changed(waiter.request_id)

    def remove(self, waiter: Waiter) -> None:
        """Takes a waiter out, if it is there."""
        waiters = self._parked.get(waiter.request_id)
        if waiters is not None and waiters.pop(waiter, waiter) is None:
            self._count -= 1
            if not waiters:
                del self._parked[waiter.request_id]
            self._changed(waiter.request_id)

    def wake(self, wakes: Wakes) -> None:
        """Lets the waiters look again to whom one of these changes can matter."""
        for request_id, regions in wakes.regions.items():
            for waiter in list(self._parked.get(request_id, ())):
                if waiter.looks_at(regions) and not waiter.woken.done() and waiter.look():
                    waiter.woken.set_result(None)

    def wake_all(self) -> None:
        """Lets everybody look again, after the whole state was replaced."""
        wakes = Wakes()
        for request_id in self._parked:
            wakes.add(request_id)
        self.wake(wakes)

    def fail_all(self, error: Exception) -> None:
        """Ends every wait with an error."""
        for waiters in self._parked.values():
            for waiter in waiters:
                if not waiter.woken.done():
                    waiter.woken.set_exception(error)

    def of_request(self, request_id: RequestId) -> list[Waiter]:
        """The waiters of one request, for people."""
        return list(self._parked.get(request_id, ()))

    def request_ids(self, count_max: int) -> tuple[RequestId, ...]:
        """Requests with parked waits, at most so many."""
        ids: list[RequestId] = []
        for request_id in self._parked:
            if len(ids) >= count_max:
                break
            ids.append(request_id)
        return tuple(ids)


class RegistrationWatch:
    """Those who wait for branches that are not registered yet (`await_registration`)."""

    def __init__(self) -> None:
        self._watchers: dict[BranchId, dict[asyncio.Future[None], None]] = {}
        self._ended: Exception | None = None

    def registered(self, branch_id: BranchId) -> None:
        """A branch was registered here."""
        for future in self._watchers.pop(branch_id, ()):
            if not future.done():
                future.set_result(None)

    def state_replaced(self, branch_ids: Iterable[BranchId]) -> None:
        """The whole state was replaced; these branches are known now."""
        known = dict.fromkeys(branch_ids)
        for branch_id in [b for b in self._watchers if b in known]:
            self.registered(branch_id)

    def end(self, error: Exception) -> None:
        """Fails who waits now and whoever would wait later: the node shuts down."""
        self._ended = error
        self.fail_all(error)

    def fail_all(self, error: Exception) -> None:
        """Fails who waits now."""
        for futures in self._watchers.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    async def wait_registered(self, branch_id: BranchId, timeout_s: float) -> bool:
        """Blocks until the branch is registered here; false if that took too long.

        The caller looked at the state in this same turn and did not find it.
        """
        return await self.wait_any((branch_id,), timeout_s)

    async def wait_any(self, branch_ids: Collection[BranchId], timeout_s: float) -> bool:
        """Blocks until one of the branches is registered here; false if that took too long.

        The caller looked at the state in this same turn and found none of them.
        Raises what `end` was given.
        """
        if self._ended is not None:
            raise self._ended
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for branch_id in branch_ids:
            self._watchers.setdefault(branch_id, {})[future] = None
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await future
        except TimeoutError:
            return False
        finally:
            for branch_id in branch_ids:
                futures = self._watchers.get(branch_id)
                if futures is not None and futures.pop(future, future) is None and not futures:
                    del self._watchers[branch_id]
        return True
