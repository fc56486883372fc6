"""Applying entries to the local replica: decode, apply, tell the listener, answer the proposers.

Shared by every engine, so that they cannot differ in what an entry means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rendezvous_raft import errors
from rendezvous_raft.core.machine import StateMachine
from rendezvous_raft.core.results import Applied
from rendezvous_raft.node.ports import AppliedListener, Clock
from rendezvous_raft.replication.batching import GroupCommit
from rendezvous_raft.replication.codec import decode_entry
from rendezvous_raft.types import Revision


class Replica:
    """The local state machine with those who wait for it to advance."""

    def __init__(self, *, origin: bytes, clock: Clock) -> None:
        self.machine = StateMachine()
        self._origin = origin
        self._clock = clock
        self._listener: AppliedListener = lambda _batch: None
        self._state_replaced: Callable[[], None] = lambda: None
        self._revision_waiters: list[tuple[Revision, asyncio.Future[None]]] = []

    def set_listener(self, listener: AppliedListener, state_replaced: Callable[[], None]) -> None:
        """See `Replicator.set_listener`."""
        self._listener = listener
        self._state_replaced = state_replaced

    def apply_entry(self, encoded: bytes, commits: GroupCommit | None) -> int:
        """Applies one committed entry; returns how many commands it carried.

        Raises:
            CodecError: the entry is of a version that is not known. The engine must halt.
        """
        entry = decode_entry(encoded)
        apply = self.machine.apply
        answers: list[Applied] = [apply(command) for command in entry.commands]
        self._listener(answers)
        if commits is not None and entry.origin == self._origin:
            commits.applied(entry.sequence, answers)
        self._wake_waiters()
        return len(answers)

    def replace(self, machine: StateMachine) -> None:
        """Takes the state of a snapshot."""
        self.machine = machine
        self._state_replaced()
        self._wake_waiters()

    async def wait_applied(self, revision: Revision, deadline_s: float) -> None:
        """See `Replicator.wait_applied`."""
        if self.machine.revision >= revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (revision, future)
        self._revision_waiters.append(waiter)
        try:
            async with asyncio.timeout(max(0.0, deadline_s - self._clock.monotonic_s())):
                await future
        except TimeoutError:
            raise errors.DeadlineExceeded(
                f"revision {revision} has not reached this node in time, "
                f"it has {self.machine.revision}",
                definite=True,
                revision=self.machine.revision,
            ) from None
        finally:
            if waiter in self._revision_waiters:
                self._revision_waiters.remove(waiter)

    def _wake_waiters(self) -> None:
        if not self._revision_waiters:
            return
        revision = self.machine.revision
        still = []
        for waiter in self._revision_waiters:
            if waiter[0] > revision:
                still.append(waiter)
            elif not waiter[1].done():
                waiter[1].set_result(None)
        self._revision_waiters = still
