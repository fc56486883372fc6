"""Sends closes in batches, at least once, until each has an answer that settles it (M8, M9, V16).

Theory of operation. A close is *ready* (in a queue), *later* (failed on its own, waits for its next
turn) or *in flight*. A call that fails as a whole puts its closes back at the head of the queue, so
that the next call carries the same ones, and shuts a gate for a while: a service that is away gets
a few calls a second, whatever the number of branches. A call that is refused because of its content
is halved until the one close at fault is alone.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import structlog

from rendezvous_raft.errors import (
    InternalError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    RendezvousError,
    RequestExpired,
    Unauthenticated,
)
from rendezvous_raft.monitor.backoff import Backoff
from rendezvous_raft.monitor.ports import BranchClose, CloseAnswer, Metadata, MonitorObserver
from rendezvous_raft.monitor.wakeup import Wakeup
from rendezvous_raft.types import ALL_REGIONS, BranchId, Region

BATCH_MAX = 256
LINGER_S = 0.005
"""A close waits so long for others while a batch is in flight."""
BATCHES_IN_FLIGHT_MAX = 16
"""A batch is in flight for a round trip to a majority; with a batch every `LINGER_S`, these cover
80 ms between regions before closes have to wait for an answer."""
CALL_TIMEOUT_S = 5.0
RETRY_FIRST_S = 0.050
RETRY_MAX_S = 2.0
DENIED_PAUSE_S = 30.0
"""Slowest interval: the service refuses the monitor's identity, and people have to act (V16)."""

_log = structlog.get_logger(__name__)


class CloseVerdict(enum.Enum):
    """What the answer to a close means (V16); the values are those of the metric's label."""

    CLOSED = "closed"
    ALREADY = "already"
    NOT_FOUND = "not_found"
    EXPIRED = "expired"
    INVALID = "invalid"
    """The branch does not have this region: a configuration fault; done."""
    RETRY = "retry"
    DENIED = "denied"

    @property
    def settles(self) -> bool:
        """Whether the branch need not be closed any more."""
        return self not in {CloseVerdict.RETRY, CloseVerdict.DENIED}


def verdict_of(failure: RendezvousError) -> CloseVerdict:
    """The row of V16 that a failure belongs to; an unforeseen one is retried."""
    match failure:
        case NotFound():
            return CloseVerdict.NOT_FOUND
        case RequestExpired():
            return CloseVerdict.EXPIRED
        case InvalidArgument():
            return CloseVerdict.INVALID
        case Unauthenticated() | PermissionDenied():
            return CloseVerdict.DENIED
        case _:
            return CloseVerdict.RETRY


@dataclass(slots=True)
class _Closing:
    close: BranchClose
    ready_at: float
    backoff: Backoff | None = None


class Closer:
    """Closes branches of one region. `close_soon` takes them, `run` sends them."""

    def __init__(
        self,
        *,
        metadata: Metadata,
        region: Region,
        on_settled: Callable[[BranchId, CloseVerdict], None],
        observer: MonitorObserver,
        random: Random,
        now: Callable[[], float],
    ) -> None:
        self._metadata = metadata
        self._region = region
        self._on_settled = on_settled
        self._observer = observer
        self._random = random
        self._now = now
        self._outstanding: set[BranchId] = set()
        self._ready: deque[_Closing] = deque()
        self._halves: deque[list[_Closing]] = deque()
        self._later: list[tuple[float, int, _Closing]] = []
        self._later_ticket = 0
        self._in_flight = 0
        self._gate_at = 0.0
        self._gate = Backoff(random, first_s=RETRY_FIRST_S, max_s=RETRY_MAX_S, jitter=0.5)
        self._wakeup = Wakeup()
        self._settled = asyncio.Event()
        self.denied = False
        """Whether the service refuses the monitor's identity: an alarm for people."""

    def __len__(self) -> int:
        """Closes without an answer that settles them."""
        return len(self._outstanding)

    def close_soon(self, branch_id: BranchId, *, is_global: bool) -> None:
        """Takes a visible branch; never blocks. One that is on its way already is ignored."""
        if branch_id in self._outstanding:
            return
        self._outstanding.add(branch_id)
        close = BranchClose(branch_id, ALL_REGIONS if is_global else self._region)
        self._ready.append(_Closing(close, self._now()))
        self._wakeup.ring()

    async def run(self) -> None:
        """Sends what is there, blocks while nothing is; ends only by cancellation."""
        async with asyncio.TaskGroup() as calls:
            while True:
                batch, wake_at = self._next_batch(self._now())
                if batch is None:
                    await self._wakeup.wait_until(wake_at)
                    continue
                self._in_flight += 1
                self._observer.batch_sent(len(batch))
                calls.create_task(self._send(batch))

    async def flush(self, *, timeout_s: float) -> bool:
        """Waits until every close is settled; False when `timeout_s` passed before."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._outstanding:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            return False
        return True

    def _next_batch(self, now: float) -> tuple[list[_Closing] | None, float | None]:
        """A batch to send now, or when to look again (None: when the bell rings)."""
        self._take_later(now)
        if self._in_flight >= BATCHES_IN_FLIGHT_MAX:
            return None, None
        later_at = self._later[0][0] if self._later else None
        if not self._halves and not self._ready:
            return None, later_at
        if now < self._gate_at:
            return None, self._gate_at
        if self._halves:
            return self._halves.popleft(), None
        linger_until = self._ready[0].ready_at + LINGER_S
        if self._in_flight and len(self._ready) < BATCH_MAX and now < linger_until:
            return None, min(linger_until, later_at or linger_until)
        size = min(BATCH_MAX, len(self._ready))
        return [self._ready.popleft() for _ in range(size)], None

    def _take_later(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, _, closing = heapq.heappop(self._later)
            closing.ready_at = now
            self._ready.append(closing)

    async def _send(self, batch: list[_Closing]) -> None:
        closes = [closing.close for closing in batch]
        try:
            answers = await self._metadata.close_branches(closes, timeout_s=CALL_TIMEOUT_S)
            if len(answers) != len(batch):
                raise InternalError(f"{len(answers)} answers to {len(batch)} closes")
        except RendezvousError as error:
            self._call_failed(batch, error)
        except Exception as error:  # noqa: BLE001 - whatever it was, the closes are kept (V16)
            _log.exception("close_call_failed", region=self._region, batch=len(batch))
            self._call_failed(batch, OutcomeUnknown(str(error)))
        else:
            self._call_answered(batch, answers)
        finally:
            self._in_flight -= 1
            self._wakeup.ring()

    def _call_answered(self, batch: list[_Closing], answers: Sequence[CloseAnswer]) -> None:
        self._gate.reset()
        self._gate_at = 0.0
        self.denied = False
        for closing, answer in zip(batch, answers, strict=True):
            if answer.failure is not None:
                self._item_failed(closing, answer.failure)
            elif answer.already_closed and not answer.closed:
                self._settle(closing, CloseVerdict.ALREADY)
            else:
                self._settle(closing, CloseVerdict.CLOSED)

    def _call_failed(self, batch: list[_Closing], error: RendezvousError) -> None:
        verdict = verdict_of(error)
        content_at_fault = verdict.settles or isinstance(error, LimitExceeded)
        if content_at_fault and len(batch) > 1:
            middle = len(batch) // 2
            self._halves.extend((batch[:middle], batch[middle:]))
            return
        if verdict.settles or isinstance(error, LimitExceeded):
            self._item_failed(batch[0], error)
            return
        for _ in batch:
            self._observer.close_answered(verdict.value)
        self._ready.extendleft(reversed(batch))
        pause_s = self._gate.next_pause_s()
        if verdict is CloseVerdict.DENIED:
            self._alarm(error)
            pause_s = DENIED_PAUSE_S
        else:
            _log.warning("close_call_retried", code=error.code, error=str(error), batch=len(batch))
        self._gate_at = max(self._gate_at, self._now() + pause_s)

    def _item_failed(self, closing: _Closing, failure: RendezvousError) -> None:
        verdict = verdict_of(failure)
        if verdict is CloseVerdict.INVALID:
            _log.error("close_refused", branch_id=closing.close.branch_id, error=str(failure))
        if verdict.settles:
            self._settle(closing, verdict)
            return
        self._observer.close_answered(verdict.value)
        if closing.backoff is None:
            closing.backoff = Backoff(self._random, first_s=RETRY_FIRST_S, max_s=RETRY_MAX_S)
        pause_s = closing.backoff.next_pause_s()
        if verdict is CloseVerdict.DENIED:
            self._alarm(failure)
            pause_s = DENIED_PAUSE_S
        self._later_ticket += 1
        heapq.heappush(self._later, (self._now() + pause_s, self._later_ticket, closing))

    def _settle(self, closing: _Closing, verdict: CloseVerdict) -> None:
        self._observer.close_answered(verdict.value)
        self._outstanding.discard(closing.close.branch_id)
        self._settled.set()
        self._on_settled(closing.close.branch_id, verdict)

    def _alarm(self, failure: RendezvousError) -> None:
        if not self.denied:
            _log.error("monitor_denied", code=failure.code, error=str(failure), region=self._region)
        self.denied = True
