"""Linearizable reads: all readers of a turn share one read index (F10; thesis 6.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rendezvous_raft import errors
from rendezvous_raft.node.ports import Clock
from rendezvous_raft.replication.observer import EngineObserver

RETRY_S = 0.5
"""After this a read index that nobody answered is asked for again; an answer to the first counts
as well, for it is as new as the call."""

LIFE_BYTES_MAX = 6
"""Of the name of a life, in a read id; far below the highest integer of a message."""


class ReadBarriers:
    """Readers that wait for a confirmed commit index, and then for its application.

    Args:
        ask: asks for a read index under an id; false if nobody can be asked.
        applied_index: up to where entries are applied here.
        clock: time as an input.
        observer: is told how long readers waited.
        life: random name of this life of the node, which says where ids begin: an answer to what
            an earlier life asked, whose index is older, must answer nobody.
    """

    def __init__(
        self,
        *,
        ask: Callable[[int], bool],
        applied_index: Callable[[], int],
        clock: Clock,
        observer: EngineObserver,
        life: bytes = b"",
    ) -> None:
        self._ask = ask
        self._applied_index = applied_index
        self._clock = clock
        self._observer = observer
        self._next_id = int.from_bytes(life[:LIFE_BYTES_MAX])
        self._asked: dict[int, list[asyncio.Future[None]]] = {}
        self._gathering: list[asyncio.Future[None]] = []
        self._confirmed: list[tuple[int, asyncio.Future[None]]] = []

    async def wait(self, deadline_s: float, leader: Callable[[], str | None]) -> None:
        """Blocks until everything acknowledged before the call is applied here.

        Raises:
            NoLeader: nobody leads, or the leader cannot be reached or confirmed.
            DeadlineExceeded: the index is known but is not applied here in time.
        """
        started_s = self._clock.monotonic_s()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            while not future.done():
                left_s = deadline_s - self._clock.monotonic_s()
                confirmed = self._is_confirmed(future)
                if left_s <= 0:
                    raise _too_late(leader(), confirmed=confirmed)
                if not confirmed:
                    self._gather(future)
                    left_s = min(left_s, RETRY_S)
                await asyncio.wait((future,), timeout=left_s)
            self._observer.read_barrier_done(self._clock.monotonic_s() - started_s)
        finally:
            future.cancel()

    def _is_confirmed(self, future: asyncio.Future[None]) -> bool:
        return any(waiting is future for _, waiting in self._confirmed)

    def _gather(self, future: asyncio.Future[None]) -> None:
        """Joins the readers of this turn."""
        if not self._gathering:
            asyncio.get_running_loop().call_soon(self._send)
        self._gathering.append(future)

    def _send(self) -> None:
        """Asks once for all readers of this turn; unanswered ones ask again by themselves."""
        gathering, self._gathering = self._gathering, []
        self._next_id += 1
        # What an unreachable leader left behind has been asked for again since.
        self._asked = {
            read_id: futures
            for read_id, futures in self._asked.items()
            if any(not future.done() for future in futures)
        }
        self._asked[self._next_id] = gathering
        if not self._ask(self._next_id):
            del self._asked[self._next_id]

    def confirmed(self, read_id: int, index: int) -> None:
        """The index up to which the readers' state must be applied."""
        for future in self._asked.pop(read_id, ()):
            if not future.done():
                self._confirmed.append((index, future))
        self.applied()

    def refused(self, read_id: int) -> None:
        """The node that was asked does not lead; the readers ask again after a moment."""
        self._asked.pop(read_id, None)

    def applied(self) -> None:
        """More entries are applied: releases the readers whose index is reached."""
        if not self._confirmed:
            return
        applied_index = self._applied_index()
        still = []
        for index, future in self._confirmed:
            if future.done():
                continue  # by a second confirmation, or its reader has gone
            if index <= applied_index:
                future.set_result(None)
            else:
                still.append((index, future))
        self._confirmed = still


def _too_late(leader: str | None, *, confirmed: bool) -> errors.RendezvousError:
    if leader is None or not confirmed:
        return errors.NoLeader(
            "no leader confirmed in time that this node is current", leader=leader
        )
    return errors.DeadlineExceeded(
        "this node has not caught up with the leader in time", definite=True, leader=leader
    )
