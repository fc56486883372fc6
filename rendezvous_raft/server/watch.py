"""Looks at the loop and the engine a few times a second: lag, halts, changes of leader.

What it finds goes to metrics and, once per change, to the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from rendezvous_raft.node.ports import Clock
    from rendezvous_raft.node.status import ClusterStatus
    from rendezvous_raft.observability.metrics import ServerMetrics

TICK_S = 0.25


class NodeWatch:
    """A timer on the loop. `look` is one turn of it, and may be called by hand."""

    def __init__(
        self,
        *,
        clock: Clock,
        status: Callable[[], ClusterStatus],
        metrics: ServerMetrics,
        logger: FilteringBoundLogger,
        find_faults: Callable[[], list[str]] | None = None,
        disk_failed: Callable[[], None] = lambda: None,
        open_requests_expired: Callable[[], int] = lambda: 0,
    ) -> None:
        """Keeps what it looks at.

        Args:
            clock: the node's.
            status: the engine's view.
            metrics: gets the lag of the loop.
            logger: gets the changes.
            find_faults: checks the invariants of the state (`paranoid`); None does not.
            disk_failed: is called once when the process has to end because its disk failed.
            open_requests_expired: how many requests were dropped so far while they were open.
        """
        self._clock = clock
        self._status = status
        self._metrics = metrics
        self._logger = logger
        self._find_faults = find_faults
        self._disk_failed = disk_failed
        self._open_requests_expired = open_requests_expired
        self._expired_seen = 0
        self._timer: asyncio.TimerHandle | None = None
        self._looked_s = clock.monotonic_s()
        self._halted: str | None = None
        self._read_only: str | None = None
        self._not_member = False
        self._unneeded_elections = 0
        self._leadership: tuple[int, str | None] | None = None

    def start(self) -> None:
        """Begins to look, on the running loop."""
        self._looked_s = self._clock.monotonic_s()
        self._schedule()

    def stop(self) -> None:
        """Ends it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def loop_idle_s(self) -> float:
        """Seconds since the loop last ran what was due."""
        return self._clock.monotonic_s() - self._looked_s

    def look(self) -> None:
        """Logs what has changed since the last look."""
        status = self._status()
        if status.halted is not None and self._halted is None:
            self._logger.error("engine_halted", reason=status.halted, revision=status.revision)
            if status.disk_failed:
                self._disk_failed()
        if status.not_member and not self._not_member:
            self._logger.warning("not_a_member", next="rendezvous cluster add, or stop this node")
        if status.unneeded_elections > self._unneeded_elections:
            self._logger.warning(
                "unneeded_election",
                since_start=status.unneeded_elections,
                next="look for stalls of the leader's process or disk, or set longer timers",
            )
        if status.read_only is not None and self._read_only is None:
            self._logger.error("engine_read_only", reason=status.read_only)
        if status.read_only is None and self._read_only is not None:
            self._logger.info("engine_writable")
        if self._leadership not in (None, (status.term, status.leader)):
            self._logger.info(
                "leader_changed",
                leader=status.leader,
                role=status.role.value,
                term=status.term,
                revision=status.revision,
            )
        self._halted, self._read_only = status.halted, status.read_only
        self._not_member, self._unneeded_elections = status.not_member, status.unneeded_elections
        self._leadership = (status.term, status.leader)
        self._look_at_expiry()
        for fault in self._find_faults() if self._find_faults else ():
            self._logger.error("invariant_broken", fault=fault, revision=status.revision)

    def _look_at_expiry(self) -> None:
        """An open request that expires is a monitor that did not do its work (semantics L2)."""
        expired = self._open_requests_expired()
        if expired > self._expired_seen:
            self._logger.warning(
                "open_requests_expired",
                count=expired - self._expired_seen,
                next="look for a service and region without a monitor, or whose monitor fails",
            )
        self._expired_seen = expired

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = self._clock.monotonic_s() + TICK_S
        self._timer = loop.call_later(TICK_S, self._tick, due_s)

    def _tick(self, due_s: float) -> None:
        self._looked_s = self._clock.monotonic_s()
        self._metrics.loop_lagged(max(self._looked_s - due_s, 0.0))
        self._schedule()  # first: a look that raises must not end the watch
        self.look()
