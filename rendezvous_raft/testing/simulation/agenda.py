"""What is still to happen in a simulated world, in the order of its time.

The one clock of a world. An appointment belongs to a process, which may meanwhile be stopped or
dead, or to the world itself (networks, disks, faults, clients).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Protocol


class Owner(Protocol):
    """Whose appointments they are."""

    def perform(self, appointment: Appointment) -> None:
        """Its time has come."""
        ...


class Appointment:
    """A call at a time. Has the interface of `asyncio.TimerHandle`."""

    __slots__ = ("_cancelled", "_when_s", "args", "callback", "owner")

    def __init__(
        self,
        when_s: float,
        owner: Owner | None,
        callback: Callable[..., object],
        args: tuple[Any, ...],
    ) -> None:
        self._when_s = when_s
        self._cancelled = False
        self.owner = owner
        self.callback = callback
        self.args = args

    def cancel(self) -> None:
        """It will not take place."""
        self._cancelled = True

    def cancelled(self) -> bool:
        """Whether it will not take place."""
        return self._cancelled

    def when(self) -> float:
        """Its time, in seconds of the clock of its process; 0 if it is no timer of a process."""
        return self._when_s


class Agenda:
    """Appointments by time; among those of one time, in the order in which they were made."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.performed = 0
        self._heap: list[tuple[float, int, Appointment]] = []
        self._made = 0

    def add(self, when_s: float, appointment: Appointment) -> None:
        """Puts an appointment at a time of the world."""
        self._made += 1
        heapq.heappush(self._heap, (when_s, self._made, appointment))

    def at(
        self,
        when_s: float,
        callback: Callable[..., object],
        *args: object,
        owner: Owner | None = None,
    ) -> Appointment:
        """Calls at a time of the world; on behalf of the owner, if there is one."""
        appointment = Appointment(0.0, owner, callback, args)
        self.add(when_s, appointment)
        return appointment

    def after(self, delay_s: float, callback: Callable[..., object], *args: object) -> Appointment:
        """Calls after a while, on behalf of the world."""
        return self.at(self.now_s + delay_s, callback, *args)

    def run_until(self, end_s: float, stop: Callable[[], bool] | None = None) -> None:
        """Lets everything happen that is due up to `end_s`, or until `stop` says so."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end_s:
            when_s, _, appointment = pop(heap)
            if appointment._cancelled:  # noqa: SLF001 (the hot loop of every simulation)
                continue
            self.now_s = when_s
            self.performed += 1
            owner = appointment.owner
            if owner is None:
                appointment.callback(*appointment.args)
            else:
                owner.perform(appointment)
            if stop is not None and stop():
                return
        self.now_s = max(self.now_s, end_s)
