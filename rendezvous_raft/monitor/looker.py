"""Asks the probe about the branches that are due, batch by batch (M3, M6, V15)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

import structlog

from rendezvous_raft.monitor.backoff import Backoff
from rendezvous_raft.monitor.ports import (
    EndpointLook,
    MonitorObserver,
    PendingBranch,
    Probe,
    ProbeError,
    ProbeMisconfigured,
    ProbeResult,
)
from rendezvous_raft.monitor.rate import TokenRate
from rendezvous_raft.monitor.schedule import LookOutcome, Schedule
from rendezvous_raft.monitor.wakeup import Wakeup, raise_if_cancelled
from rendezvous_raft.types import BranchId

LOOK_TIMEOUT_S = 5.0
"""A probe that takes longer has failed."""
ENDPOINT_FIRST_S = 0.100
ENDPOINT_MAX_S = 10.0
"""Bounds of the pause after an endpoint failed (V15)."""

_log = structlog.get_logger(__name__)


class LookTarget(Protocol):
    """Knows the pending branches and hears which became visible; never blocks."""

    def branch(self, branch_id: BranchId) -> PendingBranch | None:
        """The branch to ask the probe about; None when it is not pending."""
        ...

    def is_awaited(self, branch_id: BranchId) -> bool:
        """Whether it is pending and not yet known to be visible."""
        ...

    def found_visible(self, branch_id: BranchId) -> None:
        """A pending branch is visible."""
        ...


class Looker:
    """Runs the looks of one probe until it is cancelled. One batch at a time."""

    def __init__(
        self,
        *,
        probe: Probe,
        schedule: Schedule,
        target: LookTarget,
        rate: TokenRate,
        observer: MonitorObserver,
        random: Random,
        now: Callable[[], float],
    ) -> None:
        self._probe = probe
        self._schedule = schedule
        self._target = target
        self._rate = rate
        self._observer = observer
        self._now = now
        self._backoff = Backoff(random, first_s=ENDPOINT_FIRST_S, max_s=ENDPOINT_MAX_S)
        self._shut_until = 0.0
        self._wakeup = Wakeup()
        self.checked = False
        """Whether the datastore's settings were looked at and found good."""
        self.last_error: str | None = None
        """Why the last look failed; None when it succeeded or none was made."""
        self.answered_at: float | None = None
        """When all endpoints answered last, on the loop's clock."""

    def ring(self) -> None:
        """Tells that the schedule has changed."""
        self._wakeup.ring()

    async def run(self) -> None:
        """Checks the datastore, then looks for what is due; ends only by cancellation.

        Raises:
            ProbeMisconfigured: the datastore must not be probed as configured.
        """
        await self._check()
        while True:
            raise_if_cancelled()
            now = self._now()
            batch_max = min(self._probe.batch_max, self._rate.available(now))
            branch_ids = self._schedule.due(now, batch_max) if now >= self._shut_until else []
            if branch_ids:
                self._rate.take(now, len(branch_ids))
                await self._look(branch_ids)
            else:
                await self._wakeup.wait_until(self._next_look_at(now))

    def _next_look_at(self, now: float) -> float | None:
        due_at = self._schedule.next_wakeup()
        if due_at is None:
            return None
        return max(due_at, self._shut_until, self._rate.ready_at(now))

    async def _check(self) -> None:
        while not self.checked:
            raise_if_cancelled()
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    warnings = await self._probe.check()
            except ProbeMisconfigured:
                raise
            except (ProbeError, TimeoutError) as error:
                await self._pause_after(error)
            except Exception as error:  # noqa: BLE001 - a driver's fault is an outage (V15)
                _log.exception("check_failed", **self._names())
                await self._pause_after(error)
            else:
                self.checked = True
                self._succeeded()
                for warning in warnings:
                    _log.warning("datastore_warning", warning=warning, **self._names())

    async def _pause_after(self, error: Exception) -> None:
        self._failed(error)
        await asyncio.sleep(self._shut_until - self._now())

    async def _look(self, branch_ids: list[BranchId]) -> None:
        asked = [self._target.branch(branch_id) for branch_id in branch_ids]
        pending = [branch for branch in asked if branch is not None]
        begun_at = self._now()
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                result = await self._probe.find_many(pending)
        except (ProbeError, TimeoutError) as error:
            self._nothing_found_out(pending, error, seconds=self._now() - begun_at)
        except asyncio.CancelledError:
            self._schedule.put_back(branch_ids)
            raise
        except Exception as error:  # noqa: BLE001 - no fault of a driver drops a branch (V15)
            _log.exception("look_failed", **self._names())
            self._nothing_found_out(pending, error, seconds=self._now() - begun_at)
        else:
            self._take(pending, result, seconds=self._now() - begun_at)

    def _nothing_found_out(
        self, pending: Sequence[PendingBranch], error: Exception, *, seconds: float
    ) -> None:
        self._schedule.put_back([branch.branch_id for branch in pending])
        fault = error if isinstance(error, ProbeError) else ProbeError(repr(error))
        for endpoint in self._probe.endpoints:
            self._observer.looked(EndpointLook(endpoint, seconds, 0, 0, len(pending), fault))
        self._failed(error)

    def _take(
        self, pending: Sequence[PendingBranch], result: ProbeResult, *, seconds: float
    ) -> None:
        now = self._now()
        asked = {branch.branch_id for branch in pending}
        visible = result.visible - result.absent - result.failed.keys()
        looks = result.looks or self._summary(result, seconds=seconds)
        faults = [look.error for look in looks if look.error is not None]
        for branch in pending:
            branch_id = branch.branch_id
            if branch_id in visible:
                self._schedule.result(branch_id, LookOutcome.VISIBLE, now)
                self._target.found_visible(branch_id)
            elif branch_id in result.absent:
                self._schedule.result(branch_id, LookOutcome.ABSENT, now)
            elif faults:
                self._schedule.put_back([branch_id])
            else:
                self._schedule.result(branch_id, LookOutcome.FAILED, now)
        self._take_unasked(sorted(visible - asked))
        for look in looks:
            self._observer.looked(look)
        # One endpoint that is away keeps everything invisible (V2): the pause is for the whole.
        if faults:
            self._failed(faults[0])
        else:
            self._succeeded()

    def _take_unasked(self, branch_ids: Sequence[BranchId]) -> None:
        awaited = [branch_id for branch_id in branch_ids if self._target.is_awaited(branch_id)]
        if awaited:
            self._observer.superseded(len(awaited))
        for branch_id in awaited:
            self._schedule.result(branch_id, LookOutcome.VISIBLE, self._now())
            self._target.found_visible(branch_id)

    def _summary(self, result: ProbeResult, *, seconds: float) -> tuple[EndpointLook, ...]:
        return tuple(
            EndpointLook(
                endpoint, seconds, len(result.visible), len(result.absent), len(result.failed)
            )
            for endpoint in self._probe.endpoints
        )

    def _failed(self, error: Exception) -> None:
        pause_s = self._backoff.next_pause_s()
        self._shut_until = self._now() + pause_s
        if self.last_error is None:
            _log.warning("datastore_away", error=str(error) or repr(error), **self._names())
        self.last_error = str(error) or repr(error)

    def _succeeded(self) -> None:
        if self.last_error is not None:
            _log.info("datastore_back", **self._names())
        self._backoff.reset()
        self._shut_until = 0.0
        self.last_error = None
        self.answered_at = self._now()

    def _names(self) -> dict[str, str]:
        return {"datastore": self._probe.datastore, "endpoints": ",".join(self._probe.endpoints)}
