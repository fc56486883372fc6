"""The turns of an engine: time passes, the leader commits, a slice is applied, peers are sent to.

A turn is scheduled once after whatever happened in this round of the loop (a message, a sync, a
proposal, a timer), so that work comes in batches and nothing polls (F16).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rendezvous_raft.node.ports import Clock
from rendezvous_raft.replication.codec import CodecError
from rendezvous_raft.replication.observer import EngineObserver
from rendezvous_raft.replication.raft.faults import any_fault_halts
from rendezvous_raft.replication.raft.guard import REGULAR
from rendezvous_raft.replication.raft.rules import Raft
from rendezvous_raft.replication.raft.storage import DurableLog

COMMIT_TOLD_S = 0.002
"""While entries follow each other, the commit index travels with the next one; if none leaves
within this time, it gets a message of its own."""
ROOM_LOOK_S = 1.0
"""Pause between looks whether a full disk has room again."""


class Turns:
    """Drives one member from the running loop.

    Args:
        raft: the member; its host is told what must stop the node.
        store: its log, which is looked after while the disk is full.
        apply: applies the payload of an entry; returns how many commands it had.
        applied: is told, after a slice, that more is applied.
        rest: is called at the end of each turn, for what is not urgent.
        slice_s: time after which applying lets others have a turn.
        clock: time as an input.
        observer: is told facts for metrics.
    """

    def __init__(
        self,
        *,
        raft: Raft,
        store: DurableLog,
        apply: Callable[[bytes], int],
        applied: Callable[[], None],
        rest: Callable[[], None],
        slice_s: float,
        clock: Clock,
        observer: EngineObserver,
    ) -> None:
        self.last_s = 0.0
        """When a turn was taken last, in monotonic seconds."""
        self._raft = raft
        self._store = store
        self._apply = apply
        self._applied = applied
        self._rest = rest
        self._slice_s = slice_s
        self._clock = clock
        self._observer = observer
        self._stopped = False
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0
        self._commit_timer: asyncio.TimerHandle | None = None
        self._room_due_s = 0.0

    def wake(self) -> None:
        """Schedules a turn at the end of this round of the loop."""
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.take)

    def stop(self) -> None:
        """No turn is taken any more."""
        self._stopped = True
        for timer in (self._timer, self._commit_timer):
            if timer is not None:
                timer.cancel()

    def take(self) -> None:
        """One turn. An exception in it stops the node (F8)."""
        self._scheduled = False
        if self._stopped:
            return
        self.last_s = self._clock.monotonic_s()
        raft = self._raft
        try:
            due_s = raft.tick()
            if raft.advance_commit():
                self._tell_commit_soon()
            if self._apply_slice():
                self.wake()
            if raft.is_leader:
                raft.replicate_all()
            self._look_for_room()
            if not self._stopped:
                self._rest()
        except Exception as error:  # noqa: BLE001 (whatever it is, going on would be a guess)
            raft.host.halt(f"{type(error).__name__}: {error}")
        if not self._stopped:
            self._schedule(due_s)

    def _schedule(self, due_s: float) -> None:
        """Lets time pass until a turn is due. A timer that rings earlier looks again then."""
        if self._timer is not None:
            if self._timer_due_s <= due_s:
                return
            self._timer.cancel()
        self._timer_due_s = due_s
        delay_s = max(0.001, due_s - self._clock.monotonic_s())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.take()

    def _look_for_room(self) -> None:
        """While the disk is full, tests now and then whether it still is."""
        if self._store.read_only is not None and self.last_s >= self._room_due_s:
            self._room_due_s = self.last_s + ROOM_LOOK_S
            self._store.try_recover()

    def _tell_commit_soon(self) -> None:
        """At once when nothing else is on its way, else with the next entry or after a moment."""
        if self._commit_timer is None:
            busy = self._raft.commit_index < self._raft.last_index()
            loop = asyncio.get_running_loop()
            delay_s = COMMIT_TOLD_S if busy else 0.0
            self._commit_timer = loop.call_later(delay_s, self._tell_commit)

    def _tell_commit(self) -> None:
        self._commit_timer = None
        if not self._stopped and self._raft.is_leader:
            with any_fault_halts(self._raft.host.halt):
                self._raft.tell_commit()

    def _apply_slice(self) -> bool:
        """Applies committed entries for a bounded time; whether some are left (limits)."""
        raft = self._raft
        if raft.last_applied >= raft.commit_index:
            return False
        started_s = self._clock.monotonic_s()
        until_s = started_s + self._slice_s
        commands = 0
        while raft.last_applied < raft.commit_index and self._clock.monotonic_s() < until_s:
            payload = raft.log[raft.last_applied + 1 - raft.log.base_index][0]
            if payload[:1] == REGULAR:
                try:
                    commands += self._apply(payload[1:])
                except CodecError as error:
                    raft.host.halt(str(error))
                    return False
            raft.last_applied += 1
        self._observer.applied(commands, self._clock.monotonic_s() - started_s)
        self._applied()
        return bool(raft.last_applied < raft.commit_index)
