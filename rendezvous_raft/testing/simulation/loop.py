"""The event loop of one simulated process: asyncio without sockets, threads or a clock of its own.

Each process has its own, so that it can be stopped (nothing happens, then all of it late), killed
(nothing of it ever happens again, not even a `finally`) and have a clock that drifts. What is ready
runs to its end within the appointment that made it ready; processes take turns between those.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import traceback
from asyncio import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from rendezvous_raft.testing.simulation.agenda import Agenda, Appointment

T = TypeVar("T")

READY_MAX = 20_000
"""Callbacks in one instant after which a process is taken to be spinning."""

CLOSE_TRIES_MAX = 100
"""How often a coroutine of a dead process is told to end."""


class Spinning(AssertionError):
    """A process goes on without end while no time passes."""


class Surroundings(Protocol):
    """What a process has around it: its disk, and its network."""

    def run_blocking(self, loop: ProcessLoop, call: Callable[[], T]) -> asyncio.Future[T]:
        """Runs a call in the process's one worker thread."""
        ...

    async def listen(self, factory: Callable[[], asyncio.Protocol], port: int) -> object:
        """Accepts connections."""
        ...

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Opens a connection. Raises `OSError`."""
        ...


class ProcessLoop(asyncio.AbstractEventLoop):
    """One life of one process.

    Args:
        agenda: the world's.
        surroundings: its disk and network.
        clock_begin_s: what its monotonic clock shows now.
        clock_rate: seconds of its clock per second of the world.
        faults: is told of exceptions that nobody caught.
        afterwards: is called after everything that the process did in one appointment.
    """

    def __init__(
        self,
        agenda: Agenda,
        surroundings: Surroundings,
        *,
        clock_begin_s: float,
        clock_rate: float,
        faults: Callable[[str], None],
        afterwards: Callable[[], None],
    ) -> None:
        self._agenda = agenda
        self._surroundings = surroundings
        self._began_s = agenda.now_s
        self._clock_begin_s = clock_begin_s
        self._rate = clock_rate
        self._faults = faults
        self._afterwards = afterwards
        self._ready: deque[Appointment] = deque()
        self._late: list[Appointment] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.alive = True
        self.stopped = False
        self.stops = 0
        """How often it was stopped."""

    # Time

    def time(self) -> float:
        """Seconds of this process's clock."""
        return self._clock_begin_s + (self._agenda.now_s - self._began_s) * self._rate

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Appointment:
        """See asyncio."""
        if context is not None:
            args, callback = (callback, *args), context.run
        appointment = Appointment(0.0, self, callback, args)
        self._ready.append(appointment)
        return appointment

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Appointment:
        """See asyncio."""
        appointment = Appointment(self.time() + delay, self, callback, args)
        self._agenda.add(self._agenda.now_s + max(0.0, delay) / self._rate, appointment)
        return appointment

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Appointment:
        """See asyncio."""
        return self.call_later(when - self.time(), callback, *args, context=context)

    # Futures and tasks

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: object = None
    ) -> asyncio.Task[T]:
        """See asyncio."""
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Runs a call in the worker thread of the process, whatever the executor is."""
        if not self.alive:
            return self.create_future()
        return self._surroundings.run_blocking(self, lambda: func(*args))

    # Networks

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> object:
        """See asyncio."""
        return await self._surroundings.listen(protocol_factory, port)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """See asyncio."""
        return await self._surroundings.connect(protocol_factory, host, port)

    # What asyncio asks of a loop beside that

    def get_debug(self) -> bool:
        """No."""
        return False

    def is_running(self) -> bool:
        """Yes, as long as the process lives."""
        return self.alive

    def is_closed(self) -> bool:
        """Never: what a dead process still had in mind is swallowed."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody caught is a fault of the process."""
        if self.alive:
            error = context.get("exception")
            shown = "" if error is None else "".join(traceback.format_exception(error))
            self._faults(f"{context.get('message')}: {shown}")

    # Life

    def perform(self, appointment: Appointment) -> None:
        """Lets one appointment happen, with everything that it makes ready."""
        if not self.alive:
            return
        if self.stopped:
            self._late.append(appointment)
            return
        _set_running_loop(self)
        try:
            appointment.callback(*appointment.args)
            ready = self._ready
            count = 0
            while ready:
                following = ready.popleft()
                if not following._cancelled:  # noqa: SLF001 (the hot loop of every simulation)
                    following.callback(*following.args)
                count += 1
                if count > READY_MAX:
                    raise Spinning(f"more than {READY_MAX} callbacks in one instant")
        except Exception as error:  # noqa: BLE001 (as asyncio does: told, and the loop goes on)
            self._faults("".join(traceback.format_exception(error)))
        finally:
            _set_running_loop(None)
        self._afterwards()

    def post(self, callback: Callable[..., object], *args: object) -> None:
        """Calls within the process, at this time of the world."""
        self._agenda.at(self._agenda.now_s, callback, *args, owner=self)

    def stop(self) -> None:
        """Nothing happens in this process until `resume`."""
        self.stopped = True
        self.stops += 1

    def resume(self, rng: random.Random) -> None:
        """Ends a stop: what came meanwhile happens now, in order, or with the timers first."""
        self.stopped = False
        late, self._late = self._late, []
        if rng.random() < 0.5:
            late.sort(key=lambda appointment: appointment.when() == 0.0)
        for appointment in late:
            self._agenda.add(self._agenda.now_s, appointment)

    def kill(self) -> None:
        """Nothing of this process ever happens again."""
        self.alive = False
        self._ready.clear()
        self._late.clear()

    def bury(self) -> None:
        """Frees what a dead process held, without letting any of it act.

        Coroutines that are let go run their `finally`; here it meets a loop that swallows all.
        """
        self.kill()
        _set_running_loop(self)
        try:
            for task in list(self._tasks):
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
                _close(task.get_coro())
            self._tasks.clear()
            self._ready.clear()
        finally:
            _set_running_loop(None)


def _close(coroutine: Any) -> None:
    """Ends a coroutine, also one that goes on waiting while it is being ended."""
    for _ in range(CLOSE_TRIES_MAX):
        try:
            coroutine.close()
            return
        except Exception:  # noqa: BLE001, S112 tidy: allow swallowing: what the dead say is void
            continue
